//! An OCI runtime over podctl-runtime: create, start, state, kill, delete, so that suites made for such runtimes can judge
//! this crate. An example, not a product: a container is the child of a monitor, which lives as long as it does.
//!
//! ```text
//! oci_runtime [--root DIR] [--log FILE] create [--bundle DIR] [--pid-file FILE] [--console-socket SOCKET] ID
//! oci_runtime [--root DIR] start|state|delete [--force] ID
//! oci_runtime [--root DIR] kill ID [SIGNAL]
//! ```

use std::error::Error;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use oci_spec::runtime::{
    Hook, Linux, LinuxDeviceCgroup, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, Spec,
};
use podctl_runtime::{
    Cgroup, Created, DeviceFilter, ExitStatus, IdMapping, IdMappings, Process, Rootfs, Spawn, SpawnStdio,
    Stdio, create, defaults, seccomp, spawn,
};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Numbers of the descriptors that a monitor is handed.
const LISTENER: RawFd = 3;
const REPORT: RawFd = 4;

/// The words of a command line.
#[derive(Default)]
struct Request {
    root: Option<PathBuf>,
    log: Option<PathBuf>,
    bundle: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    console: Option<PathBuf>,
    force: bool,
    words: Vec<String>,
}

/// Does what the command line of this process says; returns its exit code.
pub fn main() -> ExitCode {
    let read = read_arguments(std::env::args().skip(1));
    let log = read.as_ref().ok().and_then(|request| request.log.clone());
    let Err(error) = read.and_then(|request| answer(&request)) else { return ExitCode::SUCCESS };
    eprintln!("oci_runtime: {error}");
    let line = json!({ "level": "error", "msg": error.to_string() });
    let log = log.and_then(|path| File::options().create(true).append(true).open(path).ok());
    // The same has been said on standard error.
    let _ = log.map(|mut log| writeln!(log, "{line}"));
    ExitCode::FAILURE
}

fn read_arguments(mut args: impl Iterator<Item = String>) -> Outcome<Request> {
    let mut request = Request::default();
    while let Some(arg) = args.next() {
        let (flag, mut value) = match arg.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => (flag.to_owned(), Some(value.to_owned())),
            _ => (arg, None),
        };
        let mut path = || value.take().or_else(|| args.next()).map(PathBuf::from);
        match flag.as_str() {
            "--root" => request.root = path(),
            "--log" => request.log = path(),
            // The log's lines are JSON, as everybody who asks for a format wants them.
            "--log-format" => drop(path()),
            "--bundle" | "-b" => request.bundle = path(),
            "--pid-file" => request.pid_file = path(),
            "--console-socket" => request.console = path(),
            "--force" | "-f" => request.force = true,
            flag if flag.starts_with("--") => return Err(format!("unknown flag {flag}").into()),
            _ => request.words.push(flag),
        }
    }
    Ok(request)
}

fn answer(request: &Request) -> Outcome {
    let words: Vec<_> = request.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["create", id] => create_container(request, &Place::find(request, id)?),
        ["monitor", id] => watch_container(request, &Place::find(request, id)?),
        ["start", id] => Place::find(request, id)?.ask("start"),
        ["state", id] => {
            println!("{:#}", Place::find(request, id)?.read_state()?);
            Ok(())
        }
        ["kill", id] => Place::find(request, id)?.kill("SIGTERM"),
        ["kill", id, signal] => Place::find(request, id)?.kill(signal),
        ["delete", id] => delete_container(&Place::find(request, id)?, request.force),
        _ => Err("usage: oci_runtime [--root DIR] create|start|state|kill|delete [FLAGS] ID".into()),
    }
}

/// The directory of a container, and what is in it.
struct Place {
    id: String,
    dir: PathBuf,
}

