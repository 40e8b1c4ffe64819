//! The pod's cgroup with those of its containers in it: made at its start, removed at its end or by the sweep.

use std::fs;

use k8s_openapi::api::core::v1::Pod;
use oci_spec::runtime::LinuxResources;
use podctl_runtime::{Cgroup, CgroupParent, DeviceFilter};

use super::Failure;
use crate::{
    outer_container::{Need, OuterContainer},
    pod::PodExt,
    sandbox::{self, cgroup_limits},
    state::PodDir,
};

/// The pod's cgroup.
pub(super) struct PodCgroup {
    own: Cgroup,
    /// The place where those of the containers are made.
    pub(super) parent: CgroupParent,
    /// Tells whether they keep devices away; in a user namespace nobody opens any.
    pub(super) restricts_devices: bool,
}

/// Makes it. Beside it, what the user should know: which of the pod's limits will not be enforced, and why.
///
/// # Errors
/// The same sentence when `strict`, else only what a writable cgroup refuses.
pub(super) fn make(
    pod: &Pod,
    dir: &PodDir,
    strict: bool,
) -> Result<(Option<PodCgroup>, Option<String>), Failure> {
    let spec = pod.spec.clone().unwrap_or_default();
    let wanted = cgroup_limits::controllers(&spec);
    if wanted.contains(&cgroup_limits::HUGE_PAGES) {
        Cgroup::hand_down(cgroup_limits::HUGE_PAGES);
    }
    let found = Cgroup::detect_parent();
    let (missing, why) = match &found {
        Ok(place) => {
            let had = place.controllers();
            let missing: Vec<_> = wanted.iter().copied().filter(|name| !had.contains(name)).collect();
            (missing, "this cgroup is not given them".to_owned())
        }
        Err(reason) => {
            let mend =
                OuterContainer::find_around().map(|outer| format!("; {}", outer.say_mend(Need::Cgroups)));
            (wanted, format!("{reason}{}", mend.unwrap_or_default()))
        }
    };
    let warning = (!missing.is_empty())
        .then(|| format!("the pod's {} limits are not enforced: {why}", missing.join(" and ")));
    if let Some(warning) = &warning
        && strict
    {
        return Err(warning.as_str().into());
    }
    let Ok(place) = found else { return Ok((None, warning)) };
    let own = Cgroup::create(&place, &format!("podctl-{}", pod.uid()))?;
    // For the sweep after a supervisor that was killed.
    let paths: Vec<String> = own.list_directories().map(|path| path.display().to_string()).collect();
    fs::write(dir.cgroups_file(), paths.join("\n"))?;
    own.apply(&cgroup_limits::of_pod(&spec)?)?;
    if place.controllers().contains(&cgroup_limits::HUGE_PAGES) {
        own.apply(&cgroup_limits::without_huge_pages_but(&spec)?)?;
    }
    // Tried here: a container that finds out for itself could have made nodes by then.
    let all = DeviceFilter::new(&sandbox::all_devices());
    let restricts_devices = !sandbox::in_user_namespace() && own.restrict_devices(&all)?;
    let parent = own.divide()?;
    Ok((Some(PodCgroup { own, parent, restricts_devices }), warning))
}

/// Looks whether a cgroup can have the limit of memory that the resources say.
///
/// # Errors
/// That it has more in use than that, in the kubelet's words.
pub(super) fn check_memory(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), String> {
    let limit =
        resources.memory().and_then(|memory| memory.limit()).and_then(|limit| u64::try_from(limit).ok());
    match (limit, cgroup.stats().memory) {
        (Some(limit), Some(used)) if used > limit => {
            Err(format!("memory limit ({limit}) below current usage ({used})"))
        }
        _ => Ok(()),
    }
}

impl PodCgroup {
    /// Looks whether the pod can have that limit of memory.
    ///
    /// # Errors
    /// As [`check_memory`].
    pub(super) fn check_memory(&self, resources: &LinuxResources) -> Result<(), String> {
        check_memory(&self.own, resources).map_err(|message| format!("attempting to set pod {message}"))
    }

    /// Sets the pod's limits anew.
    ///
    /// # Errors
    /// What a cgroup refuses, or a limit of memory below what is in use: the kernel would make room by killing.
    pub(super) fn apply(&self, resources: &LinuxResources) -> Result<(), String> {
        self.check_memory(resources)?;
        self.own.apply(resources).map(drop).map_err(|e| e.to_string())
    }

    /// Ends what still runs in it and takes it away.
    pub(super) fn remove(self) {
        // What still runs keeps the directories, which are tried for a while.
        let _ = self.own.kill();
        self.own.list_directories().for_each(Cgroup::remove_tree_patiently);
    }
}
