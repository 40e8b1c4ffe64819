//! podctl runs a Kubernetes Pod on one Linux machine: without root, daemon or cluster.
//!
//! The flow goes one way: [`manifest`] reads files into checked pods, [`supervisor::start`] starts a
//! pod's supervisor, which drives [`lifecycle`] and has [`sandbox`] say what the runtime crate is to
//! do; [`state`] is what every command reads.

pub mod archive;
pub mod cli;
pub mod lifecycle;
pub mod logs;
pub mod manifest;
pub mod sandbox;
pub mod state;
pub mod supervisor;
pub mod view;
