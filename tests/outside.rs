//! The way from pods to the outside: root's through the host's own network, everybody's by a helper.
//!
//! Root's tests have a host and an internet of their own, two network namespaces with a link between.

mod common;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::symlink,
    process::{Command, Stdio},
    time::Duration,
};

use common::{
    Home,
    net::{free_port, own_address},
    stderr, stdout, until,
};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

const HOST: &str = "192.0.2.2";
const GATEWAY: &str = "192.0.2.1";
const HOST_V6: &str = "2001:db8:5::2";
const GATEWAY_V6: &str = "2001:db8:5::1";
/// Somewhere in the internet.
const SERVER: &str = "203.0.113.80";
const SERVER_V6: &str = "2001:db8:80::80";

fn pod(name: &str, script: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n"
    )
}

/// A home that has the image already: no registry is reached from a namespace.
fn with_image() -> Home {
    let home = Home::new();
    let output = home.podctl(&["pull", "busybox:1.36"]);
    assert!(output.status.success(), "{}", stderr(&output));
    home
}

/// Does something in a network namespace; processes that it starts are there, too.
fn within<T: Send>(namespace: &File, job: impl FnOnce() -> T + Send) -> T {
    let there = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        job()
    };
    std::thread::scope(|scope| scope.spawn(there).join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
}

fn new_namespace() -> File {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip link set lo up");
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    made.join().unwrap()
}

fn run(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    stdout(&output)
}

