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
    pod::PodExt,
    state::PodDir,
};

/// Longest termination message (R-APP-4).
const LONGEST_MESSAGE: u64 = 4096;
/// With FallbackToLogsOnError: so much of the log's end …
const LONGEST_FALLBACK: u64 = 2048;
/// … and no more lines of it.
const FALLBACK_LINES: usize = 80;
/// Events of one reason that differ in their words; further ones are told as one, as a kubelet's (its aggregator's
/// `defaultAggregateMaxEvents`).
const SIMILAR: usize = 10;
/// Tells how such a one begins.
const COMBINED: &str = "(combined from similar events): ";
/// Events that are kept; the one that happened longest ago makes room.
const MOST_EVENTS: usize = 500;
/// Lines of the file that say an event anew, before it is written whole.
const MOST_REPEATED: usize = 100;

/// The record and when it was made.
pub(super) struct Happened {
    record: Record,
    at: Timestamp,
}

impl Happened {
    pub(super) fn now(record: Record) -> Happened {
        Happened { record, at: Timestamp::now() }
    }
}

/// Writes events; the same one again only counts up. What a full disk keeps out of the file comes there later.
pub(super) struct Recorder {
    dir: PodDir,
    object: ObjectReference,
    /// Names of init and of app containers; all others are ephemeral.
    init: Vec<String>,
    apps: Vec<String>,
    /// Holds what the file is to say.
    written: Vec<Event>,
    /// Lines of the file.
    lines: usize,
    /// The file lacks something, or says something twice too often.
    behind: bool,
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
        Recorder {
            dir,
            object,
            init: pod.init_containers().map(|c| c.name.clone()).collect(),
            apps: pod.app_containers().map(|c| c.name.clone()).collect(),
            written: Vec::new(),
            lines: 0,
            behind: false,
        }
    }

    /// Writes an event, or counts one that is known.
    pub(super) fn write(&mut self, Happened { mut record, at }: Happened) {
        let list = |name: &String| match (self.init.contains(name), self.apps.contains(name)) {
            (true, _) => "initContainers",
            (_, true) => "containers",
            _ => "ephemeralContainers",
        };
        let field_path = record.container.as_ref().map(|name| format!("spec.{}{{{name}}}", list(name)));
        let alike = |e: &&Event| {
            e.reason.as_deref() == Some(record.reason) && e.involved_object.field_path == field_path
        };
        let message = |e: &Event| e.message.clone().unwrap_or_default();
        let mut known = self.written.iter().position(|e| alike(&e) && message(e) == record.message);
        if known.is_none() && self.written.iter().filter(alike).count() >= SIMILAR {
            known = self.written.iter().position(|e| alike(&e) && message(e).starts_with(COMBINED));
            record.message.insert_str(0, COMBINED);
        }
        let at = Some(Time(at));
        let index = match known {
            Some(index) => {
                let event = &mut self.written[index];
                event.count = event.count.map(|n| n + 1);
                event.last_timestamp = at;
                event.message = Some(record.message);
                index
            }
            None => {
                self.make_room();
                self.written.push(self.new_event(record, at, field_path));
                self.written.len() - 1
            }
        };
        self.lines += 1;
        self.behind |= self.lines > self.written.len() + MOST_REPEATED;
        // A line that was cut would stand before all that come later: the file is then written whole.
        self.behind = self.behind || self.dir.append_event(&self.written[index]).is_err();
        self.catch_up();
    }

    fn new_event(&self, record: Record, at: Option<Time>, field_path: Option<String>) -> Event {
        let name = format!(
            "{}.{:x}",
            self.object.name.as_deref().unwrap_or_default(),
            at.as_ref().map_or(0, |t| t.0.as_nanosecond()) as u64 ^ self.written.len() as u64
        );
        Event {
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
        }
    }

    fn make_room(&mut self) {
        if self.written.len() >= MOST_EVENTS {
            let last = |e: &Event| e.last_timestamp.as_ref().map(|t| t.0);
            let oldest = (0..self.written.len()).min_by_key(|index| last(&self.written[*index]));
            oldest.map(|index| self.written.remove(index));
            self.behind = true;
        }
    }

    /// Tells whether the file lacks something for want of room.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Writes the file whole, if it lacks something.
    pub(super) fn catch_up(&mut self) {
        if self.behind && self.dir.write_events(&self.written).is_ok() {
            self.behind = false;
            self.lines = self.written.len();
        }
    }
}

/// R-APP-4: what the container wrote to terminationMessagePath, else, if so asked, its log's end.
pub(super) fn termination_message(container: &Container, exit: Exit, written: &Path, log: &Path) -> String {
    let written = read_tail(written, LONGEST_MESSAGE);
    let fall_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if !written.is_empty() || !fall_back || exit == Exit::Code(0) {
        return written;
    }
    let text = read_tail(log, LONGEST_FALLBACK * 4);
    let lines: Vec<&str> = text.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let mut message = lines[lines.len().saturating_sub(FALLBACK_LINES)..].join("\n");
    while message.len() as u64 > LONGEST_FALLBACK {
        let first = message.chars().next().map_or(1, char::len_utf8);
        message.drain(..first);
    }
    message
}

/// Reads at most so many bytes of the file's end, as text.
fn read_tail(path: &Path, longest: u64) -> String {
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
