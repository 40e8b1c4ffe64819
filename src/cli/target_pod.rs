//! The one pod that `NAME`, `pod/NAME`, `service/NAME` or `deployment/NAME` leads to, for commands that reach into a pod.

use std::time::{Duration, Instant};

use k8s_openapi::{api::core::v1::Pod, jiff::SignedDuration};
use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace, durations::parse_signed_duration, kind_words, manifest_files::FileArgs,
        object_selection, pod_dir, pod_selection,
    },
    engine::{self, Engine, ListOptions},
    pod::{ObjectKind, PodExt},
    state::{Home, Liveness, PodDir},
};

/// The container, and what of this terminal goes there.
#[derive(clap::Args)]
pub(super) struct ContainerArgs {
    /// Which container; the one of the annotation kubectl.kubernetes.io/default-container or the first else.
    #[arg(short, long)]
    pub container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// With a terminal.
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Only the container's own output.
    #[arg(short, long)]
    pub quiet: bool,
}

/// The words of kubectl's for what `exec`, `attach` and `port-forward` do with a pod.
pub(super) const ATTACH: &str = "attach to";

/// The time that a pod has to come to be.
#[derive(clap::Args)]
pub(super) struct PatienceArgs {
    /// How long to wait for a pod of a Service or a workload, such as `5s`; it is an error else that there is none.
    #[arg(long, value_name = "TIME", value_parser = parse_signed_duration, allow_hyphen_values = true)]
    pod_running_timeout: Option<SignedDuration>,
}

impl PatienceArgs {
    /// Returns until when a pod is waited for; `usage` is what kubectl says behind an error.
    ///
    /// # Errors
    /// No time at all.
    pub(super) fn find_deadline(&self, usage: &str) -> Result<Option<Instant>, Error> {
        let Some(time) = self.pod_running_timeout else { return Ok(None) };
        match Duration::try_from(time) {
            Ok(time) if !time.is_zero() => Ok(Instant::now().checked_add(time)),
            _ => Err(Error::bad_value(format!("--pod-running-timeout must be higher than zero{usage}"))),
        }
    }
}

/// The file of the pod or workload that is meant, instead of its name.
#[derive(clap::Args)]
pub(super) struct TargetFileArgs {
    /// A file with the pod or workload that is meant, instead of its name.
    #[arg(short, long, value_name = "FILE", value_delimiter = ',', value_hint = clap::ValueHint::FilePath)]
    pub filename: Vec<String>,
}

impl TargetFileArgs {
    /// Finds the pod that a word leads to, or without one the file.
    ///
    /// # Errors
    /// As [`find_target_pod`]; neither a word nor a file, a file that cannot be read or holds several objects.
    pub(super) fn find_pod(
        &self,
        home: &Home,
        namespace: &Namespace,
        word: Option<&str>,
        until: Option<Instant>,
    ) -> Result<PodDir, Error> {
        if let Some(word) = word {
            return find_target_pod((home, namespace), word, ATTACH, until);
        }
        let objects = FileArgs::named(&self.filename).read_objects()?;
        let [object] = &objects[..] else {
            let what = format!("{} holds {} objects: name the pod", self.filename.join(", "), objects.len());
            return Err(Error::missing(what));
        };
        let meta = &object["metadata"];
        let own = meta["namespace"].as_str().filter(|own| *own != "default").unwrap_or(namespace);
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        let name = meta["name"].as_str().unwrap_or_default();
        find_target_pod((home, &Namespace::parse(own)?), &format!("{kind}/{name}"), ATTACH, until)
    }
}

/// Finds the pod that a word leads to. Of several pods of a Service or a workload a living, ready one comes first, as
/// kubectl has it.
///
/// # Errors
/// A kind without pods, a name that is none, a Service or workload that has none until then.
pub(super) fn find_target_pod(
    place: (&Home, &Namespace),
    word: &str,
    purpose: &str,
    until: Option<Instant>,
) -> Result<PodDir, Error> {
    let mut all = find_target_pods(place, word, purpose, until)?;
    Ok(all.swap_remove(0))
}

