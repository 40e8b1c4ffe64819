//! Real containers: each case runs as a pod's supervisor does, as PID 1 of new namespaces: as root, in a user namespace
//! of its own, and in one that others made. Needs a static busybox, and a range of
//! subordinate ids where it does not run as root.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use podctl_runtime::{
    Cgroup, Container, Created, Entering, ExitStatus, IdMapping, IdMappings, OWN_MOUNT, Rootfs, Spawn,
    SpawnStdio, StartError, Stdio, create, defaults, exec, mount_layers, spawn,
};
use serde_json::{Value, json};

/// A name and what to do as the supervisor, with a directory of its own.
type Case = (&'static str, fn(&Path));

const CASES: &[Case] = &[
    ("a_container_runs_from_layers_and_its_exit_code_comes_back", exit_code),
    ("an_exec_joins_the_container_and_stays_a_child", exec_joins),
    ("only_the_standard_streams_are_inherited", no_leaked_fds),
    ("a_mount_point_of_several_missing_names_is_made", deep_mount_points),
    ("a_hostile_symlink_as_mount_target_stays_inside", hostile_symlink),
    ("the_user_and_its_capabilities_are_the_specs", identity),
    ("masked_paths_are_empty_and_readonly_paths_readonly", check_masks),
    ("a_missing_command_is_127_and_an_unusable_one_126", command_errors),
    ("a_terminal_comes_from_the_containers_devpts", terminal),
    ("a_failed_mount_names_the_step", failed_mount),
    ("a_cgroup_limits_counts_and_kills", cgroup),
    ("a_container_waits_for_its_turn", turn),
    ("any_number_of_layers_lies_in_any_directory", many_layers),
    ("a_directory_of_its_own_stays_writable_in_a_read_only_root", own_directories),
    ("containers_die_with_the_supervisor", check_death),
    ("seccomp_denies_what_the_default_profile_denies", seccomp),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, name, dir] = args.as_slice()
        && flag == "--supervisor"
    {
        let (_, case) = CASES.iter().find(|(known, _)| known == name).expect("a known case");
        return case(Path::new(dir));
    }
    if !Path::new("/bin/busybox").exists() {
        return println!("skipped: needs a static /bin/busybox");
    }
    let root = nix::unistd::geteuid().is_root();
    let wanted = args.iter().skip(1).find(|arg| !arg.starts_with('-'));
    let mut failed = 0;
    for (name, _) in CASES.iter().filter(|(name, _)| wanted.is_none_or(|part| name.contains(part.as_str()))) {
        let modes = [Mode::Root, Mode::UserNamespace, Mode::JoinedUserNamespace];
        for mode in modes.into_iter().filter(|mode| root || *mode != Mode::Root) {
            let status = supervise_test(name, mode);
            println!("{name} ({mode:?}): {status:?}");
            failed += i32::from(status != ExitStatus::Code(0));
        }
    }
    std::process::exit(failed.min(1));
}

/// Tells how the supervisor of a case comes by its privileges.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Root,
    UserNamespace,
    JoinedUserNamespace,
}

