//! `podctl logs`: what containers wrote.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::Pod,
    jiff::{SignedDuration, Timestamp},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    Error, Namespace,
    target_pod::{find_target_pod, find_target_pods},
    wait::parse_duration,
    which::{Which, not_found},
};
use crate::{
    engine::{LONG_SILENCE, check_supervisor},
    logs::{Entry, Follow, last_start, merge_in_order, read},
    pod::{ContainerName, PodExt, Uid},
    state::{Home, Liveness, PodDir, log_file},
};

/// Lines of each container when a selector chooses the pods.
const SELECTED_TAIL: i64 = 10;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl logs web -c init          # of an init container, also while it is tried again
  podctl logs web --previous       # of the start before this one
  podctl logs -f web --all-containers --prefix")]
pub(super) struct Args {
    /// `NAME [CONTAINER]` or `pod/NAME`.
    #[arg(required_unless_present = "selector", num_args = 0..=3)]
    pod: Vec<String>,
    /// Which container; the annotated or the first app container else.
    #[arg(short, long)]
    container: Option<String>,
    /// Every container.
    #[arg(long, conflicts_with = "container")]
    all_containers: bool,
    /// Go on as the logs grow, over restarts, until the pod ends.
    #[arg(short, long)]
    follow: bool,
    /// Of the start before the last one.
    #[arg(short, long)]
    previous: bool,
    /// Only so many last lines of each container; -1 is all.
    #[arg(long, allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Only what is newer than so long ago, such as 5s, 2m or 3h.
    #[arg(long, value_parser = parse_duration, conflicts_with = "since_time")]
    since: Option<Duration>,
    /// Only what is newer than this date (RFC 3339).
    #[arg(long)]
    since_time: Option<Timestamp>,
    /// Each line with its time.
    #[arg(long)]
    timestamps: bool,
    /// Each line with `[pod/NAME/CONTAINER]`.
    #[arg(long)]
    prefix: bool,
    /// Only so many bytes of each container.
    #[arg(long)]
    limit_bytes: Option<usize>,
    /// Of the pods with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Of every pod of a Service or a workload, and with the prefix of each.
    #[arg(long)]
    all_pods: bool,
    /// Go on when the logs of one cannot be read.
    #[arg(long)]
    ignore_errors: bool,
    /// With -f and -l: follow no more containers than that at once; as many as there are else.
    #[arg(long, value_name = "N")]
    max_log_requests: Option<usize>,
}

/// A pod's logs that are to be shown.
struct Source {
    dir: PodDir,
    pod: Pod,
    containers: Vec<String>,
}

impl Source {
    /// Whether the pod lives, and none that has taken its name.
    fn lives(&self) -> bool {
        Uid::of_pod(&self.pod).is_ok_and(|uid| self.dir.is_alive_as(&uid))
    }
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let mut sources = Vec::new();
    let (names, container) = names(args)?;
    let names = names.into_iter().map(|name| match (name.contains('/'), args.all_pods) {
        (true, true) => find_target_pods(home, namespace, &name),
        (true, false) => find_target_pod(home, namespace, &name).map(|dir| vec![dir]),
        (false, _) => Ok(vec![super::pod_dir(home, namespace, &name)?]),
    });
    let dirs = names.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
    let names = dirs.map(|dir| dir.name.to_string()).collect();
    let which = Which { names, selector: args.selector.clone(), ..Which::default() };
    let chosen = which.choose(home, namespace)?;
    if let Some(name) = chosen.missing.first() {
        return Err(not_found(name));
    }
    if chosen.found.is_empty() {
        eprintln!("No resources found in {namespace} namespace.");
    }
    for found in chosen.found {
        let containers = containers(args, container.as_deref(), &found.pod)?;
        sources.push(Source { dir: found.dir, pod: found.pod, containers });
    }
    let streams: usize = sources.iter().map(|s| s.containers.len()).sum();
    if let Some(most) = args.max_log_requests.filter(|most| args.follow && streams > *most) {
        return Err(Error::Said(format!(
            "you are attempting to follow {streams} log streams, but maximum allowed concurrency is {most}, use --max-log-requests to increase the limit"
        )));
    }
    let mut follows = Vec::new();
    for source in &sources {
        match shown(args, home, source) {
            Ok(follow) => follows.extend(follow.map(|f| (f, source))),
            Err(e) if args.ignore_errors => super::print_error(&e),
            Err(e) => return Err(e),
        }
    }
    let mut heard = Instant::now();
    while !follows.is_empty() {
        let mut behind = false;
        follows.retain_mut(|(follow, source)| {
            // Asked before the log is read: what was written before the end is then shown.
            let alive = source.lives();
            let mut entries = follow.drain();
            entries.retain(|e| source.containers.contains(&e.container));
            show(args, source, &entries);
            if !entries.is_empty() {
                heard = Instant::now();
            }
            behind |= follow.is_behind();
            alive || follow.is_behind()
        });
        if !behind {
            let mut fds: Vec<_> = follows
                .iter()
                .filter_map(|(follow, _)| Some(PollFd::new(follow.fd()?, PollFlags::POLLIN)))
                .collect();
            // A killed supervisor changes no file: its lock is looked at now and then.
            let _ = poll(&mut fds, PollTimeout::from(500u16));
        }
        // Who writes the logs may hang.
        if heard.elapsed() > LONG_SILENCE {
            for (_, source) in &follows {
                check_supervisor(&source.dir)?;
            }
            heard = Instant::now();
        }
    }
    Ok(0)
}

