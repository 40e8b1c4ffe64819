//! Every call of a pod's short life made to fail, one at a time: pull, init container, sidecar, app, exec, logs, delete, as root and,
//! by a variable, as an ordinary user. Each command ends in bounded time and says why it failed; afterwards the same pod runs
//! as if nothing had been, and nothing of it is left: no process, mount, link, rule, cgroup or file.
//!
//! `PODCTL_TEST_FAULTS` says which places are tried: `all`, a number of them chosen at random (`PODCTL_TEST_FAULTS_SEED` repeats
//! the choice), `lasting` and a number for shortages that begin at so many places and last, or places as a failure prints them,
//! with commas between. `PODCTL_TEST_FAULTS_USER` names the user who runs the
//! pods, `PODCTL_TEST_FAULTS_LIVES` says how many lives go on at once.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Seek},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    Home,
    injector::{Control, Counts, Point, list_points, list_shortages, run_beneath},
    lab::{new_namespace, run, within},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::{User, chown, geteuid},
};

/// Number of places that are tried where nobody says how many.
const SAMPLE: usize = 24;
/// Number of shortages of each kind.
const SHORTAGES: usize = 2;
/// The time for which a command may wait for a shortage to be over; then it is lifted, and the command goes on.
const SHORTAGE: Duration = Duration::from_secs(15);
/// The time for which a command may take. Those that wait for a process which hangs give up well before.
const LIMIT: Duration = Duration::from_secs(90);

const POD: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: init, image: 'busybox:1.36', command: [sh, -c, 'echo init >/shared/init'], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: side, image: 'busybox:1.36', restartPolicy: Always, command: [sh, -c, 'trap \"exit 0\" TERM; sleep 600 & wait']}
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, 'trap \"exit 0\" TERM; cat /shared/init /words/word; sleep 600 & wait']
    readinessProbe: {exec: {command: [cat, /shared/init]}, periodSeconds: 1}
    volumeMounts: [{name: shared, mountPath: /shared}, {name: words, mountPath: /words}]
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: words, configMap: {name: words}}
";

/// Names what is done while a call may fail.
const LIFE: &[&[&str]] = &[
    &["run", "-d", "--wait", "ready", "pod.yaml"],
    &["exec", "p", "-c", "app", "--", "sh", "-c", "echo hello"],
    &["logs", "p", "-c", "app"],
    &["get", "pods"],
    &["describe", "pod", "p"],
    &["delete", "pod", "p"],
];

/// Names what is done when no call fails any more, and succeeds.
const AFTERWARDS: &[&[&str]] = &[
    &["delete", "pod", "p", "--now", "--ignore-not-found"],
    &["run", "-d", "--wait", "ready", "pod.yaml"],
    &["exec", "p", "-c", "app", "--", "sh", "-c", "cat /words/word"],
    &["delete", "pod", "p", "--now"],
    &["get", "pods", "-A"],
    &["delete", "configmap", "--all"],
    &["rmi", "--all"],
];

/// A machine for one life: a home, and a network namespace with a way to the registry.
struct Ground {
    home: Home,
    namespace: File,
    user: Option<User>,
}

impl Ground {
    fn new() -> Ground {
        let namespace = new_namespace();
        within(&namespace, || {
            for line in [
                "ip link add outside type veth peer name far",
                "ip addr add 192.0.2.2/24 dev outside",
                "ip link set outside up",
                "ip link set far up",
                "ip route add default via 192.0.2.1",
            ] {
                run(line);
            }
        });
        let user = std::env::var("PODCTL_TEST_FAULTS_USER").ok();
        let user = user.map(|name| User::from_name(&name).unwrap().expect("there is such a user"));
        let home = Home::new();
        home.file("pod.yaml", POD);
        if let Some(user) = &user {
            chown(&home.path(""), Some(user.uid), Some(user.gid)).unwrap();
        }
        Ground { home, namespace, user }
    }

