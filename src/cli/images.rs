//! `podctl pull`, `images`, `rmi`, `load`: the image store.
//!
//! Without root, files of an image belong to subordinate ids: what changes the store runs in a
//! user namespace that has them, as this same program in another role.

use std::path::PathBuf;

use nix::sched::CloneFlags;
use podctl_images::{Image, Reference, Store};
use podctl_runtime::{ExitStatus, IdMappings};

use super::{Error, red, warn};
use crate::{
    state::Home,
    supervisor::{pull::LayerBars, role},
};

#[derive(clap::Args)]
pub(super) struct PullArgs {
    /// References such as `busybox:1.36`.
    #[arg(required = true)]
    images: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct RemoveArgs {
    /// References such as `busybox:1.36`.
    #[arg(required = true)]
    images: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct LoadArgs {
    /// An archive or an OCI layout directory.
    #[arg(short, long)]
    input: Vec<PathBuf>,
}

/// How the role is told what to do: `VERB\nSTORE\nARGUMENT…`.
const TASK: &str = "PODCTL_IMAGES_TASK";

pub(super) fn pull(args: &PullArgs, home: &Home) -> Result<i32, Error> {
    changing(home, "pull", &args.images)
}

/// Fetches one image; gives the exit code.
pub(super) fn fetch(home: &Home, image: &str) -> Result<i32, Error> {
    changing(home, "fetch", &[image.to_owned()])
}

pub(super) fn remove(args: &RemoveArgs, home: &Home) -> Result<i32, Error> {
    changing(home, "rmi", &args.images)
}

pub(super) fn load(args: &LoadArgs, home: &Home) -> Result<i32, Error> {
    let mut paths = Vec::new();
    for path in &args.input {
        let path = path.canonicalize().map_err(super::io(format!("cannot load {}", path.display())))?;
        paths.push(path.to_string_lossy().into_owned());
    }
    if paths.is_empty() {
        return Err(Error::Said("name what to load with -i FILE".into()));
    }
    changing(home, "load", &paths)
}

fn changing(home: &Home, verb: &str, arguments: &[String]) -> Result<i32, Error> {
    let store = home.images();
    if nix::unistd::geteuid().is_root() {
        return Ok(carry_out(verb, &store, arguments.iter().map(String::as_str)));
    }
    let (mappings, warning) = IdMappings::of_user()?;
    warning.iter().for_each(|w| warn(w));
    let task = format!("{verb}\n{}\n{}", store.display(), arguments.join("\n"));
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(TASK, task) };
    let process = role("images", CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS, Some(&mappings), &[])?;
    match process.wait()? {
        ExitStatus::Code(code) => Ok(code),
        ExitStatus::Signal(signal) => Ok(128 + signal),
    }
}

/// The role.
pub(super) fn inside() -> i32 {
    let task = std::env::var(TASK).unwrap_or_default();
    let mut lines = task.lines();
    let (Some(verb), Some(store)) = (lines.next(), lines.next()) else { return 2 };
    carry_out(verb, store.as_ref(), lines)
}

fn carry_out<'a>(verb: &str, store: &std::path::Path, arguments: impl Iterator<Item = &'a str>) -> i32 {
    let mut code = 0;
    for argument in arguments {
        if let Err(e) = one(verb, store, argument) {
            anstream::eprintln!("{}: {e}", red("error"));
            code = 1;
        }
    }
    code
}

fn one(verb: &str, store: &std::path::Path, argument: &str) -> Result<(), podctl_images::Error> {
    let store = Store::open(store)?;
    match verb {
        "pull" | "fetch" => {
            let pulled = podctl_images::pull(&store, &argument.parse::<Reference>()?, &LayerBars::new())?;
            if verb == "pull" {
                println!("{}@{}", pulled.image.reference, pulled.image.digest);
            }
        }
        "rmi" => {
            let reference = argument.parse::<Reference>()?;
            store.remove(&reference)?;
            println!("removed {reference}");
        }
        _ => {
            for image in podctl_images::load(&store, argument.as_ref(), &LayerBars::new())? {
                println!("loaded {}", image.reference);
            }
        }
    }
    Ok(())
}

pub(super) fn list(home: &Home) -> Result<i32, Error> {
    let images = Store::open(&home.images())?.list()?;
    let cell = |image: &Image| {
        let (name, tag) = image.reference.rsplit_once(':').unwrap_or((&image.reference, "<none>"));
        let id = image.id.trim_start_matches("sha256:").get(..12).unwrap_or(&image.id).to_owned();
        let size = indicatif::HumanBytes(image.size).to_string();
        [name.to_owned(), tag.to_owned(), id, size]
    };
    let mut rows = vec![["REPOSITORY", "TAG", "IMAGE ID", "SIZE"].map(str::to_owned)];
    rows.extend(images.iter().map(cell));
    let width = |c: usize| rows.iter().map(|r| r[c].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    for row in &rows {
        let line: String = row.iter().zip(widths).map(|(cell, w)| format!("{cell:w$}   ")).collect();
        println!("{}", line.trim_end());
    }
    Ok(0)
}