/// Runs a case in the namespaces of a supervisor.
fn supervise_test(name: &str, mode: Mode) -> ExitStatus {
    let dir = tempfile::tempdir().unwrap();
    let binary = std::env::current_exe().unwrap();
    let args =
        [binary.as_os_str().as_bytes(), b"--supervisor", name.as_bytes(), dir.path().as_os_str().as_bytes()]
            .map(|arg| CString::new(arg).unwrap());
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET;
    namespaces.set(CloneFlags::CLONE_NEWUSER, mode == Mode::UserNamespace);
    let map = |host_id, container_id, size| IdMapping { container_id, host_id, size };
    let ids = vec![map(0, 0, 1), map(100_000, 1, 65_535)];
    let mappings = if nix::unistd::geteuid().is_root() {
        IdMappings { uids: ids.clone(), gids: ids }
    } else {
        let (mappings, warning) = IdMappings::of_user().unwrap();
        assert_eq!(warning, None, "the tests need a range of ids");
        mappings
    };
    let env = [c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    let holder = Spawn {
        program: Path::new("/bin/busybox"),
        args: &[c"sleep".to_owned(), c"60".to_owned()],
        env: &env,
        namespaces: CloneFlags::CLONE_NEWUSER,
        id_mappings: Some(&mappings),
        join: &[],
        fds: &[],
        early: None,
        stdio: SpawnStdio::Null,
    };
    let holder = (mode == Mode::JoinedUserNamespace).then(|| spawn(&holder).unwrap());
    let user = holder.as_ref().map(|holder| File::open(format!("/proc/{}/ns/user", holder.pid)).unwrap());
    let join: Vec<_> = user.iter().map(|user| (user.as_fd(), CloneFlags::CLONE_NEWUSER)).collect();
    let process = spawn(&Spawn {
        program: &binary,
        args: &args,
        env: &env,
        namespaces,
        id_mappings: Some(&mappings),
        join: &join,
        fds: &[],
        early: None,
        stdio: SpawnStdio::Inherit,
    })
    .unwrap_or_else(|error| panic!("{error}"));
    let status = process.wait().unwrap();
    if let Some(holder) = holder {
        holder.signal(libc::SIGKILL).unwrap();
        holder.wait().unwrap();
    }
    status
}

/// A root file system of one busybox layer.
fn make_rootfs(dir: &Path) -> Rootfs {
    let make = |name: &str| {
        let path = dir.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let base = make("base");
    fs::create_dir_all(base.join("bin")).unwrap();
    fs::copy("/bin/busybox", base.join("bin/busybox")).unwrap();
    for applet in
        ["sh", "cat", "ls", "id", "echo", "sleep", "unshare", "touch", "hostname", "tty", "env", "stat"]
    {
        symlink("busybox", base.join("bin").join(applet)).unwrap();
    }
    Rootfs::Overlay { lower: vec![base, make("top")], upper: make("upper"), work: make("work") }
}

fn layer(dir: &Path) -> PathBuf {
    dir.join("top")
}

/// A spec as the caller of this crate writes it, for one shell command.
fn spec(command: &str) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "hostname": "box",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", command],
            "env": ["PATH=/bin"],
            "cwd": "/work/deep",
            "noNewPrivileges": true,
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "nodev", "noexec"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "nodev", "noexec"] },
        ],
        "linux": {
            "namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "uts" }, { "type": "cgroup" }],
            "maskedPaths": defaults::masked_paths(),
            "readonlyPaths": defaults::READONLY_PATHS,
        },
    })
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Streams whose output can be read back.
fn capture_output() -> (Stdio, File) {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let stdin = OwnedFd::from(File::open("/dev/null").unwrap());
    let stdio = Stdio::Streams { stdin, stdout: write.try_clone().unwrap(), stderr: write };
    (stdio, File::from(read))
}

fn start(dir: &Path, spec: Value) -> Result<(Container, File), StartError> {
    let (stdio, output) = capture_output();
    created(&parse(spec), &make_rootfs(dir), stdio, None).map(|container| (container, output))
}

/// A container whose program is executing.
fn created(
    spec: &oci_spec::runtime::Spec,
    rootfs: &Rootfs,
    stdio: Stdio,
    cgroup: Option<&Cgroup>,
) -> Result<Container, StartError> {
    execute_created(create(spec, None, rootfs, stdio, cgroup)?)
}

