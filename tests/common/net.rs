//! Ports and servers of this machine's own.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Home, stdout};

/// A line of shell that serves the word `hello` over HTTP at port 8080.
pub const SERVES: &str = "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";

impl Home {
    /// Returns what a script says in a pod's first container.
    pub fn in_pod(&self, pod: &str, script: &str) -> String {
        stdout(&self.podctl(&["exec", pod, "--", "sh", "-c", script]))
    }

    /// Returns what a server says to a pod.
    pub fn asks(&self, pod: &str, server: &str) -> String {
        let v6 = server.parse::<std::net::Ipv6Addr>().is_ok();
        let server = if v6 { format!("[{server}]") } else { server.to_owned() };
        self.in_pod(pod, &format!("wget -qO- http://{server}")).trim().to_owned()
    }

    /// This home's processes of one of podctl's roles: `supervise`; `network`, `network-again` (keepers of the network),
    /// `network-guard`.
    pub fn of_role(&self, role: &str) -> Vec<Pid> {
        // A supervisor's pod stands behind its role.
        let called = format!(": podctl internal {role} ");
        let traces = self.traces();
        let ids =
            traces.iter().filter_map(|t| t.strip_prefix("process ")?.split_once(&called)?.0.parse().ok());
        ids.map(Pid::from_raw).collect()
    }

    /// Kills all of these roles.
    pub fn kill(&self, roles: &[&str]) {
        self.signal(roles, Signal::SIGKILL);
    }

    /// Kills those who would start another keeper, and each other.
    pub fn kill_guards(&self) {
        let roles = ["network-guard", "guard-deputy"];
        self.signal(&roles, Signal::SIGSTOP);
        self.kill(&roles);
    }

    /// The same with another signal.
    pub fn signal(&self, roles: &[&str], signal: Signal) {
        for id in roles.iter().flat_map(|role| self.of_role(role)) {
            let _ = kill(id, signal);
        }
    }

    /// The network's helper: a child of its keeper.
    pub fn helper(&self) -> Option<Pid> {
        let keepers = [self.of_role("network"), self.of_role("network-again")].concat();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let mut ids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        let child = |id: &i32| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|s| s.split_whitespace().nth(1)?.parse().ok());
            parent.is_some_and(|p| keepers.contains(&Pid::from_raw(p)))
        };
        ids.find(child).map(Pid::from_raw)
    }
}

/// A port of this machine that nobody has. It is below those that the kernel gives to who asks for any, and given once only, so
/// that nobody takes it until the test does.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 12_000..30_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: &u16| {
        TcpListener::bind(("0.0.0.0", *port)).is_ok() && UdpSocket::bind(("0.0.0.0", *port)).is_ok()
    };
    let next = || {
        // Another suite may run beside this one.
        let at = std::process::id().wrapping_mul(97).wrapping_add(GIVEN.fetch_add(1, Ordering::SeqCst));
        (PORTS.start + at % PORTS.len() as u32) as u16
    };
    std::iter::repeat_with(next).find(is_free).unwrap()
}

/// Returns what a server of this machine answers to GET.
pub fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// An address of this machine with a server there that says `outside`; none without a network.
pub fn own_address() -> Option<(IpAddr, u16)> {
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent.
    if probe.connect("192.0.2.1:9").is_err() {
        eprintln!("skipped: this machine has no network");
        return None;
    }
    let address = probe.local_addr().unwrap().ip();
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\noutside\n");
        }
    });
    Some((address, port))
}
