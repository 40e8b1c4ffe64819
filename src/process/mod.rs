//! The ground floor: this program started again in a role, the numbers of the descriptors it is handed, its children.
//!
//! Promises: nothing here knows of pods, and nothing is imported but the runtime crate. `transient_scope.rs` asks systemd. What is said over the
//! descriptors is `wire/`'s; which function a role plays is `roles.rs`'s, the top of the house.

pub mod children;
mod dbus;
pub mod descriptors;
mod memory_file;
mod role;
mod runtime_dir;
pub mod transient_scope;
mod trim;

pub use memory_file::create_memory_file;
pub use role::{
    Role, Standing, begin_role, detach_from_terminal, endure_file_limit, find_standing, hear_of_children,
    hide_from_containers, is_in_main_program, note_standing, start_role, wait_until_mapped,
};
pub use runtime_dir::find_runtime_dir;
pub use trim::{give_back_memory, share_heap, trim_heap};
