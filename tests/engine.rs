//! Programs that embed podctl. This suite is one: its own `main` comes first, and its pods' supervisors
//! are this test program, started anew.

use std::{io::Write, os::fd::OwnedFd, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use podctl::{
    DebugCopy, DebugError, DebugOptions, DeleteOptions, Engine, Error, ErrorKind, ImageErrorKind, LogOptions,
    ObjectKind, Options, PodHandle, PodPart, Preconditions, PullOptions, StartError, StateError, Streams,
    WriteOptions,
    k8s_openapi::api::core::v1::{Container, Pod, PodSpec},
    manifest::{Manifest, Source},
};

const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));
const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

type Test = fn(&Engine);

const TESTS: [(&str, Test); 18] = [
    ("a_pod_that_a_program_made_is_checked", a_pod_that_a_program_made_is_checked),
    ("a_pod_is_run_waited_for_read_and_deleted", a_pod_is_run_waited_for_read_and_deleted),
    ("what_is_wrong_with_a_manifest_is_data", what_is_wrong_with_a_manifest_is_data),
    ("a_pod_is_found_by_whoever_did_not_start_it", a_pod_is_found_by_whoever_did_not_start_it),
    (
        "a_command_gets_its_streams_and_gives_its_exit_code",
        a_command_gets_its_streams_and_gives_its_exit_code,
    ),
    ("logs_are_followed_to_the_pods_end", logs_are_followed_to_the_pods_end),
    ("who_waits_for_a_pod_that_hangs_is_told_so", who_waits_for_a_pod_that_hangs_is_told_so),
    ("a_wait_ends_with_the_pod_or_its_time", a_wait_ends_with_the_pod_or_its_time),
    ("zombies_do_not_gather_where_nobody_waits", zombies_do_not_gather_where_nobody_waits),
    ("a_stopped_pod_is_started_anew", a_stopped_pod_is_started_anew),
    ("a_restart_starts_every_container_anew", a_restart_starts_every_container_anew),
    (
        "a_killed_keeper_is_followed_wherever_the_directories_are",
        a_killed_keeper_is_followed_wherever_the_directories_are,
    ),
    ("a_living_pods_image_and_resources_change", a_living_pods_image_and_resources_change),
    ("conditions_that_others_set_open_a_pods_gates", conditions_that_others_set_open_a_pods_gates),
    (
        "objects_have_a_version_and_a_namespace_takes_all_along",
        objects_have_a_version_and_a_namespace_takes_all_along,
    ),
    ("what_objects_own_goes_with_the_last_of_its_owners", what_objects_own_goes_with_the_last_of_its_owners),
    ("a_pod_is_debugged_beside_and_in_a_copy", a_pod_is_debugged_beside_and_in_a_copy),
    ("images_are_pulled_listed_and_removed", images_are_pulled_listed_and_removed),
];

fn main() {
    // A hook has done it before main; here it does no harm.
    podctl::init();
    assert!(
        std::env::var_os("CONTAINERS_REGISTRIES_CONF").is_some(),
        "these tests need the test registry; run them with scripts/test"
    );
    let mut failed = false;
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for (name, test) in
        TESTS.iter().filter(|(n, _)| wanted.is_empty() || wanted.iter().any(|w| n.contains(w)))
    {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::at(dir.path().join("run"), dir.path().join("data")).unwrap();
        let result = std::panic::catch_unwind(|| test(&engine));
        for pod in engine.pods(None).unwrap() {
            pod.delete(AT_ONCE).unwrap();
        }
        for image in engine.images().unwrap() {
            engine.remove_image(&image.reference, true).unwrap();
        }
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed |= result.is_err();
    }
    if failed {
        std::process::exit(101);
    }
}

fn source(text: &str) -> [Source; 1] {
    [Source { name: "test".into(), text: text.into() }]
}

/// Runs a pod `p` whose only container runs this in a shell.
fn run(engine: &Engine, namespace: &str, script: &str) -> PodHandle {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{restartPolicy: Never, containers: \
         [{{name: app, image: 'busybox:1.36', command: [sh, -c, {script:?}]}}]}}}}"
    );
    let manifest = engine.load(namespace, &source(&text)).unwrap();
    engine.run(&manifest.pods[0], &manifest, &Options::default()).unwrap()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

fn running(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    statuses.into_iter().any(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()))
}

fn logged(pod: &PodHandle, options: &LogOptions) -> Vec<String> {
    let entries = pod.logs(options).unwrap();
    entries.map(|e| format!("{}: {}", e.container, String::from_utf8_lossy(&e.text))).collect()
}

