//! ConfigMaps, Secrets, claims and workloads: where pods find what they refer to (R-VOL-3, R-ENV-1).

use std::{fs, os::unix::fs::PermissionsExt};

use crate::common::{Home, stderr, stdout, until};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: app\n    image: busybox:1.36\n    command: [sh, -c, 'echo $A $B']\n    env:\n    - {name: A, valueFrom: {configMapKeyRef: {name: conf, key: a}}}\n    - {name: B, valueFrom: {secretKeyRef: {name: sec, key: b}}}\n";

#[test]
fn r_vol_3_what_a_pod_refers_to_comes_from_the_store_or_from_files_and_is_asked_for_before_anything_starts() {
    let home = Home::new();
    let refused = home.run(POD, &[]);
    assert!(!refused.status.success());
    let said = stderr(&refused);
    assert!(
        said.contains("pod.yaml:11:47: error: spec.containers[0].env[0].valueFrom.configMapKeyRef.name: ConfigMap \"conf\" not found"),
        "{said}"
    );
    assert!(said.contains("`podctl create configmap conf --from-file=…`") && said.contains("--secret FILE"));
    assert!(home.pod("p").is_null());

    let map =
        home.file("map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {a: one}\n");
    let secret = home
        .file("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: sec}\nstringData: {b: two}\n");
    let output = home.run(POD, &["--configmap", &map, "--secret", &secret]);
    assert_eq!(stdout(&output).trim_end(), "app | one two", "{}", stderr(&output));

    assert!(home.podctl(&["create", "configmap", "conf", "--from-literal=a=1"]).status.success());
    let password = home.file("b", "2");
    let file = format!("--from-file={password}");
    assert!(home.podctl(&["create", "secret", "generic", "sec", &file]).status.success());
    let output = home.run(POD, &[]);
    assert_eq!(stdout(&output).trim_end(), "app | 1 2", "{}", stderr(&output));
}

#[test]
fn kept_objects_are_shown_and_deleted_as_kubectl_does() {
    let home = Home::new();
    let env = home.file("env", "# comment\nk=v\nX=1\n  NOTE=a b\n");
    let env = format!("--from-env-file={env}");
    let made = home.podctl(&["create", "cm", "conf", &env]);
    assert_eq!(stdout(&made), "configmap/conf created\n", "{}", stderr(&made));
    let again = home.podctl(&["create", "cm", "conf"]);
    assert!(stderr(&again).contains("configmaps \"conf\" already exists"), "{}", stderr(&again));
    let table = stdout(&home.podctl(&["get", "cm"]));
    assert!(table.starts_with("NAME   DATA   AGE\nconf   3      "), "{table}");
    let yaml = stdout(&home.podctl(&["get", "configmap/conf", "-o", "yaml"]));
    assert!(yaml.contains("NOTE: a b\n") && yaml.starts_with("apiVersion: v1\n"), "{yaml}");
    let other = home.podctl(&["create", "cm", "conf", "-n", "other"]);
    assert!(other.status.success(), "{}", stderr(&other));
    let everywhere = stdout(&home.podctl(&["get", "cm", "-A"]));
    assert!(everywhere.contains("\ndefault     conf   3") && everywhere.contains("\nother       conf   0"));
    let secret = home.podctl(&["create", "secret", "generic", "s", "--from-literal=k=hidden"]);
    assert_eq!(stdout(&secret), "secret/s created\n", "{}", stderr(&secret));
    assert!(stdout(&home.podctl(&["get", "secrets"])).contains("s      Opaque   1      "));
    let file = home.path("data/objects/default/secret/s.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(
        stdout(&home.podctl(&["delete", "secret", "s"])),
        "secret \"s\" deleted from default namespace\n"
    );
    let gone = home.podctl(&["get", "secret", "s"]);
    assert!(stderr(&gone).contains("secrets \"s\" not found"), "{}", stderr(&gone));
    let bad = home.podctl(&["create", "cm", "Bad_Name"]);
    assert!(stderr(&bad).contains("RFC 1123 subdomain"), "{}", stderr(&bad));
}

