//! What is particular to ephemeral containers: where their image is, whose processes they see.

use k8s_openapi::api::core::v1::EphemeralContainer;
use oci_spec::runtime::{LinuxNamespaceBuilder, LinuxNamespaceType};
use podctl_images::Reference;

use super::Supervisor;
use crate::{
    lifecycle::{Event, ImageFailure},
    pod::PodExt,
    sandbox::Prepared,
};

impl Supervisor {
    /// The image as it lies in the store; the client has put it there.
    pub(super) fn local_image(&mut self, container: &str, image: String) -> Event {
        let failed = |message| Event::ImageFailed {
            container: container.to_owned(),
            reason: ImageFailure::Pull,
            message,
        };
        let reference: Reference = match image.parse() {
            Ok(reference) => reference,
            Err(e) => return failed(format!("{e}")),
        };
        match self.pulls.store.find(&reference) {
            Ok(Some(found)) => self.image_ready(container, found, None),
            Ok(None) => failed(format!("{image} is not present any more; `podctl pull {image}` fetches it")),
            Err(e) => failed(e.to_string()),
        }
    }

    /// R-EPH-1: with a target, its PID namespace instead of a new one.
    pub(super) fn join_target(&self, container: &str, mut prepared: Prepared) -> Result<Prepared, String> {
        let Some(target) = self.ephemeral(container).and_then(|c| c.target_container_name.as_deref()) else {
            return Ok(prepared);
        };
        let Some(live) = self.running(target).filter(|_| !target.is_empty()) else {
            return if target.is_empty() { Ok(prepared) } else { Err(self.why_not_running(target)) };
        };
        // The number cannot become another process's: it has not been reaped.
        let path = format!("/proc/{}/ns/pid", live.process.pid);
        let joined = LinuxNamespaceBuilder::default()
            .typ(LinuxNamespaceType::Pid)
            .path(path)
            .build()
            .map_err(|e| e.to_string())?;
        if let Some(linux) = prepared.spec.linux_mut() {
            let mut all = linux.namespaces().clone().unwrap_or_default();
            all.retain(|n| n.typ() != LinuxNamespaceType::Pid);
            all.push(joined);
            linux.set_namespaces(Some(all));
        }
        Ok(prepared)
    }

    fn ephemeral(&self, container: &str) -> Option<&EphemeralContainer> {
        self.pod.ephemeral_containers().find(|c| c.name == container)
    }
}
