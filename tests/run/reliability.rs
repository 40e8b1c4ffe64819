//! Faults of the machine and of those who use it at once: two commands that want one name, a reboot, a full disk, damaged
//! files, names and messages of any length, lives that are long. Nothing is lost, leaked or stuck.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::common::{
    Home, events,
    lab::{pod, with_image},
    stderr, stdout, until,
};
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{self as sock, AddressFamily, SockFlag, SockType, UnixAddr},
    },
    unistd::geteuid,
};

/// Rounds of a race; `PODCTL_RACE_ROUNDS` takes more, without a limit of time.
const ROUNDS: usize = 200;
/// The time for which a race may take.
const RACE: Duration = Duration::from_secs(60);

fn rounds() -> impl Iterator<Item = usize> {
    let wanted = std::env::var("PODCTL_RACE_ROUNDS").ok().and_then(|text| text.parse().ok());
    let began = Instant::now();
    (0..wanted.unwrap_or(ROUNDS)).take_while(move |_| wanted.is_some() || began.elapsed() < RACE)
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// The directory of a pod's record.
fn record(home: &Home, name: &str) -> PathBuf {
    home.path("data/records").join(format!("default_{name}"))
}

/// Ends everything at once and forgets what a reboot forgets.
fn reboot(home: &Home) {
    home.kill_guards();
    home.kill(&["network", "network-again", "supervise"]);
    let of_processes = |home: &Home| home.traces().iter().any(|trace| trace.starts_with("process"));
    until("every process has ended", || !of_processes(home));
    fs::remove_dir_all(home.path("run")).unwrap();
}

#[test]
fn one_name_has_one_pod_however_many_want_it_at_once() {
    let home = with_image();
    let ends = home.file("ends.yaml", &pod("e", "exit 0"));
    let stays = home.file("stays.yaml", &pod("e", "sleep 600"));
    let run = ["run", "-d", "--network", "none"];
    let supervisors = || home.of_role("supervise").len();
    for round in rounds() {
        home.podctl(&["run", "--network", "none", &ends]);
        let begin =
            |args: &[&str]| home.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let start = [&run[..], &[&stays]].concat();
        let replace = [&run[..], &["--replace", &stays]].concat();
        let last = match round % 3 {
            0 => vec!["start", "e"],
            1 => replace,
            _ => vec!["stop", "e"],
        };
        let runs = [begin(&start), begin(&start), begin(&last)];
        let delete = begin(&["delete", "e", "--now", "--ignore-not-found"]).wait_with_output().unwrap();
        assert!(delete.status.success(), "round {round}: {}", stderr(&delete));
        for run in runs {
            run.wait_with_output().unwrap();
        }
        assert!(supervisors() <= 1, "round {round}: {:?}", home.traces());
        let delete = home.podctl(&["delete", "e", "--now", "--ignore-not-found"]);
        assert!(delete.status.success(), "round {round}: {}", stderr(&delete));
        until("no supervisor is left", || supervisors() == 0);
    }
    home.podctl(&["get", "pods"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_pod_that_is_still_starting_can_be_deleted_and_stopped() {
    let home = with_image();
    let file = home.file("p.yaml", &pod("p", "sleep 600"));
    for round in 0..20 {
        let begun = home.command(&["run", "-d", &file]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        until("its record is there", || record(&home, "p").exists());
        let how = if round % 2 == 0 { "delete" } else { "stop" };
        let asked = home.podctl(&[how, "p", "--grace-period=1"]);
        assert!(asked.status.success(), "{how}: {}", stderr(&asked));
        begun.unwrap().wait().unwrap();
        until(&format!("no pod lives after {how}"), || home.of_role("supervise").is_empty());
        home.podctl(&["delete", "p", "--ignore-not-found"]);
    }
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_pod_whose_supervisor_hangs_is_told_of_and_deleted_by_force() {
    let home = with_image();
    home.start(&pod("other", "sleep 600"), &[]);
    let others = home.of_role("supervise");
    for wait in ["--wait=true", "--wait=false"] {
        home.start(&pod("h", "sleep 600"), &[]);
        let mut hung = home.of_role("supervise");
        hung.retain(|id| !others.contains(id));
        hung.iter().for_each(|id| kill(*id, Signal::SIGSTOP).unwrap());
        assert!(home.said(&["get", "pods"]).contains("h "));
        let used = home.podctl(&["top", "--containers"]);
        assert!(stdout(&used).contains("other") && !stdout(&used).contains("h "), "{}", stdout(&used));
        assert!(stderr(&used).contains("podctl delete --force h"), "{}", stderr(&used));
        // Its streams lie in the supervisor's socket: a pipe would stay open.
        let said = home.file("said", "");
        let mut exec = home.command(&["exec", "h", "--", "true"]);
        let entered = exec.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap()).status().unwrap();
        let said = fs::read_to_string(said).unwrap();
        assert!(entered.code() == Some(1) && said.contains("does not answer"), "{said}");

        let asked = Instant::now();
        let deleted = home.podctl(&["delete", "h", "--force", "--grace-period", "0", wait]);
        assert!(deleted.status.success(), "{wait}: {}", stderr(&deleted));
        // It takes two; a test's machine is busy.
        assert!(asked.elapsed() < Duration::from_secs(8), "{wait}: {:?}", asked.elapsed());
        assert!(!record(&home, "h").exists() && !home.said(&["get", "pods"]).contains("h "));
        assert_eq!(home.of_role("supervise"), others, "the other pod's lives, the hung one does not");
        home.start(&pod("h", "sleep 600"), &[]);
        assert_eq!(home.in_pod("h", "echo again"), "again\n");
        home.podctl(&["delete", "h", "--now"]);
    }
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn every_command_gives_up_on_a_supervisor_that_hangs_and_nothing_is_done_later() {
    let home = with_image();
    let dir = home.path("");
    home.start(&pod("h", "sleep 600"), &[]);
    let hung = home.of_role("supervise");
    hung.iter().for_each(|id| kill(*id, Signal::SIGSTOP).unwrap());
    let commands: [&[&str]; 9] = [
        &["stop", "h"],
        &["attach", "h"],
        &["cp", "h:/etc/passwd", "-"],
        &["cp", "pod.yaml", "h:/copied"],
        &["logs", "-f", "h"],
        &["port-forward", "h", ":80"],
        &["exec", "h", "--", "touch", "/late"],
        &["restart", "h"],
        &["label", "pod", "h", "late=yes"],
    ];
    let begin = |(at, args): (usize, &&[&str])| {
        // Its streams lie in the supervisor's socket: a pipe would stay open.
        let said = home.path(&format!("said-{at}"));
        let file = fs::File::create(&said).unwrap();
        let mut command = home.command(args);
        command.current_dir(&dir).stdout(Stdio::null()).stderr(file);
        (command.spawn().unwrap(), said)
    };
    let begun: Vec<_> = commands.iter().enumerate().map(begin).collect();
    for ((mut child, said), args) in begun.into_iter().zip(commands) {
        let mut status = None;
        until(&format!("{args:?} ends"), || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let said = fs::read_to_string(said).unwrap();
        assert_eq!(status.unwrap().code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("pod \"h\"") && said.contains("delete --force h"), "{args:?}: {said}");
    }
    hung.iter().for_each(|id| kill(*id, Signal::SIGCONT).unwrap());
    assert_eq!(home.in_pod("h", "ls /late /copied 2>/dev/null; echo asked"), "asked\n");
    let now = home.pod("h");
    assert_eq!(now["status"]["phase"], "Running");
    assert_eq!(
        (&now["status"]["containerStatuses"][0]["restartCount"], &now["metadata"]["labels"]["late"]),
        (&0.into(), &serde_json::Value::Null)
    );
    // That it is to be deleted is not forgotten, as at an API server.
    hung.iter().for_each(|id| kill(*id, Signal::SIGSTOP).unwrap());
    let deleted = home.podctl(&["delete", "pod", "h", "--now"]);
    assert!(
        !deleted.status.success() && stderr(&deleted).contains("delete --force h"),
        "{}",
        stderr(&deleted)
    );
    hung.iter().for_each(|id| kill(*id, Signal::SIGCONT).unwrap());
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn logs_of_a_pod_are_not_followed_into_the_next_one_of_its_name() {
    let home = with_image();
    let file = home.file("p.yaml", &pod("p", "echo mine; sleep 600"));
    home.start(&pod("p", "echo mine; sleep 600"), &[]);
    let mut follow = home.command(&["logs", "-f", "p"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(follow.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "mine\n", "it follows the first pod");
    let replaced = home.podctl(&["run", "-d", "--replace", &file]);
    assert!(replaced.status.success(), "{}", stderr(&replaced));
    until("the log has ended", || follow.try_wait().unwrap().is_some());
}

#[test]
fn a_killed_start_leaves_nothing_behind_the_next_command() {
    let home = with_image();
    let ends = home.file("ends.yaml", &pod("k", "exit 0"));
    let stays = home.file("stays.yaml", &pod("k", "sleep 600"));
    for step in 0..20 {
        home.podctl(&["run", &ends]);
        let mut begun =
            home.command(&["run", "-d", &stays]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(step * 8));
        let _ = begun.kill();
        begun.wait().unwrap();
        let deleted = home.podctl(&["delete", "k", "--now", "--ignore-not-found"]);
        assert!(deleted.status.success(), "{}", stderr(&deleted));
    }
    until("nothing is left", || {
        home.podctl(&["get", "pods"]);
        home.traces().is_empty()
    });
}

#[test]
fn an_ended_pod_is_there_however_often_its_start_is_killed() {
    let home = with_image();
    home.start(&pod("k", "exit 0"), &["--wait", "none"]);
    until("it has ended", || home.pod("k")["status"]["phase"] == "Succeeded");
    for step in 0..24 {
        let mut begun =
            home.command(&["start", "k"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(step * 2));
        // It may have ended by itself.
        let _ = begun.kill();
        begun.wait().unwrap();
        // Without a look in between, and with one that does not list.
        let known = home.podctl(&["stop", "k", "--grace-period=0"]);
        assert!(known.status.success(), "after {} ms: {}", step * 2, stderr(&known));
    }
    assert!(home.said(&["get", "pods"]).contains("k "), "{}", home.said(&["get", "pods"]));
    // One whose client was killed in the midst of it stays away when the pod is deleted.
    assert!(home.podctl(&["delete", "k", "--now"]).status.success());
    assert!(!home.said(&["get", "pods"]).contains("k "), "{}", home.said(&["get", "pods"]));
    // A record without a lock yet may be somebody's who makes it; commands that come later sweep it.
    until("nothing is left", || home.said(&["get", "pods"]).is_empty() && home.traces().is_empty());
}

#[test]
fn pods_outlive_a_reboot_as_ended_ones() {
    let home = with_image();
    home.start(&pod("runs", "echo from before; echo x >/written; sleep 600"), &[]);
    home.start(&pod("stopped", "echo stopped; sleep 600"), &[]);
    until("it has written", || home.said(&["logs", "stopped"]) == "stopped\n");
    home.podctl(&["stop", "stopped", "--grace-period=1"]);
    home.start(&pod("third", "sleep 600"), &[]);
    until("it has written", || home.said(&["logs", "runs"]).contains("from before"));
    reboot(&home);
    let phase = |name: &str| home.pod(name)["status"]["phase"].as_str().unwrap_or_default().to_owned();
    assert_eq!(phase("runs"), "Failed");
    let runs = home.pod("runs");
    let ended = &runs["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&137.into(), &"ContainerStatusUnknown".into()));
    assert_eq!(home.said(&["logs", "runs"]), "from before\n");
    assert_eq!(home.said(&["logs", "stopped"]), "stopped\n");
    assert_eq!(names_in(&home.path("data/pods")).len(), 2, "what the living ones had");
    // One starts again, one name is used again, one is deleted.
    assert!(home.podctl(&["start", "stopped"]).status.success());
    home.start(&pod("runs", "cat /written; sleep 600"), &[]);
    assert!(home.podctl(&["delete", "third"]).status.success());
    assert_eq!((phase("stopped"), phase("runs")), ("Running".into(), "Running".into()));
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn directories_that_belong_to_no_pod_are_swept_by_the_next_command_and_others_stay() {
    let home = with_image();
    home.start(&pod("p", "echo hello; echo x >/kept; sleep 600"), &[]);
    home.start(&pod("q", "echo ended"), &[]);
    until("one has written", || home.in_pod("p", "cat /kept") == "x\n");
    until("the other has ended", || home.said(&["logs", "q"]) == "ended\n");
    let lost = [
        "data/pods/7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "data/logs/default_lost_7c9e6679-7425-40de-944b-e07fc1f90ae7",
    ];
    for dir in lost {
        fs::create_dir_all(home.path(dir).join("sub")).unwrap();
    }
    home.said(&["get", "pods"]);
    assert!(lost.iter().all(|dir| !home.path(dir).exists()));
    assert_eq!(home.in_pod("p", "cat /kept"), "x\n");
    assert_eq!(home.said(&["logs", "q"]), "ended\n");
}

#[test]
fn living_pods_of_an_older_podctl_are_neither_swept_nor_replaced() {
    let home = with_image();
    home.said(&["get", "pods"]);
    // As it had them: the record in the runtime directory.
    let uid = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
    let record = home.path("run/pods/default_old");
    let theirs =
        [format!("data/pods/{uid}"), format!("data/logs/default_old_{uid}")].map(|dir| home.path(&dir));
    theirs.iter().chain([&record]).for_each(|dir| fs::create_dir_all(dir.join("c")).unwrap());
    fs::write(record.join("pod.json"), format!("{{\"metadata\":{{\"name\":\"old\",\"uid\":\"{uid}\"}}}}"))
        .unwrap();
    let lock = fs::File::create(record.join("lock")).unwrap();
    lock.lock().unwrap();
    home.said(&["get", "pods"]);
    let refused = home.run(&pod("old", "sleep 600"), &["-d"]);
    assert!(!refused.status.success() && stderr(&refused).contains("older podctl"), "{}", stderr(&refused));
    assert!(theirs.iter().all(|dir| dir.exists()) && record.join("pod.json").exists());
    drop(lock);
    home.start(&pod("old", "sleep 600"), &[]);
    home.podctl(&["delete", "old", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

/// Says something to a pod's supervisor in the words of another version; returns what it answers.
fn say_in_other_version(home: &Home, request: &str) -> String {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket,
    };
    use std::os::fd::AsRawFd;
    let ours = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let path = home.path("run/pods/default_p/control.sock");
    connect(ours.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    let text = format!("{{\"version\":99,\"request\":{request}}}");
    send(ours.as_raw_fd(), text.as_bytes(), MsgFlags::empty()).unwrap();
    let mut answer = [0; 4096];
    let length = recv(ours.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn a_command_of_another_version_is_refused_with_words_and_can_end_the_pod() {
    let home = with_image();
    home.start(&pod("p", "sleep 600"), &[]);
    for request in ["\"Usage\"", "{\"Conjure\":{\"what\":1}}"] {
        let answer = say_in_other_version(&home, request);
        assert!(answer.contains("Refused") && answer.contains("another version of podctl"), "{answer}");
    }
    let answer = say_in_other_version(&home, "{\"Delete\":{\"grace_period\":null,\"later\":1}}");
    assert!(answer.contains("Started"), "{answer}");
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_damaged_record_hides_nothing_but_itself() {
    let home = with_image();
    home.start(&pod("other", "sleep 600"), &[]);
    for alive in [true, false] {
        home.start(&pod("g", "echo hi; sleep 600"), &[]);
        if !alive {
            home.podctl(&["stop", "g", "--grace-period=1"]);
        }
        fs::write(record(&home, "g").join("events.jsonl"), "x\n{\"half\n").unwrap();
        assert!(home.podctl(&["describe", "pod", "g"]).status.success());
        assert!(home.podctl(&["events"]).status.success());
        for text in
            ["{\"half", "{\"metadata\":{\"name\":\"g\",\"uid\":\"../../x\"},\"status\":{\"phase\":7}}"]
        {
            fs::write(record(&home, "g").join("pod.json"), text).unwrap();
            let shown = home.podctl(&["get", "pods"]);
            assert!(stdout(&shown).contains("other"), "{}", stderr(&shown));
            assert!(
                stderr(&shown).contains("pod.json") && stderr(&shown).contains("podctl delete --force g")
            );
        }
        let deleted = home.podctl(&["delete", "--force", "pod", "g"]);
        assert!(deleted.status.success(), "{}", stderr(&deleted));
        assert!(!record(&home, "g").exists());
    }
    // What lies there and is no record.
    fs::create_dir_all(home.path("run/pods/default_g")).unwrap();
    fs::create_dir_all(record(&home, "empty")).unwrap();
    fs::write(record(&home, "file"), "junk").unwrap();
    assert!(stdout(&home.podctl(&["get", "pods"])).contains("other"));
    assert!(!home.path("run/pods/default_g").exists(), "a command that lists names sweeps it");
    let deleted = home.podctl(&["delete", "--force", "pod", "empty"]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    home.start(&pod("file", "sleep 600"), &[]);
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_damaged_object_keeps_no_pod_from_starting_that_does_not_refer_to_it() {
    let home = with_image();
    for (kind, name) in [("configmap", "c"), ("secret", "s"), ("service", "v")] {
        let dir = home.path("data/objects/default").join(kind);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{name}.json")), "{").unwrap();
    }
    home.said(&["create", "configmap", "whole", "--from-literal=a=b"]);
    let shown = home.podctl(&["get", "configmap"]);
    assert!(stdout(&shown).contains("whole"), "{}", stderr(&shown));
    assert!(stderr(&shown).contains("c.json"), "{}", stderr(&shown));
    home.start(&pod("p", "sleep 600"), &[]);
    let refers = pod("r", "sleep 600") + "    envFrom: [{configMapRef: {name: c}}]\n";
    let refused = home.run(&refers, &["-d"]);
    assert!(!refused.status.success() && stderr(&refused).contains("\"c\""), "{}", stderr(&refused));
    for (kind, name) in [("configmap", "c"), ("secret", "s"), ("service", "v")] {
        let deleted = home.podctl(&["delete", kind, name]);
        assert!(deleted.status.success(), "{}", stderr(&deleted));
    }
}

#[test]
fn names_and_commands_are_as_long_as_kubernetes_and_the_kernel_allow() {
    let home = with_image();
    let name = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    let label = format!("labels: {{app: {name}}}");
    home.start(&pod(&name, "echo here; sleep 600").replace(&label, "labels: {app: x}"), &[]);
    until("it has written", || home.said(&["logs", &name]) == "here\n");
    assert!(home.said(&["get", "pods"]).contains(&name));
    let argument = "x".repeat(100_000);
    let mut exec = vec!["exec", &name, "--", "sh", "-c", "echo $#", "sh"];
    exec.extend([argument.as_str(); 19]);
    assert_eq!(home.said(&exec), "19\n");
    assert!(home.podctl(&["delete", &name, "--now"]).status.success());
    until("nothing is left", || home.traces().is_empty());
}

/// A file system of its own that is easily filled; only root can mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, size: &str) -> Option<SmallDisk> {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can mount a small disk");
            return None;
        }
        fs::create_dir_all(&at).unwrap();
        let options = format!("size={size},mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).status();
        assert!(mounted.unwrap().success());
        Some(SmallDisk(at))
    }

    fn fill(&self) {
        use std::io::Write;
        let mut ballast = fs::File::create(self.0.join(".ballast")).unwrap();
        for size in [4096, 1] {
            while ballast.write(&vec![0; size]).is_ok_and(|written| written > 0) {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join(".ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn how_a_pod_ends_on_a_full_disk_is_known_and_all_is_told_when_there_is_room() {
    let home = with_image();
    let Some(disk) = SmallDisk::mount(home.path("data/records"), "256k") else { return };
    let gate = home.path("gate");
    fs::create_dir(&gate).unwrap();
    let text = |name: &str, code: i32| {
        let script = format!("until test -e /gate/open; do sleep 0.05; done; exit {code}");
        pod(name, &script)
            + "    volumeMounts: [{name: gate, mountPath: /gate}]\n"
            + &format!("  volumes: [{{name: gate, hostPath: {{path: {}}}}}]\n", gate.display())
    };
    home.start(&text("detached", 3), &[]);
    let mut foreground = home.run_in_background(&text("foreground", 4));
    until("both run", || {
        home.of_role("supervise").len() == 2 && home.pod("foreground")["status"]["phase"] == "Running"
    });
    disk.fill();
    fs::write(gate.join("open"), "").unwrap();
    assert_eq!(foreground.wait().unwrap().code(), Some(4));
    until("its end is known", || home.pod("detached")["status"]["phase"] == "Failed");
    let ended = home.pod("detached");
    assert_eq!(ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    let refused = home.run(&pod("new", "exit 0"), &["-d"]);
    assert!(stderr(&refused).contains("No space left on device"), "{}", stderr(&refused));
    disk.free();
    home.start(&pod("new", "sleep 600"), &[]);
    home.podctl(&["delete", "--all", "--now"]);
    drop(disk);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_crash_loop_does_not_grow_what_is_kept_of_it() {
    let home = with_image();
    let text = pod("r", "echo run; exit 1").replace("restartPolicy: Never", "restartPolicy: Always");
    home.start(&text, &["--wait", "none", "--backoff-initial", "0.01", "--backoff-max", "0.01"]);
    let restarts = || home.pod("r")["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
    until("it has restarted often", || restarts() >= 150);
    let logs = names_in(&home.path("data/logs"));
    // Between the start of one and the removal of the last but one there are three for a moment.
    let kept = || names_in(&home.path("data/logs").join(&logs[0]).join("c")).len();
    until("only the last two logs are kept", || kept() <= 2);
    assert!(kept() <= 3, "{}", kept());
    assert_eq!(home.said(&["logs", "r", "--previous"]), "run\n");
    let events = fs::read_to_string(record(&home, "r").join("events.jsonl")).unwrap();
    assert!(events.lines().count() <= 130, "{}", events.lines().count());
    let count = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_i64();
    assert!(events.lines().filter_map(count).max().unwrap() >= 100);
    assert!(home.podctl(&["delete", "r", "--now"]).status.success());
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_replacement_that_cannot_start_leaves_the_pod_of_before_running() {
    let home = with_image();
    home.start(&pod("p", "echo old; sleep 600"), &[]);
    let uid = || home.pod("p")["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let before = uid();
    let wrong = pod("p", "sleep 600").replace("busybox:1.36", "localhost:1/none:1");
    let refused = home.run(&wrong, &["-d", "--replace"]);
    assert!(!refused.status.success());
    assert_eq!((uid(), home.pod("p")["status"]["phase"].as_str()), (before.clone(), Some("Running")));
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = format!("{}:80", taken.local_addr().unwrap().port());
    let refused = home.run(&pod("p", "sleep 600"), &["-d", "--replace", "-p", &port]);
    assert!(stderr(&refused).contains("in use"), "{}", stderr(&refused));
    assert_eq!((uid(), home.pod("p")["status"]["phase"].as_str()), (before.clone(), Some("Running")));
    drop(taken);
    let replaced = home.run(&pod("p", "echo new; sleep 600"), &["-d", "--replace", "-p", &port]);
    assert!(replaced.status.success(), "{}", stderr(&replaced));
    assert_ne!(uid(), before);
    let again = home.run(&pod("p", "echo newer; sleep 600"), &["-d", "--replace", "-p", &port]);
    assert!(again.status.success(), "its own port is in the way: {}", stderr(&again));
    assert!(!events(&home, "p").is_empty());
}

#[test]
fn a_supervisor_without_descriptors_for_all_that_connect_rests_and_answers_when_they_leave() {
    if geteuid().is_root() {
        eprintln!("skipped: root's containers are given more descriptors than this limit allows");
        return;
    }
    let home = with_image();
    let file = home.file("p.yaml", &pod("p", "sleep 600"));
    let begun = home.command(&["run", "-d", "--network", "none", &file]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(begun.get_program()).args(begun.get_args());
    limited.envs(begun.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(limited.stdin(Stdio::null()).status().unwrap().success());

    let socket = UnixAddr::new(&home.path("run/pods/default_p/control.sock")).unwrap();
    let connect = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let client = sock::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        sock::connect(client.as_raw_fd(), &socket).map(|()| client)
    };
    let idle: Vec<_> = (0..100).map_while(|_| connect().ok()).collect();
    assert!(idle.len() > 64, "{} have connected", idle.len());
    let [supervisor] = home.of_role("supervise")[..] else { panic!("one supervisor") };
    // Processor time in hundredths of a second, of the process and of the kernel for it.
    let used = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = used();
    std::thread::sleep(Duration::from_secs(2));
    assert!(used() - before < 50, "{} of 200 ticks while nobody asks for anything", used() - before);
    drop(idle);
    assert_eq!(home.in_pod("p", "echo there"), "there\n");
    home.podctl(&["delete", "p", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}