fn execute_created(mut created: Created) -> Result<Container, StartError> {
    created.start();
    loop {
        let mut fds = [PollFd::new(created.fd().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        if let Some(container) = created.outcome()? {
            return Ok(container);
        }
    }
}

/// An exec whose program is executing.
fn entered(mut entering: Entering) -> Container {
    loop {
        let mut fds = [PollFd::new(entering.fd().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        if let Some(container) = entering.outcome().unwrap() {
            return container;
        }
    }
}

/// Runs a container to its end: how it ended, what it wrote.
fn run(dir: &Path, spec: Value) -> (ExitStatus, String) {
    let (container, mut output) = start(dir, spec).unwrap_or_else(|error| panic!("{error}"));
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (container.process.wait().unwrap(), text)
}

fn exit_code(dir: &Path) {
    let (status, text) = run(dir, spec("echo $$ $(hostname) $PWD; touch /written; echo > /dev/null; exit 7"));
    assert_eq!((status, text.as_str()), (ExitStatus::Code(7), "1 box /work/deep\n"));
    let (status, _) = run(&dir.join("second"), spec("kill -9 $$; exit 3"));
    assert_eq!(status, ExitStatus::Code(3), "PID 1 does not die of its own signals");
}

fn many_layers(dir: &Path) {
    let odd = dir.join("o,d:d\\ =d\n");
    fs::create_dir(&odd).unwrap();
    let Rootfs::Overlay { mut lower, upper, work } = make_rootfs(&odd) else { unreachable!() };
    for number in 0..250 {
        let layer = odd.join(format!("{number:064}"));
        fs::create_dir_all(layer.join("many")).unwrap();
        fs::write(layer.join(format!("many/{number}")), "").unwrap();
        lower.push(layer);
    }
    let (stdio, mut output) = capture_output();
    let rootfs = Rootfs::Overlay { lower: lower.clone(), upper, work };
    let container = created(&parse(spec("echo /many/*")), &rootfs, stdio, None).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text.split_whitespace().count(), 250, "{text}");
    container.process.wait().unwrap();

    let (here, place) = (std::env::current_dir().unwrap(), dir.join("volume"));
    fs::create_dir(&place).unwrap();
    mount_layers(&lower, &place, libc::MS_NOEXEC).unwrap();
    assert_eq!(fs::read_dir(place.join("many")).unwrap().count(), 250);
    assert_eq!(std::env::current_dir().unwrap(), here);
}

fn own_directories(dir: &Path) {
    let data = layer(dir).join("data");
    fs::create_dir_all(&data).unwrap();
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    fs::write(data.join("seed"), "seed").unwrap();
    let mut spec = spec(
        "cat /data/seed; stat -c ' %a' /data; echo > /data/x && echo data; echo > /new/dir/x && echo new; echo > /y || echo y",
    );
    spec["root"] = json!({ "path": "rootfs", "readonly": true });
    let mounts = spec["mounts"].as_array_mut().unwrap();
    for path in ["/data", "/new/dir"] {
        mounts.push(json!({ "destination": path, "type": OWN_MOUNT, "source": OWN_MOUNT }));
    }
    let (status, text) = run(dir, spec);
    assert_eq!(status, ExitStatus::Code(0));
    let said: Vec<_> = text.lines().filter(|line| !line.contains("y:")).collect();
    assert_eq!(said, ["seed 750", "data", "new", "y"]);
}

fn exec_joins(dir: &Path) {
    let (container, _output) = start(dir, spec("echo > /started; sleep 1000")).unwrap();
    let process = parse(json!({
        "user": { "uid": 1000, "gid": 1000 }, "args": ["sh", "-c", "hostname; id -u; cat /proc/1/comm; exit 5"],
        "env": ["PATH=/bin"], "cwd": "/",
    }));
    let (stdio, mut output) = capture_output();
    let second = entered(exec(container.process.pidfd.as_fd(), &process, None, stdio, None).unwrap());
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(second.process.wait().unwrap(), ExitStatus::Code(5));
    assert!(text.starts_with("box\n1000\n"), "{text}");
    container.process.signal(libc::SIGKILL).unwrap();
    assert_eq!(container.process.wait().unwrap(), ExitStatus::Signal(libc::SIGKILL));
}

fn no_leaked_fds(dir: &Path) {
    let _leak = nix::fcntl::open("/", nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty()).unwrap();
    let mut spec = spec("");
    spec["process"]["args"] = json!(["ls", "/proc/self/fd"]);
    let (_, text) = run(dir, spec);
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "3 is ls's own");
}

fn deep_mount_points(dir: &Path) {
    let file = dir.join("file");
    fs::write(&file, "in a file").unwrap();
    let mut spec = spec("cat /var/log/deep/app/x /a/b/file; echo >/var/log/app/y && echo written");
    let source = dir.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("x"), "deep ").unwrap();
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.push(json!({ "destination": "/var/log/deep/app", "source": source, "options": ["bind", "ro"] }));
    mounts.push(json!({ "destination": "/a/b/file", "source": file, "options": ["bind"] }));
    mounts.push(json!({ "destination": "/var/log/app", "type": "tmpfs", "source": "tmpfs" }));
    let (status, text) = run(dir, spec);
    assert_eq!((status, text.as_str()), (ExitStatus::Code(0), "deep in a filewritten\n"));
}

fn hostile_symlink(dir: &Path) {
    let rootfs = make_rootfs(dir);
    let outside = dir.join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(format!("../../../../../..{}", outside.display()), layer(dir).join("data")).unwrap();
    let source = dir.join("source");
    fs::write(&source, "mounted").unwrap();
    let mut spec = spec("cat /data/file");
    let mount = json!({ "destination": "/data/file", "source": source, "options": ["bind", "ro"] });
    spec["mounts"].as_array_mut().unwrap().push(mount);
    let (stdio, mut output) = capture_output();
    let container = created(&parse(spec), &rootfs, stdio, None).unwrap_or_else(|error| panic!("{error}"));
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!((container.process.wait().unwrap(), text.as_str()), (ExitStatus::Code(0), "mounted"));
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

fn identity(dir: &Path) {
    let mut spec = spec("id -u; id -g; id -G; cat /proc/self/status");
    spec["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7] });
    spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
    });
    let (_, text) = run(dir, spec);
    assert!(text.starts_with("1000\n1001\n1001 7\n"), "{text}");
    for line in [
        "CapEff:\t0000000000000020",
        "CapBnd:\t0000000000000021",
        "CapAmb:\t0000000000000020",
        "NoNewPrivs:\t1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

fn check_masks(dir: &Path) {
    let (_, text) = run(
        dir,
        spec(
            "cat /proc/kcore | cat; ls /proc/acpi /sys/firmware; echo x > /proc/sys/kernel/domainname || echo denied",
        ),
    );
    assert!(text.ends_with("denied\n") && text.contains("Read-only"), "{text}");
}

fn command_errors(dir: &Path) {
    for (name, program, code) in [("a", "nowhere", 127), ("b", "/nowhere", 127), ("c", "/bin", 126)] {
        let mut spec = spec("");
        spec["process"]["args"] = json!([program]);
        let error = start(&dir.join(name), spec).unwrap_err();
        assert_eq!(error.exit_code(), Some(code), "{error}");
    }
}

fn terminal(dir: &Path) {
    let container =
        created(&parse(spec("tty; tty < /dev/console")), &make_rootfs(dir), Stdio::Terminal, None)
            .unwrap_or_else(|error| panic!("{error}"));
    let mut text = Vec::new();
    // A master whose other end is closed answers EIO, after all output.
    let _ = File::from(container.terminal.unwrap()).read_to_end(&mut text);
    assert!(text.starts_with(b"/dev/pts/0\r\n"), "{}", String::from_utf8_lossy(&text));
    assert_eq!(container.process.wait().unwrap(), ExitStatus::Code(0));
}

fn failed_mount(dir: &Path) {
    let mut spec = spec("");
    spec["mounts"][1]["options"] = json!(["nonsense=1"]);
    let error = start(dir, spec).unwrap_err();
    assert_eq!(error.exit_code(), None);
    assert!(error.to_string().starts_with("mount tmpfs on /dev: EINVAL"), "{error}");
}

fn seccomp(dir: &Path) {
    let filter =
        podctl_runtime::seccomp::docker_default(&defaults::CAPABILITIES.into_iter().collect()).unwrap();
    let (stdio, mut output) = capture_output();
    let spec = parse(spec("unshare -U true; echo $?"));
    let container =
        execute_created(create(&spec, Some(&filter), &make_rootfs(dir), stdio, None).unwrap()).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(container.process.wait().unwrap(), ExitStatus::Code(0));
    assert!(text.contains("Operation not permitted") && text.ends_with("1\n"), "{text}");
}

fn cgroup(dir: &Path) {
    let Ok(parent) = Cgroup::detect_parent() else { return println!("skipped: no cgroup can be written") };
    let cgroup =
        Cgroup::create(&parent, &format!("podctl-test-{}", dir.file_name().unwrap().display())).unwrap();
    let limits = parse(json!({ "memory": { "limit": 16 << 20 }, "pids": { "limit": 50 } }));
    let missing = cgroup.apply(&limits).unwrap();
    let (stdio, mut output) = capture_output();
    let container =
        created(&parse(spec("sleep 1000 & echo up; wait")), &make_rootfs(dir), stdio, Some(&cgroup)).unwrap();
    output.read_exact(&mut [0; 3]).unwrap();
    if missing.is_empty() {
        assert_eq!(cgroup.stats().pids, Some(2));
        assert!(cgroup.stats().memory > Some(0));
    }
    cgroup.kill().unwrap();
    assert_eq!(container.process.wait().unwrap(), ExitStatus::Signal(libc::SIGKILL));
    cgroup.remove().unwrap();
}

/// The one that waits for its turn has nothing open of its parent's, and goes when it is given up.
fn turn(dir: &Path) {
    let (stdio, mut output) = capture_output();
    let mut created = create(&parse(spec("echo up")), None, &make_rootfs(dir), stdio, None).unwrap();
    // The one of this PID namespace.
    let proc = dir.join("proc");
    fs::create_dir(&proc).unwrap();
    let none: Option<&str> = None;
    nix::mount::mount(Some("proc"), &proc, Some("proc"), nix::mount::MsFlags::empty(), none).unwrap();
    let number = |name: std::ffi::OsString| name.to_str()?.parse::<i32>().ok();
    let pids = || fs::read_dir(&proc).unwrap().flatten().filter_map(|entry| number(entry.file_name()));
    let pid = pids().find(|pid| created.is(nix::unistd::Pid::from_raw(*pid))).unwrap();
    let open = || fs::read_dir(proc.join(format!("{pid}/fd"))).unwrap().count();
    let deadline = Instant::now() + Duration::from_secs(10);
    // The standard streams, the pipe it reports through and the one that it waits for.
    while open() != 5 {
        assert!(Instant::now() < deadline, "it keeps what its parent had open");
        std::thread::yield_now();
    }
    assert!(created.outcome().unwrap().is_none(), "it does not run before its turn");
    let container = execute_created(created).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!((container.process.wait().unwrap(), text.as_str()), (ExitStatus::Code(0), "up\n"));

    let (stdio, mut output) = capture_output();
    drop(create(&parse(spec("echo up")), None, &make_rootfs(&dir.join("second")), stdio, None).unwrap());
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "up\n", "what is never told to start never does");
}

/// A supervisor that ends without a word takes its containers along: their output is closed.
fn check_death(dir: &Path) {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    // SAFETY: this process has one thread.
    if let nix::unistd::ForkResult::Child = unsafe { nix::unistd::fork() }.unwrap() {
        let stdin = OwnedFd::from(File::open("/dev/null").unwrap());
        let stdio = Stdio::Streams { stdin, stdout: write.try_clone().unwrap(), stderr: write };
        let container = created(&parse(spec("echo up; sleep 1000")), &make_rootfs(dir), stdio, None).unwrap();
        std::process::exit(i32::from(container.terminal.is_some()));
    }
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    assert!(text.is_empty() || text == "up\n", "{text}");
}
