//! What tests of other programs need beside them: databases and servers, as users of testcontainers know them.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use podctl::{
    Engine, Error,
    testing::{TestPod, WaitFor},
};

/// The time for which a pod may take on a busy machine, the pull of a large image included.
const LONG: Duration = Duration::from_secs(300);

fn engine() -> (tempfile::TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::at(dir.path().join("run"), dir.path().join("data")).unwrap();
    (dir, engine)
}

#[test]
fn redis_answers_at_a_port_of_this_machine() {
    let (_dir, engine) = engine();
    let ready = WaitFor::Log("Ready to accept connections".into());
    let redis = TestPod::of_image("redis:7")
        .with_port(6379)
        .wait_for(ready)
        .wait_for(WaitFor::Port(6379))
        .within(LONG);
    let redis = redis.start_in(&engine).unwrap();
    // The host's side of a published port listens as soon as the pod does.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut connection = loop {
        match TcpStream::connect(redis.host_port(6379).unwrap()) {
            Ok(connection) => break connection,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    connection.write_all(b"PING\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(&connection).read_line(&mut line).unwrap();
    assert_eq!(line, "+PONG\r\n");
}

#[test]
fn postgres_is_waited_for_by_its_own_command() {
    let (_dir, engine) = engine();
    let ready = ["pg_isready", "-h", "127.0.0.1"].map(str::to_owned).to_vec();
    let postgres = TestPod::of_image("postgres:15")
        .with_env("POSTGRES_PASSWORD", "secret")
        .with_port(5432)
        .wait_for(WaitFor::Exec(ready))
        .wait_for(WaitFor::Port(5432))
        .within(LONG);
    let postgres = postgres.start_in(&engine).unwrap();
    let mut connection = postgres.dial(5432).unwrap();
    // An SSLRequest, which every server answers with one byte.
    connection.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut answer = [0];
    std::io::Read::read_exact(&mut connection, &mut answer).unwrap();
    assert!(matches!(answer, [b'N' | b'S']), "{answer:?}");
}

#[test]
fn pods_of_tests_side_by_side_have_names_and_ports_of_their_own() {
    let (_dir, engine) = engine();
    let server = || {
        TestPod::of_image("busybox:1.36")
            .with_command(&["sh", "-c", "mkdir /w; echo hi >/w/index.html; exec httpd -f -p 80 -h /w"])
            .with_port(80)
            .wait_for(WaitFor::Http { port: 80, path: "/".into(), status: 200 })
            .wait_for(WaitFor::Exec(vec!["true".into()]))
            .within(LONG)
            .start_in(&engine)
            .unwrap()
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..4).map(|_| scope.spawn(server)).collect();
        let pods: Vec<_> = started.into_iter().map(|thread| thread.join().unwrap()).collect();
        let mut ports: Vec<_> = pods.iter().map(|pod| pod.host_port(80).unwrap()).collect();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 4);
    });
    assert!(engine.pods(None).unwrap().is_empty());
}

#[test]
fn a_wait_in_vain_says_what_for_and_leaves_nothing() {
    let (_dir, engine) = engine();
    let pod = TestPod::of_image("busybox:1.36").with_command(&["sleep", "1000"]);
    let failed = pod.wait_for(WaitFor::Log("never".into())).within(Duration::from_secs(10)).start_in(&engine);
    assert!(matches!(&failed, Err(Error::NotReady { what, .. }) if what.contains("\"never\"")), "{failed:?}");
    assert!(engine.pods(None).unwrap().is_empty());
}

#[test]
fn a_pod_is_used_again() {
    let (_dir, engine) = engine();
    let pod = || TestPod::of_image("busybox:1.36").with_command(&["sleep", "1000"]);
    let uid = |pod: &podctl::PodHandle| pod.pod().unwrap().metadata.uid.unwrap();
    let first = uid(&pod().reuse_in(&engine, "shared").unwrap());
    assert_eq!(uid(&pod().reuse_in(&engine, "shared").unwrap()), first);
    let other = pod().with_env("A", "b").reuse_in(&engine, "shared").unwrap();
    assert_ne!(uid(&other), first);
    other.guard().delete().unwrap();
}
