//! Files whose objects are kept and whose pods are started: `apply` and `create -f`.

use std::cell::RefCell;

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace, UsageError, last_applied,
        manifest_files::{FileArgs, parse_file_selector, read_manifest},
        manifest_services,
        object_selection::check_own_namespace,
        output_formats::{DryRun, Output, OutputArgs},
        output_streams::print_failures,
        print,
        result_lines::print_applied,
        start_notes::print_start_notes,
        stored_objects::{self, already_exists},
    },
    engine::{Applied, Engine, ErrorKind, Preconditions, WriteOptions, managed_fields::note_update},
    manifest::{self, Manifest, Written},
    pod::{ObjectKind, ObjectName},
    state::{Home, Kept, Liveness},
    view::selectors::Labels,
    wire::Options,
};

/// Tells how files are taken.
pub(super) struct Manner<'a> {
    /// Tells that what is there already is an error, as for `create`.
    pub fresh: bool,
    /// Tells that what is made is noted in it, as `apply` always does.
    pub save: bool,
    /// Objects with these labels only.
    pub selector: &'a str,
    pub dry: DryRun,
    pub output: &'a OutputArgs,
    /// Whose the fields that change become, where that is to be noted.
    pub manager: Option<&'a str>,
}

impl Manner<'_> {
    fn write_options(&self, dry_run: bool) -> WriteOptions {
        WriteOptions { dry_run, manager: self.manager.map(str::to_owned), ..WriteOptions::default() }
    }
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
    let labels = parse_file_selector(manner.selector)?;
    retain_labeled(&mut manifest, &labels);
    if manifest.written.is_empty() {
        let verb = if manner.fresh { "create" } else { "apply" };
        return Err(Error::absent(format!("no objects passed to {verb}")));
    }
    manifest.written.iter().try_for_each(|written| check_own_namespace(&written.object, namespace))?;
    let written = take_written(&mut manifest, namespace);
    if let Some(prefix) =
        written.iter().find_map(|written| find_generated_name(&written.object)).filter(|_| !manner.fresh)
    {
        return Err(Error::not_done(format!("from {prefix}: cannot use generate name with apply")));
    }
    let jobs = find_jobs(&written, &manifest)?;
    if let Some(manager) = manner.manager {
        note_maker(&mut manifest.config_maps, &written, manager)?;
        note_maker(&mut manifest.secrets, &written, manager)?;
        note_maker(&mut manifest.claims, &written, manager)?;
        note_maker(&mut manifest.services, &written, manager)?;
        note_maker(&mut manifest.pods, &written, manager)?;
    }
    let (printed, failed) = Default::default();
    let output = manner.output.parse()?;
    let tell = Tell { manner, output, engine: Engine::over(home), written, printed, failed };
    match manner.dry.is_dry() {
        true => tell.try_all(&manifest, jobs, namespace),
        false => tell.apply_all(manifest, &jobs, home, namespace)?,
    }
    tell.print_list()?;
    let failed = tell.failed.into_inner();
    print_failures(&failed);
    Ok(i32::from(!failed.is_empty()))
}

/// Returns how the name of an object begins that is to be made up.
fn find_generated_name(object: &Value) -> Option<&str> {
    let meta = &object["metadata"];
    meta["generateName"].as_str().filter(|_| meta["name"].as_str().is_none_or(str::is_empty))
}

