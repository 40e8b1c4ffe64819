//! `podctl run`: starts the pods of manifest files; in the foreground it shows their logs.

mod attached;
mod awaited;
mod detached;
mod foreground;
mod notes;
mod start;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use podctl_runtime::start_trace;

pub(super) use self::start::start;
use super::{Error, Namespace, attach, delete, io, jobs, objects, services};
use crate::{
    manifest::{self, Diagnostic, Manifest, Named, Source},
    network::ports::{self, HostPort},
    pod::ObjectKind,
    pod::quantity::quantity_bytes,
    state::Home,
    view::plain_text::show_controls,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl run pod.yaml                       # its logs are shown; Ctrl-C ends it gracefully
  podctl run -d --wait ready -p 8080:80 web.yaml
  podctl run -it shell.yaml                 # this terminal is its first container's
  podctl run --configmap cm.yaml pod.yaml   # what the pod refers to, from another file")]
pub(super) struct Args {
    /// Manifest files, `-` for standard input.
    #[arg(required = true)]
    files: Vec<String>,
    /// Answered with the manifest to write, for those who look for kubectl's `run NAME --image=IMAGE`.
    #[arg(long, hide = true, value_name = "IMAGE")]
    image: Option<String>,
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
    /// First wait before a container is restarted, or a job's pod replaced, in seconds.
    #[arg(long, default_value = "10", value_parser = seconds)]
    backoff_initial: Duration,
    /// Longest wait before a container is restarted, or a job's pod replaced, in seconds.
    #[arg(long, default_value = "300", value_parser = seconds)]
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
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
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
    if let Some(image) = &args.image {
        return Err(Error::Said(explain_image_run(image)));
    }
    let maps = args.configmap.iter().map(|file| (ObjectKind::ConfigMap, file));
    let secrets = args.secret.iter().map(|file| (ObjectKind::Secret, file));
    let stored = objects::read_stored(home, &maps.chain(secrets).collect::<Vec<_>>())?;
    let mut manifest = read(&args.files, &stored, namespace)?;
    if args.strict_kinds && !manifest.passed_over.is_empty() {
        let (count, files) = (manifest.passed_over.len(), args.files.join(", "));
        return Err(Error::Said(format!(
            "{files}: nothing was started because of {count} objects that would be passed over"
        )));
    }
    start_trace::mark("client", "read the manifest");
    if !args.dry_run {
        let kept = services::not_of_pods(home, namespace, &mut manifest)?;
        let alone = !kept.is_empty() && manifest.pods.is_empty() && manifest.jobs.is_empty();
        services::keep(home, namespace, kept, false)?;
        if alone {
            return Ok(0);
        }
    }
    if manifest.pods.is_empty() && manifest.jobs.is_empty() {
        return Err(Error::Said(
            "the files hold no Pod; `podctl apply -f` keeps ConfigMaps, Secrets and claims for later".into(),
        ));
    }
    if args.dry_run {
        return super::explain::explain_plan(&manifest, home);
    }
    let mut jobs = std::mem::take(&mut manifest.jobs);
    start::check_met(&manifest.pods, &jobs)?;
    if args.detach {
        for job in jobs.drain(..) {
            manifest.pods.extend(detached::pods_of(&job)?);
        }
    }
    if (args.stdin || args.attach) && !jobs.is_empty() {
        return Err(Error::Said(
            "a job's pods come and go, and a terminal is for one pod; run it without --stdin and --attach"
                .into(),
        ));
    }
    if (args.stdin || args.attach) && manifest.pods.len() > 1 {
        return Err(Error::Said(
            "one terminal can be attached to one pod only; run the others with -d".into(),
        ));
    }
    if manifest.pods.len() > 1 && !args.publish.is_empty() {
        let words = "--publish is for one pod, and the files hold several: give them hostPorts";
        return Err(Error::Said(words.into()));
    }
    let mut started = Vec::new();
    // From here on a Ctrl-C ends what has been started.
    let signals = foreground::signals()?;
    let from = [&manifest, &stored];
    for pod in &manifest.pods {
        match start(args, home, pod.clone(), from) {
            Ok(pod) => started.push(pod),
            Err(e) => {
                for pod in &started {
                    let _ = delete::delete(home, &pod.dir, Some(Duration::ZERO), true);
                }
                return Err(e);
            }
        }
    }
    if args.detach {
        return detached::wait(args, &started, home, &signals);
    }
    if args.stdin || args.attach {
        return started.pop().map_or(Ok(0), |pod| attached::attached(args, home, pod, &signals));
    }
    let start = |pod: Pod| start(args, home, pod, from);
    let backoff = (args.backoff_initial, args.backoff_max);
    foreground::run_foreground(started, jobs::Queue::new(jobs, backoff), &start, home, &signals)
}

impl Args {
    /// Does as for `run --detach`, without a wait.
    pub(super) fn detached_args() -> Args {
        #[derive(clap::Parser)]
        struct Run {
            #[command(flatten)]
            args: Args,
        }
        <Run as clap::Parser>::parse_from(["run", "--detach", "--wait=none", "-"]).args
    }
}

/// Returns the files as they are named, and in place of a directory its manifests (`*.yaml`, `*.yml`, `*.json`), in the
/// order of their names; directories below are passed over, as by kubectl.
///
/// # Errors
/// A directory that cannot be read, or has no manifests.
fn list_manifest_files(files: &[String]) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for file in files {
        if !Path::new(file).is_dir() {
            all.push(file.clone());
            continue;
        }
        let entries = fs::read_dir(file).map_err(io(format!("cannot read directory {file}")))?;
        let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
        let is_manifest = |path: &PathBuf| {
            path.extension().is_some_and(|kind| ["yaml", "yml", "json"].iter().any(|known| kind == *known))
        };
        let mut found: Vec<String> =
            paths.filter(is_manifest).map(|path| path.display().to_string()).collect();
        found.sort();
        if found.is_empty() {
            return Err(Error::Said(format!(
                "error reading [{file}]: recognized file extensions are [.json .yaml .yml]"
            )));
        }
        all.extend(found);
    }
    Ok(all)
}

