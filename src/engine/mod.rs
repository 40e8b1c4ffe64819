//! What a program that embeds podctl calls: a user's pods and images, and one pod of them.
//!
//! Promises: no call needs another process of podctl to be there before; what is started outlives the
//! program that started it. Stands above everything else; the command line is one of its callers.

mod apparmor;
mod applied_objects;
pub(crate) mod changed_objects;
mod conditions;
mod control;
mod copy;
mod debug;
mod debug_profile;
mod end;
mod error;
mod exec;
mod export;
pub(crate) mod fields;
pub(crate) mod images;
pub(crate) mod jobs;
mod logs;
pub(crate) mod managed_fields;
mod named_file;
pub(crate) mod objects;
pub(crate) mod openapi;
pub(crate) mod patch;
mod pod;
mod pod_guard;
pub(crate) mod readiness;
mod repair;
mod replace;
pub(crate) mod start;
mod streams;
pub(crate) mod sweep;
pub(crate) mod tender;
mod usage;
mod volume_files;

pub use crate::{lifecycle::PodPart, pod::ObjectKind};
pub use conditions::WaitCondition;
pub(crate) use control::{LONG_SILENCE, Quiet, check_supervisor, wait_for_end};
pub(crate) use copy::{CopyOptions, CopySide};
pub use debug::{DebugCopy, DebugError, DebugOptions};
pub use debug_profile::DebugProfile;
pub(crate) use end::{Ending, ask, ask_to_stop, end_by_signal, gone, reach, request};
pub use error::{Error, ErrorKind};
pub use exec::{Exec, Output, Streams};
pub(crate) use exec::{default_container, dial, unreachable_pod};
pub use export::{Export, ExportOptions};
pub use images::{ImageError, ImageErrorKind, LoadOptions, PullOptions};
pub use jobs::JobOutcome;
pub use logs::{LogOptions, Logs};
pub use objects::{
    Applied, DeleteOptions, Deletion, DeletionBatch, ListOptions, ObjectWatch, PodDeletion, Preconditions,
    WriteOptions,
};
pub(crate) use objects::{node_name, object_version};
pub(crate) use pod::with_display_status;
pub use pod::{PodHandle, Watch};
pub use pod_guard::PodGuard;
pub use start::Error as StartError;
pub(crate) use streams::resize_terminal;
pub use streams::{ExecCommand, Session, Usage};
pub(crate) use usage::{measure_node, measure_pods};

use self::start::{Started, gather};

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use nix::unistd::{AccessFlags, access};
use podctl_images::Store;

use crate::{
    manifest::{self, Diagnostic, Manifest, Severity, Source},
    pod::{Namespace, ObjectName, PodExt, image_volumes, publish_ports},
    process::{Standing, find_standing},
    sandbox::{Objects, host_support},
    state::{Home, Liveness},
    wire::{Options, Request},
};

/// Tells where an [`Engine`] keeps things, and who keeps its pods.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// The directories of [`Engine::at`]; the user's own else.
    pub directories: Option<(PathBuf, PathBuf)>,
    /// The program of [`Engine::with_program`]; this one else.
    pub program: Option<PathBuf>,
}

/// The user's podctl: the pods and images below two directories.
///
/// Any number of programs and of `podctl` commands may use the same directories at the same time.
#[derive(Clone, Debug)]
pub struct Engine {
    home: Home,
}

fn io<E: Into<std::io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Io { step, source: source.into() }
}

impl Engine {
    /// The user's own, which the `podctl` command uses as well.
    ///
    /// # Errors
    /// [`Error::NotInitialised`]; [`Error::State`] when there is no place for state, or it cannot be made.
    pub fn of_user() -> Result<Engine, Error> {
        Engine::open(&EngineOptions::default())
    }

