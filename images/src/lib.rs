//! OCI images, from a reference to layers unpacked on disk.
//!
//! [`pull`] fetches from a registry, [`load`] reads an archive; both leave an [`Image`] in the [`Store`],
//! whose layers are overlay lower directories. Layers are checked while they stream and become visible
//! only when whole, so any number of processes may share a store and die at any moment.
//!
//! ```no_run
//! # use podctl_images::*;
//! struct Quiet;
//! impl Progress for Quiet {
//!     fn layer(&self, _: &str, _: LayerState) {}
//! }
//! let store = Store::open("/var/lib/podctl/images".as_ref())?;
//! let pulled = pull(&store, &"busybox:1.36".parse()?, &Options::default(), &Quiet)?;
//! println!("{:?}", pulled.image.layers);
//! # Ok::<(), Error>(())
//! ```

mod build_steps;
mod certs;
mod check;
mod client;
mod compression;
mod crown;
mod error;
mod host_names;
mod inventory;
mod layer;
mod lease;
mod load;
mod login;
mod manifest;
mod merged_tree;
mod ordinary_file;
mod platform;
mod pull;
mod reference;
mod registries;
mod registry_credentials;
mod registry_error;
mod remap;
mod save;
mod source;
mod store;
mod unpack;

pub use build_steps::BuildStep;
pub use certs::choose_tls_provider;
pub use check::Finding;
pub use error::Error;
pub use host_names::HostNames;
pub use lease::Lease;
pub use load::load;
pub use login::check_login;
pub use merged_tree::Tree;
pub use ordinary_file::{is_misplaced, open_ordinary, read_ordinary};
pub use platform::Platform;
pub use pull::{LayerState, Options, Progress, Pulled, pull};
pub use reference::Reference;
pub use registries::count_configured;
pub use registry_credentials::{AuthFile, auth_file};
pub use registry_error::RegistryError;
pub use remap::{KeptIds, remapped_layers};
pub use save::save;
pub use store::{Image, Removed, Store};
pub use unpack::UnpackError;
