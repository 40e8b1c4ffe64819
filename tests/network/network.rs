//! The network of a user's pods, on real containers: names, Services, published ports.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    time::Duration,
};

use crate::common::{
    Home,
    net::{SERVES, free_port, get, own_address},
    stderr, stdout, until,
};

/// A pod with one busybox container that runs a line of shell; `more` is further YAML of the container.
fn pod(name: &str, script: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n{more}"
    )
}

fn service(name: &str, app: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: {app}}}\n{spec}"
    )
}

const PORT: &str = "    ports: [{name: http, containerPort: 8080}]\n";

#[test]
fn r_net_1_a_service_is_found_by_name_and_leads_to_another_port() {
    let home = Home::new();
    let spec = "  ports: [{name: http, port: 80, targetPort: http}]\n";
    home.start(&(pod("web", SERVES, PORT) + &service("shop", "web", spec)), &[]);
    let client = home.run(
        &pod("client", "nslookup shop && until wget -qO- http://shop.default.svc.cluster.local; do sleep 0.1; done; nc shop 8080 </dev/null || echo refused", ""),
        &[],
    );
    assert!(client.status.success(), "{}", stderr(&client));
    let text = stdout(&client);
    assert!(text.contains("shop.default.svc.cluster.local"), "{text}");
    assert!(text.contains("hello") && text.contains("refused"), "{text}");
    // The pod that serves reaches itself through its Service, too.
    assert_eq!(home.in_pod("web", "wget -qO- http://shop"), "hello\n");
    let address = home.pod("web")["status"]["podIP"].as_str().unwrap().to_owned();
    assert_eq!(home.in_pod("web", &format!("nslookup {address} | grep -c web.default")), "1\n");
}

#[test]
fn a_pod_that_waits_for_a_service_is_served_by_one_that_starts_later() {
    let home = Home::new();
    let wait = "until nslookup postgres >/dev/null; do sleep 0.1; done; until nc -w1 postgres 5432 </dev/null; do sleep 0.1; done; echo found";
    home.start(&pod("waiter", wait, ""), &[]);
    assert_eq!(home.pod("waiter")["status"]["phase"], "Running");
    home.start(&pod("postgres", "while :; do echo | nc -l -p 5432; done", ""), &[]);
    until("the waiter has found postgres", || home.pod("waiter")["status"]["phase"] == "Succeeded");
}

#[test]
fn only_ready_pods_are_endpoints() {
    let home = Home::new();
    let probe = format!(
        "{PORT}    readinessProbe: {{exec: {{command: [test, -e, /tmp/ready]}}, periodSeconds: 1, timeoutSeconds: 30}}\n"
    );
    let services = service("shop", "web", "  clusterIP: None\n  ports: [{port: 8080}]\n");
    home.start(&(pod("web", SERVES, &probe) + &services + &pod("client", "sleep 600", "")), &[]);
    assert!(home.in_pod("client", "nslookup shop").contains("NXDOMAIN"));
    home.in_pod("web", "touch /tmp/ready");
    until("the pod is an endpoint", || home.in_pod("client", "wget -qO- http://shop:8080") == "hello\n");
    home.in_pod("web", "rm /tmp/ready");
    until("the pod is no endpoint", || home.in_pod("client", "nslookup shop").contains("NXDOMAIN"));
}

#[test]
fn redis_is_reached_by_name() {
    let home = Home::new();
    let redis = "apiVersion: v1\nkind: Pod\nmetadata: {name: redis}\nspec:\n  containers:\n  - {name: redis, image: 'redis:7'}\n";
    home.start(redis, &[]);
    let ping = "until echo PING | nc -w 2 redis 6379 | grep PONG; do sleep 0.1; done";
    let client = home.run(&pod("client", ping, ""), &[]);
    assert!(stdout(&client).contains("PONG"), "{}", stderr(&client));
    home.podctl(&["delete", "redis", "--now"]);
    home.podctl(&["rmi", "redis:7"]);
}

