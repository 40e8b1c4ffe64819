use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(10);

fn listen() -> (TcpListener, i32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port.into())
}

/// Answers each connection with the next of `answers`; the requests are the thread's result.
fn serve(answers: Vec<String>) -> (i32, thread::JoinHandle<Vec<String>>) {
    let (listener, port) = listen();
    let thread = thread::spawn(move || {
        let answer = |answer: String| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap().to_lowercase()
        };
        answers.into_iter().map(answer).collect()
    });
    (port, thread)
}

fn answer(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n{more}\r\n")
}

fn get(port: i32) -> HTTPGetAction {
    HTTPGetAction { port: IntOrString::Int(port), ..Default::default() }
}

fn run(action: HTTPGetAction, timeout: Duration) -> Result<Option<String>, String> {
    check(&Check::HttpGet(action), "127.0.0.1", &[], timeout)
}

#[test]
fn r_probe_1_a_status_of_500_fails() {
    let (port, _) = serve(vec![answer("500 No", "")]);
    assert_eq!(run(get(port), LONG), Err("HTTP probe failed with statuscode: 500".into()));
}

#[test]
fn r_probe_1_redirects_are_followed_on_the_same_host_only() {
    let (port, requests) = serve(vec![
        answer("302 Found", "location: /b\r\n"),
        answer("302 Found", "location: http://other.invalid/\r\n"),
    ]);
    let warning = run(get(port), LONG).unwrap().unwrap();
    assert!(warning.starts_with("Probe terminated redirects"), "{warning}");
    assert!(requests.join().unwrap()[1].starts_with("get /b "));
}

#[test]
fn r_probe_1_headers_override_host_and_keep_the_defaults() {
    let (port, requests) = serve(vec![answer("200 OK", "")]);
    let host = k8s_openapi::api::core::v1::HTTPHeader { name: "Host".into(), value: "a.example".into() };
    run(HTTPGetAction { http_headers: Some(vec![host]), ..get(port) }, LONG).unwrap();
    let request = &requests.join().unwrap()[0];
    for line in ["host: a.example\r\n", "user-agent: kube-probe/", "accept: */*\r\n"] {
        assert!(request.contains(line), "{request}");
    }
}

#[test]
fn r_probe_1_a_refused_connection_fails_in_the_words_of_the_kubelet() {
    let (listener, port) = listen();
    drop(listener);
    let dial = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(run(get(port), LONG), Err(format!("Get \"http://127.0.0.1:{port}/\": {dial}")));
    let tcp = Check::TcpSocket(TCPSocketAction { host: None, port: IntOrString::Int(port) });
    assert_eq!(check(&tcp, "127.0.0.1", &[], LONG), Err(dial));
    let grpc = Check::Grpc(GRPCAction { port, ..Default::default() });
    let text = format!("timeout: failed to connect service \"127.0.0.1:{port}\" within 1s");
    assert_eq!(check(&grpc, "127.0.0.1", &[], SECOND), Err(text));
}

#[test]
fn r_probe_1_a_silent_server_meets_the_timeout() {
    let (_listener, port) = listen();
    let error = run(get(port), Duration::from_millis(50)).unwrap_err();
    assert!(error.ends_with("(Client.Timeout exceeded while awaiting headers)"), "{error}");
}

#[test]
fn r_probe_1_named_ports_are_those_of_the_container() {
    let (_listener, port) = listen();
    let ports = [ContainerPort { name: Some("web".into()), container_port: port, ..Default::default() }];
    let tcp =
        |name: &str| Check::TcpSocket(TCPSocketAction { host: None, port: IntOrString::String(name.into()) });
    assert_eq!(check(&tcp("web"), "127.0.0.1", &ports, LONG), Ok(None));
    assert!(check(&tcp("db"), "127.0.0.1", &ports, LONG).is_err());
}

/// Returns a health server that reports `status` for the service "db", and gRPC's NOT_FOUND for others.
fn check_health(status: u8) -> i32 {
    let (listener, port) = listen();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    let body = request.body_mut().data().await.unwrap().unwrap();
                    let known = body[..] == *b"\0\0\0\0\x04\x0a\x02db";
                    let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
                    stream.send_data(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]), false).unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static(if known { "0" } else { "5" }));
                    stream.send_trailers(trailers).unwrap();
                });
            }
        });
    });
    port
}

#[test]
fn r_probe_1_grpc_passes_only_when_the_service_is_serving() {
    let probe = |status, service: &str| {
        let action =
            GRPCAction { port: check_health(status), service: Some(service.into()), ..Default::default() };
        check(&Check::Grpc(action), "127.0.0.1", &[], LONG)
    };
    assert_eq!(probe(1, "db"), Ok(None));
    assert_eq!(probe(2, "db"), Err("service unhealthy (responded with \"NOT_SERVING\")".into()));
    assert!(probe(1, "other").unwrap_err().contains("code = 5"));
}