/// The children of this process that have ended and were not waited for.
fn zombies() -> Vec<String> {
    let me = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap();
    let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    children.split_whitespace().map(stat).filter(|s| s.contains(") Z ")).collect()
}

fn a_pod_is_run_waited_for_read_and_deleted(engine: &Engine) {
    let pod = run(engine, "default", "echo out; echo err >&2; exit 3");
    let ended = pod.wait().unwrap();
    assert_eq!(phase(&ended), "Failed");
    assert!(!pod.is_alive());
    let mut lines = logged(&pod, &LogOptions::default());
    lines.sort();
    assert_eq!(lines, ["app: err", "app: out"]);
    let reasons: Vec<_> = pod.events().unwrap().into_iter().filter_map(|e| e.reason).collect();
    assert!(reasons.contains(&"Started".to_owned()), "{reasons:?}");
    pod.delete(None).unwrap();
    assert!(matches!(pod.pod(), Err(Error::State(StateError::NotFound { .. }))));
    assert!(engine.pods(None).unwrap().is_empty());
}

fn what_is_wrong_with_a_manifest_is_data(engine: &Engine) {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{nmae: a}]}}";
    let Err(Error::Manifest(found)) = engine.load("default", &source(text)) else { panic!("not refused") };
    assert!(found.iter().any(|d| d.path == "spec.containers[0].nmae" && d.line == 1), "{found:?}");
}

fn a_pod_that_a_program_made_is_checked(engine: &Engine) {
    let started = |change: &dyn Fn(&mut Pod)| {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        let app = Container {
            name: "app".into(),
            image: Some("busybox:1.36".into()),
            command: Some(vec!["sleep".into(), "1000".into()]),
            ..Container::default()
        };
        pod.spec = Some(PodSpec { containers: vec![app], ..PodSpec::default() });
        change(&mut pod);
        engine.run(&pod, &Manifest::default(), &Options::default())
    };
    let spec = |pod: &mut Pod, change: &dyn Fn(&mut PodSpec)| change(pod.spec.as_mut().unwrap());
    let too_long = "a".repeat(254);
    for name in ["", "..", "../../evil", "a/b", "a\0b", "A_b", &too_long] {
        let refused = [
            started(&|pod| pod.metadata.name = Some(name.into())),
            started(&|pod| spec(pod, &|s| s.containers[0].name = name.into())),
            // No namespace is the default one.
            started(&|pod| pod.metadata.namespace = Some(format!("{name}/"))),
        ];
        for refused in refused {
            assert!(
                matches!(&refused, Err(Error::Manifest(found)) if !found.is_empty()),
                "{name:?}: {refused:?}"
            );
        }
        assert!(matches!(engine.pod("default", name), Err(Error::Name(_))), "{name:?}");
        assert!(matches!(engine.pod(name, "p"), Err(Error::Name(_))), "{name:?}");
        assert!(matches!(engine.load(name, &[]), Err(Error::Name(_))), "{name:?}");
    }
    let twice = started(&|pod| spec(pod, &|s| s.containers.push(s.containers[0].clone())));
    let none = started(&|pod| spec(pod, &|s| s.containers.clear()));
    let deadline = started(&|pod| spec(pod, &|s| s.active_deadline_seconds = Some(0)));
    let no_spec = started(&|pod| pod.spec = None);
    for refused in [twice, none, deadline, no_spec] {
        assert!(matches!(refused, Err(Error::Manifest(_))), "{refused:?}");
    }
    assert!(engine.pods(None).unwrap().is_empty());
    let pod = started(&|_| ()).unwrap();
    let defaulted = pod.pod().unwrap().spec.unwrap();
    assert_eq!(defaulted.restart_policy.as_deref(), Some("Always"));
    assert!(defaulted.security_context.is_some());
}

fn a_pod_is_found_by_whoever_did_not_start_it(engine: &Engine) {
    let pod = run(engine, "other", "exec sleep 1000");
    pod.wait_until(running, TIMEOUT).unwrap();
    let all: Vec<_> = engine.pods(None).unwrap().iter().map(|p| p.name().to_owned()).collect();
    assert_eq!(all, ["p"]);
    assert!(engine.pods(Some("default")).unwrap().is_empty());
    assert!(matches!(engine.pod("default", "p"), Err(Error::State(StateError::NotFound { .. }))));
    let found = engine.pod("other", "p").unwrap();
    assert!(found.is_alive());
    let manifest = engine.load("other", &source("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: busybox}]}}"));
    let manifest = manifest.unwrap();
    let second = engine.run(&manifest.pods[0], &manifest, &Options::default());
    assert!(matches!(second, Err(Error::Start(StartError::Exists(_)))), "{second:?}");
    found.delete(AT_ONCE).unwrap();
    assert!(!pod.is_alive());
}

