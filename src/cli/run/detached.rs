//! `run --detach`: the pods go on by themselves.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;

use super::{
    super::{Error, delete},
    Args, Wait,
    notes::hopeless,
};
use crate::{
    state::{Home, Liveness},
    supervisor::Started,
};

/// Waits until the pods are as far as `--wait` says.
pub(super) fn wait(args: &Args, started: &[Started], home: &Home) -> Result<i32, Error> {
    for pod in started {
        let watch = crate::logs::Watch::new(&pod.dir)?;
        loop {
            let now = pod.dir.read()?;
            if args.wait == Wait::None {
                break;
            }
            if let Some(message) = hopeless(&now) {
                let _ = delete::delete(home, &pod.dir, Some(Duration::ZERO), true);
                return Err(Error::Said(message));
            }
            let status = now.status.unwrap_or_default();
            let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            if over || reached(&status, args.wait) || pod.dir.liveness() != Liveness::Alive {
                break;
            }
            watch.wait(Some(Duration::from_secs(1)));
        }
        println!("pod/{} started", pod.dir.name);
    }
    Ok(0)
}

fn reached(status: &PodStatus, wait: Wait) -> bool {
    let all = status.container_statuses.as_deref().unwrap_or_default();
    !all.is_empty()
        && all.iter().all(|c| match wait {
            Wait::Ready => c.ready,
            _ => c.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some()),
        })
}
