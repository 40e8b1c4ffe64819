//! A world for lives in which a call fails: a home, and PID, mount and network namespaces, so that whoever is left is seen and
//! whoever makes the world can end it by being killed. It is this test program again, which reads lives and answers with what came of each.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead, Read, Seek, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::{User, chown},
};
use serde_json::{Value, json};

use crate::{
    common::{
        Home,
        lab::{new_namespace, run, within},
    },
    injector::{Control, Counts, Watch, run_beneath},
};

/// The time for which a command may wait for a shortage to be over; then it is lifted, and the command goes on.
const SHORTAGE: Duration = Duration::from_secs(15);
/// The time for which a command may take. Those that wait for a process which hangs give up well before.
const LIMIT: Duration = Duration::from_secs(90);
/// The time in which everything has ended that a life has started.
const LEAVING: Duration = Duration::from_secs(30);
/// Begins the line of an answer, for the test program writes other things there, too.
pub const ANSWER: char = '\u{1e}';

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

const PULL: &[&str] = &["pull", "busybox:1.36"];
const REMOVE_IMAGES: &[&str] = &["rmi", "--all"];
const RUN: &[&str] = &["run", "-d", "--wait", "ready", "pod.yaml"];
const EXEC: &[&str] = &["exec", "p", "-c", "app", "--", "cat", "/words/word"];
const LOGS: &[&str] = &["logs", "p", "-c", "app"];
const GET: &[&str] = &["get", "pods"];
const DESCRIBE: &[&str] = &["describe", "pod", "p"];
const STOP: &[&str] = &["stop", "p"];
const START: &[&str] = &["start", "p"];
const AWAIT: &[&str] = &["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"];
const DELETE: &[&str] = &["delete", "pod", "p"];
const CLEAR: &[&str] = &["delete", "pod", "p", "--now", "--ignore-not-found"];
const GET_ALL: &[&str] = &["get", "pods", "-A"];
const DELETE_OBJECTS: &[&str] = &["delete", "configmap", "--all"];

/// A part of a life: its name, and its commands.
type Stage = (&'static str, &'static [&'static [&'static str]]);

/// The stages of a life that has its image, in their order; of one that has none, and of one in which a shortage lasts.
const OF_POD: &[Stage] = &[
    ("start", &[RUN]),
    ("exec", &[EXEC]),
    ("look", &[LOGS, GET, DESCRIBE]),
    ("stop", &[STOP]),
    ("again", &[START]),
    ("delete", &[DELETE]),
];
const OF_IMAGE: &[Stage] = &[("pull", &[PULL]), ("rmi", &[REMOVE_IMAGES]), ("fetch", &[RUN])];
const WHOLE: &[Stage] = &[("whole", &[RUN, EXEC, LOGS, GET, DESCRIBE, DELETE])];

/// The kinds of lives, each with the stages of which it can try one place.
pub const LIVES: &[&[Stage]] = &[OF_POD, OF_IMAGE, WHOLE];

/// A machine for lives: a home, and a network namespace with a way to the registry.
struct World {
    home: Home,
    namespace: File,
    user: Option<User>,
    /// Holds what is there when nothing has gone wrong in a life of that kind.
    known: Vec<Option<BTreeSet<String>>>,
}

/// Holds how a command ended and what it said; `wrong` says what no command may do, whatever fails.
struct Said {
    words: String,
    code: Option<i32>,
    wrong: Option<&'static str>,
}

/// A life that is lived: what was said in it, and what was wrong.
struct Life<'a> {
    world: &'a World,
    control: &'a Control<'a>,
    /// The stages in which something is to fail.
    stages: Vec<String>,
    /// The stages whose point was come to.
    met: Vec<String>,
    words: Vec<String>,
    wrong: Vec<String>,
}

