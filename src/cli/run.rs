//! `podctl run`: starts the pods of manifest files; in the foreground it shows their logs.

use std::{
    collections::HashSet,
    fs,
    io::{Read, Write},
    os::fd::AsFd,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodStatus};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use podctl_runtime::trace;

use super::{
    Error, attach, delete, exec, images, io, jobs,
    objects::{self, Kind},
    red,
    session::End,
    warn,
};
use crate::{
    lifecycle,
    logs::{Follow, Prefixes},
    manifest::{self, Diagnostic, Manifest, Source},
    network::ports::{self, HostPort, Target},
    sandbox::Objects,
    state::{Home, Liveness, PodDir},
    supervisor::{self, LogLimits, Options, Started, gather},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Manifest files, `-` for standard input.
    #[arg(required = true)]
    files: Vec<String>,
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
    #[arg(short = 't', long, requires = "stdin")]
    tty: bool,
    /// Attach to that container alone instead of showing every log.
    #[arg(long, conflicts_with = "detach")]
    attach: bool,
    /// Keys that leave an attached container running.
    #[arg(long, default_value = attach::DETACH_KEYS)]
    detach_keys: String,
    /// No colours.
    #[arg(long)]
    no_color: bool,
    /// What a failed init container does: retry alone, or restart the whole pod.
    #[arg(long, value_enum, default_value = "retry")]
    init_failure: InitFailure,
    /// First wait before a container is restarted, in seconds.
    #[arg(long, default_value = "10", value_parser = seconds)]
    backoff_initial: Duration,
    /// Longest wait before a container is restarted, in seconds.
    #[arg(long, default_value = "300", value_parser = seconds)]
    backoff_max: Duration,
    /// A container's log file that has grown so large is put aside.
    #[arg(long, default_value = "10Mi", value_parser = size)]
    log_max_size: u64,
    /// So many log files of a container are kept.
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u16).range(2..))]
    log_max_files: u16,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Stop when a limit of a pod cannot be enforced here.
    #[arg(long)]
    strict_limits: bool,
    /// `none` is loopback alone.
    #[arg(long, value_enum, default_value = "podctl")]
    network: Network,
    /// Publish a port of the pod on this machine, beside its hostPorts.
    #[arg(short, long, value_name = "[IP:]HOST:POD[/udp]", value_parser = ports::parse)]
    publish: Vec<HostPort>,
    /// Publish every containerPort on a free port of this machine.
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Print each step of the start with its microseconds on standard error.
    #[arg(long)]
    trace_start: bool,
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

/// `10`, `0.5` or `10s`.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches('s');
    let value: f64 = number.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(value).map_err(|e| e.to_string())
}

/// `10Mi`, `1000000`.
fn size(text: &str) -> Result<u64, String> {
    match manifest::quantity_bytes(text)? {
        0 => Err("must be greater than 0".into()),
        bytes => Ok(bytes),
    }
}

