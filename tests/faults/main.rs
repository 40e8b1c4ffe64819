//! Every call of a pod's short life made to fail, one at a time: pull, init container, sidecar, app, exec, logs, stop, start, delete,
//! as root and as an ordinary user. Each command ends in bounded time and says why it failed; afterwards the same pod runs
//! as if nothing had been, and nothing of it is left: no process, mount, link, rule or file.
//!
//! Where nobody says more, each combination of stage, role, call and error that occurs is tried once, at a random one of its calls,
//! as root or as the user; and some shortages that last. `PODCTL_TEST_FAULTS` says which places are tried instead: `kinds`, each of
//! these combinations as both; `all`; a number of places as each; `lasting` and a number of shortages of each kind; or places as a failure
//! prints them, with commas between lives and `+` between those of one life. `PODCTL_TEST_FAULTS_SEED` repeats a choice,
//! `PODCTL_TEST_FAULTS_USER` says who runs the pods, and `PODCTL_TEST_FAULTS_LIVES` how many lives go on at once.

mod choice;
#[path = "../common/mod.rs"]
mod common;
mod injector;
mod world;

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use crate::common::until;
use choice::{Random, choose_points, join_points};
use injector::{Counts, Point};
use nix::unistd::{User, geteuid};
use serde_json::Value;
use world::{ANSWER, LIVES, read_counts};

/// Names the ordinary user whose calls fail as root's do.
const USER: &str = "podctl-test";
/// Number of lives that go on at once on each processor: most of the time of one that fails is spent waiting.
const LIVES_A_PROCESSOR: usize = 3;
/// Says whose world a test process is, `root` or a user's name.
const WORLD: &str = "PODCTL_TEST_FAULTS_WORLD";

