//! kube-client's own tests (kube-rs, the client for Rust) that need a cluster, which find `podctl serve`.

use std::collections::BTreeMap;

use super::{client, clients, common::Home};

/// Number of its tests that need a cluster.
const TESTS: usize = 18;

#[test]
fn kube_clients_own_tests_find_a_cluster_but_for_what_is_listed() {
    let home = Home::new();
    // Its tests run this name.
    home.said(&["pull", "busybox:1.36"]);
    home.said(&["tag", "busybox:1.36", "busybox:stable"]);
    let mut suite = client(&home, &clients("kube").join("suite").display().to_string());
    let output = suite.args(["--ignored", "--test-threads", "4"]).output().unwrap();
    home.said(&["delete", "pods", "--all", "--force"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let passed: BTreeMap<&str, bool> = text
        .lines()
        .filter_map(|line| {
            let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
            Some((name, result == "ok"))
        })
        .collect();
    assert_eq!(passed.len(), TESTS, "{text}{}", String::from_utf8_lossy(&output.stderr));
    let listed = include_str!("kube/missed.txt").lines().filter(|line| !line.starts_with('#'));
    let listed: Vec<&str> = listed.filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    let missed: Vec<&str> = passed.iter().filter(|(_, passed)| !**passed).map(|(name, _)| *name).collect();
    assert_eq!(missed, listed, "{text}");
}