/// The pod's name, and the container of the old form `NAME CONTAINER`.
fn names(args: &Args) -> Result<(Vec<String>, Option<String>), Error> {
    let words: Vec<String> = match args.pod.split_first() {
        Some((kind, rest)) if super::which::is_pod(kind) && !rest.is_empty() => rest.to_vec(),
        _ => args.pod.clone(),
    };
    match (&words[..], &args.container) {
        ([] | [_], _) => Ok((words, args.container.clone())),
        (_, Some(_)) => Err(Error::Said("only one of -c or an inline [CONTAINER] arg is allowed".into())),
        ([name, container], None) => Ok((vec![name.clone()], Some(container.clone()))),
        _ => Err(Error::Said("logs takes one pod and at most one container: NAME [CONTAINER]".into())),
    }
}

/// The containers that are meant.
fn containers(args: &Args, named: Option<&str>, pod: &Pod) -> Result<Vec<String>, Error> {
    let spec = pod.spec.clone().unwrap_or_default();
    let init: Vec<String> = spec.init_containers.iter().flatten().map(|c| c.name.clone()).collect();
    let apps: Vec<String> = spec.containers.iter().map(|c| c.name.clone()).collect();
    let ephemeral: Vec<String> = spec.ephemeral_containers.iter().flatten().map(|c| c.name.clone()).collect();
    let all: Vec<String> = init.iter().chain(&apps).chain(&ephemeral).cloned().collect();
    let name = pod.name();
    if args.all_containers {
        return Ok(all);
    }
    if let Some(wanted) = named {
        return match all.iter().any(|c| c == wanted) {
            true => Ok(vec![wanted.to_owned()]),
            false => {
                let named =
                    |all: &[String], kind: &str| all.iter().map(|n| format!("{n}{kind}")).collect::<Vec<_>>();
                let out_of =
                    [apps, named(&init, " (init)"), named(&ephemeral, " (ephem)")].concat().join(", ");
                Err(Error::Said(format!("container {wanted} is not valid for pod {name} out of: {out_of}")))
            }
        };
    }
    if let Some(found) = pod.annotated_container().filter(|a| all.iter().any(|c| c == a)) {
        return Ok(vec![found.to_owned()]);
    }
    let first = apps.first().cloned().unwrap_or_default();
    if all.len() > 1 {
        let named =
            |all: &[String], kind: &'static str| all.iter().map(|n| format!("{n}{kind}")).collect::<Vec<_>>();
        let list = [apps, named(&ephemeral, " (ephem)"), named(&init, " (init)")].concat().join(", ");
        eprintln!("Defaulted container \"{first}\" out of: {list}");
    }
    Ok(vec![first])
}