impl Place {
    /// The id becomes a directory's name, so it is checked as one.
    fn find(request: &Request, id: &str) -> Outcome<Place> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.len() > 200 || !id.chars().all(plain) || id.starts_with('.') {
            return Err(format!("{id:?} is not a container's id").into());
        }
        let runtime_dir = || std::env::var_os("XDG_RUNTIME_DIR").map_or("/run".into(), PathBuf::from);
        let root = request.root.clone().unwrap_or_else(|| runtime_dir().join("podctl-oci"));
        fs::create_dir_all(&root)?;
        Ok(Place { id: id.to_owned(), dir: fs::canonicalize(root)?.join(id) })
    }

    /// A short name for the socket in it: paths of sockets end at 107 bytes.
    fn open_socket_dir(&self) -> Outcome<(File, PathBuf)> {
        let dir = File::open(&self.dir).map_err(|_| format!("container {} does not exist", self.id))?;
        let path = format!("/proc/self/fd/{}/control", dir.as_raw_fd());
        Ok((dir, path.into()))
    }

    /// Says a word to the container's monitor, and hears whether it was done. There is none once the container has ended.
    fn ask(&self, word: &str) -> Outcome {
        let (_dir, path) = self.open_socket_dir()?;
        let mut monitor = UnixStream::connect(path)
            .map_err(|_| format!("container {} has stopped: it takes no {word}", self.id))?;
        writeln!(monitor, "{word}")?;
        let mut answer = String::new();
        monitor.read_to_string(&mut answer)?;
        match answer.trim() {
            "ok" => Ok(()),
            "" => Err(format!("the monitor of container {} is gone", self.id).into()),
            reason => Err(reason.into()),
        }
    }

    fn kill(&self, signal: &str) -> Outcome {
        let named = |name: &str| Signal::from_str(&format!("SIG{}", name.trim_start_matches("SIG")));
        let number = match signal.parse::<i32>() {
            Ok(number) => number,
            Err(_) => named(&signal.to_uppercase()).map_err(|_| format!("unknown signal {signal}"))? as i32,
        };
        self.ask(&format!("kill {number}"))
    }

    /// Kills it, and waits for its monitor to end.
    fn end(&self) -> Outcome {
        let (_dir, path) = self.open_socket_dir()?;
        if let Ok(mut monitor) = UnixStream::connect(path) {
            monitor.set_read_timeout(Some(Duration::from_secs(10)))?;
            writeln!(monitor, "end")?;
            monitor.read_to_end(&mut Vec::new())?;
        }
        Ok(())
    }

    /// The state as the runtime spec has it.
    fn read_state(&self) -> Outcome<Value> {
        let text = fs::read_to_string(self.dir.join("state.json"))
            .map_err(|_| format!("container {} does not exist", self.id))?;
        let mut state: Value = serde_json::from_str(&text)?;
        let (_dir, path) = self.open_socket_dir()?;
        if UnixStream::connect(path).is_err() {
            state["status"] = "stopped".into();
            // Its number may be another's by now.
            state.as_object_mut().and_then(|state| state.remove("pid"));
        }
        Ok(state)
    }

    fn write_state(&self, state: &Value) -> Outcome {
        let next = self.dir.join("state.next");
        fs::write(&next, state.to_string())?;
        Ok(fs::rename(next, self.dir.join("state.json"))?)
    }
}

fn read_spec(bundle: &Path) -> Outcome<Spec> {
    let path = bundle.join("config.json");
    let spec = Spec::load(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let version = spec.version();
    if !version.starts_with("1.") {
        return Err(format!("ociVersion: {version:?} is not a version 1").into());
    }
    let hooks = spec.hooks().as_ref();
    let inside = hooks.map(|hooks| [hooks.create_container(), hooks.start_container()]);
    if inside.iter().flatten().any(|hooks| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty())) {
        return Err("hooks.createContainer and hooks.startContainer are not run by this runtime".into());
    }
    Ok(spec)
}

/// Makes the container's directory and its monitor; returns once the container waits to be started.
fn create_container(request: &Request, place: &Place) -> Outcome {
    let bundle = fs::canonicalize(request.bundle.as_deref().unwrap_or(Path::new(".")))?;
    let spec = read_spec(&bundle)?;
    fs::create_dir(&place.dir).map_err(|error| format!("container {}: {error}", place.id))?;
    let made = start_monitor(request, place, &bundle, &spec);
    if made.is_err() {
        // What failed is said; a directory that stays takes nothing but its name.
        let _ = fs::remove_dir_all(&place.dir);
    }
    let pid = made?;
    match &request.pid_file {
        Some(file) => fs::write(file, pid.to_string()).map_err(Into::into),
        None => Ok(()),
    }
}