impl Tell<'_> {
    /// Keeps the objects, and starts the pods.
    fn apply_all(
        &self,
        mut manifest: Manifest,
        jobs: &[Value],
        home: &Home,
        namespace: &Namespace,
    ) -> Result<(), Error> {
        let (tell, manner) = (self, self.manner);
        let place = (home, namespace);
        tell.change_present(ObjectKind::ConfigMap, &mut manifest.config_maps, place)?;
        let own = |meta: &ObjectMeta| Namespace::of_object(meta, namespace);
        for map in &manifest.config_maps {
            tell.keep(home, &own(&map.metadata)?, map.clone(), ObjectKind::ConfigMap)?;
        }
        tell.change_present(ObjectKind::Secret, &mut manifest.secrets, place)?;
        for secret in &manifest.secrets {
            tell.keep(home, &own(&secret.metadata)?, secret.clone(), ObjectKind::Secret)?;
        }
        tell.change_present(ObjectKind::PersistentVolumeClaim, &mut manifest.claims, place)?;
        for claim in &manifest.claims {
            let (kind, name, own) = (
                ObjectKind::PersistentVolumeClaim,
                ObjectName::of_object(&claim.metadata)?,
                own(&claim.metadata)?,
            );
            let applied = match manner.fresh && home.volume(&own, &name).claim()?.is_some() {
                true => Err(already_exists(kind, &name)),
                false => tell.engine.apply_claim(&own, claim).map_err(Error::from),
            };
            tell.tell((kind, &own, &name), applied)?;
        }
        // What has just been kept is what the pods use: so they follow when it is applied anew.
        let kept = stored_objects::read_stored(home, &[])?;
        let options = Options { progress: true, ..Options::default() };
        tell.change_present(ObjectKind::Service, &mut manifest.services, place)?;
        // They are not the pods' own.
        for service in std::mem::take(&mut manifest.services) {
            let (own, name) = (own(&service.metadata)?, ObjectName::of_object(&service.metadata)?);
            let applied = manifest_services::keep_service(home, namespace, service, manner.fresh);
            tell.tell((ObjectKind::Service, &own, &name), applied.map(|(.., applied)| applied))?;
        }
        tell.change_present(ObjectKind::Pod, &mut manifest.pods, place)?;
        for pod in &manifest.pods {
            let dir = home.place_of(pod)?;
            let applied = match manner.fresh && dir.read_liveness() == Liveness::Alive {
                true => Err(already_exists(ObjectKind::Pod, &dir.name)),
                false => tell.engine.apply_pod(pod, [&kept, &manifest], &options).map_err(Error::from),
            };
            let applied = applied.map(|(applied, started)| {
                started.iter().for_each(print_start_notes);
                applied
            });
            tell.tell((ObjectKind::Pod, &dir.namespace, &dir.name), applied)?;
        }
        for job in jobs {
            tell.try_object(ObjectKind::Job, job, namespace, false);
        }
        Ok(())
    }
}

/// Returns the objects of files as they are written there, each with its namespace.
fn take_written(manifest: &mut Manifest, namespace: &Namespace) -> Vec<Written> {
    let mut all = std::mem::take(&mut manifest.written);
    for Written { object, .. } in &mut all {
        let kind = ObjectKind::of_object(object["kind"].as_str().unwrap_or_default());
        let own = object["metadata"]["namespace"].as_str();
        if own.is_none_or(str::is_empty) && kind.is_some_and(ObjectKind::is_namespaced) {
            object["metadata"]["namespace"] = namespace.as_str().into();
        }
    }
    all
}

/// Returns the Jobs of the files, as they are written there.
///
/// # Errors
/// CronJobs, of which nobody would start the next Job.
fn find_jobs(written: &[Written], manifest: &Manifest) -> Result<Vec<Value>, Error> {
    let objects = || written.iter().map(|written| &written.object);
    let mut jobs: Vec<Value> = objects().filter(|object| object["kind"] == "Job").cloned().collect();
    let is_scheduled = objects().any(|object| object["kind"] == "CronJob");
    if let Some(first) = manifest.jobs.first().filter(|_| is_scheduled) {
        return Err(Error::not_done(format!(
            "{:?} is a CronJob's, and nobody would start it when it is time: `podctl run` runs it once and waits, `podctl create job NAME --from=cronjob/… -f FILE` keeps it as a Job",
            first.name
        )));
    }
    for job in &mut jobs {
        if let Some(prefix) =
            job["metadata"]["generateName"].as_str().filter(|_| job["metadata"]["name"].is_null())
        {
            job["metadata"]["name"] = manifest::generated_name(prefix).into();
        }
    }
    Ok(jobs)
}