    /// The user's own, whose pods are kept by another program: the `podctl` command, or any that embeds podctl of this
    /// version. For code that is loaded into other programs, such as a module of Python, and for who would not have
    /// this program started anew.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), podctl::Error> {
    /// let engine = podctl::Engine::with_program("/usr/local/bin/podctl")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoProgram`]; [`Error::State`] as [`Engine::of_user`].
    pub fn with_program(program: impl AsRef<Path>) -> Result<Engine, Error> {
        let program = Some(program.as_ref().to_owned());
        Engine::open(&EngineOptions { program, ..EngineOptions::default() })
    }

    /// Returns what all the other ways to make one lead to.
    ///
    /// # Errors
    /// Those of [`Engine::of_user`] and [`Engine::with_program`].
    pub fn open(options: &EngineOptions) -> Result<Engine, Error> {
        match &options.program {
            None => check_standing()?,
            Some(program) => check_program(program)?,
        }
        let mut home = match &options.directories {
            None => Home::of_user()?,
            Some((runtime, data)) => Home::at(runtime, data)?,
        };
        if let Some(program) = &options.program {
            let program = std::path::absolute(program).map_err(io("find a program"))?;
            home.program = Some(program.into());
        }
        Ok(Engine { home })
    }

    /// The one of its own. `runtime_dir` holds what a reboot ends, `data_dir` images, logs and volumes; both
    /// are made where they are missing, and nobody else may enter them.
    ///
    /// # Errors
    /// As [`Engine::of_user`].
    pub fn at(runtime_dir: impl AsRef<Path>, data_dir: impl AsRef<Path>) -> Result<Engine, Error> {
        let directories = Some((runtime_dir.as_ref().to_owned(), data_dir.as_ref().to_owned()));
        Engine::open(&EngineOptions { directories, ..EngineOptions::default() })
    }

    pub(crate) fn over(home: &Home) -> Engine {
        Engine { home: home.clone() }
    }

    /// Reads manifests into checked and defaulted pods. A pod that names no namespace gets this one; what
    /// pods refer to is in the sources, or kept by `podctl apply` in that namespace.
    ///
    /// # Errors
    /// [`Error::Manifest`] has everything that is wrong; [`Error::Name`], [`Error::State`].
    pub fn load(&self, namespace: &str, sources: &[Source]) -> Result<Manifest, Error> {
        let (namespace, stored) = (Namespace::parse(namespace)?, self.kept()?);
        manifest::load_beside(sources, &stored, &namespace).map_err(Error::Manifest)
    }

    /// Starts a pod: one of a manifest that [`Engine::load`] gave, or one that a program made, which is then
    /// checked and given its defaults. Returns as soon as the pod's sandbox stands: images are pulled and
    /// containers started meanwhile.
    ///
    /// # Errors
    /// [`Error::Manifest`] with all that is wrong with the pod; [`Error::Unmet`], [`Error::Volume`], [`Error::Start`],
    /// [`Error::State`]; nothing of the pod is left behind then.
    pub fn run(&self, pod: &Pod, manifest: &Manifest, options: &Options) -> Result<PodHandle, Error> {
        let stored = self.kept()?;
        let started = self.start(pod.clone(), [manifest, &stored], options, None)?;
        Ok(PodHandle::started(&self.home, started))
    }

    /// Starts the pods of a YAML or JSON text, with what else is in it for them to refer to. All are started, or none.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), podctl::Error> {
    /// let engine = podctl::Engine::of_user()?;
    /// let pods = engine.run_yaml("default", "
    ///     apiVersion: v1
    ///     kind: Pod
    ///     metadata: {name: cache}
    ///     spec: {containers: [{name: redis, image: 'redis:7'}]}
    /// ", &podctl::Options::default())?;
    /// pods[0].wait_ready(Some(std::time::Duration::from_secs(60)))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Engine::load`] and [`Engine::run`]; [`Error::Unsupported`] when there is no pod, or a Job.
    pub fn run_yaml(&self, namespace: &str, text: &str, options: &Options) -> Result<Vec<PodHandle>, Error> {
        let manifest = self.load(namespace, &[Source { name: "manifest".into(), text: text.into() }])?;
        if let Some(job) = manifest.jobs.first() {
            return Err(Error::Unsupported(format!("job {:?} is run by Engine::run_job", job.name)));
        }
        if manifest.pods.is_empty() {
            return Err(Error::Unsupported("the manifest has no pod to run".into()));
        }
        let mut started: Vec<PodHandle> = Vec::new();
        for pod in &manifest.pods {
            match self.run(pod, &manifest, options) {
                Ok(handle) => started.push(handle),
                Err(e) => {
                    for pod in &started {
                        // Of the two failures this one is told.
                        let _ = pod.delete(Some(std::time::Duration::ZERO));
                    }
                    return Err(e);
                }
            }
        }
        Ok(started)
    }

