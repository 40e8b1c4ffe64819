//! The command line: `commands/` has one file a command; each reads its arguments, calls the library, prints. What several
//! share is beside it, in files named after their subjects.

// First: its macros take the place of the standard library's in all that follows.
#[macro_use]
mod output_streams;

mod applied_files;
mod attached_container;
mod boolean_switches;
pub(crate) mod commands;
mod completion_offers;
mod durations;
mod edited_objects;
mod error;
mod image_store;
mod kind_words;
mod kubectl_flags;
mod last_applied;
mod manifest_files;
mod manifest_services;
mod object_flags;
mod object_selection;
mod output_formats;
mod pod_selection;
mod pruning;
mod raw_requests;
mod raw_terminal;
mod result_lines;
mod run_plan;
mod server_side_apply;
mod start_notes;
mod stored_objects;
mod systemd_unit;
mod target_pod;
mod terminal_session;
mod usage_errors;
mod user_files;
mod watched_changes;

use std::{ffi::OsString, process::ExitCode};

use nix::sys::stat::{Mode, umask};

use commands::{build_manual, build_parser};
use error::{Error, UsageError, io};
use output_streams::{paint_red, print, print_error, print_styled, warn, warn_as_kubectl};

use crate::{
    engine::PodHandle,
    pod::Namespace,
    process::{endure_file_limit, hear_of_children},
    state::{Home, PodDir},
};

/// Names what `podctl` alone prints.
const WELCOME: &str = "podctl runs Kubernetes pods on this machine: without root, daemon or cluster.

  podctl run web --image=nginx -p 8080:80   run an image as a pod, and publish its port 80
  podctl run pod.yaml                       run a manifest; its logs are shown, Ctrl-C ends it
  podctl run -d pod.yaml                    run it in the background
  podctl get pods                           what runs
  podctl logs -f web                        what it writes
  podctl exec -it web -- sh                 a shell in it
  podctl delete pod web                     end it

`podctl doctor` checks what this machine offers; `podctl --help` lists all commands; `podctl explain pod.spec` the fields.
kubectl works as well: `podctl kubeconfig --merge && kubectl --context podctl get pods`.
";

/// The exit code of wrong usage, which is kubectl's.
const USAGE: u8 = 1;

/// The exit code of wrong usage of `diff`, whose 1 says that there are differences.
const DIFF_USAGE: u8 = 2;

/// The program's life.
pub fn main() -> ExitCode {
    endure_surroundings();
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|word| word.to_str()) {
        None if args.len() < 2 => {
            print(WELCOME);
            return ExitCode::SUCCESS;
        }
        Some("__complete") => {
            let words: Vec<String> =
                args[2..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
            completion_offers::print_offers(&words);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let usage = if args.get(1).is_some_and(|verb| verb == "diff") { DIFF_USAGE } else { USAGE };
    let args = boolean_switches::resolve_switches(args, build_parser);
    let line = match commands::parse_line(args) {
        Ok(line) => line,
        Err(refusal) => return ExitCode::from(if refusal.print() { usage } else { 0 }),
    };
    match commands::run_command(line) {
        Ok(0) if output_streams::has_failed() => ExitCode::FAILURE,
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(e) => {
            print_error(&e);
            ExitCode::FAILURE
        }
    }
}

/// Takes back of what the caller left this process what would end it without a word, hide from it how its children end, or keep
/// it out of the directories that it makes.
fn endure_surroundings() {
    const OWNER: Mode = Mode::S_IRWXU;
    endure_file_limit();
    hear_of_children();
    let asked = umask(OWNER);
    umask(asked - OWNER);
}

/// `pod/NAME`, `pods/NAME` and plain `NAME` are the same pod.
fn pod_dir(home: &Home, namespace: &Namespace, name: &str) -> Result<PodDir, Error> {
    Ok(home.pod(namespace, &pod_selection::plain(name)?))
}

/// The pod of that name, which need not exist.
fn pod_handle(home: &Home, namespace: &Namespace, name: &str) -> Result<PodHandle, Error> {
    Ok(PodHandle::of(home, &pod_dir(home, namespace, name)?))
}
