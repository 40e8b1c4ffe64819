//! `…/log`: what a container wrote, and goes on to write.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    Entry,
    engine::{LogOptions, PodHandle},
    server::{
        Server,
        http::{Answer, Asked, streamed_answer, typed_answer},
        read::read_container,
        route::Target,
        run_blocking,
        status::Failure,
    },
};

/// The number of times a follower looks whether its container has ended for good.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of memory that a follower's thread has for its stack.
const STACK: usize = 256 << 10;

/// Tells which lines, and how they are written.
#[derive(Clone, Debug, Default)]
struct Wanted {
    container: String,
    follow: bool,
    previous: bool,
    timestamps: bool,
    /// Nothing written before.
    since: Option<Timestamp>,
    tail: Option<usize>,
    limit: Option<usize>,
    /// Belongs to standard error only, or of standard output only.
    stderr: Option<bool>,
}

impl Wanted {
    fn parse(asked: &Asked, pod: &Value) -> Result<Wanted, Failure> {
        let query = &asked.query;
        let number = |name: &str| {
            let number = query.number(name).map_err(Failure::bad_request)?;
            Ok::<_, Failure>(number.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
        };
        let seconds = query.number("sinceSeconds").map_err(Failure::bad_request)?;
        let ago = |seconds: u64| Timestamp::now() - SignedDuration::from_secs(seconds.min(1 << 32) as i64);
        let time = |text: &str| {
            text.parse().map_err(|_| {
                Failure::bad_request(format!("sinceTime: {text:?} is no time as RFC 3339 has it"))
            })
        };
        let stderr = match query.find("stream") {
            None | Some("All") => None,
            Some("Stdout") => Some(false),
            Some("Stderr") => Some(true),
            Some(other) => {
                return Err(Failure::bad_request(format!(
                    "stream: {other:?}: there are All, Stdout and Stderr"
                )));
            }
        };
        Ok(Wanted {
            container: read_container(pod, query.find("container"))?,
            follow: query.is_true("follow"),
            previous: query.is_true("previous"),
            timestamps: query.is_true("timestamps"),
            since: seconds.map(ago).or(query.find("sinceTime").map(time).transpose()?),
            tail: number("tailLines")?,
            limit: number("limitBytes")?,
            stderr,
        })
    }

    fn includes(&self, entry: &Entry) -> bool {
        let recent = |since: &Timestamp| entry.time.parse::<Timestamp>().is_ok_and(|time| time >= *since);
        self.stderr.is_none_or(|stderr| stderr == entry.stderr) && self.since.as_ref().is_none_or(recent)
    }

    fn write_entry(&self, entry: &Entry, out: &mut Vec<u8>) {
        if self.timestamps {
            out.extend(entry.time.bytes());
            out.push(b' ');
        }
        out.extend_from_slice(&entry.text);
        if !entry.partial {
            out.push(b'\n');
        }
    }
}

/// `…/log`
///
/// # Errors
/// Why there is none.
pub async fn answer_log(server: Arc<Server>, asked: &Asked, target: &Target) -> Result<Answer, Failure> {
    let pod = server.find_object(target).await?;
    let wanted = Wanted::parse(asked, &pod)?;
    check_started(&pod, &wanted, target)?;
    let (namespace, name) =
        (target.namespace.clone().unwrap_or_default(), target.name.clone().unwrap_or_default());
    let engine = server.engine.clone();
    let reading = wanted.clone();
    let (handle, entries) = run_blocking(move || {
        let failed = |e: crate::Error| Failure::internal(e.to_string());
        let handle = engine.pod(&namespace, &name).map_err(failed)?;
        let options = LogOptions {
            container: Some(reading.container.clone()),
            follow: false,
            previous: reading.previous,
        };
        let entries: Vec<Entry> = handle.logs(&options).map_err(failed)?.collect();
        Ok((handle, entries))
    })
    .await?;
    let last = entries.last().map(|entry| entry.time.clone());
    let mut chosen: Vec<&Entry> = entries.iter().filter(|entry| wanted.includes(entry)).collect();
    if let Some(tail) = wanted.tail {
        chosen.drain(..chosen.len().saturating_sub(tail));
    }
    let mut text = Vec::new();
    for entry in chosen {
        wanted.write_entry(entry, &mut text);
    }
    if let Some(limit) = wanted.limit {
        text.truncate(limit);
    }
    if !wanted.follow || wanted.previous || wanted.limit.is_some_and(|limit| text.len() >= limit) {
        return Ok(typed_answer(StatusCode::OK, "text/plain", text));
    }
    let (sender, answer) = streamed_answer("text/plain");
    // What an earlier start wrote is not this one's.
    let after = last.unwrap_or_else(|| Timestamp::now().to_string());
    let left = wanted.limit.map_or(usize::MAX, |limit| limit - text.len());
    // A thread of its own: followers wait long, and are not to take the place of who does not.
    let follower = std::thread::Builder::new().name("log".into()).stack_size(STACK).spawn(move || {
        if text.is_empty() || sender.blocking_send(text.into()).is_ok() {
            follow_log(&handle, &wanted, &after, left, &sender);
        }
    });
    follower.map_err(|e| Failure::internal(format!("cannot follow the log: {e}")))?;
    Ok(answer)
}

/// Sends what comes after that time, until the container has ended for good, or the client has left.
fn follow_log(
    handle: &PodHandle,
    wanted: &Wanted,
    after: &str,
    mut left: usize,
    sender: &mpsc::Sender<Bytes>,
) {
    let options = LogOptions { container: Some(wanted.container.clone()), follow: true, previous: false };
    // A pod that is gone has no more to say.
    let Ok(mut logs) = handle.logs(&options) else { return };
    while left > 0 && !sender.is_closed() {
        // Asked before the log is read: what was written before the end is then sent.
        let ended = handle.pod().map_or(true, |pod| {
            let pod = serde_json::to_value(pod).unwrap_or_default();
            has_ended(&pod, &wanted.container)
        });
        let Some(entries) = logs.next_within(LOOK) else { return };
        let mut text = Vec::new();
        for entry in entries.iter().filter(|e| e.time.as_str() > after && wanted.includes(e)) {
            wanted.write_entry(entry, &mut text);
        }
        text.truncate(left);
        left -= text.len();
        if !text.is_empty() && sender.blocking_send(text.into()).is_err() || ended && entries.is_empty() {
            return;
        }
    }
}

fn find_status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut all = lists.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    all.find(|status| status["name"] == container)
}

