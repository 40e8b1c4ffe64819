//! `podctl scale` and `podctl rollout`, as far as pods have a meaning for them: podctl keeps no workloads, it runs their
//! pods, and knows these by their names.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace,
        durations::parse_duration,
        kind_words::{unknown_kind, workload_kind},
        manifest_files::FileArgs,
        object_selection::{NO_NAME, NO_RESOURCES, is_of_workload},
        output_formats::{ChangeArgs, OutputArgs},
    },
    engine::{DeleteOptions, Deletion, Engine, ListOptions, WriteOptions},
    pod::{ObjectKind, ObjectName},
    state::Home,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl scale deployment/web --replicas=3     # starts pods like those that run
  podctl scale deploy web --replicas=0         # ends them all; `podctl run` of the file starts anew")]
pub(super) struct ScaleArgs {
    /// `deployment NAME…` or `deployment/NAME…`; replicasets and statefulsets as well.
    names: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// Number of pods there are to be.
    #[arg(long, required = true, allow_negative_numbers = true)]
    replicas: i64,
    /// Do nothing unless so many there are; -1 for any.
    #[arg(long, default_value = "-1", allow_negative_numbers = true)]
    current_replicas: i64,
    /// How long to wait until it is so, such as `30s`; 0 does not wait.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Pods of workloads: started anew, and seen to.
#[derive(clap::Subcommand)]
pub(super) enum RolloutCommand {
    /// Start the pods of workloads anew.
    Restart(RolloutArgs),
    /// Wait until the pods of a workload are ready.
    Status {
        #[command(flatten)]
        which: RolloutArgs,
        /// Wait, rather than say how far it is.
        #[arg(short, long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        watch: bool,
        /// How long, such as `30s`; 0 is without end.
        #[arg(long, default_value = "0s", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Has no meaning here: there are no earlier revisions.
    #[command(hide = true)]
    History(RolloutArgs),
    /// Has no meaning here: there are no earlier revisions.
    #[command(hide = true)]
    Undo(RolloutArgs),
    /// Has no meaning here: nothing is rolled out by itself.
    #[command(hide = true)]
    Pause(RolloutArgs),
    /// Has no meaning here: nothing is rolled out by itself.
    #[command(hide = true)]
    Resume(RolloutArgs),
}

#[derive(clap::Args)]
pub(super) struct RolloutArgs {
    /// `deployment NAME…` or `deployment/NAME…`.
    names: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A workload that is meant, whether or not there are pods of it.
struct Workload {
    kind: &'static str,
    namespace: String,
    name: String,
}

impl Workload {
    /// `deployment.apps/web`
    fn full_name(&self) -> String {
        let group = if matches!(self.kind, "Job" | "CronJob") { "batch" } else { "apps" };
        format!("{}.{group}/{}", self.kind.to_lowercase(), self.name)
    }