/// Longest file, in bytes, that is read as a manifest: more would be held in memory several times.
const LONGEST_FILE: u64 = 64 << 20;

/// A file's name and text; `-` is standard input.
pub(super) fn source(file: &str) -> Result<Source, Error> {
    let mut text = String::new();
    let mut read = |from: &mut dyn Read| from.take(LONGEST_FILE + 1).read_to_string(&mut text).map(drop);
    let (name, done) = match file {
        "-" => ("<stdin>", read(&mut std::io::stdin())),
        path => (path, fs::File::open(path).and_then(|mut file| read(&mut file))),
    };
    if text.len() as u64 > LONGEST_FILE {
        return Err(Error::Said(format!("{name} is longer than {} MiB: no manifest is", LONGEST_FILE >> 20)));
    }
    done.map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => {
            Error::Said(format!("cannot read {name}: it is not text in UTF-8; save it in that encoding"))
        }
        std::io::ErrorKind::NotFound => Error::Said(explain_missing_file(name)),
        _ => io(format!("cannot read {name}"))(e),
    })?;
    Ok(Source { name: name.to_owned(), text })
}

/// Returns what to do where a manifest's file was wanted and something else was named: a URL, an image, a typing error.
fn explain_missing_file(name: &str) -> String {
    if name.starts_with("https://") || name.starts_with("http://") {
        return format!(
            "cannot read {name}: podctl fetches no manifests; `curl -fsSL {name} | podctl run -` does"
        );
    }
    let is_file_name = name.contains('/') || [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
    match name.parse::<podctl_images::Reference>() {
        Ok(_) if !is_file_name => format!("cannot read {name}: No such file. {}", explain_image_run(name)),
        _ => format!("cannot read {name}: No such file or directory (os error 2)"),
    }
}

/// Returns how the pod of an image alone is run.
fn explain_image_run(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    let name = name.split([':', '@']).next().unwrap_or(name);
    format!(
        "podctl runs manifests; the least one for this image: \
         echo '{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: {name}, image: \"{image}\"}}]}}}}' | podctl run -"
    )
}

/// Shows what is wrong with the files; gives the error that says so.
pub(super) fn refused(all: &[Diagnostic], files: &[String]) -> Error {
    for diagnostic in all {
        eprintln!("{}", show_controls(&diagnostic.to_string()));
    }
    let (errors, files) = (all.len(), files.join(", "));
    Error::Said(format!(
        "{files}: nothing was started because of {errors} error{}",
        if errors == 1 { "" } else { "s" }
    ))
}

/// The objects that files name; nothing else of the files has to be right.
pub(super) fn names(files: &[String], namespace: &Namespace) -> Result<Vec<Named>, Error> {
    let sources = files.iter().map(|file| source(file)).collect::<Result<Vec<_>, _>>()?;
    manifest::names(&sources, namespace).map_err(|e| Error::Said(e.to_string()))
}

pub(super) fn read(files: &[String], stored: &Manifest, namespace: &Namespace) -> Result<Manifest, Error> {
    let files = &list_manifest_files(files)?;
    let sources = files.iter().map(|file| source(file)).collect::<Result<Vec<_>, _>>()?;
    let manifest = manifest::load_beside(&sources, stored, namespace).map_err(|all| refused(&all, files))?;
    for warning in &manifest.warnings {
        eprintln!("{}", show_controls(&warning.to_string()));
    }
    Ok(manifest)
}