    fn command(&self, args: &[&str]) -> Command {
        let file = self.home.path("pod.yaml").display().to_string();
        let args: Vec<_> =
            args.iter().map(|arg| if *arg == "pod.yaml" { file.as_str() } else { arg }).collect();
        let plain = self.home.command(&args);
        let Some(user) = &self.user else { return plain };
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user.uid.to_string(), "--regid", &user.gid.to_string(), "--init-groups"]);
        command.args(["env", "-i", &format!("HOME={}", self.home.path("").display())]);
        command.arg("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        let set = plain.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
        let inherited = std::env::vars().filter(|(name, _)| name.starts_with("CONTAINERS_"));
        command.args(set.map(|(name, value)| format!("{name}={value}")));
        command.args(inherited.map(|(name, value)| format!("{name}={value}")));
        command.arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
        command
    }

    /// Runs a command; what is wrong with how it ended, and what it said. It may wait for a shortage that `control` lifts.
    fn call(&self, args: &[&str], control: Option<&Control<'_>>) -> Said {
        // Not pipes: they would be open as long as a process that hangs has them. And no files of the disk that may be full.
        let new_file = |name| File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC).unwrap());
        let (mut out, mut err) = (new_file("out"), new_file("err"));
        let (to_out, to_err) = (out.try_clone().unwrap(), err.try_clone().unwrap());
        let began = Instant::now();
        let mut child = self.command(args).stdout(to_out).stderr(to_err).spawn().unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if let Some(control) = control.filter(|_| began.elapsed() > SHORTAGE) {
                control.disarm();
            }
            if began.elapsed() > LIMIT {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let code = status.and_then(|status| status.code());
        let (out, err) = (read(&mut out), read(&mut err));
        let words = format!("podctl {}: {code:?} {out}{err}", args.join(" "));
        let wrong = match status {
            None => Some("does not end"),
            Some(_) if words.contains("panicked at") => Some("panics"),
            Some(_) if code.is_some_and(|code| code != 0) && err.trim().is_empty() => Some("says nothing"),
            Some(_) => None,
        };
        Said { words, code, wrong: wrong.map(str::to_owned) }
    }

    /// Returns what is in this life's part of the machine.
    fn list_things(&self) -> BTreeSet<String> {
        let (links, rules) = within(&self.namespace, || (run("ip -br link"), run("nft list ruleset")));
        let links = links.lines().filter_map(|line| line.split_whitespace().next());
        let mut things: BTreeSet<String> = links.chain(rules.lines()).map(str::to_owned).collect();
        for part in ["run", "data"] {
            let mut left = vec![self.home.path(part)];
            while let Some(dir) = left.pop() {
                for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                    let path = entry.path();
                    things.insert(path.strip_prefix(self.home.path("")).unwrap().display().to_string());
                    if entry.file_type().unwrap().is_dir() {
                        left.push(path);
                    }
                }
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let home = self.home.path("").display().to_string();
        things.extend(mounts.lines().filter(|line| line.contains(&home)).map(|line| format!("mount {line}")));
        things
    }
}

struct Said {
    words: String,
    code: Option<i32>,
    wrong: Option<String>,
}

/// The registry's address in a namespace from which it is not reached: what connects there is connected here.
struct Relay<'a> {
    listener: TcpListener,
    to: String,
    is_over: &'a AtomicBool,
}

impl Relay<'_> {
    fn serve(&self) {
        self.listener.set_nonblocking(true).unwrap();
        while !self.is_over.load(Ordering::SeqCst) {
            let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(50u8));
            let Ok((inside, _)) = self.listener.accept() else { continue };
            let Ok(outside) = TcpStream::connect(&self.to) else { continue };
            inside.set_nonblocking(false).unwrap();
            for (mut from, mut to) in
                [(inside.try_clone().unwrap(), outside.try_clone().unwrap()), (outside, inside)]
            {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    }
}

/// Holds what came of a life: how often which call was made, what is there afterwards, and all that was wrong.
struct Outcome {
    counts: Counts,
    things: BTreeSet<String>,
    is_hit: bool,
    wrong: Vec<String>,
    words: Vec<String>,
}

