//! How pulls look: on a terminal a bar a layer, elsewhere a line a layer.

use std::{collections::HashMap, io::IsTerminal, sync::Mutex};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use podctl_images::{LayerState, Progress};

/// Bars on standard error that are gone, or lines that stay, when the pull ends.
pub struct LayerBars {
    bars: Option<MultiProgress>,
    quiet: bool,
    known: Mutex<HashMap<String, ProgressBar>>,
}

impl LayerBars {
    /// Bars where standard error is a terminal.
    #[allow(clippy::new_without_default)]
    pub fn new() -> LayerBars {
        let bars = || MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let bars = std::io::stderr().is_terminal().then(bars);
        LayerBars { bars, quiet: false, known: Mutex::default() }
    }

    /// Nothing at all.
    pub fn quiet() -> LayerBars {
        LayerBars { bars: None, quiet: true, known: Mutex::default() }
    }
}

impl Progress for LayerBars {
    fn layer(&self, digest: &str, state: LayerState) {
        let short = digest.trim_start_matches("sha256:").get(..12).unwrap_or(digest).to_owned();
        let Some(bars) = &self.bars else {
            if matches!(state, LayerState::Done) && !self.quiet {
                anstream::eprintln!("{short}: pulled");
            }
            return;
        };
        if state == LayerState::AlreadyPresent {
            return;
        }
        let mut known = self.known.lock().expect("never poisoned: nothing below panics");
        let bar = known.entry(short.clone()).or_insert_with(|| {
            // `wide_msg` gives way first, so that a line never wraps in a narrow window.
            let template = "{prefix} {bar:24} {bytes:>10}/{total_bytes:<10} {wide_msg}";
            let style = ProgressStyle::with_template(template).expect("the template is constant and valid");
            bars.add(ProgressBar::new(0).with_style(style).with_prefix(short.clone()))
        });
        match state {
            LayerState::Downloading { done, total } => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(if done == total { "unpacking" } else { "" });
            }
            LayerState::Waiting => bar.set_message("waiting"),
            LayerState::Done | LayerState::AlreadyPresent => {
                bar.finish_and_clear();
                bars.remove(bar);
                known.remove(&short);
            }
        }
    }
}

impl Drop for LayerBars {
    /// A pull that failed leaves the terminal as clean as one that did not.
    fn drop(&mut self) {
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }
}
