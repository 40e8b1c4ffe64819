//! The pod's way to the outside: pasta, when it is installed.
//!
//! Runs in the client, which still is in the host's network.

use std::{
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::{fs::symlink, process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
};

use k8s_openapi::api::core::v1::Pod;
use podctl_runtime::Process;

use crate::state::PodDir;

const WITHOUT: &str = "no network beyond the pod and no published ports";

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Address on the host; empty is every address.
    pub ip: String,
    /// Port on the host.
    pub host: u16,
    /// Port in the pod.
    pub pod: u16,
    /// UDP rather than TCP.
    pub udp: bool,
}

/// The hostPorts of the pod's containers.
pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    super::launch::containers(pod)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            Some(HostPort {
                ip: p.host_ip.clone().unwrap_or_default(),
                host: p.host_port.filter(|port| *port > 0)?.try_into().ok()?,
                pod: p.container_port.try_into().ok()?,
                udp: p.protocol.as_deref() == Some("UDP"),
            })
        })
        .collect()
}

/// Joins the pod's network to the host's; returns when it is up.
///
/// # Errors
/// A warning for the user: what does not work and what would mend it.
pub fn attach(dir: &PodDir, supervisor: &Process, ports: &[HostPort], rootless: bool) -> Result<(), String> {
    let mut pasta = Command::new("pasta");
    pasta.args(["--config-net", "--quiet", "-T", "none", "-U", "none"]);
    for (flag, udp) in [("-t", false), ("-u", true)] {
        let specs: Vec<String> = ports.iter().filter(|p| p.udp == udp).map(spec).collect();
        if specs.is_empty() {
            pasta.args([flag, "none"]);
        }
        for spec in &specs {
            pasta.args([flag, spec]);
        }
    }
    // pasta watches the name it was given and leaves when that is removed: a link which the
    // supervisor takes away, or the sweep after a supervisor that was killed. It has a directory of
    // its own, for pasta sees only the first of several names removed at once.
    let namespace: OwnedFd;
    let link = link(dir);
    let own = link.parent().expect("it has one");
    std::fs::create_dir_all(own).map_err(|e| format!("{WITHOUT}: cannot make {}: {e}", own.display()))?;
    let _ = std::fs::remove_file(&link);
    let of_supervisor = |kind: &str| format!("/proc/{}/ns/{kind}", supervisor.pid);
    let linked = if rootless {
        pasta.args(["--userns", &of_supervisor("user")]);
        symlink(of_supervisor("net"), &link)
    } else {
        // pasta gives up its privileges before it opens the namespace, so it gets the open file.
        let path = of_supervisor("net");
        namespace = File::open(&path).map_err(|e| format!("{WITHOUT}: cannot open {path}: {e}"))?.into();
        pasta.args(["--runas", "0", "--netns-only"]);
        keep_open(&mut pasta, namespace.as_raw_fd());
        symlink(format!("/proc/self/fd/{}", namespace.as_raw_fd()), &link)
    };
    linked.map_err(|e| format!("{WITHOUT}: cannot make {}: {e}", link.display()))?;
    pasta.arg("--netns").arg(&link);
    reset_signals(&mut pasta);
    let done = pasta.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            let words: Vec<&str> = words.lines().filter(|l| !l.contains("syslog")).collect();
            Err(format!("{WITHOUT}: pasta: {}", words.join("; ")))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{WITHOUT}: pasta is not installed (package passt)"))
        }
        Err(e) => Err(format!("{WITHOUT}: cannot start pasta: {e}")),
    }
}

/// What pasta watches.
fn link(dir: &PodDir) -> PathBuf {
    dir.path.join("network/netns")
}

/// Ends the pod's pasta; nothing happens when there is none.
pub(super) fn detach(dir: &PodDir) {
    let _ = std::fs::remove_file(link(dir));
}

/// pasta's own notation: `[IP/]HOST:POD`.
fn spec(port: &HostPort) -> String {
    let ip = match port.ip.as_str() {
        "" | "0.0.0.0" => String::new(),
        ip => format!("{ip}/"),
    };
    format!("{ip}{}:{}", port.host, port.pod)
}

fn keep_open(command: &mut Command, fd: i32) {
    // SAFETY: fcntl is async-signal-safe, and nothing else happens in the child.
    unsafe {
        command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// pasta refuses to start where SIGPIPE is ignored, as it is in a Rust program.
fn reset_signals(command: &mut Command) {
    // SAFETY: signal and sigprocmask are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_net_1_host_ports_in_pastas_notation() {
        let port = |ip: &str| HostPort { ip: ip.into(), host: 8080, pod: 80, udp: false };
        assert_eq!(spec(&port("")), "8080:80");
        assert_eq!(spec(&port("127.0.0.1")), "127.0.0.1/8080:80");
    }
}