/// Finds all pods that a word leads to, at least one: as [`find_target_pod`], in that order.
///
/// # Errors
/// As [`find_target_pod`].
pub(super) fn find_target_pods(
    (home, namespace): (&Home, &Namespace),
    word: &str,
    purpose: &str,
    until: Option<Instant>,
) -> Result<Vec<PodDir>, Error> {
    let watch = until.map(|_| Engine::over(home).watch_objects()).transpose()?;
    loop {
        let found = list_target_pods(home, namespace, word, purpose)?;
        match (found.is_empty(), until, &watch) {
            (false, ..) => return Ok(found),
            (true, Some(until), Some(watch)) => match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Err(Error::TimedOut { pod: None }),
                left => watch.wait(Some(left)),
            },
            _ => {
                return Err(Error::absent(format!(
                    "{word} has no pods; `podctl get pods` shows those there are"
                )));
            }
        }
    }
}

/// Lists the pods that a word leads to; only those of a Service or a workload may be none.
fn list_target_pods(
    home: &Home,
    namespace: &Namespace,
    word: &str,
    purpose: &str,
) -> Result<Vec<PodDir>, Error> {
    let pair = word.split_once('/');
    match pair.filter(|(kind, name)| !kind.is_empty() && !name.is_empty() && !name.contains('/')) {
        Some((kind, name)) if ObjectKind::of_word(kind) == Some(ObjectKind::Service) => {
            let selector = &find_service(home, namespace, name)?["spec"]["selector"];
            let labels = selector.as_object().into_iter().flatten();
            let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
            let labels = labels.collect::<Vec<_>>().join(",");
            if labels.is_empty() {
                return Err(Error::not_done(format!(
                    "invalid service '{name}': Service is defined without a selector"
                )));
            }
            list_pods(home, namespace, labels, |_| true)
        }
        Some((kind, name)) if !pod_selection::is_pod(kind) => {
            let kind = match (kind_words::workload_kind(kind), ObjectKind::of_word(kind)) {
                (Some(kind), _) => kind,
                (None, None) => return Err(kind_words::missing_object(kind, name)),
                (None, Some(kind)) => {
                    Engine::over(home).get_object(kind, namespace, name)?;
                    let own = format!("*{}.{}", kind.api_version().replace('/', "."), kind.name());
                    return Err(Error::not_done(format!(
                        "cannot {purpose} {own}: selector for {own} not implemented"
                    )));
                }
            };
            let is_own = |pod: &Value| {
                let meta = &pod["metadata"];
                object_selection::is_of_workload(kind, name, meta["name"].as_str().unwrap_or_default())
                    || kind == "Job" && meta["labels"]["batch.kubernetes.io/job-name"] == name
            };
            let found = list_pods(home, namespace, String::new(), is_own)?;
            if kind == "Job" && found.is_empty() {
                Engine::over(home).get_object(ObjectKind::Job, namespace, name)?;
            }
            Ok(found)
        }
        _ => {
            let dir = pod_dir(home, namespace, word)?;
            if dir.read_liveness() == Liveness::Absent {
                // It may be the namespace that is missing.
                Engine::over(home).get_object(ObjectKind::Pod, namespace, &dir.name)?;
            }
            Ok(vec![dir])
        }
    }
}

