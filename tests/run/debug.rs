//! Stepping into a running pod: exec, attach, debug, cp, port-forward, top; in a real terminal where one matters.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::common::{Home, stderr, stdout, until};
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: app
    image: busybox:1.36
    env: [{name: GREETING, value: hello}]
    workingDir: /tmp
    securityContext: {runAsUser: 1000, runAsGroup: 1000}
    ports: [{name: web, containerPort: 8080}]
    command: [sh, -c, 'mkdir /tmp/www; echo page > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www']
  - name: side
    image: busybox:1.36
    stdin: true
    command: [sh, -c, 'while read line; do echo got $line; done; sleep 1000']
    volumeMounts: [{name: v, mountPath: /v}]
";

fn started() -> Home {
    let home = Home::new();
    let output = home.run(POD, &["-d"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let there = ["exec", "-q", "p", "--", "wget", "-qO-", "http://127.0.0.1:8080"];
    until("the page is served", || stdout(&home.podctl(&there)) == "page\n");
    home
}

/// A podctl in a pseudo terminal of 33 rows and 77 columns.
struct Terminal {
    child: Child,
    master: OwnedFd,
    seen: String,
}

impl Terminal {
    fn new(home: &Home, args: &[&str]) -> Terminal {
        let size = Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = home.command(args);
        command.stdin(slave()).stdout(slave()).stderr(slave());
        // SAFETY: both are async-signal-safe system calls.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                Ok(())
            })
        };
        Terminal { child: command.spawn().unwrap(), master: pty.master, seen: String::new() }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.master).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    fn read(&mut self) {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(20u8)).unwrap_or(0) > 0 {
            let mut bytes = [0; 4096];
            if let Ok(n) = nix::unistd::read(&self.master, &mut bytes) {
                self.seen += &String::from_utf8_lossy(&bytes[..n]);
            }
        }
    }

    /// Reads until the words have come; forgets all up to them.
    fn expect(&mut self, words: &str) {
        let began = Instant::now();
        while !self.seen.contains(words) {
            assert!(began.elapsed() < Duration::from_secs(60), "{words:?} did not come: {:?}", self.seen);
            self.read();
        }
        let end = self.seen.find(words).unwrap() + words.len();
        self.seen.drain(..end);
    }

    fn write(&self, keys: &str) {
        nix::unistd::write(&self.master, keys.as_bytes()).unwrap();
    }

    fn resize(&self, ws_row: u16, ws_col: u16) {
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads one winsize.
        unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    }

    /// The exit code; its terminal must be as it was.
    fn end(mut self) -> Option<i32> {
        let mut status = None;
        until("the command in the terminal ends", || {
            self.read();
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(!self.is_raw(), "the terminal was left raw");
        status.unwrap().code()
    }
}

#[test]
fn exec_has_the_containers_identity_and_passes_the_exit_code_on() {
    let home = started();
    let exec = |command: &[&str]| home.podctl(&[&["exec", "p", "-q", "--"], command].concat());
    let line = "echo $GREETING $(pwd) $(id -u) $(id -g); grep -E 'Seccomp:|CapEff' /proc/self/status";
    let seen = stdout(&exec(&["sh", "-c", line]));
    assert!(seen.starts_with("hello /tmp 1000 1000\n"), "{seen}");
    assert!(seen.contains("CapEff:\t0000000000000000") && seen.contains("Seccomp:\t2"), "{seen}");
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(exec(&["sh", "-c", script]).status.code(), Some(code), "{script}");
    }
    assert_eq!(exec(&["no-such-program"]).status.code(), Some(127));
    assert!(stderr(&home.podctl(&["exec", "p", "ls"])).contains("is not supported anymore"));
    let defaulted = stderr(&home.podctl(&["exec", "pod/p", "--", "true"]));
    assert_eq!(defaulted, "Defaulted container \"app\" out of: app, side\n");
}