/// Notes in objects that are made who makes them: that is the manager of what the files say of them.
pub(super) fn note_maker<T>(objects: &mut [T], written: &[Written], manager: &str) -> Result<(), Error>
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    for object in objects {
        let name = object.metadata().name.as_deref().unwrap_or_default();
        let is_it = |written: &&Written| {
            written.object["kind"] == T::KIND && written.object["metadata"]["name"] == name
        };
        // A pod that was made of a workload is in no file itself.
        let Some(mut noted) = written.iter().find(is_it).map(|written| written.object.clone()) else {
            continue;
        };
        note_update(None, &mut noted, manager);
        let fields = noted["metadata"]["managedFields"].take();
        object.metadata_mut().managed_fields = serde_json::from_value(fields)?;
    }
    Ok(())
}

/// Leaves the objects with certain labels.
fn retain_labeled(manifest: &mut Manifest, labels: &Labels) {
    manifest.written.retain(|written| labels.matches_object(&written.object));
    manifest.config_maps.retain(|object| labels.matches(object.metadata.labels.as_ref()));
    manifest.secrets.retain(|object| labels.matches(object.metadata.labels.as_ref()));
    manifest.claims.retain(|object| labels.matches(object.metadata.labels.as_ref()));
    manifest.services.retain(|object| labels.matches(object.metadata.labels.as_ref()));
    manifest.pods.retain(|object| labels.matches(object.metadata.labels.as_ref()));
}

/// Holds what is said of each object.
struct Tell<'a> {
    manner: &'a Manner<'a>,
    output: Output,
    engine: Engine,
    /// The objects of the files as they are written there.
    written: Vec<Written>,
    /// What `apply` prints at its end, as one list.
    printed: RefCell<Vec<Value>>,
    /// The reasons why objects could not be kept.
    failed: RefCell<Vec<Error>>,
}

