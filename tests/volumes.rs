//! R-VOL: what containers find in their volumes, and what outlives them.

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use common::{Home, lines, stderr, stdout};

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
    assert!(stderr(&output).contains("is not what type Socket asks for"), "{}", stderr(&output));
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
    assert!(stderr(&output).contains("does not allow to pull it"), "{}", stderr(&output));
}
