//! `podctl debug`: an ephemeral container in a running pod (R-EPH-1, R-EPH-2), or a changed copy of it.

use std::os::fd::OwnedFd;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace,
        attached_container::{DETACH_KEYS, Wanted, attach_over},
        io,
        target_pod::TargetFileArgs,
        terminal_session::refused,
        warn,
    },
    engine::{self, DebugCopy, DebugError, DebugOptions, DebugProfile, Engine, PodHandle},
    manifest::{Source, partial_container},
    pod::ObjectKind,
    state::{Home, PodDir},
    wire::Request,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl debug -it web --image=busybox                  # beside the pod's containers: localhost is theirs
  podctl debug -it web --image=busybox --target=app     # sees app's processes; /proc/1/root is its root
  podctl debug -it web --image=busybox --copy-to=web2   # in a copy of the pod, without its probes
  podctl debug -it web --copy-to=web2 -c app -- sh      # the copy's app runs a shell instead")]
pub(super) struct Args {
    /// The pods to debug, `NAME` or `pod/NAME`.
    pods: Vec<String>,
    #[command(flatten)]
    file: TargetFileArgs,
    /// Image of the debug container.
    #[arg(long)]
    image: Option<String>,
    /// See the processes of this container.
    #[arg(long, conflicts_with = "copy_to")]
    target: Option<String>,
    /// Pass standard input on to the debug container.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the debug container a terminal.
    #[arg(short = 't', long)]
    tty: bool,
    /// Name of the debug container; with --copy-to also of one that is to be changed.
    #[arg(short, long)]
    container: Option<String>,
    /// Start a changed copy of the pod under this name instead.
    #[arg(long)]
    copy_to: Option<String>,
    /// With --copy-to: delete the original.
    #[arg(long)]
    replace: bool,
    /// With --copy-to: containers of the copy see each other's processes; the default there.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    share_processes: Option<bool>,
    /// With --copy-to: on the same node; there is one.
    #[arg(long)]
    same_node: bool,
    /// With --copy-to: NAME=IMAGE, `*` for every container.
    #[arg(long, value_delimiter = ',', value_parser = parse_pair)]
    set_image: Vec<String>,
    /// NAME=VALUE for the debug container.
    #[arg(long, value_parser = parse_pair)]
    env: Vec<String>,
    /// Always, IfNotPresent or Never.
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// Attach to it; the default with -i.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    attach: Option<bool>,
    /// Print nothing but the container's own output.
    #[arg(short, long)]
    quiet: bool,
    /// What the debug container may do.
    #[arg(long, default_value = "general", value_parser = DebugProfile::NAMES)]
    profile: String,
    /// A JSON or YAML file with more fields of the debug container.
    #[arg(long)]
    custom: Option<String>,
    /// What follows `--` is its args, not its command.
    #[arg(long)]
    arguments_only: bool,
    /// With --copy-to: keep the labels.
    #[arg(long)]
    keep_labels: bool,
    /// With --copy-to: keep the annotations.
    #[arg(long)]
    keep_annotations: bool,
    /// With --copy-to: keep liveness probes.
    #[arg(long)]
    keep_liveness: bool,
    /// With --copy-to: keep readiness probes.
    #[arg(long)]
    keep_readiness: bool,
    /// With --copy-to: keep startup probes.
    #[arg(long)]
    keep_startup: bool,
    /// With --copy-to: run the init containers.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    keep_init_containers: bool,
    /// What the debug container runs instead of its image's command.
    #[arg(last = true)]
    command: Vec<String>,
}

/// The words of kubectl's about a command line that names no image.
const NO_IMAGE: &str = "you must specify --image when not using --copy-to.";

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if args.copy_to.as_ref().is_none_or(String::is_empty) && args.image.as_ref().is_none_or(String::is_empty)
    {
        return Err(Error::missing(NO_IMAGE));
    }
    args.check_values()?;
    if args.pods.is_empty() && args.file.filename.is_empty() {
        return Err(Error::missing("NAME or filename is required for debug"));
    }
    let mut code = 0;
    let words: Vec<Option<&str>> = match args.pods.is_empty() {
        true => vec![None],
        false => args.pods.iter().map(|word| Some(word.as_str())).collect(),
    };
    for word in words {
        if let Some(("node" | "nodes" | "no", name)) = word.and_then(|word| word.split_once('/')) {
            Engine::over(home).get_object(ObjectKind::Node, namespace, name)?;
            return Err(Error::not_done(
                "this machine is the one node: its own shell debugs it, or `podctl run --network host`",
            ));
        }
        let dir = args.file.find_pod(home, namespace, word, None)?;
        code = debug_pod(args, home, &dir)?;
    }
    Ok(code)
}

