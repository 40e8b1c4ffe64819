//! The way from pods to the outside: root's through the host's own network, everybody's by a helper.
//!
//! Root's tests have a host and an internet of their own, two network namespaces with a link between.

use std::{
    collections::HashSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    process::{Command, Stdio},
    time::Duration,
};

use crate::common::{
    Home,
    lab::{
        GATEWAY, GATEWAY_V6, HOST, HOST_V6, Lab, SERVER, SERVER_V6, in_mounts, new_namespace, pod, run,
        sysctl, with_image, within,
    },
    net::{free_port, own_address},
    stderr, stdout, until,
};
use nix::unistd::geteuid;

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
    /// Starts pods where there is no helper; gives what was said.
    fn up_alone(&self, text: &str) -> String {
        let file = self.file("pod.yaml", text);
        let output = self.command(&["run", "-d", &file]).env("PATH", without_helper(self)).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
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
        home.start(&pod("web", "exec httpd -f -p 8080 -h /etc"), &[]);
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
fn forwarding_is_turned_on_where_proc_sys_can_only_be_read() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    let file = home.file("pod.yaml", &pod("p", "sleep 600"));
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys";
    lab.on_host(|| {
        let output = in_mounts(&home, script, "sh", &["run", "-d", &file]);
        assert!(output.status.success(), "{}", stderr(&output));
        until("the outside is reached", || home.asks("p", SERVER) == HOST);
        home.podctl(&["delete", "p", "--now"]);
    });
    until("nothing is left", || lab.left().is_empty() && home.traces().is_empty());
}

/// Chosen as Docker and ufw leave it.
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
        home.start(&pod("p", "sleep 600"), &[]);
        firewall();
        until("the helper has taken over", || home.helper().is_some());
        until("the outside is reached", || home.asks("p", SERVER) == HOST);
        let left = lab.left();
        assert!(left.is_empty(), "{left:?}");
        assert!(run("nft list ruleset").contains("policy drop"));
        home.podctl(&["delete", "p", "--now"]);
        until("the network is gone", || home.traces().is_empty());
        home.start(&pod("p", "sleep 600"), &[]);
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
        until("the pods reach each other", || {
            home.in_pod("second", "wget -qO- http://first:8080/hostname").contains("first")
        });
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
        home.start(&pod("first", "sleep 600"), &[]);
        let runs: Vec<_> = (0..20)
            .map(|n| {
                let file = home.file(&format!("{n}.yaml"), &pod(&format!("p{n}"), "sleep 600"));
                home.command(&["run", "-d", &file])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
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
        // Each of its addresses is looked after by itself.
        until("it answers over IPv6", || ask(HOST_V6, 8080).is_ok_and(|text| text.ends_with("web\n")));
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
fn an_ordinary_user_without_a_helper_has_the_pods_alone_and_is_told_so_once() {
    if geteuid().is_root() {
        eprintln!("skipped: root needs no helper");
        return;
    }
    let home = with_image();
    let words = home.up_alone(&pod("first", "exec httpd -f -p 8080 -h /etc"));
    assert!(words.contains("neither pasta (package passt) nor slirp4netns is installed"), "{words}");
    assert_eq!(home.up_alone(&pod("second", "sleep 600")), "");
    until("the pods reach each other", || {
        home.in_pod("second", "wget -qO- http://first:8080/hostname").contains("first")
    });
    assert!(home.in_pod("first", "wget -qO- http://127.0.0.1:8080/hostname").contains("first"));
}
