//! `podctl run`: starts the pods of manifest files; in the foreground it shows their logs.

mod attached;
mod base_dir;
mod detached;
mod foreground;
mod image_pod;
mod notes;
mod report;
mod service_manager;
mod start;
mod user_namespace;

use self::{
    image_pod::{ImageArgs, Streams},
    start::{check_met, start_pod},
    user_namespace::{UserNamespace, parse_user_namespace},
};
use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use podctl_runtime::start_trace;

use crate::{
    cli::{
        Error, Namespace,
        applied_files::note_maker,
        attached_container,
        durations::parse_seconds,
        manifest_files::{FileArgs, list_names, read_manifest},
        manifest_services,
        output_formats::{DryRun, Output, parse_dry_run},
        run_plan,
        stored_objects::{self, already_exists, make_kept},
    },
    engine::{Engine, PodHandle, jobs::Queue},
    manifest::Source,
    network::ports::{self, HostPort},
    pod::quantity::quantity_bytes,
    pod::{ObjectKind, ObjectName},
    state::{Home, Liveness, PodDir},
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl run pod.yaml                       # its logs are shown; Ctrl-C ends it gracefully
  podctl run -d --wait ready -p 8080:80 web.yaml
  podctl run -it shell.yaml                 # this terminal is its first container's
  podctl run --configmap cm.yaml pod.yaml   # what the pod refers to, from another file
  podctl run web --image=nginx -p 8080:80   # an image alone, as kubectl runs one
  podctl run -it --rm try --image=busybox -- sh
  podctl run web --image=nginx --dry-run=client -o yaml >web.yaml

Signals of a run in the foreground: SIGINT (Ctrl-C) ends the pods gracefully, once more kills them, and the exit code is
130; SIGTERM ends them gracefully, and the exit code is theirs; SIGHUP, of a terminal that is closed, as SIGTERM.")]
pub(super) struct Args {
    /// Manifest files, directories of them or URLs, `-` for standard input; with --image the pod's name.
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    files: Vec<String>,
    #[command(flatten)]
    of_files: FileArgs,
    #[command(flatten)]
    of_image: ImageArgs,
    /// A file of ConfigMaps that the pods may refer to.
    #[arg(long, value_name = "FILE")]
    configmap: Vec<String>,
    /// A file of Secrets that the pods may refer to.
    #[arg(long, value_name = "FILE")]
    secret: Vec<String>,
    /// Leave the pods running and return.
    #[arg(short, long)]
    detach: bool,
    /// With --detach: wait until the pods are this far.
    #[arg(long, value_enum, default_value = "running")]
    wait: Wait,
    /// End running pods of the same names first.
    #[arg(long)]
    replace: bool,
    /// Attach to the pod's first (or annotated default) container and pass standard input on.
    #[arg(short = 'i', long, conflicts_with = "detach")]
    stdin: bool,
    /// Give that container a terminal.
    #[arg(short = 't', long)]
    tty: bool,
    /// Attach to that container alone instead of showing every log.
    #[arg(long, conflicts_with = "detach")]
    attach: bool,
    /// Keys that leave an attached container running.
    #[arg(long, default_value = attached_container::DETACH_KEYS)]
    detach_keys: String,
    /// No colours.
    #[arg(long)]
    no_color: bool,
    /// What a failed init container does: retry alone, or restart the whole pod.
    #[arg(long, value_enum, default_value = "retry")]
    init_failure: InitFailure,
    /// First wait before a container is restarted, or a job's pod replaced, in seconds.
    #[arg(long, default_value = "10", value_parser = parse_seconds)]
    backoff_initial: Duration,
    /// Longest wait before a container is restarted, or a job's pod replaced, in seconds.
    #[arg(long, default_value = "300", value_parser = parse_seconds)]
    backoff_max: Duration,
    /// A container's log file that has grown so large is put aside.
    #[arg(long, default_value = "10Mi", value_parser = size)]
    log_max_size: u64,
    /// So many log files of a container are kept.
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u16).range(2..))]
    log_max_files: u16,
    /// Logs of so many earlier starts of a container are kept; `logs --previous` shows the last of them.
    #[arg(long, default_value = "1")]
    log_earlier_starts: u32,
    /// Print what would be done, and do nothing; with --image also `client` and `server`, and -o.
    #[arg(long, value_name = "none|client|server", num_args = 0..=1, require_equals = true,
        default_missing_value = "plan", value_parser = parse_plan)]
    dry_run: Option<Plan>,
    /// A hostPath that is relative is one beneath this directory.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    base_dir: Option<PathBuf>,
    /// Stop when a limit of a pod cannot be enforced here.
    #[arg(long)]
    strict_limits: bool,
    /// A sysctl beyond the safe ones that pods may set, such as `net.core.somaxconn` or `kernel.msg*`.
    #[arg(long, value_name = "SYSCTL", value_delimiter = ',')]
    allowed_unsafe_sysctls: Vec<String>,
    /// Refuse files with objects that mean nothing here, such as Roles, which are passed over else.
    #[arg(long)]
    strict_kinds: bool,
    /// What the pods are on: the network of this user's pods, the host's own, or loopback alone.
    #[arg(long, value_enum, default_value = "podctl")]
    network: Network,
    /// Publish a port of the pod on this machine, beside its hostPorts.
    #[arg(short, long, value_name = "[IP:]HOST:POD[/udp]", value_parser = ports::parse)]
    publish: Vec<HostPort>,
    /// Publish every containerPort on a free port of this machine.
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Let files of images whose owners have no id here belong to root, instead of failing the pull.
    #[arg(long)]
    squash_ids: bool,
    /// Who this user is in the pods: `keep-id`, the same user; `keep-id:uid=N,gid=N`, that one; `host`, root, as without it.
    #[arg(long, value_name = "MODE", value_parser = parse_user_namespace)]
    userns: Option<UserNamespace>,
    /// At the end write how each container ended into this file: JUnit's XML when its name ends in .xml, else JSON.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["detach", "stdin", "attach"])]
    report: Option<PathBuf>,
    /// Print each step of the start with its microseconds on standard error.
    #[arg(long)]
    trace_start: bool,
}

