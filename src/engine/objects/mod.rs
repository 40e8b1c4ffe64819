//! One function set for objects of every kind: get, list, create, update, delete, and to wait for changes. The
//! command line and a server for the Kubernetes API are equals here.
//!
//! Objects are JSON as the API has it, whole: with `apiVersion` and `kind`, and with their defaults. State is the
//! files' state; any number of programs may act at once.

mod complete;
mod delete;
mod dependents;
mod jobs;
mod lease;
mod node;
mod request;
mod write;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

use super::{Engine, Error, ErrorKind, ObjectKind, start::find_host_ip, with_display_status};
use crate::{
    network::{Seen, kept_services},
    pod::{Namespace, ObjectName},
    state::{self, Home, Kept, Liveness},
    view::{
        field_selector::FieldSelector,
        selectors::Labels,
        service_table::{endpoints, slice_rows},
    },
};
pub(crate) use complete::object_version;
pub use delete::{DeleteOptions, Deletion, PodDeletion};
pub use dependents::DeletionBatch;
pub(super) use jobs::{is_finished, load_kept_job};
pub(crate) use node::{memory_kib, node_name};
pub use write::{Applied, Preconditions, WriteOptions};

/// Tells which objects of a kind a list has.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Belongs to this namespace; of all else.
    pub namespace: Option<String>,
    /// Holds the labels that are asked for: a selector as `-l` takes it; empty for any.
    pub labels: String,
    /// Holds the fields that are asked for: `status.phase=Running`; empty for any.
    pub fields: String,
}

/// Wakes when an object of any kind may have changed.
#[derive(Debug)]
pub struct ObjectWatch {
    home: Home,
    watch: crate::logs::Watch,
}

impl ObjectWatch {
    /// Watches what has been made since: to be called before the objects are read, so that no change is missed.
    pub fn refresh(&self) {
        self.watch.refresh(&self.home);
    }

    /// Waits for a change, at most so long; for whatever time without.
    pub fn wait(&self, timeout: Option<Duration>) {
        self.watch.wait(timeout);
    }
}

impl std::os::fd::AsFd for ObjectWatch {
    /// Readable when something may have changed.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

impl Engine {
    /// Returns one object.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Name`], [`Error::State`].
    pub fn get_object(&self, kind: ObjectKind, namespace: &str, name: &str) -> Result<Value, Error> {
        let (namespace, name) = (parse_namespace(kind, namespace)?, ObjectName::parse(name)?);
        let found = match kind {
            ObjectKind::Pod => {
                let dir = self.home.pod(&namespace, &name);
                match dir.read_liveness() {
                    Liveness::Absent => None,
                    _ => Some(complete::complete_pod(with_display_status(&dir)?)),
                }
            }
            ObjectKind::ConfigMap => self.kept_object::<ConfigMap>(kind, &namespace, &name)?,
            ObjectKind::Secret => self.kept_object::<Secret>(kind, &namespace, &name)?,
            ObjectKind::PersistentVolumeClaim => {
                self.home.volume(&namespace, &name).claim()?.map(complete::complete_claim)
            }
            ObjectKind::Namespace => {
                let own = Namespace::parse(&name)?;
                let is_there = self.namespaces()?.contains(&own);
                is_there.then(|| complete::describe_namespace(&self.home, &own))
            }
            ObjectKind::Job => self.read_job(&namespace, &name)?,
            ObjectKind::Service => {
                let seen = kept_services::find_present(&self.home, &namespace, &name)?;
                seen.map(|seen| complete::complete_service(seen, self.host_address().as_deref()))
            }
            // These are told of all at once, or made of what others are.
            _ => {
                let all = self.list_kind(kind, kind.is_namespaced().then_some(&namespace))?;
                all.into_iter().find(|object| object["metadata"]["name"] == *name.as_str())
            }
        };
        found.ok_or_else(|| self.name_missing(kind, &namespace, &name))
    }

    /// The error that there is no such object, or not even its namespace.
    fn name_missing(&self, kind: ObjectKind, namespace: &Namespace, name: &ObjectName) -> Error {
        let is_there = !kind.is_namespaced() || self.namespaces().map_or(true, |all| all.contains(namespace));
        match is_there || kind == ObjectKind::Lease {
            true => Error::NoObject { kind, name: name.to_string() },
            false => Error::NoObject { kind: ObjectKind::Namespace, name: namespace.to_string() },
        }
    }

    /// Returns the objects of a kind, ordered by namespace and name.
    ///
    /// # Errors
    /// [`Error::Selector`], [`Error::Name`], [`Error::State`], [`Error::Network`].
    pub fn list_objects(&self, kind: ObjectKind, options: &ListOptions) -> Result<Vec<Value>, Error> {
        let labels = Labels::parse(&options.labels).map_err(Error::Selector)?;
        let fields = FieldSelector::parse(kind.name(), &options.fields).map_err(Error::Selector)?;
        let namespace = options.namespace.as_deref().map(Namespace::parse).transpose()?;
        let namespace = namespace.as_ref().filter(|_| kind.is_namespaced());
        let mut all = self.list_kind(kind, namespace)?;
        all.retain(|object| labels.matches_object(object) && fields.matches(object));
        Ok(all)
    }

    /// Returns something to wait with for changes of objects of any kind.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn watch_objects(&self) -> Result<ObjectWatch, Error> {
        let watch = ObjectWatch { home: self.home.clone(), watch: crate::logs::Watch::of_all(&self.home)? };
        watch.refresh();
        Ok(watch)
    }