impl Tell<'_> {
    /// Returns an object as its file has it; nothing for a pod that was made of a workload.
    fn find_written(&self, kind: ObjectKind, namespace: &str, name: &str) -> Option<&Value> {
        self.find_place(kind, namespace, name).map(|at| &self.written[at].object)
    }

    /// Tells which of the files' objects one is.
    fn find_place(&self, kind: ObjectKind, namespace: &str, name: &str) -> Option<usize> {
        self.written.iter().position(|Written { object, .. }| {
            let meta = &object["metadata"];
            object["kind"] == kind.name() && meta["name"] == name && meta["namespace"] == namespace
        })
    }

    /// Returns an object of a file with the note of what the file says, where there is to be one.
    fn note_if_saved(&self, written: &Value) -> Value {
        match self.manner.save || !self.manner.fresh {
            true => last_applied::note_configuration(written),
            false => written.clone(),
        }
    }

    /// Changes what is there already into what the files say, and takes it out of what is made anew; the rest notes what
    /// the files say of it.
    fn change_present<T>(
        &self,
        kind: ObjectKind,
        objects: &mut Vec<T>,
        (home, namespace): (&Home, &Namespace),
    ) -> Result<(), Error>
    where
        T: k8s_openapi::Metadata<Ty = ObjectMeta>,
    {
        if self.manner.fresh && !self.manner.save {
            return Ok(());
        }
        let mut left = Vec::new();
        for mut object in std::mem::take(objects) {
            let own = Namespace::of_object(object.metadata(), namespace)?;
            let name = ObjectName::of_object(object.metadata())?;
            let Some(written) = self.find_written(kind, &own, &name) else {
                left.push(object);
                continue;
            };
            let is_new = match kind {
                // One that has ended is started anew.
                ObjectKind::Pod => home.pod(&own, &name).read_liveness() != Liveness::Alive,
                // One that came with a pod is kept from now on.
                ObjectKind::Service => home.object::<Service>(&own, &name)?.is_none(),
                _ => false,
            };
            match self.engine.get_object(kind, &own, &name) {
                Ok(live) if !is_new && !self.manner.fresh => {
                    match self.change_one(kind, (home, &own, &name), &live, written) {
                        Ok(applied) => self.tell((kind, &own, &name), Ok(applied))?,
                        Err(e) => self.fail((kind, &own, &name), "patching", e),
                    }
                }
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e.into()),
                _ => {
                    let noted = last_applied::note_configuration(written);
                    let annotations = serde_json::from_value(noted["metadata"]["annotations"].clone());
                    object.metadata_mut().annotations = annotations?;
                    left.push(object);
                }
            }
        }
        *objects = left;
        Ok(())
    }

    /// Makes one object that is there what its file says.
    fn change_one(
        &self,
        kind: ObjectKind,
        (home, namespace, name): (&Home, &Namespace, &ObjectName),
        live: &Value,
        written: &Value,
    ) -> Result<Applied, Error> {
        let merged = last_applied::merge_written(kind, live, written)?;
        if merged == *live {
            return Ok(Applied::Unchanged);
        }
        let seen = Preconditions::default();
        let options = self.manner.write_options(kind == ObjectKind::Service);
        let changed = self.engine.update_object(kind, namespace, &merged, &seen, &options);
        let changed = changed.map_err(|e| Error::about(kind, name, e))?;
        if kind == ObjectKind::Service {
            // The network takes it up, and may warn.
            let service = serde_json::from_value(changed)?;
            manifest_services::keep_service(home, namespace, service, false)?;
        }
        Ok(Applied::Configured)
    }

    /// Says why an object is not as its file has it; the others are kept all the same.
    fn fail(&self, (kind, namespace, name): (ObjectKind, &str, &str), doing: &'static str, error: Error) {
        let error = match error {
            Error::Engine(e) => Error::about(kind, name, e),
            other => other,
        };
        // A pod that was made of a workload is in no file itself.
        let place = self.find_place(kind, namespace, name).unwrap_or_default();
        let error = match self.written.get(place) {
            Some(written) => error.in_file(doing, &written.file),
            None => error,
        };
        self.failed.borrow_mut().push(error);
    }

    /// Says what became of an object that is made, or prints it.
    fn tell(
        &self,
        (kind, namespace, name): (ObjectKind, &Namespace, &ObjectName),
        applied: Result<Applied, Error>,
    ) -> Result<(), Error> {
        let applied = match applied {
            Ok(applied) => applied,
            Err(e) => {
                self.fail((kind, namespace, name), "creating", e);
                return Ok(());
            }
        };
        if let Output::Table { .. } = self.output {
            print_applied(kind, name, applied);
            return Ok(());
        }
        let object = self.engine.get_object(kind, namespace, name)?;
        self.print(&object, "")
    }

    /// Prints an object or a line about it; what `apply` prints in full, is printed at its end.
    fn print(&self, object: &Value, what: &str) -> Result<(), Error> {
        match self.output {
            Output::Table { .. } | Output::Name => {}
            _ if self.manner.fresh => {}
            _ => {
                self.printed.borrow_mut().push(object.clone());
                return Ok(());
            }
        }
        self.manner.output.print_result(&self.output, object, what)
    }

    /// Prints what was held back.
    fn print_list(&self) -> Result<(), Error> {
        let all = self.printed.borrow();
        let shown = match &all[..] {
            [] => return Ok(()),
            [one] => one.clone(),
            many => json!({"apiVersion": "v1", "items": many, "kind": "List", "metadata": {}}),
        };
        print(&self.manner.output.format_objects(&self.output, &[shown], true)?);
        Ok(())
    }

    fn keep<T: Kept>(
        &self,
        home: &Home,
        namespace: &Namespace,
        object: T,
        kind: ObjectKind,
    ) -> Result<(), Error> {
        let name = ObjectName::of_object(object.metadata())?;
        let applied = match self.manner.fresh && home.object::<T>(namespace, &name)?.is_some() {
            true => Err(already_exists(kind, &name)),
            false => self.engine.apply_kept(kind, namespace, object).map_err(Error::from),
        };
        self.tell((kind, namespace, &name), applied)
    }

    /// Says what would become of all objects, and does nothing.
    fn try_all(&self, manifest: &Manifest, jobs: Vec<Value>, namespace: &Namespace) {
        let config_maps = manifest.config_maps.iter().map(|o| (ObjectKind::ConfigMap, to_value(o)));
        let secrets = manifest.secrets.iter().map(|o| (ObjectKind::Secret, to_value(o)));
        let claims = manifest.claims.iter().map(|o| (ObjectKind::PersistentVolumeClaim, to_value(o)));
        let services = manifest.services.iter().map(|o| (ObjectKind::Service, to_value(o)));
        let pods = manifest.pods.iter().map(|o| (ObjectKind::Pod, to_value(o)));
        let jobs = jobs.into_iter().map(|object| (ObjectKind::Job, object));
        let all = config_maps.chain(secrets).chain(claims).chain(services).chain(pods).chain(jobs);
        let mut all: Vec<(ObjectKind, Value)> = all.collect();
        // In the order of the files; the pods of workloads behind.
        let place = |kind: ObjectKind, object: &Value| {
            let meta = &object["metadata"];
            let own = meta["namespace"].as_str().unwrap_or(namespace);
            let at = self.find_place(kind, own, meta["name"].as_str().unwrap_or_default());
            at.unwrap_or(usize::MAX)
        };
        all.sort_by_key(|(kind, object)| place(*kind, object));
        for (kind, object) in all {
            self.try_object(kind, &object, namespace, true);
        }
    }

    /// Does as [`Tell::write_object`], and says why an object cannot be written.
    fn try_object(&self, kind: ObjectKind, object: &Value, namespace: &Namespace, dry_run: bool) {
        if let Err(e) = self.write_object(kind, object, namespace, dry_run) {
            let meta = &object["metadata"];
            let own = meta["namespace"].as_str().unwrap_or(namespace);
            let name = meta["name"].as_str().unwrap_or_default();
            let is_there = !self.manner.fresh && self.engine.get_object(kind, own, name).is_ok();
            self.fail((kind, own, name), if is_there { "patching" } else { "creating" }, e);
        }
    }

    /// Creates an object or changes the one of its name, or only tries to, and says so.
    fn write_object(
        &self,
        kind: ObjectKind,
        object: &Value,
        namespace: &Namespace,
        dry_run: bool,
    ) -> Result<(), Error> {
        let own = object["metadata"]["namespace"].as_str().filter(|own| !matches!(*own, "" | "default"));
        let namespace = own.map_or_else(|| Ok(namespace.clone()), Namespace::parse)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let options = self.manner.write_options(dry_run);
        let written = self.find_written(kind, &namespace, name);
        let about = |e| Error::about(kind, name, e);
        if self.manner.fresh && self.manner.dry == DryRun::Client {
            // Nobody is asked, not even whether there is one already.
            let shown = written.map_or_else(|| object.clone(), |written| self.note_if_saved(written));
            return self.print(&shown, &format!("created{}", self.manner.dry.suffix()));
        }
        let (would, shown, word) = match self.engine.get_object(kind, &namespace, name) {
            Ok(_) if self.manner.fresh => return Err(already_exists(kind, name)),
            Ok(known) => {
                let merged = match written {
                    Some(written) => last_applied::merge_written(kind, &known, written)?,
                    None => object.clone(),
                };
                let seen = Preconditions::default();
                let would = match merged == known {
                    true => known.clone(),
                    false => self
                        .engine
                        .update_object(kind, &namespace, &merged, &seen, &options)
                        .map_err(about)?,
                };
                let same = merged == known || content(&known) == content(&would);
                (would, merged, if same { "unchanged" } else { "configured" })
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let object = written.map_or_else(|| object.clone(), |written| self.note_if_saved(written));
                let would = self.engine.create_object(kind, &namespace, &object, &options).map_err(about)?;
                (would, object, "created")
            }
            Err(e) => return Err(e.into()),
        };
        let shown = if self.manner.dry == DryRun::Client { &shown } else { &would };
        let what = format!("{word}{}", self.manner.dry.suffix());
        self.print(shown, &what)
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