fn a_command_gets_its_streams_and_gives_its_exit_code(engine: &Engine) {
    let pod = run(engine, "default", "exec sleep 1000");
    pod.wait_until(running, TIMEOUT).unwrap();
    let output = pod.output(None, &["sh", "-c", "echo out; echo err >&2; exit 7"]).unwrap();
    assert_eq!((output.exit_code, &output.stdout[..], &output.stderr[..]), (7, &b"out\n"[..], &b"err\n"[..]));

    let ((stdin, mut writer), (mut reader, stdout)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let stderr: OwnedFd = stdout.try_clone().unwrap().into();
    let streams = Streams { stdin: stdin.into(), stdout: stdout.into(), stderr };
    let exec = pod.exec(Some("app"), &["wc", "-c"], streams).unwrap();
    writer.write_all(b"12345").unwrap();
    drop(writer);
    assert_eq!(std::io::read_to_string(&mut reader).unwrap().trim(), "5");
    assert_eq!(exec.wait().unwrap(), 0);

    let absent = pod.output(None, &["no-such-program"]);
    assert!(matches!(absent, Err(Error::Refused { exit_code: 127, .. })), "{absent:?}");
    let nowhere = pod.output(Some("nowhere"), &["true"]);
    assert!(matches!(nowhere, Err(Error::Refused { exit_code: 1, .. })), "{nowhere:?}");
    pod.stop(AT_ONCE).unwrap();
    assert!(matches!(pod.output(None, &["true"]), Err(Error::Ended(_))));
}

fn logs_are_followed_to_the_pods_end(engine: &Engine) {
    let pod = run(engine, "default", "echo one; while ! test -e /go; do sleep 0.1; done; echo two");
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut logs = pod.logs(&follow).unwrap();
    assert_eq!(logs.next().unwrap().text, b"one");
    pod.output(None, &["touch", "/go"]).unwrap();
    assert_eq!(logs.next().unwrap().text, b"two");
    assert_eq!(logs.next(), None);
    let other = LogOptions { container: Some("other".into()), ..LogOptions::default() };
    assert!(matches!(pod.logs(&other), Err(Error::NoContainer { .. })));
}

fn who_waits_for_a_pod_that_hangs_is_told_so(engine: &Engine) {
    let pod = run(engine, "default", "echo one; sleep 1000");
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut logs = pod.logs(&follow).unwrap();
    assert_eq!(logs.next().unwrap().text, b"one");
    for id in supervisors() {
        kill(id, Signal::SIGSTOP).unwrap();
    }
    let waiting = std::thread::spawn({
        let pod = pod.clone();
        move || pod.wait()
    });
    assert_eq!(logs.next(), None);
    assert!(matches!(logs.take_failure(), Some(Error::Unreachable { .. })));
    assert!(matches!(waiting.join().unwrap(), Err(Error::Unreachable { .. })));
    for id in supervisors() {
        kill(id, Signal::SIGCONT).unwrap();
    }
}

/// Returns the supervisors that this program has started.
fn supervisors() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_supervisor = |id: &i32| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}")).unwrap_or_default();
        let parent =
            read("status").lines().find_map(|line| Some(line.strip_prefix("PPid:")?.trim().to_owned()));
        parent.is_some_and(|parent| parent == own) && read("cmdline").contains("supervise")
    };
    ids.filter(is_supervisor).map(Pid::from_raw).collect()
}

fn a_wait_ends_with_the_pod_or_its_time(engine: &Engine) {
    let pod = run(engine, "default", "while ! test -e /go; do sleep 0.1; done");
    pod.wait_until(running, TIMEOUT).unwrap();
    let never = |pod: &Pod| phase(pod) == "Never";
    assert!(matches!(pod.wait_until(never, AT_ONCE), Err(Error::TimedOut(_))));
    pod.output(None, &["touch", "/go"]).unwrap();
    assert!(matches!(pod.wait_until(never, TIMEOUT), Err(Error::Ended(_))));
    assert_eq!(phase(&pod.wait().unwrap()), "Succeeded");
}