pub(super) fn run(args: &Args, home: &Home, namespace: &str) -> Result<i32, Error> {
    if args.trace_start {
        trace::begin(trace::now());
    }
    if args.no_color {
        anstream::ColorChoice::Never.write_global();
    }
    let maps = args.configmap.iter().map(|file| (Kind::ConfigMap, file));
    let secrets = args.secret.iter().map(|file| (Kind::Secret, file));
    let stored = objects::stored(home, namespace, &maps.chain(secrets).collect::<Vec<_>>())?;
    let mut manifest = read(&args.files, &stored)?;
    let mut jobs = std::mem::take(&mut manifest.jobs);
    trace::mark("client", "read the manifest");
    if manifest.pods.is_empty() && jobs.is_empty() {
        return Err(Error::Said(
            "the files hold no Pod; `podctl apply -f` keeps ConfigMaps, Secrets and claims for later".into(),
        ));
    }
    if args.detach {
        if let Some(job) = jobs.iter().find(|job| job.pods.len() > job.parallelism) {
            return Err(Error::Said(format!(
                "job {:?} runs {} pods, {} at a time: somebody has to see to it; run it without --detach",
                job.name,
                job.pods.len(),
                job.parallelism
            )));
        }
        manifest.pods.extend(jobs.drain(..).flat_map(|job| job.pods));
    }
    if (args.stdin || args.attach) && manifest.pods.len() > 1 {
        return Err(Error::Said(
            "one terminal can be attached to one pod only; run the others with -d".into(),
        ));
    }
    if args.dry_run {
        return super::explain::explain(&manifest, home);
    }
    met(&manifest)?;
    if manifest.pods.len() > 1 && !args.publish.is_empty() {
        let words = "--publish is for one pod, and the files hold several: give them hostPorts";
        return Err(Error::Said(words.into()));
    }
    let mut started = Vec::new();
    // From here on a Ctrl-C ends what has been started.
    let signals = signals()?;
    let from = [&manifest, &stored];
    for pod in &manifest.pods {
        match start(args, home, in_namespace(pod.clone(), namespace), from) {
            Ok(pod) => started.push(pod),
            Err(e) => {
                for pod in &started {
                    let _ = delete::delete(home, &pod.dir, Some(Duration::ZERO), true);
                }
                return Err(e);
            }
        }
    }
    if let [pod] = started.as_slice()
        && (args.stdin || args.attach)
    {
        // From here on a Ctrl-C is the attached container's, or ends this command.
        let _ = SigSet::all().thread_unblock();
        return attached(args, home, pod);
    }
    if args.detach {
        return detached(args, &started, home);
    }
    let start = |pod: Pod| start(args, home, in_namespace(pod, namespace), from);
    foreground(started, jobs::Queue::new(jobs), &start, home, &signals)
}

/// This terminal is the container's until it ends, and the pod then ends with it.
fn attached(args: &Args, home: &Home, pod: &Started) -> Result<i32, Error> {
    let container = exec::default_container(&pod.dir, true)?;
    let wanted = attach::Wanted { stdin: args.stdin, tty: args.tty, quiet: false, keys: &args.detach_keys };
    let code = match attach::attach(&pod.dir, &container, &wanted)? {
        End::Detached => {
            eprintln!("Session ended, resume using 'podctl attach {} -c {container} -i -t'", pod.dir.name);
            return Ok(0);
        }
        End::Exited(code) => code,
        End::Signal(signal) => 128 + signal,
        End::Refused(message, code) => exec::refused(&message, code),
        End::Lost => pod.dir.read().map_or(137, |ended| exit_code(&ended)),
    };
    delete::delete(home, &pod.dir, None, true)?;
    Ok(code)
}

impl Args {
    /// As for `run --detach`, without a wait.
    pub(super) fn detached() -> Args {
        #[derive(clap::Parser)]
        struct Run {
            #[command(flatten)]
            args: Args,
        }
        <Run as clap::Parser>::parse_from(["run", "--detach", "--wait=none", "-"]).args
    }
}

/// The pod in the command's namespace, unless it names its own.
pub(super) fn in_namespace(mut pod: Pod, namespace: &str) -> Pod {
    if pod.metadata.namespace.as_deref().is_none_or(|n| n == "default") {
        pod.metadata.namespace = Some(namespace.to_owned());
    }
    pod
}

/// A file's name and text; `-` is standard input.
pub(super) fn source(file: &str) -> Result<Source, Error> {
    let mut text = String::new();
    let (name, done) = match file {
        "-" => ("<stdin>", std::io::stdin().read_to_string(&mut text).map(drop)),
        path => (path, fs::read_to_string(path).map(|t| text = t)),
    };
    done.map_err(io(format!("cannot read {name}")))?;
    Ok(Source { name: name.to_owned(), text })
}

/// Shows what is wrong with the files; gives the error that says so.
pub(super) fn refused(all: &[Diagnostic], files: &[String]) -> Error {
    for diagnostic in all {
        anstream::eprintln!("{diagnostic}");
    }
    let (errors, files) = (all.len(), files.join(", "));
    Error::Said(format!(
        "{files}: nothing was started because of {errors} error{}",
        if errors == 1 { "" } else { "s" }
    ))
}