/// A life with at most one fault in it. What is there afterwards may be what `known` has.
fn live(point: Option<Point>, known: Option<&BTreeSet<String>>) -> Outcome {
    let ground = Ground::new();
    let to = std::env::var("PODCTL_TEST_REGISTRY").unwrap();
    let listener = within(&ground.namespace, || TcpListener::bind(&to).unwrap());
    let is_over = AtomicBool::new(false);
    let relay = Relay { listener, to, is_over: &is_over };
    let before = ground.list_things();
    let lasts = point.as_ref().is_some_and(|point| point.lasts);
    let job = |control: &Control<'_>| {
        setns(&ground.namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let (mut words, mut wrong) = (Vec::new(), Vec::new());
        for args in LIFE {
            let said = ground.call(args, Some(control).filter(|_| lasts));
            wrong.extend(said.wrong.map(|what| format!("{what}: {}", said.words)));
            words.push(said.words);
        }
        control.disarm();
        for args in AFTERWARDS {
            let said = ground.call(args, None);
            if said.wrong.is_some() || said.code != Some(0) {
                wrong.push(format!("afterwards: {}", said.words));
            }
            if args[0] == "exec" && !said.words.contains("hello")
                || args[0] == "get" && !said.words.contains("No resources")
            {
                wrong.push(format!("afterwards: {}", said.words));
            }
            words.push(said.words);
        }
        (words, wrong)
    };
    let report = thread::scope(|scope| {
        scope.spawn(|| relay.serve());
        let report = run_beneath(point, job);
        is_over.store(true, Ordering::SeqCst);
        report
    });
    let (words, mut wrong) = report.result;
    if !report.is_over {
        wrong.push(format!("processes stay: {:?}", ground.home.traces()));
    }
    let things = ground.list_things();
    if let Some(known) = known {
        let left: Vec<_> = things.difference(known).filter(|thing| !before.contains(*thing)).collect();
        if !left.is_empty() {
            wrong.push(format!("is left: {left:?}"));
        }
    }
    Outcome { counts: report.counts, things, is_hit: report.is_hit, wrong, words }
}

/// The next of a row of numbers that looks random and is the same for the same beginning.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn choose_points(counts: &Counts) -> Vec<Point> {
    let all = list_points(counts);
    let wanted = std::env::var("PODCTL_TEST_FAULTS").unwrap_or_default();
    if wanted == "all" {
        return all;
    }
    if wanted.contains(':') {
        return wanted.split(',').map(|text| text.parse().unwrap()).collect();
    }
    let seed = std::env::var("PODCTL_TEST_FAULTS_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| if wanted.is_empty() { 1 } else { std::process::id().into() });
    eprintln!("PODCTL_TEST_FAULTS_SEED={seed}");
    let mut state = seed;
    let mut shortages = |of_each: usize| {
        let mut chosen = Vec::new();
        for (point, places) in list_shortages(counts) {
            for _ in 0..of_each {
                chosen.push(Point { nth: 1 + next_random(&mut state) as usize % places, ..point.clone() });
            }
        }
        chosen
    };
    if let Some(of_each) = wanted.strip_prefix("lasting") {
        return shortages(of_each.trim().parse().unwrap_or(SHORTAGES));
    }
    let lasting = if wanted.is_empty() { shortages(SHORTAGES) } else { Vec::new() };
    let number = wanted.parse().unwrap_or(SAMPLE);
    // Of each role's each call as many: else nearly all would be reads and writes.
    let mut choose = || {
        let ((role, call), _) = counts.iter().nth(next_random(&mut state) as usize % counts.len()).unwrap();
        let own: Vec<_> = all.iter().filter(|point| point.role == *role && point.call == *call).collect();
        own[next_random(&mut state) as usize % own.len()].clone()
    };
    (0..number).map(|_| choose()).chain(lasting).collect()
}

#[test]
fn any_call_may_fail_and_nothing_is_lost_leaked_or_stuck() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can make another's calls fail");
        return;
    }
    let whole = live(None, None);
    assert!(
        whole.words.iter().all(|words| words.contains(": Some(0) ")),
        "without a fault: {:#?}",
        whole.words
    );
    assert!(whole.wrong.is_empty(), "without a fault: {:#?}", whole.wrong);
    let points = choose_points(&whole.counts);
    let lives =
        std::env::var("PODCTL_TEST_FAULTS_LIVES").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let (next, failures, met) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..lives {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let outcome = live(Some(point.clone()), Some(&whole.things));
                    met.fetch_add(usize::from(outcome.is_hit), Ordering::SeqCst);
                    if std::env::var_os("PODCTL_TEST_FAULTS").is_some() {
                        let hit = if outcome.is_hit { "" } else { " (not come to)" };
                        eprintln!("{point}{hit}: {}", if outcome.wrong.is_empty() { "ok" } else { "FAILS" });
                    }
                    if !outcome.wrong.is_empty() {
                        eprintln!(
                            "PODCTL_TEST_FAULTS={point} repeats it: {:#?}\nall that was said: {:#?}",
                            outcome.wrong, outcome.words
                        );
                        failures.lock().unwrap().push(point.to_string());
                    }
                }
            });
        }
    });
    let (failures, met) = (failures.into_inner().unwrap(), met.into_inner());
    eprintln!(
        "{met} of {} faults were met; the life has {} of them",
        points.len(),
        list_points(&whole.counts).len()
    );
    assert!(failures.is_empty(), "PODCTL_TEST_FAULTS={} repeats what fails", failures.join(","));
}
