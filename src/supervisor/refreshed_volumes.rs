//! Takes in the ConfigMaps and Secrets that have changed while the pod lives (R-VOL-2).

use std::os::fd::OwnedFd;

use k8s_openapi::api::core::v1::Pod;

use super::{Supervisor, event_recorder::Happened};
use crate::{
    lifecycle::Record,
    sandbox::{self, Objects, Sandbox},
    wire::{read_document, record_objects},
};

impl Supervisor {
    /// Takes the changed objects in.
    pub(super) fn refresh(&mut self, fds: Vec<OwnedFd>) {
        let Some(document) = fds.into_iter().next() else { return };
        let Ok(changed) = read_document::<Objects>(document) else { return };
        self.show_failures(|sandbox, pod| sandbox.refresh(pod, &changed));
        // Without it the pod is started again with what it began with.
        let _ = record_objects(&self.dir, &self.sandbox.objects);
    }

    /// Rewrites volumes; those that could not be are told in events.
    pub(super) fn show_failures(&mut self, rewrite: impl FnOnce(&mut Sandbox, &Pod) -> Vec<sandbox::Error>) {
        for failure in rewrite(&mut self.sandbox, &self.pod) {
            self.records.events.write(Happened::now(Record {
                warning: true,
                reason: "FailedMount",
                message: format!("MountVolume.SetUp failed: {failure}; its files stay as they were"),
                container: None,
            }));
            self.client.has_news = true;
        }
    }
}