/// Shows what there is; gives what is still to come when that is wanted.
fn shown(args: &Args, home: &Home, source: &Source) -> Result<Option<Follow>, Error> {
    let Source { dir, pod, containers } = source;
    let logs = home.logs(dir, &Uid::of_pod(pod)?);
    let mut entries = Vec::new();
    let mut follow = None;
    if args.follow && dir.read_liveness() == Liveness::Alive {
        let mut new = Follow::new(home, dir)?;
        entries = new.drain();
        entries.retain(|e| containers.contains(&e.container));
        follow = Some(new);
    } else {
        for container in containers {
            let own = ContainerName::parse(container)?;
            let last = last_start(&logs, &own);
            match (
                if args.previous { last.and_then(|n| n.checked_sub(1)) } else { last },
                args.all_containers,
            ) {
                (Some(start), _) => {
                    entries.extend(read(container, &log_file(&logs, &own, start))?);
                }
                (None, true) => {}
                (None, false) if args.previous => {
                    return Err(Error::Said(format!(
                        "previous terminated container \"{container}\" in pod \"{}\" not found",
                        dir.name
                    )));
                }
                (None, false) => return Err(waiting(pod, container)),
            }
        }
    }
    let since = match (args.since, args.since_time) {
        (Some(ago), _) => SignedDuration::try_from(ago).ok().map(|ago| Timestamp::now() - ago),
        (None, time) => time,
    };
    if let Some(since) = since {
        entries.retain(|e| e.time.parse::<Timestamp>().is_ok_and(|t| t >= since));
    }
    let default = if args.selector.is_some() { SELECTED_TAIL } else { -1 };
    let tail = usize::try_from(args.tail.unwrap_or(default)).unwrap_or(usize::MAX);
    let mut cut: Vec<Entry> = Vec::new();
    for container in containers {
        let own: Vec<Entry> = entries.iter().filter(|e| e.container == *container).cloned().collect();
        cut.extend(limit_bytes(last_lines(&own, tail), args.limit_bytes.filter(|n| *n > 0)));
    }
    show(args, source, &merge_in_order(cut));
    Ok(follow)
}

/// A container that was never started has no log; says what it waits for.
fn waiting(pod: &Pod, container: &str) -> Error {
    let status = pod.status.clone().unwrap_or_default();
    let lists =
        [status.init_container_statuses, status.container_statuses, status.ephemeral_container_statuses];
    let found = lists.into_iter().flatten().flatten().find(|s| s.name == container);
    let reason = found.and_then(|s| s.state?.waiting?.reason).unwrap_or_else(|| "ContainerCreating".into());
    let name = pod.name();
    Error::Said(format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}"))
}

/// The last lines, of which a long one may be several entries.
fn last_lines(entries: &[Entry], lines: usize) -> &[Entry] {
    let mut left = lines;
    let begins = |at: usize| at == 0 || !entries[at - 1].partial;
    for at in (0..entries.len()).rev() {
        if left == 0 {
            return &entries[at + 1..];
        }
        left -= usize::from(begins(at));
    }
    entries
}

/// The first bytes, newlines among them.
fn limit_bytes(entries: &[Entry], bytes: Option<usize>) -> Vec<Entry> {
    let mut left = bytes.unwrap_or(usize::MAX);
    let mut all = Vec::new();
    for entry in entries {
        let mut entry = entry.clone();
        let whole = entry.text.len() + usize::from(!entry.partial);
        if whole > left {
            entry.text.truncate(left);
            entry.partial = true;
        }
        left = left.saturating_sub(whole);
        all.push(entry);
        if left == 0 {
            break;
        }
    }
    all
}

fn show(args: &Args, source: &Source, entries: &[Entry]) {
    let mut out = std::io::stdout().lock();
    for entry in entries {
        let prefix = match args.prefix || args.all_pods {
            true => format!("[pod/{}/{}] ", source.dir.name, entry.container),
            false => String::new(),
        };
        let time = if args.timestamps { format!("{} ", entry.time) } else { String::new() };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(texts: &[(&str, bool)]) -> Vec<Entry> {
        let entry = |(text, partial): &(&str, bool)| Entry {
            container: "c".into(),
            time: String::new(),
            stderr: false,
            partial: *partial,
            text: text.as_bytes().to_vec(),
        };
        texts.iter().map(entry).collect()
    }

    #[test]
    fn a_long_line_counts_once_and_bytes_are_cut_within_one() {
        let all = entries(&[("a", false), ("b", true), ("b", false), ("c", false)]);
        assert_eq!(last_lines(&all, 2), &all[1..]);
        assert_eq!(last_lines(&all, 0).len(), 0);
        assert_eq!(last_lines(&all, 9).len(), 4);
        assert_eq!(limit_bytes(&all, Some(3)), entries(&[("a", false), ("b", true)]));
        assert_eq!(limit_bytes(&entries(&[("abc", false), ("d", false)]), Some(2)), entries(&[("ab", true)]));
    }
}
