//! The puller: the one process of a pod that is in the host's network and fetches its images.
//!
//! The supervisor asks over a socket, one JSON message an image; each answer carries the image or
//! the registry's own words. The puller ends when the supervisor closes its end; one that is killed is followed by
//! another, which its guard starts.

#[cfg_attr(not(feature = "cli"), path = "no_layer_bars.rs")]
pub mod layer_bars;
pub mod puller_guard;

use std::{
    collections::HashMap,
    os::fd::AsFd,
    sync::{Arc, Mutex, OnceLock},
};

use nix::sys::signal::{Signal, raise};
use podctl_images::{Error as StoreError, Lease, Options, Progress, Pulled, Reference, Store};

use self::layer_bars::LayerBars;
use crate::{
    process::{
        descriptors::{
            puller::{SCREEN, SUPERVISOR},
            take_descriptor,
        },
        detach_from_terminal,
    },
    wire::{self, PullAnswer, PullOutcome, PullRequest},
};

/// The puller's life.
pub fn main() -> i32 {
    serve(&LayerBars::new())
}

/// The same, of one that shows nothing.
pub fn quiet() -> i32 {
    serve(&LayerBars::quiet())
}

fn serve(progress: &LayerBars) -> i32 {
    // SAFETY: this process was started by its guard with these descriptors.
    let (socket, screen) = unsafe { (take_descriptor(SUPERVISOR), take_descriptor(SCREEN)) };
    // A Ctrl-C in the terminal is the client's business.
    let _ = nix::unistd::setsid();
    // What is wrong with one fetch must not leave the others waiting, nor be told to the terminal: the guard starts another.
    std::panic::set_hook(Box::new(|_| {
        let _ = raise(Signal::SIGKILL);
    }));
    // Progress is for the client; when that has gone, its terminal and pipes are not to be kept.
    let _ = std::thread::Builder::new().spawn(move || {
        let _ = nix::unistd::read(&screen, &mut [0]);
        detach_from_terminal();
    });
    let fetches = Fetches::default();
    std::thread::scope(|scope| {
        loop {
            let request = match wire::receive::<PullRequest>(&socket) {
                Ok(Some((request, _))) => request,
                // The pod has ended, or has all of its images. A registry that stalls is not waited for: what was under way
                // is nobody's any more, and the guard clears it away.
                ended => {
                    fetches.drop_leases();
                    std::process::exit(i32::from(ended.is_err()));
                }
            };
            let (socket, fetches) = (socket.as_fd(), &fetches);
            if !request.alone {
                progress.settle();
            }
            let answering = move || {
                let answer =
                    PullAnswer { outcome: fetches.shared(&request, progress), container: request.container };
                progress.settle();
                if wire::send(&socket, &answer, &[]).is_err() {
                    // A supervisor that has gone needs no answer; one that is there asks the next puller.
                    let _ = raise(Signal::SIGKILL);
                }
            };
            if std::thread::Builder::new().spawn_scoped(scope, answering).is_err() {
                // The machine has too many threads, and may have fewer when another puller is asked.
                let _ = raise(Signal::SIGKILL);
            }
        }
    })
}

/// Fetches under way, by image and policy.
#[derive(Default)]
struct Fetches {
    under_way: Mutex<HashMap<(String, String), Fetch>>,
    /// Of what was answered: until this process ends, by when the supervisor has leases of its own.
    leases: Mutex<Vec<Lease>>,
}

/// The fetch, whose outcome all that wait for it see.
type Fetch = Arc<OnceLock<PullOutcome>>;

impl Fetches {
    /// Lets go of the images, for this process ends without dropping anything.
    fn drop_leases(&self) {
        self.leases.lock().expect("never poisoned: nothing under it panics").clear();
    }

    /// Containers that want the same image at the same time share one fetch; a later one is made anew.
    fn shared(&self, request: &PullRequest, progress: &dyn Progress) -> PullOutcome {
        let key = (request.image.clone(), request.policy.clone());
        let under_way = || self.under_way.lock().expect("never poisoned: nothing under it panics");
        let fetching = under_way().entry(key.clone()).or_default().clone();
        let outcome = fetching.get_or_init(|| self.fetch_and_hold(request, progress)).clone();
        under_way().remove(&key);
        outcome
    }

    /// Fetches the image and takes a lease on it; one that is removed in between is fetched again.
    fn fetch_and_hold(&self, request: &PullRequest, progress: &dyn Progress) -> PullOutcome {
        let store = match Store::open(&request.store) {
            Ok(store) => store,
            Err(e) => return PullOutcome::Failed(e.to_string()),
        };
        loop {
            let outcome = fetch(&store, request, progress);
            let (PullOutcome::Present(image) | PullOutcome::Pulled { image, .. }) = &outcome else {
                return outcome;
            };
            match store.take_lease(image) {
                Ok(lease) => self.leases.lock().expect("never poisoned: nothing under it panics").push(lease),
                Err(StoreError::NotFound { .. }) => continue,
                Err(e) => return PullOutcome::Failed(e.to_string()),
            }
            if let Some(Err(e)) = request.kept_ids.map(|ids| store.remap_layers(image, ids)) {
                return PullOutcome::Failed(e.to_string());
            }
            return outcome;
        }
    }
}

fn fetch(store: &Store, request: &PullRequest, progress: &dyn Progress) -> PullOutcome {
    let reference: Reference = match request.image.parse() {
        Ok(reference) => reference,
        Err(e) => return PullOutcome::InvalidName(format!("{e}")),
    };
    if request.policy != "Always" {
        match store.find_verified(&reference) {
            Ok(Some(image)) => return PullOutcome::Present(Box::new(image)),
            Ok(None) if request.policy == "Never" => {
                return PullOutcome::NeverPull(format!(
                    "Container image \"{}\" is not present with pull policy of Never",
                    request.image
                ));
            }
            Ok(None) => {}
            Err(e) => return PullOutcome::Failed(e.to_string()),
        }
    }
    let (secrets, squash_ids) = (request.secrets.clone(), request.squash_ids);
    let options = Options { secrets, squash_ids, ..Options::default() };
    match podctl_images::pull(store, &reference, &options, progress) {
        Ok(Pulled { image, bytes, took }) => PullOutcome::Pulled { image: Box::new(image), took, bytes },
        Err(e) => PullOutcome::Failed(e.to_string()),
    }
}
