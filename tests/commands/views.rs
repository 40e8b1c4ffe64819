//! What commands say of pods, in kubectl's words, on real containers.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use crate::common::{Home, pod, shell, stderr, stdout, until};

/// The question "an init container fails and the pod does not start": its pod.
const CRASHING: &str = "apiVersion: v1
kind: Pod
metadata: {name: q1, labels: {app: db}}
spec:
  initContainers:
  - {name: init, image: 'busybox:1.36', command: [sh, -c, 'echo cannot reach the database; exit 7']}
  containers:
  - {name: app, image: 'busybox:1.36', command: [sleep, '1000']}
";

/// Two containers that obey SIGTERM.
const RUNNING: &str = "apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: web, tier: front}, annotations: {kubectl.kubernetes.io/default-container: side}}
spec:
  containers:
  - {name: app, image: 'busybox:1.36', command: [sh, -c, 'echo from app; trap exit TERM; sleep 1000 & wait']}
  - {name: side, image: 'busybox:1.36', command: [sh, -c, 'for i in 1 2 3; do echo line $i; done; trap exit TERM; sleep 1000 & wait']}
";

fn says(home: &Home, args: &[&str]) -> String {
    let output = home.podctl(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn complains(home: &Home, args: &[&str]) -> String {
    let output = home.podctl(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stdout(&output));
    stderr(&output).trim().to_owned()
}

/// Tells whether a command waits for files to change.
fn is_watching(command: &Child) -> bool {
    let entries = fs::read_dir(format!("/proc/{}/fdinfo", command.id())).into_iter().flatten().flatten();
    entries
        .into_iter()
        .any(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("inotify wd")))
}

fn crashing() -> Home {
    let home = Home::new();
    assert!(home.run(CRASHING, &["-d", "--wait", "none", "--backoff-initial", "0.2"]).status.success());
    until("the init container backs off again", || {
        let events = stdout(&home.podctl(&["events"]));
        let waits = stdout(&home.podctl(&["get", "q1"])).contains("Init:CrashLoopBackOff");
        waits && events.lines().any(|l| l.contains("BackOff") && l.contains("(x"))
    });
    home
}

fn running() -> Home {
    let home = Home::new();
    assert!(home.run(RUNNING, &["-d", "--wait", "ready"]).status.success());
    until("both have written", || {
        let logs = stdout(&home.podctl(&["logs", "two", "--all-containers"]));
        logs.contains("line 3") && logs.contains("from app")
    });
    home
}

#[test]
fn a_crashing_init_container_can_be_followed_as_with_kubectl() {
    let home = crashing();
    // It starts again all the while, and a run that has just begun has said nothing yet.
    until("its run has spoken", || {
        says(&home, &["logs", "q1", "-c", "init"]) == "cannot reach the database\n"
    });
    assert_eq!(says(&home, &["logs", "pod/q1", "init", "--previous"]), "cannot reach the database\n");

    let found = says(&home, &["get", "pod", "q1", "-o", "jsonpath={.status.initContainerStatuses}"]);
    let statuses: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(statuses[0]["name"], "init");
    assert_eq!(statuses[0]["lastState"]["terminated"]["exitCode"], 7);
    let states =
        || says(&home, &["get", "pod", "q1", "-o", "jsonpath={.status.initContainerStatuses[*].state}"]);
    // Now and then it runs.
    until("its state is that of one that has ended", || {
        states().starts_with("{\"waiting\":") || states().starts_with("{\"terminated\":")
    });

    let described = says(&home, &["describe", "pod", "q1"]);
    for line in [
        "Init Containers:",
        "    Last State:     Terminated",
        "      Exit Code:    7",
        "Status:           Pending",
    ] {
        assert!(described.contains(line), "{line:?} in\n{described}");
    }
    let events = described.split("Events:\n").nth(1).unwrap();
    assert!(
        events.lines().any(|l| l.contains("BackOff") && l.contains("(x") && l.contains(" over ")),
        "{events}"
    );
    let waits = complains(&home, &["logs", "q1", "-c", "app"]);
    assert_eq!(
        waits,
        "Error from server (BadRequest): container \"app\" in pod \"q1\" is waiting to start: PodInitializing"
    );
    let events = says(&home, &["events", "--for", "pod/q1", "--types", "Warning"]);
    assert!(events.lines().skip(1).all(|l| l.contains("Warning") && l.contains("Pod/q1")), "{events}");
}

#[test]
fn get_chooses_and_prints_as_kubectl_does() {
    let home = running();
    let row = says(&home, &["get", "pods", "-l", "app in (web,db),tier", "--no-headers", "-o", "wide"]);
    let cells: Vec<&str> = row.split_whitespace().collect();
    let node = nix::unistd::gethostname().unwrap();
    assert_eq!((cells[0], cells[1], cells[2], cells[3]), ("two", "2/2", "Running", "0"));
    assert_eq!(cells[6], node.to_str().unwrap());
    assert_eq!(says(&home, &["get", "po", "-o", "name"]), "pod/two\n");
    assert_eq!(says(&home, &["get", "pods", "--field-selector", "status.phase!=Running", "-o", "name"]), "");
    assert_eq!(
        says(
            &home,
            &["get", "pod/two", "-o", "custom-columns=NAME:.metadata.name,C:.spec.containers[*].name"]
        ),
        "NAME   C\ntwo    app,side\n"
    );
    let template = "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}";
    assert_eq!(says(&home, &["get", "pods", "-o", template]), "two\n");
    assert!(says(&home, &["get", "pod", "two", "-L", "tier"]).contains("TIER"));
    assert_eq!(
        complains(&home, &["get", "pod", "none"]),
        "Error from server (NotFound): pods \"none\" not found"
    );
    assert!(complains(&home, &["get", "deploy"]).contains("podctl keeps no deploy, "));
    assert_eq!(says(&home, &["get", "pod", "none", "--ignore-not-found"]), "");
    assert!(complains(&home, &["get", "pods", "--context", "kind"]).contains("it chooses a cluster"));
    assert_eq!(
        says(&home, &["get", "pods", "-o", "go-template={{range .items}}{{.metadata.name}},{{end}}"]),
        "two,"
    );

    // What -o yaml prints can be run again.
    let yaml = says(&home, &["get", "pod", "two", "-o", "yaml"]);
    assert!(yaml.starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n"), "{yaml}");
    let spec = yaml.split("\nstatus:").next().unwrap();
    let spec: String = spec.lines().filter(|l| !l.contains("nodeName")).map(|l| format!("{l}\n")).collect();
    let again = home.run(&spec.replace("name: two\n", "name: again\n"), &["-d", "--wait", "ready"]);
    assert!(again.status.success(), "{}", stderr(&again));
}

#[test]
fn logs_take_kubectls_flags() {
    let home = running();
    assert_eq!(
        says(&home, &["logs", "two"]),
        "line 1\nline 2\nline 3\n",
        "the annotation names the container"
    );
    assert_eq!(says(&home, &["logs", "two", "side", "--tail", "1"]), "line 3\n");
    assert_eq!(says(&home, &["logs", "two", "-c", "app", "--prefix"]), "[pod/two/app] from app\n");
    assert_eq!(says(&home, &["logs", "two", "side", "--limit-bytes", "9"]), "line 1\nli");
    assert_eq!(says(&home, &["logs", "two", "side", "--since-time", "2999-01-01T00:00:00Z"]), "");
    assert!(says(&home, &["logs", "-l", "app=web", "--all-containers"]).contains("from app"));
    assert!(says(&home, &["logs", "two", "side", "--timestamps", "--since", "1h"]).contains("Z line 1"));
    let many = ["logs", "-f", "-l", "app=web", "--all-containers", "--max-log-requests", "1"];
    assert!(complains(&home, &many).contains("follow 2 log streams, but maximum allowed concurrency is 1"));
    assert_eq!(
        complains(&home, &["logs", "two", "-c", "x"]),
        "error: container x is not valid for pod two out of: app, side"
    );
    let previous = complains(&home, &["logs", "two", "app", "-p"]);
    assert_eq!(
        previous,
        "Error from server (BadRequest): previous terminated container \"app\" in pod \"two\" not found"
    );
}

#[test]
fn wait_tells_by_words_and_exit_code() {
    let home = running();
    let met = "pod/two condition met\n";
    assert_eq!(says(&home, &["wait", "pod/two", "--for=condition=Ready"]), met);
    assert_eq!(says(&home, &["wait", "--all", "--for=jsonpath={.status.phase}=Running"]), met);
    assert_eq!(says(&home, &["wait", "pod/none", "--for=delete"]), "");
    let late = complains(&home, &["wait", "pod/two", "--for=condition=Ready=false", "--timeout=0.1s"]);
    assert_eq!(late, "error: timed out waiting for the condition on pods/two");
    let gone =
        home.command(&["wait", "pod/two", "--for=delete", "--timeout=60s"]).stdout(Stdio::piped()).spawn();
    let made =
        home.command(&["wait", "pod/q1", "--for=create", "--timeout=60s"]).stdout(Stdio::piped()).spawn();
    let (gone, made) = (gone.unwrap(), made.unwrap());
    // Who has not looked yet would find that there is no such pod.
    until("both watch", || is_watching(&gone) && is_watching(&made));
    assert_eq!(says(&home, &["delete", "pod", "two"]), "pod \"two\" deleted from default namespace\n");
    assert_eq!(stdout(&gone.wait_with_output().unwrap()), met);
    assert!(home.run(CRASHING, &["-d", "--wait", "none"]).status.success());
    assert_eq!(stdout(&made.wait_with_output().unwrap()), "pod/q1 condition met\n");
}

#[test]
fn get_watch_shows_each_change_and_a_killed_supervisor() {
    let home = running();
    let mut watch = home.command(&["get", "pods", "-w"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("NAME"));
    assert!(next().contains("Running"));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(home.supervisor("two").unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    // No file is written for that: the kernel closes the supervisor's lock.
    assert!(next().contains("SupervisorLost"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn delete_ends_what_was_chosen() {
    let home = running();
    assert!(complains(&home, &["delete"]).contains("must provide one or more resources"));
    assert!(
        complains(&home, &["delete", "pod", "two", "--force", "--grace-period=5"])
            .contains("cannot be specified together")
    );
    assert_eq!(
        complains(&home, &["delete", "pod", "none"]),
        "Error from server (NotFound): pods \"none\" not found"
    );
    let file = home.file("two.yaml", RUNNING);
    assert_eq!(says(&home, &["delete", "-f", &file, "-o", "name"]), "pod/two\n");
    assert!(home.run(RUNNING, &["-d", "--wait", "ready"]).status.success());
    assert_eq!(says(&home, &["delete", "pods", "-l", "app=none"]), "No resources found\n");
    assert_eq!(
        says(&home, &["delete", "pods", "-l", "app=web", "--force"]),
        "pod \"two\" force deleted from default namespace\n"
    );
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
}

#[test]
fn r_app_8_a_pod_that_was_asked_to_end_is_terminating() {
    let home = Home::new();
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - {name: a, image: 'busybox:1.36', command: [sh, -c, 'trap \"\" TERM; while :; do sleep 0.1; done']}
";
    assert!(home.run(pod, &["-d", "--wait", "ready"]).status.success());
    assert_eq!(
        says(&home, &["delete", "pod", "slow", "--wait=false"]),
        "pod \"slow\" deleted from default namespace\n"
    );
    assert_eq!(
        says(&home, &["wait", "pod/slow", "--for=jsonpath={.metadata.deletionGracePeriodSeconds}=60"]),
        "pod/slow condition met\n"
    );
    let late = complains(&home, &["delete", "pod", "slow", "--timeout=0.1s"]);
    assert_eq!(late, "error: timed out waiting for the condition on pods/slow");
    assert!(says(&home, &["get", "slow"]).contains("Terminating"));
    assert!(says(&home, &["describe", "pod", "slow"]).contains("Termination Grace Period:  60s"));
}

#[test]
fn a_timeline_shows_when_things_began_and_ended() {
    let home = Home::new();
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: t}
spec:
  initContainers:
  - {name: init, image: 'busybox:1.36', command: [sh, -c, 'sleep 0.2']}
  - {name: side, image: 'busybox:1.36', restartPolicy: Always, command: [sh, -c, 'sleep 1000'],
     startupProbe: {exec: {command: ['true']}}}
  containers:
  - {name: app, image: 'busybox:1.36', command: [sh, -c, 'sleep 1000'], lifecycle: {postStart: {exec: {command: [sleep, '0.1']}}}}
";
    assert!(home.run(pod, &["-d", "--wait", "ready"]).status.success());
    let json: serde_json::Value =
        serde_json::from_str(&says(&home, &["timeline", "t", "-o", "json"])).unwrap();
    let bar = |container: &str, part: &str| -> serde_json::Value {
        let rows = json["rows"].as_array().unwrap();
        let row =
            rows.iter().find(|r| r["container"] == container && r["part"].as_str().unwrap_or("") == part);
        row.unwrap_or_else(|| panic!("{container} {part} in {json}"))["bars"][0].clone()
    };
    let at = |bar: &serde_json::Value, end: &str| bar[end].as_f64().unwrap();
    let init = bar("init", "");
    assert!(at(&init, "to") > at(&init, "from"));
    assert!(at(&init, "to") <= at(&bar("side", ""), "from"));
    assert!(at(&bar("side", "startup"), "to") <= at(&bar("app", ""), "from"));
    assert!(bar("app", "")["to"].is_null(), "it still runs");
    let hook = bar("app", "postStart");
    assert!(at(&hook, "to") - at(&hook, "from") >= 0.1);
    let svg = says(&home, &["timeline", "t", "-o", "svg"]);
    assert!(svg.starts_with("<svg") && svg.contains(">side<"));
    fs::write(home.path("t.svg"), svg).unwrap();
    assert!(says(&home, &["timeline", "pod/t"]).contains("└ startup"));
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly_and_a_full_disk_is_told() {
    let home = Home::new();
    home.start(&pod(&format!("  containers:\n{}", shell("c", "exec sleep 600"))), &[]);
    let file = home.path("pod.yaml").display().to_string();
    let commands: [&[&str]; 5] = [
        &["images"],
        &["get", "pods"],
        &["explain-file", &file],
        &["create", "cm", "m", "--from-literal=a=b"],
        &["delete", "pod", "p", "--dry-run=client"],
    ];
    for args in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = home.command(args).stdout(writer).output().unwrap();
        assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(0), ""), "{args:?}");
    }
    // What it had to do is done all the same.
    assert_eq!(home.said(&["get", "cm", "m", "-o", "name"]), "configmap/m\n");

    for args in commands {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = home.command(args).stdout(full).output().unwrap();
        if args[0] != "create" {
            assert_eq!(ended.status.code(), Some(1), "{args:?}");
            assert!(stderr(&ended).contains("cannot write to standard output: No space left"), "{args:?}");
        }
    }
}

#[test]
fn switches_take_true_and_false_as_kubectls_do() {
    let home = Home::new();
    home.start(&pod(&format!("  containers:\n{}", shell("c", "exec sleep 600"))), &[]);
    assert_eq!(home.said(&["get", "pods", "--no-headers=true", "--watch=false"]).lines().count(), 1);
    assert_eq!(home.said(&["get", "pods", "-A=false", "--no-headers=0"]).lines().count(), 2);
    let refused = home.podctl(&["get", "pods", "--no-headers=perhaps"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("perhaps"), "{}", stderr(&refused));
}
