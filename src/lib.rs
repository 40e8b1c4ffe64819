//! Runs Kubernetes pods on one Linux machine, without root, daemon or cluster: podctl as a library.
//!
//! Nothing has to be installed or running: the processes that keep a pod are the program that embeds podctl, started
//! anew, which a hook sees to before its `main`, also that of a test. Everything begins with an [`Engine`]:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use podctl::{Engine, LogOptions, Options};
//!
//! fn main() -> Result<(), podctl::Error> {
//!     let engine = Engine::of_user()?;
//!     let text = "
//!         apiVersion: v1
//!         kind: Pod
//!         metadata: {name: hello}
//!         spec:
//!           containers:
//!           - {name: app, image: 'busybox:1.36', command: [sh, -c, 'echo hello; sleep 1000']}
//!     ";
//!     let pod = engine.run_yaml("default", text, &Options::default())?.remove(0);
//!     pod.wait_ready(Some(Duration::from_secs(60)))?;
//!     for entry in pod.logs(&LogOptions::default())? {
//!         println!("{}", String::from_utf8_lossy(&entry.text));
//!     }
//!     pod.delete(None)
//! }
//! ```
//!
//! Pods for tests are in [`testing`]; what is asynchronous, with the feature `tokio`, in `podctl::asynchronous`.
//!
//! A [`PodHandle`] is one pod, whoever started it: the `podctl` command and every program of the same user
//! see the same pods. A pod outlives the program that started it, unless that program deletes it. The
//! Kubernetes types are those of [`k8s_openapi`], which is the version to build objects with.

#![cfg_attr(docsrs, feature(doc_cfg))]
// What only the command line or the server calls is no waste in a library without them.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

mod archive;
#[cfg(feature = "tokio")]
pub mod asynchronous;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod engine;
#[cfg(test)]
mod house_tests;
mod lifecycle;
mod logs;
pub mod manifest;
mod network;
mod outer_container;
mod pod;
mod process;
mod puller;
mod roles;
mod sandbox;
#[cfg(feature = "server")]
mod server;
mod state;
mod supervisor;
pub mod testing;
mod userns_holder;
mod view;
mod wire;

pub use engine::{
    Applied, DebugCopy, DebugError, DebugOptions, DebugProfile, DeleteOptions, Deletion, DeletionBatch,
    Engine, EngineOptions, Error, ErrorKind, Exec, ExecCommand, Export, ExportOptions, ImageError,
    ImageErrorKind, JobOutcome, ListOptions, LoadOptions, LogOptions, Logs, ObjectKind, ObjectWatch, Output,
    PodDeletion, PodGuard, PodHandle, PodPart, Preconditions, PullOptions, Session, StartError, Streams,
    Usage, WaitCondition, Watch, WriteOptions,
};
pub use k8s_openapi;
pub use logs::{Entry, LogLimits};
pub use pod::{HostPort, Target};
pub use podctl_images::{Finding, Image, KeptIds};
pub use roles::init;
pub use serde_json;
pub use state::Error as StateError;
pub use wire::Options;
