//! `podctl wait`: until objects are as they should be.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    cli::{
        Error, Namespace,
        durations::parse_duration,
        object_selection::{
            NO_NAME, NO_RESOURCES, Narrowing, Target, Words, check_flags, parse_words, targets_of_files,
        },
        output_formats::OutputArgs,
        pod_selection::Told,
        print_error,
    },
    engine::{Engine, ErrorKind, WaitCondition},
    state::Home,
    view::plain_text::show_controls,
};

/// Names what a negative --timeout stands for.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pods: Told,
    /// `create`, `delete`, `condition=NAME[=VALUE]` or `jsonpath='{PATH}'[=VALUE]`.
    #[arg(long = "for")]
    condition: Option<String>,
    /// How long, such as `30s`, `2m`, `1h`; 0 looks once, -1s waits for a week.
    #[arg(long, default_value = "30s", value_parser = parse_timeout, allow_hyphen_values = true)]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') { Ok(WEEK) } else { parse_duration(text) }
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let Some(condition) = &args.condition else {
        return Err(Error::missing("unrecognized condition: []"));
    };
    let condition = WaitCondition::parse(condition)?;
    let (engine, output) = (Engine::over(home), args.output.parse()?);
    let deadline = Instant::now() + args.timeout;
    let watch = engine.watch_objects()?;
    let mut failures = Vec::new();
    for target in args.targets(&engine, home, namespace, &condition)? {
        let Target { kind, name, .. } = &target;
        // One that is not there will not come to be so.
        let waits = condition.is_create() || condition.is_delete();
        if let (false, Err(e)) = (waits, engine.get_object(*kind, &target.namespace, name)) {
            failures.push(e.into());
            continue;
        }
        match engine.wait_until_holds(&watch, (*kind, &target.namespace, name), &condition, deadline) {
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
                failures.push(match condition.is_create() {
                    true => Error::unmet("timed out waiting for the condition"),
                    false => Error::unmet(format!("{what} {}/{name}", kind.plural())),
                });
            }
            Err(e) => failures.push(e.into()),
        }
    }
    // Of several kubectl says no more than what they are.
    match &failures[..] {
        [one] => print_error(one),
        many => many.iter().for_each(|e| match e.reason() {
            Some(_) => print_error(e),
            None => eprintln!("{}", show_controls(&e.to_string())),
        }),
    }
    Ok(i32::from(!failures.is_empty()))
}

impl Args {
    /// The objects that are waited for: those that are named, or what a selector finds now.
    fn targets(
        &self,
        engine: &Engine,
        home: &Home,
        namespace: &Namespace,
        condition: &WaitCondition,
    ) -> Result<Vec<Target>, Error> {
        let which = &self.pods.which;
        let words = parse_words(&which.names)?;
        let given = Narrowing { all: self.pods.all, ..which.narrowing() };
        check_flags(&which.names, &words, given)?;
        let mut targets: Vec<Target> = match words {
            _ if given.files => targets_of_files(which, home, namespace)?,
            Words::Objects(all) => {
                let target = |(kind, name)| Target { kind, namespace: namespace.clone(), name };
                all.into_iter().map(target).collect()
            }
            Words::Kinds(_) if which.names.is_empty() && !(given.all || given.labels || given.fields) => {
                return Err(Error::missing(NO_RESOURCES));
            }
            Words::Kinds(_) if condition.is_create() || !(given.all || given.labels || given.fields) => {
                return Err(Error::missing(NO_NAME));
            }
            Words::Kinds(kinds) => which.find_in_kinds(engine, &kinds, namespace)?,
        };
        if targets.is_empty() && !condition.is_delete() {
            return Err(Error::absent("no matching resources found"));
        }
        if condition.is_delete() {
            // What is gone already is not waited for.
            let gone = |e: &crate::engine::Error| e.kind() == ErrorKind::NotFound;
            targets.retain(|t| !engine.get_object(t.kind, &t.namespace, &t.name).is_err_and(|e| gone(&e)));
        }
        Ok(targets)
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
        assert!(parse_duration("2562047h").is_ok() && parse_duration("2562048h").is_err());
        assert_eq!(parse_timeout("-1s"), Ok(WEEK));
    }
}