    /// The pods, ordered by their numbers; none is an error.
    fn find_pods(&self, engine: &Engine) -> Result<Vec<Value>, Error> {
        let options = ListOptions { namespace: Some(self.namespace.clone()), ..ListOptions::default() };
        let mut pods = engine.list_objects(ObjectKind::Pod, &options)?;
        pods.retain(|pod| is_of_workload(self.kind, &self.name, name_of(pod)));
        pods.sort_by_key(|pod| (name_of(pod).len(), name_of(pod).to_owned()));
        match pods.is_empty() {
            true => Err(Error::absent(format!(
                "{} has no pods here: podctl keeps no {1}s, it runs their pods; `podctl run -d FILE` starts those of a {1}'s file",
                self.full_name(),
                self.kind.to_lowercase()
            ))),
            false => Ok(pods),
        }
    }
}

fn name_of(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

/// Names what is done with workloads.
#[derive(Clone, Copy)]
enum Purpose {
    Scale,
    Restart,
    Status,
    History,
    Undo,
    Pause,
    Resume,
}

impl Purpose {
    /// Says in kubectl's words that it is not done with an object of a kind.
    fn refuse(self, kind: ObjectKind, name: &str) -> Error {
        let (plural, kind) = (kind.plural(), kind.name());
        Error::not_done(match self {
            Purpose::Scale => {
                return Error::absent(format!(
                    "{plural} {name:?} cannot be scaled: a deployment, replicaset, statefulset or daemonset can"
                ));
            }
            Purpose::Restart => format!("{plural} {name:?} restarting is not supported"),
            Purpose::Status => format!("no status viewer has been implemented for {kind}"),
            Purpose::History => format!("no history viewer has been implemented for {kind:?}"),
            Purpose::Undo => format!("no rollbacker has been implemented for {kind:?}"),
            Purpose::Pause => format!("{plural} {name:?} pausing is not supported"),
            Purpose::Resume => format!("{plural} {name:?} resuming is not supported"),
        })
    }
}

/// The workloads that words or files name.
fn find_workloads(
    (names, files): (&[String], &FileArgs),
    purpose: Purpose,
    home: &Home,
    namespace: &Namespace,
) -> Result<Vec<Workload>, Error> {
    let make = |kind: &str, name: &str| -> Result<Workload, Error> {
        let name = ObjectName::parse(name)?.to_string();
        match workload_kind(kind) {
            Some(kind) => Ok(Workload { kind, namespace: namespace.to_string(), name }),
            None => match ObjectKind::of_word(kind) {
                Some(kind) => {
                    Engine::over(home).get_object(kind, namespace, &name)?;
                    Err(purpose.refuse(kind, &name))
                }
                None => Err(unknown_kind(kind)),
            },
        }
    };
    if files.is_given() {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let objects = files.read_objects()?.into_iter();
        return objects
            .map(|object| make(&word(&object["kind"]), &word(&object["metadata"]["name"])))
            .collect();
    }
    match names {
        [] => Err(Error::missing("required resource not specified")),
        names if names.iter().any(|name| name.contains('/')) => names
            .iter()
            .map(|name| name.split_once('/').map_or_else(|| make(name, ""), |(k, n)| make(k, n)))
            .collect(),
        [kind] if workload_kind(kind).is_none() && ObjectKind::of_word(kind).is_none() => {
            Err(unknown_kind(kind))
        }
        [_] => Err(Error::missing(NO_NAME)),
        [kind, names @ ..] => names.iter().map(|name| make(kind, name)).collect(),
    }
}

pub(super) fn scale(args: &ScaleArgs, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let Ok(wanted) = usize::try_from(args.replicas) else {
        let what = "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0";
        return Err(Error::bad_value(what));
    };
    if args.names.is_empty() && !args.files.is_given() {
        return Err(Error::missing(NO_RESOURCES));
    }
    let (engine, output, dry) = (Engine::over(home), args.change.output.parse()?, args.change.dry_run());
    for workload in find_workloads((&args.names, &args.files), Purpose::Scale, home, namespace)? {
        let pods = workload.find_pods(&engine)?;
        if i64::try_from(pods.len())
            .is_ok_and(|count| args.current_replicas >= 0 && count != args.current_replicas)
        {
            return Err(Error::unmet(format!(
                "Expected replicas to be {}, was {}",
                args.current_replicas,
                pods.len()
            )));
        }
        if !dry.is_dry() {
            let options = args.change.write_options();
            scale_workload((wanted, args.timeout), (&engine, &options), &workload, &pods)?;
        }
        let api = if matches!(workload.kind, "Job" | "CronJob") { "batch/v1" } else { "apps/v1" };
        let object = json!({"apiVersion": api, "kind": workload.kind, "metadata": {"name": workload.name, "namespace": workload.namespace},
            "spec": {"replicas": args.replicas}});
        args.change.print_change(&output, &object, "scaled")?;
    }
    Ok(0)
}

/// Ends the last pods, or starts copies of the first.
fn scale_workload(
    (wanted, timeout): (usize, Duration),
    (engine, options): (&Engine, &WriteOptions),
    workload: &Workload,
    pods: &[Value],
) -> Result<(), Error> {
    let deadline = (!timeout.is_zero()).then(|| Instant::now() + timeout);
    let mut ending = Vec::new();
    let mut batch = engine.begin_deletion();
    for pod in pods.iter().skip(wanted) {
        let ended = batch.delete_object(
            ObjectKind::Pod,
            &workload.namespace,
            name_of(pod),
            &DeleteOptions::default(),
        )?;
        if let Deletion::Pod(pod) = ended {
            ending.push(pod);
        }
    }
    batch.finish()?;
    for pod in ending {
        if let Some(deadline) = deadline {
            pod.wait(Some(deadline.saturating_duration_since(Instant::now())))?;
        }
    }
    let taken = |name: &str| pods.iter().any(|pod| name_of(pod) == name);
    let free = (0..).map(|number| format!("{}-{number}", workload.name)).filter(|name| !taken(name));
    for name in free.take(wanted.saturating_sub(pods.len())) {
        let copy = copy_pod(&pods[0], &name);
        engine.create_object(ObjectKind::Pod, &workload.namespace, &copy, options)?;
    }
    Ok(())
}

/// Returns a pod like another, under another name.
fn copy_pod(pod: &Value, name: &str) -> Value {
    let mut copy = json!({"apiVersion": "v1", "kind": "Pod", "spec": pod["spec"],
        "metadata": {"name": name, "namespace": pod["metadata"]["namespace"], "labels": pod["metadata"]["labels"],
            "annotations": pod["metadata"]["annotations"]}});
    if let Some(spec) = copy["spec"].as_object_mut() {
        for own in ["nodeName", "ephemeralContainers", "hostname"] {
            spec.remove(own);
        }
    }
    copy
}

pub(super) fn rollout(command: &RolloutCommand, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let no_revisions = |args: &RolloutArgs, purpose: Purpose, what: &str| {
        // What is meant is looked for first.
        find_workloads((&args.names, &args.files), purpose, home, namespace)?;
        Err(Error::not_done(format!(
            "podctl keeps no revisions of workloads, so there is nothing to {what}: `podctl run -d --replace FILE` runs an earlier file anew"
        )))
    };
    match command {
        RolloutCommand::Restart(args) => {
            let output = args.output.parse()?;
            for workload in find_workloads((&args.names, &args.files), Purpose::Restart, home, namespace)? {
                for pod in workload.find_pods(&engine)? {
                    engine.pod(&workload.namespace, name_of(&pod))?.restart()?;
                }
                let object = json!({"apiVersion": "apps/v1", "kind": workload.kind,
                    "metadata": {"name": workload.name, "namespace": workload.namespace}});
                args.output.print_result(&output, &object, "restarted")?;
            }
            Ok(0)
        }
        RolloutCommand::Status { which, watch, timeout } => {
            for workload in find_workloads((&which.names, &which.files), Purpose::Status, home, namespace)? {
                wait_until_ready(&engine, &workload, *watch, *timeout)?;
            }
            Ok(0)
        }
        RolloutCommand::History(args) => no_revisions(args, Purpose::History, "show"),
        RolloutCommand::Undo(args) => no_revisions(args, Purpose::Undo, "go back to"),
        RolloutCommand::Pause(args) => no_revisions(args, Purpose::Pause, "pause"),
        RolloutCommand::Resume(args) => no_revisions(args, Purpose::Resume, "resume"),
    }
}

/// Waits until all pods of a workload are ready, and tells how far they are, in kubectl's words.
fn wait_until_ready(
    engine: &Engine,
    workload: &Workload,
    watch: bool,
    timeout: Duration,
) -> Result<(), Error> {
    let changes = engine.watch_objects()?;
    let deadline = (!timeout.is_zero()).then(|| Instant::now() + timeout);
    let kind = workload.kind.to_lowercase();
    let mut told = None;
    loop {
        changes.refresh();
        let pods = workload.find_pods(engine)?;
        let is_ready = |pod: &&Value| {
            let mut all = pod["status"]["conditions"].as_array().into_iter().flatten();
            all.any(|own| own["type"] == "Ready" && own["status"] == "True")
        };
        let (ready, all) = (pods.iter().filter(is_ready).count(), pods.len());
        if ready == all {
            println!("{kind} {:?} successfully rolled out", workload.name);
            return Ok(());
        }
        if told != Some((ready, all)) {
            println!(
                "Waiting for {kind} {:?} rollout to finish: {ready} of {all} updated replicas are available...",
                workload.name
            );
            told = Some((ready, all));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if !watch {
            return Ok(());
        }
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Error::TimedOut { pod: None });
        }
        changes.wait(Some(left.unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(1))));
    }
}
