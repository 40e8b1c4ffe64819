//! One function set for objects of every kind: get, list, create, update, delete, and to wait for changes. The
//! command line and a server for the Kubernetes API are equals here.
//!
//! Objects are JSON as the API has it, whole: with `apiVersion` and `kind`, and with their defaults. State is the
//! files' state; any number of programs may act at once.

mod complete;
mod write;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

use super::{Engine, Error, ErrorKind, ObjectKind, with_display_status};
use crate::{
    pod::{Namespace, ObjectName},
    state::{Home, Kept, Liveness},
    view::{
        field_selector::FieldSelector,
        selectors::Labels,
        service_table::{endpoints, object, slice_rows},
    },
};
pub use write::{Applied, DeleteOptions, Deletion, PodDeletion, Preconditions, WriteOptions};

/// Tells which objects of a kind a list has.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Belongs to this namespace; of all else.
    pub namespace: Option<String>,
    /// With these labels: a selector as `-l` takes it; empty for any.
    pub labels: String,
    /// With these fields: `status.phase=Running`; empty for any.
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
        let missing = || Error::NoObject { kind, name: name.to_owned() };
        let (namespace, name) = (Namespace::parse(namespace)?, ObjectName::parse(name)?);
        let found = match kind {
            ObjectKind::Pod => {
                let dir = self.home.pod(&namespace, &name);
                match dir.read_liveness() {
                    Liveness::Absent => None,
                    _ => Some(complete::complete_pod(with_display_status(&dir)?)),
                }
            }
            ObjectKind::ConfigMap => self.kept_object::<ConfigMap>(&namespace, &name)?,
            ObjectKind::Secret => self.kept_object::<Secret>(&namespace, &name)?,
            ObjectKind::PersistentVolumeClaim => {
                self.home.volume(&namespace, &name).claim()?.map(complete::complete_claim)
            }
            _ => {
                let all = self.list_kind(kind, kind.is_namespaced().then_some(&namespace))?;
                all.into_iter().find(|object| object["metadata"]["name"] == *name.as_str())
            }
        };
        found.ok_or_else(missing)
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
        all.retain(|object| {
            let own = serde_json::from_value(object["metadata"]["labels"].clone()).ok();
            labels.matches(own.as_ref()) && fields.matches(object)
        });
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

    fn kept_object<T: Kept>(&self, namespace: &Namespace, name: &ObjectName) -> Result<Option<Value>, Error> {
        Ok(self.home.object::<T>(namespace, name)?.map(|object| complete::to_value(&object)))
    }

    fn list_kind(&self, kind: ObjectKind, namespace: Option<&Namespace>) -> Result<Vec<Value>, Error> {
        match kind {
            ObjectKind::Pod => self.list_pods(namespace),
            ObjectKind::ConfigMap => self.list_kept::<ConfigMap>(namespace),
            ObjectKind::Secret => self.list_kept::<Secret>(namespace),
            ObjectKind::PersistentVolumeClaim => {
                let volumes = self.home.volumes()?.into_iter();
                let own = volumes.filter(|volume| namespace.is_none_or(|n| volume.namespace == *n));
                let claims = own.filter_map(|volume| volume.claim().transpose());
                claims.map(|claim| Ok(complete::complete_claim(claim?))).collect()
            }
            ObjectKind::Service => {
                let host = super::start::find_host_ip().map(|ip| ip.to_string());
                let seen = self.services(namespace)?;
                Ok(seen.iter().map(|s| complete::complete_service(object(s, host.as_deref()))).collect())
            }
            ObjectKind::Endpoints => Ok(self.services(namespace)?.iter().filter_map(endpoints).collect()),
            ObjectKind::EndpointSlice => Ok(self.services(namespace)?.iter().flat_map(slice_rows).collect()),
            ObjectKind::Event => self.list_events(namespace),
            ObjectKind::Namespace => {
                Ok(self.namespaces()?.iter().map(|n| complete::namespace(&self.home, n)).collect())
            }
            ObjectKind::Node => Ok(vec![complete::node()]),
        }
    }

    fn list_pods(&self, namespace: Option<&Namespace>) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        for dir in self.home.pods()?.iter().filter(|dir| namespace.is_none_or(|n| dir.namespace == *n)) {
            match with_display_status(dir) {
                Ok(pod) => all.push(complete::complete_pod(pod)),
                // One that is damaged hides no other; it can still be named.
                Err(Error::State(crate::state::Error::Damaged { .. })) => {}
                // It has just been deleted, or is not written yet.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    fn list_kept<T: Kept>(&self, namespace: Option<&Namespace>) -> Result<Vec<Value>, Error> {
        let namespaces = namespace.map_or_else(|| self.home.namespaces(), |n| Ok(vec![n.clone()]))?;
        let mut all = Vec::new();
        for namespace in &namespaces {
            all.extend(self.home.objects::<T>(namespace)?.iter().map(complete::to_value));
        }
        Ok(all)
    }

    fn list_events(&self, namespace: Option<&Namespace>) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        for dir in self.home.pods()?.iter().filter(|dir| namespace.is_none_or(|n| dir.namespace == *n)) {
            all.extend(dir.events()?);
        }
        all.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
        Ok(all.iter().map(complete::to_value).collect())
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
    pub(crate) fn services(&self, namespace: Option<&Namespace>) -> Result<Vec<crate::network::Seen>, Error> {
        let mut seen = crate::network::kept_services::list_present(&self.home)?.seen;
        seen.retain(|s| {
            namespace.is_none_or(|n| s.service.metadata.namespace.as_deref() == Some(n.as_str()))
        });
        Ok(seen)
    }
}
