//! What the pods' resolver says, and what the resolvers of C libraries make of it.

use std::{fs, net::UdpSocket, os::unix::fs::symlink, process::Command};

use crate::common::{
    Home,
    lab::{Lab, in_mounts, name_server, pod, run, with_image, within},
    stderr, stdout, until,
};

/// A pod of the application `web`.
fn serving(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: web}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: busybox:1.36\n    command: [httpd, -f, -p, '8080', -h, /etc]\n    ports: [{{name: http, containerPort: 8080}}]\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n{spec}")
}

const SHOP: &str = "  selector: {app: web}\n  ports: [{name: http, port: 80, targetPort: http}]\n";

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
    let text = serving("one").replace("spec:\n", "spec:\n  hostname: first\n  subdomain: heads\n")
        + &serving("two")
        + &service("heads", &format!("  clusterIP: None\n{SHOP}"))
        + &service("shop", SHOP)
        + &service("nobody", "  selector: {app: none}\n  ports: [{name: http, port: 80}]\n")
        + &service("outside", "  type: ExternalName\n  externalName: alias.default.svc.cluster.local\n")
        + &service("alias", "  type: ExternalName\n  externalName: shop.default.svc.cluster.local\n")
        + &service("many", &format!("  selector: {{app: web}}\n  ports:\n{many}"));
    home.start(&text, &[]);
    home.start(
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
    let nobody = format!("255.{}", named_one.split_once('.').unwrap().1);
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
        (format!("udp many.{zone} SRV"), format!("NOERROR TC{}", ports(1..=9))),
        (format!("tcp many.{zone} SRV"), format!("NOERROR{}", ports(1..=20))),
        (format!("udp outside.{zone} A"), format!("NOERROR alias.{zone} shop.{zone} {shop}")),
        (format!("udp {named_one} PTR"), format!("NOERROR one.{zone}")),
        (format!("udp {named_shop} PTR"), format!("NOERROR shop.{zone}")),
        (format!("udp {nobody} PTR"), "NXDOMAIN".into()),
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

/// A pod whose containers find `/p/resolve`, which asks musl for the addresses of names.
fn with_musl(home: &Home, name: &str) -> String {
    let (program, source) = (home.path("musl"), home.file("resolve.c", include_str!("../common/resolve.c")));
    if !program.exists() {
        fs::create_dir(&program).unwrap();
        let mut compile = Command::new("musl-gcc");
        compile.args(["-static", "-o"]).arg(program.join("resolve")).arg(source);
        let built = compile.output().expect("musl-gcc is installed by scripts/install-deps");
        assert!(built.status.success(), "{}", stderr(&built));
    }
    let volumes = format!(
        "    volumeMounts: [{{name: p, mountPath: /p, readOnly: true}}]\n  volumes: [{{name: p, hostPath: {{path: {}}}}}]\n",
        program.display()
    );
    pod(name, "exec sleep 600") + &volumes
}

/// Returns what musl says of names: of each a line with its IPv4 addresses.
fn resolved(home: &Home, pod: &str, names: &[&str]) -> Vec<String> {
    home.in_pod(pod, &format!("/p/resolve {}", names.join(" "))).lines().map(str::to_owned).collect()
}

#[test]
fn musl_is_content() {
    let home = with_image();
    let text = serving("one").replace("spec:\n", "spec:\n  hostname: first\n  subdomain: heads\n")
        + &service("heads", &format!("  clusterIP: None\n{SHOP}"))
        + &service("shop", SHOP)
        + &service("alias", "  type: ExternalName\n  externalName: shop.default.svc.cluster.local\n")
        + &service("dangling", "  type: ExternalName\n  externalName: nothing.default.svc.cluster.local\n");
    home.start(&(text + "---\n" + &with_musl(&home, "client")), &[]);
    let one = home.pod("one")["status"]["podIP"].as_str().unwrap().to_owned();
    let shop = home.said(&["get", "svc", "shop", "-o", "jsonpath={.spec.clusterIP}"]);
    let zone = "default.svc.cluster.local";
    let expected = [
        ("one", one.as_str()),
        ("one.default", &one),
        ("first.heads", &one),
        ("heads", &one),
        ("shop", &shop),
        ("shop.default.svc", &shop),
        (&format!("shop.{zone}"), &shop),
        (&format!("shop.{zone}."), &shop),
        ("alias", &shop),
        // Each at once, rather than after five seconds.
        ("dangling", "nobody"),
        (&format!("nothing.{zone}"), "nobody"),
        ("_http._tcp.nothing.default.svc", "nobody"),
    ];
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        resolved(&home, "client", &names),
        expected.map(|(name, address)| format!("{name} {address}"))
    );
}

/// A server of the internet that knows some names.
fn serve_names(lab: &Lab, own: &str, known: &'static [(&str, &str)]) {
    let socket = within(&lab.internet, || {
        run(&format!("ip addr add {own}/32 dev lo"));
        UdpSocket::bind((own, 53)).unwrap()
    });
    let find = |name: &str| {
        let (_, address) = known.iter().find(|(known, _)| *known == name || *known == "*")?;
        Some(address.parse().unwrap())
    };
    std::thread::spawn(move || name_server(&socket, find));
}

