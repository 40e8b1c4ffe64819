//! Files whose objects are kept and whose pods are started: `apply` and `create -f`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use serde_json::Value;

use crate::{
    cli::{
        Error, Namespace, UsageError,
        manifest_files::{FileArgs, parse_objects, read_manifest},
        manifest_services,
        output_formats::{DryRun, Output, OutputArgs},
        print_error,
        result_lines::print_applied,
        start_notes::print_start_notes,
        stored_objects::{self, already_exists},
    },
    engine::{Applied, Engine, ErrorKind, Preconditions, WriteOptions},
    manifest::{self, Manifest, Source},
    pod::{ObjectKind, ObjectName},
    state::{Home, Kept, Liveness},
    view::selectors::Labels,
    wire::Options,
};

/// Tells how files are taken.
pub(super) struct Manner<'a> {
    /// Tells that what is there already is an error, as for `create`.
    pub fresh: bool,
    /// Objects with these labels only.
    pub selector: &'a str,
    pub dry: DryRun,
    pub output: &'a OutputArgs,
}

/// Keeps the objects of files, and starts their pods.
///
/// # Errors
/// Files that cannot be read or are refused, objects that cannot be kept.
pub(super) fn apply_files(
    files: &FileArgs,
    manner: &Manner<'_>,
    home: &Home,
    namespace: &Namespace,
) -> Result<i32, Error> {
    if !files.is_given() {
        return Err(UsageError::NoFiles.into());
    }
    let stored = stored_objects::read_stored(home, &[])?;
    let sources = files.read_sources()?;
    let mut manifest = read_manifest(&sources, &stored, namespace)?;
    let jobs = find_jobs(&sources, &manifest, manner.selector)?;
    retain_labeled(&mut manifest, manner.selector)?;
    let tell = Tell { manner, output: manner.output.parse()?, engine: Engine::over(home) };
    if manner.dry.is_dry() {
        return tell.try_all(&manifest, jobs, namespace);
    }
    let own = |meta: &ObjectMeta| Namespace::of_object(meta, namespace);
    for map in &manifest.config_maps {
        tell.keep(home, &own(&map.metadata)?, map.clone(), ObjectKind::ConfigMap)?;
    }
    for secret in &manifest.secrets {
        tell.keep(home, &own(&secret.metadata)?, secret.clone(), ObjectKind::Secret)?;
    }
    for claim in &manifest.claims {
        let (kind, name, own) = (
            ObjectKind::PersistentVolumeClaim,
            ObjectName::of_object(&claim.metadata)?,
            own(&claim.metadata)?,
        );
        if manner.fresh && home.volume(&own, &name).claim()?.is_some() {
            return Err(already_exists(kind, &name));
        }
        let applied = tell.engine.apply_claim(&own, claim)?;
        tell.tell((kind, &own, &name), applied)?;
    }
    // What has just been kept is what the pods use: so they follow when it is applied anew.
    let kept = stored_objects::read_stored(home, &[])?;
    let options = Options { progress: true, ..Options::default() };
    // They are not the pods' own.
    for service in std::mem::take(&mut manifest.services) {
        let (own, name, applied) = manifest_services::keep_service(home, namespace, service, manner.fresh)?;
        tell.tell((ObjectKind::Service, &own, &name), applied)?;
    }
    for pod in &manifest.pods {
        let dir = home.place_of(pod)?;
        if manner.fresh && dir.read_liveness() == Liveness::Alive {
            return Err(already_exists(ObjectKind::Pod, &dir.name));
        }
        let (applied, started) = tell.engine.apply_pod(pod, [&kept, &manifest], &options)?;
        started.iter().for_each(print_start_notes);
        tell.tell((ObjectKind::Pod, &dir.namespace, &dir.name), applied)?;
    }
    for job in &jobs {
        tell.write_object(ObjectKind::Job, job, namespace, false)?;
    }
    Ok(0)
}

/// Returns the Jobs of the files with certain labels, as they are written there.
///
/// # Errors
/// CronJobs, of which nobody would start the next Job.
fn find_jobs(sources: &[Source], manifest: &Manifest, selector: &str) -> Result<Vec<Value>, Error> {
    let Some(first) = manifest.jobs.first() else { return Ok(Vec::new()) };
    let mut jobs = parse_objects(sources)?;
    jobs.retain(|object| object["kind"] == "Job");
    if jobs.len() < manifest.jobs.len() {
        return Err(Error::not_done(format!(
            "{:?} is a CronJob's, and nobody would start it when it is time: `podctl run` runs it once and waits, `podctl create job NAME --from=cronjob/… -f FILE` keeps it as a Job",
            first.name
        )));
    }
    let labels = Labels::parse(selector).map_err(Error::bad_value)?;
    jobs.retain(|job| {
        labels.matches(serde_json::from_value(job["metadata"]["labels"].clone()).ok().as_ref())
    });
    for job in &mut jobs {
        if let Some(prefix) =
            job["metadata"]["generateName"].as_str().filter(|_| job["metadata"]["name"].is_null())
        {
            job["metadata"]["name"] = manifest::generated_name(prefix).into();
        }
    }
    Ok(jobs)
}

