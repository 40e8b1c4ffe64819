//! The words of kubectl: patch, set, edit, replace, diff, expose, `run --image`, flags that are not, completion.

use std::{fs, process::Command};

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
        "configmap/conf configured (server dry run)\n"
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
    assert_eq!(set(&["image", "app=b"]), r#"{"image":"b","name":"app","resources":{}}"#);
    assert!(set(&["env", "A=1"]).contains(r#""env":[{"name":"A","value":"1"}]"#));
    assert!(set(&["resources", "--limits=cpu=1"]).contains(r#""resources":{"limits":{"cpu":"1"}}"#));
    assert!(
        fails(&home, &["set", "image", "-f", &file, "--local", "none=b"])
            .contains("unable to find container")
    );
    let made = home.said(&["create", "deployment", "web", "--image=nginx", "--dry-run=client", "-o", "name"]);
    assert_eq!(made, "deployment.apps/web\n");
    assert!(
        fails(&home, &["create", "deployment", "j", "--image=x"]).contains("podctl keeps no deployments")
    );
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
    assert!(fails(&home, &["create", "sa", "x"]).contains("podctl keeps no serviceaccounts but `default`"));
    assert!(fails(&home, &["create", "ingress", "x"]).contains("podctl keeps no ingresses"));
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

/// Completes a command line in a shell by its own means, with podctl's script; `None` where there is no such shell.
fn complete_in(home: &Home, shell: &str, line: &str, wanted: &str) -> Option<String> {
    let podctl = home.command(&[]);
    let dir = std::path::Path::new(podctl.get_program()).parent().unwrap().to_owned();
    let script = match shell {
        "bash" => {
            "source <(podctl completion bash); COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]}-1))
             $(complete -p podctl | sed 's/.*-F \\([^ ]*\\).*/\\1/') podctl \"${COMP_WORDS[-1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\""
        }
        // A terminal of zsh's own, in which the line is typed, and the Tab key.
        "zsh" => {
            "zmodload zsh/zpty; zpty tab zsh -f -i; zpty -w tab 'autoload -Uz compinit; compinit -u -D; source <(podctl completion zsh); echo READ''Y'
             zpty -r tab out '*READY*'; zpty -w -n tab \"$1\"$'\\t'; zpty -r tab out \"*$2*\"; print -r -- $out; zpty -d tab"
        }
        _ => "podctl completion fish | source; complete -C \"$argv[1]\"",
    };
    let mut command = Command::new("timeout");
    command.args(["60", shell]);
    let options: &[&str] = match shell {
        "bash" => &["--norc", "-c", script, "bash", line],
        "zsh" => &["-f", "-c", script, "zsh", line, wanted],
        _ => &["--no-config", "-c", script, line],
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let envs = podctl.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let output = command
        .args(options)
        .envs(envs)
        .env("PATH", format!("{}:{path}", dir.display()))
        .env("TERM", "dumb")
        .env("HOME", home.path("."))
        .output()
        .unwrap();
    let is_missing = [Some(126), Some(127)].contains(&output.status.code());
    (!is_missing).then(|| format!("{}{}", stdout(&output), stderr(&output)))
}

#[test]
fn shells_complete_by_what_there_is() {
    let home = Home::new();
    home.said(&["create", "cm", "conf-of-mine", "--from-literal=a=b"]);
    let shells =
        ["bash", "zsh", "fish"].map(|shell| complete_in(&home, shell, "podctl get cm co", "conf-of-mine"));
    assert!(shells[0].is_some(), "bash is everywhere");
    for offered in shells.into_iter().flatten() {
        assert!(offered.contains("conf-of-mine"), "{offered}");
    }
}

#[test]
fn a_path_of_the_api_is_asked_without_a_server() {
    let home = Home::new();
    let own = "/api/v1/namespaces/default/configmaps";
    let file =
        home.file("conf.json", r#"{"kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "z"}}"#);
    let raw = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&home.said(args)).unwrap() };
    assert_eq!(raw(&["create", "--raw", own, "-f", &file])["data"]["a"], "z");
    let one = format!("{own}/conf");
    assert_eq!(raw(&["get", "--raw", &one])["metadata"]["name"], "conf");
    assert_eq!(raw(&["get", "--raw", own])["items"][0]["data"]["a"], "z");
    let file =
        home.file("conf.json", r#"{"kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "y"}}"#);
    assert_eq!(raw(&["replace", "--raw", &one, "-f", &file])["data"]["a"], "y");
    assert_eq!(raw(&["delete", "--raw", &one])["status"], "Success");
    let gone = fails(&home, &["get", "--raw", &one]);
    assert_eq!(gone, "Error from server (NotFound): configmaps \"conf\" not found\n");
    assert!(
        fails(&home, &["get", "--raw", "/no"]).contains("the server could not find the requested resource")
    );
    assert!(fails(&home, &["get", "--raw", "no"]).contains("--raw must be a valid URL path"));
    assert!(fails(&home, &["get", "cm", "--raw", "/api"]).contains("arguments may not be passed"));
}

#[test]
fn selectors_and_service_accounts_are_set() {
    let home = Home::new();
    home.said(&["create", "service", "clusterip", "web", "--tcp=80"]);
    let set = ["set", "selector", "svc/web", "app=other,tier=x"];
    assert_eq!(home.said(&set), "service/web selector updated\n");
    assert_eq!(
        home.said(&["get", "svc", "web", "-o", "go-template={{.spec.selector}}"]),
        "map[app:other tier:x]"
    );
    assert!(
        fails(&home, &["set", "selector", "svc", "web", "a in (b)"]).contains("not supported on this object")
    );
    let stale = ["set", "selector", "svc/web", "a=b", "--resource-version=none"];
    assert!(fails(&home, &stale).contains("Error from server (Conflict)"));
    let file = home.file(
        "web.yaml",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{name: app, image: a}]}}}}",
    );
    let own = ["set", "serviceaccount", "-f", &file, "--local", "robot", "-o"];
    let path = "jsonpath={.spec.template.spec.serviceAccountName}";
    assert_eq!(home.said(&[&own[..], &[path]].concat()), "robot");
    let subject = ["set", "subject", "rolebinding", "admin", "--user=me"];
    assert!(fails(&home, &subject).contains("rolebindings.rbac.authorization.k8s.io \"admin\" not found"));
}

#[test]
fn jobs_are_made_of_images_of_files_and_of_other_jobs() {
    let home = Home::new();
    let file = home.file(
        "cron.yaml",
        "{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {schedule: '* * * * *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: 'busybox:1.36', command: [echo, of, cron]}]}}}}}}",
    );
    let from_file = ["create", "job", "once", "--from=cronjob/c", "-f", &file];
    let made = home.said(&[&from_file[..], &["--dry-run=client", "-o", "yaml"]].concat());
    let job = home.file("job.yaml", &made);
    assert!(home.said(&["run", &job]).contains("of cron"));
    home.said(&["delete", "pods", "--all"]);

    assert_eq!(home.said(&["apply", "-f", &job]), "job.batch/once created\n");
    let complete = |job: &str| home.said(&["wait", job, "--for=condition=complete", "--timeout=60s"]);
    complete("job/once");
    assert_eq!(home.said(&["apply", "-f", &job]), "job.batch/once unchanged\n");
    assert!(fails(&home, &["create", "-f", &job]).contains("jobs.batch \"once\" already exists"));
    assert_eq!(home.said(&["create", "job", "again", "--from=job/once"]), "job.batch/again created\n");
    home.said(&["create", "job", "own", "--image=busybox:1.36", "--", "echo", "by image"]);
    complete("job/again");
    complete("job/own");
    assert_eq!(home.said(&["logs", "job/again"]), "of cron\n");
    assert_eq!(home.said(&["logs", "job/own"]), "by image\n");

    let neither = fails(&home, &["create", "job", "j"]);
    assert_eq!(neither, "error: either --image or --from must be specified\n");
    let unkept = fails(&home, &["create", "job", "j", "--from=cronjob/c"]);
    assert!(unkept.contains("doesn't have a resource type \"cronjob\""), "{unkept}");
    let other = fails(&home, &["create", "job", "j", "--from=cronjob/d", "-f", &file]);
    assert!(other.contains("cronjob \"d\" not found"), "{other}");
    assert!(fails(&home, &["apply", "-f", &file]).contains("nobody would start it when it is time"));
    home.said(&["delete", "jobs", "--all"]);
}

#[test]
fn a_suspended_job_is_kept_and_its_events_are_shown_but_nobody_waits_for_it() {
    let home = Home::new();
    let text = |suspend: bool| {
        format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{name: later}}, spec: {{suspend: {suspend}, ttlSecondsAfterFinished: 3600, template: {{spec: {{restartPolicy: Never, containers: [{{name: a, image: 'busybox:1.36', command: [echo, now]}}]}}}}}}}}"
        )
    };
    let file = home.file("later.yaml", &text(true));
    let refused = fails(&home, &["run", &file]);
    assert!(refused.contains("job \"later\" is suspended"), "{refused}");
    home.said(&["apply", "-f", &file]);
    home.said(&["wait", "job/later", "--for=condition=suspended", "--timeout=60s"]);
    assert_eq!(home.said(&["get", "pods", "-o", "name"]), "");
    home.file("later.yaml", &text(false));
    assert_eq!(home.said(&["apply", "-f", &file]), "job.batch/later configured\n");
    home.said(&["wait", "job/later", "--for=condition=complete", "--timeout=60s"]);
    assert_eq!(home.said(&["logs", "job/later"]), "now\n");
    let events = home.said(&["events"]);
    for told in ["Job suspended", "Job resumed", "Created pod: later-", "Job completed"] {
        assert!(events.contains(told), "{events}");
    }
    home.said(&["patch", "job", "later", "-p", "{\"spec\":{\"ttlSecondsAfterFinished\":0}}"]);
    home.said(&["wait", "job/later", "--for=delete", "--timeout=60s"]);
    home.said(&["wait", "pods", "--all", "--for=delete", "--timeout=60s"]);
}

#[test]
fn a_command_runs_in_the_pod_of_a_file() {
    let home = Home::new();
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: w}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000']}]}}";
    let file = home.file("w.yaml", pod);
    home.said(&["run", "-d", &file]);
    assert_eq!(home.said(&["exec", "-f", &file, "--", "echo", "here"]), "here\n");
    assert!(
        fails(&home, &["exec", "-f", &file, "w", "--", "true"])
            .contains("cannot be provided when a path is specified")
    );
    let other = fails(&home, &["set", "serviceaccount", "pod/w", "robot"]);
    assert!(other.contains("pod updates may not change fields"), "{other}");
    home.said(&["delete", "-f", &file]);
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
