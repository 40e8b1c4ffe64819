//! `podctl pull`, `images`, `rmi`, `load`: the image store.
//!
//! Without root, files of an image belong to subordinate ids: what changes the store runs in a
//! user namespace that has them, as this same program in another role.

use std::path::PathBuf;

use nix::sched::CloneFlags;
use podctl_images::{Error as ImageError, Image, Options, Platform, Reference, Store};
use podctl_runtime::{ExitStatus, IdMappings};
use serde::{Deserialize, Serialize};

use super::{Error, red, warn};
use crate::{
    state::Home,
    supervisor::{bars::LayerBars, role},
};

#[derive(clap::Args)]
pub(super) struct PullArgs {
    /// References such as `busybox:1.36`.
    #[arg(required = true)]
    images: Vec<String>,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
    /// Take the image for another platform, as in `linux/arm64`.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// Only images whose name or reference is this.
    filter: Option<String>,
    /// Print ids only.
    #[arg(short, long)]
    quiet: bool,
    /// As ever: there are no intermediate images to hide.
    #[arg(short, long)]
    all: bool,
    /// Show the manifests' digests, too.
    #[arg(long)]
    digests: bool,
    /// `json`, or the usual table.
    #[arg(short, long, visible_alias = "format", value_parser = ["json", "table"], default_value = "table")]
    output: String,
}

#[derive(clap::Args)]
pub(super) struct RemoveArgs {
    /// References such as `busybox:1.36`, or the beginning of ids.
    #[arg(required_unless_present = "all")]
    images: Vec<String>,
    /// Remove every name of an id; say nothing about images that are not there.
    #[arg(short, long)]
    force: bool,
    /// Remove all images that no pod uses.
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
}

#[derive(clap::Args)]
pub(super) struct LoadArgs {
    /// An archive, also compressed, or an OCI layout directory; `-`, as by default, is standard input.
    #[arg(short, long)]
    input: Vec<PathBuf>,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
}

/// What the role is told to do.
#[derive(Serialize, Deserialize)]
struct Task {
    store: PathBuf,
    work: Work,
    quiet: bool,
}

#[derive(Serialize, Deserialize)]
enum Work {
    Pull {
        images: Vec<String>,
        platform: Option<String>,
    },
    /// A pull that says nothing of its result.
    Fetch {
        image: String,
    },
    Remove {
        images: Vec<String>,
        force: bool,
        all: bool,
    },
    Load {
        paths: Vec<PathBuf>,
    },
}

/// The variable that carries it.
const TASK: &str = "PODCTL_IMAGES_TASK";

pub(super) fn pull(args: &PullArgs, home: &Home) -> Result<i32, Error> {
    let (images, platform) = (args.images.clone(), args.platform.clone());
    changing(home, Work::Pull { images, platform }, args.quiet)
}

/// Fetches one image; gives the exit code.
pub(super) fn fetch(home: &Home, image: &str) -> Result<i32, Error> {
    changing(home, Work::Fetch { image: image.to_owned() }, false)
}

pub(super) fn remove(args: &RemoveArgs, home: &Home) -> Result<i32, Error> {
    changing(home, Work::Remove { images: args.images.clone(), force: args.force, all: args.all }, true)
}

pub(super) fn load(args: &LoadArgs, home: &Home) -> Result<i32, Error> {
    let mut paths = Vec::new();
    for path in &args.input {
        paths.push(match path.to_str() {
            Some("-") => path.clone(),
            _ => path.canonicalize().map_err(super::io(format!("cannot load {}", path.display())))?,
        });
    }
    if paths.is_empty() {
        if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            return Err(Error::Said("name what to load with -i FILE, or give it on standard input".into()));
        }
        paths.push("-".into());
    }
    changing(home, Work::Load { paths }, args.quiet)
}

fn changing(home: &Home, work: Work, quiet: bool) -> Result<i32, Error> {
    let task = Task { store: home.images(), work, quiet };
    if nix::unistd::geteuid().is_root() {
        return Ok(carry_out(&task));
    }
    let (mappings, warning) = IdMappings::of_user()?;
    warning.iter().for_each(|w| warn(w));
    let text = serde_json::to_string(&task).expect("plain data");
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(TASK, text) };
    let process =
        role("images", CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS, Some(&mappings), &[], &[])?;
    match process.wait()? {
        ExitStatus::Code(code) => Ok(code),
        ExitStatus::Signal(signal) => Ok(128 + signal),
    }
}

/// The role.
pub(super) fn inside() -> i32 {
    // Who ends the command means its work. A parent that is gone already is the same race as a late kill.
    let _ = nix::sys::prctl::set_pdeathsig(Some(nix::sys::signal::Signal::SIGKILL));
    let task = std::env::var(TASK).unwrap_or_default();
    serde_json::from_str(&task).map_or(2, |task| carry_out(&task))
}

