//! A Service as the environment of containers has it (enableServiceLinks).

use serde::{Deserialize, Serialize};

/// The place of a Service, for the variables of containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLink {
    /// The name of the Service.
    pub name: String,
    /// The cluster IP of the Service.
    pub address: String,
    /// The name, number and protocol of each port.
    pub ports: Vec<(Option<String>, i32, String)>,
}
