//! What is kept of a pod's life: events, and the message a container leaves behind.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use k8s_openapi::{
    api::core::v1::{Container, Event, EventSource, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};

use crate::{
    lifecycle::{Exit, Record},
    state::PodDir,
};

/// Longest termination message (R-APP-4).
const LONGEST_MESSAGE: u64 = 4096;
/// With FallbackToLogsOnError: so much of the log's end …
const LONGEST_FALLBACK: u64 = 2048;
/// … and no more lines of it.
const FALLBACK_LINES: usize = 80;

/// A record and when it was made.
pub(super) struct Happened {
    record: Record,
    at: Timestamp,
}

impl Happened {
    pub(super) fn now(record: Record) -> Happened {
        Happened { record, at: Timestamp::now() }
    }
}

/// Writes events; the same one again only counts up.
pub(super) struct Recorder {
    dir: PodDir,
    object: ObjectReference,
    /// Names of init and of app containers; all others are ephemeral.
    init: Vec<String>,
    apps: Vec<String>,
    written: Vec<Event>,
}

impl Recorder {
    pub(super) fn new(pod: &Pod, dir: PodDir) -> Recorder {
        let meta = &pod.metadata;
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        };
        let init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
        let apps = pod.spec.iter().flat_map(|s| &s.containers);
        Recorder {
            dir,
            object,
            init: init.map(|c| c.name.clone()).collect(),
            apps: apps.map(|c| c.name.clone()).collect(),
            written: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, Happened { record, at }: Happened) {
        let list = |name: &String| match (self.init.contains(name), self.apps.contains(name)) {
            (true, _) => "initContainers",
            (_, true) => "containers",
            _ => "ephemeralContainers",
        };
        let field_path = record.container.as_ref().map(|name| format!("spec.{}{{{name}}}", list(name)));
        let known = self.written.iter().position(|e| {
            e.reason.as_deref() == Some(record.reason)
                && e.message.as_deref() == Some(&record.message)
                && e.involved_object.field_path == field_path
        });
        let at = Some(Time(at));
        let event = match known {
            Some(index) => {
                let event = &mut self.written[index];
                event.count = event.count.map(|n| n + 1);
                event.last_timestamp = at;
                &*event
            }
            None => {
                let name = format!(
                    "{}.{:x}",
                    self.object.name.as_deref().unwrap_or_default(),
                    at.as_ref().map_or(0, |t| t.0.as_nanosecond()) as u64 ^ self.written.len() as u64
                );
                self.written.push(Event {
                    metadata: ObjectMeta {
                        name: Some(name),
                        namespace: self.object.namespace.clone(),
                        creation_timestamp: at.clone(),
                        ..ObjectMeta::default()
                    },
                    involved_object: ObjectReference { field_path, ..self.object.clone() },
                    reason: Some(record.reason.into()),
                    message: Some(record.message),
                    type_: Some(if record.warning { "Warning" } else { "Normal" }.into()),
                    source: Some(EventSource { component: Some("podctl".into()), host: None }),
                    first_timestamp: at.clone(),
                    last_timestamp: at,
                    count: Some(1),
                    ..Event::default()
                });
                self.written.last().expect("pushed above")
            }
        };
        // A full disk must not end the pod.
        let _ = self.dir.append_event(event);
    }
}

/// R-APP-4: what the container wrote to terminationMessagePath, else, if so asked, its log's end.
pub(super) fn termination_message(container: &Container, exit: Exit, written: &Path, log: &Path) -> String {
    let written = tail(written, LONGEST_MESSAGE);
    let fall_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if !written.is_empty() || !fall_back || exit == Exit::Code(0) {
        return written;
    }
    let text = tail(log, LONGEST_FALLBACK * 4);
    let lines: Vec<&str> = text.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let mut message = lines[lines.len().saturating_sub(FALLBACK_LINES)..].join("\n");
    while message.len() as u64 > LONGEST_FALLBACK {
        let first = message.chars().next().map_or(1, char::len_utf8);
        message.drain(..first);
    }
    message
}

/// At most so many bytes of the file's end, as text.
fn tail(path: &Path, longest: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(longest)))?;
        let mut bytes = Vec::new();
        file.take(longest).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
