//! `#[test]`: no main of our own, no call of `init`.

use std::time::{Duration, Instant};

use podctl::{Engine, Error, HostPort, Options, PodHandle};

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
    let Err(Error::CannotStart { container: Some(container), reason, .. }) = &failed else { panic!("{failed:?}") };
    assert_eq!((container.as_str(), reason.as_str()), ("app", "ErrImagePull"));
}
