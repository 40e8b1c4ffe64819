//! `…/log`: what a container wrote, and goes on to write.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    Entry,
    engine::{ErrorKind, LogOptions, Logs, PodHandle},
    server::{
        Server,
        http::{Answer, Asked, streamed_answer},
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
    options: LogOptions,
    timestamps: bool,
    /// Bytes that are written at most, times among them.
    limit: Option<usize>,
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
        let container = read_container(pod, query.find("container"))?;
        let options = LogOptions {
            container: Some(container.clone()),
            follow: query.is_true("follow"),
            previous: query.is_true("previous"),
            since: seconds.map(ago).or(query.find("sinceTime").map(time).transpose()?),
            tail: number("tailLines")?,
            limit_bytes: None,
            stderr,
        };
        let (timestamps, limit) = (query.is_true("timestamps"), number("limitBytes")?);
        Ok(Wanted { container, options, timestamps, limit })
    }

    fn write_entries(&self, entries: &[Entry]) -> Vec<u8> {
        let mut text = Vec::new();
        for entry in entries {
            // A vector takes all.
            let _ = entry.write_line(self.timestamps, &mut text);
        }
        text
    }
}

/// `…/log`
///
/// # Errors
/// Why there is none.
pub async fn answer_log(server: Arc<Server>, asked: &Asked, target: &Target) -> Result<Answer, Failure> {
    let pod = server.find_object(target).await?;
    let wanted = Wanted::parse(asked, &pod)?;
    let (namespace, name) =
        (target.namespace.clone().unwrap_or_default(), target.name.clone().unwrap_or_default());
    let engine = server.engine.clone();
    let reading = wanted.clone();
    let (handle, logs) = run_blocking(move || {
        let failed = |e: crate::Error| match e.kind() {
            ErrorKind::BadRequest => Failure::bad_request(e.to_string()),
            _ => Failure::internal(e.to_string()),
        };
        let handle = engine.pod(&namespace, &name).map_err(failed)?;
        handle.check_started(&reading.container, reading.options.previous).map_err(failed)?;
        let logs = handle.logs(&reading.options).map_err(failed)?;
        Ok((handle, logs))
    })
    .await?;
    let (sender, answer) = streamed_answer("text/plain");
    // A thread of its own: followers wait long, and are not to take the place of who does not.
    let follower = std::thread::Builder::new().name("log".into()).stack_size(STACK);
    let follower = follower.spawn(move || follow_log(&handle, &wanted, logs, &sender));
    follower.map_err(|e| Failure::internal(format!("cannot follow the log: {e}")))?;
    Ok(answer)
}

/// Sends what there is and comes, until the container has ended for good, or the client has left.
fn follow_log(handle: &PodHandle, wanted: &Wanted, mut logs: Logs, sender: &mpsc::Sender<Bytes>) {
    let mut left = wanted.limit.unwrap_or(usize::MAX);
    while left > 0 && !sender.is_closed() {
        // Asked before the log is read: what was written before the end is then sent. What does not grow ends by itself.
        let ended = wanted.options.follow
            && handle.pod().map_or(true, |pod| {
                let pod = serde_json::to_value(pod).unwrap_or_default();
                has_ended(&pod, &wanted.container)
            });
        let Some(entries) = logs.next_within(LOOK) else { return };
        let mut text = wanted.write_entries(&entries);
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
