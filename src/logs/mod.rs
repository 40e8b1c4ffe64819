//! Containers' output on disk, as CRI log files: the supervisor writes them, commands read and follow them.

mod last_lines;
mod merged;
mod reader;
mod writer;

pub use merged::Merged;
pub(crate) use reader::last_start;
pub use reader::{Entry, Follow, Prefixes, Watch, merge_in_order, read_last};
pub use writer::{Log, LogLimits, Stream, pump_output};