#[test]
fn apply_keeps_objects_and_starts_pods_that_do_not_run() {
    let home = Home::new();
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: conf}}\ndata: {{a: one}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: sec}}\nstringData: {{b: two}}\n---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data}}\nspec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}\n---\n{}",
        POD.replace("echo $A $B", "exec sleep 1000")
    );
    let file = home.file("all.yaml", &text);
    let first = home.podctl(&["apply", "-f", &file]);
    assert_eq!(
        stdout(&first),
        "configmap/conf created\nsecret/sec created\npersistentvolumeclaim/data created\npod/p created\n",
        "{}",
        stderr(&first)
    );
    let second = home.podctl(&["apply", "-f", &file]);
    assert_eq!(
        stdout(&second),
        "configmap/conf unchanged\nsecret/sec configured\npersistentvolumeclaim/data unchanged\npod/p unchanged\n",
        "{}",
        stderr(&second)
    );
    fs::write(&file, text.replace("a: one", "a: three")).unwrap();
    assert!(stdout(&home.podctl(&["apply", "-f", &file])).starts_with("configmap/conf configured\n"));
    // Neither the pod's record nor its log repeats a Secret.
    let record = fs::read_to_string(home.path("data/records/default_p/pod.json")).unwrap();
    assert!(!record.contains("two"), "{record}");
}

