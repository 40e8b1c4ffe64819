//! A pod's start as a picture: what ran when, on one time axis.

mod svg;
mod terminal;

pub use svg::draw_svg;
pub use terminal::terminal;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use serde::Serialize;

use crate::pod::{ContainerExt, Mark, PodExt, Span};

/// Names what a row shows; also how it is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The runs of an init container.
    Init,
    /// The native sidecar's.
    Sidecar,
    /// The app container's.
    App,
    /// The ephemeral container's.
    Ephemeral,
    /// Image pulls.
    Pull,
    /// postStart or preStop.
    Hook,
    /// Probes until the first that passes.
    Probe,
}

/// Lasts from begin to end, in seconds since the picture's beginning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bar {
    /// The place where it begins.
    pub from: f64,
    /// The place where it ends; none while it goes on.
    pub to: Option<f64>,
    /// Tells whether it ended badly.
    pub failed: bool,
    /// Tells how it ended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The line of the picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Tells which container it belongs to.
    pub container: String,
    /// `pull`, `postStart`, `startup` … or empty for the container itself.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub part: &'static str,
    /// Holds what it shows.
    pub kind: Kind,
    /// Lists them in the order of time.
    pub bars: Vec<Bar>,
}

/// The picture as data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeline {
    /// The pod's name.
    pub pod: String,
    /// Holds what second 0 is.
    pub began: String,
    /// The place where the axis ends, in seconds.
    pub seconds: f64,
    /// The container, then its parts, in file order.
    pub rows: Vec<Row>,
}

const PARTS: [(Span, &str, Kind); 6] = [
    (Span::Pull, "pull", Kind::Pull),
    (Span::PostStart, "postStart", Kind::Hook),
    (Span::Startup, "startup", Kind::Probe),
    (Span::Liveness, "liveness", Kind::Probe),
    (Span::Readiness, "readiness", Kind::Probe),
    (Span::PreStop, "preStop", Kind::Hook),
];

/// The picture of these marks: the start alone, unless the whole life is wanted.
pub fn build_timeline(pod: &Pod, marks: &[Mark], whole: bool, now: Timestamp) -> Timeline {
    let spec = pod.spec.clone().unwrap_or_default();
    let inits = spec.init_containers.into_iter().flatten().map(|c| {
        let sidecar = c.is_sidecar();
        (c.name, if sidecar { Kind::Sidecar } else { Kind::Init })
    });
    let apps = spec.containers.into_iter().map(|c| (c.name, Kind::App));
    let ephemeral = spec.ephemeral_containers.into_iter().flatten().map(|c| (c.name, Kind::Ephemeral));
    let began = marks.first().map_or(now, |m| m.at.0);
    let since = |at: Timestamp| at.duration_since(began).as_secs_f64();
    let mut rows = Vec::new();
    for (name, kind) in inits.chain(apps).chain(ephemeral) {
        let own: Vec<&Mark> = marks.iter().filter(|m| m.container == name).collect();
        let row = |span, part, kind| Row {
            container: name.clone(),
            part,
            kind,
            bars: build_bars(&own, span, since),
        };
        rows.push(row(Span::Run, "", kind));
        let parts = PARTS.iter().map(|(span, part, kind)| row(*span, part, *kind));
        rows.extend(parts.filter(|r| r.bars.iter().any(|b| b.note != "already present")));
    }
    let end =
        if whole { since(now).min(last(marks, now, since, pod)) } else { start(&rows).unwrap_or(since(now)) };
    let seconds = (end * 1.08).max(0.001);
    for row in &mut rows {
        row.bars.retain(|b| b.from <= seconds);
    }
    let pod = pod.name().to_owned();
    Timeline { pod, began: began.to_string(), seconds, rows }
}

/// Tells where the whole life ends.
fn last(marks: &[Mark], now: Timestamp, since: impl Fn(Timestamp) -> f64, pod: &Pod) -> f64 {
    let phase = pod.phase();
    let over = matches!(phase, "Succeeded" | "Failed");
    since(marks.last().filter(|_| over).map_or(now, |m| m.at.0))
}

/// Tells where the start ends: everything has begun, and all that others wait for has ended.
fn start(rows: &[Row]) -> Option<f64> {
    let ends = rows.iter().filter(|r| r.part != "preStop").flat_map(|row| {
        let first = row.bars.first().into_iter().map(|b| b.from);
        let ends = row.bars.iter().filter_map(|b| b.to);
        let awaited = !matches!(row.kind, Kind::App | Kind::Sidecar | Kind::Ephemeral);
        first.chain(ends.filter(move |_| awaited))
    });
    // An app that ended soon belongs to the picture of its start.
    let started = ends.fold(None, |most: Option<f64>, at| Some(most.map_or(at, |m| m.max(at))))?;
    let soon =
        rows.iter().flat_map(|r| r.bars.iter().filter_map(|b| b.to)).filter(|to| *to < started * 1.5 + 0.5);
    Some(soon.fold(started, f64::max))
}

