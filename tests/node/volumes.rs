//! R-VOL: what containers find in their volumes, and what outlives them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use crate::common::{Home, lines, stderr, stdout, until};

/// A pod named `p` with one busybox container that runs a line of shell; `rest` is more of its spec.
fn pod(script: &str, mounts: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels: {{app: web}}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: app\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n    volumeMounts: [{mounts}]\n{rest}"
    )
}

#[test]
fn r_vol_1_an_empty_dir_over_its_size_limit_evicts_the_pod() {
    let home = Home::new();
    let text = pod(
        "dd if=/dev/zero of=/v/big bs=1M count=4 2>/dev/null; sleep 100",
        "{name: v, mountPath: /v}",
        "  volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]\n  terminationGracePeriodSeconds: 0\n",
    );
    let output = home.run(&text, &[]);
    assert!(!output.status.success());
    let pod = home.pod("p");
    assert_eq!(pod["status"]["phase"], "Failed");
    assert_eq!(pod["status"]["reason"], "Evicted");
    let message = pod["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\"."), "{message}");
}

#[test]
fn r_vol_1_a_termination_message_in_a_volume_that_passes_mounts_on_is_read_and_nothing_is_left() {
    let home = Home::new();
    let text = pod(
        "echo gone >/v/message",
        "{name: v, mountPath: /v, mountPropagation: Bidirectional}",
        "    terminationMessagePath: /v/message\n    securityContext: {privileged: true}\n  volumes: [{name: v, emptyDir: {}}]\n",
    );
    let output = home.run(&text, &["--network", "none"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let status = &home.pod("p")["status"]["containerStatuses"][0];
    assert_eq!(status["state"]["terminated"]["message"], "gone\n");
    let deleted = home.podctl(&["delete", "pod", "p"]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
}

#[test]
fn r_vol_1_an_empty_dir_in_memory_is_as_large_as_its_limit() {
    let home = Home::new();
    let text = pod(
        "dd if=/dev/zero of=/v/big bs=64k count=64 2>/dev/null || echo full; df -k /v | tail -1 | tr -s \" \" | cut -d\" \" -f1,2",
        "{name: v, mountPath: /v}",
        "  volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]\n",
    );
    assert_eq!(lines(&home.run(&text, &[])), ["full", "tmpfs 1024"]);
}

#[test]
fn r_vol_2_a_claim_is_a_local_volume_that_outlives_its_pod() {
    let home = Home::new();
    let text = pod(
        "echo x >> /v/log; wc -l < /v/log",
        "{name: v, mountPath: /v}",
        "  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]\n",
    );
    assert_eq!(lines(&home.run(&text, &[])), ["1"]);
    assert!(home.podctl(&["delete", "p"]).status.success());
    assert_eq!(lines(&home.run(&text, &[])), ["2"]);
    assert!(stdout(&home.podctl(&["get", "pvc"])).contains("data   Bound    data"));
    assert!(stdout(&home.podctl(&["volume", "inspect", "data"])).contains("\"inUse\": false"));
    assert_eq!(stdout(&home.podctl(&["volume", "rm", "data"])), "data\n");
    assert!(!home.path("data/volumes/default_data").exists());
}

#[test]
fn r_vol_2_a_volume_in_use_is_not_removed_and_read_write_once_pod_admits_one_pod() {
    let home = Home::new();
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 1Gi}}}\n---\n";
    let text = claim.to_owned()
        + &pod(
            "exec sleep 1000",
            "{name: v, mountPath: /v}",
            "  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]\n  terminationGracePeriodSeconds: 0\n",
        );
    let output = home.run(&text, &["-d"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let refused = home.podctl(&["volume", "rm", "data"]);
    assert!(stderr(&refused).contains("volume \"data\" is in use by a pod"), "{}", stderr(&refused));
    let second = home.run(&text.replace("name: p\n", "name: q\n"), &["-d"]);
    assert!(stderr(&second).contains("only one at a time"), "{}", stderr(&second));
    assert!(home.podctl(&["delete", "p"]).status.success());
    assert!(home.podctl(&["volume", "rm", "data"]).status.success());
}

#[test]
fn r_vol_2_configuration_files_have_their_modes_and_belong_to_fs_group() {
    let home = Home::new();
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: one, b: two}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: hidden}\n---\n";
    let text = config.to_owned()
        + &pod(
            "cat /c/a /c/deep/b /s/k /all/k /all/labels; echo; stat -L -c \"%a %g\" /c/a /c/deep/b /s/k; stat -c \"%a %g\" /e; readlink /c/..data | cut -c1-2; echo x > /e/file && stat -c %g /e/file; touch /c/a || echo read-only",
            "{name: c, mountPath: /c}, {name: s, mountPath: /s}, {name: e, mountPath: /e}, {name: all, mountPath: /all}",
            concat!(
                "  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}\n  volumes:\n",
                "  - {name: c, configMap: {name: c, items: [{key: a, path: a}, {key: b, path: deep/b, mode: 0400}]}}\n",
                "  - {name: s, secret: {secretName: s, defaultMode: 0400}}\n",
                "  - {name: e, emptyDir: {}}\n",
                "  - name: all\n    projected:\n      sources:\n      - secret: {name: s}\n      - configMap: {name: absent, optional: true}\n      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}\n",
            ),
        );
    let wanted =
        ["onetwohiddenhiddenapp=\"web\"", "644 2000", "440 2000", "440 2000", "2777 2000", "..", "2000"];
    let output = home.run(&text, &[]);
    let found = lines(&output);
    assert_eq!(found[..wanted.len()], wanted);
    assert!(found.contains(&"read-only".to_owned()), "{found:?}");
}