fn debug_pod(args: &Args, home: &Home, dir: &PodDir) -> Result<i32, Error> {
    if args.tty && !args.stdin {
        return Err(Error::missing("-i/--stdin is required for containers with -t/--tty=true"));
    }
    if args.attach == Some(false) && args.stdin && args.tty {
        args.say("the debug container keeps its terminal; `podctl attach -it` reaches it");
    }
    let pod = PodHandle::of(home, dir);
    match &args.copy_to {
        Some(name) => args.start_copy(&pod, name),
        None => args.add_container(&pod),
    }
}

impl Args {
    fn say(&self, words: &str) {
        if !self.quiet {
            eprintln!("{words}");
        }
    }

    /// Says on standard output, as kubectl does, which container it is.
    fn tell(&self, words: &str) {
        if !self.quiet {
            println!("{words}");
        }
    }

    /// Refuses values that mean nothing, and flags of a copy where there is to be none.
    fn check_values(&self) -> Result<(), Error> {
        if self.copy_to.is_none() {
            let of_copies = [
                (!self.set_image.is_empty(), "set-image"),
                (self.same_node, "same-node"),
                (self.replace, "replace"),
            ];
            if let Some((_, flag)) = of_copies.into_iter().find(|(given, _)| *given) {
                return Err(Error::contradiction(format!("--{flag} may only be used with --copy-to.")));
            }
        }
        match self.image_pull_policy.as_deref() {
            Some(policy) if !["", "Always", "IfNotPresent", "Never"].contains(&policy) => {
                Err(Error::bad_value(format!("invalid image pull policy: {policy}")))
            }
            _ => Ok(()),
        }
    }

    fn read_options(&self) -> Result<DebugOptions, Error> {
        Ok(DebugOptions {
            image: self.image.clone(),
            name: self.container.clone(),
            target: self.target.clone(),
            stdin: self.stdin,
            tty: self.tty,
            env: parse_variables(&self.env)?,
            words: self.command.clone(),
            arguments_only: self.arguments_only,
            pull_policy: self.image_pull_policy.clone().filter(|policy| !policy.is_empty()),
            profile: DebugProfile::parse(&self.profile).unwrap_or_default(),
            custom: self.custom.as_deref().map(read_custom_fields).transpose()?,
            progress: true,
        })
    }

    fn add_container(&self, pod: &PodHandle) -> Result<i32, Error> {
        for (given, flag) in [
            (self.keep_labels, "--keep-labels"),
            (self.keep_annotations, "--keep-annotations"),
            (self.keep_liveness, "--keep-liveness"),
            (self.keep_readiness, "--keep-readiness"),
            (self.keep_startup, "--keep-startup"),
            (self.share_processes.is_some(), "--share-processes"),
        ] {
            if given {
                return Err(Error::contradiction(format!("{flag} may only be used with --copy-to")));
            }
        }
        let options = self.read_options()?;
        let container = pod.make_debug_container(&options).map_err(name_flag)?;
        let name = container.name.clone();
        if let Some(target) = &self.target {
            self.tell(&format!(
                "Targeting container {target:?}. If you don't see processes from this container it may be because it has ended."
            ));
            self.tell_restrictions(&options, &pod.pod()?, target);
        }
        self.tell_name(&options, &name);
        self.warn_of_limits(&options);
        let wants = self.attach.unwrap_or(self.stdin);
        match pod.add_debug_container(container, &options, wants) {
            Ok((socket, warning)) => {
                warning.iter().for_each(|warning| warn(warning));
                socket.map_or(Ok(0), |socket| self.attach_session(pod, &name, socket))
            }
            Err(engine::Error::Refused { message, exit_code }) => Ok(refused(&message, exit_code)),
            Err(engine::Error::Ended(pod)) => Err(Error::Ended { pod, when: "meanwhile" }),
            Err(e) => Err(name_flag(e)),
        }
    }