fn start_monitor(request: &Request, place: &Place, bundle: &Path, spec: &Spec) -> Outcome<i32> {
    let (_dir, path) = place.open_socket_dir()?;
    let listener = UnixListener::bind(path)?;
    let (report, its_report) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let program = fs::canonicalize("/proc/self/exe")?;
    let text = |path: &Path| path.display().to_string();
    let mut args = vec!["oci_runtime".to_owned()];
    args.extend(["--root".into(), text(place.dir.parent().unwrap_or(Path::new("/")))]);
    args.extend(["--bundle".into(), text(bundle)]);
    if let Some(socket) = &request.console {
        args.extend(["--console-socket".into(), text(&fs::canonicalize(socket)?)]);
    }
    args.extend(["monitor".into(), place.id.clone()]);
    let args = args.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>()?;
    let linux = spec.linux().as_ref();
    let users = list_namespaces(linux).any(|kind| kind == LinuxNamespaceType::User);
    let ids = IdMappings {
        uids: read_mappings(linux.and_then(|linux| linux.uid_mappings().as_deref())),
        gids: read_mappings(linux.and_then(|linux| linux.gid_mappings().as_deref())),
    };
    if let Some(owner) = ids.uids.iter().find(|ids| users && ids.container_id == 0) {
        // The monitor is root of the namespace only, and it keeps the state.
        std::os::unix::fs::chown(&place.dir, Some(owner.host_id), None)?;
    }
    spawn(&Spawn {
        program: &program,
        args: &args,
        env: &[c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        // Who owns no mounts can take none of the host's devices into a container.
        namespaces: if users {
            CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS
        } else {
            CloneFlags::empty()
        },
        id_mappings: users.then_some(&ids),
        early: None,
        join: &[],
        fds: &[(listener.as_fd(), LISTENER), (its_report.as_fd(), REPORT)],
        stdio: SpawnStdio::Inherit,
    })?;
    drop((listener, its_report));
    let mut said = String::new();
    File::from(report).read_to_string(&mut said)?;
    said.trim().parse().map_err(|_| {
        let reason = if said.is_empty() { "its monitor has died" } else { said.trim() };
        format!("container {}: {reason}", place.id).into()
    })
}

fn list_namespaces(linux: Option<&Linux>) -> impl Iterator<Item = LinuxNamespaceType> {
    linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten().map(|namespace| namespace.typ())
}

fn read_mappings(mappings: Option<&[LinuxIdMapping]>) -> Vec<IdMapping> {
    let read = |ids: &LinuxIdMapping| IdMapping {
        container_id: ids.container_id(),
        host_id: ids.host_id(),
        size: ids.size(),
    };
    mappings.unwrap_or_default().iter().map(read).collect()
}

/// What a monitor knows of its container.
struct Watched<'a> {
    place: &'a Place,
    spec: &'a Spec,
    state: Value,
    /// Until it is started.
    created: Option<Created>,
    process: Process,
    /// Whoever waits for the monitor's end.
    waiting: Vec<UnixStream>,
}

/// Is the container's parent from its creation to its end.
fn watch_container(request: &Request, place: &Place) -> Outcome {
    // SAFETY: who starts a monitor hands it these two; nobody else in this process has them.
    let (listener, mut report) = unsafe { (UnixListener::from_raw_fd(LISTENER), File::from_raw_fd(REPORT)) };
    let bundle = request.bundle.as_deref().unwrap_or(Path::new("."));
    let spec = read_spec(bundle)?;
    let made = make_cgroup(place, &spec).and_then(|cgroup| {
        make_container(request, place, bundle, &spec, cgroup.as_ref()).map(|watched| (cgroup, watched))
    });
    let (cgroup, mut watched) = match made {
        Ok(made) => made,
        Err(error) => return Ok(write!(report, "{error}")?),
    };
    write!(report, "{}", watched.process.pid)?;
    drop(report);
    serve_commands(listener, &mut watched)?;
    if let Some(cgroup) = cgroup {
        cgroup.kill()?;
        cgroup.remove()?;
    }
    Ok(())
}

/// The cgroup has the last name of `linux.cgroupsPath`, or the container's id. Where none can be made, that is said if the
/// container has limits.
fn make_cgroup(place: &Place, spec: &Spec) -> Outcome<Option<Cgroup>> {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let wanted = linux.and_then(|linux| linux.cgroups_path().as_ref()).and_then(|path| path.file_name());
    let name = wanted.and_then(|name| name.to_str()).unwrap_or(&place.id);
    let parent = match Cgroup::detect_parent() {
        Ok(parent) => parent,
        Err(reason) => {
            if resources.is_some() {
                eprintln!("oci_runtime: no limits: {reason}");
            }
            return Ok(None);
        }
    };
    let cgroup = Cgroup::create(&parent, name)?;
    if let Some(resources) = resources {
        for field in cgroup.apply(resources)? {
            eprintln!("oci_runtime: {field} cannot be enforced here");
        }
        let rules = list_device_rules(spec);
        if !rules.is_empty() && !cgroup.restrict_devices(&DeviceFilter::new(&rules))? {
            eprintln!("oci_runtime: linux.resources.devices cannot be enforced here");
        }
    }
    Ok(Some(cgroup))
}

