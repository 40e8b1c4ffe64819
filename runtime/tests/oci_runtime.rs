//! The example runtime, as an engine calls it: with bundles, one process a command. Needs a static busybox.

use std::fs;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

#[path = "../examples/oci_runtime.rs"]
mod runtime;

/// A name and what to do with a bundle of a busybox.
type Case = (&'static str, fn(&Bundle));

const CASES: &[Case] = &[
    ("a_container_is_created_started_and_deleted", live_and_end),
    ("what_does_not_fit_the_state_is_refused", refuse_what_does_not_fit),
    ("a_container_that_cannot_be_made_leaves_nothing", leave_nothing),
    ("hooks_run_in_their_order_with_the_state", run_hooks),
    ("a_terminal_comes_through_the_console_socket", hand_out_terminal),
];

fn main() -> std::process::ExitCode {
    let first = std::env::args().nth(1);
    if first.as_deref() == Some("--root") {
        return runtime::main();
    }
    if !Path::new("/bin/busybox").exists() {
        println!("skipped: needs a static /bin/busybox");
        return std::process::ExitCode::SUCCESS;
    }
    let root = nix::unistd::geteuid().is_root();
    for (name, case) in CASES.iter().filter(|(name, _)| first.as_ref().is_none_or(|part| name.contains(part)))
    {
        for contained in [false, true].into_iter().filter(|contained| root || *contained) {
            println!("{name} ({})", if contained { "in a user namespace" } else { "as root" });
            case(&Bundle::new(contained));
        }
    }
    std::process::ExitCode::SUCCESS
}

struct Bundle {
    dir: tempfile::TempDir,
    contained: bool,
}

impl Bundle {
    fn new(contained: bool) -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in ["sh", "cat", "echo", "hostname", "sleep", "tty"] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        Bundle { dir, contained }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a configuration that runs one shell command.
    fn write(&self, command: &str, change: impl FnOnce(&mut Value)) {
        let mut namespaces = vec!["mount", "pid", "uts", "ipc", "network"];
        namespaces.extend(self.contained.then_some("user"));
        let namespaces: Vec<_> = namespaces.iter().map(|kind| json!({ "type": kind })).collect();
        let mut spec = json!({
            "ociVersion": "1.2.0",
            "hostname": "box",
            "root": { "path": "rootfs" },
            "process": {
                "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"],
                "args": ["sh", "-c", command], "noNewPrivileges": true,
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "devices" },
                { "destination": "/dev/pts", "type": "devpts", "options": ["newinstance", "ptmxmode=0666"] },
            ],
            "linux": { "namespaces": namespaces },
            "annotations": { "a": "b" },
        });
        if self.contained {
            let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            spec["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
            spec["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
        }
        change(&mut spec);
        fs::write(self.path("config.json"), spec.to_string()).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--root").arg(self.path("root")).args(words).current_dir(self.dir.path());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that has to work; returns what the container, or the command, wrote.
    fn succeed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refuse(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?} worked");
        String::from_utf8(output.stderr).unwrap()
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.succeed(&["state", "one"])).unwrap()
    }

    /// Creates it; returns where its output can be read.
    fn create(&self) -> std::process::ChildStdout {
        let mut command = self.command(&["create", "--pid-file", "pid", "one"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        child.stdout.take().unwrap()
    }

    /// Waits until it has stopped: for what it says of itself, there is no other word.
    fn await_stop(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.state()["status"] != "stopped" {
            assert!(Instant::now() < deadline, "{:#}", self.state());
            std::thread::yield_now();
        }
    }
}

fn read_all(mut output: impl Read) -> String {
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    text
}

fn live_and_end(bundle: &Bundle) {
    bundle.write("echo $(hostname) $$; cat /proc/mounts", |_| {});
    let output = bundle.create();
    let state = bundle.state();
    let pid = fs::read_to_string(bundle.path("pid")).unwrap();
    assert_eq!(state["status"], "created");
    assert_eq!((state["pid"].to_string(), &state["annotations"]), (pid, &json!({ "a": "b" })));
    assert_eq!(state["bundle"], bundle.dir.path().canonicalize().unwrap().to_str().unwrap());
    bundle.succeed(&["start", "one"]);
    let text = read_all(output);
    assert!(text.starts_with("box 1\n"), "{text}");
    assert!(text.contains("devices /dev tmpfs") && text.contains("devpts /dev/pts devpts"), "{text}");
    bundle.await_stop();
    assert_eq!(bundle.state()["pid"], Value::Null);
    bundle.succeed(&["delete", "one"]);
    assert!(bundle.refuse(&["state", "one"]).contains("container one does not exist"));
    assert_eq!(fs::read_dir(bundle.path("root")).unwrap().count(), 0);
}

fn refuse_what_does_not_fit(bundle: &Bundle) {
    bundle.write("sleep 1000", |_| {});
    for id in ["../one", "", ".", "a/b"] {
        assert!(bundle.refuse(&["create", id]).contains("is not a container's id"), "{id}");
    }
    let _output = bundle.create();
    assert!(bundle.refuse(&["create", "one"]).contains("File exists"));
    assert!(bundle.refuse(&["delete", "one"]).contains("is \"created\""));
    bundle.succeed(&["start", "one"]);
    assert!(bundle.refuse(&["start", "one"]).contains("running already"));
    assert!(bundle.refuse(&["kill", "one", "NONSENSE"]).contains("unknown signal"));
    assert_eq!(bundle.state()["status"], "running");
    bundle.succeed(&["kill", "one", "KILL"]);
    bundle.await_stop();
    assert!(bundle.refuse(&["start", "one"]).contains("has stopped"));
    assert!(bundle.refuse(&["kill", "one", "9"]).contains("has stopped"));
    bundle.succeed(&["delete", "one"]);
    let _output = bundle.create();
    bundle.succeed(&["delete", "--force", "one"]);
    assert_eq!(fs::read_dir(bundle.path("root")).unwrap().count(), 0);
}

fn leave_nothing(bundle: &Bundle) {
    bundle.write("true", |spec| {
        let mount = json!({ "destination": "/x", "type": "nothing", "source": "x" });
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    assert!(bundle.refuse(&["create", "one"]).contains("mount nothing on /x"));
    bundle.write("true", |spec| spec["process"]["args"] = json!(["missing"]));
    let _output = bundle.create();
    assert!(bundle.refuse(&["start", "one"]).contains("missing"));
    bundle.await_stop();
    bundle.succeed(&["delete", "one"]);
    assert_eq!(fs::read_dir(bundle.path("root")).unwrap().count(), 0);
}

fn run_hooks(bundle: &Bundle) {
    let hook = |name: &str| {
        let command = format!("echo {name} $(cat) >>{}", bundle.path("hooks").display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", command], "env": ["PATH=/usr/bin:/bin"] }])
    };
    bundle.write("true", |spec| {
        spec["hooks"] = json!({
            "createRuntime": hook("createRuntime"), "prestart": hook("prestart"),
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        });
    });
    let _output = bundle.create();
    bundle.succeed(&["start", "one"]);
    bundle.await_stop();
    bundle.succeed(&["delete", "one"]);
    let text = fs::read_to_string(bundle.path("hooks")).unwrap();
    let told: Vec<(&str, Value)> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, state)| (name, serde_json::from_str::<Value>(state).unwrap()["status"].clone()))
        .collect();
    let expected = [
        ("createRuntime", "created"),
        ("prestart", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    assert_eq!(told, expected.map(|(name, status)| (name, json!(status))));
}

fn hand_out_terminal(bundle: &Bundle) {
    bundle.write("tty; hostname", |spec| spec["process"]["terminal"] = json!(true));
    assert!(bundle.refuse(&["create", "one"]).contains("wants --console-socket"));
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    bundle.succeed(&["create", "--console-socket", "console", "one"]);
    let (socket, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let mut data = [IoSliceMut::new(&mut name)];
    let mut space = nix::cmsg_space!(i32);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut space), MsgFlags::empty()).unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
        panic!("no terminal came")
    };
    // SAFETY: it has just been received.
    let terminal = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    bundle.succeed(&["start", "one"]);
    let mut text = Vec::new();
    // A terminal whose last slave is closed ends with an error.
    let _ = fs::File::from(terminal).read_to_end(&mut text);
    assert_eq!(String::from_utf8_lossy(&text), "/dev/pts/0\r\nbox\r\n");
    bundle.await_stop();
    bundle.succeed(&["delete", "one"]);
}
