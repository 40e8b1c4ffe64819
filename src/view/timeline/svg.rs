//! The picture as an SVG that needs nothing beside itself.

use std::fmt::Write;

use super::{Bar, Kind, Row, Timeline, time_ticks, worded};

const WIDTH: f64 = 960.0;
const LABELS: f64 = 190.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 64.0;
/// Height of a container's row, and of a part of it.
const TALL: f64 = 30.0;
const SMALL: f64 = 20.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.part{font-size:11px;fill:#57606a}\
.tick{font-size:11px;fill:#8c959f}.title{font-size:16px;font-weight:600}.name{font-weight:600}\
.note{font-size:11px;fill:#57606a}";

/// Colours what ended badly.
const FAILED: &str = "#cf222e";

/// The whole document.
pub fn draw_svg(timeline: &Timeline) -> String {
    let heights: f64 = timeline.rows.iter().map(row_height).sum();
    let total = TOP + heights + 56.0;
    let x = |at: f64| LABELS + at / timeline.seconds * (WIDTH - LABELS - RIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" width=\"{WIDTH}\" height=\"{total}\">\n\
         <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text class=\"title\" x=\"16\" y=\"28\">{}</text>\n<text class=\"part\" x=\"16\" y=\"46\">since {}</text>\n",
        escape_text(&timeline.pod),
        escape_text(&timeline.began)
    );
    // A String takes everything that is written to it.
    for tick in time_ticks(timeline.seconds, 8) {
        let (at, bottom) = (x(tick), TOP + heights);
        // A String takes everything.
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#eaeef2\"/>\
             <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            worded(tick)
        );
    }
    let mut y = TOP;
    for row in &timeline.rows {
        draw_row(&mut out, row, y, timeline.seconds, x);
        y += row_height(row);
    }
    draw_legend(&mut out, total - 14.0);
    out + "</svg>\n"
}

fn row_height(row: &Row) -> f64 {
    if row.part.is_empty() { TALL } else { SMALL }
}

fn draw_row(out: &mut String, row: &Row, y: f64, seconds: f64, x: impl Fn(f64) -> f64) {
    let tall = row_height(row);
    let (class, indent, text) = match row.part {
        "" => ("name", 16.0, row.container.as_str()),
        part => ("part", 32.0, part),
    };
    let middle = y + tall / 2.0 + 4.0;
    // A String takes everything.
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{indent}\" y=\"{middle:.1}\">{}</text>",
        escape_text(&cut(text))
    );
    let thick = if row.part.is_empty() { 16.0 } else { 8.0 };
    for (at, bar) in row.bars.iter().enumerate() {
        let Bar { from, to, failed, note } = bar;
        let (left, right) = (x(*from), x(to.unwrap_or(seconds).min(seconds)));
        let class = if *failed { "bar failed" } else { "bar" };
        // A String takes everything.
        let _ = write!(
            out,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{thick}\" rx=\"3\" fill=\"{}\"><title>{}</title></rect>",
            y + (tall - thick) / 2.0,
            (right - left).max(2.0),
            if *failed { FAILED } else { kind_colour(row.kind) },
            escape_text(&format!("{} {} {note}", row.container, row.part))
        );
        let next = row.bars.get(at + 1).map_or(WIDTH, |n| x(n.from));
        let took = to.map(|to| {
            format!("{}{}", worded(to - from), if *failed { format!(" · {note}") } else { String::new() })
        });
        // Only where there is room for it.
        if let Some(took) = took.filter(|t| right + 8.0 + t.chars().count() as f64 * 6.5 < next) {
            // A String takes everything.
            let _ = write!(
                out,
                "<text class=\"note\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
                right + 5.0,
                escape_text(&took)
            );
        }
        out.push('\n');
    }
}

fn draw_legend(out: &mut String, y: f64) {
    let kinds = [
        (Kind::Init, "init container"),
        (Kind::Sidecar, "sidecar"),
        (Kind::App, "app container"),
        (Kind::Pull, "pull"),
        (Kind::Hook, "hook"),
        (Kind::Probe, "probe until it passes"),
    ];
    let kinds = kinds.map(|(kind, text)| (kind_colour(kind), text));
    let mut x = LABELS;
    for (colour, text) in kinds.into_iter().chain([(FAILED, "failed")]) {
        // A String takes everything.
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{colour}\"/><text class=\"part\" x=\"{}\" y=\"{y:.1}\">{text}</text>",
            y - 9.0,
            x + 15.0
        );
        x += 34.0 + text.len() as f64 * 6.0;
    }
}

fn kind_colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Init => "#2f81f7",
        Kind::Sidecar => "#8250df",
        Kind::App => "#2da44e",
        Kind::Ephemeral => "#6e7781",
        Kind::Pull => "#a5c8f0",
        Kind::Hook => "#e36209",
        Kind::Probe => "#d4a72c",
    }
}

/// Returns what fits beside the picture.
fn cut(text: &str) -> String {
    if text.chars().count() > 22 { text.chars().take(21).chain(['…']).collect() } else { text.to_owned() }
}

fn escape_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
