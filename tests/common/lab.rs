//! A host and an internet of a test's own, two network namespaces with a link between. Only root can make them.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::AsRawFd,
    process::{Command, Output},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::geteuid,
};

use super::{Home, stderr, stdout};

pub const HOST: &str = "192.0.2.2";
pub const GATEWAY: &str = "192.0.2.1";
pub const HOST_V6: &str = "2001:db8:5::2";
pub const GATEWAY_V6: &str = "2001:db8:5::1";
/// Somewhere in the internet.
pub const SERVER: &str = "203.0.113.80";
pub const SERVER_V6: &str = "2001:db8:80::80";

/// A pod with a busybox container that runs a line of shell; its name is its label `app` as well.
pub fn pod(name: &str, script: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n"
    )
}

/// A home that has the image already: no registry is reached from a namespace.
pub fn with_image() -> Home {
    let home = Home::new();
    let output = home.podctl(&["pull", "busybox:1.36"]);
    assert!(output.status.success(), "{}", stderr(&output));
    home
}

/// Does something in a network namespace; processes that it starts are there, too.
pub fn within<T: Send>(namespace: &File, job: impl FnOnce() -> T + Send) -> T {
    let there = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        job()
    };
    std::thread::scope(|scope| scope.spawn(there).join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
}

pub fn new_namespace() -> File {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip link set lo up");
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    made.join().unwrap()
}

pub fn run(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    stdout(&output)
}

pub fn sysctl(name: &str) -> String {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// A host with one link to an internet, where a server tells everybody's address.
pub struct Lab {
    pub host: File,
    pub internet: File,
}

impl Lab {
    /// None where only root could make one.
    pub fn new() -> Option<Lab> {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can make a host of its own");
            return None;
        }
        let lab = Lab { host: new_namespace(), internet: new_namespace() };
        let internet = format!("/proc/{}/fd/{}", std::process::id(), lab.internet.as_raw_fd());
        within(&lab.host, || {
            run(&format!("ip link add eth0 type veth peer name wan netns {internet}"));
            run(&format!("ip addr add {HOST}/24 dev eth0"));
            run(&format!("ip addr add {HOST_V6}/64 dev eth0 nodad"));
            run("ip link set eth0 up");
        });
        let listener = within(&lab.internet, || {
            run(&format!("ip addr add {GATEWAY}/24 dev wan"));
            run(&format!("ip addr add {GATEWAY_V6}/64 dev wan nodad"));
            run(&format!("ip addr add {SERVER}/32 dev lo"));
            run(&format!("ip addr add {SERVER_V6}/128 dev lo nodad"));
            run("ip link set wan up");
            TcpListener::bind(("::", 80)).unwrap()
        });
        within(&lab.host, || {
            run(&format!("ip route add default via {GATEWAY}"));
            run(&format!("ip route add default via {GATEWAY_V6}"));
        });
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{}\n", peer.ip().to_canonical());
            }
        });
        Some(lab)
    }

    pub fn on_host<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        within(&self.host, job)
    }

    /// Returns what of podctl's is on the host.
    pub fn left(&self) -> Vec<String> {
        self.on_host(|| {
            let links = run("ip -o link");
            let tables = run("nft list tables");
            let mut left: Vec<String> = links
                .lines()
                .chain(tables.lines())
                .filter(|l| l.contains("podctl"))
                .map(Into::into)
                .collect();
            for switch in ["net.ipv4.conf.eth0.forwarding", "net.ipv6.conf.eth0.force_forwarding"] {
                left.extend((sysctl(switch) == "1").then(|| switch.to_owned()));
            }
            left
        })
    }
}

/// Answers questions for addresses: names that `known` does not know do not exist, and none has an IPv6 address.
pub fn name_server(socket: &UdpSocket, known: impl Fn(&str) -> Option<Ipv4Addr>) {
    let mut question = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut question) {
        let mut reply = question[..length].to_vec();
        let (mut labels, mut at) = (Vec::new(), 12);
        while reply[at] != 0 {
            let end = at + 1 + usize::from(reply[at]);
            labels.push(String::from_utf8_lossy(&reply[at + 1..end]).into_owned());
            at = end;
        }
        let kind = reply[at + 1..at + 3].to_vec();
        let found = known(&labels.join("."));
        // An answer, recursion available; no additional records, if there were any.
        reply.truncate(at + 5);
        (reply[2], reply[3], reply[11]) = (0x81, if found.is_some() { 0x80 } else { 0x83 }, 0);
        if let Some(answer) = found.filter(|_| kind == [0, 1]) {
            reply[7] = 1;
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
            reply.extend(answer.octets());
        }
        let _ = socket.send_to(&reply, peer);
    }
}

/// podctl, run where a line of shell has changed what is mounted; `$0` in it is `own`.
pub fn in_mounts(home: &Home, script: &str, own: &str, args: &[&str]) -> Output {
    let podctl = home.command(args);
    let mut run = Command::new("unshare");
    run.args(["--mount", "sh", "-c", &format!("{script} && exec \"$@\""), own]);
    run.arg(podctl.get_program()).args(podctl.get_args());
    run.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run.output().unwrap()
}
