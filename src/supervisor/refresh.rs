//! A kept ConfigMap or Secret has changed: the living pods that refer to it are told, and follow (R-VOL-2).

use std::{
    fs::File,
    io::{Seek, Write},
    os::fd::{AsFd, OwnedFd},
};

use super::{
    Supervisor,
    control::{self, Request},
    events::Happened,
    launch::{keep_objects, memfd},
};
use crate::{
    lifecycle::Record,
    manifest::references,
    sandbox::Objects,
    state::{Home, Kept, Liveness, PodDir},
};

/// Tells every living pod of the namespace that refers to the object. One that cannot be reached has the
/// old one until it starts again.
pub fn tell<T: Kept>(home: &Home, namespace: &str, object: T) {
    let name = object.metadata().name.clone().unwrap_or_default();
    let list = if T::KIND == "Secret" { "secrets" } else { "config_maps" };
    let mut changed = serde_json::to_value(Objects::default()).expect("plain data");
    changed[list] = serde_json::json!([object]);
    let text = changed.to_string();
    let mentioned = |dir: &PodDir| {
        let pod = dir.read().unwrap_or_default();
        references(&pod).iter().any(|r| r.kind == T::KIND && r.name == name)
    };
    let all = home.pods().unwrap_or_default().into_iter();
    let living = all.filter(|dir| dir.namespace == namespace && dir.liveness() == Liveness::Alive);
    for dir in living.filter(mentioned) {
        let Ok(socket) = control::dial(&dir.control_socket()) else { continue };
        // One for each: they share no place in it.
        if let Ok(mut document) = memfd(c"podctl-refresh")
            && document.write_all(text.as_bytes()).and_then(|()| document.rewind()).is_ok()
        {
            let _ = control::send(&socket, &Request::Refresh, &[document.as_fd()]);
        }
    }
}

impl Supervisor {
    /// Takes the changed objects in.
    pub(super) fn refresh(&mut self, fds: Vec<OwnedFd>) {
        let Some(document) = fds.into_iter().next().map(File::from) else { return };
        let Ok(changed) = serde_json::from_reader::<_, Objects>(document) else { return };
        for failure in self.sandbox.refresh(&self.pod, &changed) {
            self.recorder.write(Happened::now(Record {
                warning: true,
                reason: "FailedMount",
                message: format!("MountVolume.SetUp failed: {failure}; its files stay as they were"),
                container: None,
            }));
            self.news = true;
        }
        // Without it the pod is started again with what it began with.
        let _ = keep_objects(&self.dir, &self.sandbox.objects);
    }
}
