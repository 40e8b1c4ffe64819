//! `run --userns keep-id`, as podman has it: the user is the same user in the pod, and files of host paths are theirs.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::script;
use crate::common::{Home, lines, stderr, until};

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

const KEEP: [&str; 2] = ["--network=none", "--userns=keep-id"];

/// The mount of a volume at `/v`, for [`script`], and the volume.
fn volume(source: &str) -> (&'static str, String) {
    ("    volumeMounts: [{name: v, mountPath: /v}]\n", format!("  volumes: [{{name: v, {source}}}]\n"))
}

/// The supervisor of the home's one pod, whose descriptors the user may not list.
fn supervisor(home: &Home) -> Option<Pid> {
    let memory = home.path("run/memory").display().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let is_supervisor = |pid: &i32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("cmdline").contains("internal\0supervise\0default/p") && read("mountinfo").contains(&memory)
    };
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter().find(is_supervisor).map(Pid::from_raw)
}

/// Layers of the home's image store that were copied.
fn copies(home: &Home) -> usize {
    fs::read_dir(home.path("data/images/remapped")).map_or(0, Iterator::count)
}

#[test]
fn a_users_files_are_the_users_in_the_pod_and_what_it_writes_is_on_the_host() {
    let home = Home::new();
    let host = home.path("tree");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("own"), "private\n").unwrap();
    fs::set_permissions(host.join("own"), fs::Permissions::from_mode(0o600)).unwrap();
    let (mount, volumes) = volume(&format!("hostPath: {{path: {}}}", host.display()));
    let line = "id -u; id -g; cat /v/own; stat -c %u:%g /v/own; mkdir /v/sub && echo x >/v/sub/made; stat -c %u:%g /bin/busybox /etc /";
    let output = home.run(&script(line, &volumes, mount), &KEEP);
    if root() {
        assert!(!output.status.success() && stderr(&output).contains("hostUsers"), "{}", stderr(&output));
        return;
    }
    let own = fs::metadata(&host).unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    let both = format!("{uid}:{gid}");
    let wanted = [&uid.to_string(), &gid.to_string(), "private", &both, "0:0", "0:0", "0:0"];
    assert_eq!(lines(&output), wanted);
    let made = fs::metadata(host.join("sub/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (uid, gid));
    // Root of the pod is somebody else, who reads others' files by a capability alone.
    let dropped = "    securityContext: {runAsUser: 0, capabilities: {drop: [ALL]}}\n";
    let line = "id -u; cat /v/own 2>/dev/null || echo refused; touch /v/new 2>/dev/null || echo refused";
    let output = home.run(&script(line, &volumes, &format!("{mount}{dropped}")), &KEEP);
    assert_eq!(lines(&output), ["0", "refused", "refused"]);
    let able = format!("{mount}    securityContext: {{runAsUser: 0}}\n");
    lines(&home.run(&script("touch /v/by-root", &volumes, &able), &KEEP));
    assert_ne!(fs::metadata(host.join("by-root")).unwrap().uid(), uid);
}

#[test]
fn ids_may_be_chosen_and_stay_with_the_pod() {
    if root() {
        return;
    }
    let home = Home::new();
    let files = "mkdir d; echo x >d/file; ln d/file d/same; chmod 4711 d/file; ln -s file d/link";
    home.load_image("example.com/files:1", "", files);
    let text = script("exec sleep 300", "", "").replace("busybox:1.36", "example.com/files:1");
    home.start(&text, &["--network=none", "--userns=keep-id:uid=7,gid=9"]);
    let who = |container: &str| {
        home.said(&["exec", "p", "-c", container, "--", "sh", "-c", "echo $(id -u):$(id -g)"])
    };
    assert_eq!(who("c"), "7:9\n");
    let files = ["/d/file", "/d/same", "/d/link"];
    let seen = home.said(&[&["exec", "p", "--", "stat", "-c", "%u:%g %a %h"][..], &files].concat());
    assert_eq!(seen, "0:0 4711 2\n0:0 4711 2\n0:0 777 1\n");
    let sent = home.file("sent", "text");
    home.said(&["cp", &sent, "p:/d/../sent"]);
    assert_eq!(home.said(&["exec", "p", "--", "stat", "-c", "%u:%g", "/sent"]), "7:9\n");
    // An image that the pod's own processes have not fetched.
    home.said(&["debug", "p", "--image=busybox:1.36", "-c", "dbg", "--", "sleep", "300"]);
    let running = || home.pod("p")["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_object();
    until("the debug container runs", running);
    assert_eq!(who("dbg"), "7:9\n");
    home.said(&["set", "image", "pod/p", "c=busybox:1.36"]);
    until("it has the other image", || {
        home.pod("p")["status"]["containerStatuses"][0]["image"]
            .as_str()
            .is_some_and(|i| i.contains("busybox"))
            && home.pod("p")["status"]["containerStatuses"][0]["ready"] == true
    });
    assert_eq!(who("c"), "7:9\n");
    home.said(&["restart", "p"]);
    assert_eq!(who("c"), "7:9\n");
    assert!(copies(&home) >= 2);
    home.said(&["delete", "p", "--now"]);
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
    home.said(&["rmi", "--all"]);
    assert_eq!(copies(&home), 0, "copies go with their layers");
}

#[test]
fn the_image_says_who_it_is_unless_it_names_nobody() {
    if root() {
        return;
    }
    let home = Home::new();
    home.load_image("example.com/user:1", "33:44", "");
    let text = script("id -u; id -g", "", "").replace("busybox:1.36", "example.com/user:1");
    assert_eq!(lines(&home.run(&text, &KEEP)), ["33", "44"]);
    let plan = home.said(&["run", "--dry-run", "--userns=keep-id:uid=7,gid=9", &home.file("a.yaml", &text)]);
    assert!(plan.contains("this user is user 7, group 9 in it"), "{plan}");
    assert!(plan.contains("runs as user 33:44 (of the image)"), "{plan}");
    let text = script("id -u", "", "");
    let plan = home.said(&["run", "--dry-run", "--userns=keep-id:uid=7,gid=9", &home.file("b.yaml", &text)]);
    assert!(plan.contains("this user is user 7"), "{plan}");
}

#[test]
fn podctls_own_volumes_are_the_users_and_images_are_as_they_are() {
    if root() {
        return;
    }
    let home = Home::new();
    let pod = "  securityContext: {fsGroup: 77}\n  volumes:\n  - {name: e, emptyDir: {}}\n  - {name: s, secret: {secretName: s, defaultMode: 0400}}\n  - {name: i, image: {reference: \"busybox:1.36\"}}\n";
    let mounts =
        "    volumeMounts: [{name: e, mountPath: /e}, {name: s, mountPath: /s}, {name: i, mountPath: /i}]\n";
    let line = "cat /s/k; echo; touch /e/f && stat -c %u:%g /e/f /i/bin/busybox; touch /i/x 2>/dev/null || echo refused";
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: word}\n";
    let text = format!("{}{secret}", script(line, pod, mounts));
    let flags = ["--network=none", "--userns=keep-id:uid=7,gid=9"];
    let output = home.run(&text, &flags);
    assert_eq!(lines(&output), ["word", "7:77", "0:0", "refused"], "{}", stderr(&output));
}

#[test]
fn on_the_network_and_with_one_pid_namespace_nothing_outlives_a_killed_supervisor() {
    if root() {
        return;
    }
    let home = Home::new();
    let text = script("exec sleep 300", "  shareProcessNamespace: true\n", "");
    home.start(&text, &["--userns=keep-id"]);
    home.said(&["exec", "p", "--", "nslookup", "p"]);
    home.said(&["exec", "p", "--", "sh", "-c", "echo x >/tmp/file"]);
    kill(supervisor(&home).unwrap(), Signal::SIGKILL).unwrap();
    until("it is gone", || supervisor(&home).is_none());
    home.said(&["delete", "p"]);
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
    // One that does not answer is found by its lock.
    home.start(&text, &["--userns=keep-id"]);
    kill(supervisor(&home).unwrap(), Signal::SIGSTOP).unwrap();
    home.said(&["delete", "p", "--force", "--grace-period=0"]);
    // The lease on its image is nobody's now, and goes with the next pull.
    let traces = || home.traces().into_iter().filter(|t| !t.contains("images/leases")).collect::<Vec<_>>();
    until(&format!("nothing is left: {:?}", traces()), || traces().is_empty());
}