#[test]
fn published_ports_reach_the_pod_over_tcp_and_udp() {
    let home = Home::new();
    let (tcp, udp, service_port) = (free_port(), free_port(), free_port());
    let published = service(
        "shop",
        "web",
        &format!("  type: NodePort\n  ports: [{{port: 80, targetPort: 8080, nodePort: {service_port}}}]\n"),
    );
    let echo = "  - name: echo
    image: python:3.11
    command:
    - python3
    - -c
    - |
      import socket
      s = socket.socket(type=socket.SOCK_DGRAM)
      s.bind((\"\", 9000))
      while True: s.sendto(*s.recvfrom(99))
";
    let hostport =
        format!("    ports: [{{containerPort: 9000, hostPort: {udp}, hostIP: 127.0.0.1, protocol: UDP}}]\n");
    home.start(&(pod("web", SERVES, &(hostport + echo)) + &published), &["-p", &format!("{tcp}:8080")]);
    until("the server listens", || get(tcp).is_ok_and(|text| text.contains("hello")));
    // Each port is looked after by itself.
    until("the Service's does too", || get(service_port).is_ok_and(|text| text.contains("hello")));
    assert_eq!(home.pod("web")["spec"]["containers"][0]["ports"][1]["hostPort"], tcp);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", udp)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = [0; 16];
    until("the datagram comes back", || {
        socket.send(b"echo").is_ok() && socket.recv(&mut answer).is_ok_and(|n| &answer[..n] == b"echo")
    });
    home.podctl(&["delete", "web", "--now"]);
    home.podctl(&["rmi", "python:3.11"]);
}

#[test]
fn a_published_port_where_nobody_listens_in_the_pod_is_closed() {
    let home = Home::new();
    let port = free_port();
    home.start(&pod("idle", "sleep 600", ""), &["-p", &format!("{port}:8080")]);
    assert!(get(port).is_err());
}

#[test]
fn a_port_in_use_stops_the_run_before_anything_starts() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = home.run(&pod("web", SERVES, ""), &["-d", "-p", &format!("127.0.0.1:{port}:8080")]);
    assert!(!output.status.success());
    let words = stderr(&output);
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let said = format!("port 127.0.0.1:{port}/TCP of this machine is in use by {} (process", own.trim());
    assert!(words.contains(&said), "{words}");
    assert!(!words.contains("Started"), "{words}");
    until("the network is gone", || home.traces().is_empty());
    drop(taken);
    // One pod names the other.
    home.start(&pod("first", SERVES, ""), &["-p", &format!("{port}:8080")]);
    let output = home.run(&pod("second", SERVES, ""), &["-d", "-p", &format!("{port}:8080")]);
    assert!(stderr(&output).contains("in use by pod \"first\""), "{}", stderr(&output));
}

#[test]
fn twenty_pods_at_once_have_twenty_addresses_and_leave_nothing() {
    let home = Home::new();
    home.start(&pod("first", "sleep 600", ""), &[]);
    let runs: Vec<_> = (0..20)
        .map(|n| {
            let file = home.file(&format!("{n}.yaml"), &pod(&format!("p{n}"), "sleep 600", ""));
            let null = || fs::File::options().write(true).open("/dev/null").unwrap();
            home.command(&["run", "-d", &file]).stdout(null()).stderr(null()).spawn().unwrap()
        })
        .collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    let addresses: std::collections::HashSet<String> = (0..20)
        .map(|n| home.pod(&format!("p{n}"))["status"]["podIP"].as_str().unwrap_or("none").to_owned())
        .collect();
    assert_eq!(addresses.len(), 20, "{addresses:?}");
    assert_eq!(home.of_role("network").len(), 1);
    assert!(home.in_pod("p0", "nslookup p19").contains("p19.default.svc.cluster.local"));
    home.podctl(&["delete", "--all", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn without_a_network_there_is_loopback_alone() {
    let home = Home::new();
    let output = home.run(&pod("p", "cat /proc/net/dev; ls /sys/class/net", ""), &["--network", "none"]);
    assert!(!stdout(&output).contains("eth0"), "{}", stdout(&output));
    assert!(home.of_role("network").is_empty());
}

#[test]
fn a_pod_cannot_speak_as_another() {
    let home = Home::new();
    home.start(&pod("victim", "sleep 600", ""), &[]);
    let listen = "apiVersion: v1
kind: Pod
metadata: {name: listener}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: python:3.11
    command:
    - python3
    - -c
    - |
      import socket
      s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
      s.bind((\"\", 9000))
      heard = set()
      while len(heard) < 2:
          text, peer = s.recvfrom(99)
          heard.add(peer[0])
          print(text.decode(), peer[0], flush=True)
";
    home.start(listen, &[]);
    let speak = "import socket, sys
OPTION = {socket.AF_INET: (0, 19), socket.AF_INET6: (41, 75)}  # IP_TRANSPARENT, IPV6_TRANSPARENT
while True:
    for word, own, to in (sys.argv[i:i + 3] for i in range(1, len(sys.argv), 3)):
        family = socket.AF_INET6 if \":\" in own else socket.AF_INET
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.setsockopt(*OPTION[family], 1)
        s.bind((own, 0))
        s.sendto(word.encode(), (to, 9000))
";
    let addresses = |name: &str| -> Vec<String> {
        let all = home.pod(name)["status"]["podIPs"].clone();
        all.as_array().unwrap().iter().map(|ip| ip["ip"].as_str().unwrap().to_owned()).collect()
    };
    let (victim, listener) = (addresses("victim"), addresses("listener"));
    let text = "apiVersion: v1
kind: Pod
metadata: {name: evil}
spec:
  containers:
  - name: c
    image: python:3.11
    command: [sleep, '600']
    securityContext: {capabilities: {add: [NET_ADMIN]}}
";
    home.start(text, &[]);
    let mut args = vec!["exec", "evil", "--", "timeout", "60", "python3", "-c", speak];
    let own = addresses("evil");
    for (at, to) in listener.iter().enumerate() {
        args.extend(["pretended", &victim[at], to, "true", &own[at], to]);
    }
    let mut speaker = home.command(&args).spawn().unwrap();
    let families = listener.len();
    until("the listener has heard of both families", || {
        home.pod("listener")["status"]["phase"] == "Succeeded" || families == 1
    });
    let heard = stdout(&home.podctl(&["logs", "listener"]));
    assert!(heard.contains("true") && !heard.contains("pretended"), "{heard}");
    let _ = (speaker.kill(), speaker.wait());
    home.podctl(&["delete", "--all", "--now"]);
    home.podctl(&["rmi", "python:3.11"]);
}

#[test]
fn a_pod_reaches_this_machines_own_address() {
    let Some((address, port)) = own_address() else { return };
    let home = Home::new();
    let client = home.run(&pod("client", &format!("wget -qO- http://{address}:{port}"), ""), &[]);
    assert!(stdout(&client).contains("outside"), "{}", stderr(&client));
}
