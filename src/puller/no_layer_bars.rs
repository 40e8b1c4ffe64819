//! Pulls that show nothing: a library without the feature `cli` prints nothing.

use podctl_images::{LayerState, Progress};

/// Nothing at all.
pub struct LayerBars;

impl LayerBars {
    /// Nothing at all, as [`LayerBars::quiet`].
    #[allow(clippy::new_without_default)]
    pub fn new() -> LayerBars {
        LayerBars
    }

    /// Nothing at all.
    pub fn quiet() -> LayerBars {
        LayerBars
    }

    /// Nothing is shown that others could disturb.
    pub fn settle(&self) {}
}

impl Progress for LayerBars {
    fn layer(&self, _: &str, _: LayerState) {}
}
