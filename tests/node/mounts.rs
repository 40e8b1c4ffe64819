//! Volumes where they are mounted: in order, within one another, and what follows when one cannot be.

use std::time::{Duration, Instant};

use super::{
    common::{self, Home, stderr},
    script, written,
};

#[test]
fn a_volume_within_a_read_only_one_has_its_mount_point_made() {
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {a: first, b: second}\n";
    let volumes = "  volumes:\n  - {name: conf, configMap: {name: conf, items: [{key: a, path: a}]}}\n  - {name: deep, emptyDir: {}}\n  - {name: other, configMap: {name: conf}}\n";
    // In any order in the file.
    let mounts = "    volumeMounts:\n    - {name: deep, mountPath: /etc/app/sub/deep}\n    - {name: other, mountPath: /etc/app/b.conf, subPath: b}\n    - {name: conf, mountPath: /etc/app}\n";
    let line = "cat /etc/app/a /etc/app/b.conf; touch /etc/app/sub/deep/x; ls /etc/app/sub/deep; touch /etc/app/y 2>/dev/null || echo ro";
    let text = script(line, volumes, mounts) + map;
    assert_eq!(written(&text).join(" "), "firstsecondx ro");
}

#[test]
fn the_files_that_a_node_writes_survive_a_volume_around_them() {
    let volumes = "  volumes: [{name: etc, emptyDir: {}}, {name: dev, emptyDir: {}}]\n";
    let mounts =
        "    volumeMounts: [{name: etc, mountPath: /etc}]\n    terminationMessagePath: /etc/message\n";
    let line = "grep -c Kubernetes-managed /etc/hosts; cat /etc/hostname; test -s /etc/resolv.conf && echo resolv; test -f /etc/message && echo message";
    assert_eq!(written(&script(line, volumes, mounts)), ["1", "p", "resolv", "message"]);
}

#[test]
fn a_host_path_of_no_type_is_made_and_one_of_a_wrong_type_is_tried_again() {
    let home = Home::new();
    let dir = home.path("made").join("deep").display().to_string();
    let volume = |kind: &str| format!("  volumes: [{{name: v, hostPath: {{path: {dir}{kind}}}}}]\n");
    let mounts = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    let made = home.run(&script("touch /v/x; stat -c %a /v", &volume(""), mounts), &["--network=none"]);
    assert_eq!(common::lines(&made), ["755"]);
    assert!(home.path("made/deep/x").exists());
    // A run that waits ends; one that does not leaves the pod pending.
    let text = script("true", &volume(", type: File"), mounts);
    let failed = home.run(&text, &["--network=none"]);
    assert!(!failed.status.success());
    let words = "FailedMount: MountVolume.SetUp failed for volume \"v\" : hostPath type check failed";
    assert!(stderr(&failed).contains(words), "{}", stderr(&failed));
    home.start(&text, &["--network=none", "--wait=none"]);
    let pod = home.pod("p");
    assert_eq!(pod["status"]["phase"], "Pending", "{pod:#}");
    std::fs::remove_dir_all(home.path("made/deep")).unwrap();
    std::fs::write(home.path("made/deep"), "").unwrap();
    common::until("the pod goes on", || home.pod("p")["status"]["phase"] == "Succeeded");
}