impl World {
    fn new(user: Option<User>) -> World {
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
        let home = Home::new();
        home.file("pod.yaml", POD);
        if let Some(user) = &user {
            chown(&home.path(""), Some(user.uid), Some(user.gid)).unwrap();
        }
        World { home, namespace, user, known: vec![None; LIVES.len()] }
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
                // It may have ended by now.
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            thread::sleep(Duration::from_millis(1));
        };
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let code = status.and_then(|status| status.code());
        let (out, err) = (read(&mut out), read(&mut err));
        let took = began.elapsed().as_secs_f32();
        let words = format!("podctl {}: {code:?} after {took:.2} s: {out}{err}", args.join(" "));
        let wrong = match status {
            None => Some("does not end"),
            Some(_) if words.contains("panicked at") => Some("panics"),
            Some(_) if code.is_some_and(|code| code != 0) && err.trim().is_empty() => Some("says nothing"),
            Some(_) => None,
        };
        Said { words, code, wrong }
    }

    /// Returns what is in this world.
    fn list_things(&self) -> BTreeSet<String> {
        let (links, rules) = within(&self.namespace, || {
            (fs::read_to_string("/proc/thread-self/net/dev").unwrap(), run("nft list ruleset"))
        });
        let links = links.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
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

    /// Lives once; each of the points is one of another stage.
    fn live(&mut self, kind: usize, watch: Watch) -> Value {
        let stages: Vec<String> = match &watch {
            Watch::Count => LIVES[kind].iter().map(|(stage, _)| (*stage).to_owned()).collect(),
            Watch::Break(points) => points.iter().map(|point| point.stage.clone()).collect(),
        };
        let this: &World = self;
        let report = run_beneath(watch, |control| {
            setns(&this.namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let (met, words, wrong) = (Vec::new(), Vec::new(), Vec::new());
            let mut life = Life { world: this, control, stages, met, words, wrong };
            // Whatever follows on what has gone wrong says nothing new.
            let _: Option<()> = match kind {
                0 => life.live_with_image(),
                1 => life.live_without_image(),
                _ => life.live_in_want(),
            };
            control.disarm();
            if !life.wrong.is_empty() {
                life.succeeds(CLEAR); // What stays after that hangs.
            }
            (life.met, life.words, life.wrong)
        });
        let (met, words, mut wrong) = report.result;
        if wrong.is_empty() {
            wrong.extend(self.compare_things(kind));
        }
        if !report.is_over {
            wrong.push("processes beneath the filter stay".to_owned());
        }
        let counts: Vec<_> = report.counts.iter().collect();
        json!({"met": met, "words": words, "wrong": wrong, "counts": counts})
    }

    /// Says what is there that was not after the first life of that kind, once everything has had the time to go.
    fn compare_things(&mut self, kind: usize) -> Option<String> {
        let began = Instant::now();
        let mut next_sweep = began;
        loop {
            let mut things = self.list_things();
            things.extend(list_others());
            let Some(known) = &self.known[kind] else {
                if !things.iter().any(|thing| thing.starts_with("process ")) || began.elapsed() > LEAVING {
                    self.known[kind] = Some(things);
                    return None;
                }
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            let left: Vec<_> = things.difference(known).collect();
            let lost: Vec<_> = known.difference(&things).collect();
            if left.is_empty() && lost.is_empty() {
                return None;
            }
            if began.elapsed() > LEAVING {
                return Some(format!("is left: {left:?}, is gone: {lost:?}"));
            }
            if Instant::now() > next_sweep && !left.iter().any(|thing| thing.starts_with("process ")) {
                // Some are killed at their end, when all commands have gone: a later one finds what they had to do. A record
                // that has no holder could be one that is being made until it is some seconds old.
                within(&self.namespace, || self.call(GET_ALL, None));
                next_sweep = Instant::now() + Duration::from_secs(1);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Life<'_> {
    /// Does what a stage is when something is to fail in it; whether that was so. None when the world is not as it should be.
    fn try_stage(&mut self, stage: &str) -> Option<bool> {
        if !self.stages.iter().any(|one| one == stage) {
            return Some(false);
        }
        let all = LIVES.iter().flat_map(|stages| stages.iter());
        let commands = all.clone().find(|(name, _)| *name == stage).unwrap().1;
        let lifted = Some(self.control).filter(|_| stage == "whole");
        self.control.begin(stage);
        for args in commands {
            let said = self.world.call(args, lifted);
            self.words.push(format!("{stage}: {}", said.words));
            self.wrong.extend(said.wrong.map(|what| format!("{stage}: {what}: {}", said.words)));
        }
        if self.control.disarm() {
            self.met.push(stage.to_owned());
        }
        self.wrong.is_empty().then_some(true)
    }

    /// Runs a command in which nothing fails; none when it does all the same, or does not say what it should.
    fn call(&mut self, args: &[&str], says: &str) -> Option<()> {
        let said = self.world.call(args, None);
        let is_well = said.wrong.is_none() && said.code == Some(0) && said.words.contains(says);
        self.words.push(said.words.clone());
        if !is_well {
            self.wrong.push(format!("afterwards: {}", said.words));
        }
        is_well.then_some(())
    }

    /// Tells whether a command succeeds.
    fn succeeds(&mut self, args: &[&str]) -> bool {
        let said = self.world.call(args, None);
        self.words.push(said.words);
        said.code == Some(0) && said.wrong.is_none()
    }

    /// The pod does what it is for, or its supervisor was killed and another pod of its name can take its place.
    fn expect_pod(&mut self) -> Option<()> {
        if !self.succeeds(EXEC) {
            self.call(CLEAR, "")?;
            self.call(RUN, "")?;
            self.call(EXEC, "hello")?;
        }
        Some(())
    }

    fn live_with_image(&mut self) -> Option<()> {
        if self.try_stage("start")? {
            self.call(CLEAR, "")?;
        }
        self.call(RUN, "")?;
        if self.try_stage("exec")? {
            self.expect_pod()?;
        }
        if self.try_stage("look")? {
            self.expect_pod()?;
        }
        let stops = self.stages.iter().any(|stage| stage == "stop" || stage == "again");
        if stops {
            self.try_stage("stop")?;
            // A pod whose supervisor was killed is an ended one.
            self.succeeds(STOP);
            if self.try_stage("again")? {
                self.succeeds(STOP);
            }
            self.call(START, "")?;
            self.call(AWAIT, "")?;
            self.call(EXEC, "hello")?;
        }
        self.try_stage("delete")?;
        self.end_life()
    }

    fn live_without_image(&mut self) -> Option<()> {
        if self.try_stage("pull")? || self.stages.iter().any(|stage| stage == "rmi") {
            self.call(PULL, "")?;
        }
        self.try_stage("rmi")?;
        self.call(REMOVE_IMAGES, "")?;
        if self.try_stage("fetch")? {
            self.call(CLEAR, "")?;
        }
        self.call(RUN, "")?;
        self.call(EXEC, "hello")?;
        self.end_life()
    }

    fn live_in_want(&mut self) -> Option<()> {
        self.call(REMOVE_IMAGES, "")?;
        self.try_stage("whole")?;
        self.call(CLEAR, "")?;
        self.call(RUN, "")?;
        self.call(EXEC, "hello")?;
        self.end_life()
    }

    fn end_life(&mut self) -> Option<()> {
        self.call(CLEAR, "")?;
        self.call(GET_ALL, "No resources")?;
        self.call(DELETE_OBJECTS, "")
    }
}

/// Lists the processes of this PID namespace that are neither this one nor its first, which waits for it.
fn list_others() -> Vec<String> {
    let own = std::process::id();
    let ids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let others = ids.filter(|id: &u32| *id != 1 && *id != own);
    let named = others.map(|id| {
        let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        format!("process {id}: {}", line.replace('\0', " "))
    });
    named.collect()
}

/// The registry's address in a namespace from which it is not reached: what connects there is connected here.
fn relay(listener: &TcpListener, to: &str, is_over: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    while !is_over.load(Ordering::SeqCst) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(50u8)); // whatever it says, who has come is asked for
        let Ok((inside, _)) = listener.accept() else { continue };
        let Ok(outside) = TcpStream::connect(to) else { continue };
        inside.set_nonblocking(false).unwrap();
        for (mut from, mut to) in
            [(inside.try_clone().unwrap(), outside.try_clone().unwrap()), (outside, inside)]
        {
            thread::spawn(move || {
                // Either end may close at any time.
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    }
}

/// Reads lives from standard input, one a line, until it ends: `count KIND`, or points with blanks between. Each is answered
/// with a line of JSON.
pub fn serve(user: Option<User>) {
    let mut world = World::new(user);
    let to = std::env::var("PODCTL_TEST_REGISTRY").unwrap();
    let listener = within(&world.namespace, || TcpListener::bind(&to).unwrap());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| relay(&listener, &to, &is_over));
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let answer = world.answer(&line);
            println!("{ANSWER}{answer}");
            io::stdout().flush().unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
}

impl World {
    fn answer(&mut self, line: &str) -> Value {
        let watch = match line.strip_prefix("count ") {
            Some(_) => Watch::Count,
            None => Watch::Break(line.split(' ').map(|text| text.parse().unwrap()).collect()),
        };
        let kind = match &watch {
            Watch::Count => line["count ".len()..].parse().unwrap(),
            Watch::Break(points) => {
                let of_point = |stages: &&[Stage]| stages.iter().any(|(stage, _)| *stage == points[0].stage);
                LIVES.iter().position(of_point).expect("a stage of a life")
            }
        };
        if self.known[kind].is_none() {
            let first = self.live(kind, Watch::Break(Vec::new()));
            if first["wrong"] != json!([]) {
                return first;
            }
        }
        self.live(kind, watch)
    }
}

/// The counts that an answer has.
pub fn read_counts(answer: &Value) -> Counts {
    serde_json::from_value::<Vec<_>>(answer["counts"].clone()).unwrap().into_iter().collect()
}
