//! Services that are kept, what the resolver says of them, and published ports, on real containers.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv6Addr, Shutdown, TcpListener, TcpStream},
    process::Stdio,
    time::Instant,
};

use crate::common::{
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
    fn apply(&self, text: &str) -> String {
        let file = self.file("apply.yaml", text);
        let output = self.podctl(&["apply", "-f", &file]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
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

    home.start(&(pod("web", "web", SERVER, PORT) + &pod("client", "client", "sleep 600", "")), &[]);
    until("the Service leads to the pod", || home.in_pod("client", "wget -qO- http://shop") == "web\n");
    // Which range is free depends on the networks of tests beside this one.
    let in_range = |address: &str| address.splitn(3, '.').last().map(str::to_owned);
    let (answer, said) = (home.in_pod("client", "nslookup shop"), address());
    assert!(answer.contains(&said), "it is where it is said to be, {said}: {answer}");
    assert_eq!(in_range(&address()), in_range(&kept), "its place in the range is that of before");
    home.apply(&service("later", SHOP));
    assert_eq!(home.in_pod("client", "wget -qO- http://later"), "web\n");
    let endpoint = format!("{}:8080", home.pod("web")["status"]["podIP"].as_str().unwrap());
    assert!(home.said(&["get", "endpoints", "shop"]).contains(&endpoint));
    assert!(home.said(&["get", "endpointslices"]).contains("shop-ipv4"));
    assert!(home.said(&["describe", "service", "shop"]).contains(&endpoint));
    let all = home.said(&["get", "all"]);
    assert!(all.contains("pod/web") && all.contains("service/shop"), "{all}");
    let several = home.said(&["get", "cm,svc,pods", "-o", "name"]);
    assert_eq!(several, "service/later\nservice/shop\npod/client\npod/web\n");
    let unknown = home.podctl(&["get", "pods,gateways"]);
    assert!(stderr(&unknown).contains("resource type \"gateways\""), "{}", stderr(&unknown));

    let labelled = |selector: &str| home.said(&["get", "svc", "-l", selector, "-o", "name"]);
    home.apply(&service("later", SHOP).replace("{name: later}", "{name: later, labels: {tier: front}}"));
    assert_eq!((labelled("tier=front").as_str(), labelled("tier=back").as_str()), ("service/later\n", ""));
    assert!(!home.podctl(&["delete", "svc"]).status.success(), "a name is wanted");
    assert_eq!(
        home.said(&["delete", "svc", "-l", "tier=front"]),
        "service \"later\" deleted from default namespace\n"
    );

    assert_eq!(
        home.said(&["delete", "service", "shop"]),
        "service \"shop\" deleted from default namespace\n"
    );
    assert!(home.in_pod("client", "nslookup shop").contains("NXDOMAIN"));
    assert!(!home.podctl(&["get", "service", "shop"]).status.success());
    home.podctl(&["delete", "pods", "--all", "--now"]);
    until("the network is gone", || home.traces().is_empty());
    home.apply(&service("shop", SHOP));
    assert_eq!(in_range(&address()), in_range(&kept), "its address is the same again");
}

#[test]
fn many_services_lead_to_their_pods_and_follow_them() {
    let home = Home::new();
    // Said at once, the rules of their ports would be longer than what the kernel takes at once.
    const MANY: usize = 40;
    let ports: String =
        (80..90).map(|n| format!("  - {{name: p{n}, port: {n}, targetPort: http}}\n")).collect();
    let spec = format!("  selector: {{app: web}}\n  ports:\n{ports}");
    let all: String = (0..MANY).map(|n| service(&format!("s{n}"), &spec)).collect();
    home.apply(&all);
    let both = pod("web", "web", SERVER, PORT) + &pod("client", "client", "sleep 600", "");
    let output = home.start(&both, &[]);
    assert!(!stderr(&output).contains("nftables"), "{}", stderr(&output));
    let asked =
        || home.in_pod("client", &format!("for n in 0 {}; do wget -qO- http://s$n:89; done", MANY - 1));
    until("the first and the last lead to the pod", || asked() == "web\nweb\n");
    home.start(&pod("more", "web", SERVER, PORT), &[]);
    until("both pods are come to", || home.asked("client", 20, "s0").len() == 2);
    home.said(&["delete", "pod", "web"]);
    until("the pod that is left is come to", || asked() == "more\nmore\n");
}

#[test]
fn services_of_other_files_pods_are_kept_by_run_and_those_of_its_own_go_with_them() {
    let home = Home::new();
    let output = home.run(&service("alone", SHOP), &[]);
    assert_eq!(stdout(&output), "service/alone created\n", "{}", stderr(&output));
    let front = pod("front", "front", "sleep 600", "")
        + &service("theirs", SHOP)
        + &service("own", "  selector: {app: front}\n  ports: [{port: 80}]\n");
    home.start(&front, &[]);
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
    home.start(&of_pod, &[]);
    until("the port is served", || get(port).is_ok());
    assert!(home.apply(&of_pod).contains("service/web created"));
    home.said(&["delete", "pod", "web", "--now"]);
    assert_eq!(home.said(&["delete", "service", "web"]), "service \"web\" deleted from default namespace\n");

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
    home.start(&pod("web", "web", SERVER, PORT), &[]);
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
    home.kill(&["network"]);
    until("the next keeper serves it", served);
    home.said(&["delete", "service", "shop"]);
    until("nobody listens any more", || TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_node_port_that_came_with_two_pods_outlives_the_first_of_them_and_the_keeper() {
    let home = Home::new();
    let port = free_port();
    let shared = SHOP.replace("port: 80,", &format!("port: 80, nodePort: {port},"));
    let both = pod("one", "web", SERVER, PORT)
        + &pod("two", "web", SERVER, PORT)
        + &service("shop", &format!("  type: NodePort\n{shared}"));
    home.start(&both, &[]);
    until("both serve", || home.said(&["get", "ep", "shop"]).matches(":8080").count() == 2);
    home.said(&["delete", "pod", "one", "--now"]);
    let served = || get(port).is_ok_and(|text| text.contains("two"));
    until("the other serves it", served);
    home.kill(&["network"]);
    until("the next keeper is there", || home.of_role("network-again").len() == 1);
    until("it is served again", served);
    home.said(&["delete", "pod", "two", "--now"]);
    until("nobody listens any more", || TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn node_ports_of_pods_that_start_at_once_are_all_served() {
    let home = Home::new();
    home.start(&pod("first", "first", "sleep 600", ""), &[]);
    let names: Vec<String> = (0..6).map(|n| format!("web{n}")).collect();
    let runs: Vec<_> = names
        .iter()
        .map(|name| {
            let port = free_port();
            let spec = format!(
                "  type: NodePort\n  selector: {{app: {name}}}\n  ports: [{{port: 8080, nodePort: {port}}}]\n"
            );
            let file =
                home.file(&format!("{name}.yaml"), &(pod(name, name, SERVER, "") + &service(name, &spec)));
            let mut run = home.command(&["run", "-d", &file]);
            (port, name, run.stdout(Stdio::null()).spawn().unwrap())
        })
        .collect();
    for (port, name, mut run) in runs {
        assert!(run.wait().unwrap().success());
        until("its port is served", || get(port).is_ok_and(|text| text.contains(name)));
    }
}

#[test]
fn a_chosen_cluster_ip_is_the_services_own_or_refused_as_the_api_server_would() {
    let home = Home::new();
    home.start(&(pod("web", "web", SERVER, PORT) + &pod("client", "client", "sleep 600", "")), &[]);
    home.apply(&service("any", SHOP));
    let any = home.said(&["get", "svc", "any", "-o", "jsonpath={.spec.clusterIP}"]);
    // The Services' half of the network's range, whichever that is.
    let range = any.split('.').take(2).collect::<Vec<_>>().join(".");
    let chosen = |name: &str, ip: &str| service(name, &format!("  clusterIP: {ip}\n{SHOP}"));
    let own = format!("{range}.200.1");
    assert_eq!(home.apply(&chosen("own", &own)), "service/own created\n");
    assert_eq!(home.apply(&chosen("own", &own)), "service/own unchanged\n");
    until("it leads to the pod", || home.in_pod("client", &format!("wget -qO- http://{own}")) == "web\n");
    assert!(home.in_pod("client", "nslookup own").contains(&own));
    let refused = |text: &str, words: &str| {
        for command in [&["apply", "-f"][..], &["run", "-d"]] {
            let file = home.file("refused.yaml", text);
            let output = home.podctl(&[command, &[&file]].concat());
            assert!(!output.status.success() && stderr(&output).contains(words), "{}", stderr(&output));
            // The others of a file are applied all the same.
            home.said(&["delete", "pod", "front", "--ignore-not-found", "--force"]);
        }
    };
    refused(
        &chosen("other", &own),
        &format!("failed to allocate IP {own}: provided IP is already allocated"),
    );
    let valid = format!("The range of valid IPs is {range}.128.0/17");
    refused(&chosen("other", "192.0.2.1"), &format!("provided IP is not in the valid range. {valid}"));
    refused(&chosen("other", &format!("{range}.0.9")), &valid);
    refused(&chosen("own", &format!("{range}.200.2")), "may not change once set");
    refused(&chosen("other", "own"), "must be a valid IP address");
    // One that comes with its pod.
    let front = pod("front", "front", "sleep 600", "");
    let selects = |name: &str, ip: &str| chosen(name, ip).replace("app: web", "app: front");
    refused(&(front.clone() + &selects("front", &own)), "provided IP is already allocated");
    let theirs = format!("{range}.200.3");
    home.start(&(front + &selects("front", &theirs)), &[]);
    assert_eq!(home.said(&["get", "svc", "front", "-o", "jsonpath={.spec.clusterIP}"]), theirs);
    // An empty one is chosen as if there were none.
    home.apply(&service("empty", &format!("  clusterIP: ''\n{SHOP}")));
    let sorted = home.said(&["get", "svc", "--sort-by", ".spec.clusterIP", "-o", "name", "-l", "a!=b"]);
    let (own, front) = (sorted.find("/own").unwrap(), sorted.find("/front").unwrap());
    assert!(own < front, "{sorted}");
}

#[test]
fn what_changes_of_services_and_endpoints_is_shown() {
    let home = Home::new();
    home.apply(&service("shop", SHOP));
    let watched = |name: &str, args: &[&str]| {
        let out = File::create(home.path(name)).unwrap();
        home.command(args).stdout(out).spawn().unwrap()
    };
    let mut watches =
        [watched("services", &["get", "svc", "-w"]), watched("endpoints", &["get", "ep", "shop", "-w"])];
    let said = |name: &str| std::fs::read_to_string(home.path(name)).unwrap();
    until("what there is has been shown", || {
        said("services").contains("shop") && said("endpoints").contains("<none>")
    });
    home.start(&pod("web", "web", SERVER, PORT), &[]);
    until("the endpoint is shown", || said("endpoints").contains(":8080"));
    home.apply(&service("later", SHOP));
    until("the other Service is shown", || said("services").contains("later"));
    let last = |name: &str| said(name).lines().last().unwrap_or_default().to_owned();
    home.said(&["delete", "pod", "web", "--now"]);
    until("the endpoint is gone", || last("endpoints").contains("<none>"));
    assert!(!said("endpoints").contains("later"));
    for watch in &mut watches {
        watch.kill().unwrap();
        watch.wait().unwrap();
    }
}

#[test]
fn connections_are_spread_evenly_and_a_client_with_affinity_keeps_its_endpoint() {
    let home = Home::new();
    let sticky = format!(
        "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: 600}}}}\n{SHOP}"
    );
    home.apply(&(service("shop", SHOP) + &service("sticky", &sticky)));
    let servers: String = (0..3).map(|n| pod(&format!("web{n}"), "web", SERVER, PORT)).collect();
    home.start(&(servers + &pod("client", "client", "sleep 600", "")), &[]);
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
    home.start(&pod("web3", "web", SERVER, PORT), &[]);
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
        "{PORT}    readinessProbe: {{exec: {{command: [test, -e, /tmp/ready]}}, periodSeconds: 1, timeoutSeconds: 30}}\n"
    );
    let eager = SHOP.replace("  ports", "  publishNotReadyAddresses: true\n  ports");
    home.apply(&(service("shop", SHOP) + &service("eager", &eager)));
    home.start(&(pod("web", "web", SERVER, &probe) + &pod("client", "client", "sleep 600", "")), &[]);
    let slice =
        |path: &str| home.said(&["get", "ep", "shop", "-o", &format!("jsonpath={{.subsets[0].{path}}}")]);
    assert!(slice("notReadyAddresses").contains("\"web\""));
    until("it asks for pods that are not ready", || {
        home.in_pod("client", "wget -qO- http://eager") == "web\n"
    });
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
    home.start(&pod("late", "late", script, ""), &["-p", &format!("{port}:8080")]);
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
    home.start(&echo, &["-p", &format!("127.0.0.1:{port}:9000")]);
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
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let port = free_port();
    home.start(&pod("web", "web", SERVER, PORT), &["-P", "-p", &format!("[::1]:{port}:8080")]);
    until("it is served", || TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it is published at one address");
    home.start(&pod("every", "web", SERVER, PORT), &["-P"]);
    let free = home.pod("every")["spec"]["containers"][0]["ports"][0]["hostPort"].as_u64().unwrap();
    until("the free port is served", || {
        get(free.try_into().unwrap()).is_ok_and(|text| text.contains("every"))
    });
}
