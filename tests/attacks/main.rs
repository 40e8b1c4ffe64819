//! What attackers have tried on container runtimes, tried on podctl: one module a class, each test named after what it
//! tries. Each has a control, which shows that the attack works where there is no wall. docs/security.md lists the classes.

#[path = "../common/mod.rs"]
mod common;

mod attacker;
mod bounded_files;
mod chroot;
mod copying;
mod devices;
mod entering;
mod identity;
mod kit;
mod proc_mounts;
mod system_calls;
mod terminal_text;