#[test]
fn r_env_1_fields_resources_and_prefixes_become_variables_and_dollars_expand() {
    let home = Home::new();
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {K: one, L: two}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: web}, annotations: {note: hi}}\nspec:\n  restartPolicy: Never\n  serviceAccountName: me\n  containers:\n  - name: app\n    image: busybox:1.36\n    resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 250m}}\n    envFrom: [{prefix: C_, configMapRef: {name: c}}, {secretRef: {name: none, optional: true}}]\n    env:\n    - {name: C_L, value: mine}\n    - {name: V01, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n    - {name: V02, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}\n    - {name: V03, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}\n    - {name: V04, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['note']\"}}}\n    - {name: V05, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}\n    - {name: V06, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}\n    - {name: V07, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}\n    - {name: V08, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}\n    - {name: V09, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}\n    - {name: V10, value: \"$(V01)/$(C_K)/$(C_L)/$(PATH)/$(NO)/$$(V01)\"}\n    command: [sh, -c, 'env | sort | grep -E \"^(C_|V)\"; echo $(V01) \"$@\"', sh, $(V03), $$(V03)]\n";
    let output = home.run(text, &[]);
    let found: Vec<&str> =
        Vec::from_iter(std::str::from_utf8(&output.stdout).unwrap().lines().map(|l| &l[6..]));
    assert_eq!(
        found,
        [
            "C_K=one",
            "C_L=mine",
            "V01=p",
            "V02=default",
            "V03=web",
            "V04=hi",
            "V05=me",
            "V06=1",
            "V07=500",
            "V08=250",
            "V09=64",
            "V10=p/one/mine/$(PATH)/$(NO)/$(V01)",
            "p web $(V03)",
        ],
        "{}",
        stderr(&output)
    );
}

#[test]
fn claims_show_what_they_asked_for_and_names_are_generated() {
    let home = Home::new();
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce, ReadOnlyMany], volumeMode: Filesystem, storageClassName: fast, resources: {requests: {storage: 3Gi}}}\n";
    let applied = home.podctl(&["apply", "-f", &home.file("claim.yaml", claim)]);
    assert!(
        stderr(&applied).contains("spec.storageClassName: has no meaning on one machine"),
        "{}",
        stderr(&applied)
    );
    let table = stdout(&home.podctl(&["get", "pvc", "data"]));
    assert!(table.contains(" 3Gi ") && table.contains("RWO,ROX"), "{table}");

    let text = "apiVersion: v1\nkind: Pod\nmetadata: {generateName: try-, namespace: lab, labels: {a: b}, annotations: {c: d}, finalizers: [e/f]}\nspec:\n  restartPolicy: Never\n  containers: [{name: a, image: 'busybox:1.36', command: ['true']}]\n";
    for _ in 0..2 {
        let output = home.run(text, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("metadata.finalizers: has no meaning"), "{}", stderr(&output));
    }
    let listed = home.podctl(&["get", "pods", "-n", "lab", "-l", "a=b", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let name = |at: usize| listed["items"][at]["metadata"]["name"].as_str().unwrap_or_default();
    assert!(name(0).starts_with("try-") && name(0).len() == 9 && name(0) != name(1), "{listed:#}");
    assert_eq!(listed["items"][1]["metadata"]["annotations"]["c"], "d");
}

#[test]
fn replicas_of_a_deployment_are_pods_of_their_own() {
    let home = Home::new();
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers: [{name: a, image: \"busybox:1.36\", command: [sleep, \"1000\"]}]\n";
    let output = home.run(text, &["-d"]);
    assert_eq!(stdout(&output), "pod/web-0 started\npod/web-1 started\n", "{}", stderr(&output));
    assert_eq!(home.pod("web-1")["metadata"]["labels"]["app"], "web");
}

/// Returns what is no name of anything; the last has a character too many.
fn no_names() -> Vec<String> {
    let mut all: Vec<String> = ["", ".", "..", "../victim", "a/../../victim", "/etc", "A_b", "-a", "a b"]
        .map(str::to_owned)
        .to_vec();
    all.push("a".repeat(254));
    all
}

#[test]
fn no_name_leaves_its_directory_whatever_the_door() {
    let home = Home::new();
    assert!(home.podctl(&["get", "pods"]).status.success());
    for place in ["victim", "run/victim", "run/pods/default_..", "data/victim", "data/objects/default/victim"]
    {
        fs::create_dir_all(home.path(place)).unwrap();
        fs::write(home.path(place).join("claim.json"), "{}").unwrap();
    }
    let listed = || {
        let listed = std::process::Command::new("find").arg(home.path("")).output().unwrap();
        let mut lines: Vec<_> = stdout(&listed).lines().map(str::to_owned).collect();
        // A refused manifest is written by the test itself.
        lines.retain(|line| !line.ends_with(".yaml"));
        lines.sort();
        lines
    };
    let before = listed();
    for name in no_names() {
        let (pod, at) = (format!("pod/{name}"), format!("{name}:/etc/hostname"));
        let there = home.path("there").display().to_string();
        let doors: &[&[&str]] = &[
            &["-n", &name, "get", "pods"],
            &["-n", &name, "delete", "pod", "x"],
            &["-n", &name, "delete", "pods", "--all"],
            &["-n", &name, "create", "cm", "c", "--from-literal=a=b"],
            &["-n", &name, "volume", "create", "v"],
            &["get", "pod", &name],
            &["get", "cm", &name],
            &["get", "svc", &name],
            &["describe", "pod", &name],
            &["logs", &name],
            &["exec", &name, "--", "true"],
            &["attach", &name],
            &["stop", &name],
            &["start", &name],
            &["restart", &name],
            &["timeline", &name],
            &["top", "pod", &name],
            &["port-forward", &name, "1234:80"],
            &["debug", &name, "--image=busybox:1.36"],
            &["wait", &pod, "--for=condition=Ready", "--timeout=1s"],
            &["events", "--for", &pod],
            &["cp", &at, &there],
            &["delete", "pod", &name],
            &["delete", &pod, "--force"],
            &["delete", "cm", &name],
            &["delete", "secret", &name],
            &["delete", "pvc", &name],
            &["delete", "svc", &name],
            &["create", "cm", &name, "--from-literal=a=b"],
            &["create", "secret", "generic", &name, "--from-literal=a=b"],
            &["volume", "create", &name],
            &["volume", "inspect", &name],
            &["volume", "rm", &name],
        ];
        // No namespace is the one of who says nothing.
        let doors = doors.iter().filter(|door| door[..2] != ["-n", ""]);
        for door in doors {
            let output = home.podctl(door);
            let said = stderr(&output);
            assert!(!output.status.success() && !said.is_empty(), "{door:?}: {}{said}", stdout(&output));
            assert!(!said.contains("panicked"), "{door:?}: {said}");
        }
        let one = |meta: &str, container: &str, volume: &str| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {meta}, spec: {{containers: [{{name: {container:?}, image: 'busybox:1.36'}}], volumes: [{{name: {volume:?}, emptyDir: {{}}}}]}}}}"
            )
        };
        let claim = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, image: 'busybox:1.36'}}], volumes: [{{name: v, persistentVolumeClaim: {{claimName: {name:?}}}}}]}}}}"
        );
        let kept = |kind: &str| format!("{{apiVersion: v1, kind: {kind}, metadata: {{name: {name:?}}}}}");
        let mut manifests = vec![
            one(&format!("{{name: {name:?}}}"), "c", "v"),
            one("{name: p}", &name, "v"),
            one("{name: p}", "c", &name),
            claim,
            kept("ConfigMap"),
            kept("Secret"),
        ];
        if !name.is_empty() {
            manifests.push(one(&format!("{{name: p, namespace: {name:?}}}"), "c", "v"));
        }
        for text in &manifests {
            let file = home.file("bad.yaml", text);
            for verb in [&["run", "-d", &file][..], &["apply", "-f", &file], &["create", "-f", &file]] {
                let output = home.podctl(verb);
                assert!(!output.status.success(), "{verb:?} {text}: {}", stdout(&output));
            }
        }
    }
    assert_eq!(listed(), before);
}