    /// Does as [`Engine::run`]; what the pod refers to is taken from the first that has it.
    pub(crate) fn start(
        &self,
        pod: Pod,
        from: [&Manifest; 2],
        options: &Options,
        first: Option<&Request>,
    ) -> Result<Started, Error> {
        let mut pod = pod;
        publish_ports(&mut pod, &options.publish);
        let known = (!options.awaits_objects).then_some(from);
        let pod = manifest::check_pod(pod, known).map_err(Error::Manifest)?;
        // Whoever read the files has seen what they say of the pod.
        let said = |d: &Diagnostic| {
            from[0].warnings.iter().any(|known| known.message == d.message && known.path.ends_with(&d.path))
        };
        // Who manages its fields, podctl has noted itself.
        let new = pod.warnings.iter().filter(|d| !said(d) && d.path != "metadata.managedFields");
        let mut warnings: Vec<String> = new.map(|d| format!("{}: {}", d.path, d.message)).collect();
        warnings.extend(unmet(&pod)?);
        apparmor::load_profile();
        allow_sysctls(&pod, options)?;
        let restarts = options.restart_pod_on_init_failure || pod.restarts_on_init_failure();
        let options = &Options { restart_pod_on_init_failure: restarts, ..options.clone() };
        let objects = self.gather(&pod, from, options)?;
        let started = start::start(&self.home, pod, objects, options, first);
        let mut started = started.map_err(|e| match e {
            start::Error::Invalid(all) => Error::Manifest(all),
            e => e.into(),
        })?;
        started.warnings.splice(0..0, warnings);
        Ok(started)
    }

    /// Returns what the pod refers to; the images of its volumes are pulled where their policy says so.
    fn gather(&self, pod: &Pod, from: [&Manifest; 2], options: &Options) -> Result<Objects, Error> {
        for volume in image_volumes(pod) {
            // One that cannot be had now is asked for again by the pod, whose status then says why.
            let _ = self.have_image(&volume.image, &volume.policy, options);
        }
        Ok(gather::gather(&self.home, pod, from)?)
    }

    fn have_image(&self, image: &str, policy: &str, options: &Options) -> Result<(), ImageError> {
        let present = Store::open(&self.home.images())?.find(&image.parse()?)?.is_some();
        if policy == "Always" || (policy != "Never" && !present) {
            let Options { progress, squash_ids, .. } = *options;
            self.pull(image, &PullOptions { progress, squash_ids, platform: None }).map(drop)
        } else {
            Ok(())
        }
    }