/// Names what `--dry-run` asks for.
#[derive(Clone, Copy, PartialEq)]
enum Plan {
    /// What a run would do.
    Explained,
    /// As kubectl has it.
    Dry(DryRun),
}

fn parse_plan(text: &str) -> Result<Plan, String> {
    if text == "plan" { Ok(Plan::Explained) } else { parse_dry_run(text).map(Plan::Dry) }
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Wait {
    /// Every app container is ready.
    Ready,
    /// Every app container has been started.
    Running,
    /// Return at once.
    None,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum InitFailure {
    Retry,
    RestartPod,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Network {
    Podctl,
    Host,
    None,
}

/// `10Mi`, `1000000`.
fn size(text: &str) -> Result<u64, String> {
    match quantity_bytes(text)? {
        0 => Err("must be greater than 0".into()),
        bytes => Ok(bytes),
    }
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if args.trace_start {
        start_trace::begin(start_trace::now());
    }
    if args.no_color {
        anstream::ColorChoice::Never.write_global();
    }
    let maps = args.configmap.iter().map(|file| (ObjectKind::ConfigMap, file));
    let secrets = args.secret.iter().map(|file| (ObjectKind::Secret, file));
    let stored = stored_objects::read_stored(home, &maps.chain(secrets).collect::<Vec<_>>())?;
    let sources = match &args.of_image.image {
        Some(image) => match args.make_image_sources(image, home, namespace)? {
            Some(sources) => sources,
            None => return Ok(0),
        },
        None => args.named_files()?.read_sources()?,
    };
    let sources = match &args.base_dir {
        Some(base) => base_dir::resolve_host_paths(sources, base, &stored, namespace)?,
        None => sources,
    };
    let mut manifest = read_manifest(&sources, &stored, namespace)?;
    if let Some(manager) = args.of_image.manager.name() {
        note_maker(&mut manifest.pods, &manifest.written, manager)?;
    }
    if args.strict_kinds && !manifest.passed_over.is_empty() {
        let (count, files) = (manifest.passed_over.len(), list_names(&sources));
        return Err(Error::PassedOver { files, count });
    }
    start_trace::mark("client", "read the manifest");
    let dry = args.is_dry();
    if !dry {
        let kept = manifest_services::take_kept_services(home, namespace, &mut manifest)?;
        let alone = !kept.is_empty() && manifest.pods.is_empty() && manifest.jobs.is_empty();
        manifest_services::keep_services(home, namespace, kept, false)?;
        if alone {
            return Ok(0);
        }
    }
    if manifest.pods.is_empty() && manifest.jobs.is_empty() {
        return Err(Error::absent(
            "the files hold no Pod; `podctl apply -f` keeps ConfigMaps, Secrets and claims for later",
        ));
    }
    if dry {
        return run_plan::explain_plan(&manifest, home, args.userns.and_then(UserNamespace::kept_ids));
    }
    let mut jobs = std::mem::take(&mut manifest.jobs);
    check_met(&manifest.pods, &jobs)?;
    if let Some(why) = jobs.iter().find_map(|job| job.find_standstill()) {
        return Err(Error::contradiction(why));
    }
    if args.detach {
        for job in jobs.drain(..) {
            manifest.pods.extend(detached::pods_of(&job)?);
        }
    }
    if (args.stdin || args.attach) && !jobs.is_empty() {
        return Err(Error::contradiction(
            "a job's pods come and go, and a terminal is for one pod; run it without --stdin and --attach",
        ));
    }
    if (args.stdin || args.attach) && manifest.pods.len() > 1 {
        return Err(Error::contradiction(
            "one terminal can be attached to one pod only; run the others with -d",
        ));
    }
    if manifest.pods.len() > 1 && !args.publish.is_empty() {
        let words = "--publish is for one pod, and the files hold several: give them hostPorts";
        return Err(Error::contradiction(words));
    }
    let mut started = Vec::new();
    // From here on a Ctrl-C ends what has been started.
    let signals = foreground::signals()?;
    let from = [&manifest, &stored];
    for pod in &manifest.pods {
        match start_pod(args, home, pod.clone(), from) {
            Ok(pod) => started.push(pod),
            Err(e) => {
                for pod in &started {
                    // The failure that is told is that of the start; what is left of the others shows in `get`.
                    let _ = PodHandle::of(home, &pod.dir).delete(Some(Duration::ZERO));
                }
                return Err(e);
            }
        }
    }
    if args.detach || args.of_image.image.is_some() && !(args.stdin || args.attach) {
        return detached::wait(args, &started, home, &signals);
    }
    if args.stdin || args.attach {
        return started.pop().map_or(Ok(0), |pod| attached::attached(args, home, pod, &signals));
    }
    let start = |pod: Pod| start_pod(args, home, pod, from);
    let backoff = (args.backoff_initial, args.backoff_max);
    let queue = Queue::new(jobs, backoff);
    let mut ended = Vec::new();
    let code = foreground::run_foreground(started, queue, &start, home, &signals, &mut ended);
    if let Some(file) = &args.report {
        report::write_report(file, &ended)?;
    }
    code
}

impl Args {
    /// The files that are named, by words and flags.
    fn named_files(&self) -> Result<FileArgs, Error> {
        let mut files = self.of_files.clone();
        files.filename.splice(0..0, self.files.iter().cloned());
        if !self.of_image.arguments.is_empty() {
            let what = "what follows `--` is for the container of an image: `podctl run NAME --image=IMAGE -- WORD…`";
            return Err(Error::contradiction(what));
        }
        match files.is_given() {
            true => Ok(files),
            false => Err(Error::missing(
                "name what to run: `podctl run FILE…` for manifests, `podctl run NAME --image=IMAGE` for an image",
            )),
        }
    }

    /// Says that a pod runs, or prints it as `-o` has it.
    fn tell_started(&self, home: &Home, dir: &PodDir, word: &str) -> Result<(), Error> {
        let own = &self.of_image.output;
        match own.parse()? {
            Output::Table { .. } => println!("pod/{} {word}", dir.name),
            output => {
                let pod = Engine::over(home).get_object(ObjectKind::Pod, &dir.namespace, &dir.name)?;
                own.print_result(&output, &pod, word)?;
            }
        }
        Ok(())
    }

    fn is_dry(&self) -> bool {
        self.dry_run.is_some_and(|plan| plan != Plan::Dry(DryRun::None))
    }

    /// The manifest of `run NAME --image=IMAGE`; `None` when it was only to be shown.
    fn make_image_sources(
        &self,
        image: &str,
        home: &Home,
        namespace: &Namespace,
    ) -> Result<Option<Vec<Source>>, Error> {
        let own = &self.of_image;
        let dry = match self.dry_run {
            Some(Plan::Dry(dry)) => dry,
            _ => DryRun::None,
        };
        let streams = Streams { stdin: self.stdin, tty: self.tty, attach: self.attach };
        let pod = own.make_pod(image, &self.files, streams, dry)?;
        let service = own.make_service(&pod);
        if dry.is_dry() {
            let output = own.output.parse()?;
            let all = [(ObjectKind::Pod, Some(pod)), (ObjectKind::Service, service)];
            for (kind, object) in all.into_iter().filter_map(|(kind, object)| Some((kind, object?))) {
                let made = make_kept(kind, object, (dry, None), home, namespace)?;
                own.output.print_result(&output, &made, &format!("created{}", dry.suffix()))?;
            }
            return Ok(None);
        }
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let place = ObjectName::parse(name).map(|name| home.pod(namespace, &name));
        if !self.replace && place.is_ok_and(|dir| dir.read_liveness() == Liveness::Alive) {
            return Err(already_exists(ObjectKind::Pod, name));
        }
        let all = [Some(pod), service];
        let sources = all.into_iter().flatten().map(|object| own.save.note(object));
        Ok(Some(sources.map(|object| image_pod::into_source(object, namespace)).collect()))
    }
}