/// Returns the port of a Service's pods to which a port of the Service, by number or by name, leads; `None` when `word`
/// is no Service. A target that is a name is given as it is.
///
/// # Errors
/// The Service is not there, or has no such port.
pub(super) fn find_service_target_port(
    home: &Home,
    namespace: &Namespace,
    word: &str,
    port: &str,
) -> Result<Option<String>, Error> {
    let Some((kind, name)) = word.split_once('/') else { return Ok(None) };
    if ObjectKind::of_word(kind) != Some(ObjectKind::Service) {
        return Ok(None);
    }
    let service = find_service(home, namespace, name)?;
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let found = ports
        .find(|own| own["port"].as_u64() == port.parse().ok() && own["port"].is_u64() || own["name"] == port);
    let own = found.ok_or_else(|| {
        Error::absent(match port.parse::<u16>() {
            Ok(port) => format!("Service {name} does not have a service port {port}"),
            Err(_) => format!("Service '{name}' does not have a named port '{port}'"),
        })
    })?;
    Ok(Some(match &own["targetPort"] {
        Value::String(name) => name.clone(),
        Value::Number(number) => number.to_string(),
        _ => own["port"].to_string(),
    }))
}

fn find_service(home: &Home, namespace: &Namespace, name: &str) -> Result<Value, Error> {
    Ok(Engine::over(home).get_object(ObjectKind::Service, namespace.as_str(), name)?)
}

fn list_pods(
    home: &Home,
    namespace: &Namespace,
    labels: String,
    is_meant: impl Fn(&Value) -> bool,
) -> Result<Vec<PodDir>, Error> {
    let options = ListOptions { namespace: Some(namespace.to_string()), labels, fields: String::new() };
    let mut pods = Engine::over(home).list_objects(ObjectKind::Pod, &options)?;
    pods.retain(is_meant);
    let is_ready = |pod: &Value| {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    pods.sort_by_key(|pod| !is_ready(pod));
    let dirs =
        pods.iter().map(|pod| pod_dir(home, namespace, pod["metadata"]["name"].as_str().unwrap_or_default()));
    let mut dirs = dirs.collect::<Result<Vec<_>, _>>()?;
    dirs.sort_by_key(|dir| dir.read_liveness() != Liveness::Alive);
    Ok(dirs)
}

/// Tells that the pod has a container of that name, of whatever sort.
///
/// # Errors
/// [`Error::Absent`] with those that it has.
pub(super) fn check_container(pod: &Pod, wanted: &str) -> Result<(), Error> {
    let spec = pod.spec.clone().unwrap_or_default();
    let init = spec.init_containers.iter().flatten().map(|c| (c.name.clone(), " (init)"));
    let apps = spec.containers.iter().map(|c| (c.name.clone(), ""));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (c.name.clone(), " (ephem)"));
    let all: Vec<_> = apps.chain(init).chain(ephemeral).collect();
    if all.iter().any(|(name, _)| name == wanted) {
        return Ok(());
    }
    let out_of = all.iter().map(|(name, sort)| format!("{name}{sort}")).collect::<Vec<_>>().join(", ");
    Err(Error::absent(format!("container {wanted} is not valid for pod {} out of: {out_of}", pod.name())))
}

/// Checks that a pod has not come to its end, for `what` cannot be done in one that has.
///
/// # Errors
/// [`Error::Unmet`] in kubectl's words; a pod whose record cannot be read.
pub(super) fn check_goes_on(dir: &PodDir, what: &str) -> Result<(), Error> {
    let pod = pod_selection::read(dir)?;
    match pod.phase() {
        phase @ ("Succeeded" | "Failed") => Err(Error::unmet(format!(
            "cannot {what} a container in a completed pod; current phase is {phase}"
        ))),
        _ => Ok(()),
    }
}

/// Finds the container that is meant; which of several was chosen is said, unless nothing but the container's output is wanted.
///
/// # Errors
/// A pod whose record cannot be read, or that has no container.
pub(super) fn choose_container(dir: &PodDir, named: Option<&str>, quiet: bool) -> Result<String, Error> {
    if let Some(name) = named.filter(|name| !name.is_empty()) {
        check_container(&dir.read()?, name)?;
        return Ok(name.to_owned());
    }
    let (name, out_of) = engine::default_container(dir)?;
    if out_of.len() > 1 && !quiet {
        eprintln!("Defaulted container {name:?} out of: {}", out_of.join(", "));
    }
    Ok(name)
}