/// What the spec's cgroup says of devices, and the devices that its container has by itself or by name.
fn list_device_rules(spec: &Spec) -> Vec<LinuxDeviceCgroup> {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let mut rules = resources.and_then(|resources| resources.devices().clone()).unwrap_or_default();
    if rules.is_empty() {
        return rules;
    }
    let mut allow = |typ, major, minor, access: &str| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true).set_typ(Some(typ)).set_major(major).set_minor(minor);
        rule.set_access(Some(access.to_owned()));
        rules.push(rule);
    };
    allow(LinuxDeviceType::C, None, None, "m");
    allow(LinuxDeviceType::B, None, None, "m");
    for (_, major, minor) in defaults::DEVICES {
        allow(LinuxDeviceType::C, Some(i64::from(major)), Some(i64::from(minor)), "rwm");
    }
    // Terminals: /dev/ptmx and all of /dev/pts.
    allow(LinuxDeviceType::C, Some(5), Some(2), "rwm");
    allow(LinuxDeviceType::C, Some(136), None, "rwm");
    for device in linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default() {
        allow(device.typ(), Some(device.major()), Some(device.minor()), "rwm");
    }
    rules
}

fn make_container<'a>(
    request: &Request,
    place: &'a Place,
    bundle: &Path,
    spec: &'a Spec,
    cgroup: Option<&Cgroup>,
) -> Outcome<Watched<'a>> {
    let linux = spec.linux().as_ref();
    let filter = linux.and_then(|linux| linux.seccomp().as_ref()).map(seccomp::compile).transpose()?;
    let terminal = spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true));
    let stdio = match (terminal, &request.console) {
        (true, Some(_)) => Stdio::Terminal,
        (true, None) => return Err("process.terminal wants --console-socket".into()),
        (false, Some(_)) => return Err("--console-socket wants process.terminal".into()),
        (false, None) => Stdio::Streams {
            stdin: std::io::stdin().as_fd().try_clone_to_owned()?,
            stdout: std::io::stdout().as_fd().try_clone_to_owned()?,
            stderr: std::io::stderr().as_fd().try_clone_to_owned()?,
        },
    };
    let root = spec.root().as_ref().ok_or("root: is missing")?;
    let rootfs = Rootfs::Directory(fs::canonicalize(bundle.join(root.path()))?);
    let mut created = create(&without_user_namespace(spec), filter.as_ref(), &rootfs, stdio, cgroup)?;
    while !created.is_made() {
        await_input(&[created.fd().as_fd()], PollTimeout::NONE)?;
        if created.outcome()?.is_some() {
            return Err("it has ended before it was started".into());
        }
    }
    if let (Some(socket), Some(terminal)) = (&request.console, created.take_terminal()?) {
        send_terminal(socket, &terminal)?;
    }
    let pid = created.pid().ok_or("it has no process")?;
    let state = json!({
        "ociVersion": spec.version(), "id": place.id, "status": "created", "pid": pid.as_raw(),
        "bundle": bundle, "annotations": spec.annotations().clone().unwrap_or_default(),
    });
    for hook in spec.hooks().iter().filter_map(|hooks| hooks.create_runtime().as_ref()).flatten() {
        run_hook(hook, &state)?;
    }
    place.write_state(&state)?;
    // Whoever reads what the container writes shall see its end, not the monitor's.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(Watched {
        place,
        spec,
        state,
        created: Some(created),
        process: Process::of_child(pid)?,
        waiting: Vec::new(),
    })
}

/// The monitor is in the user namespace already; what is made from there belongs to it.
fn without_user_namespace(spec: &Spec) -> Spec {
    let mut inner = spec.clone();
    if let Some(mut linux) = spec.linux().clone() {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::User);
        linux.set_namespaces(Some(namespaces));
        inner.set_linux(Some(linux));
    }
    inner
}