    /// The pods there are, alive or ended, ordered by namespace and name: of one namespace, or of all.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn pods(&self, namespace: Option<&str>) -> Result<Vec<PodHandle>, Error> {
        let dirs = self.home.pods()?.into_iter();
        let wanted = dirs.filter(|dir| namespace.is_none_or(|n| dir.namespace == n));
        Ok(wanted.map(|dir| PodHandle::of(&self.home, &dir)).collect())
    }

    /// Returns the handle of a pod, alive or ended.
    ///
    /// # Errors
    /// [`Error::State`] when there is none, [`Error::Name`].
    pub fn pod(&self, namespace: &str, name: &str) -> Result<PodHandle, Error> {
        sweep::sweep_records(&self.home); // A killed start may have left its record beside its place.
        self.find_pod(namespace, name)
    }

    /// Does as [`Engine::pod`] where what killed starts have left is in its place already.
    fn find_pod(&self, namespace: &str, name: &str) -> Result<PodHandle, Error> {
        let dir = self.home.pod(&Namespace::parse(namespace)?, &ObjectName::parse(name)?);
        match dir.read_liveness() {
            Liveness::Absent => Err(dir.not_found().into()),
            _ => Ok(PodHandle::of(&self.home, &dir)),
        }
    }

    /// Tells where a server for the Kubernetes API keeps its credentials and its port.
    pub(crate) fn server_dir(&self) -> PathBuf {
        self.home.data.join("server")
    }

    /// Returns what `create` and `apply` keep for pods to refer to, in every namespace.
    pub(crate) fn kept(&self) -> Result<Manifest, Error> {
        // What is damaged keeps no pod from starting that does not refer to it.
        let claims = self.home.volumes()?.into_iter().filter_map(|v| v.claim().ok().flatten());
        let mut kept = Manifest { claims: claims.collect(), ..Manifest::default() };
        for namespace in self.home.namespaces()? {
            kept.config_maps.extend(self.home.objects(&namespace)?);
            kept.secrets.extend(self.home.objects(&namespace)?);
        }
        Ok(kept)
    }
}

/// Checks that this program would play podctl's roles.
fn check_standing() -> Result<(), Error> {
    match find_standing() {
        Standing::InTime => Ok(()),
        Standing::Late => Err(Error::InitialisedLate),
        Standing::Never => Err(Error::NotInitialised),
    }
}

/// Checks that a program that is to play podctl's roles can be executed.
fn check_program(program: &Path) -> Result<(), Error> {
    let refused = |source| Error::NoProgram { program: program.to_owned(), source };
    if !std::fs::metadata(program).map_err(refused)?.is_file() {
        return Err(refused(std::io::Error::other("it is no file")));
    }
    access(program, AccessFlags::X_OK).map_err(|errno| refused(errno.into()))
}

/// Variable that allows unsafe sysctls for every door, as `run --allowed-unsafe-sysctls` does for one run.
const ALLOWED_UNSAFE_SYSCTLS: &str = "PODCTL_ALLOWED_UNSAFE_SYSCTLS";

/// Refuses a pod with a sysctl that neither is safe nor was allowed, as a kubelet does.
fn allow_sysctls(pod: &Pod, options: &Options) -> Result<(), Error> {
    let named = std::env::var(ALLOWED_UNSAFE_SYSCTLS).unwrap_or_default();
    let named = named.split(',').map(str::to_owned);
    let allowed: Vec<String> = options.allowed_unsafe_sysctls.iter().cloned().chain(named).collect();
    let found = pod.spec.as_ref().and_then(|spec| manifest::find_forbidden_sysctl(spec, &allowed));
    let Some((at, name)) = found else { return Ok(()) };
    Err(Error::Unmet {
        pod: pod.name().to_owned(),
        field: format!("spec.securityContext.sysctls[{at}].name"),
        why: format!(
            "SysctlForbidden: forbidden sysctl: {name:?} not allowlisted; allow it with --allowed-unsafe-sysctls={name}, or {ALLOWED_UNSAFE_SYSCTLS} in the environment"
        ),
    })
}

/// Tells whether this machine can give what the pod asks for; what it can give in part only is a warning.
pub(crate) fn unmet(pod: &Pod) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for (field, severity, why) in host_support::unmet(pod) {
        match severity {
            Severity::Error => {
                let pod = pod.name().to_owned();
                return Err(Error::Unmet { pod, field: field.to_string(), why: why.to_string() });
            }
            Severity::Warning => warnings.push(format!("{field}: {why}")),
        }
    }
    Ok(warnings)
}
