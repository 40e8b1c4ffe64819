//! Runs Kubernetes pods on one Linux machine, without root, daemon or cluster: podctl as a library.
//!
//! A program that embeds podctl calls [`init`] first, for the processes that keep a pod are that same
//! program, started anew. Everything else begins with an [`Engine`]:
//!
//! ```no_run
//! use podctl::{Engine, LogOptions, Options, manifest::Source};
//!
//! fn main() -> Result<(), podctl::Error> {
//!     podctl::init();
//!     let engine = Engine::of_user()?;
//!     let text = "
//!         apiVersion: v1
//!         kind: Pod
//!         metadata: {name: hello}
//!         spec:
//!           restartPolicy: Never
//!           containers:
//!           - {name: app, image: 'busybox:1.36', command: [echo, hello]}
//!     ";
//!     let manifest = engine.load("default", &[Source { name: "hello".into(), text: text.into() }])?;
//!     let pod = engine.run(&manifest.pods[0], &manifest, &Options::default())?;
//!     println!("{:?}", pod.wait()?.status.and_then(|status| status.phase));
//!     for entry in pod.logs(&LogOptions::default())? {
//!         println!("{}", String::from_utf8_lossy(&entry.text));
//!     }
//!     pod.delete(None)
//! }
//! ```
//!
//! A [`PodHandle`] is one pod, whoever started it: the `podctl` command and every program of the same user
//! see the same pods. A pod outlives the program that started it, unless that program deletes it. The
//! Kubernetes types are those of [`k8s_openapi`], which is the version to build objects with.

#![cfg_attr(docsrs, feature(doc_cfg))]
// What only the command line or the server calls is no waste in a library without them.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

mod archive;
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
    Applied, DeleteOptions, Deletion, Engine, EngineOptions, Error, ErrorKind, Exec, ImageError,
    ImageErrorKind, ListOptions, LoadOptions, LogOptions, Logs, ObjectKind, ObjectWatch, Output, PodDeletion,
    PodGuard, PodHandle, PodPart, Preconditions, PullOptions, StartError, Streams, Watch, WriteOptions,
};
pub use k8s_openapi;
pub use logs::{Entry, LogLimits};
pub use pod::{HostPort, Target};
pub use podctl_images::{Finding, Image};
pub use roles::init;
pub use state::Error as StateError;
pub use wire::Options;