fn sysctl(name: &str) -> String {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// A host with one link to an internet, where a server tells everybody's address.
struct Lab {
    host: File,
    internet: File,
}

impl Lab {
    /// None where only root could make one.
    fn new() -> Option<Lab> {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can make a host of its own");
            return None;
        }
        let lab = Lab { host: new_namespace(), internet: new_namespace() };
        use std::os::fd::AsRawFd;
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

    fn on_host<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        within(&self.host, job)
    }

    /// What of podctl's is on the host.
    fn left(&self) -> Vec<String> {
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

/// `PATH` without a network helper; what maps ids stays.
fn without_helper(home: &Home) -> String {
    let dir = home.path("bin");
    fs::create_dir_all(&dir).unwrap();
    for name in ["newuidmap", "newgidmap"] {
        let _ = symlink(format!("/usr/bin/{name}"), dir.join(name));
    }
    dir.display().to_string()
}

impl Home {
    fn up(&self, text: &str) {
        let output = self.run(text, &["-d"]);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// The same without a helper; gives what was said.
    fn up_alone(&self, text: &str) -> String {
        let file = self.file("pod.yaml", text);
        let output = self.command(&["run", "-d", &file]).env("PATH", without_helper(self)).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    }

    fn in_pod(&self, pod: &str, script: &str) -> String {
        stdout(&self.podctl(&["exec", pod, "--", "sh", "-c", script]))
    }

    fn asks(&self, pod: &str, server: &str) -> String {
        let server = if server.contains(':') { format!("[{server}]") } else { server.to_owned() };
        self.in_pod(pod, &format!("wget -qO- http://{server}")).trim().to_owned()
    }

    /// This home's processes of one of podctl's roles.
    fn of_role(&self, role: &str) -> Vec<Pid> {
        // A supervisor's pod stands behind its role.
        let called = format!(": podctl internal {role} ");
        let traces = self.traces();
        let ids =
            traces.iter().filter_map(|t| t.strip_prefix("process ")?.split_once(&called)?.0.parse().ok());
        ids.map(Pid::from_raw).collect()
    }

    fn kill(&self, roles: &[&str]) {
        for id in roles.iter().flat_map(|role| self.of_role(role)) {
            let _ = kill(id, Signal::SIGKILL);
        }
    }

    /// The network's helper: a child of its keeper.
    fn helper(&self) -> Option<Pid> {
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

#[test]
fn roots_pods_reach_the_outside_without_a_helper_and_leave_no_trace_on_the_host() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        assert_eq!(home.up_alone(&pod("p", "sleep 600")), "");
        assert_eq!(home.asks("p", SERVER), HOST);
        if fs::exists("/proc/sys/net/ipv6/conf/all/force_forwarding").unwrap() {
            assert_eq!(home.asks("p", SERVER_V6), HOST_V6);
        }
        assert_eq!(sysctl("net.ipv4.ip_forward"), "0", "more was turned on than is needed");
        assert_eq!(sysctl("net.ipv6.conf.all.forwarding"), "0", "more was turned on than is needed");
        home.podctl(&["delete", "p", "--now"]);
    });
    until("nothing is left", || lab.left().is_empty() && home.traces().is_empty());
}

#[test]
fn the_outside_does_not_reach_pods_and_the_host_forwards_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    let inner = new_namespace();
    use std::os::fd::AsRawFd;
    let path = format!("/proc/{}/fd/{}", std::process::id(), inner.as_raw_fd());
    // The host has a second network behind it, which is none of the internet's business.
    lab.on_host(|| {
        run(&format!("ip link add lan type veth peer name eth0 netns {path}"));
        run("ip addr add 192.168.7.1/24 dev lan");
        run("ip link set lan up");
    });
    let behind = within(&inner, || {
        run("ip addr add 192.168.7.2/24 dev eth0");
        run("ip link set eth0 up");
        run("ip route add default via 192.168.7.1");
        TcpListener::bind(("0.0.0.0", 8080)).unwrap()
    });
    let address = lab.on_host(|| {
        home.up(&pod("web", "exec httpd -f -p 8080 -h /etc"));
        let address = home.pod("web")["status"]["podIP"].as_str().unwrap().to_owned();
        // The host itself reaches both.
        until("the pod listens", || TcpStream::connect(format!("{address}:8080")).is_ok());
        TcpStream::connect("192.168.7.2:8080").unwrap();
        address
    });
    within(&lab.internet, || {
        run(&format!("ip route add 10.0.0.0/8 via {HOST}"));
        run(&format!("ip route add 192.168.7.0/24 via {HOST}"));
        for to in [format!("{address}:8080"), "192.168.7.2:8080".into()] {
            let to: SocketAddr = to.parse().unwrap();
            assert!(TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_err(), "{to} was reached");
        }
    });
    drop(behind);
    home.podctl(&["delete", "web", "--now"]);
    until("nothing is left", || lab.left().is_empty());
}

#[test]
fn a_killed_keeper_of_roots_network_is_replaced_and_a_killed_network_is_swept() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        home.up(&pod("p", "sleep 600"));
        home.kill(&["network"]);
        until("another keeper is there", || home.of_role("network-again").len() == 1);
        until("the outside is reached again", || home.asks("p", SERVER) == HOST);
        home.kill(&["network-guard", "network-again", "supervise"]);
        until("the pod is lost", || home.of_role("supervise").is_empty());
        assert!(!lab.left().is_empty());
        home.podctl(&["get", "pods"]);
        until("the next command has swept it", || lab.left().is_empty());
        // A new network does not mind what was there.
        home.podctl(&["delete", "p"]);
        home.up(&pod("p", "sleep 600"));
        assert_eq!(home.asks("p", SERVER), HOST);
        home.kill(&["network", "supervise"]);
        until("the guard has swept it", || lab.left().is_empty());
    });
}

#[test]
fn a_network_that_was_killed_with_its_directories_is_swept_by_another() {
    let Some(lab) = Lab::new() else { return };
    let (home, other) = (with_image(), with_image());
    lab.on_host(|| {
        home.up(&pod("p", "sleep 600"));
        home.kill(&["network-guard", "network", "supervise"]);
        until("the link is gone", || !run("ip -o link").contains("podctl"));
        fs::remove_dir_all(home.path("run")).unwrap();
        other.up(&pod("p", "sleep 600"));
        assert_eq!(other.asks("p", SERVER), HOST);
        other.podctl(&["delete", "p", "--now"]);
        until("nothing is left", || lab.left().is_empty());
    });
}

