//! Objects of files, made what the files say: started or kept when there are none, else changed as far as they can be. What
//! servers and their clients have noted in an object that is there, a file says nothing of, and it stays.

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Applied, Engine, Error, ObjectKind, start::Started};
use crate::{
    manifest::Manifest,
    pod::{Namespace, ObjectName},
    state::{Kept, Liveness},
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
        keep_notes(&before.metadata, &mut new.metadata);
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
        let mut claim = claim.clone();
        if let Some(known) = volume.claim()? {
            keep_notes(&known.metadata, &mut claim.metadata);
        }
        let applied = match volume.claim()? {
            Some(known) if known.spec == claim.spec && known.metadata.labels == claim.metadata.labels => {
                return Ok(Applied::Unchanged);
            }
            Some(_) => Applied::Configured,
            None => Applied::Created,
        };
        volume.make(&claim)?;
        Ok(applied)
    }

    /// Keeps a ConfigMap or a Secret of a file.
    ///
    /// # Errors
    /// As [`Engine::create_object`] and [`Engine::update_object`].
    pub(crate) fn apply_kept<T: Kept>(
        &self,
        kind: ObjectKind,
        namespace: &Namespace,
        mut object: T,
    ) -> Result<Applied, Error> {
        self.take_notes(namespace, &mut object)?;
        self.keep_object(kind, namespace, object)
    }

    /// Keeps a Service of a file; warnings come with it.
    ///
    /// # Errors
    /// As [`Engine::keep_service`].
    pub(crate) fn apply_service(
        &self,
        namespace: &Namespace,
        mut service: Service,
    ) -> Result<(Applied, Vec<String>), Error> {
        self.take_notes(namespace, &mut service)?;
        self.keep_service(namespace, service)
    }

    /// Gives an object of a file what has been noted in the one of its name.
    fn take_notes<T: Kept>(&self, namespace: &Namespace, object: &mut T) -> Result<(), Error> {
        let name = ObjectName::of_object(object.metadata())?;
        if let Some(known) = self.home.object::<T>(namespace, &name)? {
            keep_notes(known.metadata(), object.metadata_mut());
        }
        Ok(())
    }
}

/// Gives what a file says the finalizers, owners and managers of the object that is there, beside the file's own.
fn keep_notes(known: &ObjectMeta, new: &mut ObjectMeta) {
    let finalizers = known.finalizers.iter().flatten().chain(new.finalizers.iter().flatten());
    let mut all: Vec<String> = Vec::new();
    for finalizer in finalizers.filter(|f| !f.is_empty()) {
        if !all.contains(finalizer) {
            all.push(finalizer.clone());
        }
    }
    new.finalizers = Some(all).filter(|all| !all.is_empty());
    let said = new.owner_references.take().unwrap_or_default();
    let others = known.owner_references.iter().flatten();
    let others = others.filter(|owner| !said.iter().any(|own| own.uid == owner.uid)).cloned();
    new.owner_references =
        Some(others.chain(said.iter().cloned()).collect()).filter(|all: &Vec<_>| !all.is_empty());
    new.managed_fields.clone_from(&known.managed_fields);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_have_noted_stays_beside_what_the_file_says() {
        let meta = |value| serde_json::from_value::<ObjectMeta>(value).unwrap();
        let owner =
            |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        let known =
            meta(json!({"finalizers": ["a/b"], "ownerReferences": [owner("old", "1"), owner("x", "2")],
            "managedFields": [{"manager": "m"}], "labels": {"a": "b"}}));
        let mut new = meta(json!({"finalizers": ["a/b", "c/d"], "ownerReferences": [owner("new", "1")]}));
        keep_notes(&known, &mut new);
        let expected = meta(json!({"finalizers": ["a/b", "c/d"],
            "ownerReferences": [owner("x", "2"), owner("new", "1")], "managedFields": [{"manager": "m"}]}));
        assert_eq!(new, expected);
        let mut bare = ObjectMeta::default();
        keep_notes(&ObjectMeta::default(), &mut bare);
        assert_eq!(bare, ObjectMeta::default());
    }
}
