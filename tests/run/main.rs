//! A pod's life under `podctl run`: order, restarts, probes, hooks, ends, jobs; and stepping into it.

#[path = "../common/mod.rs"]
mod common;

mod container_kinds;
mod damaged_files;
mod debug;
mod detached;
mod failing_starts;
mod handlers;
mod jobs;
mod lifecycle;
mod probes;
mod reliability;
mod run;