#[test]
fn r_vol_2_a_sub_path_is_made_in_the_volume_and_a_link_does_not_lead_out_of_it() {
    let home = Home::new();
    let volumes = "  volumes: [{name: v, emptyDir: {}}]\n";
    let mounts = "{name: v, mountPath: /v}, {name: v, mountPath: /sub, subPathExpr: \"dir/$(POD)\"}], env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}";
    let text = pod("touch /sub/x; ls /v/dir/p", mounts, volumes);
    // One flow list becomes two fields.
    let text = text.replace("], env: [", "]\n    env: [");
    assert_eq!(lines(&home.run(&text, &[])), ["x"]);

    let shared = home.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    symlink("/etc", shared.join("out")).unwrap();
    let host = format!("  volumes: [{{name: v, hostPath: {{path: {}}}}}]\n", shared.display());
    let text = pod("true", "{name: v, mountPath: /v, subPath: out}", &host);
    let refused = home.run(&text, &[]);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("leads out of the volume"), "{}", stderr(&refused));
}

#[test]
fn r_vol_2_host_path_types_are_checked_and_read_only_covers_what_is_mounted_below() {
    let home = Home::new();
    let dir = home.path("made/here");
    let volumes =
        format!("  volumes: [{{name: v, hostPath: {{path: {}, type: DirectoryOrCreate}}}}]\n", dir.display());
    let text = pod(
        "touch /v/x || echo no",
        "{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: Enabled}",
        &volumes,
    );
    assert!(lines(&home.run(&text, &[])).contains(&"no".to_owned()));
    assert!(dir.is_dir());
    let output = home.run(&text.replace("DirectoryOrCreate", "Socket"), &[]);
    assert!(stderr(&output).contains("is not a socket file"), "{}", stderr(&output));
}

#[test]
fn r_vol_2_an_image_volume_is_read_only_and_runs_nothing() {
    let home = Home::new();
    let text = pod(
        "test -f /img/bin/busybox && echo there; touch /img/x 2>/dev/null || echo read-only; /img/bin/true 2>/dev/null || echo no-exec; ls /bin-only | grep -c busybox",
        "{name: i, mountPath: /img}, {name: i, mountPath: /bin-only, subPath: bin}",
        "  volumes: [{name: i, image: {reference: \"busybox:1.36\"}}]\n",
    );
    let found = lines(&home.run(&text, &[]));
    assert_eq!(found[..3], ["there", "read-only", "no-exec"]);
    let absent = text.replace("busybox:1.36\"}}]", "busybox:absent\", pullPolicy: Never}}]");
    let output = home.run(&absent, &[]);
    assert!(stderr(&output).contains("is not present with pull policy of Never"), "{}", stderr(&output));
}

