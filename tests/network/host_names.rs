//! What a pod is called, and what it calls others: host name, /etc/hosts, /etc/resolv.conf.

use crate::common::{Home, lines, stderr, stdout};

/// A pod named `p` of one busybox container; `pod` is more of its spec.
fn pod(pod: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n{pod}  containers:\n  - {{name: a, image: 'busybox:1.36', command: [sh, -c, '{script}']}}\n"
    )
}

#[test]
fn host_names_and_aliases_are_written_as_the_kubelet_does() {
    let home = Home::new();
    let said = |spec: &str| {
        lines(&home.run(&pod(spec, "hostname; cat /etc/hostname; cat /etc/hosts"), &["--replace"]))
    };
    let ip = || home.pod("p")["status"]["podIP"].as_str().unwrap_or_default().to_owned();

    let found = said("");
    assert_eq!(found[..2], ["p", "p"]);
    assert!(found.contains(&format!("{}\tp", ip())), "{found:?}");

    let found = said(
        "  hostname: web\n  subdomain: s\n  setHostnameAsFQDN: false\n  hostAliases: [{ip: 10.0.0.1, hostnames: [x, z]}, {ip: 'fd00::1', hostnames: [v6]}]\n",
    );
    assert_eq!(found[..2], ["web", "web"]);
    for line in [&format!("{}\tweb.s.default.svc.cluster.local\tweb", ip()), "10.0.0.1\tx\tz", "fd00::1\tv6"]
    {
        assert!(found.iter().any(|l| l == line), "{line}: {found:?}");
    }

    let found = said("  hostname: web\n  subdomain: s\n  setHostnameAsFQDN: true\n");
    assert_eq!(found[..2], ["web.s.default.svc.cluster.local"; 2]);

    let found = said("  hostname: web\n  hostnameOverride: any.name.example\n");
    assert_eq!(found[..2], ["any.name.example"; 2]);
}

#[test]
fn resolv_conf_is_that_of_the_policy_with_what_the_pod_adds() {
    let home = Home::new();
    let said = |spec: &str| lines(&home.run(&pod(spec, "cat /etc/resolv.conf"), &["--replace"]));
    let config = "  dnsConfig:\n    nameservers: [192.0.2.1, '2001:db8::1']\n    searches: [corp.example, lan]\n    options: [{name: ndots, value: '2'}, {name: edns0}]\n";
    assert_eq!(
        said(&format!("  dnsPolicy: None\n{config}")),
        [
            "nameserver 192.0.2.1",
            "nameserver 2001:db8::1",
            "search corp.example lan",
            "options ndots:2 edns0"
        ]
    );
    let cluster = said(&format!("  dnsPolicy: ClusterFirst\n{config}"));
    assert_eq!(
        cluster[1..],
        [
            "nameserver 192.0.2.1",
            "nameserver 2001:db8::1",
            "search default.svc.cluster.local corp.example lan",
            "options ndots:2 edns0"
        ]
    );
    let default = said("  dnsPolicy: Default\n");
    // Which of the ranges it is may change from one network to the next.
    for first in [&cluster[0], &default[0]] {
        let of_network = first.starts_with("nameserver 10.") && first.ends_with(".0.1");
        assert!(of_network, "the network's resolver asks the host's: {first}");
    }
    assert!(!default.iter().any(|line| line.contains("cluster.local")), "{default:?}");
}

#[test]
fn with_the_hosts_network_a_pod_has_the_hosts_names() {
    let home = Home::new();
    let own = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let script = "readlink /proc/self/ns/net; hostname; cat /etc/hosts";
    let net = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let found =
        lines(&home.run(&pod("  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n", script), &[]));
    assert_eq!(found[..2], [&net, own("/proc/sys/kernel/hostname").trim()]);
    assert!(own("/etc/hosts").lines().all(|line| found.iter().any(|l| l == line)), "{found:?}");
    let status = home.pod("p")["status"].clone();
    assert_eq!(status["podIP"], status["hostIP"], "{status:#}");
}

#[test]
fn names_that_no_machine_takes_are_refused() {
    let home = Home::new();
    let long = "x".repeat(60);
    for (spec, words) in [
        ("  os: {name: windows}\n", "spec.os.name: Unsupported value: \"windows\""),
        ("  dnsPolicy: None\n", "must provide `dnsConfig` when `dnsPolicy` is None"),
        (
            "  dnsPolicy: None\n  dnsConfig: {searches: [a]}\n",
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        ),
        ("  dnsConfig: {nameservers: [one]}\n", "spec.dnsConfig.nameservers[0]: Invalid value: \"one\""),
        ("  dnsConfig: {options: [{value: '1'}]}\n", "spec.dnsConfig.options[0].name: Required value"),
        ("  hostnameOverride: Up\n", "spec.hostnameOverride: Invalid value: \"Up\""),
        (
            "  hostnameOverride: a\n  setHostnameAsFQDN: true\n",
            "may not be set to true when `hostnameOverride` is set",
        ),
        ("  hostnameOverride: a\n  hostNetwork: true\n", "spec.hostnameOverride: Forbidden"),
        (&format!("  hostname: {long}\n  subdomain: s\n  setHostnameAsFQDN: true\n"), "64 characters"),
    ] {
        let output = home.run(&pod(spec, "true"), &["--dry-run"]);
        assert!(!output.status.success() && stderr(&output).contains(words), "{spec}{}", stderr(&output));
    }
    let output = home.run(&pod("  os: {name: linux}\n", "true"), &["--dry-run"]);
    assert!(output.status.success() && !stdout(&output).contains("spec.os"), "{}", stderr(&output));
}
