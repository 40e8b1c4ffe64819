//! What stands beside a kept Job: how far it has come, and the lock of the process that keeps it.
//!
//! The Job's own file is its user's, this one its keeper's, so that neither overwrites what the other has written.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use serde::{Deserialize, Serialize};

use super::{
    Error, Home,
    file_names::file_name,
    home::private_dir,
    kept_objects::{read, write},
};
use crate::pod::{Namespace, ObjectName};

/// The status of a Job of that uid; of another one of its name it says nothing.
#[derive(Serialize, Deserialize)]
struct KeptStatus {
    uid: String,
    status: JobStatus,
}

/// That this process keeps a Job, for as long as it lives.
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
    pub fn job_status(
        &self,
        namespace: &Namespace,
        name: &ObjectName,
        uid: &str,
    ) -> Result<Option<JobStatus>, Error> {
        let kept: Option<KeptStatus> = read(&self.status_file(namespace, name))?;
        Ok(kept.filter(|kept| kept.uid == uid).map(|kept| kept.status))
    }

    /// Writes down how far a Job has come.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep_job_status(
        &self,
        namespace: &Namespace,
        name: &ObjectName,
        uid: &str,
        status: &JobStatus,
    ) -> Result<(), Error> {
        let kept = KeptStatus { uid: uid.to_owned(), status: status.clone() };
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
        File::open(self.job_lock_file(namespace, name)).is_ok_and(held)
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
            let opened = File::options().create(true).append(true).open(&path);
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
        home.keep_job_status(&namespace, &name, "a", &status).unwrap();
        assert_eq!(home.job_status(&namespace, &name, "a").unwrap(), Some(status));
        assert_eq!(home.job_status(&namespace, &name, "b").unwrap(), None);
        assert_eq!(home.objects::<Job>(&namespace).unwrap().len(), 1);
        assert!(home.forget_job(&namespace, &name).unwrap());
        assert_eq!(home.job_status(&namespace, &name, "a").unwrap(), None);
    }
}