fn zombies_do_not_gather_where_nobody_waits(engine: &Engine) {
    for _ in 0..6 {
        drop(run(engine, "default", "true"));
        engine.pod("default", "p").unwrap().wait().unwrap();
    }
    // The last pod's supervisor and puller, the network's keeper and guard.
    assert!(zombies().len() <= 4, "{:#?}", zombies());
}

fn a_killed_keeper_is_followed_wherever_the_directories_are(engine: &Engine) {
    let pod = run(engine, "default", "exec sleep 1000");
    pod.wait_until(running, TIMEOUT).unwrap();
    let resolved = || pod.output(None, &["nslookup", "p"]).is_ok_and(|output| output.exit_code == 0);
    let until = |what: &str, condition: &dyn Fn() -> bool| {
        let began = std::time::Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(60), "in vain waited until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("the pod is known", &resolved);
    let me = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap();
    for child in children.split_whitespace() {
        let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        if line == b"podctl\0internal\0network\0" {
            let pid = nix::unistd::Pid::from_raw(child.parse().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
    until("it is known again", &resolved);
}

fn a_stopped_pod_is_started_anew(engine: &Engine) {
    let pod = run(engine, "default", "echo here; exec sleep 1000");
    let first = pod.wait_until(running, TIMEOUT).unwrap();
    // Its first line has been written when it is heard.
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    assert_eq!(pod.logs(&follow).unwrap().next().unwrap().text, b"here");
    pod.stop(AT_ONCE).unwrap();
    assert_eq!(phase(&pod.pod().unwrap()), "Failed");
    assert_eq!(logged(&pod, &LogOptions::default()), ["app: here"]);
    let again = pod.start().unwrap();
    let second = again.wait_until(running, TIMEOUT).unwrap();
    assert_ne!(first.metadata.uid, second.metadata.uid);
}

fn a_restart_starts_every_container_anew(engine: &Engine) {
    let pod = run(engine, "default", "echo start; exec sleep 1000");
    pod.wait_until(running, TIMEOUT).unwrap();
    let restarts =
        |pod: &Pod| pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].restart_count;
    let pod = pod.restart().unwrap();
    let again = pod.wait_until(|pod| running(pod) && restarts(pod) == 1, TIMEOUT).unwrap();
    assert_eq!(phase(&again), "Running");
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    assert_eq!(logged(&pod, &previous), ["app: start"]);
}

/// Changes a part of the pod `p` through the object layer.
fn change_pod(engine: &Engine, part: PodPart, change: impl Fn(&mut serde_json::Value)) -> Result<(), Error> {
    let mut pod = engine.get_object(ObjectKind::Pod, "default", "p")?;
    change(&mut pod);
    let options = WriteOptions { part, ..WriteOptions::default() };
    engine.update_object(ObjectKind::Pod, "default", &pod, &Preconditions::default(), &options).map(drop)
}

fn a_living_pods_image_and_resources_change(engine: &Engine) {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0, \
                restartPolicy: Never, containers: [{name: app, image: 'busybox:1.36', command: [sleep, '1000'], \
                resources: {limits: {memory: 64Mi, cpu: '1'}, requests: {cpu: 100m}}}, \
                {name: other, image: 'busybox:1.36', command: [sleep, '1000'], \
                resizePolicy: [{resourceName: memory, restartPolicy: NotRequired}]}]}}";
    let manifest = engine.load("default", &source(text)).unwrap();
    let pod = engine.run(&manifest.pods[0], &manifest, &Options::default()).unwrap();
    let app = |pod: &Pod| pod.status.as_ref()?.container_statuses.as_ref()?.first().cloned();
    pod.wait_until(|pod| app(pod).is_some_and(|app| app.ready), TIMEOUT).unwrap();

    change_pod(engine, PodPart::Resources, |pod| {
        let limits = serde_json::json!({"memory": "128Mi", "cpu": "2"});
        pod["spec"]["containers"][0]["resources"] =
            serde_json::json!({"limits": limits, "requests": {"cpu": "200m", "memory": "64Mi"}});
    })
    .unwrap();
    let limit = |pod: &Pod| Some(app(pod)?.resources?.limits?.get("memory")?.0.clone());
    let resized = pod.wait_until(|pod| limit(pod).as_deref() == Some("128Mi"), TIMEOUT).unwrap();
    assert_eq!(app(&resized).unwrap().restart_count, 0);
    assert_eq!(app(&resized).unwrap().allocated_resources.unwrap()["cpu"].0, "200m");
    assert!(resized.metadata.generation > Some(1));
    let changed = |image: &'static str| {
        move |pod: &mut serde_json::Value| pod["spec"]["containers"][0]["image"] = image.into()
    };
    let refused = change_pod(engine, PodPart::Resources, changed("nginx:1.21")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");

    change_pod(engine, PodPart::Object, changed("nginx:1.21")).unwrap();
    let anew = |pod: &Pod| app(pod).is_some_and(|app| app.ready && app.restart_count == 1);
    let anew = pod.wait_until(anew, TIMEOUT).unwrap();
    assert!(app(&anew).unwrap().image.contains("nginx:1.21"), "{anew:?}");
    let events: Vec<String> = pod.events().unwrap().into_iter().filter_map(|event| event.message).collect();
    assert!(events.contains(&"Container app definition changed, will be restarted".to_owned()), "{events:?}");

    change_pod(engine, PodPart::Object, changed("no-such-image:0")).unwrap();
    let waits = |pod: &Pod| Some(app(pod)?.state?.waiting?.reason? == "ErrImagePull");
    pod.wait_until(|pod| waits(pod) == Some(true), TIMEOUT).unwrap();
    change_pod(engine, PodPart::Object, changed("busybox:1.36")).unwrap();
    pod.wait_until(|pod| app(pod).is_some_and(|app| app.ready), TIMEOUT).unwrap();
    let command =
        change_pod(engine, PodPart::Object, |pod| pod["spec"]["containers"][0]["command"] = ["true"].into());
    assert!(command.unwrap_err().to_string().contains("pod updates may not change fields"));
}

fn conditions_that_others_set_open_a_pods_gates(engine: &Engine) {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0, \
                readinessGates: [{conditionType: example.com/open}], \
                containers: [{name: app, image: 'busybox:1.36', command: [sleep, '1000']}]}}";
    let manifest = engine.load("default", &source(text)).unwrap();
    let pod = engine.run(&manifest.pods[0], &manifest, &Options::default()).unwrap();
    let condition = |pod: &Pod, name: &str| {
        let all = pod.status.as_ref()?.conditions.as_ref()?;
        all.iter().find(|condition| condition.type_ == name).map(|condition| condition.status.clone())
    };
    let ready = pod.wait_until(|pod| condition(pod, "ContainersReady").as_deref() == Some("True"), TIMEOUT);
    assert_eq!(condition(&ready.unwrap(), "Ready").as_deref(), Some("False"));
    change_pod(engine, PodPart::Status, |pod| {
        let all = pod["status"]["conditions"].as_array_mut().unwrap();
        all.push(serde_json::json!({"type": "example.com/open", "status": "True"}));
    })
    .unwrap();
    pod.wait_until(|pod| condition(pod, "Ready").as_deref() == Some("True"), TIMEOUT).unwrap();
}

