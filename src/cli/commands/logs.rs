//! `podctl logs`: what containers wrote.

use std::{
    io::{BufWriter, Write},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::Pod,
    jiff::{SignedDuration, Timestamp},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    cli::{
        Error, Namespace,
        durations::{explain_wrong_time, parse_request_timeout, parse_signed_duration, time_left},
        pod_selection::{FilterArgs, Which, is_pod, not_found},
        print_error,
        target_pod::{PatienceArgs, check_container, find_target_pods},
    },
    engine::{LONG_SILENCE, LogOptions, Logs, PodHandle},
    logs::Entry,
    pod::PodExt,
    state::Home,
};

/// The words of kubectl's about a command line that names no pod, or too much.
const WANTED_WORDS: &str = "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command";

/// The time that logs which do not grow are slept for.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// The words of kubectl's for what is done with a pod here.
const READ_LOGS: &str = "get the logs from";

/// Lines of each container when a selector chooses the pods.
const SELECTED_TAIL: i64 = 10;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl logs web -c init          # of an init container, also while it is tried again
  podctl logs web --previous       # of the start before this one
  podctl logs -f web --all-containers --prefix")]
pub(super) struct Args {
    /// `NAME [CONTAINER]` or `pod/NAME`.
    #[arg(required_unless_present = "selector")]
    pod: Vec<String>,
    /// Which container; the annotated or the first app container else.
    #[arg(short, long)]
    container: Option<String>,
    /// Every container.
    #[arg(long)]
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
    #[arg(long, value_parser = parse_signed_duration, allow_hyphen_values = true)]
    since: Option<SignedDuration>,
    /// Only what is newer than this date (RFC 3339).
    #[arg(long)]
    since_time: Option<String>,
    /// Each line with its time.
    #[arg(long)]
    timestamps: bool,
    /// Each line with `[pod/NAME/CONTAINER]`.
    #[arg(long)]
    prefix: bool,
    /// Only so many bytes of each container.
    #[arg(long, allow_negative_numbers = true)]
    limit_bytes: Option<i64>,
    /// Of the pods with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Of every pod of a Service or a workload, and with the prefix of each.
    #[arg(long)]
    all_pods: bool,
    /// Go on when the logs of one cannot be read.
    #[arg(long)]
    ignore_errors: bool,
    /// With -f: how long to follow, such as `30s`, after which it is an error; without end else.
    #[arg(long, value_name = "TIME")]
    request_timeout: Option<String>,
    /// With -f and -l: follow no more containers than that at once; as many as there are else.
    #[arg(long, value_name = "N")]
    max_log_requests: Option<usize>,
    #[command(flatten)]
    patience: PatienceArgs,
}

impl Args {
    /// Refuses values that mean nothing; returns since when is meant.
    fn check_values(&self) -> Result<Option<Timestamp>, Error> {
        let refuse = |what: &'static str| Err(Error::bad_value(what));
        if self.selector.is_some() && !self.pod.is_empty() {
            return refuse(
                "only a selector (-l) or a POD name is allowed\nSee 'podctl logs -h' for help and examples",
            );
        }
        if let Some(container) = self.container.as_ref().filter(|_| self.all_containers) {
            let what =
                format!("--all-containers=true should not be specified with container name {container}");
            return Err(Error::contradiction(what));
        }
        if self.since.is_some_and(|ago| ago.is_negative()) {
            return refuse("--since must be greater than 0");
        }
        // No time at all is no limit.
        let since = self.since.filter(|ago| !ago.is_zero());
        if since.is_some() && self.since_time.is_some() {
            return refuse("at most one of `sinceTime` or `sinceSeconds` may be specified");
        }
        if self.limit_bytes.is_some_and(|limit| limit < 0) {
            return refuse("--limit-bytes must be greater than 0");
        }
        if self.tail.is_some_and(|tail| tail < -1) {
            return refuse("--tail must be greater than or equal to -1");
        }
        match (since, self.since_time.as_deref()) {
            (Some(ago), _) => Ok(Some(Timestamp::now().saturating_sub(ago).unwrap_or(Timestamp::MIN))),
            (None, None | Some("")) => Ok(None),
            (None, Some(text)) => match text.parse() {
                Ok(time) => Ok(Some(time)),
                Err(_) => Err(Error::bad_value(explain_wrong_time(text))),
            },
        }
    }
}

