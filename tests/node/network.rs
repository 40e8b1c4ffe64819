//! What a pod's network lets everybody in it do.

use super::{script, written};

#[test]
fn low_ports_and_ping_are_everybodys_in_a_network_of_the_pods_own() {
    let pod = "  securityContext: {runAsUser: 1000, runAsGroup: 1000}\n";
    let container = "    securityContext: {capabilities: {drop: [ALL]}}\n";
    let line = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; busybox httpd -p 80 -h /tmp && echo listens; set -- $(cat /proc/sys/net/ipv4/ping_group_range); test $1 = 0 -a $2 -ge 1000 && echo pings";
    assert_eq!(written(&script(line, pod, container)), ["0", "listens", "pings"]);
    let own =
        "  securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: \"1024\"}]}\n";
    assert_eq!(written(&script("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", own, "")), ["1024"]);
}
