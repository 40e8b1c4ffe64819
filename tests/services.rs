//! Services that are kept, what the resolver says of them, and published ports, on real containers.

mod common;

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, Shutdown, TcpListener, TcpStream},
    time::Instant,
};

use common::{
    Home,
    net::{free_port, get},
    stderr, stdout, until,
};

/// A pod with one busybox container that runs a line of shell; `more` is further YAML of the container.
fn pod(name: &str, app: &str, script: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: {app}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n{more}"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n{spec}")
}

/// Serves its host's name over HTTP at port 8080.
const SERVER: &str = "hostname > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";
const PORT: &str = "    ports: [{name: http, containerPort: 8080}]\n";
const SHOP: &str = "  selector: {app: web}\n  ports: [{name: http, port: 80, targetPort: http}]\n";

impl Home {
    fn up(&self, text: &str, flags: &[&str]) {
        let output = self.run(text, &[&["-d"], flags].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    }

    fn apply(&self, text: &str) -> String {
        let file = self.file("apply.yaml", text);
        let output = self.podctl(&["apply", "-f", &file]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    }

    fn said(&self, args: &[&str]) -> String {
        let output = self.podctl(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn in_pod(&self, pod: &str, script: &str) -> String {
        stdout(&self.podctl(&["exec", pod, "--", "sh", "-c", script]))
    }

    /// The names that a Service answers with, and how often each of them.
    fn asked(&self, client: &str, times: usize, service: &str) -> Vec<usize> {
        let script = format!("for i in $(seq {times}); do wget -qO- http://{service}; done | sort | uniq -c");
        let counts = self.in_pod(client, &script);
        counts.lines().filter_map(|l| l.split_whitespace().next()?.parse().ok()).collect()
    }
}

#[test]
fn r_net_1_a_kept_service_selects_pods_of_before_and_after_until_it_is_deleted() {
    let home = Home::new();
    assert_eq!(home.apply(&service("shop", SHOP)), "service/shop created\n");
    assert_eq!(home.apply(&service("shop", SHOP)), "service/shop unchanged\n");
    let address = || home.said(&["get", "svc", "shop", "-o", "jsonpath={.spec.clusterIP}"]);
    let kept = address();
    assert!(home.said(&["get", "endpoints"]).contains("<none>"));

    home.up(&(pod("web", "web", SERVER, PORT) + &pod("client", "client", "sleep 600", "")), &[]);
    until("the Service leads to the pod", || home.in_pod("client", "wget -qO- http://shop") == "web\n");
    assert!(home.in_pod("client", "nslookup shop").contains(&kept), "it is where it was said to be");
    home.apply(&service("later", SHOP));
    assert_eq!(home.in_pod("client", "wget -qO- http://later"), "web\n");
    let endpoint = format!("{}:8080", home.pod("web")["status"]["podIP"].as_str().unwrap());
    assert!(home.said(&["get", "endpoints", "shop"]).contains(&endpoint));
    assert!(home.said(&["get", "endpointslices"]).contains("shop-ipv4"));
    assert!(home.said(&["describe", "service", "shop"]).contains(&endpoint));
    let all = home.said(&["get", "all"]);
    assert!(all.contains("pod/web") && all.contains("service/shop"), "{all}");

    let labelled = |selector: &str| home.said(&["get", "svc", "-l", selector, "-o", "name"]);
    home.apply(&service("later", SHOP).replace("{name: later}", "{name: later, labels: {tier: front}}"));
    assert_eq!((labelled("tier=front").as_str(), labelled("tier=back").as_str()), ("service/later\n", ""));
    assert!(!home.podctl(&["delete", "svc"]).status.success(), "a name is wanted");
    assert_eq!(home.said(&["delete", "svc", "-l", "tier=front"]), "service \"later\" deleted\n");

    assert_eq!(home.said(&["delete", "service", "shop"]), "service \"shop\" deleted\n");
    assert!(home.in_pod("client", "nslookup shop").contains("NXDOMAIN"));
    assert!(!home.podctl(&["get", "service", "shop"]).status.success());
    home.podctl(&["delete", "pods", "--all", "--now"]);
    until("the network is gone", || home.traces().is_empty());
    home.apply(&service("shop", SHOP));
    assert_eq!(address(), kept, "its address is the same again");
}

#[test]
fn services_of_other_files_pods_are_kept_by_run_and_those_of_its_own_go_with_them() {
    let home = Home::new();
    let output = home.run(&service("alone", SHOP), &[]);
    assert_eq!(stdout(&output), "service/alone created\n", "{}", stderr(&output));
    let front = pod("front", "front", "sleep 600", "")
        + &service("theirs", SHOP)
        + &service("own", "  selector: {app: front}\n  ports: [{port: 80}]\n");
    home.up(&front, &[]);
    let names = || home.said(&["get", "services", "-o", "name"]);
    assert_eq!(names(), "service/alone\nservice/own\nservice/theirs\n");
    let refused = home.podctl(&["delete", "service", "own"]);
    assert!(stderr(&refused).contains("came with a pod"), "{}", stderr(&refused));
    // Applied afterwards it is kept, with the node port that is served already.
    let port = free_port();
    let of_pod = pod("web", "web", SERVER, PORT)
        + &service(
            "web",
            &format!(
                "  type: NodePort\n{}",
                SHOP.replace("port: 80,", &format!("port: 80, nodePort: {port},"))
            ),
        );
    home.up(&of_pod, &[]);
    until("the port is served", || get(port).is_ok());
    assert!(home.apply(&of_pod).contains("service/web created"));
    home.said(&["delete", "pod", "web", "--now"]);
    assert_eq!(home.said(&["delete", "service", "web"]), "service \"web\" deleted\n");

    home.podctl(&["delete", "pod", "front", "--now"]);
    assert_eq!(names(), "service/alone\nservice/theirs\n");
    let file = home.file("apply.yaml", &(service("alone", SHOP) + &service("theirs", SHOP)));
    home.said(&["delete", "-f", &file]);
    assert!(names().is_empty());
}

#[test]
fn a_kept_node_port_is_chosen_once_served_while_pods_live_and_survives_the_keeper() {
    let home = Home::new();
    home.apply(&service("shop", &format!("  type: NodePort\n{SHOP}")));
    let chosen = || -> u16 {
        home.said(&["get", "svc", "shop", "-o", "jsonpath={.spec.ports[0].nodePort}"]).parse().unwrap()
    };
    let port = chosen();
    assert!((30_000..=32_767).contains(&port), "{port}");
    home.up(&pod("web", "web", SERVER, PORT), &[]);
    let served = || get(port).is_ok_and(|text| text.contains("web"));
    until("the port is served", served);
    home.apply(&service("shop", &format!("  type: NodePort\n  publishNotReadyAddresses: true\n{SHOP}")));
    assert_eq!(chosen(), port);
    // A load balancer's own port is its own as well.
    let (balanced, balancer) = (free_port(), SHOP.replace("port: 80,", "port: BALANCED,"));
    let balancer = service("balancer", &format!("  type: LoadBalancer\n{balancer}"));
    let balancer = balancer.replace("BALANCED", &balanced.to_string());
    assert_eq!(home.apply(&balancer), "service/balancer created\n");
    assert_eq!(home.apply(&balancer), "service/balancer unchanged\n");
    until("it is served", || get(balanced).is_ok_and(|text| text.contains("web")));
    let clash = SHOP.replace("port: 80,", &format!("port: 80, nodePort: {port},"));
    let file = home.file("clash.yaml", &service("clash", &format!("  type: NodePort\n{clash}")));
    let refused = home.podctl(&["apply", "-f", &file]);
    assert!(stderr(&refused).contains("in use by service \"default/shop\""), "{}", stderr(&refused));
    let traces = home.traces();
    let keeper =
        traces.iter().find_map(|t| t.strip_prefix("process ")?.strip_suffix(": podctl internal network "));
    let keeper = nix::unistd::Pid::from_raw(keeper.unwrap().parse().unwrap());
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the next keeper serves it", served);
    home.said(&["delete", "service", "shop"]);
    until("nobody listens any more", || TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// Asks the pod's resolver: `udp|tcp NAME TYPE [EDNS]` each; prints code, flags and records.
const ASK: &str = r#"
import socket, struct, sys
TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "AAAA": 28, "SRV": 33, "TXT": 16}
def name(m, at):
    labels = []
    while True:
        n = m[at]
        if n == 0: return ".".join(labels), at + 1
        if n >= 192: return ".".join(labels + [name(m, (n & 63) << 8 | m[at + 1])[0]]), at + 2
        labels.append(m[at + 1:at + 1 + n].decode()); at += 1 + n
server = [l.split()[1] for l in open("/etc/resolv.conf") if l.startswith("nameserver")][0]
for line in sys.argv[1].splitlines():
    how, what, kind, *edns = line.split()
    q = struct.pack(">6H", 7, 0x100, 1, 0, 0, len(edns))
    q += b"".join(bytes([len(l)]) + l.encode() for l in what.split(".")) + b"\0" + struct.pack(">2H", TYPES[kind], 1)
    for size in edns: q += b"\0" + struct.pack(">2HIH", 41, int(size), 0, 0)
    s = socket.socket(type=socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(20); s.connect((server, 53))
    s.send(struct.pack(">H", len(q)) + q if how == "tcp" else q)
    if how == "tcp":
        f = s.makefile("rb"); m = f.read(struct.unpack(">H", f.read(2))[0])
    else: m = s.recv(9999)
    _, flags, _, answers, _, more = struct.unpack(">6H", m[:12])
    at = name(m, 12)[1] + 4
    found = []
    for i in range(answers + more):
        owner, at = name(m, at)
        t, _, _, n = struct.unpack(">2HIH", m[at:at + 10]); d = at + 10; at = d + n
        if t == 41: found.append("EDNS"); continue
        if i >= answers: continue
        found.append({1: lambda: socket.inet_ntop(2, m[d:d + 4]), 28: lambda: socket.inet_ntop(10, m[d:d + 16]),
            33: lambda: "%d:%s" % (struct.unpack(">H", m[d + 4:d + 6])[0], name(m, d + 6)[0])}.get(t, lambda: name(m, d)[0])())
    print(what, kind, ["NOERROR", "", "SERVFAIL", "NXDOMAIN"][flags & 15] + (" TC" if flags & 0x200 else ""), *found)
"#;

#[test]
fn r_net_1_the_resolver_answers_every_kind_of_question_and_every_kind_of_client() {
    let home = Home::new();
    let many: String = (1..=20).map(|n| format!("  - {{name: port-{n}, port: {n}}}\n")).collect();
    let text = pod("one", "web", SERVER, PORT)
        .replace("spec:\n", "spec:\n  hostname: first\n  subdomain: heads\n")
        + &pod("two", "web", SERVER, PORT)
        + &service("heads", &format!("  clusterIP: None\n{SHOP}"))
        + &service("shop", SHOP)
        + &service("nobody", "  selector: {app: none}\n  ports: [{name: http, port: 80}]\n")
        + &service("outside", "  type: ExternalName\n  externalName: alias.default.svc.cluster.local\n")
        + &service("alias", "  type: ExternalName\n  externalName: shop.default.svc.cluster.local\n")
        + &service("many", &format!("  selector: {{app: web}}\n  ports:\n{many}"));
    home.up(&text, &[]);
    home.up(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: client}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - {name: c, image: 'python:3.11', command: [sleep, '600']}\n",
        &["-n", "other"],
    );
    let python = |script: &str, argument: &str| {
        home.said(&["-n", "other", "exec", "client", "--", "python3", "-c", script, argument])
    };
    let ip = |name: &str| home.pod(name)["status"]["podIP"].as_str().unwrap().to_owned();
    let (one, two) = (ip("one"), ip("two"));
    let shop = home.said(&["get", "svc", "shop", "-o", "jsonpath={.spec.clusterIP}"]);
    let zone = "default.svc.cluster.local";
    let reverse = |ip: &str| ip.split('.').rev().collect::<Vec<_>>().join(".") + ".in-addr.arpa";
    let dashed = two.replace('.', "-");
    let (named_one, named_shop) = (reverse(&one), reverse(&shop));
    let ports = |numbers: std::ops::RangeInclusive<u16>| {
        numbers.map(|n| format!(" {n}:many.{zone}")).collect::<String>()
    };
    let cases = [
        (format!("udp heads.{zone} A"), format!("NOERROR {one} {two}")),
        ("udp HEADS.Default.svc.CLUSTER.local A".into(), format!("NOERROR {one} {two}")),
        (format!("udp shop.{zone} A 1400"), format!("NOERROR {shop} EDNS")),
        (format!("udp shop.{zone} TXT"), "NOERROR".into()),
        ("udp one.default A".into(), format!("NOERROR {one}")),
        (format!("udp first.heads.{zone} A"), format!("NOERROR {one}")),
        (format!("udp {dashed}.heads.{zone} A"), format!("NOERROR {two}")),
        (format!("udp nothing.{zone} A"), "NXDOMAIN".into()),
        (format!("udp nothing.{zone} AAAA 1232"), "NXDOMAIN EDNS".into()),
        (format!("udp {zone} A"), "NOERROR".into()),
        (format!("udp _tcp.shop.{zone} SRV"), "NOERROR".into()),
        (format!("udp _http._tcp.shop.{zone} SRV"), format!("NOERROR 80:shop.{zone}")),
        (format!("udp _http._udp.shop.{zone} SRV"), "NXDOMAIN".into()),
        (
            format!("udp _http._tcp.heads.{zone} SRV"),
            format!("NOERROR 8080:first.heads.{zone} 8080:{dashed}.heads.{zone}"),
        ),
        (format!("udp many.{zone} SRV"), "NOERROR TC".into()),
        (format!("tcp many.{zone} SRV"), format!("NOERROR{}", ports(1..=20))),
        (format!("udp outside.{zone} A"), format!("NOERROR alias.{zone} shop.{zone} {shop}")),
        (format!("udp {named_one} PTR"), format!("NOERROR one.{zone}")),
        (format!("udp {named_shop} PTR"), format!("NOERROR shop.{zone}")),
    ];
    let questions: Vec<&str> = cases.iter().map(|(question, _)| question.as_str()).collect();
    let answers = python(ASK, &questions.join("\n"));
    for ((question, expected), answer) in cases.iter().zip(answers.lines()) {
        let asked = question.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ");
        assert_eq!(answer, format!("{asked} {expected}"), "{question}");
    }
    assert_eq!(answers.lines().count(), cases.len(), "{answers}");

    // glibc, by its own search list and by way of Python.
    let resolve =
        "import socket, sys; print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80, type=1)}))";
    for name in ["shop.default", "shop.default.svc", "Shop.default.svc.cluster.local"] {
        assert!(python(resolve, name).split_whitespace().any(|a| a == shop), "{name}");
    }
    let getent = |name: &str| home.podctl(&["-n", "other", "exec", "client", "--", "getent", "hosts", name]);
    assert!(stdout(&getent("one.default")).contains("one.default"), "{}", stderr(&getent("one.default")));
    assert!(stdout(&getent(&one)).contains(&format!("one.{zone}")));
    assert!(!getent("shop").status.success(), "another namespace has no such Service");
    // Nobody serves: the name is there, and the kernel refuses.
    let refused = "import socket\ntry: socket.create_connection((\"nobody.default\", 80), 9)\nexcept ConnectionRefusedError: print(\"refused\")";
    assert_eq!(python(refused, ""), "refused\n");
    home.podctl(&["delete", "pods", "-A", "--all", "--now"]);
    home.podctl(&["rmi", "python:3.11"]);
}

#[test]
fn connections_are_spread_evenly_and_a_client_with_affinity_keeps_its_endpoint() {
    let home = Home::new();
    let sticky = format!(
        "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: 600}}}}\n{SHOP}"
    );
    home.apply(&(service("shop", SHOP) + &service("sticky", &sticky)));
    let servers: String = (0..3).map(|n| pod(&format!("web{n}"), "web", SERVER, PORT)).collect();
    home.up(&(servers + &pod("client", "client", "sleep 600", "")), &[]);
    until("all serve", || home.said(&["get", "ep", "shop"]).matches(":8080").count() == 3);
    for n in 0..3 {
        let listens = format!("wget -qO- http://web{n}:8080");
        until("each listens", || home.in_pod("client", &listens) == format!("web{n}\n"));
    }
    let counts = home.asked("client", 120, "shop");
    // One in three: a spread as wide as this comes once in thousands of millions.
    assert!(counts.len() == 3 && counts.iter().all(|c| (8..=80).contains(c)), "{counts:?}");
    assert_eq!(home.asked("client", 20, "sticky"), [20]);
    let own = home.in_pod("client", "wget -qO- http://sticky");
    // What does not concern it changes the rules all the same.
    home.up(&pod("web3", "web", SERVER, PORT), &[]);
    until("it listens", || home.in_pod("client", "wget -qO- http://web3:8080") == "web3\n");
    assert_eq!(
        home.in_pod("client", "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://sticky; done"),
        own.repeat(9)
    );
    home.podctl(&["delete", "pod", own.trim(), "--now"]);
    let other = home.in_pod("client", "wget -qO- http://sticky");
    assert!(other.starts_with("web") && other != own, "{other}");
    assert_eq!(home.in_pod("client", "wget -qO- http://sticky"), other);
}

#[test]
fn readiness_changes_what_the_network_says() {
    let home = Home::new();
    let probe = format!(
        "{PORT}    readinessProbe: {{exec: {{command: [test, -e, /tmp/ready]}}, periodSeconds: 1}}\n"
    );
    let eager = SHOP.replace("  ports", "  publishNotReadyAddresses: true\n  ports");
    home.apply(&(service("shop", SHOP) + &service("eager", &eager)));
    home.up(&(pod("web", "web", SERVER, &probe) + &pod("client", "client", "sleep 600", "")), &[]);
    let slice =
        |path: &str| home.said(&["get", "ep", "shop", "-o", &format!("jsonpath={{.subsets[0].{path}}}")]);
    assert!(slice("notReadyAddresses").contains("\"web\""));
    assert_eq!(
        home.in_pod("client", "wget -qO- http://eager"),
        "web\n",
        "it asks for pods that are not ready"
    );
    assert!(home.in_pod("client", "wget -qO- http://shop 2>&1").contains("refused"));
    // Both in one place, so that what lies between them can be seen.
    let watch = "until nslookup web >/dev/null 2>&1; do :; done; date +%s.%N; until wget -qO- http://shop; do :; done";
    let mut waiter = home.command(&["exec", "client", "--", "sh", "-c", watch]);
    let waiter = waiter.stdout(std::process::Stdio::piped()).spawn().unwrap();
    home.in_pod("web", "touch /tmp/ready");
    home.said(&["wait", "pod/web", "--for=condition=Ready", "--timeout=60s"]);
    let ready = Instant::now();
    assert!(stdout(&waiter.wait_with_output().unwrap()).ends_with("web\n"));
    println!("{} ms after the condition the Service had been reached", ready.elapsed().as_millis());
    assert!(slice("addresses").contains("\"web\""));
}

#[test]
fn a_published_port_listens_only_while_the_pod_does_and_is_nobody_elses() {
    let home = Home::new();
    let port = free_port();
    let script = "while ! [ -e /tmp/go ]; do sleep 0.02; done; httpd -f -p 8080 -h /tmp & while [ -e /tmp/go ]; do sleep 0.02; done; kill $!; exec sleep 600";
    home.up(&pod("late", "late", script, ""), &["-p", &format!("{port}:8080")]);
    let refused = || {
        TcpStream::connect(("127.0.0.1", port))
            .is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    assert!(refused());
    assert!(TcpListener::bind(("0.0.0.0", port)).is_err(), "it is taken all the same");
    home.in_pod("late", "echo hello > /tmp/index.html; touch /tmp/go");
    until("it is served", || get(port).is_ok_and(|text| text.contains("hello")));
    home.in_pod("late", "rm /tmp/go");
    until("it is refused again", refused);
    assert!(TcpListener::bind(("0.0.0.0", port)).is_err());
    assert!(home.said(&["get", "pod", "late", "-o", "wide"]).contains(&format!("{port}->8080/TCP")));
}

#[test]
fn a_published_port_carries_both_directions_to_their_ends() {
    let home = Home::new();
    let port = free_port();
    let echo = pod("echo", "echo", "while :; do nc -l -p 9000 -e cat; done", "");
    home.up(&echo, &["-p", &format!("127.0.0.1:{port}:9000")]);
    let mut stream = None;
    until("it listens", || {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    });
    let mut stream = stream.unwrap();
    let sent: Vec<u8> = (0..16_u32 << 18).flat_map(|n| n.to_ne_bytes()).collect();
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        // What comes back ends after this, and not before.
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
}

#[test]
fn ports_are_published_over_ipv6_and_all_at_once() {
    let home = Home::new();
    let Ok(taken) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    home.up(&pod("web", "web", SERVER, PORT), &["-P", "-p", &format!("[::1]:{port}:8080")]);
    until("it is served", || TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it is published at one address");
    home.up(&pod("every", "web", SERVER, PORT), &["-P"]);
    let free = home.pod("every")["spec"]["containers"][0]["ports"][0]["hostPort"].as_u64().unwrap();
    until("the free port is served", || {
        get(free.try_into().unwrap()).is_ok_and(|text| text.contains("every"))
    });
}
