//! `podctl start` and `podctl restart`: every container of pods anew, init containers first (R-INIT-3).

use crate::{
    cli::{Error, Namespace, pod_handle, pod_selection::Named, warn},
    engine::{self, PodHandle},
    state::Home,
};

/// Pods that were stopped, or have ended.
pub(super) fn start(pods: &Named, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    each(pods, home, namespace, PodHandle::start, "started")
}

/// Pods that run; others are started.
pub(super) fn restart(pods: &Named, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    each(pods, home, namespace, PodHandle::restart, "restarted")
}

fn each(
    pods: &Named,
    home: &Home,
    namespace: &Namespace,
    anew: fn(&PodHandle) -> Result<PodHandle, engine::Error>,
    done: &str,
) -> Result<i32, Error> {
    for name in &pods.names {
        let pod = anew(&pod_handle(home, namespace, name)?)?;
        pod.warnings().iter().for_each(|warning| warn(warning));
        println!("pod \"{}\" {done}", pod.name());
    }
    Ok(0)
}