/// Does all that can be done; what fails is said, image by image.
fn carry_out(task: &Task) -> i32 {
    let mut code = 0;
    let mut done = |result: Result<(), ImageError>| {
        if let Err(e) = result {
            anstream::eprintln!("{}: {e}", red("error"));
            code = 1;
        }
    };
    let store = match Store::open(&task.store) {
        Ok(store) => store,
        Err(e) => {
            done(Err(e));
            return 1;
        }
    };
    let progress = || if task.quiet { LayerBars::quiet() } else { LayerBars::new() };
    match &task.work {
        Work::Pull { images, platform } => images.iter().for_each(|image| {
            let pulled = pull_one(&store, image, platform.as_deref(), &progress());
            done(pulled.map(|image| println!("{}@{}", split(&image).0, image.digest)));
        }),
        Work::Fetch { image } => done(pull_one(&store, image, None, &progress()).map(drop)),
        Work::Load { paths } => paths.iter().for_each(|path| {
            let loaded = podctl_images::load(&store, path, &progress());
            done(loaded.map(|images| images.iter().for_each(|image| println!("loaded {}", image.reference))));
        }),
        Work::Remove { all: true, .. } => match store.list() {
            Ok(images) => images.iter().for_each(|image| match remove_one(&store, &image.reference, true) {
                Err(ImageError::InUse { .. }) => {}
                other => done(other),
            }),
            Err(e) => done(Err(e)),
        },
        Work::Remove { images, force, .. } => {
            images.iter().for_each(|image| match remove_one(&store, image, *force) {
                Err(ImageError::NotFound { .. }) if *force => {}
                other => done(other),
            });
        }
    }
    code
}

fn pull_one(
    store: &Store,
    image: &str,
    platform: Option<&str>,
    progress: &LayerBars,
) -> Result<Image, ImageError> {
    let platform = platform.map(str::parse::<Platform>).transpose()?.unwrap_or_default();
    let options = Options { platform, ..Options::default() };
    let pulled = podctl_images::pull(store, &image.parse::<Reference>()?, &options, progress)?;
    Ok(pulled.image)
}

fn remove_one(store: &Store, text: &str, force: bool) -> Result<(), ImageError> {
    let references = store.resolve(text)?;
    if references.len() > 1 && !force {
        return Err(ImageError::SeveralNames {
            text: text.to_owned(),
            names: references.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        });
    }
    for reference in references {
        store.remove(&reference)?;
        println!("removed {reference}");
    }
    Ok(())
}

pub(super) fn list(args: &ListArgs, home: &Home) -> Result<i32, Error> {
    let images = Store::open(&home.images())?.list()?;
    let wanted: Option<Reference> = args.filter.as_deref().map(str::parse).transpose()?;
    let tagged = args
        .filter
        .as_deref()
        .is_some_and(|f| f.contains('@') || f.rsplit('/').next().is_some_and(|n| n.contains(':')));
    let shown = images.iter().filter(|image| {
        wanted.as_ref().is_none_or(|w| match tagged {
            true => image.reference == w.to_string(),
            false => split(image).0 == format!("{}/{}", w.registry(), w.repository()),
        })
    });
    let shown: Vec<_> = shown.collect();
    if args.output == "json" {
        let objects: Vec<_> = shown.iter().map(|image| object(image)).collect();
        println!("{}", serde_json::to_string_pretty(&objects).expect("plain data"));
        return Ok(0);
    }
    if args.quiet {
        shown.iter().for_each(|image| println!("{}", short_id(image)));
        return Ok(0);
    }
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let mut rows = vec![["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"].map(str::to_owned)];
    rows.extend(shown.iter().map(|image| {
        let (name, tag) = split(image);
        let created = created(image).map_or("N/A".to_owned(), |at| ago(now - at));
        let size = indicatif::DecimalBytes(image.size).to_string();
        [name.to_owned(), tag.to_owned(), image.digest.clone(), short_id(image), created, size]
    }));
    let columns: Vec<usize> = (0..6).filter(|c| *c != 2 || args.digests).collect();
    for row in &rows {
        let width = |c: usize| rows.iter().map(|r| r[c].len()).max().unwrap_or(0);
        let line: String = columns.iter().map(|&c| format!("{:w$}   ", row[c], w = width(c))).collect();
        println!("{}", line.trim_end());
    }
    Ok(0)
}

/// Repository with its registry, and tag.
fn split(image: &Image) -> (&str, &str) {
    let name = image.reference.split('@').next().unwrap_or_default();
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "<none>"),
    }
}

fn short_id(image: &Image) -> String {
    image.id.trim_start_matches("sha256:").get(..12).unwrap_or(&image.id).to_owned()
}

fn object(image: &Image) -> serde_json::Value {
    let (repository, tag) = split(image);
    serde_json::json!({
        "reference": image.reference,
        "repository": repository,
        "tag": tag,
        "digest": image.digest,
        "id": image.id,
        "created": image.created,
        "size": image.size,
        "platform": format!("{}/{}", image.os, image.architecture),
    })
}

/// Seconds since 1970; builders that want the same result again write zero or nothing.
fn created(image: &Image) -> Option<i64> {
    let at: k8s_openapi::jiff::Timestamp = image.created.as_deref()?.parse().ok()?;
    Some(at.as_second()).filter(|second| *second > 0)
}

/// In Docker's words.
fn ago(seconds: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (31_536_000, "year"),
        (2_592_000, "month"),
        (604_800, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    match UNITS.iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => {
            let n = seconds / length;
            format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" })
        }
        None => "less than a minute ago".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_dockers_words() {
        for (seconds, words) in
            [(5, "less than a minute ago"), (60, "1 minute ago"), (1_209_600, "2 weeks ago")]
        {
            assert_eq!(ago(seconds), words);
        }
    }
}