#[test]
fn names_may_be_as_long_as_the_api_server_allows() {
    let home = Home::new();
    let (one, other) = ("a".repeat(253), format!("{}b", "a".repeat(252)));
    for name in [&one, &other] {
        home.said(&["create", "cm", name, "--from-literal=k=v"]);
        home.said(&["volume", "create", name]);
    }
    assert_eq!(home.said(&["get", "cm", "-o", "name"]), format!("configmap/{one}\nconfigmap/{other}\n"));
    assert_eq!(home.said(&["volume", "ls", "-q"]), format!("{one}\n{other}\n"));
    home.said(&["delete", "cm", &one]);
    home.said(&["volume", "rm", &one]);
    assert_eq!(home.said(&["get", "cm", "-o", "name"]), format!("configmap/{other}\n"));
    assert_eq!(home.said(&["volume", "ls", "-q"]), format!("{other}\n"));

    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {one}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:1.36', command: [sh, -c, 'echo here; exec sleep 600']}}]}}}}"
    );
    home.start(&text, &[]);
    assert_eq!(home.said(&["get", "pods", "-o", "name"]), format!("pod/{one}\n"));
    assert_eq!(home.said(&["exec", &one, "--", "echo", "inside"]), "inside\n");
    until("it has written", || home.said(&["logs", &one]) == "here\n");
    home.said(&["stop", &one]);
    home.said(&["start", &one]);
    home.said(&["delete", "pod", &one]);
    until("nothing is left", || home.traces().is_empty());
}

#[test]
fn a_damaged_record_is_cleared_away_and_nothing_else() {
    let home = Home::new();
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Never, containers: [{name: c, image: 'busybox:1.36', command: ['true']}]}}";
    home.run(text, &[]);
    fs::create_dir_all(home.path("victim")).unwrap();
    let record = home.path("data/records/default_p/pod.json");
    let damaged = |uid: &str| {
        let mut pod: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
        pod["metadata"]["uid"] = uid.into();
        fs::write(&record, pod.to_string()).unwrap();
    };
    damaged("../../victim");
    home.podctl(&["logs", "p"]);
    home.said(&["delete", "pod", "p"]);
    assert!(home.path("victim").is_dir() && !record.exists());
}

