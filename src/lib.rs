//! podctl: a Kubernetes Pod on one Linux machine.
#![allow(missing_docs)]
pub mod lifecycle;
pub mod state;