#[test]
fn two_networks_on_one_host_end_without_each_other() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (with_image(), with_image());
    lab.on_host(|| {
        let start =
            |home: &Home| home.command(&["run", "-d", &home.file("p.yaml", &pod("p", "sleep 600"))]).spawn();
        for mut run in [start(&one).unwrap(), start(&two).unwrap()] {
            assert!(run.wait().unwrap().success());
        }
        assert_ne!(one.pod("p")["status"]["podIP"], two.pod("p")["status"]["podIP"]);
        for home in [&one, &two] {
            assert_eq!(home.asks("p", SERVER), HOST);
        }
        one.podctl(&["delete", "p", "--now"]);
        until("the first is gone", || one.traces().is_empty());
        assert_eq!(two.asks("p", SERVER), HOST);
        two.podctl(&["delete", "p", "--now"]);
    });
    until("nothing is left", || lab.left().is_empty());
}

#[test]
fn an_emptied_packet_filter_is_filled_again() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        home.up(&pod("p", "sleep 600"));
        run("nft flush ruleset");
        until("the table is there again", || run("nft list tables").contains("podctl"));
        until("the outside is reached", || home.asks("p", SERVER) == HOST);
        home.podctl(&["delete", "p", "--now"]);
    });
    until("nothing is left", || lab.left().is_empty());
}

#[test]
fn a_host_that_moves_to_another_link_is_followed() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    use std::os::fd::AsRawFd;
    let internet = format!("/proc/{}/fd/{}", std::process::id(), lab.internet.as_raw_fd());
    lab.on_host(|| {
        home.up(&pod("p", "sleep 600"));
        assert_eq!(home.asks("p", SERVER), HOST);
        run("ip link set eth0 down");
        run(&format!("ip link add wlan0 type veth peer name air netns {internet}"));
        run("ip addr add 198.18.0.2/24 dev wlan0");
        run("ip link set wlan0 up");
    });
    within(&lab.internet, || {
        run("ip addr add 198.18.0.1/24 dev air");
        run("ip link set air up");
    });
    lab.on_host(|| {
        run("ip route add default via 198.18.0.1");
        until("the outside is reached again", || home.asks("p", SERVER) == "198.18.0.2");
        home.podctl(&["delete", "p", "--now"]);
        until("forwarding is off", || sysctl("net.ipv4.conf.wlan0.forwarding") == "0");
    });
    until("nothing is left", || lab.left().is_empty());
}

#[test]
fn forwarding_that_others_turn_off_is_turned_on_again_while_there_are_pods() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        home.up(&pod("p", "sleep 600"));
        // As packages do that read all of sysctl.conf anew.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        until("the outside is reached again", || home.asks("p", SERVER) == HOST);
        home.podctl(&["delete", "p", "--now"]);
    });
    until("nothing is left", || lab.left().is_empty());
}

#[test]
fn a_network_that_cannot_begin_says_why() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    let file = home.file("pod.yaml", &pod("p", "sleep 600"));
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$@\"";
    let podctl = home.command(&["run", "-d", &file]);
    let mut run = Command::new("unshare");
    run.args(["--mount", "sh", "-c", script, "sh"]).arg(podctl.get_program()).args(podctl.get_args());
    run.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = lab.on_host(|| run.output().unwrap());
    assert!(
        stderr(&output).contains("/proc/sys/net/ipv4/ip_forward cannot be written"),
        "{}",
        stderr(&output)
    );
    until("nothing is left", || lab.left().is_empty() && home.traces().is_empty());
}

/// As Docker and ufw leave it.
const FIREWALL: &str =
    "table inet theirs { chain forward { type filter hook forward priority 0; policy drop; }; }";

fn firewall() {
    assert!(Command::new("nft").arg(FIREWALL).status().unwrap().success());
}

#[test]
fn a_firewall_that_drops_what_pods_send_is_left_alone_and_a_helper_goes_around_it() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        home.up(&pod("p", "sleep 600"));
        firewall();
        until("the helper has taken over", || home.helper().is_some());
        until("the outside is reached", || home.asks("p", SERVER) == HOST);
        let left = lab.left();
        assert!(left.is_empty(), "{left:?}");
        assert!(run("nft list ruleset").contains("policy drop"));
        home.podctl(&["delete", "p", "--now"]);
        until("the network is gone", || home.traces().is_empty());
        home.up(&pod("p", "sleep 600"));
        assert_eq!(home.asks("p", SERVER), HOST);
    });
}