/// Waits until one of these has something to say; tells which.
fn await_input(fds: &[BorrowedFd<'_>], timeout: PollTimeout) -> Outcome<Vec<bool>> {
    let mut polled: Vec<_> = fds.iter().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    while let Err(errno) = poll(&mut polled, timeout) {
        if errno != nix::errno::Errno::EINTR {
            return Err(errno.into());
        }
    }
    Ok(polled.iter().map(|fd| fd.any() == Some(true)).collect())
}

fn send_terminal(socket: &Path, terminal: &OwnedFd) -> Outcome {
    let socket = UnixStream::connect(socket)?;
    let (fds, name) = ([terminal.as_raw_fd()], [IoSlice::new(b"/dev/ptmx")]);
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(socket.as_raw_fd(), &name, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Does what is asked of the container until it ends. Nobody listening is what tells that it has.
fn serve_commands(listener: UnixListener, watched: &mut Watched<'_>) -> Outcome {
    loop {
        let ready = await_input(&[watched.process.pidfd.as_fd(), listener.as_fd()], PollTimeout::NONE)?;
        if ready[0] && watched.process.try_wait()?.is_some() {
            return Ok(());
        }
        if ready[1] {
            let (mut client, _) = listener.accept()?;
            client.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut word = String::new();
            // Who says nothing wanted to know whether somebody is here.
            if BufReader::new(&client).read_line(&mut word).is_err() || word.is_empty() {
                continue;
            }
            if word.trim() == "end" {
                watched.process.signal(libc::SIGKILL)?;
                watched.waiting.push(client);
            } else {
                let answer =
                    obey(watched, word.trim()).map_or_else(|error| error.to_string(), |()| "ok".into());
                // Who asked may be gone.
                let _ = write!(client, "{answer}");
            }
        }
    }
}

fn obey(watched: &mut Watched<'_>, word: &str) -> Outcome {
    if let Some(signal) = word.strip_prefix("kill ") {
        return Ok(watched.process.signal(signal.parse()?)?);
    }
    let mut created = watched.created.take().ok_or("it is running already")?;
    let hooks = watched.spec.hooks().as_ref();
    #[allow(deprecated)]
    for hook in hooks.and_then(|hooks| hooks.prestart().as_ref()).into_iter().flatten() {
        if let Err(error) = run_hook(hook, &watched.state) {
            created.kill();
            return Err(error);
        }
    }
    created.start();
    let container = loop {
        if let Some(container) = created.outcome()? {
            break container;
        }
        await_input(&[created.fd().as_fd()], PollTimeout::NONE)?;
    };
    watched.process = container.process;
    watched.state["status"] = "running".into();
    watched.state["pid"] = watched.process.pid.as_raw().into();
    watched.place.write_state(&watched.state)?;
    for hook in watched.spec.hooks().iter().filter_map(|hooks| hooks.poststart().as_ref()).flatten() {
        run_hook(hook, &watched.state)?;
    }
    Ok(())
}

/// Runs a hook of the spec with the state on its standard input; one that takes too long is killed.
fn run_hook(hook: &Hook, state: &Value) -> Outcome {
    let failed = |why: String| format!("hook {}: {why}", hook.path().display());
    let mut command = std::process::Command::new(hook.path());
    if let Some((name, others)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(others);
    }
    let variables = hook.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    command.env_clear().envs(variables).stdin(std::process::Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    // One that does not read it may have ended already.
    let _ = child.stdin.take().map(|mut stdin| write!(stdin, "{state}"));
    let process = Process::of_child(Pid::from_raw(child.id().try_into()?))?;
    let timeout = hook.timeout().map_or(PollTimeout::NONE, |seconds| {
        PollTimeout::try_from(Duration::from_secs(seconds.unsigned_abs())).unwrap_or(PollTimeout::MAX)
    });
    if !await_input(&[process.pidfd.as_fd()], timeout)?[0] {
        process.signal(libc::SIGKILL)?;
    }
    match process.wait()? {
        ExitStatus::Code(0) => Ok(()),
        ended => Err(failed(format!("{ended:?}")).into()),
    }
}

/// Only what has stopped is deleted, unless it is forced: then it is killed first.
fn delete_container(place: &Place, force: bool) -> Outcome {
    let state = match place.read_state() {
        Err(_) if force => return Ok(()),
        state => state?,
    };
    if state["status"] != "stopped" {
        if !force {
            return Err(format!("container {} is {}", place.id, state["status"]).into());
        }
        place.end()?;
    }
    let bundle = PathBuf::from(state["bundle"].as_str().unwrap_or_default());
    let hooks = read_spec(&bundle).ok().and_then(|spec| spec.hooks().clone());
    fs::remove_dir_all(&place.dir)?;
    for hook in hooks.iter().filter_map(|hooks| hooks.poststop().as_ref()).flatten() {
        // The container is deleted all the same.
        run_hook(hook, &state).unwrap_or_else(|error| eprintln!("oci_runtime: {error}"));
    }
    Ok(())
}