/// Leaves the objects with certain labels.
fn retain_labeled(manifest: &mut Manifest, selector: &str) -> Result<(), Error> {
    let labels = Labels::parse(selector).map_err(Error::bad_value)?;
    manifest.config_maps.retain(|object| labels.matches(object.metadata.labels.as_ref()));
    manifest.secrets.retain(|object| labels.matches(object.metadata.labels.as_ref()));
    manifest.claims.retain(|object| labels.matches(object.metadata.labels.as_ref()));
    manifest.services.retain(|object| labels.matches(object.metadata.labels.as_ref()));
    manifest.pods.retain(|object| labels.matches(object.metadata.labels.as_ref()));
    Ok(())
}

/// Holds what is said of each object.
struct Tell<'a> {
    manner: &'a Manner<'a>,
    output: Output,
    engine: Engine,
}

impl Tell<'_> {
    /// Says what became of an object, or prints it.
    fn tell(
        &self,
        (kind, namespace, name): (ObjectKind, &Namespace, &ObjectName),
        applied: Applied,
    ) -> Result<(), Error> {
        if let Output::Table { .. } = self.output {
            print_applied(kind, name, applied);
            return Ok(());
        }
        let object = self.engine.get_object(kind, namespace, name)?;
        self.manner.output.print_result(&self.output, &object, "")
    }

    fn keep<T: Kept>(
        &self,
        home: &Home,
        namespace: &Namespace,
        object: T,
        kind: ObjectKind,
    ) -> Result<(), Error> {
        let name = ObjectName::of_object(object.metadata())?;
        if self.manner.fresh && home.object::<T>(namespace, &name)?.is_some() {
            return Err(already_exists(kind, &name));
        }
        let applied = self.engine.apply_kept(kind, namespace, object)?;
        self.tell((kind, namespace, &name), applied)
    }

    /// Says what would become of all objects, and does nothing.
    fn try_all(&self, manifest: &Manifest, jobs: Vec<Value>, namespace: &Namespace) -> Result<i32, Error> {
        let config_maps = manifest.config_maps.iter().map(|o| (ObjectKind::ConfigMap, to_value(o)));
        let secrets = manifest.secrets.iter().map(|o| (ObjectKind::Secret, to_value(o)));
        let claims = manifest.claims.iter().map(|o| (ObjectKind::PersistentVolumeClaim, to_value(o)));
        let services = manifest.services.iter().map(|o| (ObjectKind::Service, to_value(o)));
        let pods = manifest.pods.iter().map(|o| (ObjectKind::Pod, to_value(o)));
        let jobs = jobs.into_iter().map(|object| (ObjectKind::Job, object));
        let mut code = 0;
        for (kind, object) in config_maps.chain(secrets).chain(claims).chain(services).chain(pods).chain(jobs)
        {
            if let Err(e) = self.write_object(kind, &object, namespace, true) {
                print_error(&e);
                code = 1;
            }
        }
        Ok(code)
    }

    /// Creates an object or changes the one of its name, or only tries to, and says so.
    fn write_object(
        &self,
        kind: ObjectKind,
        object: &Value,
        namespace: &Namespace,
        dry_run: bool,
    ) -> Result<(), Error> {
        let own = object["metadata"]["namespace"].as_str().filter(|own| *own != "default");
        let namespace = own.map_or_else(|| Ok(namespace.clone()), Namespace::parse)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        let (would, word) = match self.engine.get_object(kind, &namespace, name) {
            Ok(_) if self.manner.fresh => return Err(already_exists(kind, name)),
            Ok(known) => {
                let would = self.engine.update_object(
                    kind,
                    &namespace,
                    object,
                    &Preconditions::default(),
                    &options,
                )?;
                let same = content(&known) == content(&would);
                (would, if same { "unchanged" } else { "configured" })
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                (self.engine.create_object(kind, &namespace, object, &options)?, "created")
            }
            Err(e) => return Err(e.into()),
        };
        let shown = if self.manner.dry == DryRun::Client { object } else { &would };
        let what = format!("{word}{}", self.manner.dry.suffix());
        self.manner.output.print_result(&self.output, shown, &what)
    }
}

/// Returns an object as JSON, with its kind.
fn to_value<T: serde::Serialize>(object: &T) -> Value {
    // It is plain data: nothing of it can fail to be JSON.
    serde_json::to_value(object).unwrap_or_default()
}

/// Returns what an object holds beside what is said of it.
fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|key, _| matches!(key.as_str(), "labels" | "annotations"));
    }
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.remove("nodeName");
    }
    object
}
