//! `run --detach`: the pods go on by themselves.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podctl_runtime::trace;

use super::{
    super::{Error, delete, warn},
    Args, Wait,
    notes::{Notes, hopeless},
};
use crate::{state::Home, supervisor::Started};

/// Waits until the pods are as far as `--wait` says.
pub(super) fn wait(args: &Args, started: &[Started], home: &Home) -> Result<i32, Error> {
    let mut code = 0;
    for pod in started {
        let mut notes = Notes::of_warnings();
        loop {
            if args.wait == Wait::None {
                break;
            }
            let lives = pod.lives();
            let now = pod.dir.read()?;
            if let Some(message) = hopeless(&now) {
                let _ = delete::delete(home, &pod.dir, Some(Duration::ZERO), true);
                return Err(Error::Said(message));
            }
            notes.show(&now, &pod.dir, started.len() > 1);
            if let Some(why) = crash_loop(&now) {
                warn(&format!(
                    "{why}; the pod goes on trying: `podctl describe pod {0}` and `podctl logs {0}` say more",
                    pod.dir.name
                ));
                code = 1;
                break;
            }
            let status = now.status.unwrap_or_default();
            let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            if over || reached(&status, args.wait) || !lives {
                break;
            }
            let _ = poll(&mut [PollFd::new(pod.fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        }
        trace::mark("client", "see the containers running");
        println!("pod/{} started", pod.dir.name);
    }
    Ok(code)
}

fn reached(status: &PodStatus, wait: Wait) -> bool {
    let all = status.container_statuses.as_deref().unwrap_or_default();
    !all.is_empty()
        && all.iter().all(|c| match wait {
            Wait::Ready => c.ready,
            _ => c.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some()),
        })
}

/// An app container that ends again and again may never run.
fn crash_loop(pod: &Pod) -> Option<String> {
    let all = pod.status.as_ref()?.container_statuses.iter().flatten();
    all.filter_map(|c| Some((c, c.state.as_ref()?.waiting.as_ref()?)))
        .find(|(_, w)| w.reason.as_deref() == Some("CrashLoopBackOff"))
        .map(|(c, w)| format!("container {}: {}", c.name, w.message.as_deref().unwrap_or_default()))
}
