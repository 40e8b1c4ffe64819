//! What our processes say to one another: how a message travels, requests to a supervisor and its replies, what a
//! supervisor is launched with, what it asks of its puller.
//!
//! Promises: plain data and one transport, the same for all; no process is started here. The two halves of a pod's
//! start, `engine/start` and `supervisor/`, know each other by this folder alone.

mod launch;
mod pull_secrets;
mod pulls;
mod requests;
mod transport;

/// The version that our processes tell one another: a pod's supervisor may be of an older podctl than its client, and a
/// library may have another program play the roles.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub use launch::{
    Launch, MappedMounts, Options, Ready, StartRecord, read_start_record, record_objects, record_update,
    serialize_start_record,
};
pub use pull_secrets::read_pull_secrets;
pub use pulls::{PullAnswer, PullOutcome, PullRequest};
pub use requests::{Heard, PROTOCOL, Reply, Request, Usage, receive_request, send_request};
pub use transport::{
    dial, dial_within, listen_at, make_connection, read_document, receive, receive_answer, receive_within,
    send, start_listening, write_document, write_words,
};