pub(super) fn read(files: &[String], stored: &Manifest) -> Result<Manifest, Error> {
    let sources = files.iter().map(|file| source(file)).collect::<Result<Vec<_>, _>>()?;
    let manifest = manifest::load_beside(&sources, stored).map_err(|all| refused(&all, files))?;
    for warning in &manifest.warnings {
        anstream::eprintln!("{warning}");
    }
    Ok(manifest)
}

/// What the pod refers to; the images of its volumes are pulled where their policy says so.
fn gathered(home: &Home, pod: &Pod, from: [&Manifest; 2]) -> Result<Objects, Error> {
    let store = podctl_images::Store::open(&home.images())?;
    for volume in gather::image_volumes(pod) {
        let present = store.find(&volume.image.parse()?)?.is_some();
        let pull = volume.policy == "Always" || (volume.policy != "Never" && !present);
        if pull && images::fetch(home, &volume.image)? != 0 {
            return Err(Error::Said(format!(
                "volume {:?}: image {:?} could not be pulled",
                volume.volume, volume.image
            )));
        }
    }
    Ok(gather::gather(home, pod, from)?)
}

/// As if they were hostPorts of the manifest: of the container that has the port, else of the first.
fn publish(pod: &mut Pod, ports: &[HostPort]) {
    let Some(spec) = &mut pod.spec else { return };
    for port in ports {
        let Target::Pod(number) = port.target else { continue };
        let protocol = if port.udp { "UDP" } else { "TCP" };
        let has = |p: &ContainerPort| {
            p.container_port == i32::from(number)
                && p.protocol.as_deref().unwrap_or("TCP") == protocol
                && p.host_port.is_none()
        };
        let published = ContainerPort {
            container_port: number.into(),
            host_port: Some(port.host.into()),
            host_ip: port.ip.map(|ip| ip.to_string()),
            protocol: Some(protocol.into()),
            ..ContainerPort::default()
        };
        let known = spec.containers.iter_mut().flat_map(|c| c.ports.iter_mut().flatten()).find(|p| has(p));
        if let Some(known) = known {
            *known = ContainerPort { name: known.name.take(), ..published };
        } else if let Some(first) = spec.containers.first_mut() {
            first.ports.get_or_insert_default().push(published);
        }
    }
}

/// Nothing is started when this machine cannot give what a pod asks for.
fn met(manifest: &Manifest) -> Result<(), Error> {
    for pod in &manifest.pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        for (field, severity, why) in crate::sandbox::host::unmet(pod) {
            match severity {
                manifest::Severity::Error => {
                    return Err(Error::Said(format!("pod \"{name}\": {field}: {why}")));
                }
                manifest::Severity::Warning => warn(&format!("{field}: {why}")),
            }
        }
    }
    Ok(())
}

