//! The living pod's own object is changed: labels, annotations, deadline. `lifecycle/pod_update.rs` says what may be.

use std::{fs::File, os::fd::OwnedFd};

use k8s_openapi::api::core::v1::Pod;

use super::Supervisor;
use crate::{lifecycle, pod::PodExt, wire::record_update};

impl Supervisor {
    /// Makes the pod what the memory file says it is to be.
    ///
    /// # Errors
    /// Why not, and the exit code that says so; nothing is changed then.
    pub(super) fn update_pod(&mut self, fds: Vec<OwnedFd>) -> Result<(), (String, i32)> {
        let refused = |why: String| (why, 1);
        let document =
            fds.into_iter().next().map(File::from).ok_or_else(|| refused("the pod did not come".into()))?;
        let new: Pod = serde_json::from_reader(document).map_err(|e| refused(e.to_string()))?;
        lifecycle::check_pod_update(&self.pod, &new).map_err(refused)?;
        let (deadline, known) = (new.active_deadline_seconds(), self.pod.active_deadline_seconds());
        let meta = &mut self.pod.metadata;
        let labelled = meta.labels != new.metadata.labels;
        (meta.labels, meta.annotations) = (new.metadata.labels, new.metadata.annotations);
        meta.finalizers = new.metadata.finalizers;
        meta.owner_references = new.metadata.owner_references;
        meta.managed_fields = new.metadata.managed_fields;
        meta.generation = Some(meta.generation.unwrap_or(1) + i64::from(known != deadline));
        if let Some(spec) = &mut self.pod.spec {
            spec.active_deadline_seconds = deadline;
        }
        self.spec.set_active_deadline(deadline);
        if labelled && let Some(network) = &mut self.network {
            network.tell_labels(self.pod.metadata.labels.clone().unwrap_or_default());
        }
        self.show_failures(|sandbox, pod| sandbox.refresh_metadata(pod));
        // Without it the pod is started again with what it began with.
        let _ = record_update(&self.dir, &self.pod);
        (self.changed, self.news) = (true, true);
        // Whoever is answered reads it at once.
        self.settle();
        Ok(())
    }
}
