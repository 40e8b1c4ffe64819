//! The living pod's own object is changed: metadata, images, CPU and memory, conditions. `lifecycle/pod_update.rs` says
//! what may be, `lifecycle/follow_spec.rs` what follows for its containers.

use std::os::fd::OwnedFd;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use podctl_runtime::Cgroup;

use super::{Supervisor, pod_cgroup::check_memory};
use crate::{
    lifecycle::{self, Event, PodPart, Run},
    manifest::with_defaults,
    pod::resources::{enforced_limits, read_limits},
    sandbox::cgroup_limits,
    wire::{read_document, record_update},
};

impl Supervisor {
    /// Makes the pod, in one of its parts, what the memory file says it is to be.
    ///
    /// # Errors
    /// Why not, and the exit code that says so; nothing is changed then.
    pub(super) fn update_pod(&mut self, part: PodPart, fds: Vec<OwnedFd>) -> Result<(), (String, i32)> {
        let refused = |why: String| (why, 1);
        let document = fds.into_iter().next().ok_or_else(|| refused("the pod did not come".into()))?;
        let new: Pod = read_document(document).map_err(|e| refused(e.to_string()))?;
        let broken = |all: Vec<lifecycle::Broken>| {
            let all = all.into_iter().map(|(field, message)| format!("{field}: {message}"));
            refused(all.collect::<Vec<_>>().join("; "))
        };
        let checked = lifecycle::check_pod_update(&with_defaults(&self.pod), &with_defaults(&new), part);
        checked.map_err(broken)?;
        let (labels, images) = (self.pod.metadata.labels.clone(), list_images(&self.pod));
        let changed = lifecycle::merge_pod_update(&mut self.pod, &new, part);
        if changed {
            self.spec.follow_pod(&self.pod);
            // Refused where a container still has more than the pod is to have: it is tried again when that one starts anew.
            let _ = self.fit_pod_cgroup();
            // What was made ahead was made as the spec was.
            self.give_up_unstarted();
        }
        for (name, image) in list_images(&self.pod) {
            if !images.contains(&(name.clone(), image)) {
                self.pulls.images.remove(&name);
            }
        }
        if part == PodPart::Status {
            self.pending.push_back(Event::SetConditions(lifecycle::others_conditions(&new)));
        }
        if labels != self.pod.metadata.labels
            && let Some(network) = &mut self.network.member
        {
            network.tell_labels(self.pod.metadata.labels.clone().unwrap_or_default());
        }
        self.show_failures(|sandbox, pod| sandbox.refresh_metadata(pod));
        if part != PodPart::Status {
            // Without it the pod is started again with what it began with.
            let _ = record_update(&self.dir, &self.pod, part);
        }
        (self.changed, self.client.has_news) = (true, true);
        // Whoever is answered reads at once what came of it.
        self.pending.push_back(Event::Tick);
        self.settle();
        Ok(())
    }

    /// Gives a container that runs the CPU and memory that its spec says, and reports whether it has them.
    pub(super) fn resize(&mut self, run: Run) {
        let result = self.apply_resources(&run);
        self.pending.push_back(Event::Resized { run, result });
    }

    fn apply_resources(&self, run: &Run) -> Result<(), String> {
        let (Some(_), Some(container)) = (&self.cgroups, self.container(&run.container)) else {
            // Nothing is enforced here, which the start has told.
            return Ok(());
        };
        let Some(cgroup) = self.live.get(run).and_then(|live| live.cgroup.as_ref()) else { return Ok(()) };
        // Version 1 lets no cgroup have more than the one around it: that one grows first, and shrinks last.
        let _ = self.fit_pod_cgroup();
        self.fit_cgroup(cgroup, container)?;
        self.fit_pod_cgroup()
    }

    /// Gives a container's cgroup the limits that its spec says now.
    fn fit_cgroup(&self, cgroup: &Cgroup, container: &Container) -> Result<(), String> {
        let name = &container.name;
        let none = PodSpec::default();
        let spec = self.pod.spec.as_ref().unwrap_or(&none);
        let own =
            cgroup_limits::of_container(spec, container).map_err(|e| format!("container {name}: {e}"))?;
        check_memory(cgroup, &own)
            .map_err(|message| format!("attempting to set container {name} {message}"))?;
        cgroup.apply(&own).map(drop).map_err(|e| format!("container {name}: {e}"))
    }

    /// Gives the pod as a whole the CPU and memory that its spec says, and reports whether it has them.
    pub(super) fn resize_pod(&mut self) {
        let result = self.apply_pod_resources();
        self.pending.push_back(Event::PodResized(result));
    }

    /// Containers without limits of their own have the pod's, so theirs change with it.
    fn apply_pod_resources(&self) -> Result<(), String> {
        let (Some(pod), Some(spec)) = (&self.cgroups, &self.pod.spec) else { return Ok(()) };
        pod.check_memory(&cgroup_limits::of_pod(spec).map_err(|e| e.to_string())?)?;
        // Grows before them and shrinks after them, as above.
        let _ = self.fit_pod_cgroup();
        for (run, live) in &self.live {
            if let (Some(cgroup), Some(container)) = (&live.cgroup, self.container(&run.container))
                && enforced_limits(spec, container) != read_limits(container.resources.as_ref())
            {
                self.fit_cgroup(cgroup, container)?;
            }
        }
        self.fit_pod_cgroup()
    }

    /// Gives the pod's cgroup the limits that its spec says now.
    ///
    /// # Errors
    /// What is refused, such as less than a container has.
    pub(super) fn fit_pod_cgroup(&self) -> Result<(), String> {
        let (Some(pod), Some(spec)) = (&self.cgroups, &self.pod.spec) else { return Ok(()) };
        let limits = cgroup_limits::of_pod(spec).map_err(|e| e.to_string())?;
        pod.apply(&limits)
    }
}

/// Each container's name and image.
fn list_images(pod: &Pod) -> Vec<(String, Option<String>)> {
    let spec = pod.spec.iter();
    let all = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    all.map(|container| (container.name.clone(), container.image.clone())).collect()
}
