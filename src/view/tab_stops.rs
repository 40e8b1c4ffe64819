//! Tab stops that give way: how kubectl aligns its tables (Go's text/tabwriter).

/// Aligns cells that end in a tab. A column is a run of adjacent lines that have such a cell at its
/// place; it is `padding` wider than its widest cell, and at least `least` wide.
///
/// What a container wrote must not command the terminal: control characters become `^[` and their kin.
pub fn align_columns(text: &str, least: usize, padding: usize) -> String {
    let text = caret_notation(text);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    // The last piece of a line ends in no tab and so stands in no column.
    let cells = |line: usize| lines[line].len() - 1;
    let wide = |cell: &str| cell.chars().count();
    let mut out = String::new();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|l| vec![0; l.len() - 1]).collect();
    for at in 0..lines.len() {
        for column in 0..cells(at) {
            if widths[at][column] != 0 {
                continue;
            }
            let end = (at..lines.len()).find(|l| cells(*l) <= column).unwrap_or(lines.len());
            let widest = (at..end).map(|l| wide(lines[l][column])).max().unwrap_or(0);
            (at..end).for_each(|l| widths[l][column] = (widest + padding).max(least));
        }
    }
    for (line, widths) in lines.iter().zip(&widths) {
        for (cell, width) in line.iter().zip(widths) {
            out += cell;
            out.extend(std::iter::repeat_n(' ', width - wide(cell)));
        }
        out += line.last().copied().unwrap_or_default();
        out.push('\n');
    }
    out
}

fn caret_notation(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' | '\n' => [Some(c), None],
        '\0'..' ' => [Some('^'), char::from_u32(u32::from(c) + 0x40)],
        // DEL and the second set of control characters have no such name.
        c if c.is_control() => [Some('?'), None],
        c => [Some(c), None],
    };
    text.chars().flat_map(shown).flatten().collect()
}

/// Rows as `kubectl get` aligns them.
pub fn table(rows: &[Vec<String>]) -> String {
    let text: String = rows.iter().map(|row| row.join("\t") + "\n").collect();
    align_columns(&text, 6, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_ends_where_a_line_has_no_cell_for_it() {
        let text = "Name:\tp\nNamespace:\tdefault\nContainers:\n  app:\n    Image:\tx\n    Port:\ty\n";
        let expected =
            "Name:       p\nNamespace:  default\nContainers:\n  app:\n    Image:  x\n    Port:   y\n";
        assert_eq!(align_columns(text, 0, 2), expected);
    }

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(align_columns("a\x1b[31m\x07\u{9b}b\n", 0, 2), "a^[[31m^G?b\n");
    }

    #[test]
    fn a_table_is_three_spaces_apart_and_no_column_narrower_than_six() {
        let rows = [vec!["A".to_owned(), "B".into()], vec!["one".into(), "2".into()]];
        assert_eq!(table(&rows), "A     B\none   2\n");
    }
}
