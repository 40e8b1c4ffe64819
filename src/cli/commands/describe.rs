//! `podctl describe`: objects in full.

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Event, Node, Pod},
    },
    jiff::Timestamp,
};
use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace,
        object_selection::{Target, Words, check_flags, parse_words, targets_of_files},
        pod_selection::Which,
        print, print_error,
    },
    engine::{self, Engine, ListOptions, start::find_host_ip},
    pod::{ObjectKind, ObjectName},
    server::node_lease,
    state::Home,
    view::{self, describe::DescribedNode, describe_object::describe_object},
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// With the table of events.
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    show_events: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let words = parse_words(&args.which.names)?;
    check_flags(&args.which.names, &words, args.which.narrowing())?;
    let named = |all: Vec<(ObjectKind, ObjectName)>| {
        let target = |(kind, name)| Target { kind, namespace: namespace.clone(), name };
        all.into_iter().map(target).collect()
    };
    let (mut found, mut code): (Vec<(ObjectKind, Value)>, _) = (Vec::new(), 0);
    let targets: Vec<Target> = match words {
        _ if args.which.files.is_given() => targets_of_files(&args.which.files, home, namespace)?,
        Words::Objects(all) => named(all),
        Words::Kinds(kinds) => {
            for kind in kinds {
                let all = args.which.list_objects(&engine, kind, namespace)?;
                found.extend(all.into_iter().map(|object| (kind, object)));
            }
            Vec::new()
        }
    };
    let listed = targets.is_empty();
    for Target { kind, namespace, name } in targets {
        match find_by_beginning(&engine, kind, &namespace, &name)? {
            objects if objects.is_empty() => {
                print_error(&engine::Error::NoObject { kind, name: name.to_string() }.into());
                code = 1;
            }
            objects => found.extend(objects.into_iter().map(|object| (kind, object))),
        }
    }
    if found.is_empty() && listed {
        eprintln!("No resources found in {namespace} namespace.");
    }
    let pages = found.iter().map(|(kind, object)| describe(&engine, *kind, object, args.show_events));
    print(&pages.collect::<Result<Vec<_>, _>>()?.join("\n\n"));
    Ok(code)
}

/// The object of that name, or those whose names begin so, as kubectl has it.
fn find_by_beginning(
    engine: &Engine,
    kind: ObjectKind,
    namespace: &Namespace,
    name: &ObjectName,
) -> Result<Vec<Value>, Error> {
    match engine.get_object(kind, namespace, name) {
        Ok(object) => return Ok(vec![object]),
        Err(e) if e.kind() == engine::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    let options = ListOptions { namespace: Some(namespace.to_string()), ..ListOptions::default() };
    let mut all = engine.list_objects(kind, &options)?;
    all.retain(|object| {
        object["metadata"]["name"].as_str().is_some_and(|own| own.starts_with(name.as_str()))
    });
    Ok(all)
}

fn describe(engine: &Engine, kind: ObjectKind, object: &Value, show_events: bool) -> Result<String, Error> {
    let now = Timestamp::now();
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let namespace = Namespace::parse(text("namespace")).unwrap_or_default();
    let events = || events_of(engine, kind, &namespace, text("name"));
    match kind {
        ObjectKind::Pod => {
            let pod: Pod = serde_json::from_value(object.clone())?;
            let events = show_events.then(events).transpose()?;
            Ok(view::describe::pod(&pod, events.as_deref(), now))
        }
        ObjectKind::Job => {
            let job: Job = serde_json::from_value(object.clone())?;
            let events = show_events.then(events).transpose()?;
            Ok(view::describe::job(&job, events.as_deref(), now))
        }
        ObjectKind::Node => {
            let events = show_events.then(events).transpose()?;
            describe_node(engine, object, events.as_deref(), now)
        }
        ObjectKind::Service => {
            let seen = engine.services(Some(&namespace))?;
            let seen = seen.iter().find(|s| s.service.metadata.name.as_deref() == Some(text("name")));
            let host = find_host_ip().map(|ip| ip.to_string());
            Ok(seen.map(|seen| view::service_table::describe(seen, host.as_deref())).unwrap_or_default())
        }
        ObjectKind::PersistentVolumeClaim => {
            Ok(describe_object(kind, object, &find_users(engine, &namespace, text("name"))?))
        }
        _ => Ok(describe_object(kind, object, &[])),
    }
}

fn describe_node(
    engine: &Engine,
    object: &Value,
    events: Option<&[Event]>,
    now: Timestamp,
) -> Result<String, Error> {
    let node: Node = serde_json::from_value(object.clone())?;
    let fields = "status.phase!=Succeeded,status.phase!=Failed".into();
    let pods = engine.list_objects(ObjectKind::Pod, &ListOptions { fields, ..ListOptions::default() })?;
    let pods: Vec<Pod> = pods.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    let leases = node_lease::list_leases(engine, None)?;
    let described = DescribedNode { node: &node, lease: leases.first(), pods: &pods, events };
    Ok(view::describe::node(&described, now))
}

/// The pods that have a claim's volume.
fn find_users(engine: &Engine, namespace: &Namespace, claim: &str) -> Result<Vec<String>, Error> {
    let options = ListOptions { namespace: Some(namespace.to_string()), ..ListOptions::default() };
    let pods = engine.list_objects(ObjectKind::Pod, &options)?;
    let uses = |pod: &&Value| {
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        volumes.any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim)
    };
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(pods.iter().filter(uses).map(name).collect())
}

fn events_of(
    engine: &Engine,
    kind: ObjectKind,
    namespace: &Namespace,
    name: &str,
) -> Result<Vec<Event>, Error> {
    let options = ListOptions {
        namespace: Some(namespace.to_string()),
        fields: format!("involvedObject.kind={},involvedObject.name={name}", kind.name()),
        ..ListOptions::default()
    };
    let all = engine.list_objects(ObjectKind::Event, &options)?;
    Ok(all.into_iter().filter_map(|event| serde_json::from_value(event).ok()).collect())
}
