//! `#[test]`: no main of our own, no call of `init`.

use std::time::{Duration, Instant};

use podctl::{
    DebugCopy, DebugOptions, Engine, Error, ExecCommand, Export, ExportOptions, HostPort, LogOptions,
    ObjectKind, Options, PodGuard, PodHandle, Session, WaitCondition, WriteOptions,
    k8s_openapi::api::core::v1::{Container, Pod, PodSpec},
    manifest::{Manifest, Source},
};

const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));

fn engine() -> (tempfile::TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::at(dir.path().join("run"), dir.path().join("data")).unwrap();
    (dir, engine)
}

fn yaml(name: &str, script: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, containers: \
         [{{name: app, image: 'busybox:1.36', command: [sh, -c, {script:?}]}}]}}}}"
    )
}

fn run(engine: &Engine, script: &str, options: &Options) -> PodHandle {
    engine.run_yaml("default", &yaml("p", script), options).unwrap().remove(0)
}

#[test]
fn a_pod_is_ready_in_a_test_and_gone_with_its_guard() {
    let (_dir, engine) = engine();
    let pod = run(&engine, "sleep 1000", &Options::default()).guard();
    pod.wait_ready(TIMEOUT).unwrap();
    assert_eq!(pod.output(None, &["echo", "here"]).unwrap().stdout, b"here\n");
    drop(pod);
    assert!(engine.pods(None).unwrap().is_empty());
}

#[test]
fn a_port_is_found_by_any_handle() {
    let (_dir, engine) = engine();
    let options = Options { publish: vec![HostPort::any_for(8000)], ..Options::default() };
    let script = "mkdir /www; echo hello >/www/index.html; httpd -f -p 8000 -h /www";
    let _pod = run(&engine, script, &options).guard();
    let other = engine.pod("default", "p").unwrap();
    let address = other.host_port(8000).unwrap();
    assert!(matches!(other.host_port(1), Err(Error::NotPublished { port: 1, .. })));
    let deadline = Instant::now() + TIMEOUT.unwrap();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_cannot_start_names_the_container_and_the_reason() {
    let (_dir, engine) = engine();
    let text = yaml("p", "true").replace("busybox:1.36", "busybox:no-such-tag");
    let pod = engine.run_yaml("default", &text, &Options::default()).unwrap().remove(0).guard();
    let failed = pod.wait_ready(TIMEOUT);
    let Err(Error::CannotStart { container: Some(container), reason, .. }) = &failed else {
        panic!("{failed:?}")
    };
    assert_eq!((container.as_str(), reason.as_str()), ("app", "ErrImagePull"));
}

#[test]
fn what_is_shared_between_threads_can_be() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Engine>();
    shared::<PodHandle>();
    shared::<PodGuard>();
    shared::<Session>();
    shared::<Error>();
    shared::<Export>();
    sent::<podctl::Logs>();
    sent::<podctl::Watch>();
    sent::<podctl::ObjectWatch>();
}

#[test]
fn a_typed_pod_and_a_text_are_equals() {
    let (_dir, engine) = engine();
    let app = Container {
        name: "app".into(),
        image: Some("busybox:1.36".into()),
        command: Some(["sleep", "1000"].map(str::to_owned).to_vec()),
        ..Container::default()
    };
    let mut pod =
        Pod { spec: Some(PodSpec { containers: vec![app], ..PodSpec::default() }), ..Pod::default() };
    pod.metadata.name = Some("typed".into());
    let pod = engine.run(&pod, &Manifest::default(), &Options::default()).unwrap().guard();
    pod.wait_ready(TIMEOUT).unwrap();
    assert!(pod.usage().unwrap().iter().any(|usage| usage.container == "app" && usage.pids > 0));
}

#[test]
fn two_engines_know_nothing_of_each_other() {
    let ((_one, first), (_two, second)) = (engine(), engine());
    let pod = run(&first, "sleep 1000", &Options::default()).guard();
    let other = run(&second, "sleep 1000", &Options::default()).guard();
    pod.wait_ready(TIMEOUT).unwrap();
    other.wait_ready(TIMEOUT).unwrap();
    pod.delete().unwrap();
    assert!(
        other.is_alive() && second.pods(None).unwrap().len() == 1 && first.pods(None).unwrap().is_empty()
    );
}

#[test]
fn a_command_has_a_terminal_of_a_size() {
    let (_dir, engine) = engine();
    let pod = run(&engine, "sleep 1000", &Options::default()).guard();
    pod.wait_ready(TIMEOUT).unwrap();
    let words = ["stty", "size"].map(str::to_owned).to_vec();
    let command = ExecCommand { words, terminal: true, size: Some((24, 81)), ..ExecCommand::default() };
    let mut session = pod.open_exec(command).unwrap();
    session.set_blocking().unwrap();
    let mut terminal = std::fs::File::from(session.stdout.take().unwrap());
    let mut text = Vec::new();
    // A terminal ends with an error.
    let _ = std::io::Read::read_to_end(&mut terminal, &mut text);
    assert_eq!(String::from_utf8_lossy(&text).trim(), "24 81");
    assert_eq!(session.process.wait().unwrap(), 0);
}

#[test]
fn attached_streams_are_those_of_the_first_process() {
    let (_dir, engine) = engine();
    let text = yaml("p", "read line; echo \"<$line>\"").replace("command:", "stdin: true, command:");
    let pod = engine.run_yaml("default", &text, &Options::default()).unwrap().remove(0).guard();
    pod.wait_ready(TIMEOUT).unwrap();
    let mut session = pod.attach(None, true).unwrap();
    session.set_blocking().unwrap();
    let mut stdin = std::fs::File::from(session.stdin.take().unwrap());
    std::io::Write::write_all(&mut stdin, b"hello\n").unwrap();
    let mut stdout = std::fs::File::from(session.stdout.take().unwrap());
    let mut said = [0; 7];
    std::io::Read::read_exact(&mut stdout, &mut said).unwrap();
    assert_eq!(&said, b"<hello>");
}

