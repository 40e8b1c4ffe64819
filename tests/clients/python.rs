//! Programs in Python: Kubernetes' own client, and Helm's library.

use super::{client, clients, common::Home};

/// Runs a program of Python in a home of its own; it says `done` at its end.
fn run_program(text: &str) {
    let home = Home::new();
    let script = home.file("program.py", text);
    let python = clients("clients").join("bin/python").display().to_string();
    let output = client(&home, &python).arg(script).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().last(), Some("done"));
}

#[test]
fn pythons_client_creates_watches_reads_executes_and_forwards() {
    run_program(include_str!("client.py"));
}

#[test]
fn programs_that_show_a_cluster_find_every_kind_by_every_road() {
    run_program(include_str!("viewer.py"));
}

#[test]
fn helm_installs_upgrades_rolls_back_and_uninstalls_a_chart() {
    run_program(include_str!("helm.py"));
}

#[test]
fn connections_of_no_good_client_are_refused_or_closed_and_others_are_answered() {
    run_program(include_str!("hostile.py"));
}
