//! How pulls look: on a terminal a bar a layer, elsewhere a line a layer.

use std::{
    collections::HashMap,
    io::IsTerminal,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use podctl_images::{LayerState, Progress};

/// Bars on standard error that are gone, or lines that stay, when the pull ends.
pub struct LayerBars {
    bars: Option<MultiProgress>,
    quiet: bool,
    /// Others write on this terminal now.
    settled: AtomicBool,
    known: Mutex<HashMap<String, ProgressBar>>,
}

impl LayerBars {
    /// Bars where standard error is a terminal.
    #[allow(clippy::new_without_default)]
    pub fn new() -> LayerBars {
        let bars = || MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let bars = std::io::stderr().is_terminal().then(bars);
        LayerBars { bars, quiet: false, settled: AtomicBool::new(false), known: Mutex::default() }
    }

    /// Shows lines only from now on: a bar redrawn would wipe out what others write meanwhile.
    pub fn settle(&self) {
        if let Some(bars) = &self.bars
            && !self.settled.swap(true, Ordering::Relaxed)
        {
            // A terminal that has gone needs no cleaning.
            let _ = bars.clear();
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Nothing at all.
    pub fn quiet() -> LayerBars {
        LayerBars { bars: None, quiet: true, settled: AtomicBool::new(false), known: Mutex::default() }
    }
}

impl Progress for LayerBars {
    fn layer(&self, digest: &str, state: LayerState) {
        let short = digest.trim_start_matches("sha256:").get(..12).unwrap_or(digest).to_owned();
        let Some(bars) = self.bars.as_ref().filter(|_| !self.settled.load(Ordering::Relaxed)) else {
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
            bars.add(ProgressBar::new(0).with_style(style("{prefix} {msg}")).with_prefix(short.clone()))
        });
        match state {
            LayerState::Downloading { done, total } => {
                if bar.length() != Some(total) {
                    // `wide_msg` gives way first, so that a line seldom wraps.
                    bar.set_style(style("{prefix} {bar:24} {bytes:>10}/{total_bytes:<10} {wide_msg}"));
                    bar.set_length(total);
                }
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

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constant and valid")
}

impl Drop for LayerBars {
    /// A pull that failed leaves the terminal as clean as one that did not.
    fn drop(&mut self) {
        if let Some(bars) = &self.bars {
            // A terminal that has gone needs no cleaning.
            let _ = bars.clear();
        }
    }
}
