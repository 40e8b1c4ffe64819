//! `podctl debug`: an ephemeral container in a running pod (R-EPH-1, R-EPH-2), or a changed copy of it.

mod copied_pod;
mod profile;

use std::os::fd::OwnedFd;

use self::profile::Profile;

use k8s_openapi::api::core::v1::{Container, EnvVar, EphemeralContainer, Pod};
use podctl_images::{Reference, Store};
use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace,
        attached_container::{DETACH_KEYS, Wanted, attach_over},
        image_store, io,
        target_pod::TargetFileArgs,
        terminal_session::refused,
        warn,
    },
    engine::{self, PodHandle, start},
    pod::PodExt,
    state::{Home, PodDir},
    wire::{Options, Request, read_start_record},
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl debug -it web --image=busybox                  # beside the pod's containers: localhost is theirs
  podctl debug -it web --image=busybox --target=app     # sees app's processes; /proc/1/root is its root
  podctl debug -it web --image=busybox --copy-to=web2   # in a copy of the pod, without its probes
  podctl debug -it web --copy-to=web2 -c app -- sh      # the copy's app runs a shell instead")]
pub(super) struct Args {
    /// The pod to debug, `NAME` or `pod/NAME`.
    #[arg(required_unless_present = "filename")]
    pod: Option<String>,
    #[command(flatten)]
    file: TargetFileArgs,
    /// Image of the debug container.
    #[arg(long)]
    pub image: Option<String>,
    /// See the processes of this container.
    #[arg(long, conflicts_with = "copy_to")]
    target: Option<String>,
    /// Pass standard input on to the debug container.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the debug container a terminal.
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Name of the debug container; with --copy-to also of one that is to be changed.
    #[arg(short, long)]
    pub container: Option<String>,
    /// Start a changed copy of the pod under this name instead.
    #[arg(long)]
    pub copy_to: Option<String>,
    /// With --copy-to: delete the original.
    #[arg(long, requires = "copy_to")]
    pub replace: bool,
    /// With --copy-to: containers of the copy see each other's processes; the default there.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub share_processes: Option<bool>,
    /// Accepted, and without effect: there is one node.
    #[arg(long)]
    same_node: bool,
    /// With --copy-to: NAME=IMAGE, `*` for every container.
    #[arg(long, value_delimiter = ',', requires = "copy_to")]
    pub set_image: Vec<String>,
    /// NAME=VALUE for the debug container.
    #[arg(long)]
    env: Vec<String>,
    /// Always, IfNotPresent or Never.
    #[arg(long, value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// Attach to it; the default with -i.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    attach: Option<bool>,
    /// Print nothing but the container's own output.
    #[arg(short, long)]
    quiet: bool,
    /// What the debug container may do.
    #[arg(long, value_enum, default_value = "general")]
    profile: Profile,
    /// A JSON or YAML file with more fields of the debug container.
    #[arg(long)]
    custom: Option<String>,
    /// What follows `--` is its args, not its command.
    #[arg(long)]
    arguments_only: bool,
    /// With --copy-to: keep the labels.
    #[arg(long)]
    pub keep_labels: bool,
    /// With --copy-to: keep the annotations.
    #[arg(long)]
    pub keep_annotations: bool,
    /// With --copy-to: keep liveness probes.
    #[arg(long)]
    pub keep_liveness: bool,
    /// With --copy-to: keep readiness probes.
    #[arg(long)]
    pub keep_readiness: bool,
    /// With --copy-to: keep startup probes.
    #[arg(long)]
    pub keep_startup: bool,
    /// With --copy-to: run the init containers.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub keep_init_containers: bool,
    /// What the debug container runs instead of its image's command.
    #[arg(last = true)]
    command: Vec<String>,
}

impl Args {
    fn profile(&self) -> Profile {
        self.profile
    }
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let dir = args.file.find_pod(home, namespace, args.pod.as_deref())?;
    if args.tty && !args.stdin {
        return Err(Error::Said("-i/--stdin is required for containers with -t/--tty=true".into()));
    }
    if args.attach == Some(false) && args.stdin && args.tty {
        say(args, "the debug container keeps its terminal; `podctl attach -it` reaches it");
    }
    let pod = dir.read()?;
    if args.copy_to.is_some() { copy(args, home, &dir, pod) } else { ephemeral(args, home, &dir, &pod) }
}

pub(super) fn say(args: &Args, words: &str) {
    if !args.quiet {
        eprintln!("{words}");
    }
}

