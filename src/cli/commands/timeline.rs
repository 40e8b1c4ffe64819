//! `podctl timeline`: a pod's start as a picture.

use k8s_openapi::jiff::Timestamp;

use crate::{
    cli::{
        Error, Namespace, output_formats,
        pod_selection::{not_found, plain, read},
        print, print_styled,
    },
    state::{self, Home},
    view::timeline,
};

/// The place where no terminal says how wide it is.
const WIDTH: usize = 100;

#[derive(clap::Args)]
pub(super) struct Args {
    /// `NAME` or `pod/NAME`.
    pod: String,
    /// `svg` or `json`; for the terminal else.
    #[arg(short, long, value_parser = ["svg", "json"])]
    output: Option<String>,
    /// The pod's whole life rather than its start.
    #[arg(long)]
    whole: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let dir = home.pod(namespace, &plain(&args.pod)?);
    let pod = read(&dir).map_err(|e| match e {
        Error::State(state::Error::NotFound { name, .. }) => not_found(&name),
        e => e,
    })?;
    let picture = timeline::build_timeline(&pod, &dir.list_marks(), args.whole, Timestamp::now());
    match args.output.as_deref() {
        Some("svg") => print(&timeline::draw_svg(&picture)),
        Some(_) => print(&output_formats::pretty_json(&serde_json::to_value(&picture)?)),
        None => print_styled(&timeline::terminal(&picture, terminal_width())),
    }
    Ok(0)
}

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);

/// Columns of the terminal that standard output is.
fn terminal_width() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize there, and nothing where descriptor 1 is no terminal.
    let _ = unsafe { window_size(1, &mut size) };
    if size.ws_col == 0 { WIDTH } else { usize::from(size.ws_col).max(40) }
}