#[test]
fn r_vol_2_a_host_path_is_of_the_type_that_is_asked_for() {
    let home = Home::new();
    let path = |name: &str| home.path(name).display().to_string();
    fs::create_dir(home.path("dir")).unwrap();
    fs::write(home.path("file"), "text\n").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.path("socket")).unwrap();
    let fitting = [
        ("", path("dir")),
        ("Directory", path("dir")),
        ("File", path("file")),
        ("FileOrCreate", path("new")),
        ("Socket", path("socket")),
        ("CharDevice", "/dev/null".to_owned()),
    ];
    let (mut volumes, mut mounts) = ("  volumes:\n".to_owned(), Vec::new());
    for (i, (kind, path)) in fitting.iter().enumerate() {
        volumes += &format!("  - {{name: v{i}, hostPath: {{path: {path}, type: \"{kind}\"}}}}\n");
        mounts.push(format!("{{name: v{i}, mountPath: /v/{i}}}"));
    }
    let script = "cd /v; test -d 0 && test -d 1 && cat 2 3 && test -S 4 && test -c 5 && echo > 5 && echo all";
    assert_eq!(lines(&home.run(&pod(script, &mounts.join(","), &volumes), &[])), ["text", "all"]);
    assert_eq!(fs::read(home.path("new")).unwrap(), b"");

    for (kind, name) in [
        ("Directory", "file"),
        ("File", "dir"),
        ("FileOrCreate", "dir"),
        ("Socket", "file"),
        ("CharDevice", "file"),
        ("BlockDevice", "file"),
    ] {
        let volumes = format!("  volumes: [{{name: v, hostPath: {{path: {}, type: {kind}}}}}]\n", path(name));
        let output = home.run(&pod("true", "{name: v, mountPath: /v}", &volumes), &[]);
        let words = stderr(&output);
        assert!(!output.status.success() && words.contains("hostPath") && words.contains(name), "{words}");
    }
}

#[test]
fn r_vol_2_mounts_made_in_a_volume_reach_who_asks_for_them_and_read_only_covers_them_where_it_recurses() {
    let home = Home::new();
    // The sidecar mounts when the init container runs, and in a volume that this one has already.
    let init = "  initContainers:
  - name: sidecar
    image: busybox:1.36
    restartPolicy: Always
    securityContext: {privileged: true}
    command: [sh, -c, 'mkdir /w/late; until test -e /w/up; do sleep 0.1; done; mount -t tmpfs none /w/late && touch /w/late/there; trap \"exit 0\" TERM; while :; do sleep 0.1; done']
    volumeMounts: [{name: w, mountPath: /w, mountPropagation: Bidirectional}]
  - name: init
    image: busybox:1.36
    securityContext: {privileged: true}
    command: [sh, -c, 'mkdir /v/sub; mount -t tmpfs none /v/sub && touch /v/sub/there /w/up; until test -e /w/late/there; do sleep 0.1; done; test ! -e /none/late/there']
    volumeMounts:
    - {name: v, mountPath: /v, mountPropagation: Bidirectional}
    - {name: w, mountPath: /w, mountPropagation: HostToContainer}
    - {name: w, mountPath: /none, mountPropagation: None}
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, emptyDir: {}}, {name: w, emptyDir: {}}]
";
    let text = pod(
        "ls /a/sub; touch /a/sub/x && echo written; touch /b/sub/y || echo no; touch /c/sub/z || echo no",
        "{name: v, mountPath: /a, readOnly: true, recursiveReadOnly: Disabled}, {name: v, mountPath: /b, readOnly: true, recursiveReadOnly: Enabled}, {name: v, mountPath: /c, readOnly: true, recursiveReadOnly: IfPossible}",
        init,
    );
    let mut found = lines(&home.run(&text, &[]));
    found.retain(|line| !line.starts_with("touch: "));
    assert_eq!(found, ["there", "written", "no", "no"]);
    assert!(home.podctl(&["delete", "p"]).status.success());
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
}