#[test]
fn root_without_any_way_to_the_outside_is_told_so_once() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        firewall();
        let words = home.up_alone(&pod("first", "exec httpd -f -p 8080 -h /etc"));
        assert!(words.contains("no network beyond the pods"), "{words}");
        assert!(words.contains("the host's firewall drops what it should forward for pods"), "{words}");
        assert_eq!(home.up_alone(&pod("second", "sleep 600")), "");
        assert_eq!(home.asks("second", SERVER), "");
        assert!(home.in_pod("second", "wget -qO- http://first:8080/hostname").contains("first"));
    });
}

#[test]
fn a_host_without_ipv6_has_pods_that_reach_the_outside() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        assert_eq!(home.up_alone(&pod("p", "sleep 600")), "");
        assert_eq!(home.asks("p", SERVER), HOST);
        // It is told so, rather than left to wait.
        let words =
            stderr(&home.podctl(&["exec", "p", "--", "wget", "-qO-", &format!("http://[{SERVER_V6}]")]));
        assert!(words.contains("unreachable"), "{words}");
    });
}

#[test]
fn twenty_of_roots_pods_at_once_have_twenty_addresses_and_leave_nothing_on_the_host() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        home.up(&pod("first", "sleep 600"));
        let null = || File::options().write(true).open("/dev/null").unwrap();
        let runs: Vec<_> = (0..20)
            .map(|n| {
                let file = home.file(&format!("{n}.yaml"), &pod(&format!("p{n}"), "sleep 600"));
                home.command(&["run", "-d", &file]).stdout(null()).stderr(null()).spawn().unwrap()
            })
            .collect();
        for mut run in runs {
            assert!(run.wait().unwrap().success());
        }
        let names: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
        let address = |name: &String| home.pod(name)["status"]["podIP"].as_str().unwrap_or("none").to_owned();
        assert_eq!(names.iter().map(address).collect::<HashSet<_>>().len(), 20);
        assert_eq!(home.asks("p19", SERVER), HOST);
        home.podctl(&["delete", "--all", "--now"]);
    });
    until("nothing is left", || lab.left().is_empty() && home.traces().is_empty());
}

/// A pod whose server writes down who has asked it.
fn watching(name: &str) -> String {
    pod(name, "exec httpd -f -v -p 8080 -h /etc")
}

#[test]
fn a_published_port_shows_a_root_pod_the_clients_own_address() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        let file = home.file("pod.yaml", &watching("web"));
        let output = home.podctl(&["run", "-d", "-p", "8080:8080", "-p", "8081:81", &file]);
        assert!(output.status.success(), "{}", stderr(&output));
    });
    let ask = |to: &str, port: u16| {
        let mut stream = TcpStream::connect((to, port))?;
        stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    within(&lab.internet, || {
        until("the pod answers", || ask(HOST, 8080).is_ok_and(|text| text.ends_with("web\n")));
        assert!(ask(HOST_V6, 8080).unwrap().ends_with("web\n"));
        assert!(ask(HOST, 8081).is_err(), "nobody listens there");
        assert!(ask(HOST_V6, 8081).is_err(), "nobody listens there");
    });
    let log = || stdout(&home.podctl(&["logs", "web"]));
    until("the pod has seen both addresses", || {
        log().contains(&format!("{GATEWAY}]")) && log().contains(&format!("[{GATEWAY_V6}]"))
    });
    // What comes from the host's loopback could not be answered there.
    lab.on_host(|| assert!(ask("127.0.0.1", 8080).unwrap().ends_with("web\n")));
}

#[test]
fn a_published_port_shows_the_clients_own_address() {
    let Some((address, _)) = own_address() else { return };
    let home = with_image();
    let port = free_port();
    let file = home.file("pod.yaml", &watching("web"));
    home.podctl(&["run", "-d", "-p", &format!("{port}:8080"), &file]);
    until("the pod has seen the address", || {
        let _ = TcpStream::connect((address, port)).and_then(|mut s| s.write_all(b"GET / HTTP/1.0\r\n\r\n"));
        stdout(&home.podctl(&["logs", "web"])).contains(&format!("{address}]"))
    });
}

