//! The picture in a terminal.

use anstyle::{AnsiColor, Style};

use super::{Kind, Row, Timeline, time_ticks, worded};

/// Names what stands behind the bars: the time that a row took.
const TOOK: usize = 9;

/// Lines of at most `width` columns, in colours.
pub fn terminal(timeline: &Timeline, width: usize) -> String {
    let label = timeline.rows.iter().map(|r| label(r).chars().count()).max().unwrap_or(0).min(width / 3);
    let axis = width.saturating_sub(label + 2 + TOOK).max(10);
    let column = |at: f64| ((at / timeline.seconds * axis as f64) as usize).min(axis);
    let mut out = String::new();
    for row in &timeline.rows {
        let style = style(row.kind);
        let mut cells = vec![(' ', Style::new()); axis];
        for bar in &row.bars {
            let from = column(bar.from).min(axis - 1);
            let to = bar.to.map_or(axis, column).max(from + 1);
            let style = if bar.failed { AnsiColor::Red.on_default() } else { style };
            cells[from..to].fill((fill(row.kind), style));
            if bar.failed {
                cells[to - 1] = ('✗', style.bold());
            } else if bar.to.is_none_or(|to| to > timeline.seconds) {
                cells[axis - 1] = ('▶', style);
            }
        }
        let name: String = self::label(row).chars().take(label).collect();
        let name = if row.part.is_empty() {
            format!("{0}{name:label$}{0:#}", Style::new().bold())
        } else {
            format!("{name:label$}")
        };
        out += &format!("{name}  {}{}\n", paint_cells(&cells), duration_text(row));
    }
    let mut marks = vec!['─'; axis];
    let mut numbers = vec![' '; axis + TOOK];
    let mut free = 0;
    for tick in time_ticks(timeline.seconds, axis / 12) {
        let at = column(tick).min(axis - 1);
        marks[at] = '┴';
        let text = worded(tick);
        if at >= free && at + text.len() <= numbers.len() {
            text.chars().enumerate().for_each(|(n, c)| numbers[at + n] = c);
            free = at + text.len() + 1;
        }
    }
    let dim = Style::new().dimmed();
    let line = |cells: Vec<char>| cells.into_iter().collect::<String>().trim_end().to_owned();
    out + &format!(
        "{0:label$}  {dim}{1}{dim:#}\n{0:label$}  {dim}{2}{dim:#}\n",
        "",
        line(marks),
        line(numbers)
    )
}

fn label(row: &Row) -> String {
    match (row.part, row.kind) {
        ("", Kind::Init) => format!("{} (init)", row.container),
        ("", Kind::Sidecar) => format!("{} (sidecar)", row.container),
        ("", Kind::Ephemeral) => format!("{} (ephemeral)", row.container),
        ("", _) => row.container.clone(),
        (part, _) => format!("└ {part}"),
    }
}

/// Tells how long all bars took together; nothing while one goes on.
fn duration_text(row: &Row) -> String {
    let ended: Option<f64> = row.bars.iter().map(|b| Some(b.to? - b.from)).sum();
    match ended {
        Some(total) if !row.bars.is_empty() => format!(" {}", worded(total)),
        _ => String::new(),
    }
}

/// Runs of one style together, without trailing space.
fn paint_cells(cells: &[(char, Style)]) -> String {
    cells
        .chunk_by(|a, b| a.1 == b.1)
        .map(|chunk| {
            let style = chunk[0].1;
            let text: String = chunk.iter().map(|(c, _)| *c).collect();
            format!("{style}{text}{style:#}")
        })
        .collect()
}

fn style(kind: Kind) -> Style {
    let colour = match kind {
        Kind::Init => AnsiColor::Cyan,
        Kind::Sidecar => AnsiColor::Magenta,
        Kind::App => AnsiColor::Green,
        Kind::Ephemeral => AnsiColor::White,
        Kind::Pull => AnsiColor::Blue,
        Kind::Hook | Kind::Probe => AnsiColor::Yellow,
    };
    colour.on_default()
}

/// Rows can be told apart without colours as well.
fn fill(kind: Kind) -> char {
    match kind {
        Kind::Init | Kind::Sidecar | Kind::App | Kind::Ephemeral => '█',
        Kind::Pull => '▒',
        Kind::Hook => '▄',
        Kind::Probe => '░',
    }
}