#[test]
fn exec_passes_standard_input_and_its_end() {
    let home = started();
    let mut child = home
        .command(&["exec", "-i", "p", "-c", "side", "--", "sh", "-c", "wc -c; echo end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&vec![b'x'; 1 << 20]).unwrap();
    let mut seen = String::new();
    child.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "1048576\nend\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn exec_it_has_a_terminal_of_our_size_and_control_c_reaches_the_process() {
    let home = started();
    let mut terminal = Terminal::new(&home, &["exec", "-it", "p", "-c", "side", "--", "sh"]);
    terminal.expect("# ");
    assert!(terminal.is_raw());
    terminal.write("stty size\n");
    terminal.expect("33 77");
    terminal.resize(44, 99);
    let began = Instant::now();
    while !terminal.seen.contains("44 99") {
        assert!(began.elapsed() < Duration::from_secs(60), "the new size did not arrive");
        terminal.write("stty size\n");
        (0..10).for_each(|_| terminal.read());
    }
    terminal.write("echo wait''ing; sleep 1000\n");
    terminal.expect("waiting\r\n");
    // A shell that is about to start its command may miss one.
    let began = Instant::now();
    while !terminal.seen.contains("# ") {
        assert!(began.elapsed() < Duration::from_secs(60), "Ctrl-C ended nothing");
        terminal.write("\x03");
        (0..10).for_each(|_| terminal.read());
    }
    terminal.write("exit 5\n");
    assert_eq!(terminal.end(), Some(5));
}

#[test]
fn a_killed_exec_restores_the_terminal_and_takes_its_process_along() {
    let home = started();
    let args = ["exec", "-it", "p", "-c", "side", "--", "sh", "-c", "echo up; sleep 4321"];
    let mut terminal = Terminal::new(&home, &args);
    terminal.expect("up");
    kill(Pid::from_raw(terminal.child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(terminal.end(), Some(143));
    let processes = ["exec", "-q", "p", "-c", "side", "--", "ps"];
    until("the process is gone", || !stdout(&home.podctl(&processes)).contains("sleep 4321"));
}

#[test]
fn a_thousand_execs_in_a_row_and_fifty_at_once() {
    let home = started();
    for at in 0..1000 {
        let status = home.command(&["exec", "-q", "p", "--", "true"]).status().unwrap();
        assert!(status.success(), "exec {at}");
    }
    let spawn = |at: usize| {
        let script = format!("exit {at}");
        home.command(&["exec", "-q", "p", "--", "sh", "-c", &script]).spawn().unwrap()
    };
    let children: Vec<Child> = (0..50).map(spawn).collect();
    for (at, mut child) in children.into_iter().enumerate() {
        assert_eq!(child.wait().unwrap().code(), Some(at as i32));
    }
    let supervisor = home.supervisor("p").unwrap();
    let open = || fs::read_dir(format!("/proc/{supervisor}/fd")).map_or(0, Iterator::count);
    until("the supervisor has closed what the execs needed", || open() < 40);
}

#[test]
fn r_eph_1_debug_sees_the_targets_processes_files_and_network() {
    let home = started();
    let args = [
        "debug",
        "-it",
        "p",
        "--image=busybox:1.36",
        "--target=side",
        "--profile=general",
        "-c",
        "dbg",
        "--env=A=b",
    ];
    let mut terminal = Terminal::new(&home, &args);
    terminal.expect("Targeting container \"side\".");
    terminal.expect("# ");
    terminal.write("ps; ls -d /proc/1/root/v; wget -qO- localhost:8080; netstat -tln; echo A=$A\n");
    for words in ["while read line", "/proc/1/root/v", "page", ":8080", "A=b"] {
        terminal.expect(words);
    }
    terminal.write("exit 3\n");
    assert_eq!(terminal.end(), Some(3));
    assert_eq!(home.pod("p")["spec"]["ephemeralContainers"][0]["targetContainerName"], "side");
    let status = || home.pod("p")["status"]["ephemeralContainerStatuses"][0].clone();
    until("its end is recorded", || status()["state"]["terminated"]["exitCode"] == 3);
    assert_eq!(status()["restartCount"], 0);
    assert_eq!(home.pod("p")["status"]["phase"], "Running");
    let again = home.podctl(&["debug", "p", "--image=busybox:1.36", "-c", "dbg"]);
    assert!(stderr(&again).contains("\"dbg\" exists already"), "{}", stderr(&again));
}

#[test]
fn r_eph_1_a_fast_debug_container_loses_no_output_and_custom_mounts_volumes() {
    let home = started();
    let custom = "volumeMounts: [{name: v, mountPath: /seen}]\nenv: [{name: X, value: z}]\n";
    let custom = home.file("custom.yaml", custom);
    let write = ["exec", "-q", "p", "-c", "side", "--", "sh", "-c", "echo kept > /v/file"];
    assert!(home.podctl(&write).status.success());
    let flags = ["debug", "p", "--attach", "-q", "--image=busybox:1.36", "--custom", &custom];
    let output = home.podctl(&[&flags[..], &["--", "sh", "-c", "cat /seen/file; echo $X"]].concat());
    assert_eq!(stdout(&output), "kept\nz\n", "{}", stderr(&output));
    for (fields, words) in [
        ("volumeMounts: [{name: v, mountPath: /seen, subPath: x}]", "subPath cannot be set"),
        ("volumeMounts: [{name: w, mountPath: /seen}]", "the pod has no volume \"w\""),
        ("envv: []", "custom.yaml:1:1: error: envv: unknown field \"envv\"\n  help: did you mean \"env\"?"),
        ("stdin: 1", "stdin: Invalid value: 1: must be of type boolean"),
        (
            "ports: [{containerPort: 80}]",
            "ports: is not supported: must not be set for an ephemeral container",
        ),
        ("image: busybox", "there is a flag for it"),
    ] {
        let bad = home.file("custom.yaml", &format!("{fields}\n"));
        let refused = home.podctl(&["debug", "p", "--image=busybox:1.36", "--custom", &bad]);
        assert!(!refused.status.success() && stderr(&refused).contains(words), "{}", stderr(&refused));
    }
}

#[test]
fn r_eph_1_a_debug_container_has_what_its_flags_and_custom_fields_say() {
    let home = Home::new();
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {A: map}\n";
    let side = "    stdin: true\n    envFrom: [{configMapRef: {name: c}}]\n";
    let output = home.run(&(POD.replace("    stdin: true\n", side) + map), &["-d"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let custom = "args: [b]
envFrom: [{configMapRef: {name: c}}]
stdinOnce: true
workingDir: /tmp
env: [{name: B, value: $(C)-env}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
securityContext: {runAsUser: 7, runAsGroup: 8}
terminationMessagePath: /tmp/last
terminationMessagePolicy: File
";
    let custom = home.file("custom.yaml", custom);
    let flags =
        ["debug", "p", "-i", "-q", "-c", "dbg", "--env=C=flag", "--image=busybox:1.36", "--custom", &custom];
    let script = "pwd; id -u; id -g; echo $0 $A $B $POD; cat; echo -n said > /tmp/last";
    let mut command = home.command(&[&flags[..], &["--", "sh", "-c", script]].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "/tmp\n7\n8\nb map flag-env p\ntyped\n", "{}", stderr(&output));
    let ended = || home.pod("p")["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"].clone();
    until("its last words are recorded", || ended()["message"] == "said");
}

#[test]
fn r_eph_2_copy_to_starts_a_changed_copy_of_a_pod_that_crash_loops() {
    let home = Home::new();
    let text = "apiVersion: v1
kind: Pod
metadata: {name: p, labels: {a: b}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, 'exit 3']
    livenessProbe: {exec: {command: ['false']}}
    envFrom: [{secretRef: {name: s}}]
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {WORD: secret}
";
    assert!(home.run(text, &["-d"]).status.success());
    let script = "echo $WORD; sleep 1000";
    let output = home.podctl(&["debug", "p", "--copy-to=copy", "-c", "app", "-q", "--", "sh", "-c", script]);
    assert!(output.status.success(), "{}", stderr(&output));
    until("the copy has its secret", || stdout(&home.podctl(&["logs", "copy"])) == "secret\n");
    let copy = home.pod("copy");
    assert!(copy["metadata"]["labels"].is_null() && copy["spec"]["containers"][0]["livenessProbe"].is_null());
}

#[test]
fn r_eph_2_without_an_image_debug_wants_one_and_an_absent_one_is_not_pulled_against_its_policy() {
    let home = started();
    let output = home.podctl(&["debug", "p"]);
    assert!(stderr(&output).contains("you must specify --image"), "{}", stderr(&output));
    let never = home.podctl(&["debug", "p", "--image=nowhere/none:1", "--image-pull-policy=Never"]);
    assert!(stderr(&never).contains("pull policy of Never"), "{}", stderr(&never));
}

#[test]
fn attach_shares_the_streams_and_the_log_goes_on() {
    let home = started();
    let mut child = home
        .command(&["attach", "-i", "p", "-c", "side"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    writeln!(input, "one").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got one");
    child.kill().unwrap();
    child.wait().unwrap();
    until("the log has it as well", || stdout(&home.podctl(&["logs", "p", "-c", "side"])) == "got one\n");
}

#[test]
fn with_stdin_once_a_containers_input_ends_with_its_first_clients() {
    let home = Home::new();
    let text = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {name: once, image: 'busybox:1.36', stdin: true, stdinOnce: true, command: [sh, -c, 'cat; echo ended']}
  - {name: more, image: 'busybox:1.36', stdin: true, command: [sh, -c, 'cat; echo ended']}
  - {name: none, image: 'busybox:1.36', command: [sh, -c, 'cat; echo ended']}
";
    let output = home.run(text, &["-d"]);
    assert!(output.status.success(), "{}", stderr(&output));
    for (container, words) in [("once", "one\n"), ("more", "two\n")] {
        let mut child = home
            .command(&["attach", "-i", "p", "-c", container])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        let log = || stdout(&home.podctl(&["logs", "p", "-c", container]));
        until("what was typed arrives", || log().starts_with(words));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let log = |container: &str| stdout(&home.podctl(&["logs", "p", "-c", container]));
    until("the input that is given once has ended", || log("once") == "one\nended\n");
    until("one that is not asked for is empty", || log("none") == "ended\n");
    assert_eq!(log("more"), "two\n");
}

#[test]
fn run_it_attaches_and_detach_keys_leave_the_container_running() {
    let home = Home::new();
    let text = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: app, image: 'busybox:1.36', command: [sh]}
";
    let file = home.file("pod.yaml", text);
    let mut terminal = Terminal::new(&home, &["run", "-it", &file]);
    terminal.expect("try pressing enter");
    terminal.write("\n");
    terminal.expect("# ");
    terminal.write("\x10\x11");
    assert_eq!(terminal.end(), Some(0));
    let mut terminal = Terminal::new(&home, &["attach", "-it", "p", "--detach-keys", "ctrl-x"]);
    terminal.expect("try pressing enter");
    terminal.write("echo a''gain\n");
    terminal.expect("again");
    terminal.write("\x18");
    assert_eq!(terminal.end(), Some(0));
    until("the log has it as well", || stdout(&home.podctl(&["logs", "p"])).contains("again"));
}

#[test]
fn cp_copies_both_ways_and_follows_no_hostile_link() {
    let home = started();
    let here = |name: &str| home.path(name).display().to_string();
    let side = |script: &str| home.podctl(&["exec", "-q", "p", "-c", "side", "--", "sh", "-c", script]);
    let cp = |from: &str, to: &str| home.podctl(&["cp", "-c", "side", from, to]);
    fs::create_dir_all(home.path("d/sub")).unwrap();
    fs::write(home.path("d/sub/file"), "text").unwrap();
    assert!(cp(&here("d"), "p:/v/d").status.success());
    assert_eq!(stdout(&side("cat /v/d/sub/file; stat -c %u /v/d/sub/file")), "text0\n");
    assert!(cp("p:/v/d", &here("back")).status.success());
    assert_eq!(fs::read_to_string(home.path("back/sub/file")).unwrap(), "text");
    assert!(cp("default/p:/v/d/sub/file", &here("back")).status.success());
    assert_eq!(fs::read_to_string(home.path("back/file")).unwrap(), "text");

    // Out of a hostile container: no link that leads out, nothing of a FIFO.
    side("mkdir /v/h; cd /v/h; ln -s /etc abs; ln -s ../../.. up; ln -s file ok; echo x > file; mkfifo fifo");
    let output = cp("p:/v/h", &here("h"));
    assert!(output.status.success(), "{}", stderr(&output));
    let mut names: Vec<_> = fs::read_dir(home.path("h")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["file", "ok"]);
    assert!(stderr(&output).contains("skipping symlink") && stderr(&output).contains("fifo"));

    // Into one: not through a link that lies there.
    fs::create_dir_all(home.path("h2/abs")).unwrap();
    fs::write(home.path("h2/abs/planted"), "x").unwrap();
    assert!(!cp(&here("h2/abs"), "p:/v/h/").status.success());
    assert!(!side("test -e /etc/planted").status.success());
}

#[test]
fn port_forward_leads_into_the_pod_and_keeps_half_closed_connections() {
    let home = started();
    let mut child = home
        .command(&["port-forward", "p", ":web", ":9"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut port = |remote: &str| loop {
        let line = lines.next().unwrap().unwrap();
        if let Some(rest) = line.strip_prefix("Forwarding from 127.0.0.1:")
            && let Some((port, to)) = rest.split_once(" -> ")
            && to == remote
        {
            return port.parse::<u16>().unwrap();
        }
    };
    let (web, closed) = (port("8080"), port("9"));
    let mut stream = TcpStream::connect(("127.0.0.1", web)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("page\n"), "{answer}");
    let mut stream = TcpStream::connect(("127.0.0.1", closed)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let error = errors.next().unwrap().unwrap();
    assert!(error.contains("error forwarding port 9 to pod p") && error.contains("refused"), "{error}");
    assert!(home.podctl(&["delete", "p"]).status.success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(errors.next().unwrap().unwrap().contains("lost connection to pod"));
}

#[test]
fn top_shows_pods_and_containers() {
    let home = started();
    let table = stdout(&home.podctl(&["top", "pod", "p", "--containers"]));
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]);
    assert_eq!((lines[1][0], lines[1][1], lines[2][1]), ("p", "app", "side"));
    assert!(lines[1][2].ends_with('m') && lines[1][3].ends_with("Mi"));
}