#[test]
fn each_name_keeps_its_kind_and_a_contradiction_deletes_nothing() {
    let home = Home::new();
    let refused = |args: &[&str], word: &str| {
        let output = home.podctl(args);
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(word), "{args:?}: {}{said}", stdout(&output));
    };
    for name in ["a", "b"] {
        home.said(&["create", "cm", name, "--from-literal=k=v"]);
        home.said(&["volume", "create", name]);
    }
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {selector: {app: b}, ports: [{port: 80}]}\n";
    let service = home.file("service.yaml", service);
    home.said(&["apply", "-f", &service]);
    refused(&["delete", "cm", "a", "--all"], "name cannot be provided when a selector is specified");
    refused(
        &["delete", "cm", "--all", "-l", "x=y"],
        "setting 'all' parameter but found a non empty selector",
    );
    refused(&["delete", "cm/a", "--all"], "selectors and the all flag cannot be used");
    refused(&["delete", "ingress", "a"], "ingresses.networking.k8s.io \"a\" not found");
    refused(&["delete", "cm,ingress", "a"], "ingresses.networking.k8s.io \"a\" not found");
    refused(&["delete", "cm,deploy", "a"], "the server doesn't have a resource type \"deploy\"");
    refused(&["delete", "namespace", "a"], "(NotFound): namespaces \"a\" not found");
    refused(&["delete", "cm"], "no name was specified");
    refused(&["get", "cm/a", "pod/none"], "(NotFound): pods \"none\" not found");
    assert_eq!(home.said(&["get", "cm,pvc,svc", "-o", "name"]).lines().count(), 5);

    let said = home.said(&["delete", "pvc/a", "svc/b"]);
    assert_eq!(
        said,
        "persistentvolumeclaim \"a\" deleted from default namespace\nservice \"b\" deleted from default namespace\n"
    );
    assert_eq!(home.said(&["get", "pvc", "-o", "name"]), "persistentvolumeclaim/b\n");
    home.said(&["apply", "-f", &service]);
    assert_eq!(home.said(&["delete", "all", "--all"]), "service \"b\" deleted from default namespace\n");
    assert_eq!(home.said(&["get", "cm,pvc", "-o", "name"]).lines().count(), 3);
    let both = home.said(&["delete", "cm,pvc", "--all"]);
    assert_eq!(both.lines().count(), 3, "{both}");
    refused(&["delete", "-f", &service], "(NotFound): error when deleting");
}

#[test]
fn labels_of_a_living_pod_change_and_its_files_follow() {
    let home = Home::new();
    let text = |label: &str, seconds: u32| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p, labels: {{tier: {label}}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:1.36', command: [sleep, '{seconds}'], volumeMounts: [{{name: own, mountPath: /own}}]}}], volumes: [{{name: own, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}]}}}}"
        )
    };
    home.start(&text("a", 600), &["--wait=running"]);
    let apply = |text: String| home.podctl(&["apply", "-f", &home.file("changed.yaml", &text)]);
    let shown = || home.said(&["exec", "p", "--", "cat", "/own/labels"]);
    let noted = apply(text("a", 600));
    assert_eq!(stdout(&noted), "pod/p configured\n");
    assert!(
        stderr(&noted).contains("pods/p is missing the kubectl.kubernetes.io/last-applied-configuration")
    );
    let changed = apply(text("b", 600));
    assert_eq!(stdout(&changed), "pod/p configured\n", "{}", stderr(&changed));
    assert_eq!(home.said(&["get", "pods", "-l", "tier=b", "-o", "name"]), "pod/p\n");
    until("the file shows the label", || shown() == "tier=\"b\"");
    let refused = apply(text("b", 700));
    assert!(!refused.status.success() && stderr(&refused).contains("pod updates may not change fields"));

    assert_eq!(home.said(&["label", "pod", "p", "tier=c", "more=x", "--overwrite"]), "pod/p labeled\n");
    until("the file shows the labels", || shown() == "more=\"x\"\ntier=\"c\"");
    let kept = home.podctl(&["label", "pod", "p", "tier=d"]);
    assert!(stderr(&kept).contains("'tier' already has a value (c), and --overwrite is false"));
    assert_eq!(home.said(&["label", "pod/p", "more-"]), "pod/p unlabeled\n");
    assert_eq!(home.said(&["annotate", "pod/p", "note=x"]), "pod/p annotated\n");
    assert_eq!(home.pod("p")["metadata"]["annotations"]["note"], "x");
    home.said(&["create", "cm", "conf", "--from-literal=k=v"]);
    assert_eq!(home.said(&["label", "cm", "conf", "a=b"]), "configmap/conf labeled\n");
    home.said(&["stop", "p"]);
    home.said(&["start", "p"]);
    until("the labels outlive a restart", || home.pod("p")["metadata"]["labels"]["tier"] == "c");
}