/// The pod's logs that are to be shown.
struct Source {
    pod: PodHandle,
    logs: Logs,
}

/// The words of kubectl's HTTP client when what is followed lasts longer than `--request-timeout`.
const TIMED_OUT: &str =
    "net/http: request canceled (Client.Timeout or context cancellation while reading body)";

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let until = parse_request_timeout(args.request_timeout.as_deref())?;
    let mut sources = Vec::new();
    let (names, container) = names(args)?;
    let since = args.check_values()?;
    let until_there = args.patience.find_deadline("")?;
    let place = (home, namespace);
    let find_pods = |name: &str| {
        find_target_pods(place, name, READ_LOGS, until_there).map_err(|e| word_missing(e, namespace))
    };
    let names = names.into_iter().map(|name| match (name.contains('/'), args.all_pods) {
        (true, true) => find_pods(&name),
        (true, false) => {
            let mut all = find_pods(&name)?;
            if all.len() > 1 {
                eprintln!("Found {} pods, using pod/{}", all.len(), all[0].name);
            }
            all.truncate(1);
            Ok(all)
        }
        (false, _) => find_pods(&name),
    });
    let dirs = names.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
    let names = dirs.map(|dir| dir.name.to_string()).collect();
    let which = Which {
        names,
        filter: FilterArgs { selector: args.selector.clone(), ..FilterArgs::default() },
        ..Which::default()
    };
    let chosen = which.choose(home, namespace)?;
    if let Some(name) = chosen.missing.first() {
        return Err(word_missing(not_found(name), namespace));
    }
    if chosen.found.is_empty() {
        eprintln!("No resources found in {namespace} namespace.");
    }
    let mut streams = 0;
    let mut wanted = Vec::new();
    for found in chosen.found {
        let pod = PodHandle::of(home, &found.dir);
        match choose_container(args, container.as_deref(), &found.pod)? {
            Some(container) => wanted.push((pod, Some(container))),
            // What grows is read together, in the order in which it comes; else one container is read after another.
            None if args.follow => {
                streams += found.pod.container_names().count() - 1;
                wanted.push((pod, None));
            }
            None => {
                wanted.extend(found.pod.container_names().map(|name| (pod.clone(), Some(name.to_owned()))))
            }
        }
    }
    streams += wanted.len();
    if let Some(most) = args.max_log_requests.filter(|most| args.follow && *most < streams) {
        return Err(Error::contradiction(format!(
            "you are attempting to follow {streams} log streams, but maximum allowed concurrency is {most}, use --max-log-requests to increase the limit"
        )));
    }
    for (pod, container) in wanted {
        match open_logs(args, &pod, container, since) {
            Ok(logs) => sources.push(Source { pod, logs }),
            Err(e) if args.ignore_errors => print_error(&e),
            Err(e) => {
                // What others have written is shown before.
                show_present(args, &mut sources)?;
                return Err(e);
            }
        }
        // What does not grow is shown whole before the next is opened.
        while show_present(args, &mut sources)? && !args.follow {}
    }
    let mut heard = Instant::now();
    while !sources.is_empty() {
        if show_present(args, &mut sources)? {
            heard = Instant::now();
            continue;
        }
        // All are at their end: there is nothing to wait for.
        if sources.is_empty() {
            break;
        }
        let left = time_left(until).unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
        if left.is_zero() {
            // It stands there twice, as the stream's end and as the command's.
            eprintln!("{TIMED_OUT}");
            return Err(Error::unmet(TIMED_OUT));
        }
        // Who writes the logs may hang.
        if heard.elapsed() > LONG_SILENCE {
            sources.iter().try_for_each(|source| source.logs.check_supervisor())?;
            heard = Instant::now();
        }
        let mut fds: Vec<_> =
            sources.iter().filter_map(|s| Some(PollFd::new(s.logs.fd()?, PollFlags::POLLIN))).collect();
        // A killed supervisor changes no file: its lock is looked at now and then.
        let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
    }
    Ok(0)
}

/// Shows what there is of each; tells whether that was anything. Those at their end are left.
fn show_present(args: &Args, sources: &mut Vec<Source>) -> Result<bool, Error> {
    let (mut any, mut failure) = (false, None);
    sources.retain_mut(|Source { pod, logs }| {
        let Some(entries) = logs.next_within(Duration::ZERO) else {
            failure = failure.take().or(logs.take_failure());
            return false;
        };
        any |= !entries.is_empty();
        show(args, pod.name(), &entries);
        true
    });
    failure.map_or(Ok(any), |failure| Err(failure.into()))
}

