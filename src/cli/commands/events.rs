//! `podctl events`: what happened to pods.

use std::{collections::HashMap, io::Write, time::Duration};

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace,
        durations::{parse_request_timeout, time_left},
        kind_words::unknown_kind,
        output_formats::{Output, OutputArgs},
        print,
    },
    engine::{Engine, ListOptions},
    logs::Watch,
    pod::{ObjectKind, ObjectName},
    state::Home,
    view::{events, tab_stops},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only what happened to this one: `pod/NAME`, `job/NAME`.
    #[arg(long = "for")]
    object: Option<String>,
    /// Go on and show what happens.
    #[arg(short, long)]
    watch: bool,
    /// Only these types: Normal, Warning.
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    /// Of pods of every namespace.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    output: OutputArgs,
    /// Leave the table's first line out.
    #[arg(long)]
    no_headers: bool,
    /// How long a watch lasts, such as `30s`; without end else.
    #[arg(long, value_name = "TIME")]
    request_timeout: Option<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if args.types.iter().any(|t| !t.is_empty() && !["normal", "warning"].contains(&t.to_lowercase().as_str()))
    {
        return Err(Error::bad_value("valid --types are Normal or Warning"));
    }
    let until = parse_request_timeout(args.request_timeout.as_deref())?;
    let object = match &args.object {
        Some(object) if !object.contains('/') => {
            return Err(Error::bad_value("--for must be in resource/name form"));
        }
        Some(object) => {
            let (kind, name) = object.split_once('/').unwrap_or_default();
            let Some(kind) = ObjectKind::of_word(kind) else {
                // kubectl has no word before it here.
                eprintln!("{}", unknown_kind(kind));
                return Ok(1);
            };
            Some((kind, ObjectName::parse(name)?))
        }
        None => None,
    };
    let output = args.output.parse()?;
    let to_value = |event: &Event| {
        let mut event = json!(event);
        // kubectl's own reading of an event adds it.
        event["eventTime"] = Value::Null;
        event
    };
    let wanted = |event: &Event| {
        args.types.iter().all(String::is_empty)
            || args.types.iter().any(|t| event.type_.as_ref().is_some_and(|of| of.eq_ignore_ascii_case(t)))
    };
    let engine = Engine::over(home);
    let of_one = |(kind, name): &(ObjectKind, ObjectName)| {
        format!("involvedObject.kind={},involvedObject.name={name}", kind.name())
    };
    let meant = ListOptions {
        namespace: (!args.all_namespaces).then(|| namespace.to_string()),
        fields: object.as_ref().map(of_one).unwrap_or_default(),
        ..ListOptions::default()
    };
    let read = || -> Result<Vec<Event>, Error> {
        let all = engine.list_objects(ObjectKind::Event, &meant)?.into_iter().map(serde_json::from_value);
        let mut all: Vec<Event> = all.collect::<Result<_, _>>()?;
        all.retain(|e| wanted(e));
        Ok(all)
    };
    let rows = |all: &[Event], head: bool| -> Vec<Vec<String>> {
        let now = Timestamp::now();
        let head = head.then(|| events::head(args.all_namespaces));
        head.into_iter().chain(all.iter().map(|e| events::row(e, args.all_namespaces, now))).collect()
    };
    let table = matches!(output, Output::Table { .. });
    let sort_by_time =
        |all: &mut Vec<Event>| all.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    let mut all = read()?;
    // What a watch begins with comes as the server has it.
    if !args.watch {
        sort_by_time(&mut all);
    }
    if !table && args.watch {
        for event in &all {
            args.output.print_result(&output, &to_value(event), "")?;
        }
    } else if !table {
        let items: Vec<Value> = all.iter().map(to_value).collect();
        let list = json!({"apiVersion": "v1", "items": items, "kind": "EventList", "metadata": {}});
        print(&args.output.format_objects(&output, &[list], true)?);
    } else if !all.is_empty() {
        print(&tab_stops::table(&rows(&all, !args.no_headers)));
    } else if !args.watch {
        match args.all_namespaces {
            true => eprintln!("No events found."),
            false => eprintln!("No events found in {namespace} namespace."),
        }
    }
    if !args.watch {
        return Ok(0);
    }
    let key = |e: &Event| (e.metadata.name.clone().unwrap_or_default(), e.count);
    let mut known: HashMap<_, ()> = all.iter().map(|e| (key(e), ())).collect();
    let mut headed = args.no_headers || !all.is_empty();
    let watch = Watch::of_all(home)?;
    loop {
        watch.refresh(home);
        all = read()?;
        all.retain(|e| known.insert(key(e), ()).is_none());
        sort_by_time(&mut all);
        if !table {
            for event in &all {
                args.output.print_result(&output, &to_value(event), "")?;
            }
        } else if !all.is_empty() {
            print(&tab_stops::table(&rows(&all, !headed)));
            headed = true;
        }
        // A reader that has gone is noticed by the next print.
        let _ = std::io::stdout().flush();
        match time_left(until) {
            Some(Duration::ZERO) => return Ok(0),
            left => watch.wait(left),
        }
    }
}
