//! Pods on their network: names, Services, published ports, the outside, and what goes wrong there.

#[path = "../common/mod.rs"]
mod common;

mod application_stack;
mod host_names;
mod killed_keepers;
mod network;
mod resolvers;
mod services;
mod uplink;
