//! What somebody has done to podctl's own files while pods live or after they have ended: another kind of file in the place of
//! one, its mode taken away, directories removed. It is told with its path and what mends it, and blocks nothing else.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::common::{
    Home,
    lab::{self, with_image},
    stderr, stdout, until,
};
use nix::unistd::{geteuid, mkfifo};

/// A pod that takes a second to end.
fn pod(name: &str, script: &str) -> String {
    lab::pod(name, script).replace("spec:\n", "spec:\n  terminationGracePeriodSeconds: 1\n")
}

/// The directory of a pod's record.
fn record(home: &Home, name: &str) -> PathBuf {
    home.path("data/records").join(format!("default_{name}"))
}

/// What is put in a file's place, by name.
const KINDS: [&str; 5] = ["fifo", "directory", "link", "long", "mode"];

fn damage_file(path: &Path, kind: &str) {
    if kind == "mode" {
        return fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    // A copy may be there for the sake of another kind.
    let _ = fs::remove_file(path);
    match kind {
        "fifo" => mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "directory" => fs::create_dir_all(path.join("x")).unwrap(),
        "link" => symlink("/dev/zero", path).unwrap(),
        _ => fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
    }
}

fn kinds() -> impl Iterator<Item = &'static str> {
    // No mode keeps root out.
    KINDS.into_iter().filter(|kind| *kind != "mode" || !geteuid().is_root())
}

#[test]
fn what_stands_in_the_place_of_an_ended_pods_file_hides_and_blocks_nothing_else_and_is_mended() {
    let home = with_image();
    home.start(&pod("other", "sleep 600"), &[]);
    for kind in kinds() {
        for name in ["pod.json", "lock", "events.jsonl", "again.json"] {
            home.start(&pod("g", "sleep 600"), &[]);
            home.said(&["stop", "g", "--grace-period=1"]);
            let path = record(&home, "g").join(name);
            damage_file(&path, kind);
            let shown = home.podctl(&["get", "pods"]);
            assert!(stdout(&shown).contains("other"), "{kind} {name}: {}", stderr(&shown));
            if name == "pod.json" {
                let words = stderr(&shown);
                assert!(words.contains("pod.json") && words.contains("doctor --repair"), "{kind}: {words}");
            }
            if kind == "mode" || name == "pod.json" {
                let mended = stderr(&home.podctl(&["doctor", "--repair"]));
                assert!(mended.contains("default_g"), "{kind} {name}: {mended}");
                let again = home.podctl(&["get", "pods"]);
                assert!(stderr(&again).is_empty(), "{kind} {name}: {}", stderr(&again));
                // A record that can be read again is a pod's.
                assert_eq!(
                    stdout(&again).contains("\ng "),
                    kind == "mode",
                    "{kind} {name}: {}",
                    stdout(&again)
                );
            }
            let deleted = home.podctl(&["delete", "pod", "g", "--ignore-not-found"]);
            assert!(deleted.status.success(), "{kind} {name}: {}", stderr(&deleted));
            assert!(!record(&home, "g").exists(), "{kind} {name}");
        }
    }
}

#[test]
fn a_pod_whose_files_are_replaced_beneath_it_lives_on_and_is_told_of() {
    let home = with_image();
    for kind in kinds() {
        home.start(&pod("p", "sleep 600"), &[]);
        damage_file(&record(&home, "p").join("lock"), kind);
        let refused = home.run(&pod("p", "sleep 600"), &["-d"]);
        assert!(
            !refused.status.success() && stderr(&refused).contains("already"),
            "{kind}: {}",
            stderr(&refused)
        );
        home.said(&["exec", "p", "--", "true"]);
        // What stands in the places of the others its supervisor removes when it writes them.
        for name in ["events.jsonl", "pod.json"] {
            damage_file(&record(&home, "p").join(name), kind);
        }
        home.said(&["stop", "p", "--grace-period=1"]);
        assert_eq!(home.pod("p")["metadata"]["name"], "p");
        home.said(&["delete", "pod", "p"]);
        assert!(!record(&home, "p").exists(), "{kind}");
    }
}

#[test]
fn what_stands_in_the_place_of_the_stores_and_kept_files_is_told_and_mended() {
    let home = with_image();
    home.said(&["create", "configmap", "whole", "--from-literal=a=b"]);
    for kind in kinds() {
        home.said(&["create", "configmap", "c", "--from-literal=a=b"]);
        let object = home.path("data/objects/default/configmap/c.json");
        damage_file(&object, kind);
        let shown = home.podctl(&["get", "configmap"]);
        assert!(stdout(&shown).contains("whole"), "{kind}: {}", stderr(&shown));
        assert!(stderr(&shown).contains("doctor --repair"), "{kind}: {}", stderr(&shown));
        if kind == "long" {
            // It is as good a lock as any.
            home.said(&["doctor", "--repair"]);
            home.podctl(&["delete", "configmap", "c"]);
            continue;
        }
        damage_file(&home.path("data/images/lock"), kind);
        let refused = home.run(&pod("p", "sleep 600"), &["-d"]);
        let words = stderr(&refused);
        assert!(words.contains("images/lock") && words.contains("doctor --repair"), "{kind}: {words}");
        let mended = stderr(&home.podctl(&["doctor", "--repair"]));
        assert!(mended.contains("c.json") && mended.contains("images/lock"), "{kind}: {mended}");
        let again = home.podctl(&["get", "configmap"]);
        assert!(stderr(&again).is_empty(), "{kind}: {}", stderr(&again));
        home.start(&pod("p", "sleep 600"), &[]);
        home.said(&["delete", "pod", "p", "--now"]);
        home.podctl(&["delete", "configmap", "c"]);
    }
}

#[test]
fn a_pod_whose_runtime_directory_was_removed_is_reached_and_deleted_all_the_same() {
    let home = with_image();
    let wipe = || fs::remove_dir_all(home.path("run")).unwrap();
    home.start(&pod("p", "sleep 600"), &[]);
    wipe();
    assert_eq!(home.said(&["exec", "p", "--", "echo", "here"]), "here\n");
    wipe();
    home.said(&["stop", "p", "--grace-period=1"]);
    home.said(&["start", "p"]);
    wipe();
    home.start(&pod("p", "sleep 600"), &["--replace"]);
    wipe();
    home.said(&["delete", "pod", "p"]);
    // Where the socket cannot be made, the supervisor is asked by a signal.
    home.start(&pod("p", "sleep 600"), &[]);
    let mut elsewhere = home.command(&["delete", "pod", "p"]);
    let deleted = elsewhere.env("PODCTL_RUNTIME_DIR", home.path("another")).output().unwrap();
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_pod_whose_record_was_removed_ends_and_another_may_have_its_name() {
    let home = with_image();
    home.start(&pod("p", "sleep 600"), &["--network=none"]);
    fs::remove_dir_all(record(&home, "p")).unwrap();
    home.podctl(&["get", "pods"]);
    until("it has ended", || !home.traces().iter().any(|trace| trace.starts_with("process")));
    home.start(&pod("p", "sleep 600"), &["--network=none"]);
    fs::remove_dir_all(record(&home, "p")).unwrap();
    home.start(&pod("p", "echo other; sleep 600"), &["--network=none"]);
    until("the other one writes", || home.said(&["logs", "p"]) == "other\n");
    until("the first has ended", || {
        home.traces().iter().filter(|trace| trace.contains("supervise")).count() == 1
    });
    home.said(&["exec", "p", "--", "true"]);
    home.said(&["delete", "pod", "p", "--now"]);
    until("nothing is left", || home.traces().is_empty());
}