fn ephemeral(args: &Args, home: &Home, dir: &PodDir, pod: &Pod) -> Result<i32, Error> {
    for (given, flag) in [
        (args.keep_labels, "--keep-labels"),
        (args.keep_annotations, "--keep-annotations"),
        (args.keep_liveness, "--keep-liveness"),
        (args.keep_readiness, "--keep-readiness"),
        (args.keep_startup, "--keep-startup"),
        (args.share_processes.is_some(), "--share-processes"),
    ] {
        if given {
            return Err(Error::Said(format!("{flag} may only be used with --copy-to")));
        }
    }
    // Before an image is fetched for a pod that has ended.
    drop(engine::dial(dir)?);
    let container = debug_container(args, home, pod)?;
    if let Some(target) = &args.target {
        say(
            args,
            &format!(
                "Targeting container {target:?}. If you don't see processes from this container it may be because it has ended."
            ),
        );
        restrictions(args, pod, target);
    }
    fetch(
        args,
        home,
        container.image.as_deref().unwrap_or_default(),
        container.image_pull_policy.as_deref(),
    )?;
    let added = EphemeralContainer {
        target_container_name: args.target.clone(),
        ..serde_json::to_value(&container)
            .and_then(serde_json::from_value)
            .map_err(|e| Error::Said(format!("--custom: {e}")))?
    };
    let wants = args.attach.unwrap_or(args.stdin);
    let pod = PodHandle::of(home, dir);
    match pod.add_ephemeral(added, wants) {
        Ok(Some(socket)) => session(args, &pod, &container.name, socket),
        Ok(None) => Ok(0),
        Err(engine::Error::Refused { message, exit_code }) => Ok(refused(&message, exit_code)),
        Err(engine::Error::Ended(pod)) => Err(Error::Said(format!("pod {pod:?} has ended meanwhile"))),
        Err(e) => Err(e.into()),
    }
}

fn session(args: &Args, pod: &PodHandle, container: &str, socket: OwnedFd) -> Result<i32, Error> {
    let wanted = Wanted { stdin: args.stdin, tty: args.tty, quiet: args.quiet, keys: DETACH_KEYS };
    let ended = attach_over(pod, container, &wanted, socket)?.code();
    if ended.is_none() {
        let name = pod.name();
        say(
            args,
            &format!(
                "Session ended, the debug container keeps running; resume using 'podctl attach {name} -c {container} -i -t'"
            ),
        );
    }
    Ok(ended.unwrap_or(0))
}

/// The debug container as flags, profile and --custom describe it.
pub(super) fn debug_container(args: &Args, home: &Home, pod: &Pod) -> Result<Container, Error> {
    let Some(image) = args.image.clone() else {
        let store = Store::open(&home.images())?;
        let present: Vec<String> = store.list()?.into_iter().map(|i| i.reference).collect();
        let offer = match present.is_empty() {
            true => "none is present here".to_owned(),
            false => format!("present here are: {}", present.join(", ")),
        };
        return Err(Error::Said(format!("you must specify --image for the debug container; {offer}")));
    };
    image.parse::<Reference>()?;
    let name = args.container.clone().unwrap_or_else(|| {
        let name = crate::manifest::generated_name("debugger-");
        say(args, &format!("Defaulting debug container name to {name}."));
        name
    });
    let always = image.rsplit('/').next().is_some_and(|n| !n.contains(['@', ':']) || n.ends_with(":latest"));
    let mut container = Container {
        name,
        image: Some(image),
        env: (!args.env.is_empty()).then(|| environment(&args.env)).transpose()?,
        image_pull_policy: Some(
            args.image_pull_policy.clone().unwrap_or(if always { "Always" } else { "IfNotPresent" }.into()),
        ),
        stdin: args.stdin.then_some(true),
        tty: args.tty.then_some(true),
        termination_message_policy: Some("File".into()),
        ..Container::default()
    };
    command(args, &mut container);
    profile::apply(args.profile, &mut container.security_context);
    if args.profile == Profile::Sysadmin && !nix::unistd::geteuid().is_root() {
        warn(
            "without root, --profile=sysadmin is privileged over this pod's own namespaces only: devices, modules and the clock of the host stay out of reach",
        );
    }
    match &args.custom {
        Some(path) => custom(container, path, pod),
        None => Ok(container),
    }
}

pub(super) fn command(args: &Args, container: &mut Container) {
    if args.command.is_empty() {
        return;
    }
    match args.arguments_only {
        true => container.args = Some(args.command.clone()),
        false => {
            container.command = Some(args.command.clone());
            container.args = None;
        }
    }
}

pub(super) fn environment(words: &[String]) -> Result<Vec<EnvVar>, Error> {
    let one = |word: &String| {
        let (name, value) = word
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Error::Said(format!("invalid env: {word:?}; write NAME=VALUE")))?;
        Ok(EnvVar { name: name.into(), value: Some(value.into()), value_from: None })
    };
    // As kubectl's list flags have it: commas part variables only where there are several.
    let parts = words.iter().flat_map(|word| match word.matches('=').count() > 1 {
        true => word.split(',').map(str::to_owned).collect(),
        false => vec![word.clone()],
    });
    parts.collect::<Vec<_>>().iter().map(one).collect()
}

