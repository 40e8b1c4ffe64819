//! What goes wrong while pods are on the network, and how it goes on: killed keepers, guards, helpers and supervisors, a
//! host that changes under them, a machine that sleeps.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::fd::AsRawFd,
    process::Stdio,
    time::Duration,
};

use crate::common::{
    Home, events,
    lab::{HOST, Lab, SERVER, pod, run, sysctl, with_image, within},
    net::{SERVES, free_port, get, own_address},
    stderr, until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

fn kill_supervisor(home: &Home, pod: &str) {
    kill(Pid::from_raw(home.supervisor(pod).unwrap()), Signal::SIGKILL).unwrap();
}

#[test]
fn a_killed_keeper_of_roots_network_is_replaced_and_a_killed_network_is_swept() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        home.start(&pod("p", "sleep 600"), &[]);
        home.kill(&["network"]);
        until("another keeper is there", || home.of_role("network-again").len() == 1);
        until("the outside is reached again", || home.asks("p", SERVER) == HOST);
        home.kill_guards();
        home.kill(&["network-again", "supervise"]);
        until("the pod is lost", || home.of_role("supervise").is_empty());
        assert!(!lab.left().is_empty());
        // The kernel may still be about to end them.
        until("the next command has swept it", || {
            home.podctl(&["get", "pods"]);
            lab.left().is_empty()
        });
        // A new network does not mind what was there.
        home.podctl(&["delete", "p"]);
        home.start(&pod("p", "sleep 600"), &[]);
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
        home.start(&pod("p", "sleep 600"), &[]);
        home.kill_guards();
        home.kill(&["network", "supervise"]);
        until("the link is gone", || !run("ip -o link").contains("podctl"));
        fs::remove_dir_all(home.path("run")).unwrap();
        other.start(&pod("p", "sleep 600"), &[]);
        assert_eq!(other.asks("p", SERVER), HOST);
        other.podctl(&["delete", "p", "--now"]);
        until("nothing is left", || lab.left().is_empty());
    });
}