fn start_in_mounts(home: &Home, script: &str, own: &str, file: &str) {
    let output = in_mounts(home, script, own, &["run", "-d", file]);
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Has this file as the host's resolv.conf.
const MOUNT_FILE: &str = "mount --bind \"$0\" /etc/resolv.conf";

#[test]
fn the_hosts_search_domains_make_short_names_whole() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    serve_names(
        &lab,
        "203.0.113.53",
        &[
            ("git.corp.example", "203.0.113.81"),
            ("db.prod.lan.example", "203.0.113.82"),
            ("elsewhere.example.org", "203.0.113.83"),
            ("web.corp.example", "203.0.113.84"),
        ],
    );
    let text =
        "# of the office\nnameserver 203.0.113.53\nsearch corp.example lan.example\noptions timeout:1\n";
    let conf = home.file("resolv.conf", text);
    let policy = |name: &str, policy: &str| {
        pod(name, "cat /etc/resolv.conf; sleep 600").replace("spec:\n", &format!("spec:\n{policy}"))
    };
    let pods = pod("web", "sleep 600")
        + &with_musl(&home, "client")
        + &policy("plain", "  dnsPolicy: Default\n")
        + &policy("host", "  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n")
        + &policy(
            "own",
            "  dnsPolicy: None\n  dnsConfig: {nameservers: [203.0.113.9], searches: [a.example]}\n",
        );
    let file = home.file("pods.yaml", &pods);
    lab.on_host(|| {
        start_in_mounts(&home, MOUNT_FILE, &conf, &file);
        let web = home.pod("web")["status"]["podIP"].as_str().unwrap().to_owned();
        let expected = [
            ("git", "203.0.113.81"),
            ("db.prod", "203.0.113.82"),
            ("elsewhere.example.org", "203.0.113.83"),
            // The pod goes before the host's machine of that name.
            ("web", &web),
            ("nothing", "nobody"),
            ("nothing.example.org", "nobody"),
        ];
        let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            resolved(&home, "client", &names),
            expected.map(|(name, address)| format!("{name} {address}"))
        );
        // The name is there, though it has no such address: busybox asks for both.
        assert!(!home.in_pod("web", "nslookup git.").contains("NXDOMAIN"));
    });
    let logs = |pod: &str| stdout(&home.podctl(&["logs", pod]));
    let rest = "search corp.example lan.example\noptions timeout:1\n";
    until("all have said it", || ["plain", "host", "own"].iter().all(|pod| logs(pod).contains("search")));
    assert!(
        logs("plain").starts_with("nameserver 10.") && logs("plain").ends_with(rest),
        "{}",
        logs("plain")
    );
    assert_eq!(logs("host"), format!("nameserver 203.0.113.53\n{rest}"));
    assert_eq!(logs("own"), "nameserver 203.0.113.9\nsearch a.example\n");
}

#[test]
fn the_next_of_the_hosts_resolvers_is_asked_when_the_first_is_silent() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    let _silent = within(&lab.internet, || {
        run("ip addr add 203.0.113.52/32 dev lo");
        UdpSocket::bind("203.0.113.52:53").unwrap()
    });
    serve_names(&lab, "203.0.113.53", &[("elsewhere.example.org", "203.0.113.81")]);
    let conf = home.file("resolv.conf", "nameserver 203.0.113.52\nnameserver 203.0.113.53\n");
    let file = home.file("pod.yaml", &with_musl(&home, "client"));
    lab.on_host(|| {
        start_in_mounts(&home, MOUNT_FILE, &conf, &file);
        let said = resolved(&home, "client", &["elsewhere.example.org", "nothing.example.org"]);
        assert_eq!(said, ["elsewhere.example.org 203.0.113.81", "nothing.example.org nobody"]);
    });
}

#[test]
fn a_changed_resolv_conf_of_the_host_is_followed() {
    let Some(lab) = Lab::new() else { return };
    let home = with_image();
    serve_names(&lab, "203.0.113.53", &[("*", "203.0.113.53")]);
    serve_names(&lab, "203.0.113.54", &[("*", "203.0.113.54")]);
    // As with systemd-resolved, which replaces the file behind the link.
    let etc = home.path("etc");
    fs::create_dir_all(etc.join("resolve")).unwrap();
    let write = |name: &str, last: u8| {
        fs::write(etc.join("new"), format!("nameserver 203.0.113.{last}\n")).unwrap();
        fs::rename(etc.join("new"), etc.join(name)).unwrap();
    };
    write("resolve/stub.conf", 53);
    symlink("resolve/stub.conf", etc.join("resolv.conf")).unwrap();
    let file = home.file("pod.yaml", &pod("p", "sleep 600"));
    lab.on_host(|| {
        start_in_mounts(&home, "mount --bind \"$0\" /etc", etc.to_str().unwrap(), &file);
        let asked = |last: u8| {
            home.in_pod("p", "nslookup elsewhere.example.org").contains(&format!("203.0.113.{last}"))
        };
        assert!(asked(53));
        write("resolve/stub.conf", 54);
        until("the other resolver is asked", || asked(54));
        // A file takes the place of the link.
        write("resolv.conf", 53);
        until("the first is asked again", || asked(53));
        fs::write(etc.join("resolv.conf"), "nameserver 203.0.113.54\n").unwrap();
        until("the other is", || asked(54));
    });
}