/// Lays the fields of a file over the container.
fn custom(container: Container, path: &str, pod: &Pod) -> Result<Container, Error> {
    let wrong = |what: String| Error::Said(format!("--custom {path}: {what}"));
    let text = std::fs::read_to_string(path).map_err(io(format!("cannot read {path}")))?;
    let source = crate::manifest::Source { name: path.to_owned(), text };
    let over = crate::manifest::partial_container(&source)
        .map_err(|all| Error::Said(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    const FLAGS: &[&str] = &["name", "image", "command", "targetContainerName"];
    if let Some(name) = FLAGS.iter().find(|n| over.get(n).is_some()) {
        return Err(wrong(format!("{name}: may not be set here; there is a flag for it")));
    }
    let mut value = serde_json::to_value(&container).map_err(|e| wrong(e.to_string()))?;
    merge(&mut value, &over);
    let merged: Container = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
    let known: Vec<_> = pod.volumes().map(|v| &v.name).collect();
    for mount in merged.volume_mounts.iter().flatten() {
        if mount.sub_path.is_some() || mount.sub_path_expr.is_some() {
            return Err(wrong("volumeMounts: subPath cannot be set for an ephemeral container".into()));
        }
        if !known.contains(&&mount.name) {
            return Err(wrong(format!("volumeMounts: the pod has no volume {:?}", mount.name)));
        }
    }
    Ok(merged)
}

/// Objects field by field; lists of named things by name, as the API merges them.
fn merge(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(value), Value::Object(over)) => {
            for (name, over) in over {
                merge(value.entry(name.clone()).or_insert(Value::Null), over);
            }
        }
        (Value::Array(value), Value::Array(over)) => {
            for over in over {
                let key = |v: &Value| v.get("mountPath").or(v.get("name")).cloned();
                match value.iter_mut().find(|v| key(v).is_some() && key(v) == key(over)) {
                    Some(known) => merge(known, over),
                    None => value.push(over.clone()),
                }
            }
        }
        (value, over) => *value = over.clone(),
    }
}

/// The pod's own processes cannot fetch: the image has to be there before they are asked.
fn fetch(args: &Args, home: &Home, image: &str, policy: Option<&str>) -> Result<(), Error> {
    let store = Store::open(&home.images())?;
    let present = store.find(&image.parse::<Reference>()?)?.is_some();
    match (policy, present) {
        (Some("Never"), false) => {
            Err(Error::Said(format!("Container image {image:?} is not present with pull policy of Never")))
        }
        (Some("Never"), true) | (Some("IfNotPresent"), true) => Ok(()),
        _ => match image_store::fetch_image(home, image)? {
            0 => Ok(()),
            _ if present && args.image_pull_policy.is_none() => {
                warn(&format!("{image} could not be fetched; the one that is present is used"));
                Ok(())
            }
            _ => Err(Error::Said(format!("the debug container was not added: {image} cannot be had"))),
        },
    }
}

/// Does what the kernel will refuse this debug container, and what to do.
fn restrictions(args: &Args, pod: &Pod, target: &str) {
    let spec = pod.spec.as_ref();
    let user = spec
        .and_then(|s| s.containers.iter().find(|c| c.name == target))
        .and_then(|c| c.security_context.as_ref()?.run_as_user)
        .or(spec.and_then(|s| s.security_context.as_ref()?.run_as_user));
    let traces = matches!(args.profile, Profile::General | Profile::Sysadmin);
    if let Some(user) = user.filter(|u| *u != 0 && !traces) {
        say(
            args,
            &format!(
                "Container {target:?} runs as user {user}: reading /proc/1/root and strace need the capability SYS_PTRACE, which --profile=general gives."
            ),
        );
    }
}

fn copy(args: &Args, home: &Home, dir: &PodDir, pod: Pod) -> Result<i32, Error> {
    let (copy, container) = copied_pod::pod(args, home, &pod)?;
    let objects = read_start_record(dir)?.objects;
    if args.replace {
        PodHandle::of(home, dir).delete(None)?;
    }
    let container = container.filter(|_| args.attach.unwrap_or(args.stdin));
    let first = container.clone().map(|container| Request::Attach { container, input: args.stdin });
    let options = Options { progress: true, ..Options::default() };
    let copy = crate::manifest::check_pod(copy, None).map_err(engine::Error::Manifest)?;
    let started = start::start(home, copy, objects, &options, first.as_ref())?;
    started.warnings.iter().for_each(|w| warn(w));
    let pod = PodHandle::of(home, &started.dir);
    let mut started = started;
    match (container, started.first.take()) {
        (Some(container), Some(socket)) => session(args, &pod, &container, socket),
        _ => Ok(0),
    }
}
