//! The network's way to the outside, kept by a thread of the keeper: root's is a link to the host's
//! namespace; where that does not work, and for ordinary users, it is pasta, else slirp4netns.
//!
//! The keeper is PID 1 of a PID namespace: a daemon that ends is its child then, and ends with it.

use std::{
    fs::File,
    io::{Error, ErrorKind, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        socket::{MsgFlags, recv},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::sync::watch;

use super::{
    address_range::Range,
    namespace_thread::forward_from,
    root_uplink::{Changes, Host},
};
use crate::outer_container::{Need, say_mend_here};

/// The link that leads outside, in the network's namespace.
pub const NAME: &str = "uplink";

/// Tells whether the outside can be reached, once that is known; else what is wrong.
pub type Known = Option<Result<(), String>>;

/// The time for which pasta is held once its link stands: what it goes on with, to prepare its memory, keeps a processor busy for
/// 20 ms, while the containers of the pod that waited for the link want to start. Packets wait in the link's queue.
const HELD: Duration = Duration::from_millis(15);

const WITHOUT: &str = "no network beyond the pods";

/// Holds what is to be joined to the outside.
#[derive(Debug)]
pub struct Within {
    /// The network's namespace.
    pub namespace: Arc<OwnedFd>,
    /// Hears of the IPv4 routes that are made in it.
    pub routes: OwnedFd,
    /// The network's addresses.
    pub range: Range,
    /// Tells whether it has IPv6.
    pub v6: bool,
    /// Ends when this process is in a scope of its own, where there may be one: the helper is to be born in it.
    pub scope: Option<OwnedFd>,
}

/// The time for which the scope is waited for, in milliseconds; its guard waits a little less.
const SCOPED: u16 = 12_000;

/// Keeps a way open. Returns only when there is none to be had.
pub fn keep(within: &Within, host: Option<&Host>, tell: &watch::Sender<Known>) {
    let v6 = within.v6;
    let why = host.map(|host| {
        let set_up = Changes::listen().map_err(|e| e.to_string()).and_then(|c| Ok((c, host.set_up(v6)?)));
        let why = match set_up {
            Ok((changes, warning)) => {
                tell.send_replace(Some(warning.map_or(Ok(()), Err)));
                host.watch(v6, &changes)
            }
            Err(why) => why,
        };
        host.leave();
        why
    });
    start_helper(within, why.as_deref(), tell);
}

/// Starts the helper and starts it again whenever it ends; returns only when there is none to start. `why` says what
/// the host has against a link.
fn start_helper(within: &Within, why: Option<&str>, tell: &watch::Sender<Known>) {
    let why = why.map(|why| format!("; {why}")).unwrap_or_default();
    if let Some(scope) = &within.scope {
        // A helper that is born outside of the scope ends with somebody else's unit, and is replaced then.
        let _ = poll(&mut [PollFd::new(scope.as_fd(), PollFlags::POLLIN)], SCOPED);
    }
    loop {
        // A link that forwards nothing is no reason to end the helper: pods are told, and reach each other.
        let forwards = || forward_from(&within.namespace, NAME).map_err(|e| format!("{WITHOUT}: {e}"));
        let works = || drop(tell.send_replace(Some(forwards())));
        let outcome = start_pasta(within, works).or_else(|e| match e.kind() {
            ErrorKind::NotFound => start_slirp4netns(&within.namespace),
            _ => Err(e),
        });
        match outcome {
            Ok(()) => {
                tell.send_replace(Some(forwards()));
                while waitpid(None, None)
                    .is_ok_and(|s| !matches!(s, WaitStatus::Exited(..) | WaitStatus::Signaled(..)))
                {
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let words = "neither pasta (package passt) nor slirp4netns is installed";
                tell.send_replace(Some(Err(format!("{WITHOUT}: {words}{why}"))));
                return;
            }
            Err(e) => {
                tell.send_replace(Some(Err(format!("{WITHOUT}: {e}{why}"))));
            }
        }
        // One that fails each time must not keep the machine busy.
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// pasta leaves the foreground when it is ready. The link `works` before: what is sent meanwhile waits in its queue.
fn start_pasta(within: &Within, works: impl FnOnce()) -> Result<(), Error> {
    let fd = within.namespace.as_raw_fd();
    let [gateway, own] = within.range.uplink_addresses().map(|a| a.to_string());
    let start = |program: &str| {
        let mut pasta = Command::new(program);
        pasta.args(["--config-net", "--quiet", "--ns-ifname", NAME, "--no-netns-quit", "--no-map-gw"]);
        pasta.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
        // Left to itself it takes the host's own address, which no pod could reach then.
        pasta.args(["--address", &own, "--netmask", "30", "--gateway", &gateway]);
        // The keeper is root of the namespaces already, and they have no name that pasta could open later.
        pasta.args(["--runas", "0", "--netns-only", "--netns", &format!("/proc/self/fd/{fd}")]);
        inherit_descriptor(&mut pasta, fd);
        pasta.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    let mut pasta = match start(pasta_variant()) {
        Err(e) if e.kind() == ErrorKind::NotFound => start("pasta")?,
        started => started?,
    };
    if let Some(stderr) = &mut pasta.stderr
        && default_route(&within.routes, stderr)
    {
        let pid = Pid::from_raw(pasta.id() as i32);
        // Held before the pod hears of it; it is not waited for yet, so the number is its own.
        let held = kill(pid, Signal::SIGSTOP);
        works();
        if held.is_ok() {
            std::thread::sleep(HELD);
            kill(pid, Signal::SIGCONT)?;
        }
    }
    let output = podctl_runtime::collect_output(pasta)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words: Vec<&str> = words.lines().filter(|l| !l.contains("syslog")).collect();
    let tun = File::options().read(true).write(true).open("/dev/net/tun").err();
    let tun = tun.map(|e| match e.kind() {
        ErrorKind::NotFound => format!(" (there is no /dev/net/tun{})", say_mend_here(Need::Tun)),
        _ => format!(" (/dev/net/tun cannot be opened: {e}; its usual mode is 0666)"),
    });
    Err(Error::other(format!("pasta: {}{}", words.join("; "), tun.unwrap_or_default())))
}

/// pasta executes the build for this processor in its own place; to start that at once spares an exec.
fn pasta_variant() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        return "pasta.avx2";
    }
    "pasta"
}

/// Waits for a default route; `false` when the helper lets go of its error output before there is one.
fn default_route(routes: &OwnedFd, stderr: &impl AsFd) -> bool {
    let mut message = [0; 4096];
    loop {
        let mut fds =
            [PollFd::new(routes.as_fd(), PollFlags::POLLIN), PollFd::new(stderr.as_fd(), PollFlags::empty())];
        if poll(&mut fds, PollTimeout::NONE).is_err_and(|e| e != Errno::EINTR) || fds[1].any() == Some(true) {
            return false;
        }
        while let Ok(read) = recv(routes.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
            // After the message's header its route's: the address family, then how long its destination is.
            let kind = message.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
            if read > 17 && kind == Some(libc::RTM_NEWROUTE) && message[17] == 0 {
                return true;
            }
        }
    }
}

/// slirp4netns stays a child and says through a pipe that the link stands.
fn start_slirp4netns(namespace: &OwnedFd) -> Result<(), Error> {
    let fd = namespace.as_raw_fd();
    let (read, write) = pipe()?;
    let mut slirp = Command::new("slirp4netns");
    slirp.args(["--configure", "--enable-ipv6", "--disable-host-loopback", "--netns-type=path"]);
    slirp.arg(format!("--ready-fd={}", write.as_raw_fd())).arg(format!("/proc/self/fd/{fd}")).arg(NAME);
    inherit_descriptor(&mut slirp, fd);
    inherit_descriptor(&mut slirp, write.as_raw_fd());
    let child = slirp.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    drop((slirp, write));
    let mut byte = [0];
    match File::from(read).read(&mut byte) {
        Ok(1) => Ok(()),
        _ => {
            let end = waitpid(Pid::from_raw(child.id() as i32), None);
            Err(Error::other(format!("slirp4netns ended ({end:?})")))
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// Lets the child keep a descriptor, and starts it with the signals' defaults: pasta refuses to run where SIGPIPE is
/// ignored, as it is in a Rust program.
fn inherit_descriptor(command: &mut Command, fd: RawFd) {
    // SAFETY: fcntl, signal and sigprocmask are async-signal-safe, and nothing else happens in the child.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            match libc::fcntl(fd, libc::F_SETFD, 0) {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            }
        });
    }
}
