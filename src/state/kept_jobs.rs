//! What stands beside a kept Job: how far it has come, and the lock of the process that keeps it.
//!
//! The Job's own file is its user's, this one its keeper's, so that neither overwrites what the other has written.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::Event,
};
use podctl_images::open_ordinary;
use serde::{Deserialize, Serialize};

use super::{
    Error, Home,
    file_names::{file_name, open_or_make},
    home::private_dir,
    kept_objects::{names, read, write},
};
use crate::pod::{Namespace, ObjectName};

/// How far a Job has come, and what happened to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobProgress {
    /// The Job's status.
    pub status: JobStatus,
    /// What happened to it, oldest first.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// The progress of a Job of that uid; of another one of its name it says nothing.
#[derive(Serialize, Deserialize)]
struct KeptProgress {
    uid: String,
    #[serde(flatten)]
    progress: JobProgress,
}

/// Claims that this process keeps a Job, for as long as it lives.
#[derive(Debug)]
pub struct JobLock {
    path: PathBuf,
    _file: File,
}

impl Drop for JobLock {
    fn drop(&mut self) {
        // What cannot be removed is an empty file, which the next keeper locks.
        let _ = fs::remove_file(&self.path);
    }
}

impl Home {
    fn status_file(&self, namespace: &Namespace, name: &ObjectName) -> PathBuf {
        self.object_dir::<Job>(namespace).join(format!("{}.status", file_name(&[name])))
    }

    /// Returns how far a Job of that uid has come; nothing when nobody has written it down.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DamagedObject`].
    pub fn job_progress(
        &self,
        namespace: &Namespace,
        name: &ObjectName,
        uid: &str,
    ) -> Result<Option<JobProgress>, Error> {
        let kept: Option<KeptProgress> = read(&self.status_file(namespace, name))?;
        Ok(kept.filter(|kept| kept.uid == uid).map(|kept| kept.progress))
    }

    /// Returns what happened to the Jobs of a namespace.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn job_events(&self, namespace: &Namespace) -> Result<Vec<Event>, Error> {
        let dir = self.object_dir::<Job>(namespace);
        let files = names(&dir).unwrap_or_default().into_iter().filter(|name| name.ends_with(".status"));
        // One that is damaged or gone tells nothing.
        let kept = files.filter_map(|name| read::<KeptProgress>(&dir.join(name)).ok().flatten());
        Ok(kept.flat_map(|kept| kept.progress.events).collect())
    }

    /// Writes down how far a Job has come.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep_job_progress(
        &self,
        namespace: &Namespace,
        name: &ObjectName,
        uid: &str,
        progress: &JobProgress,
    ) -> Result<(), Error> {
        let kept = KeptProgress { uid: uid.to_owned(), progress: progress.clone() };
        write(&self.status_file(namespace, name), &kept)
    }

    /// Forgets a Job and how far it has come; says whether there was one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget_job(&self, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
        let was_there = self.forget::<Job>(namespace, name)?;
        // A status without its Job is nobody's.
        let _ = fs::remove_file(self.status_file(namespace, name));
        Ok(was_there)
    }

    /// Tells whether a process keeps a Job, without making its lock.
    pub fn is_job_kept(&self, namespace: &Namespace, name: &ObjectName) -> bool {
        let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        open_ordinary(&self.job_lock_file(namespace, name), File::options().read(true)).is_ok_and(held)
    }

    fn job_lock_file(&self, namespace: &Namespace, name: &ObjectName) -> PathBuf {
        self.runtime.join("jobs").join(file_name(&[namespace, name]))
    }

    /// Takes the lock of the process that keeps a Job; nothing when another one has it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lock_job(&self, namespace: &Namespace, name: &ObjectName) -> Result<Option<JobLock>, Error> {
        private_dir(&self.runtime.join("jobs"))?;
        let path = self.job_lock_file(namespace, name);
        loop {
            let opened = open_or_make(&path, File::options().create(true).append(true));
            let file = opened.map_err(Error::io("open", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
            }
            // Its last holder may have removed it meanwhile.
            let own = file.metadata().map_err(Error::io("look at", &path))?;
            if fs::metadata(&path).is_ok_and(|there| there.ino() == own.ino()) {
                return Ok(Some(JobLock { path, _file: file }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_lock_has_one_holder_and_its_status_is_of_one_uid() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::at(&place.path().join("run"), &place.path().join("data")).unwrap();
        let (namespace, name) = (Namespace::default(), ObjectName::parse("j").unwrap());
        assert!(!home.is_job_kept(&namespace, &name) && !home.runtime.join("jobs").exists());
        let held = home.lock_job(&namespace, &name).unwrap();
        assert!(held.is_some() && home.lock_job(&namespace, &name).unwrap().is_none());
        assert!(home.is_job_kept(&namespace, &name));
        drop(held);
        assert!(!home.is_job_kept(&namespace, &name));
        assert!(home.lock_job(&namespace, &name).unwrap().is_some());

        let mut job = Job::default();
        job.metadata.name = Some("j".into());
        home.keep(&namespace, job).unwrap();
        let status = JobStatus { succeeded: Some(1), ..JobStatus::default() };
        let event = Event { reason: Some("Completed".into()), ..Event::default() };
        let progress = JobProgress { status, events: vec![event] };
        home.keep_job_progress(&namespace, &name, "a", &progress).unwrap();
        assert_eq!(home.job_progress(&namespace, &name, "a").unwrap(), Some(progress.clone()));
        assert_eq!(home.job_progress(&namespace, &name, "b").unwrap(), None);
        assert_eq!(home.job_events(&namespace).unwrap(), progress.events);
        assert_eq!(home.objects::<Job>(&namespace).unwrap().len(), 1);
        assert!(home.forget_job(&namespace, &name).unwrap());
        assert_eq!(home.job_progress(&namespace, &name, "a").unwrap(), None);
        assert!(home.job_events(&namespace).unwrap().is_empty());
    }
}
