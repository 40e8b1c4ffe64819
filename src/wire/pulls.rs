//! What a supervisor asks of its puller, one message an image, and what comes back.

use std::{path::PathBuf, time::Duration};

use podctl_images::{AuthFile, Image, KeptIds};
use serde::{Deserialize, Serialize};

/// Holds what the supervisor asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct PullRequest {
    pub container: String,
    pub image: String,
    /// imagePullPolicy.
    pub policy: String,
    /// The image store's directory.
    pub store: PathBuf,
    /// No container can have started, so that nobody else writes on the terminal.
    pub alone: bool,
    /// Holds what the pod's imagePullSecrets hold.
    pub secrets: Vec<AuthFile>,
    /// Files of owners that have no id here belong to root.
    pub squash_ids: bool,
    /// The ids that the user has in the pod, for which layers are to be copied.
    #[serde(default)]
    pub kept_ids: Option<KeptIds>,
}

/// Holds what the puller answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct PullAnswer {
    pub container: String,
    pub outcome: PullOutcome,
}

/// Tells how a pull ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PullOutcome {
    Present(Box<Image>),
    Pulled {
        image: Box<Image>,
        took: Duration,
        bytes: u64,
    },
    Failed(String),
    NeverPull(String),
    InvalidName(String),
    /// The puller was killed, with all that was under way; another one answers from now on. Said by its guard, of no container.
    Killed,
}
