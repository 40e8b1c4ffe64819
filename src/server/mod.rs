//! The Kubernetes API over HTTPS, for `kubectl` and every other client of it: `podctl serve`.
//!
//! Promises: nothing is kept here that is not in the engine's files, so that the command line and any number of servers
//! may act at once; every request has a credential, a bound and a deadline; no client makes another wait.
//! A door as `cli/` is one: it uses the engine and the views, and nothing uses it.

// What is here is reached once requests are served.
#![allow(dead_code)]

mod channels;
mod credentials;
mod discovery;
mod field_selector;
mod fields;
mod kinds;
mod openapi;
mod patch;
mod protobuf;
mod revisions;
mod route;
mod spdy;
mod status;
mod table;
