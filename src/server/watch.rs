//! Watches: what is there, then every change, over one answer that goes on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, interval_at, sleep_until},
};

use super::{
    Server,
    http::{Answer, Asked, streamed_answer},
    kinds::Kind,
    list_options::ListOptions,
    object_tables::{Include, make_table, partial_metadata},
    read::{Choice, read_seen},
    revisions::{Change, Seen, Text},
    route::{Form, Target, choose_form},
    run_blocking,
    status::Failure,
};

/// The number of times a client that takes bookmarks is told where it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// Holds what a client wants to be told.
struct Watch {
    kind: &'static Kind,
    choice: Choice,
    form: Form,
    include: Include,
    bookmarks: bool,
}

/// `GET …?watch=true`
///
/// # Errors
/// Why it does not begin.
pub async fn answer_watch(server: Arc<Server>, asked: &Asked, target: &Target) -> Result<Answer, Failure> {
    let options = ListOptions::parse(&asked.query, true)?;
    let watch = Watch {
        kind: target.kind,
        choice: Choice::parse(asked, target)?,
        form: choose_form(asked.header("accept")).ok_or_else(Failure::not_acceptable)?,
        include: Include::parse(asked.query.find("includeObject")),
        bookmarks: options.takes_bookmarks,
    };
    let ListOptions { revision: from, sends_initial_events, longest, .. } = options;
    // Watched before it is listed: nothing is missed between.
    let watched = server.watch_kind(target.kind);
    let (refreshing, kind) = (server.clone(), target.kind);
    let (present, revision) = run_blocking(move || refreshing.refresh_kind(kind)).await?;
    let (sender, answer) = streamed_answer("application/json");
    tokio::spawn(async move {
        let told = async {
            let mut last = from;
            // Let go of while it is told: a watch outlives what there was at its beginning, which others hold no longer.
            let present = if from == 0 || sends_initial_events { present } else { Vec::new() };
            for (_, seen) in present {
                watch.tell_present(&sender, &seen).await?;
            }
            if from == 0 || sends_initial_events {
                last = revision;
            }
            if sends_initial_events && watch.bookmarks {
                watch.tell_bookmark(&sender, last, true).await?;
            }
            watch.tell_changes(&server, &sender, last).await
        };
        tokio::select! {
            _ = told => {}
            () = sender.closed() => {}
            () = sleep_until(Instant::now() + longest) => {}
        }
        drop(watched);
    });
    Ok(answer)
}

/// The client has left.
struct Left;

/// Writes of what is gone that nothing in it is ready. A kubelet says so before the last look at a pod; here it may end
/// between two looks, and who waits for its end by its conditions is to hear of it.
fn end_readiness(object: &mut Value) {
    let list = |object: &mut Value, path: &str, change: fn(&mut Value)| {
        object.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
    };
    list(object, "/status/conditions", |condition| {
        if condition["type"] == "Ready" || condition["type"] == "ContainersReady" {
            condition["status"] = "False".into();
        }
    });
    list(object, "/status/containerStatuses", |container| container["ready"] = false.into());
}

impl Watch {
    async fn tell_changes(
        &self,
        server: &Server,
        sender: &mpsc::Sender<Bytes>,
        mut last: u64,
    ) -> Result<(), Left> {
        let mut changed = server.changed.subscribe();
        let mut bookmark = interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
        loop {
            changed.borrow_and_update();
            let (remembered, changes, current) = server.changes_after(self.kind, last);
            if !remembered {
                let message = format!("too old resource version: {last} ({current}): list again");
                return self.send(sender, "ERROR", &Failure::gone(message).to_status()).await;
            }
            for change in &changes {
                if let Some((type_, text)) = self.judge_change(change) {
                    let mut object = read_seen(&Seen { revision: change.revision, text });
                    if change.after.is_none() {
                        end_readiness(&mut object);
                    }
                    self.send(sender, type_, &self.shape(object)).await?;
                }
            }
            last = current;
            tokio::select! {
                news = changed.changed() => news.map_err(|_| Left)?,
                _ = bookmark.tick(), if self.bookmarks => self.tell_bookmark(sender, last, false).await?,
            }
        }
    }

    /// Returns what a change is to this client: an object that begins to be meant is new, one that no
    /// longer is, gone.
    fn judge_change(&self, change: &Change) -> Option<(&'static str, Text)> {
        let is_meant = |text: &&Text| {
            let object: Value = serde_json::from_slice(text).unwrap_or_default();
            self.choice.includes(&object)
        };
        let before = change.before.as_ref().filter(is_meant);
        match (before, change.after.as_ref().filter(is_meant)) {
            (None, None) => None,
            (None, Some(after)) => Some(("ADDED", after.clone())),
            (Some(_), Some(after)) => Some(("MODIFIED", after.clone())),
            (Some(before), None) => Some(("DELETED", change.after.as_ref().unwrap_or(before).clone())),
        }
    }

    async fn tell_present(&self, sender: &mpsc::Sender<Bytes>, seen: &Seen) -> Result<(), Left> {
        let object = read_seen(seen);
        if !self.choice.includes(&object) {
            return Ok(());
        }
        self.send(sender, "ADDED", &self.shape(object)).await
    }

    async fn tell_bookmark(
        &self,
        sender: &mpsc::Sender<Bytes>,
        revision: u64,
        initial: bool,
    ) -> Result<(), Left> {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object =
            json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata});
        self.send(sender, "BOOKMARK", &self.shape(object)).await
    }

    fn shape(&self, object: Value) -> Value {
        match self.form {
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                make_table(self.kind.kind, &[object], metadata, self.include, Timestamp::now())
            }
            Form::Partial => partial_metadata(&object),
            Form::Plain | Form::Aggregated(_) => object,
        }
    }

    async fn send(&self, sender: &mpsc::Sender<Bytes>, type_: &str, object: &Value) -> Result<(), Left> {
        let mut line = json!({"type": type_, "object": object}).to_string().into_bytes();
        line.push(b'\n');
        sender.send(line.into()).await.map_err(|_| Left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_not_ready_and_gets_no_field_that_it_had_not() {
        let mut pod = json!({"metadata": {}, "status": {
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"name": "a", "ready": true}]}});
        end_readiness(&mut pod);
        let status = json!({
            "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"name": "a", "ready": false}]});
        assert_eq!(pod["status"], status);
        let mut map = json!({"data": {}});
        end_readiness(&mut map);
        assert_eq!(map, json!({"data": {}}));
    }
}
