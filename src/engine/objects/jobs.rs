//! Jobs as they are kept and shown: the user's object, with what its keeper has written down of it.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobStatus},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use serde_json::Value;

use super::{
    super::{
        Engine, Error, ObjectKind,
        tender::{UID_LABELS, is_final, start_tender},
    },
    complete,
    request::read_request,
    write::check_job_spec,
};
use crate::{
    manifest::{self, Manifest},
    pod::{Namespace, ObjectName},
    state::Home,
};

/// Tells whether a Job has come to its end.
pub(in crate::engine) fn is_finished(status: &JobStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| is_final(&condition.type_))
}

/// Reads a kept Job as a manifest is read: the job, and what its pods may refer to.
pub(in crate::engine) fn load_kept_job(
    engine: &Engine,
    namespace: &Namespace,
    kept: &Job,
) -> Result<(manifest::Job, Manifest), Error> {
    let stored = engine.kept()?;
    let mut manifest = read_request(ObjectKind::Job, namespace, &complete::to_value(kept), Some(&stored))?;
    let job = manifest.jobs.pop().ok_or_else(|| Error::Unsupported("the object is no Job".to_owned()))?;
    Ok((job, manifest))
}

/// Makes the object that is kept of a checked job: with the defaults that the API server fills in.
pub(super) fn complete_job(metadata: ObjectMeta, job: manifest::Job) -> Job {
    let mut spec = job.spec;
    let mut pod = job.pod;
    manifest::complete_pod(&mut pod);
    let ObjectMeta { labels, annotations, .. } = pod.metadata;
    let metadata_of_pod = ObjectMeta { labels: labels.clone(), annotations, ..ObjectMeta::default() };
    spec.template = PodTemplateSpec { metadata: Some(metadata_of_pod), spec: pod.spec };
    spec.completion_mode.get_or_insert_with(|| "NonIndexed".into());
    spec.suspend.get_or_insert(false);
    spec.selector = None;
    let mut object = Job { metadata, spec: Some(spec), status: None };
    if object.metadata.labels.as_ref().is_none_or(|labels| labels.is_empty()) {
        object.metadata.labels = labels;
    }
    object
}

/// Writes the Job's uid into the labels by which its pods are found.
pub(super) fn seal_job(job: &mut Job, uid: &str) {
    let name = job.metadata.name.clone().unwrap_or_default();
    job.metadata.uid = Some(uid.to_owned());
    job.metadata.generation = Some(1);
    let Some(spec) = &mut job.spec else { return };
    let own = |label: &str| (label.to_owned(), uid.to_owned());
    spec.selector =
        Some(LabelSelector { match_labels: Some([own(UID_LABELS[0])].into()), ..LabelSelector::default() });
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.extend(UID_LABELS.map(own));
    labels.extend(["batch.kubernetes.io/job-name", "job-name"].map(|label| (label.to_owned(), name.clone())));
    if let Some(labels) = &mut job.metadata.labels {
        labels.retain(|label, _| !UID_LABELS.contains(&label.as_str()));
    }
}

/// Returns a Job as it is shown.
pub(super) fn show_job(home: &Home, namespace: &Namespace, mut job: Job) -> Result<Value, Error> {
    let name = ObjectName::of_object(&job.metadata)?;
    let progress = home.job_progress(namespace, &name, job.metadata.uid.as_deref().unwrap_or_default())?;
    job.status = Some(progress.unwrap_or_default().status);
    Ok(complete::finish_object(ObjectKind::Job, complete::to_value(&job)))
}

impl Engine {
    /// Returns a Job as it is, and has it kept when nobody does.
    pub(super) fn read_job(&self, namespace: &Namespace, name: &ObjectName) -> Result<Option<Value>, Error> {
        let Some(job) = self.home.object::<Job>(namespace, name)? else { return Ok(None) };
        self.tend_left_job(namespace, name, &job)?;
        show_job(&self.home, namespace, job).map(Some)
    }

    /// Returns the Jobs of a namespace, or of all; each is kept again whose keeper was killed.
    pub(super) fn list_jobs(&self, namespace: Option<&Namespace>) -> Result<Vec<Value>, Error> {
        let namespaces = namespace.map_or_else(|| self.home.namespaces(), |n| Ok(vec![n.clone()]))?;
        let mut all = Vec::new();
        for namespace in &namespaces {
            for job in self.home.objects::<Job>(namespace)? {
                self.tend_left_job(namespace, &ObjectName::of_object(&job.metadata)?, &job)?;
                all.push(show_job(&self.home, namespace, job)?);
            }
        }
        Ok(all)
    }

    /// Keeps a new Job, and starts the process that runs it.
    pub(super) fn keep_job(&self, namespace: &Namespace, mut job: Job) -> Result<(), Error> {
        let name = ObjectName::of_object(&job.metadata)?;
        seal_job(&mut job, &uuid::Uuid::new_v4().to_string());
        self.home.keep(namespace, job)?;
        start_tender(&self.home, namespace, &name)
    }

    /// Changes what is said about a Job, and what of a living one may change; its keeper follows.
    pub(super) fn update_job(&self, namespace: &Namespace, mut job: Job, known: &Value) -> Result<(), Error> {
        let name = ObjectName::of_object(&job.metadata)?;
        seal_job(&mut job, known["metadata"]["uid"].as_str().unwrap_or_default());
        check_job_spec(&name, &known["spec"], &complete::to_value(&job)["spec"])?;
        Ok(self.home.keep(namespace, job)?)
    }

    /// Starts a process that keeps a Job whose own was killed.
    fn tend_left_job(&self, namespace: &Namespace, name: &ObjectName, job: &Job) -> Result<(), Error> {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let status = self.home.job_progress(namespace, name, uid)?.unwrap_or_default().status;
        // One that has ended is kept for as long as it says.
        let lasts = job.spec.as_ref().is_some_and(|spec| spec.ttl_seconds_after_finished.is_some());
        if (is_finished(&status) && !lasts) || self.home.is_job_kept(namespace, name) {
            return Ok(());
        }
        start_tender(&self.home, namespace, name)
    }
}
