//! One line of set-up for the end-to-end tests: a podctl with a home of its own.
// Each suite uses a part of it.
#![allow(dead_code)]

pub mod lab;
pub mod net;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// A user's podctl, whose pods and images no other test sees. Dropping it ends its pods.
pub struct Home {
    dir: tempfile::TempDir,
}

#[allow(dead_code)] // Each test file takes what it needs.
impl Home {
    pub fn new() -> Home {
        assert!(
            std::env::var_os("CONTAINERS_REGISTRIES_CONF").is_some(),
            "these tests need the test registry; run them with scripts/test"
        );
        Home { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let built = || env!("CARGO_BIN_EXE_podctl").into();
        let mut command = Command::new(std::env::var_os("PODCTL").unwrap_or_else(built));
        command.args(args).stdin(Stdio::null());
        command.env("PODCTL_RUNTIME_DIR", self.path("run")).env("PODCTL_DATA_DIR", self.path("data"));
        command
    }

    /// Runs to the end; at most a minute.
    pub fn podctl(&self, args: &[&str]) -> Output {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read = |mut from: Box<dyn std::io::Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                from.read_to_end(&mut bytes).unwrap();
                bytes
            })
        };
        let (stdout, stderr) = (read(Box::new(stdout)), read(Box::new(stderr)));
        let mut status = None;
        until(&format!("podctl {args:?} (process {pid}) ends"), || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        Output { status: status.unwrap(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    }

    /// Writes a manifest; gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// `podctl run FLAGS FILE` of that text.
    pub fn run(&self, text: &str, flags: &[&str]) -> Output {
        let file = self.file("pod.yaml", text);
        self.podctl(&[&["run"], flags, &[&file]].concat())
    }

    /// `podctl run -d FLAGS FILE` of that text, which succeeds.
    pub fn start(&self, text: &str, flags: &[&str]) -> Output {
        let output = self.run(text, &[&["-d"], flags].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        output
    }

    /// Returns what a command that succeeds prints.
    pub fn said(&self, args: &[&str]) -> String {
        let output = self.podctl(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    pub fn run_in_background(&self, text: &str) -> Child {
        let file = self.file("pod.yaml", text);
        self.command(&["run", &file]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Loads an image of this machine's busybox with these users and groups; `user` is its USER.
    pub fn load(&self, name: &str, user: &str, passwd: &str, group: &str) {
        self.load_image(name, user, &format!("printf '{passwd}' >etc/passwd; printf '{group}' >etc/group"));
    }

    /// Loads an image of this machine's busybox, its files as `prepare` leaves them: a shell script that runs in their
    /// directory. `user` is its USER, as JSON has it between quotes.
    pub fn load_image(&self, name: &str, user: &str, prepare: &str) {
        let script = "set -e; rm -rf layout files; mkdir -p layout/blobs/sha256 files/bin files/etc; cd layout
            put() { d=$(sha256sum <$1 | cut -d' ' -f1); s=$(stat -c %s $1); mv $1 blobs/sha256/$d; }
            cp $(command -v busybox) ../files/bin/
            for a in sh id cat ls head dd mknod mkdir rm wc grep stat echo; do ln -sf busybox ../files/bin/$a; done
            (cd ../files; eval \"$4\")
            tar -C ../files --owner=0 --group=0 -cf layer .; put layer; l=$d ls=$s
            printf '%s' '{\"os\":\"linux\",\"architecture\":\"'$1'\",\"config\":{\"User\":\"'\"$3\"'\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:'$l'\"]}}' >c; put c; c=$d cs=$s
            echo '{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:'$c'\",\"size\":'$cs'},\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:'$l'\",\"size\":'$ls'}]}' >m; put m
            echo '{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:'$d'\",\"size\":'$s',\"annotations\":{\"org.opencontainers.image.ref.name\":\"'$2'\"}}]}' >index.json";
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let mut sh = Command::new("sh");
        sh.args(["-c", script, "sh", arch, name, user, prepare]).current_dir(self.path(""));
        let made = sh.output().unwrap();
        assert!(made.status.success(), "{}", stderr(&made));
        let layout = self.path("layout").display().to_string();
        let loaded = self.podctl(&["load", "-i", &layout]);
        assert!(loaded.status.success(), "{}", stderr(&loaded));
    }

    /// The pod with its status, as `get -o json` has it.
    pub fn pod(&self, name: &str) -> serde_json::Value {
        let output = self.podctl(&["get", name, "-o", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The process that holds the pod's lock.
    pub fn supervisor(&self, name: &str) -> Option<i32> {
        let lock = self.path("data/records").join(format!("default_{name}/lock"));
        processes().into_iter().find(|pid| {
            let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            links.filter_map(|l| fs::read_link(l.path()).ok()).any(|to| to == lock)
        })
    }

    /// Everything of this home that a pod could leave: processes that name it or hold its files, mounts, files.
    pub fn traces(&self) -> Vec<String> {
        let home = self.dir.path().display().to_string();
        let mut found = Vec::new();
        for pid in processes() {
            let line =
                fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
            let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let holds = links
                .filter_map(|l| fs::read_link(l.path()).ok())
                .any(|to| to.starts_with(self.path("run")) || to.starts_with(self.path("data")));
            if line.contains(&home) || holds {
                found.push(format!("process {pid}: {line}"));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(mounts.lines().filter(|l| l.contains(&home)).map(|l| format!("mount {l}")));
        for part in
            ["run/pods", "data/records", "data/pods", "data/logs", "data/images/tmp", "data/images/leases"]
        {
            let entries = fs::read_dir(self.path(part)).into_iter().flatten().flatten();
            found.extend(entries.map(|e| e.path().display().to_string()));
        }
        found
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self
            .command(&["delete", "--all", "--force"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = self.command(&["rmi", "--all"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Waits for a condition; at most a minute.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "in vain waited until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns what the containers of a pod that succeeded wrote, without the prefix of their names.
pub fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
    stdout(output).lines().map(|l| l.split_once("| ").map_or(l, |(_, text)| text).to_owned()).collect()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A pod named `p`, its spec from `body`.
pub fn pod(body: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n{body}")
}

/// A busybox container that runs a line of shell, as an entry of a list.
pub fn shell(name: &str, script: &str) -> String {
    format!("  - name: {name}\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n")
}

/// A pod's events so far, `Killing: Stopping container a`.
pub fn events(home: &Home, pod: &str) -> Vec<String> {
    let path = home.path("data/records").join(format!("default_{pod}/events.jsonl"));
    let text = fs::read_to_string(path).unwrap_or_default();
    let events = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    events.map(|e| format!("{}: {}", e["reason"].as_str().unwrap(), e["message"].as_str().unwrap())).collect()
}
