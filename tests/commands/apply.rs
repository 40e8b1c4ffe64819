//! What is kept and changes, and what files name: `apply`, `delete -f`, namespaces.

use crate::common::{Home, pod, shell, stderr, stdout, until};

fn config(value: &str, more: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: conf}}\ndata: {{key: {value}{more}}}\n")
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 0\n  securityContext: {fsGroup: 1234}\n  containers:\n  - name: a\n    image: busybox:1.36\n    command: [sh, -c, 'trap \"exit 0\" USR1; while :; do sleep 0.1; done']\n    env: [{name: KEY, valueFrom: {configMapKeyRef: {name: conf, key: key}}}]\n    volumeMounts:\n    - {name: v, mountPath: /v}\n    - {name: v, mountPath: /sub, subPath: key}\n    - {name: s, mountPath: /s}\n  volumes:\n  - {name: v, configMap: {name: conf}}\n  - {name: s, projected: {sources: [{secret: {name: pass, optional: true}}]}}\n";

#[test]
fn r_vol_2_a_changed_object_is_seen_in_the_volumes_of_a_living_pod() {
    let home = Home::new();
    let apply = |text: &str| {
        let file = home.file("objects.yaml", text);
        let output = home.podctl(&["apply", "-f", &file]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    assert!(apply(&format!("{}---\n{POD}", config("one", ", gone: x"))).contains("pod/p created"));
    let sh = |line: &str| stdout(&home.podctl(&["exec", "p", "--", "sh", "-c", line])).trim().to_owned();
    until("the pod runs", || sh("echo $KEY") == "one");
    assert_eq!(sh("cat /v/key /sub; ls /v /s"), "oneone/s:\n\n/v:\ngone\nkey");
    let said = apply(&format!("{}---\n{POD}", config("two", ", new: z")));
    assert!(said.contains("configmap/conf configured") && said.contains("pod/p unchanged"), "{said}");
    until("the volume shows it", || sh("cat /v/key") == "two");
    // subPath is a file of its own; the environment is that of the start; fsGroup is kept.
    assert_eq!(sh("cat /sub; echo; ls /v; echo $KEY; stat -Lc %g /v/key"), "one\nkey\nnew\none\n1234");
    let made = home.podctl(&["create", "secret", "generic", "pass", "--from-literal=word=w"]);
    assert!(made.status.success(), "{}", stderr(&made));
    until("the secret shows", || sh("cat /s/word") == "w");
    assert!(home.podctl(&["exec", "p", "--", "kill", "-USR1", "1"]).status.success());
    until("the container starts again", || sh("echo $KEY") == "two");
}

#[test]
fn an_object_of_the_pods_own_file_is_not_replaced_by_one_that_is_kept() {
    let home = Home::new();
    let output = home.run(&format!("{}---\n{POD}", config("own", "")), &["-d", "--network", "none"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let file = home.file("conf.yaml", &config("kept", ""));
    assert!(home.podctl(&["apply", "-f", &file]).status.success());
    // The supervisor serves one request after the other: by now it has seen the change.
    assert_eq!(stdout(&home.podctl(&["exec", "p", "--", "cat", "/v/key"])), "own");
}

#[test]
fn an_immutable_object_cannot_be_changed() {
    let home = Home::new();
    let text = |value: &str| format!("{}immutable: true\n", config(value, ""));
    let file = home.file("conf.yaml", &text("one"));
    assert!(home.podctl(&["apply", "-f", &file]).status.success());
    let file = home.file("conf.yaml", &text("two"));
    let output = home.podctl(&["apply", "-f", &file]);
    assert!(!output.status.success() && stderr(&output).contains("is immutable"), "{}", stderr(&output));
}

#[test]
fn objects_of_one_name_in_two_namespaces_stay_apart() {
    let home = Home::new();
    let one = |namespace: &str, value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: conf, namespace: {namespace}}}\ndata: {{key: {value}}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: {namespace}}}\nspec:\n  restartPolicy: Never\n  containers: [{{name: a, image: \"busybox:1.36\", command: [sh, -c, 'echo $KEY'], env: [{{name: KEY, valueFrom: {{configMapKeyRef: {{name: conf, key: key}}}}}}]}}]\n"
        )
    };
    let text = format!("{}---\n{}", one("red", "of-red"), one("blue", "of-blue"));
    let output = home.run(&text, &["--network", "none"]);
    assert!(output.status.success(), "{}", stderr(&output));
    for namespace in ["red", "blue"] {
        let said = stdout(&home.podctl(&["-n", namespace, "logs", "p"]));
        assert_eq!(said, format!("of-{namespace}\n"));
    }
    let alone = one("green", "x").replace("namespace: green", "namespace: red").replacen("red", "blue", 1);
    let output = home.run(&alone, &["--network", "none", "--replace"]);
    assert!(stderr(&output).contains("ConfigMap \"conf\" not found"), "{}", stderr(&output));
}

#[test]
fn a_file_that_would_be_refused_still_says_what_to_delete() {
    let home = Home::new();
    let file = home.file("conf.yaml", &config("one", ""));
    assert!(home.podctl(&["apply", "-f", &file]).status.success());
    let pod = home.file("pod.yaml", POD);
    assert!(home.podctl(&["run", "-d", "--network", "none", &pod]).status.success());
    let broken = POD.replace("spec:", "spec:\n  nonsense: 1") + "---\n" + &config("one", "");
    let both = home.file("both.yaml", &broken);
    let output = home.podctl(&["delete", "-f", &both]);
    assert_eq!(
        stdout(&output),
        "pod \"p\" deleted from default namespace\nconfigmap \"conf\" deleted from default namespace\n",
        "{}",
        stderr(&output)
    );
    let again = home.podctl(&["delete", "-f", &both]);
    assert!(stderr(&again).contains("pods \"p\" not found"), "{}", stderr(&again));
}

#[test]
fn the_pods_of_a_workload_are_deleted_by_its_file() {
    let home = Home::new();
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers: [{name: a, image: \"busybox:1.36\", command: [sleep, \"1000\"]}]\n";
    assert!(home.run(text, &["-d", "--network", "none"]).status.success());
    let file = home.path("pod.yaml").display().to_string();
    let output = home.podctl(&["delete", "-f", &file]);
    assert_eq!(
        stdout(&output),
        "pod \"web-0\" deleted from default namespace\npod \"web-1\" deleted from default namespace\n",
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_qualified_host_name_that_is_too_long_is_refused() {
    let home = Home::new();
    let long = "s".repeat(60);
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  subdomain: {long}\n  setHostnameAsFQDN: true\n  containers: [{{name: a, image: \"busybox:1.36\"}}]\n"
    );
    let output = home.run(&text, &["--network", "none"]);
    assert_eq!(output.status.code(), Some(1));
    let words = "has 88 characters; a host name has 64 characters at most";
    assert!(stderr(&output).contains(words), "{}", stderr(&output));
    assert!(home.pod("p").is_null());
}

#[test]
fn what_run_took_from_a_file_is_deleted_by_it() {
    let home = Home::new();
    let beside = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {a: b}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";
    let text = pod(&format!("  containers:\n{}", shell("c", "sleep 300"))) + beside;
    home.start(&text, &[]);
    let file = home.path("pod.yaml").display().to_string();
    assert!(home.said(&["delete", "--now", "-f", &file]).contains("pod \"p\" deleted"));
    // Nothing of it is there any more, and that is said.
    let again = home.podctl(&["delete", "-f", &file]);
    assert!(!again.status.success());
    assert!(stderr(&again).contains("configmaps \"conf\" not found"), "{}", stderr(&again));
}

#[test]
fn a_file_applied_anew_leaves_what_others_have_noted() {
    let home = Home::new();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000']}]\n";
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {a: b}, ports: [{port: 80}]}\n";
    let file = |value: &str| home.file("all.yaml", &format!("{}---\n{pod}---\n{service}", config(value, "")));
    home.said(&["apply", "-f", &file("one")]);
    let all = ["configmap/conf", "pod/p", "service/s"];
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    for object in all {
        home.said(&["patch", object, "--type=merge", "-p", hold]);
    }
    home.said(&["apply", "-f", &file("two")]);
    for object in all {
        let held = home.said(&["get", object, "-o", "jsonpath={.metadata.finalizers[0]}"]);
        assert_eq!(held, "example.com/hold", "{object}");
        home.said(&["patch", object, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    }
    assert_eq!(home.said(&["get", "cm", "conf", "-o", "jsonpath={.data.key}"]), "two");
}