#[test]
fn files_go_in_and_come_out() {
    let (dir, engine) = engine();
    let pod = run(&engine, "sleep 1000", &Options::default()).guard();
    pod.wait_ready(TIMEOUT).unwrap();
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    std::fs::write(&there, "hello").unwrap();
    pod.copy_to(None, &there, "/tmp/here").unwrap();
    assert_eq!(pod.output(None, &["cat", "/tmp/here"]).unwrap().stdout, b"hello");
    pod.copy_from(None, "/tmp/here", &back).unwrap();
    assert_eq!(std::fs::read(&back).unwrap(), b"hello");
    let failed = pod.copy_from(None, "/nowhere", &back).unwrap_err();
    assert!(matches!(&failed, Error::Copy(why) if why.contains("/nowhere")), "{failed:?}");
}

#[test]
fn logs_are_cut_as_they_are_wanted() {
    let (_dir, engine) = engine();
    let pod = run(&engine, "echo one; echo two; echo three; sleep 1000", &Options::default()).guard();
    pod.wait_ready(TIMEOUT).unwrap();
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    assert_eq!(pod.logs(&follow).unwrap().take(3).count(), 3);
    let lines = |options: LogOptions| -> Vec<String> {
        pod.logs(&options).unwrap().map(|e| String::from_utf8(e.text).unwrap()).collect()
    };
    assert_eq!(lines(LogOptions { tail: Some(2), ..LogOptions::default() }), ["two", "three"]);
    assert_eq!(lines(LogOptions { limit_bytes: Some(5), ..LogOptions::default() }), ["one", "t"]);
    assert!(matches!(pod.check_started("app", true), Err(Error::NoPrevious { .. })));
}

#[test]
fn a_pod_is_debugged_beside_its_container_and_in_a_copy() {
    let (_dir, engine) = engine();
    let pod = run(&engine, "exec sleep 1000", &Options::default()).guard();
    pod.wait_ready(TIMEOUT).unwrap();
    let options = DebugOptions {
        image: Some("busybox:1.36".into()),
        target: Some("app".into()),
        words: ["sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; echo"].map(str::to_owned).to_vec(),
        ..DebugOptions::default()
    };
    let name = pod.debug(&options).unwrap();
    let ended = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| &status.ephemeral_container_statuses).flatten();
        let mut states =
            statuses.filter(|status| status.name == name).filter_map(|status| status.state.as_ref());
        states.any(|state| state.terminated.is_some())
    };
    pod.wait_until(ended, TIMEOUT).unwrap();
    let said = pod.logs(&LogOptions { container: Some(name.clone()), ..LogOptions::default() }).unwrap();
    let said: Vec<_> = said.map(|entry| entry.text).collect();
    assert_eq!(said, [b"sleep 1000 ".to_vec()]);

    let (copy, added) = pod.debug_copy(&options, &DebugCopy::named("copy")).unwrap();
    let copy = copy.guard();
    let spec = copy.pod().unwrap().spec.unwrap();
    assert_eq!(
        spec.containers.iter().map(|c| Some(c.name.clone())).collect::<Vec<_>>(),
        [Some("app".into()), added]
    );
}

#[test]
fn a_job_is_run_to_its_end() {
    let (_dir, engine) = engine();
    let text = "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {completions: 2, template: {spec: {\
                restartPolicy: Never, containers: [{name: app, image: 'busybox:1.36', command: ['true']}]}}}}";
    let manifest = engine.load("default", &[Source { name: "job".into(), text: text.into() }]).unwrap();
    let mut pods = 0;
    let outcome = engine.run_job(&manifest.jobs[0], &manifest, &Options::default(), |_| pods += 1).unwrap();
    assert!(outcome.complete && outcome.exit_code == 0 && pods == 2, "{outcome}, {pods} pods");
    for pod in engine.pods(None).unwrap() {
        pod.delete(None).unwrap();
    }
}

#[test]
fn objects_are_kept_waited_for_and_exported() {
    let (_dir, engine) = engine();
    let map = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"m\"}, \"data\": {\"k\": \"v\"}}";
    let map = podctl::serde_json::from_str(map).unwrap();
    engine.create_object(ObjectKind::ConfigMap, "default", &map, &WriteOptions::default()).unwrap();
    let text = yaml("p", "sleep 1000")
        .replace("command:", "env: [{name: K, valueFrom: {configMapKeyRef: {name: m, key: k}}}], command:");
    let options = Options { publish: vec![HostPort::any_for(80)], ..Options::default() };
    let pod = engine.run_yaml("default", &text, &options).unwrap().remove(0).guard();
    let ready = WaitCondition::parse("condition=Ready").unwrap();
    assert!(engine.wait_for_object(ObjectKind::Pod, "default", "p", &ready, TIMEOUT.unwrap()).unwrap());
    assert_eq!(pod.output(None, &["sh", "-c", "echo $K"]).unwrap().stdout, b"v\n");
    let export = engine.export(&engine.pods(None).unwrap(), &ExportOptions { digests: true }).unwrap();
    let kinds: Vec<_> = export.objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ConfigMap", "Pod"]);
    let text = export.to_yaml();
    assert!(
        text.contains("image: busybox@sha256:") && !text.contains("nodeName") && !text.contains("hostPort"),
        "{text}"
    );
    let again = engine.load("default", &[Source { name: "export".into(), text }]).unwrap();
    assert_eq!((again.pods.len(), again.config_maps.len()), (1, 1));
}
