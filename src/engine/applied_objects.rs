//! Pods and claims of files, made what the files say: started or kept when there are none, else changed as far as they can be.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use super::{Applied, Engine, Error, start::Started};
use crate::{
    manifest::Manifest,
    pod::{Namespace, ObjectName},
    state::Liveness,
    wire::Options,
};

impl Engine {
    /// Starts a pod, or makes a living one what the file says, as far as a living pod lets that happen. Returns what became
    /// of it, and what was started.
    ///
    /// # Errors
    /// As [`Engine::run`] and [`PodHandle::update`](super::PodHandle::update).
    pub(crate) fn apply_pod(
        &self,
        pod: &Pod,
        from: [&Manifest; 2],
        options: &Options,
    ) -> Result<(Applied, Option<Started>), Error> {
        let dir = self.home.place_of(pod)?;
        if dir.read_liveness() != Liveness::Alive {
            return Ok((Applied::Created, Some(self.start(pod.clone(), from, options, None)?)));
        }
        let handle = self.pod(&dir.namespace, &dir.name)?;
        let before = handle.pod()?;
        let mut new = pod.clone();
        // A file says nothing of what servers and their clients note.
        new.metadata.finalizers.clone_from(&before.metadata.finalizers);
        new.metadata.owner_references.clone_from(&before.metadata.owner_references);
        new.metadata.managed_fields.clone_from(&before.metadata.managed_fields);
        let after = handle.update(&new)?;
        let said = |pod: Pod| (pod.metadata.labels, pod.metadata.annotations, pod.spec);
        let applied = if said(before) == said(after) { Applied::Unchanged } else { Applied::Configured };
        Ok((applied, None))
    }

    /// Makes the volume of a claim, or gives one that is there the claim.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::State`].
    pub(crate) fn apply_claim(
        &self,
        namespace: &Namespace,
        claim: &PersistentVolumeClaim,
    ) -> Result<Applied, Error> {
        let volume = self.home.volume(namespace, &ObjectName::of_object(&claim.metadata)?);
        let applied = match volume.claim()? {
            Some(known) if known.spec == claim.spec && known.metadata.labels == claim.metadata.labels => {
                return Ok(Applied::Unchanged);
            }
            Some(_) => Applied::Configured,
            None => Applied::Created,
        };
        volume.make(claim)?;
        Ok(applied)
    }
}
