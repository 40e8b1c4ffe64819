//! `podctl wait`: until pods are as they should be.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use super::{
    Error, Namespace,
    which::{Told, not_found, read},
};
use crate::{
    engine,
    logs::Watch,
    state::{Home, PodDir},
    view::jsonpath::{self, Template},
};

/// What a negative --timeout stands for.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pods: Told,
    /// `create`, `delete`, `condition=NAME[=VALUE]` or `jsonpath='{PATH}'[=VALUE]`.
    #[arg(long = "for", required = true)]
    condition: String,
    /// How long, such as `30s`, `2m`, `1h`; 0 looks once, -1s waits for a week.
    #[arg(long, default_value = "30s", value_parser = timeout, allow_hyphen_values = true)]
    timeout: Duration,
    /// `name` prints the pods' names alone.
    #[arg(short, long)]
    output: Option<String>,
}

fn timeout(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') { Ok(WEEK) } else { duration(text) }
}

/// Go's durations: `30s`, `1h30m`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 30s, 2m or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        let units = [("ms", 0.001), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, seconds) =
            units.into_iter().find(|(u, _)| rest[end..].starts_with(u)).ok_or_else(wrong)?;
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        rest = &rest[end + unit.len()..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

enum Condition {
    Create,
    Delete,
    Status { name: String, value: String },
    JsonPath { template: Template, value: Option<String> },
}

impl Condition {
    fn parse(text: &str) -> Result<Condition, Error> {
        let said = |e: jsonpath::Error| Error::Said(e.to_string());
        if let Some(condition) = text.strip_prefix("condition=") {
            let (name, value) = condition.split_once('=').unwrap_or((condition, "true"));
            return Ok(Condition::Status { name: name.into(), value: value.into() });
        }
        if let Some(expression) = text.strip_prefix("jsonpath=") {
            // An = inside the braces is a filter's.
            let end = expression.rfind('}').map_or(0, |at| at + 1);
            let (path, value) = match expression[end..].find('=') {
                Some(at) => (&expression[..end + at], Some(expression[end + at + 1..].to_owned())),
                None => (expression, None),
            };
            let template = Template::path(path.trim()).map_err(said)?;
            return Ok(Condition::JsonPath { template, value });
        }
        match text.to_lowercase().as_str() {
            "create" => Ok(Condition::Create),
            "delete" => Ok(Condition::Delete),
            _ => Err(Error::Said(format!(
                "unrecognized condition: {text:?}; there are create, delete, condition=NAME[=VALUE] and jsonpath='{{PATH}}'[=VALUE]"
            ))),
        }
    }

    /// Whether this pod, which is there, is as it should be.
    fn holds(&self, pod: &Pod) -> Result<bool, Error> {
        match self {
            Condition::Create => Ok(true),
            Condition::Delete => Ok(false),
            Condition::Status { name, value } => {
                let all = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
                Ok(all
                    .filter(|c| c.type_.eq_ignore_ascii_case(name))
                    .any(|c| c.status.eq_ignore_ascii_case(value)))
            }
            Condition::JsonPath { template, value } => {
                let object = serde_json::to_value(pod).map_err(|e| Error::Said(e.to_string()))?;
                // kubectl waits for what is not there yet.
                let Ok(found) = template.find(&object, true) else { return Ok(false) };
                let found: Vec<_> = found.into_iter().flatten().collect();
                match (&found[..], value) {
                    ([], _) => Ok(false),
                    (_, None) => Ok(true),
                    ([one], Some(value)) if !one.is_object() && !one.is_array() => {
                        Ok(jsonpath::text(one).trim() == value.trim())
                    }
                    _ => Err(Error::Said(
                        "jsonpath leads to a nested object or list; it must lead to one plain value".into(),
                    )),
                }
            }
        }
    }
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let condition = Condition::parse(&args.condition)?;
    let named = args.pods.which.named(home, namespace)?;
    if named.is_empty()
        && !args.pods.all
        && args.pods.which.selector.is_none()
        && args.pods.which.field_selector.is_none()
    {
        return Err(Error::Said("you must specify pods by name, label selector (-l) or --all".into()));
    }
    let deadline = Instant::now() + args.timeout;
    let watch = Watch::of_all(home)?;
    let chosen = args.pods.which.choose(home, namespace)?;
    let mut dirs: Vec<PodDir> = chosen.found.into_iter().map(|f| f.dir).collect();
    match condition {
        Condition::Create => {
            dirs = named;
            if dirs.is_empty() {
                return Err(Error::Said("--for=create needs the pods' names".into()));
            }
        }
        Condition::Delete => {}
        _ => {
            if let Some(name) = chosen.missing.first() {
                return Err(not_found(name));
            }
            if dirs.is_empty() {
                return Err(Error::Said("no matching resources found".into()));
            }
        }
    }
    let mut code = 0;
    for dir in dirs {
        match until(&dir, &condition, home, &watch, deadline) {
            Ok(true) if args.output.as_deref() == Some("name") => {
                super::print(&format!("pod/{}\n", dir.name))
            }
            Ok(true) => super::print(&format!("pod/{} condition met\n", dir.name)),
            Ok(false) => {
                let what = match args.timeout.is_zero() {
                    true => "condition not met for",
                    false => "timed out waiting for the condition on",
                };
                super::complain(&Error::Said(format!("{what} pods/{}", dir.name)));
                code = 1;
            }
            Err(e) => {
                super::complain(&e);
                code = 1;
            }
        }
    }
    Ok(code)
}

/// Whether it came to be so in time.
fn until(
    dir: &PodDir,
    condition: &Condition,
    home: &Home,
    watch: &Watch,
    deadline: Instant,
) -> Result<bool, Error> {
    loop {
        watch.refresh(home);
        let holds = match read(dir) {
            Ok(pod) => condition.holds(&pod)?,
            Err(Error::Engine(engine::Error::State(crate::state::Error::NotFound { .. }))) => match condition
            {
                Condition::Delete => true,
                Condition::Create => false,
                // It will not come to be so any more.
                _ => return Err(not_found(&dir.name)),
            },
            Err(e) => return Err(e),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if holds || left.is_zero() {
            return Ok(holds);
        }
        watch.wait(Some(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in
            [("30s", 30_000), ("1h30m", 5_400_000), ("500ms", 500), ("1.5s", 1500), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        assert!(duration("30").is_err() && duration("").is_err() && duration("x").is_err());
        assert_eq!(timeout("-1s"), Ok(WEEK));
    }

    #[test]
    fn a_filters_equals_sign_is_not_the_values() {
        let text = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True";
        let Ok(Condition::JsonPath { value, .. }) = Condition::parse(text) else { panic!("not understood") };
        assert_eq!(value.as_deref(), Some("True"));
    }
}
