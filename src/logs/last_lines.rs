//! Reading logs from their end: asked for are most often the last lines of many.

use std::{fs::File, io, os::unix::fs::FileExt};

use podctl_runtime::repeat_interrupted;

use super::reader::{Entry, parse};

/// The number of bytes that are read at once.
const PIECE: u64 = 64 << 10;

/// Returns the last entries of files that are ordered oldest first, each up to so many bytes: at least those of so many last
/// lines, in the order in which they were written.
///
/// # Errors
/// Those of read(2).
pub(super) fn read_last_entries(
    container: &str,
    files: &[(&File, u64)],
    lines: usize,
    wanted: &dyn Fn(&Entry) -> bool,
) -> io::Result<Vec<Entry>> {
    let (mut newest_first, mut ended) = (Vec::new(), 0);
    'files: for (file, length) in files.iter().rev() {
        let (mut end, mut rest) = (*length, Vec::new());
        while end > 0 {
            let start = end.saturating_sub(PIECE);
            let mut text = read_piece(file, start, end)?;
            text.append(&mut rest);
            // What is before it is the end of a line that begins farther in front.
            let first = match start {
                0 => 0,
                _ => text.iter().position(|b| *b == b'\n').map_or(text.len(), |at| at + 1),
            };
            for line in text[first..].rsplit(|b| *b == b'\n') {
                let Some(entry) = parse(container, line).filter(wanted) else { continue };
                // The last entry of the line before: those of this many lines are there.
                ended += usize::from(!entry.partial);
                if ended > lines {
                    break 'files;
                }
                newest_first.push(entry);
            }
            text.truncate(first);
            (rest, end) = (text, start);
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}

/// The place behind the last whole line of a file's first `length` bytes.
///
/// # Errors
/// Those of read(2).
pub(super) fn find_end_of_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        if let Some(at) = read_piece(file, start, end)?.iter().rposition(|b| *b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Less than asked for, should the file have become shorter.
fn read_piece(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut text = vec![0; usize::try_from(end - start).unwrap_or_default()];
    let mut filled = 0;
    while filled < text.len() {
        match repeat_interrupted(|| file.read_at(&mut text[filled..], start + filled as u64))? {
            0 => break,
            count => filled += count,
        }
    }
    text.truncate(filled);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> (File, u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        (file, text.len() as u64)
    }

    fn last(texts: &[String], lines: usize) -> Vec<String> {
        let files: Vec<_> = texts.iter().map(|text| file(text)).collect();
        let files: Vec<_> = files.iter().map(|(file, length)| (file, *length)).collect();
        let entries = read_last_entries("c", &files, lines, &|entry| !entry.stderr).unwrap();
        entries.into_iter().map(|entry| String::from_utf8(entry.text).unwrap()).collect()
    }

    #[test]
    fn the_last_lines_are_found_across_pieces_and_files() {
        let line = |number: usize| format!("T stdout F {number:0100}\n");
        let old: String = (0..3000).map(line).collect();
        let new: String = (3000..6000).map(line).collect();
        let found = last(&[old.clone(), new.clone()], 4000);
        assert_eq!(found.len(), 4000);
        assert!(found.iter().zip(2000..).all(|(text, number)| *text == format!("{number:0100}")));
        assert_eq!(last(&[old, new], 9999).len(), 6000);
    }

    #[test]
    fn parts_of_a_line_come_with_it_and_other_streams_do_not_count() {
        let text = "T stdout F a\nT stdout P b\nT stdout F c\nT stderr F x\nT stdout P d\n".to_owned();
        assert_eq!(last(std::slice::from_ref(&text), 1), ["b", "c", "d"]);
        assert_eq!(last(&[text], 0), ["d"]);
        let long = format!("T stdout F first\nT stdout F {}\n", "y".repeat(200_000));
        assert_eq!(last(&[long], 1)[0].len(), 200_000);
    }

    #[test]
    fn a_line_that_is_being_written_is_not_whole() {
        let (file, length) = file("T stdout F a\nT stdout F b");
        assert_eq!(find_end_of_lines(&file, length).unwrap(), 13);
        assert_eq!(find_end_of_lines(&file, 5).unwrap(), 0);
    }
}