fn build_bars(marks: &[&Mark], span: Span, since: impl Fn(Timestamp) -> f64) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    for mark in marks.iter().filter(|m| m.span == span || (m.span == Span::Run && m.ended.is_some())) {
        let at = since(mark.at.0);
        let open = bars.last_mut().filter(|b| b.to.is_none());
        match (mark.ended, open) {
            // What belongs to a run ends with it.
            (Some(_), Some(bar)) if mark.span != span => bar.to = Some(at),
            (Some(_), None) if mark.span != span => {}
            (Some(well), Some(bar)) => {
                (bar.to, bar.failed, bar.note) = (Some(at), !well, mark.note.clone());
            }
            (Some(well), None) => {
                bars.push(Bar { from: at, to: Some(at), failed: !well, note: mark.note.clone() });
            }
            (None, _) => bars.push(Bar { from: at, to: None, failed: false, note: String::new() }),
        }
    }
    bars
}

/// Tells where ticks stand: a handful, at round numbers.
fn time_ticks(seconds: f64, most: usize) -> Vec<f64> {
    let rough = seconds / most.max(1) as f64;
    let mut steps = (-6..9).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(power)));
    let step = steps.find(|step| *step >= rough).unwrap_or(rough);
    (0..).map(|n| f64::from(n) * step).take_while(|at| *at <= seconds).collect()
}

/// `350ms`, `1.25s`, `2m5s`.
fn worded(seconds: f64) -> String {
    let rounded = |digits: usize| {
        let text = format!("{seconds:.digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned() + "s"
    };
    match seconds {
        0.0 => "0".into(),
        s if s < 0.9995 => format!("{:.0}ms", s * 1000.0),
        s if s < 10.0 => rounded(2),
        s if s < 120.0 => rounded(1),
        s => format!("{}m{:.0}s", (s / 60.0).floor(), s % 60.0),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use serde_json::json;

    use super::*;

    fn mark(at: i64, container: &str, span: Span, ended: Option<bool>) -> Mark {
        let note = if ended == Some(false) { "exit 1".into() } else { String::new() };
        let at = MicroTime(Timestamp::from_millisecond(at).unwrap());
        Mark { at, container: container.into(), span, ended, note }
    }

    fn sample_timeline() -> Timeline {
        let pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "initContainers": [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "app"}]}}));
        let marks = [
            mark(1000, "init", Span::Pull, None),
            mark(1500, "init", Span::Pull, Some(true)),
            mark(1500, "init", Span::Run, None),
            mark(1600, "init", Span::Run, Some(false)),
            mark(1700, "init", Span::Run, None),
            mark(1800, "init", Span::Run, Some(true)),
            mark(1800, "side", Span::Run, None),
            mark(1850, "side", Span::Startup, None),
            mark(2000, "side", Span::Startup, Some(true)),
            mark(2000, "app", Span::Run, None),
        ];
        build_timeline(&pod.unwrap(), &marks, false, Timestamp::from_second(100).unwrap())
    }

    #[test]
    fn a_start_is_rows_of_bars_on_one_axis() {
        let picture = sample_timeline();
        let rows: Vec<_> =
            picture.rows.iter().map(|r| (r.container.as_str(), r.part, r.bars.len())).collect();
        assert_eq!(
            rows,
            [("init", "", 2), ("init", "pull", 1), ("side", "", 1), ("side", "startup", 1), ("app", "", 1)]
        );
        let first = &picture.rows[0].bars[0];
        assert!(first.failed && first.note == "exit 1" && first.from == 0.5 && first.to == Some(0.6));
        assert_eq!(picture.rows[2].bars[0].to, None);
        assert!((picture.seconds - 1.08).abs() < 1e-9, "it ends when all has started: {}", picture.seconds);
    }

    #[test]
    fn it_is_drawn_in_the_width_of_the_terminal_and_as_svg() {
        let picture = sample_timeline();
        let text = anstream::adapter::strip_str(&terminal(&picture, 60)).to_string();
        assert!(text.lines().all(|l| l.chars().count() <= 60), "{text}");
        assert!(text.contains("└ startup") && text.contains("500ms"), "{text}");
        let svg = draw_svg(&picture);
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg.matches("class=\"bar").count(), 6);
    }

    #[test]
    fn ticks_are_round_and_durations_short() {
        assert_eq!(time_ticks(1.08, 6), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        for (seconds, text) in
            [(0.35, "350ms"), (1.25, "1.25s"), (2.0, "2s"), (12.34, "12.3s"), (125.0, "2m5s")]
        {
            assert_eq!(worded(seconds), text);
        }
    }
}