/// Tells whether a container's last start has ended.
fn has_ended(pod: &Value, container: &str) -> bool {
    find_status(pod, container).is_some_and(|status| status["state"]["terminated"].is_object())
}

/// Returns what a kubelet says of a container that has not been started, or not twice.
fn check_started(pod: &Value, wanted: &Wanted, target: &Target) -> Result<(), Failure> {
    let (container, name) = (&wanted.container, target.name.as_deref().unwrap_or_default());
    let status = find_status(pod, container);
    let restarts = status.and_then(|s| s["restartCount"].as_u64()).unwrap_or(0);
    if wanted.previous && restarts == 0 {
        let message = format!("previous terminated container {container:?} in pod {name:?} not found");
        return Err(Failure::bad_request(message));
    }
    let waiting = status.map(|s| &s["state"]["waiting"]).filter(|w| w.is_object());
    match waiting.and_then(|w| w["reason"].as_str()) {
        Some(reason) if restarts == 0 && !wanted.previous => {
            let message = format!("container {container:?} in pod {name:?} is waiting to start: {reason}");
            Err(Failure::bad_request(message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::kinds::find_kind;

    #[test]
    fn a_container_that_never_started_has_no_log() {
        let kind = find_kind("", "v1", "pods").unwrap();
        let target = Target { kind, namespace: None, name: Some("p".into()), subresource: None };
        let pod = |state: Value, restarts: u64| json!({"status": {"containerStatuses": [{"name": "c", "state": state, "restartCount": restarts}]}});
        let wanted = |previous| Wanted { container: "c".into(), previous, ..Wanted::default() };
        let waiting = pod(json!({"waiting": {"reason": "ContainerCreating"}}), 0);
        let failure = check_started(&waiting, &wanted(false), &target).unwrap_err();
        assert_eq!(failure.message, "container \"c\" in pod \"p\" is waiting to start: ContainerCreating");
        assert!(check_started(&pod(json!({"running": {}}), 0), &wanted(false), &target).is_ok());
        assert!(check_started(&pod(json!({"running": {}}), 0), &wanted(true), &target).is_err());
        assert!(
            check_started(
                &pod(json!({"waiting": {"reason": "CrashLoopBackOff"}}), 2),
                &wanted(true),
                &target
            )
            .is_ok()
        );
    }
}
