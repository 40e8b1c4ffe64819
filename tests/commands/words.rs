//! The words of kubectl: patch, set, edit, replace, diff, expose, `run --image`, flags that are not, completion.

use std::fs;

use super::common::{Home, stderr, stdout};

/// Returns what a command says on standard error; it must fail.
fn fails(home: &Home, args: &[&str]) -> String {
    let output = home.podctl(args);
    assert!(!output.status.success(), "{args:?}: {}", stdout(&output));
    stderr(&output)
}

#[test]
fn objects_are_patched_edited_replaced_and_compared() {
    let home = Home::new();
    home.said(&["create", "cm", "conf", "--from-literal=a=b"]);
    let patch = ["patch", "cm", "conf", "-p", "data: {c: d}"];
    assert_eq!(home.said(&patch), "configmap/conf patched\n");
    assert_eq!(home.said(&patch), "configmap/conf patched (no change)\n");
    let json = r#"[{"op": "remove", "path": "/data/c"}]"#;
    assert_eq!(home.said(&["patch", "cm/conf", "--type=json", "-p", json, "-o", "name"]), "configmap/conf\n");
    assert!(fails(&home, &["patch", "cm", "conf", "--type=merge", "-p", "x"]).contains("it is no object"));
    assert!(fails(&home, &["patch", "cm", "none", "-p", "{}"]).contains("configmaps \"none\" not found"));

    let mut edit = home.command(&["edit", "cm", "conf"]);
    let edited = edit.env("KUBE_EDITOR", "sed -i 's/a: b/a: edited/'").output().unwrap();
    assert_eq!(stdout(&edited), "configmap/conf edited\n", "{}", stderr(&edited));
    assert_eq!(home.said(&["get", "cm", "conf", "-o", "go-template={{.data}}"]), "map[a:edited]");

    let file =
        home.file("conf.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {a: z}}");
    let differs = home.podctl(&["diff", "-f", &file]);
    assert_eq!(differs.status.code(), Some(1));
    assert!(stdout(&differs).contains("-  a: edited\n+  a: z\n"), "{}", stdout(&differs));
    assert_eq!(home.said(&["replace", "-f", &file]), "configmap/conf replaced\n");
    assert_eq!(home.said(&["diff", "-f", &file]), "");
    let forced = home.said(&["replace", "--force", "-f", &file]);
    assert_eq!(forced, "configmap \"conf\" deleted from default namespace\nconfigmap/conf replaced\n");
    assert_eq!(
        home.said(&["apply", "-f", &file, "--dry-run=server"]),
        "configmap/conf unchanged (server dry run)\n"
    );
}