pub(super) fn start(args: &Args, home: &Home, mut pod: Pod, from: [&Manifest; 2]) -> Result<Started, Error> {
    let objects = gathered(home, &pod, from)?;
    let annotation = pod.metadata.annotations.as_ref().and_then(|a| a.get("podctl.dev/init-failure"));
    let restart_pod =
        args.init_failure == InitFailure::RestartPod || annotation.is_some_and(|v| v == "RestartPod");
    let options = Options {
        backoff_initial: args.backoff_initial,
        backoff_max: args.backoff_max,
        restart_pod_on_init_failure: restart_pod,
        log_limits: LogLimits { size: args.log_max_size, files: args.log_max_files.into() },
        strict_limits: args.strict_limits,
        network: args.network != Network::None,
        publish_all: args.publish_all,
    };
    if args.stdin {
        let annotations = pod.metadata.annotations.as_ref();
        let named = annotations.and_then(|a| a.get("kubectl.kubernetes.io/default-container")).cloned();
        let containers = pod.spec.iter_mut().flat_map(|s| &mut s.containers);
        let wanted = |(at, c): &(usize, &mut Container)| named.as_ref().map_or(*at == 0, |n| c.name == *n);
        if let Some((_, container)) = containers.enumerate().find(wanted) {
            (container.stdin, container.stdin_once) = (Some(true), Some(true));
            container.tty = container.tty.filter(|t| *t).or(args.tty.then_some(true));
        }
    }
    if args.network == Network::Host
        && let Some(spec) = &mut pod.spec
    {
        spec.host_network = Some(true);
    }
    publish(&mut pod, &args.publish);
    if args.replace {
        let meta = &pod.metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let dir = home.pod(meta.namespace.as_deref().unwrap_or("default"), name);
        if dir.liveness() != Liveness::Absent {
            delete::delete(home, &dir, None, true)?;
        }
    }
    let started = supervisor::start(home, pod, objects, &options)?;
    for warning in &started.warnings {
        warn(warning);
    }
    for port in &started.published {
        let protocol = if port.udp { "UDP" } else { "TCP" };
        let target = match &port.target {
            Target::Pod(number) => format!("port {number} of pod {}", started.dir.name),
            Target::Service(service, number) => format!("port {number} of service {service}"),
        };
        anstream::eprintln!("published on port {}/{protocol}: {target}", port.host);
    }
    Ok(started)
}

/// SIGINT and SIGTERM as something to wait for.
fn signals() -> Result<SignalFd, Error> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block().map_err(|e| io("cannot block signals")(e.into()))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| io("cannot wait for signals")(e.into()))
}