#[test]
fn a_pod_on_the_hosts_network_is_executed_in_and_reached_there() {
    let home = with_image();
    let file = home.file("pod.yaml", &pod("p", "sleep 600"));
    let output = home.podctl(&["run", "-d", "--network", "host", &file]);
    assert!(output.status.success(), "{}", stderr(&output));
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(home.in_pod("p", "readlink /proc/self/ns/net").trim(), own.to_str().unwrap());
    assert!(home.of_role("network").is_empty());
}

#[test]
fn pods_start_while_keepers_of_the_network_are_killed() {
    let home = with_image();
    home.up(&pod("first", "sleep 600"));
    let runs: Vec<_> = (0..10)
        .map(|n| {
            let file = home.file(&format!("{n}.yaml"), &pod(&format!("p{n}"), "sleep 600"));
            let mut run = home.command(&["run", "-d", &file]);
            run.stdout(Stdio::null()).stderr(Stdio::piped());
            home.kill(&["network", "network-again"]);
            run.spawn().unwrap()
        })
        .collect();
    home.kill(&["network", "network-again"]);
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    for n in 0..10 {
        let name = format!("p{n}.default.svc.cluster.local");
        until("the name is known", || home.in_pod("first", &format!("nslookup p{n}")).contains(&name));
    }
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

/// Answers every question for an address with `answer`.
fn name_server(socket: &UdpSocket, answer: Ipv4Addr) {
    let mut question = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut question) {
        let mut reply = question[..length].to_vec();
        let kind = question[length - 4..length - 2].to_vec();
        // An answer, recursion available; no additional records, if there were any.
        (reply[2], reply[3], reply[11]) = (0x81, 0x80, 0);
        if kind == [0, 1] {
            reply[7] = 1;
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
            reply.extend(answer.octets());
        }
        let _ = socket.send_to(&reply, peer);
    }
}

#[test]
fn a_changed_resolv_conf_of_the_host_is_followed() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    for own in ["203.0.113.53", "203.0.113.54"] {
        let socket = within(&lab.internet, || {
            run(&format!("ip addr add {own}/32 dev lo"));
            UdpSocket::bind((own, 53)).unwrap()
        });
        std::thread::spawn(move || name_server(&socket, own.parse().unwrap()));
    }
    let conf = home.file("resolv.conf", "nameserver 203.0.113.53\n");
    let file = home.file("pod.yaml", &pod("p", "sleep 600"));
    lab.on_host(|| {
        let podctl = home.command(&["run", "-d", &file]);
        let mut run = Command::new("unshare");
        run.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"", &conf]);
        run.arg(podctl.get_program()).args(podctl.get_args());
        run.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
        assert!(run.status().unwrap().success());
        let lookup = || home.in_pod("p", "nslookup elsewhere.example.org");
        assert!(lookup().contains("203.0.113.53"), "{}", lookup());
        fs::write(&conf, "nameserver 203.0.113.54\n").unwrap();
        until("the other resolver is asked", || lookup().contains("203.0.113.54"));
    });
}

#[test]
fn a_killed_helper_is_replaced() {
    if geteuid().is_root() {
        eprintln!("skipped: root has no helper");
        return;
    }
    let Some((address, port)) = own_address() else { return };
    let home = with_image();
    home.up(&pod("p", "sleep 600"));
    let reached = || home.in_pod("p", &format!("wget -qO- http://{address}:{port}")) == "outside\n";
    until("the outside is reached", reached);
    let helper = home.helper().unwrap();
    kill(helper, Signal::SIGKILL).unwrap();
    until("another helper is there", || home.helper().is_some_and(|id| id != helper));
    until("the outside is reached again", reached);
    home.podctl(&["delete", "p", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn an_ordinary_user_without_a_helper_has_the_pods_alone_and_is_told_so_once() {
    if geteuid().is_root() {
        eprintln!("skipped: root needs no helper");
        return;
    }
    let home = with_image();
    let words = home.up_alone(&pod("first", "exec httpd -f -p 8080 -h /etc"));
    assert!(words.contains("neither pasta (package passt) nor slirp4netns is installed"), "{words}");
    assert_eq!(home.up_alone(&pod("second", "sleep 600")), "");
    assert!(home.in_pod("second", "wget -qO- http://first:8080/hostname").contains("first"));
    assert!(home.in_pod("first", "wget -qO- http://127.0.0.1:8080/hostname").contains("first"));
}