#[test]
fn files_are_changed_without_touching_anything() {
    let home = Home::new();
    let file = home.file(
        "web.yaml",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{name: app, image: a}]}}}}",
    );
    let set = |words: &[&str]| {
        home.said(
            &[
                &["set"],
                words,
                &["-f", &file, "--local", "-o", "jsonpath={.spec.template.spec.containers[0]}"],
            ]
            .concat(),
        )
    };
    assert_eq!(set(&["image", "app=b"]), r#"{"image":"b","name":"app"}"#);
    assert!(set(&["env", "A=1"]).contains(r#""env":[{"name":"A","value":"1"}]"#));
    assert!(set(&["resources", "--limits=cpu=1"]).contains(r#""resources":{"limits":{"cpu":"1"}}"#));
    assert!(
        fails(&home, &["set", "image", "-f", &file, "--local", "none=b"])
            .contains("unable to find container")
    );
    let made = home.said(&["create", "deployment", "web", "--image=nginx", "--dry-run=client", "-o", "name"]);
    assert_eq!(made, "deployment.apps/web\n");
    assert!(fails(&home, &["create", "job", "j", "--image=x"]).contains("podctl keeps no jobs"));
}

#[test]
fn an_image_is_run_as_kubectl_runs_it() {
    let home = Home::new();
    let image = "--image=busybox:1.36";
    let printed = home.said(&[
        "run",
        "web",
        image,
        "--env=A=b",
        "--dry-run=client",
        "-o",
        "yaml",
        "--command",
        "--",
        "sleep",
        "5",
    ]);
    assert!(
        printed.contains("  - command:\n    - sleep\n    - \"5\"\n    env:\n    - name: A\n      value: b\n"),
        "{printed}"
    );
    let made = home.podctl(&["run", "web", image, "--port=80", "--", "sleep", "600"]);
    assert_eq!(stdout(&made), "pod/web created\n", "{}", stderr(&made));
    assert_eq!(home.said(&["expose", "pod", "web"]), "service/web exposed\n");
    assert_eq!(home.said(&["get", "svc", "web", "-o", "jsonpath={.spec.selector}"]), r#"{"run":"web"}"#);
    let once = home.podctl(&[
        "run",
        "-i",
        "--rm",
        "try",
        image,
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "echo hi; exit 3",
    ]);
    assert_eq!(once.status.code(), Some(3), "{}", stderr(&once));
    assert_eq!(stdout(&once), "hi\npod \"try\" deleted from default namespace\n");
    assert_eq!(home.said(&["ps", "-q"]), "pod/web\n");
    assert_eq!(home.said(&["inspect", "web", "-f", "{{.metadata.name}}"]), "web\n");
    home.said(&["delete", "pod", "web", "--now"]);
    home.said(&["delete", "svc", "web"]);
}

#[test]
fn flags_that_are_not_here_say_why() {
    let home = Home::new();
    assert!(fails(&home, &["get", "pods", "--server=x"]).contains("--server: it chooses a cluster"));
    assert!(fails(&home, &["apply", "--prune", "-f", "x"]).contains("--prune: `apply` deletes nothing"));
    assert!(fails(&home, &["run", "-v", "a:b", "x"]).contains("volumes stand in a manifest"));
    assert!(fails(&home, &["get", "--fieldselector=x"]).contains("Did you mean this?\n\t--field-selector"));
    assert!(fails(&home, &["build", "."]).contains("podctl builds no images"));
    let fulfilled = home.podctl(&["get", "pods", "--chunk-size", "5", "--request-timeout=5s"]);
    assert!(fulfilled.status.success(), "{}", stderr(&fulfilled));
    assert!(home.said(&[]).contains("podctl run web --image=nginx"));
}

#[test]
fn files_of_other_tools_lead_on() {
    let home = Home::new();
    let compose = home.file("compose.yaml", "services:\n  web:\n    image: nginx\n");
    assert!(fails(&home, &["run", &compose]).contains("kompose convert"));
    let dir = home.path("chart");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("Chart.yaml"), "apiVersion: v2\nname: c\n").unwrap();
    assert!(fails(&home, &["run", dir.to_str().unwrap()]).contains("helm template"));
}

#[test]
fn completion_offers_what_there_is() {
    let home = Home::new();
    home.said(&["create", "cm", "conf", "--from-literal=a=b"]);
    let offers = |words: &[&str]| home.said(&[&["__complete"], words].concat());
    assert_eq!(offers(&["get", "cm", "co"]), "conf\t\n");
    assert_eq!(offers(&["get", "cm/"]), "cm/conf\t\n");
    assert!(offers(&["get", "-o", "wi"]).starts_with("wide\t"));
    assert_eq!(offers(&["get", "--con"]), "");
    assert_eq!(offers(&["--bash", "get", "--output", "=", "ky"]), "kyaml\t\n");
    assert_eq!(offers(&["run", ""]), ":files\n");
    let pages = home.path("man");
    home.said(&["man", pages.to_str().unwrap()]);
    let page = fs::read_to_string(pages.join("podctl-run.1")).unwrap();
    assert!(page.contains("base\\-dir"), "{page}");
}

#[test]
fn volumes_are_carried_from_place_to_place() {
    let home = Home::new();
    home.said(&["volume", "create", "old"]);
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: w}, spec: {restartPolicy: Never, containers: [{name: c, image: 'busybox:1.36', command: [sh, -c, 'echo kept >/v/file; chown 7:8 /v/file'], volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, persistentVolumeClaim: {claimName: old}}]}}";
    home.run(pod, &[]);
    let archive = home.path("old.tar");
    let archive = archive.to_str().unwrap();
    home.said(&["volume", "export", "old", "-o", archive]);
    home.said(&["volume", "import", "new", archive]);
    let reads = pod.replace("echo kept >/v/file; chown 7:8 /v/file", "cat /v/file; stat -c %u:%g /v/file");
    let reads = reads.replace("name: w", "name: r").replace("claimName: old", "claimName: new");
    let output = home.run(&reads, &[]);
    assert!(
        stdout(&output).contains("kept") && stdout(&output).contains("7:8"),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    home.podctl(&["delete", "pods", "--all", "--now"]);
    assert!(home.said(&["volume", "prune", "--dry-run"]).contains("volume default/new"));
    assert!(home.said(&["volume", "prune", "--force"]).contains("removed persistentvolumeclaim default/old"));
}
