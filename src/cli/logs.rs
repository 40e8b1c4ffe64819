//! `podctl logs`: what containers wrote.

use std::{io::Write, time::Duration};

use super::{Error, pod_dir};
use crate::{
    logs::{Entry, Follow, Prefixes, read},
    state::{Home, Liveness},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// `NAME` or `pod/NAME`.
    pod: String,
    /// Which container; the first app container else.
    #[arg(short, long)]
    container: Option<String>,
    /// Every container, each line with its name.
    #[arg(long, conflicts_with = "container")]
    all_containers: bool,
    /// Go on as the logs grow.
    #[arg(short, long)]
    follow: bool,
    /// Of the start before the last one.
    #[arg(short, long)]
    previous: bool,
    /// Only so many last lines.
    #[arg(long)]
    tail: Option<usize>,
    /// Each line with its time.
    #[arg(long)]
    timestamps: bool,
    /// Each line with its container's name.
    #[arg(long)]
    prefix: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &str) -> Result<i32, Error> {
    let dir = pod_dir(home, namespace, &args.pod)?;
    let pod = dir.read()?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let init: Vec<String> = spec.init_containers.iter().flatten().map(|c| c.name.clone()).collect();
    let apps: Vec<String> = spec.containers.iter().map(|c| c.name.clone()).collect();
    let wanted: Vec<String> = match &args.container {
        _ if args.all_containers => init.iter().chain(&apps).cloned().collect(),
        Some(name) if init.contains(name) || apps.contains(name) => vec![name.clone()],
        Some(name) => {
            return Err(Error::Said(format!("container {name} is not valid for pod {}", dir.name)));
        }
        None => {
            let first = apps.first().cloned().unwrap_or_default();
            if init.len() + apps.len() > 1 {
                let list = apps.iter().cloned().chain(init.iter().map(|n| format!("{n} (init)")));
                eprintln!("Defaulted container \"{first}\" out of: {}", list.collect::<Vec<_>>().join(", "));
            }
            vec![first]
        }
    };
    let show = Show { args, pod: &dir.name, prefixes: Prefixes::of(std::iter::once(pod.clone()), false) };

    let mut follow =
        if args.follow && dir.liveness() == Liveness::Alive { Some(Follow::new(home, &dir)?) } else { None };
    let mut entries = Vec::new();
    if let Some(follow) = &mut follow {
        entries.extend(follow.drain().into_iter().filter(|e| wanted.contains(&e.container)));
    } else {
        for container in &wanted {
            let last = last_start(home, &dir.namespace, &dir.name, &uid, container);
            let start = if args.previous { last.and_then(|n| n.checked_sub(1)) } else { last };
            match start {
                Some(start) => {
                    let path = home.log(&dir.namespace, &dir.name, &uid, container, start);
                    entries.extend(read(container, &path)?);
                }
                None if args.previous => {
                    return Err(Error::Said(format!(
                        "previous terminated container \"{container}\" in pod \"{}\" not found",
                        dir.name
                    )));
                }
                None => {}
            }
        }
        entries.sort_by(|a, b| a.time.cmp(&b.time));
    }
    if let Some(tail) = args.tail {
        entries.drain(..entries.len().saturating_sub(tail));
    }
    show.all(&entries);
    let Some(mut follow) = follow else { return Ok(0) };
    loop {
        let alive = dir.liveness() == Liveness::Alive;
        let more: Vec<Entry> = follow.drain().into_iter().filter(|e| wanted.contains(&e.container)).collect();
        show.all(&more);
        if !alive && !follow.behind() {
            return Ok(0);
        }
        follow.wait(Duration::from_millis(500));
    }
}

/// The number of the container's last start, if it was ever started.
fn last_start(home: &Home, namespace: &str, name: &str, uid: &str, container: &str) -> Option<u32> {
    let dir = home.logs(namespace, name, uid).join(container);
    let files = std::fs::read_dir(dir).ok()?.flatten();
    files.filter_map(|e| e.path().file_stem()?.to_str()?.parse().ok()).max()
}

struct Show<'a> {
    args: &'a Args,
    pod: &'a str,
    prefixes: Prefixes,
}

impl Show<'_> {
    fn all(&self, entries: &[Entry]) {
        let mut out = anstream::stdout().lock();
        for entry in entries {
            let prefix = match self.args.prefix || self.args.all_containers {
                true => self.prefixes.of_entry(self.pod, entry),
                false => String::new(),
            };
            let time = if self.args.timestamps { format!("{} ", entry.time) } else { String::new() };
            let end = if entry.partial { "" } else { "\n" };
            // A reader that has gone (`| head`) wants no more.
            let written = write!(out, "{prefix}{time}")
                .and_then(|()| out.write_all(&entry.text))
                .and_then(|()| out.write_all(end.as_bytes()));
            if written.is_err() {
                std::process::exit(0);
            }
        }
        let _ = out.flush();
    }
}