    fn kept_object<T: Kept>(
        &self,
        kind: ObjectKind,
        namespace: &Namespace,
        name: &ObjectName,
    ) -> Result<Option<Value>, Error> {
        let kept = self.home.object::<T>(namespace, name)?;
        Ok(kept.map(|object| complete::finish_object(kind, complete::to_value(&object))))
    }

    fn list_kind(&self, kind: ObjectKind, namespace: Option<&Namespace>) -> Result<Vec<Value>, Error> {
        let finish = |object| complete::finish_object(kind, object);
        match kind {
            ObjectKind::Pod => self.list_pods(namespace),
            ObjectKind::ConfigMap => self.list_kept::<ConfigMap>(kind, namespace),
            ObjectKind::Secret => self.list_kept::<Secret>(kind, namespace),
            ObjectKind::PersistentVolumeClaim => {
                let volumes = self.home.volumes()?.into_iter();
                let own = volumes.filter(|volume| namespace.is_none_or(|n| volume.namespace == *n));
                let claims = own.filter_map(|volume| volume.claim().transpose());
                claims.map(|claim| Ok(complete::complete_claim(claim?))).collect()
            }
            ObjectKind::Service => {
                let (seen, host) = (self.services(namespace)?, self.host_address());
                Ok(seen.into_iter().map(|s| complete::complete_service(s, host.as_deref())).collect())
            }
            ObjectKind::Endpoints => {
                Ok(self.services(namespace)?.iter().filter_map(endpoints).map(finish).collect())
            }
            ObjectKind::EndpointSlice => {
                Ok(self.services(namespace)?.iter().flat_map(slice_rows).map(finish).collect())
            }
            ObjectKind::Event => self.list_events(namespace),
            ObjectKind::Namespace => {
                Ok(self.namespaces()?.iter().map(|n| complete::describe_namespace(&self.home, n)).collect())
            }
            ObjectKind::ServiceAccount => {
                let all = self.namespaces()?;
                let own = all.iter().filter(|own| namespace.is_none_or(|n| *own == n));
                Ok(own.map(complete::default_account).collect())
            }
            ObjectKind::Node => Ok(vec![node::describe_node(&self.home)]),
            ObjectKind::Job => self.list_jobs(namespace),
            ObjectKind::Lease => Ok(lease::list_leases(&node::describe_node(&self.home), namespace)),
        }
    }

    fn list_pods(&self, namespace: Option<&Namespace>) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        for dir in self.home.pods()?.iter().filter(|dir| namespace.is_none_or(|n| dir.namespace == *n)) {
            match with_display_status(dir) {
                Ok(pod) => all.push(complete::complete_pod(pod)),
                // One that is damaged hides no other; it can still be named.
                Err(Error::State(state::Error::Damaged { .. })) => {}
                // It has just been deleted, or is not written yet.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    fn list_kept<T: Kept>(
        &self,
        kind: ObjectKind,
        namespace: Option<&Namespace>,
    ) -> Result<Vec<Value>, Error> {
        let namespaces = namespace.map_or_else(|| self.home.namespaces(), |n| Ok(vec![n.clone()]))?;
        let mut all = Vec::new();
        for namespace in &namespaces {
            let kept = self.home.objects::<T>(namespace)?;
            all.extend(kept.iter().map(|object| complete::finish_object(kind, complete::to_value(object))));
        }
        Ok(all)
    }

    fn list_events(&self, namespace: Option<&Namespace>) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        for dir in self.home.pods()?.iter().filter(|dir| namespace.is_none_or(|n| dir.namespace == *n)) {
            all.extend(dir.events()?);
        }
        let namespaces = namespace.map_or_else(|| self.home.namespaces(), |n| Ok(vec![n.clone()]))?;
        for namespace in &namespaces {
            all.extend(self.home.job_events(namespace)?);
        }
        // As an API server has them; who shows what has happened sorts them by time.
        all.sort_by_cached_key(|event| (event.metadata.namespace.clone(), event.metadata.name.clone()));
        Ok(all.into_iter().map(complete::complete_event).collect())
    }

    /// Every namespace that something is in, and `default`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub(crate) fn namespaces(&self) -> Result<Vec<Namespace>, Error> {
        let mut all = self.home.namespaces()?;
        all.extend(self.home.pods()?.into_iter().map(|dir| dir.namespace));
        all.push(Namespace::default());
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// The Services there are, of one namespace or of all: kept ones, and those of living pods.
    ///
    /// # Errors
    /// [`Error::Network`].
    pub(crate) fn services(&self, namespace: Option<&Namespace>) -> Result<Vec<Seen>, Error> {
        let mut seen = kept_services::list_present(&self.home)?.seen;
        seen.retain(|s| {
            namespace.is_none_or(|n| s.service.metadata.namespace.as_deref() == Some(n.as_str()))
        });
        Ok(seen)
    }

    /// This machine's address, which a load balancer has as its own.
    pub(crate) fn host_address(&self) -> Option<String> {
        find_host_ip().map(|ip| ip.to_string())
    }
}

/// The namespace that objects of a kind lie in: as it was named, and none that matters for kinds without.
fn parse_namespace(kind: ObjectKind, namespace: &str) -> Result<Namespace, Error> {
    match kind.is_namespaced() {
        true => Ok(Namespace::parse(namespace)?),
        false => Ok(Namespace::default()),
    }
}