#[test]
fn an_emptied_packet_filter_is_filled_again() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    lab.on_host(|| {
        home.start(&pod("p", "sleep 600"), &[]);
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
    let internet = format!("/proc/{}/fd/{}", std::process::id(), lab.internet.as_raw_fd());
    lab.on_host(|| {
        home.start(&pod("p", "sleep 600"), &[]);
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
        home.start(&pod("p", "sleep 600"), &[]);
        // As packages do that read all of sysctl.conf anew.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        until("the outside is reached again", || home.asks("p", SERVER) == HOST);
        home.podctl(&["delete", "p", "--now"]);
    });
    until("nothing is left", || lab.left().is_empty());
}

#[test]
fn pods_start_while_keepers_of_the_network_are_killed() {
    let home = with_image();
    home.start(&pod("first", "sleep 600"), &[]);
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

#[test]
fn a_killed_helper_is_replaced() {
    if geteuid().is_root() {
        eprintln!("skipped: root has no helper");
        return;
    }
    let Some((address, port)) = own_address() else { return };
    let home = with_image();
    home.start(&pod("p", "sleep 600"), &[]);
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
fn pods_that_are_killed_while_others_start_leave_nothing() {
    let home = with_image();
    home.start(&pod("first", "sleep 600"), &[]);
    let mut runs: Vec<_> = (0..12)
        .map(|n| {
            let file = home.file(&format!("{n}.yaml"), &pod(&format!("p{n}"), "sleep 600"));
            let mut run = home.command(&["run", "-d", &file]);
            run.stdout(Stdio::null()).stderr(Stdio::null());
            run.spawn().unwrap()
        })
        .collect();
    for (n, run) in runs.iter_mut().enumerate() {
        assert!(run.wait().unwrap().success());
        if n % 3 == 0 {
            kill_supervisor(&home, &format!("p{n}"));
        }
    }
    for n in (0..12).filter(|n| n % 3 != 0) {
        let name = format!("p{n}.default.svc.cluster.local");
        until("the name is known", || home.in_pod("first", &format!("nslookup p{n}")).contains(&name));
    }
    until("the dead are not", || home.in_pod("first", "nslookup p3").contains("NXDOMAIN"));
    let links = "ip -o link | grep -c eth0";
    assert_eq!(home.in_pod("p1", links), "1\n");
    home.podctl(&["delete", "--all", "--force"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_killed_supervisors_name_and_ports_are_free_at_once() {
    let home = with_image();
    let port = free_port();
    home.start(&pod("web", SERVES), &["-p", &format!("{port}:8080")]);
    home.start(&pod("client", "sleep 600"), &[]);
    until("the server listens", || get(port).is_ok());
    kill_supervisor(&home, "web");
    until("its name is gone", || home.in_pod("client", "nslookup web").contains("NXDOMAIN"));
    until("its port is closed", || TcpStream::connect(("127.0.0.1", port)).is_err());
    home.podctl(&["delete", "client", "--now"]);
    until("the network is gone", || home.of_role("network").is_empty());
}

#[test]
fn a_killed_keeper_is_followed_by_one_that_knows_every_pod() {
    let home = with_image();
    let port = free_port();
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  selector: {app: web}\n  ports: [{port: 80, targetPort: 8080}]\n";
    home.start(&(pod("web", SERVES) + service), &["-p", &format!("{port}:8080")]);
    home.start(&pod("client", "sleep 600"), &[]);
    let reached = || {
        home.in_pod("client", "wget -qO- http://shop") == "hello\n"
            && home.in_pod("web", "nslookup client").contains("client.default.svc.cluster.local")
            && get(port).is_ok_and(|text| text.contains("hello"))
    };
    until("the pods reach each other", reached);
    let address = home.pod("client")["status"]["podIP"].clone();
    home.kill(&["network"]);
    until("they do so again", reached);
    assert_eq!(home.in_pod("client", "hostname -i | cut -d\" \" -f1").trim(), address.as_str().unwrap());
    // Without a guard and its deputy the next run does their work.
    home.kill_guards();
    home.kill(&["network-again"]);
    home.start(&pod("third", "sleep 600"), &[]);
    until("they do so once more", reached);
    assert_eq!(home.in_pod("third", "wget -qO- http://shop"), "hello\n");
    assert_ne!(home.pod("third")["status"]["podIP"], address);
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_start_is_told_of_a_keeper_that_hangs_and_goes_on_when_it_is_killed() {
    let home = with_image();
    home.start(&pod("first", "sleep 600"), &[]);
    home.signal(&["network"], Signal::SIGSTOP);
    let refused = home.run(&pod("second", "sleep 600"), &["-d"]);
    assert!(
        !refused.status.success() && stderr(&refused).contains("does not answer"),
        "{}",
        stderr(&refused)
    );
    home.kill(&["network"]);
    home.start(&pod("second", "sleep 600"), &[]);
    until("they reach each other", || {
        home.in_pod("second", "ping -c1 -W1 first >/dev/null && echo yes") == "yes\n"
    });
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn after_the_machine_has_slept_names_ports_and_the_outside_are_there_again() {
    let Some((address, outside)) = own_address() else { return };
    let home = with_image();
    let port = free_port();
    home.start(&pod("web", SERVES), &["-p", &format!("{port}:8080")]);
    home.start(&pod("client", "sleep 600"), &[]);
    let reached = || {
        home.asks("client", "web:8080") == "hello"
            && home.asks("client", &format!("{address}:{outside}")) == "outside"
            && get(port).is_ok_and(|text| text.contains("hello"))
    };
    until("all is reached", reached);
    let roles = ["network", "network-guard", "guard-deputy", "supervise"];
    let all = |signal| {
        // The helper is found by its keeper.
        let helper = home.helper();
        home.signal(&roles, signal);
        helper.into_iter().for_each(|id| kill(id, signal).unwrap());
    };
    all(Signal::SIGSTOP);
    let asleep = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        stream.read(&mut [0; 16]).is_err()
    };
    assert!(asleep());
    all(Signal::SIGCONT);
    until("all is reached again", reached);
    assert_eq!(home.of_role("network").len(), 1, "the same keeper");
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn the_network_stays_when_all_of_it_is_asked_to_end_while_pods_need_it() {
    // A guard lets no other process look into it, so an ordinary user cannot tell which one is this home's.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = with_image();
    let port = free_port();
    home.start(&pod("web", SERVES), &["-p", &format!("{port}:8080")]);
    home.start(&pod("client", "sleep 600"), &[]);
    let reached = || get(port).is_ok() && home.asks("client", "web:8080") == "hello";
    until("all is reached", reached);
    // As a service manager does with the unit in which the first pod was started.
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        home.signal(&["network", "network-guard", "guard-deputy"], signal);
    }
    home.helper().into_iter().for_each(|id| kill(id, Signal::SIGTERM).unwrap());
    assert_eq!((home.of_role("network").len(), home.of_role("network-guard").len()), (1, 1));
    until("all is reached again", reached);
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_network_that_was_killed_altogether_is_told_of_and_comes_back_with_any_command() {
    // A guard lets no other process look into it, so an ordinary user cannot tell which one is this home's.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = with_image();
    let port = free_port();
    home.start(&pod("web", SERVES), &["-p", &format!("{port}:8080")]);
    until("the port is served", || get(port).is_ok());
    home.kill_guards();
    home.kill(&["network"]);
    let told = |reason: &str| events(&home, "web").iter().any(|event| event.starts_with(reason));
    // Any command would bring the network back.
    let status = || fs::read_to_string(home.path("data/records/default_web/pod.json")).unwrap_or_default();
    until("the pod says so", || told("NetworkLost") && status().contains("\"reason\":\"NetworkLost\""));
    assert!(get(port).is_err());
    home.said(&["get", "pods"]);
    until("the port is served again", || get(port).is_ok());
    until("the pod says so", || told("NetworkRestored"));
    let reasons = || home.said(&["get", "pod", "web", "-o", "jsonpath={.status.conditions[*].reason}"]);
    until("its conditions are as before", || reasons().is_empty());
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_network_whose_keeper_and_guard_are_killed_comes_back_without_a_command() {
    // A guard lets no other process look into it, so an ordinary user cannot tell which one is this home's.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = with_image();
    let port = free_port();
    home.start(&pod("web", SERVES), &["-p", &format!("{port}:8080")]);
    until("the port is served", || get(port).is_ok());
    let deputies = || home.of_role("guard-deputy").len();
    until("the guard has a deputy", || deputies() == 1);
    home.kill(&["network-guard", "network"]);
    until("the port is served again", || get(port).is_ok_and(|text| text.contains("hello")));
    until("the deputy has become the guard, and has one", || deputies() == 2);
    home.kill(&["network-again"]);
    until("the port is served once more", || get(port).is_ok_and(|text| text.contains("hello")));
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}