#[test]
fn what_cannot_be_mounted_is_a_start_error_and_final_as_the_restart_policy_says() {
    let home = Home::new();
    let volumes = "  volumes: [{name: v, emptyDir: {}}]\n";
    let text = script("true", volumes, "    volumeMounts: [{name: v, mountPath: /etc/passwd}]\n");
    let began = Instant::now();
    let failed = home.run(&text, &["--network=none"]);
    assert_eq!(failed.status.code(), Some(128), "{}", stderr(&failed));
    let ended = home.pod("p")["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"StartError".into(), &128.into()), "{ended:#}");
    // Again and again the same way is the end of a wait, too.
    let text = text.replace("restartPolicy: Never", "restartPolicy: Always");
    let failed = home.run(&text, &["--network=none", "--backoff-initial=0.2", "--replace"]);
    assert!(!failed.status.success() && stderr(&failed).contains("StartError"), "{}", stderr(&failed));
    assert!(began.elapsed() < Duration::from_secs(40));
}

#[test]
fn a_sub_path_of_an_empty_variable_is_refused() {
    let volumes = "  volumes: [{name: v, emptyDir: {}}]\n";
    let mounts = "    env: [{name: TENANT, value: \"\"}]\n    volumeMounts: [{name: v, mountPath: /v, subPathExpr: \"$(TENANT)\"}]\n";
    let failed = Home::new().run(&script("true", volumes, mounts), &["--network=none"]);
    assert!(!failed.status.success());
    let words = stderr(&failed);
    assert!(
        words.contains("CreateContainerConfigError") && words.contains("missing value for \"TENANT\""),
        "{words}"
    );
}

#[test]
fn an_optional_object_that_is_deleted_leaves_the_volumes_of_living_pods() {
    let home = Home::new();
    home.said(&["create", "configmap", "conf", "--from-literal=a=1"]);
    let volumes = "  volumes: [{name: v, configMap: {name: conf, optional: true}}]\n";
    let text = script("sleep 300", volumes, "    volumeMounts: [{name: v, mountPath: /v}]\n");
    home.start(&text, &["--network=none"]);
    let list = || home.said(&["exec", "p", "--", "ls", "/v"]);
    assert_eq!(list(), "a\n");
    home.said(&["delete", "configmap", "conf"]);
    common::until("its file is gone", || list().is_empty());
    home.said(&["create", "configmap", "conf", "--from-literal=b=2"]);
    common::until("the new one is there", || list() == "b\n");
}

#[test]
fn an_image_volume_that_cannot_be_pulled_leaves_the_pod_pending() {
    let home = Home::new();
    let volumes = "  volumes: [{name: v, image: {reference: \"busybox:no-such-tag\"}}]\n";
    let text = script("true", volumes, "    volumeMounts: [{name: v, mountPath: /v}]\n");
    home.start(&text, &["--network=none", "--wait=none"]);
    let waiting = || home.pod("p")["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    common::until("it says why", || waiting() == "ErrImagePull" || waiting() == "ImagePullBackOff");
    assert_eq!(home.pod("p")["status"]["phase"], "Pending");
    let told = common::events(&home, "p");
    assert!(told.contains(&"Pulling: Pulling image \"busybox:no-such-tag\"".to_owned()), "{told:#?}");
    let fine =
        text.replace("busybox:no-such-tag", "busybox:1.36").replace("\"true\"", "\"ls /v/bin/busybox\"");
    assert_eq!(common::lines(&home.run(&fine, &["--network=none", "--replace"])), ["/v/bin/busybox"]);
}

#[test]
fn memory_of_a_volume_is_bounded_by_the_pods_own() {
    let volumes = "  volumes: [{name: m, emptyDir: {medium: Memory}}, {name: s, emptyDir: {medium: Memory, sizeLimit: 8Mi}}]\n";
    let mounts = "    resources: {limits: {memory: 64Mi}}\n    volumeMounts: [{name: m, mountPath: /m}, {name: s, mountPath: /s}]\n";
    let line = "df -k /m | tail -1 | awk '{print $2}'; df -k /s | tail -1 | awk '{print $2}'";
    assert_eq!(written(&script(line, volumes, mounts)), ["65536", "8192"]);
}

#[test]
fn a_mount_path_without_a_slash_counts_from_the_root() {
    let volumes = "  volumes: [{name: v, emptyDir: {}}]\n";
    let mounts = "    workingDir: /tmp\n    volumeMounts: [{name: v, mountPath: made/here}]\n";
    assert_eq!(written(&script("stat -c %a /made/here", volumes, mounts)), ["777"]);
}