/// A process with a world; it and everything in it ends with whoever holds this, however that ends.
struct OwnWorld {
    process: Child,
    lives: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl OwnWorld {
    fn new(user: &str, dir: &Path) -> OwnWorld {
        let own = std::env::current_exe().unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--kill-child", "--pid", "--mount", "--mount-proc"]);
        // A shell is the first process: it waits for whoever is left without a parent.
        command.args(["sh", "-c", "\"$@\"; exit", "sh"]).arg(own);
        command.args(["--exact", "a_world_of_its_own", "--ignored", "--nocapture"]);
        command.env(WORLD, user).env("TMPDIR", dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (lives, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        OwnWorld { process, lives, answers: BufReader::new(answers) }
    }

    /// Returns what came of a life; none when the world has ended.
    fn ask(&mut self, life: &str) -> Option<Value> {
        writeln!(self.lives, "{life}").ok()?;
        let mut lines = self.answers.by_ref().lines().map_while(Result::ok);
        lines.find_map(|line| serde_json::from_str(line.split_once(ANSWER)?.1).ok())
    }
}

impl Drop for OwnWorld {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A life that is to be lived: whose it is, and the points where something fails, each in a stage of its own.
struct Life {
    user: String,
    points: Vec<Point>,
}

/// Holds what has come of the lives so far.
#[derive(Default)]
struct Outcomes {
    met: usize,
    missed: Vec<String>,
    failures: Vec<String>,
}

/// Lives without a fault, one of each kind, and counts their calls.
fn count_calls(user: &str, dir: &Path) -> Counts {
    let mut world = OwnWorld::new(user, dir);
    let mut counts = Counts::new();
    for kind in 0..LIVES.len() {
        let answer = world.ask(&format!("count {kind}")).expect("a world");
        assert_eq!(answer["wrong"], serde_json::json!([]), "without a fault: {answer:#}");
        counts.extend(read_counts(&answer));
    }
    counts
}

/// Lives as long as there are lives to be tried; a place that is not come to is tried earlier.
fn try_lives(dir: &Path, lives: &Mutex<VecDeque<Life>>, outcomes: &Mutex<Outcomes>) {
    let is_told = std::env::var_os("PODCTL_TEST_FAULTS").is_some();
    let mut worlds: BTreeMap<String, OwnWorld> = BTreeMap::new();
    loop {
        let Some(Life { user, points }) = lives.lock().unwrap().pop_front() else { return };
        let texts: Vec<_> = points.iter().map(Point::to_string).collect();
        let (number, name) = (texts.len(), texts.join("+"));
        let began = Instant::now();
        let world = worlds.entry(user.clone()).or_insert_with(|| OwnWorld::new(&user, dir));
        let answer = world.ask(&texts.join(" "));
        let took = began.elapsed().as_secs_f32();
        let answer = answer.unwrap_or_else(|| serde_json::json!({"wrong": ["the world has ended"]}));
        let met = answer["met"].as_array().cloned().unwrap_or_default();
        let (met, missed): (Vec<_>, Vec<_>) =
            points.into_iter().partition(|point| met.contains(&point.stage.as_str().into()));
        let is_well = answer["wrong"] == serde_json::json!([]);
        if is_told {
            let rest: Vec<_> = missed.iter().map(Point::to_string).collect();
            let rest =
                if rest.is_empty() { String::new() } else { format!(" (not come to: {})", rest.join(" ")) };
            eprintln!("{user} {name}: {} after {took:.1} s{rest}", if is_well { "ok" } else { "FAILS" });
        }
        if !is_well {
            eprintln!(
                "PODCTL_TEST_FAULTS={name} PODCTL_TEST_FAULTS_USER={user} repeats it: {:#}\nall that was said: {:#}",
                answer["wrong"], answer["words"]
            );
            worlds.remove(&user); // What is wrong in it is no other life's.
        }
        let mut outcomes = outcomes.lock().unwrap();
        outcomes.met += met.len();
        if !is_well {
            outcomes.failures.push(format!("{user}:{name}"));
        }
        for point in missed {
            let nth = match is_well {
                true => point.nth / 2,
                false if number > 1 => point.nth, // Its stage has not come.
                false => 0,
            };
            if nth == 0 || point.lasts {
                outcomes.missed.push(format!("{user}:{point}"));
            } else {
                let points = vec![Point { nth, ..point }];
                lives.lock().unwrap().push_back(Life { user: user.clone(), points });
            }
        }
    }
}

/// Root and an ordinary user, or who is asked for.
fn list_users() -> Vec<String> {
    if let Ok(user) = std::env::var("PODCTL_TEST_FAULTS_USER") {
        return vec![user];
    }
    let mut users = vec!["root".to_owned()];
    match User::from_name(USER).unwrap() {
        Some(_) => users.push(USER.to_owned()),
        None => eprintln!("only root's calls: there is no user {USER}"),
    }
    users
}

/// Lives that together try what is asked for, or what is chosen at random.
fn list_lives(users: &[String], dir: &Path) -> VecDeque<Life> {
    let wanted = std::env::var("PODCTL_TEST_FAULTS").unwrap_or_default();
    let mut lives = VecDeque::new();
    if wanted.contains(':') {
        for (user, life) in users.iter().flat_map(|user| wanted.split(',').map(move |life| (user, life))) {
            let points = life.split('+').map(|text| text.parse().unwrap()).collect();
            lives.push_back(Life { user: user.clone(), points });
        }
        return lives;
    }
    let seed = std::env::var("PODCTL_TEST_FAULTS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| if wanted.is_empty() { 1 } else { std::process::id().into() });
    eprintln!("PODCTL_TEST_FAULTS_SEED={seed}");
    let counts: Vec<_> = users.iter().map(|user| count_calls(user, dir)).collect();
    for (points, user) in choose_points(&counts, &wanted, &mut Random(seed)).into_iter().zip(users) {
        eprintln!("{user}: {} points", points.len());
        for stages in LIVES {
            let stages: Vec<_> = stages.iter().map(|(stage, _)| *stage).collect();
            let joined = join_points(points.clone(), &stages);
            lives.extend(joined.into_iter().map(|points| Life { user: user.clone(), points }));
        }
    }
    // What waits longest is begun first.
    lives.make_contiguous().sort_by_key(|life| life.points[0].stage == "start");
    lives
}

#[test]
fn any_call_may_fail_and_nothing_is_lost_leaked_or_stuck() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can make another's calls fail");
    }
    let dir = tempfile::tempdir().unwrap();
    // For an ordinary user's home is in it.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let lives = list_lives(&list_users(), dir.path());
    let began = Instant::now();
    let at_once = std::env::var("PODCTL_TEST_FAULTS_LIVES").ok().and_then(|text| text.parse().ok());
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let (number, at_once) = (lives.len(), at_once.unwrap_or(LIVES_A_PROCESSOR * processors));
    let (lives, outcomes) = (Mutex::new(lives), Mutex::default());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| try_lives(dir.path(), &lives, &outcomes));
        }
    });
    let Outcomes { met, missed, failures } = outcomes.into_inner().unwrap();
    eprintln!(
        "{met} faults were met in {number} lives in {:.0} s; {} not come to: {}",
        began.elapsed().as_secs_f32(),
        missed.len(),
        missed.join(" ")
    );
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn whatever_was_started_ends_with_a_test_that_is_killed() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can make worlds");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "any_call_may_fail_and_nothing_is_lost_leaked_or_stuck"]);
    // Each is a whole life, with all processes that there are.
    test.env("PODCTL_TEST_FAULTS", ["again/start:openat:9999:EIO"; 50].join(",")).env("TMPDIR", dir.path());
    test.env("PODCTL_TEST_FAULTS_USER", "root").stdout(Stdio::null()).stderr(Stdio::null());
    let mut test = test.spawn().unwrap();
    let started = || list_processes_of(dir.path());
    let of_pod = || started().iter().filter(|line| line.contains("supervise")).count();
    until("a pod is there", || of_pod() > 0 || test.try_wait().unwrap().is_some());
    assert!(started().len() > 5, "{:?}", started());
    test.kill().unwrap();
    test.wait().unwrap();
    let began = Instant::now();
    until("all have ended", || started().is_empty());
    assert!(began.elapsed() < Duration::from_secs(10), "after {:?}", began.elapsed());
}

/// The command lines of processes whose arguments or variables name a directory.
fn list_processes_of(directory: &Path) -> Vec<String> {
    let directory = directory.to_str().unwrap();
    let ids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let read = |name: &str| std::fs::read(format!("/proc/{id}/{name}")).unwrap_or_default();
        let (line, variables) = (read("cmdline"), read("environ"));
        let text = String::from_utf8_lossy(&variables).into_owned() + &String::from_utf8_lossy(&line);
        text.contains(directory).then(|| String::from_utf8_lossy(&line).replace('\0', " "))
    });
    ids.collect()
}

#[test]
#[ignore = "a part of the other tests, which start it"]
fn a_world_of_its_own() {
    let Ok(user) = std::env::var(WORLD) else { return };
    world::serve((user != "root").then(|| User::from_name(&user).unwrap().expect("there is such a user")));
}