    fn start_copy(&self, pod: &PodHandle, name: &str) -> Result<i32, Error> {
        let options = self.read_options()?;
        let image = |word: &String| {
            let pair = word.split_once('=').map(|(name, image)| (name.to_owned(), image.to_owned()));
            pair.ok_or_else(|| Error::bad_value(format!("--set-image {word:?}: write NAME=IMAGE")))
        };
        let copy = DebugCopy {
            share_processes: self.share_processes != Some(false),
            images: self.set_image.iter().map(image).collect::<Result<_, _>>()?,
            keep_labels: self.keep_labels,
            keep_annotations: self.keep_annotations,
            keep_liveness: self.keep_liveness,
            keep_readiness: self.keep_readiness,
            keep_startup: self.keep_startup,
            keep_init_containers: self.keep_init_containers,
            ..DebugCopy::named(name)
        };
        let (copied, container) = pod.make_copy(&options, &copy).map_err(name_flag)?;
        if self.image.is_some() {
            container.iter().for_each(|name| self.tell_name(&options, name));
            self.warn_of_limits(&options);
        }
        let container = container.filter(|_| self.attach.unwrap_or(self.stdin));
        let first = container.clone().map(|container| Request::Attach { container, input: self.stdin });
        let mut started = pod.start_copy(copied, &options, first.as_ref(), self.replace)?;
        started.warnings.iter().for_each(|w| warn(w));
        let copy = pod.beside(&started.dir);
        match (container, started.first.take()) {
            (Some(container), Some(socket)) => self.attach_session(&copy, &container, socket),
            _ => Ok(0),
        }
    }

    /// Says which name was made up.
    fn tell_name(&self, options: &DebugOptions, name: &str) {
        if options.name.is_none() {
            self.tell(&format!("Defaulting debug container name to {name}."));
        }
    }

    /// Warns of what the profile cannot give without root.
    fn warn_of_limits(&self, options: &DebugOptions) {
        if options.profile == DebugProfile::Sysadmin && !nix::unistd::geteuid().is_root() {
            warn(
                "without root, --profile=sysadmin is privileged over this pod's own namespaces only: devices, modules and the clock of the host stay out of reach",
            );
        }
    }

    /// Says what the kernel will refuse this debug container, and what to do.
    fn tell_restrictions(&self, options: &DebugOptions, pod: &Pod, target: &str) {
        let spec = pod.spec.as_ref();
        let user = spec
            .and_then(|s| s.containers.iter().find(|c| c.name == target))
            .and_then(|c| c.security_context.as_ref()?.run_as_user)
            .or(spec.and_then(|s| s.security_context.as_ref()?.run_as_user));
        let traces = matches!(options.profile, DebugProfile::General | DebugProfile::Sysadmin);
        if let Some(user) = user.filter(|u| *u != 0 && !traces) {
            self.say(&format!(
                "Container {target:?} runs as user {user}: reading /proc/1/root and strace need the capability SYS_PTRACE, which --profile=general gives."
            ));
        }
    }

    fn attach_session(&self, pod: &PodHandle, container: &str, socket: OwnedFd) -> Result<i32, Error> {
        let wanted = Wanted { stdin: self.stdin, tty: self.tty, quiet: self.quiet, keys: DETACH_KEYS };
        let ended = attach_over(pod, container, &wanted, socket)?.code();
        if ended.is_none() {
            let name = pod.name();
            self.say(&format!(
                "Session ended, the debug container keeps running; resume using 'podctl attach {name} -c {container} -i -t'"
            ));
        }
        Ok(ended.unwrap_or(0))
    }
}

/// Names the flag that an error is about.
fn name_flag(error: engine::Error) -> Error {
    let engine::Error::Debug(debug) = &error else { return error.into() };
    match debug {
        DebugError::NoImage { .. } => Error::missing(format!("you must specify --image: {debug}")),
        DebugError::NoContainer(_) => Error::bad_value(format!("--set-image: {debug}")),
        DebugError::CustomField { .. } => Error::bad_value(format!("--custom: {debug}")),
    }
}

/// Reads the fields of `--custom`'s file.
fn read_custom_fields(path: &str) -> Result<Value, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::unreadable(format!(
            "must pass a container spec json file for custom profile: open {path}: no such file or directory"
        )),
        _ => io(format!("cannot read {path}"))(e),
    })?;
    let source = Source { name: path.to_owned(), text };
    partial_container(&source)
        .map_err(|all| Error::unreadable(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// Reads words that stand on both sides of a sign, as kubectl does, which looks no further than for that.
fn parse_pair(text: &str) -> Result<String, String> {
    match text.contains('=') {
        true => Ok(text.to_owned()),
        false => Err(format!("{text} must be formatted as key=value")),
    }
}

/// Reads variables, as kubectl's list flags have them: commas part them only where there are several in a word.
fn parse_variables(words: &[String]) -> Result<Vec<(String, String)>, Error> {
    let variable = |word: &str| {
        let pair = word.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) =
            pair.ok_or_else(|| Error::bad_value(format!("invalid env: {word:?}; write NAME=VALUE")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let parts = words.iter().flat_map(|word| match word.matches('=').count() > 1 {
        true => word.split(',').collect(),
        false => vec![word.as_str()],
    });
    parts.map(variable).collect()
}
