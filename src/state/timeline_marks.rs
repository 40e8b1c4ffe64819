//! The file of a pod's timeline, to which its supervisor appends one mark a line.

use podctl_images::read_ordinary;

use super::PodDir;
use crate::pod::Mark;

impl PodDir {
    /// The marks of the pod's timeline, in order; none when they cannot be read.
    pub fn list_marks(&self) -> Vec<Mark> {
        let text = read_ordinary(&self.trace_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