/// Words the error of what is not there as kubectl 1.37 does, of logs alone.
fn word_missing(error: Error, namespace: &Namespace) -> Error {
    match error.reason() {
        Some("NotFound") => Error::absent(format!(
            "error from server (NotFound): {error} in namespace {:?}",
            namespace.as_str()
        )),
        _ => error,
    }
}

/// The pod's name, and the container of the old form `NAME CONTAINER`.
fn names(args: &Args) -> Result<(Vec<String>, Option<String>), Error> {
    let words: Vec<String> = match args.pod.split_first() {
        Some((kind, rest)) if is_pod(kind) && !rest.is_empty() => rest.to_vec(),
        _ => args.pod.clone(),
    };
    match (&words[..], &args.container) {
        ([] | [_], _) => Ok((words, args.container.clone())),
        (_, Some(_)) => Err(Error::contradiction("only one of -c or an inline [CONTAINER] arg is allowed")),
        ([name, container], None) => Ok((vec![name.clone()], Some(container.clone()))),
        _ => Err(Error::bad_value(format!("{WANTED_WORDS}\nSee 'podctl logs -h' for help and examples"))),
    }
}

/// The container that is meant; none for all of them.
fn choose_container(args: &Args, named: Option<&str>, pod: &Pod) -> Result<Option<String>, Error> {
    if args.all_containers {
        return Ok(None);
    }
    let spec = pod.spec.clone().unwrap_or_default();
    let init: Vec<String> = spec.init_containers.iter().flatten().map(|c| c.name.clone()).collect();
    let apps: Vec<String> = spec.containers.iter().map(|c| c.name.clone()).collect();
    let ephemeral: Vec<String> = spec.ephemeral_containers.iter().flatten().map(|c| c.name.clone()).collect();
    let all = || init.iter().chain(&apps).chain(&ephemeral);
    if let Some(wanted) = named.filter(|name| !name.is_empty()) {
        return check_container(pod, wanted).map(|()| Some(wanted.to_owned()));
    }
    if let Some(found) = pod.annotated_container().filter(|a| all().any(|c| c == a)) {
        return Ok(Some(found.to_owned()));
    }
    let first = apps.first().cloned().unwrap_or_default();
    if all().count() > 1 && !args.all_pods {
        let named =
            |all: &[String], kind: &'static str| all.iter().map(|n| format!("{n}{kind}")).collect::<Vec<_>>();
        let list = [apps.clone(), named(&ephemeral, " (ephem)"), named(&init, " (init)")].concat().join(", ");
        eprintln!("Defaulted container \"{first}\" out of: {list}");
    }
    Ok(Some(first))
}

/// Opens a pod's logs as the flags have them.
fn open_logs(
    args: &Args,
    pod: &PodHandle,
    container: Option<String>,
    since: Option<Timestamp>,
) -> Result<Logs, Error> {
    let default = if args.selector.is_some() { SELECTED_TAIL } else { -1 };
    let options = LogOptions {
        container,
        follow: args.follow,
        previous: args.previous,
        since,
        tail: usize::try_from(args.tail.unwrap_or(default)).ok(),
        limit_bytes: args.limit_bytes.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0),
        stderr: None,
    };
    let logs = pod.logs(&options)?;
    // Of one that lives and is followed, the log may yet begin.
    if let Some(container) = options.container.as_ref().filter(|_| !options.follow || !pod.is_alive()) {
        pod.check_started(container, options.previous)?;
    }
    Ok(logs)
}

fn show(args: &Args, pod: &str, entries: &[Entry]) {
    // Standard output by itself is written line by line.
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    for entry in entries {
        let prefix = match args.prefix || args.all_pods {
            true => format!("[pod/{pod}/{}] ", entry.container),
            false => String::new(),
        };
        // A reader that has gone (`| head`) wants no more.
        let written = write!(out, "{prefix}").and_then(|()| entry.write_line(args.timestamps, &mut out));
        if written.is_err() {
            std::process::exit(0);
        }
    }
    // There is nothing more to write to a reader that has gone.
    let _ = out.flush();
}
