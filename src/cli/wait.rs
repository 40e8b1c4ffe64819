//! `podctl wait`: until objects are as they should be.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    Error, Namespace,
    output::OutputArgs,
    selection::{Narrowing, Target, Words, check_flags, parse_words, targets_of_files},
    which::Told,
};
use crate::{
    engine::{Engine, ErrorKind, ObjectWatch},
    state::Home,
    view::jsonpath::{self, Template},
};

/// Names what a negative --timeout stands for.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pods: Told,
    /// `create`, `delete`, `condition=NAME[=VALUE]` or `jsonpath='{PATH}'[=VALUE]`.
    #[arg(long = "for", required = true)]
    condition: String,
    /// How long, such as `30s`, `2m`, `1h`; 0 looks once, -1s waits for a week.
    #[arg(long, default_value = "30s", value_parser = parse_timeout, allow_hyphen_values = true)]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') { Ok(WEEK) } else { parse_duration(text) }
}

/// Go's durations: `30s`, `1h30m`, `500ms`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
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

    /// Tells whether this object, which is there, is as it should be.
    fn holds(&self, object: &Value) -> Result<bool, Error> {
        match self {
            Condition::Create => Ok(true),
            Condition::Delete => Ok(false),
            Condition::Status { name, value } => {
                let same = |field: &Value, wanted: &str| {
                    field.as_str().is_some_and(|field| field.eq_ignore_ascii_case(wanted))
                };
                let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
                Ok(all.any(|c| same(&c["type"], name) && same(&c["status"], value)))
            }
            Condition::JsonPath { template, value } => {
                // kubectl waits for what is not there yet.
                let Ok(found) = template.find(object, true) else { return Ok(false) };
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
    let (engine, output) = (Engine::over(home), args.output.parse()?);
    let deadline = Instant::now() + args.timeout;
    let watch = engine.watch_objects()?;
    let mut code = 0;
    for target in args.targets(&engine, home, namespace, &condition)? {
        let Target { kind, name, .. } = &target;
        match wait_for(&engine, &target, &condition, &watch, deadline) {
            Ok(true) => {
                // What is gone has a name only.
                let known = engine.get_object(*kind, &target.namespace, name);
                let object = known.unwrap_or_else(|_| {
                    json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": {"name": name}})
                });
                args.output.print_result(&output, &object, "condition met")?;
            }
            Ok(false) => {
                let what = match args.timeout.is_zero() {
                    true => "condition not met for",
                    false => "timed out waiting for the condition on",
                };
                super::print_error(&Error::Said(format!("{what} {}/{name}", kind.plural())));
                code = 1;
            }
            Err(e) => {
                super::print_error(&e);
                code = 1;
            }
        }
    }
    Ok(code)
}

impl Args {
    /// The objects that are waited for: those that are named, or what a selector finds now.
    fn targets(
        &self,
        engine: &Engine,
        home: &Home,
        namespace: &Namespace,
        condition: &Condition,
    ) -> Result<Vec<Target>, Error> {
        let which = &self.pods.which;
        let words = parse_words(&which.names)?;
        let given = Narrowing { all: self.pods.all, ..which.narrowing() };
        check_flags(&which.names, &words, given)?;
        let mut targets: Vec<Target> = match words {
            _ if given.files => targets_of_files(&which.files, home, namespace)?,
            Words::Objects(all) => {
                let target = |(kind, name)| Target { kind, namespace: namespace.clone(), name };
                all.into_iter().map(target).collect()
            }
            Words::Kinds(_) if matches!(condition, Condition::Create) => {
                return Err(Error::Said("--for=create needs the objects' names".into()));
            }
            Words::Kinds(_) if !(given.all || given.labels || given.fields) => {
                return Err(Error::Said(
                    "you must specify objects by name, label selector (-l) or --all".into(),
                ));
            }
            Words::Kinds(kinds) => {
                let mut targets = Vec::new();
                for kind in kinds {
                    let found = engine.list_objects(kind, &which.list_options(namespace))?;
                    targets.extend(found.iter().filter_map(|object| Target::of_object(kind, object)));
                }
                targets
            }
        };
        if targets.is_empty() && !matches!(condition, Condition::Delete) {
            return Err(Error::Said("no matching resources found".into()));
        }
        if matches!(condition, Condition::Delete) {
            // What is gone already is not waited for.
            let gone = |e: &crate::engine::Error| e.kind() == ErrorKind::NotFound;
            targets.retain(|t| !engine.get_object(t.kind, &t.namespace, &t.name).is_err_and(|e| gone(&e)));
        }
        // One that is not there will not come to be so.
        let waits = matches!(condition, Condition::Create | Condition::Delete);
        for Target { kind, namespace, name } in targets.iter().filter(|_| !waits) {
            engine.get_object(*kind, namespace, name)?;
        }
        Ok(targets)
    }
}

/// Waits until an object is as it should be; says whether that came in time.
fn wait_for(
    engine: &Engine,
    target: &Target,
    condition: &Condition,
    watch: &ObjectWatch,
    deadline: Instant,
) -> Result<bool, Error> {
    loop {
        // What is made now is watched before it is read: no change is missed.
        watch.refresh();
        let holds = match engine.get_object(target.kind, &target.namespace, &target.name) {
            Ok(object) => condition.holds(&object)?,
            Err(e) if e.kind() == ErrorKind::NotFound => match condition {
                Condition::Delete => true,
                Condition::Create => false,
                // It will not come to be so any more.
                _ => return Err(e.into()),
            },
            Err(e) => return Err(e.into()),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if holds || left.is_zero() {
            return Ok(holds);
        }
        // What lies behind a Service changes no file.
        watch.wait(Some(left.min(Duration::from_secs(1))));
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
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
        }
        assert!(parse_duration("30").is_err() && parse_duration("").is_err() && parse_duration("x").is_err());
        assert_eq!(parse_timeout("-1s"), Ok(WEEK));
    }

    #[test]
    fn a_filters_equals_sign_is_not_the_values() {
        let text = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True";
        let Ok(Condition::JsonPath { value, .. }) = Condition::parse(text) else { panic!("not understood") };
        assert_eq!(value.as_deref(), Some("True"));
    }
}