fn objects_have_a_version_and_a_namespace_takes_all_along(engine: &Engine) {
    let (kind, plain) = (ObjectKind::ConfigMap, WriteOptions::default());
    let map = serde_json::json!({"metadata": {"name": "m", "namespace": "team"}, "data": {"a": "1"}});
    let space = serde_json::json!({"metadata": {"name": "team", "labels": {"owner": "me"}}});
    engine.create_object(ObjectKind::Namespace, "", &space, &plain).unwrap();
    let made = engine.create_object(kind, "team", &map, &plain).unwrap();
    let version = made["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let seen = Preconditions { resource_version: version, ..Preconditions::default() };
    let mut other = made.clone();
    other["data"]["a"] = "2".into();
    let changed = engine.update_object(kind, "team", &other, &seen, &plain).unwrap();
    assert_eq!(changed["metadata"]["uid"], made["metadata"]["uid"]);
    let late = engine.update_object(kind, "team", &other, &seen, &plain).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late}");
    let space = engine.get_object(ObjectKind::Namespace, "", "team").unwrap();
    assert_eq!(space["metadata"]["labels"]["owner"], "me");
    engine.delete_object(ObjectKind::Namespace, "", "team", &DeleteOptions::default()).unwrap();
    assert_eq!(engine.get_object(kind, "team", "m").unwrap_err().kind(), ErrorKind::NotFound);
    let kept = engine.delete_object(ObjectKind::Namespace, "", "default", &DeleteOptions::default());
    assert_eq!(kept.unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(engine.list_objects(ObjectKind::Node, &Default::default()).unwrap().len(), 1);
}

fn what_objects_own_goes_with_the_last_of_its_owners(engine: &Engine) {
    let kind = ObjectKind::ConfigMap;
    let make = |name: &str, owners: &[&str]| {
        let refer = |owner: &&str| {
            let uid = &engine.get_object(kind, "default", owner).unwrap()["metadata"]["uid"];
            serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid})
        };
        let owners: Vec<_> = owners.iter().map(refer).collect();
        let map = serde_json::json!({"metadata": {"name": name, "ownerReferences": owners}});
        engine.create_object(kind, "default", &map, &WriteOptions::default()).unwrap();
    };
    for (name, owners) in [
        ("a", &[][..]),
        ("b", &[]),
        ("c", &[]),
        ("of-a-b", &["a", "b"]),
        ("of-that", &["of-a-b"]),
        ("of-b-c", &["b", "c"]),
    ] {
        make(name, owners);
    }
    let names = || {
        let all = engine.list_objects(kind, &Default::default()).unwrap();
        let names = all.iter().map(|map| map["metadata"]["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let options = DeleteOptions::default();
    let orphaning = DeleteOptions { orphans: true, ..DeleteOptions::default() };
    let mut batch = engine.begin_deletion();
    for name in ["a", "b"] {
        batch.delete_object(kind, "default", name, &options).unwrap();
    }
    assert_eq!(batch.delete_object(kind, "default", "x", &options).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(names(), "c of-a-b of-b-c of-that");
    batch.finish().unwrap();
    assert_eq!(names(), "c of-b-c");
    make("of-c", &["c"]);
    engine.delete_object(kind, "default", "c", &orphaning).unwrap();
    assert_eq!(names(), "of-b-c of-c");
}

fn a_pod_is_debugged_beside_and_in_a_copy(engine: &Engine) {
    let pod = run(engine, "default", "sleep 1000");
    pod.wait_ready(TIMEOUT).unwrap();
    let none = pod.debug(&DebugOptions::default()).unwrap_err();
    assert!(
        matches!(none, Error::Debug(DebugError::NoImage { ref present }) if !present.is_empty()),
        "{none}"
    );
    let image = Some("busybox:1.36".to_owned());
    let words = ["sh", "-c", "echo $A; exec sleep 1000"].map(str::to_owned).to_vec();
    let env = vec![("A".to_owned(), "debugged".to_owned())];
    let options = DebugOptions { image, words, env, name: Some("look".into()), ..DebugOptions::default() };
    assert_eq!(pod.debug(&options).unwrap(), "look");
    let again = pod.debug(&options).unwrap_err();
    assert!(matches!(again, Error::Refused { .. }), "{again}");

    let images = vec![("nope".to_owned(), "busybox:1.36".to_owned())];
    let wrong = DebugCopy { images, ..DebugCopy::named("copied") };
    let wrong = pod.debug_copy(&options, &wrong).unwrap_err();
    assert!(matches!(wrong, Error::Debug(DebugError::NoContainer(ref name)) if name == "nope"), "{wrong}");
    let (copy, container) = pod.debug_copy(&options, &DebugCopy::named("copied")).unwrap();
    assert_eq!((copy.name().to_owned(), container.as_deref()), ("copied".to_owned(), Some("look")));
    let spec = copy.pod().unwrap().spec.unwrap();
    assert_eq!((spec.containers.len(), spec.share_process_namespace), (2, Some(true)));
    copy.delete(Some(Duration::ZERO)).unwrap();
    pod.delete(Some(Duration::ZERO)).unwrap();
}

fn images_are_pulled_listed_and_removed(engine: &Engine) {
    let image = engine.pull("busybox:1.36", &PullOptions::default()).unwrap();
    assert_eq!(image.reference, "docker.io/library/busybox:1.36");
    assert_eq!(engine.images().unwrap().len(), 1);
    let pod = run(engine, "default", "exec sleep 1000");
    pod.wait_until(running, TIMEOUT).unwrap();
    assert_eq!(engine.remove_image("busybox:1.36", false).unwrap_err().kind, ImageErrorKind::InUse);
    pod.delete(AT_ONCE).unwrap();
    assert_eq!(engine.remove_image("busybox:1.36", false).unwrap()[0].digest, image.digest);
    assert_eq!(engine.remove_image("busybox:1.36", false).unwrap_err().kind, ImageErrorKind::NotFound);
    let unknown = engine.pull("busybox:no-such-tag", &PullOptions::default());
    assert_eq!(unknown.unwrap_err().kind, ImageErrorKind::Other);
}
