//! `#[tokio::test]`: what is asynchronous of the library.

use std::time::Duration;

use futures_util::StreamExt;
use podctl::{
    Engine, ExecCommand, LogOptions, Options,
    asynchronous::run_blocking,
    testing::{TestPod, WaitFor},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LONG: Duration = Duration::from_secs(60);

fn engine() -> (tempfile::TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::at(dir.path().join("run"), dir.path().join("data")).unwrap();
    (dir, engine)
}

fn busybox(script: &str) -> TestPod {
    TestPod::of_image("busybox:1.36").with_command(&["sh", "-c", script])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn logs_come_as_they_are_written_and_end_with_the_pod() {
    let (_dir, engine) = engine();
    let mut pod = busybox("echo one; while ! test -e /go; do sleep 0.1; done; echo two");
    pod.pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    let pod = pod.wait_for(WaitFor::Log("one".into())).start_in_async(&engine).await.unwrap();
    let mut logs = pod.stream_logs(&LogOptions { follow: true, ..LogOptions::default() }).unwrap();
    assert_eq!(logs.next().await.unwrap().text, b"one");
    let touch = ExecCommand { words: words(&["touch", "/go"]), ..ExecCommand::default() };
    assert_eq!(pod.exec_async(touch).await.unwrap().wait().await.unwrap(), 0);
    let rest = tokio::time::timeout(LONG, logs.map(|entry| entry.text).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(rest, [b"two"]);
    run_blocking(move || pod.delete()).await.unwrap();
}

#[tokio::test]
async fn a_command_has_a_terminal_and_pipes() {
    let (_dir, engine) = engine();
    let pod = busybox("exec sleep 1000").start_in_async(&engine).await.unwrap();
    let cat = ExecCommand { words: words(&["cat"]), stdin: true, ..ExecCommand::default() };
    let mut cat = pod.exec_async(cat).await.unwrap();
    cat.stdin.take().unwrap().write_all(b"here").await.unwrap();
    let mut text = String::new();
    cat.stdout.as_mut().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), cat.wait().await.unwrap()), ("here", 0));

    let script = "read line; stty size; exit 3";
    let shell = ExecCommand {
        words: words(&["sh", "-c", script]),
        stdin: true,
        terminal: true,
        size: Some((10, 20)),
        ..ExecCommand::default()
    };
    let mut shell = pod.exec_async(shell).await.unwrap();
    shell.resize_terminal(30, 40);
    shell.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    let mut text = String::new();
    shell.stdout.as_mut().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("30 40"), "{text:?}");
    assert_eq!(shell.wait().await.unwrap(), 3);
    run_blocking(move || pod.delete()).await.unwrap();
}

#[tokio::test]
async fn a_port_is_reached_and_changes_are_seen_without_blocking() {
    let (_dir, engine) = engine();
    let pod = busybox("echo hello | nc -l -p 9000; exec sleep 1000").start_in_async(&engine).await.unwrap();
    let mut text = String::new();
    let deadline = tokio::time::Instant::now() + LONG;
    let mut stream = loop {
        match pod.dial_async(9000).await {
            Ok(stream) => break stream,
            Err(e) => assert!(tokio::time::Instant::now() < deadline, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello\n");
    let mut changes = pod.stream_changes().unwrap();
    let now = changes.next().await.unwrap().unwrap();
    assert_eq!(now.status.unwrap().phase.as_deref(), Some("Running"));
    pod.delete_async(Some(Duration::ZERO)).await.unwrap();
    while tokio::time::timeout(LONG, changes.next()).await.unwrap().is_some() {}
}

#[tokio::test]
async fn a_runtime_of_one_thread_is_enough() {
    let (_dir, engine) = engine();
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Never, containers: \
                [{name: app, image: 'busybox:1.36', command: ['true']}]}}";
    let own = engine.clone();
    let pod =
        run_blocking(move || own.run_yaml("default", text, &Options::default())).await.unwrap().remove(0);
    let ended = pod.wait_async().await.unwrap();
    assert_eq!(ended.status.unwrap().phase.as_deref(), Some("Succeeded"));
    pod.delete_async(None).await.unwrap();
}
