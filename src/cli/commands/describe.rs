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
    pod::ObjectKind,
    state::Home,
    view::{self, describe::DescribedNode, describe_object::describe_object},
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// With the table of events: of one object, unless it is said.
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    show_events: Option<bool>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let words = parse_words(&args.which.names)?;
    check_flags(&args.which.names, &words, args.which.narrowing())?;
    let (mut found, mut missing): (Vec<(ObjectKind, Value)>, Vec<Error>) = (Vec::new(), Vec::new());
    // `KIND NAME` means the names that begin so as well.
    let begins = args.which.names.len() <= 2 && !args.which.names.iter().any(|word| word.contains('/'));
    let targets: Vec<Target> = match words {
        _ if args.which.files.is_given() => targets_of_files(&args.which, home, namespace)?,
        Words::Objects(all) => {
            let target = |(kind, name)| Target { kind, namespace: namespace.clone(), name };
            all.into_iter().map(target).collect()
        }
        Words::Kinds(kinds) => {
            let (all, failed) = args.which.list_kinds(&engine, &kinds, namespace);
            let listed = all.into_iter();
            found.extend(listed.flat_map(|(kind, all)| all.into_iter().map(move |object| (kind, object))));
            missing = failed;
            Vec::new()
        }
    };
    let listed = targets.is_empty();
    for Target { kind, namespace, name } in &targets {
        match engine.get_object(*kind, namespace, name) {
            Ok(object) => found.push((*kind, object)),
            Err(e) if e.kind() == engine::ErrorKind::NotFound => missing.push(e.into()),
            Err(e) => return Err(e.into()),
        }
    }
    let show_events = args.show_events.unwrap_or(missing.is_empty() && found.len() < 2);
    let begins = begins && targets.len() == 1 && !missing.is_empty();
    if let Some(target) = targets.first().filter(|_| begins) {
        found = find_by_beginning(&engine, target)?.into_iter().map(|object| (target.kind, object)).collect();
        missing.truncate(usize::from(found.is_empty()));
    }
    if found.is_empty() && listed && missing.is_empty() {
        match args.which.filter.all_namespaces {
            true => eprintln!("No resources found"),
            false => eprintln!("No resources found in {namespace} namespace."),
        }
    }
    let pages = found.iter().map(|(kind, object)| describe(&engine, *kind, object, show_events));
    let pages = pages.collect::<Result<Vec<_>, _>>()?;
    match begins {
        true => pages.iter().for_each(|page| print(&format!("{page}\n"))),
        false => print(&pages.join("\n\n")),
    }
    missing.iter().for_each(print_error);
    Ok(i32::from(!missing.is_empty()))
}

/// Finds the objects whose names begin as a target's, as kubectl has it.
fn find_by_beginning(
    engine: &Engine,
    Target { kind, namespace, name }: &Target,
) -> Result<Vec<Value>, Error> {
    let options = ListOptions { namespace: Some(namespace.to_string()), ..ListOptions::default() };
    let mut all = engine.list_objects(*kind, &options)?;
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
            let page = |seen| view::service_table::describe(seen, host.as_deref(), show_events);
            Ok(seen.map(page).unwrap_or_default())
        }
        ObjectKind::PersistentVolumeClaim => {
            let users = find_users(engine, &namespace, text("name"))?;
            Ok(describe_object(kind, object, &users, show_events))
        }
        _ => Ok(describe_object(kind, object, &[], show_events)),
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
    let leases = engine.list_objects(ObjectKind::Lease, &ListOptions::default())?;
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
