//! The puller: the one process of a pod that is in the host's network and fetches its images.
//!
//! The supervisor asks over a socket, one JSON message an image; each answer carries the image or
//! the registry's own words. The puller ends when the supervisor closes its end.

use std::{
    collections::HashMap,
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use podctl_images::{AuthFile, Image, Options, Progress, Pulled, Reference, Store};
use serde::{Deserialize, Serialize};

use super::{
    bars::LayerBars,
    detach_from_terminal,
    launch::{PULLER, SCREEN, take},
};
use crate::sandbox::Objects;

/// What the supervisor asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub container: String,
    pub image: String,
    /// imagePullPolicy.
    pub policy: String,
    /// The image store's directory.
    pub store: PathBuf,
    /// No container can have started, so that nobody else writes on the terminal.
    pub alone: bool,
    /// What the pod's imagePullSecrets hold.
    pub secrets: Vec<AuthFile>,
}

/// What the pod's imagePullSecrets hold. As in a kubelet, a Secret that is missing or of another type
/// is passed over: the image may be public.
pub(super) fn secrets(pod: &Pod, objects: &Objects) -> Vec<AuthFile> {
    let named = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let found = named.filter_map(|r| objects.secret(&r.name, Some(true)).ok().flatten());
    found
        .filter_map(|secret| {
            let text = |key: &str| {
                let data = secret.data.as_ref().and_then(|all| all.get(key)).map(|bytes| bytes.0.clone());
                let plain = secret.string_data.as_ref().and_then(|all| all.get(key)).cloned();
                plain.or_else(|| String::from_utf8(data?).ok())
            };
            match secret.type_.as_deref() {
                Some("kubernetes.io/dockerconfigjson") => {
                    text(".dockerconfigjson").map(|t| AuthFile::new(&t))
                }
                Some("kubernetes.io/dockercfg") => text(".dockercfg").map(|t| AuthFile::from_dockercfg(&t)),
                _ => None,
            }
        })
        .collect()
}

/// What the puller answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub container: String,
    pub outcome: Outcome,
}

/// How a pull ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Present(Box<Image>),
    Pulled { image: Box<Image>, took: Duration, bytes: u64 },
    Failed(String),
    NeverPull(String),
    InvalidName(String),
}

/// The longest request; secrets are most of it.
pub(super) const LONGEST: usize = 128 << 10;

/// The puller's life.
pub fn main() -> i32 {
    serve(&LayerBars::new())
}

/// The same, of one that shows nothing.
pub fn quiet() -> i32 {
    serve(&LayerBars::quiet())
}

fn serve(progress: &LayerBars) -> i32 {
    // SAFETY: this process was started by launch with these descriptors.
    let (socket, screen) = unsafe { (take(PULLER), take(SCREEN)) };
    // A Ctrl-C in the terminal is the client's business.
    let _ = nix::unistd::setsid();
    // Progress is for the client; when that has gone, its terminal and pipes are not to be kept.
    std::thread::spawn(move || {
        let _ = nix::unistd::read(&screen, &mut [0]);
        detach_from_terminal();
    });
    let fetches = Fetches::default();
    let mut buffer = vec![0; LONGEST];
    std::thread::scope(|scope| {
        loop {
            let request: Request = match nix::unistd::read(&socket, &mut buffer) {
                Ok(0) | Err(_) => return 0,
                Ok(n) => match serde_json::from_slice(&buffer[..n]) {
                    Ok(request) => request,
                    Err(_) => return 1,
                },
            };
            let (socket, fetches) = (socket.as_fd(), &fetches);
            if !request.alone {
                progress.settle();
            }
            scope.spawn(move || {
                let answer =
                    Answer { outcome: fetches.shared(&request, progress), container: request.container };
                progress.settle();
                let text = serde_json::to_vec(&answer).expect("plain data");
                // A supervisor that has gone needs no answer.
                let _ = nix::unistd::write(socket, &text);
            });
        }
    })
}

/// Fetches under way, by image and policy.
#[derive(Default)]
struct Fetches(Mutex<HashMap<(String, String), Fetch>>);

/// One fetch, whose outcome all that wait for it see.
type Fetch = Arc<OnceLock<Outcome>>;

impl Fetches {
    /// Containers that want the same image at the same time share one fetch; a later one is made anew.
    fn shared(&self, request: &Request, progress: &dyn Progress) -> Outcome {
        let key = (request.image.clone(), request.policy.clone());
        let under_way = || self.0.lock().expect("never poisoned: nothing under it panics");
        let fetching = under_way().entry(key.clone()).or_default().clone();
        let outcome = fetching.get_or_init(|| fetch(request, progress)).clone();
        under_way().remove(&key);
        outcome
    }
}

fn fetch(request: &Request, progress: &dyn Progress) -> Outcome {
    let reference: Reference = match request.image.parse() {
        Ok(reference) => reference,
        Err(e) => return Outcome::InvalidName(format!("{e}")),
    };
    let store = match Store::open(&request.store) {
        Ok(store) => store,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    if request.policy != "Always" {
        match store.find(&reference) {
            Ok(Some(image)) => return Outcome::Present(Box::new(image)),
            Ok(None) if request.policy == "Never" => {
                return Outcome::NeverPull(format!(
                    "Container image \"{}\" is not present with pull policy of Never",
                    request.image
                ));
            }
            Ok(None) => {}
            Err(e) => return Outcome::Failed(e.to_string()),
        }
    }
    let options = Options { secrets: request.secrets.clone(), ..Options::default() };
    match podctl_images::pull(&store, &reference, &options, progress) {
        Ok(Pulled { image, bytes, took }) => Outcome::Pulled { image: Box::new(image), took, bytes },
        Err(e) => Outcome::Failed(e.to_string()),
    }
}