#[test]
fn r_vol_2_the_downward_api_and_projections_write_files_with_their_modes() {
    let home = Home::new();
    let objects = "apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {a: one, b: two}
binaryData: {bytes: AAEC}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {k: aGlkZGVu, l: bA==}
---
";
    let volumes = "    resources: {limits: {memory: 16Mi}, requests: {cpu: 250m}}
  volumes:
  - name: d
    downwardAPI:
      defaultMode: 0640
      items:
      - {path: annotations, fieldRef: {fieldPath: metadata.annotations}}
      - {path: deep/label, fieldRef: {fieldPath: \"metadata.labels['app']\"}, mode: 0600}
      - {path: name, fieldRef: {apiVersion: v1, fieldPath: metadata.name}}
      - {path: namespace, fieldRef: {fieldPath: metadata.namespace}}
      - {path: uid, fieldRef: {fieldPath: metadata.uid}}
      - {path: memory, resourceFieldRef: {containerName: app, resource: limits.memory, divisor: 1Mi}}
      - {path: cpu, resourceFieldRef: {containerName: app, resource: requests.cpu, divisor: 1m}}
  - name: all
    projected:
      defaultMode: 0444
      sources:
      - configMap: {name: c, items: [{key: a, path: x/a, mode: 0400}, {key: none, path: none}], optional: true}
      - configMap: {name: none, optional: true}
      - secret: {name: s, items: [{key: k, path: k}]}
      - secret: {name: none, optional: true}
      - downwardAPI: {items: [{path: app, fieldRef: {fieldPath: \"metadata.labels['app']\"}, mode: 0440}]}
  - {name: c, configMap: {name: c, defaultMode: 0600}}
  - {name: s, secret: {secretName: s, items: [{key: l, path: m, mode: 0404}], optional: false}}
  - {name: no-c, configMap: {name: none, optional: true}}
  - {name: no-s, secret: {secretName: none, optional: true}}
";
    let script = "cd /d; head -v -n9 annotations deep/label name namespace memory cpu | tr \"\\n\" \" \"; echo; cat uid; echo; cd /; stat -L -c \"%n %a\" /d/name /d/deep/label /all/x/a /all/k /all/app /c/b /s/m; ls /all /c /s /no-c /no-s | tr \"\\n\" \" \"; od -An -tx1 /c/bytes";
    let mounts: Vec<String> = ["d", "all", "c", "s", "no-c", "no-s"]
        .iter()
        .map(|name| format!("{{name: {name}, mountPath: /{name}}}"))
        .collect();
    let text = objects.to_owned() + &pod(script, &mounts.join(","), volumes);
    let text = text.replace("  labels:", "  annotations: {note: \"a b\"}\n  labels:");
    let found = lines(&home.run(&text, &[]));
    let uid = home.pod("p")["metadata"]["uid"].as_str().unwrap().to_owned();
    let wanted = [
        "==> annotations <== note=\"a b\" ==> deep/label <== web ==> name <== p ==> namespace <== default ==> memory <== 16 ==> cpu <== 250",
        &uid,
        "/d/name 640",
        "/d/deep/label 600",
        "/all/x/a 400",
        "/all/k 444",
        "/all/app 440",
        "/c/b 600",
        "/s/m 404",
        "/all: app k x  /c: a b bytes  /no-c:  /no-s:  /s: m  00 01 02",
    ];
    let squeezed: Vec<String> =
        found.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(squeezed, wanted.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")));
}

#[test]
fn r_vol_1_volumes_of_the_pod_outlive_its_containers_and_a_claim_may_be_read_only() {
    let home = Home::new();
    let text = pod(
        "stat -c %a /e; echo x >> /e/runs; echo x >> /g/runs; touch /r/x 2>/dev/null || echo read-only; test $(wc -l < /e/runs) = $(wc -l < /g/runs) && test $(wc -l < /e/runs) -ge 3",
        "{name: e, mountPath: /e}, {name: g, mountPath: /g}, {name: r, mountPath: /r}",
        "  volumes:
  - {name: e, emptyDir: {}}
  - name: g
    ephemeral:
      volumeClaimTemplate:
        metadata: {labels: {app: web}}
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
  - {name: r, persistentVolumeClaim: {claimName: kept, readOnly: true}}
",
    );
    let text = text.replace("restartPolicy: Never", "restartPolicy: OnFailure");
    let found = lines(&home.run(&text, &["--backoff-initial", "0.05"]));
    assert_eq!(found, ["777", "read-only", "777", "read-only", "777", "read-only"]);
    assert!(home.path("data/volumes/default_kept").exists());
    assert!(!home.path("data/volumes/default_p-g").exists());
}

#[test]
fn r_vol_2_fs_group_changes_what_its_policy_says() {
    let home = Home::new();
    let run = |policy: &str, script: &str| {
        let rest = format!(
            "  securityContext: {{fsGroup: 2000{policy}}}\n  volumes: [{{name: v, persistentVolumeClaim: {{claimName: data}}}}]\n"
        );
        lines(&home.run(&pod(script, "{name: v, mountPath: /v}", &rest), &["--replace"]))
    };
    let show = "stat -c \"%a %g\" /v/file";
    assert_eq!(run("", &format!("touch /v/file; chgrp 0 /v/file; chmod 600 /v/file; {show}")), ["600 0"]);
    assert_eq!(run(", fsGroupChangePolicy: OnRootMismatch", show), ["600 0"]);
    assert_eq!(run(", fsGroupChangePolicy: Always", show), ["660 2000"]);
}