fn detached(args: &Args, started: &[Started], home: &Home) -> Result<i32, Error> {
    for pod in started {
        while args.wait != Wait::None {
            let lives = pod.lives();
            let now = pod.dir.read()?;
            if let Some(message) = image_failure(&now) {
                let _ = delete::delete(home, &pod.dir, Some(Duration::ZERO), true);
                return Err(Error::Said(message));
            }
            let status = now.status.unwrap_or_default();
            let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            if over || reached(&status, args.wait) || !lives {
                break;
            }
            let _ = poll(&mut [PollFd::new(pod.fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        }
        trace::mark("client", "see the containers running");
        println!("pod/{} started", pod.dir.name);
    }
    Ok(0)
}

fn reached(status: &PodStatus, wait: Wait) -> bool {
    let all = status.container_statuses.as_deref().unwrap_or_default();
    !all.is_empty()
        && all.iter().all(|c| match wait {
            Wait::Ready => c.ready,
            _ => c.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some()),
        })
}

/// An image that cannot be had ends a run that somebody waits for; left alone, the pod would try
/// again, as a kubelet does.
fn image_failure(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.filter_map(|c| Some((c, c.state.as_ref()?.waiting.as_ref()?)))
        .find(|(_, w)| {
            matches!(w.reason.as_deref(), Some("ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName"))
        })
        .map(|(c, w)| {
            let reason = w.reason.as_deref().unwrap_or_default();
            format!("container {}: {reason}: {}", c.name, w.message.as_deref().unwrap_or_default())
        })
}

/// Shows logs and notes until every pod has ended; the first Ctrl-C is a graceful delete, the
/// second kills.
fn foreground(
    started: Vec<Started>,
    mut jobs: jobs::Queue,
    start: &dyn Fn(Pod) -> Result<Started, Error>,
    home: &Home,
    signals: &SignalFd,
) -> Result<i32, Error> {
    let mut follows = Vec::new();
    let mut new = started;
    new.extend(jobs.advance(exit_code, start)?);
    let mut prefixes = Prefixes::of(new.iter().filter_map(|p| p.dir.read().ok()), new.len() > 1);
    let mut interrupts = 0;
    let mut failure = None;
    loop {
        if !new.is_empty() {
            for pod in new.drain(..) {
                let follow = Follow::unwatched(home, &pod.dir, &pod.uid);
                follows.push((pod, follow, Notes::default()));
            }
            let pods = follows.iter().filter_map(|(p, ..)| p.dir.read().ok());
            prefixes = Prefixes::of(pods, follows.len() > 1);
        }
        let mut living = Vec::new();
        for (pod, follow, notes) in &mut follows {
            // Asked before the logs are drained: what was written before the end is then shown.
            living.push(pod.lives());
            if let Ok(now) = pod.dir.read() {
                if interrupts == 0 && failure.is_none() {
                    failure = image_failure(&now);
                    if failure.is_some() {
                        delete::ask(&pod.dir, Some(Duration::ZERO));
                    }
                }
                notes.show(&now, &pod.dir);
            }
            let mut out = anstream::stdout().lock();
            for entry in follow.drain() {
                let _ = writeln!(
                    out,
                    "{}{}",
                    prefixes.of_entry(&pod.dir.name, &entry),
                    String::from_utf8_lossy(&entry.text)
                );
            }
        }
        new.extend(jobs.advance(exit_code, start)?);
        if !new.is_empty() {
            continue;
        }
        if !living.contains(&true) && jobs.is_over() && !follows.iter().any(|(_, f, _)| f.behind()) {
            break;
        }
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        // One that has ended has nothing more to say, and would wake us at once.
        let living = follows.iter().zip(living).filter(|(_, lives)| *lives);
        fds.extend(living.map(|((pod, ..), _)| PollFd::new(pod.fd(), PollFlags::POLLIN)));
        let behind = follows.iter().any(|(_, f, _)| f.behind());
        let _ = poll(&mut fds, if behind { PollTimeout::ZERO } else { PollTimeout::NONE });
        while let Ok(Some(_)) = signals.read_signal() {
            interrupts += 1;
            jobs.stop();
            let grace = (interrupts > 1).then_some(Duration::ZERO);
            if interrupts == 1 {
                anstream::eprintln!("ending the pod gracefully; Ctrl-C again kills it");
            }
            for (pod, ..) in &follows {
                delete::ask(&pod.dir, grace);
            }
        }
    }
    let mut code = jobs.exit_code();
    for (pod, ..) in &follows {
        pod.wait();
        // Of a pod that was deleted there is nothing more to say.
        if let Ok(ended) = pod.dir.read()
            && code == 0
            && !jobs.answers_for(&ended)
        {
            code = exit_code(&ended);
        }
    }
    match failure {
        Some(message) => Err(Error::Said(message)),
        None if interrupts > 0 => Ok(130),
        None => Ok(code),
    }
}

/// 0 when the pod succeeded, else the code of the first app container that failed.
fn exit_code(pod: &Pod) -> i32 {
    let status = pod.status.clone().unwrap_or_default();
    if status.phase.as_deref() == Some("Succeeded") {
        return 0;
    }
    let ended =
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    ended
        .filter_map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.exit_code))
        .find(|code| *code != 0)
        .unwrap_or(1)
}

/// Lifecycle notes on standard error: each new event, and the end.
#[derive(Default)]
struct Notes {
    seen: HashSet<(String, i32)>,
    ended: bool,
}

impl Notes {
    fn show(&mut self, pod: &Pod, dir: &PodDir) {
        for event in dir.events().unwrap_or_default() {
            let key = (event.metadata.name.clone().unwrap_or_default(), event.count.unwrap_or(1));
            if self.seen.insert(key) {
                let reason = event.reason.as_deref().unwrap_or_default();
                let warning = event.type_.as_deref() == Some("Warning");
                let reason = if warning {
                    red(reason)
                } else {
                    format!("{0}{reason}{0:#}", anstyle::Style::new().dimmed())
                };
                anstream::eprintln!("{reason}: {}", event.message.as_deref().unwrap_or_default());
            }
        }
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        if !self.ended && matches!(phase, "Succeeded" | "Failed") {
            self.ended = true;
            anstream::eprintln!("pod {} is {}", dir.name, lifecycle::printed_status(pod));
        }
    }
}
