//! Requests that no good client sends: without credentials, malformed, slow, too large.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output},
    time::{Duration, Instant},
};

use super::{client, common::Home};

/// The server of a home: where it is, and what it takes to be let in.
struct Server {
    home: Home,
    address: String,
    token: String,
}

impl Server {
    fn start() -> Server {
        let home = Home::new();
        let started = client(&home, "kubectl").args(["get", "pods"]).output().unwrap();
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let read = |name: &str| std::fs::read_to_string(home.path("data/server").join(name)).unwrap();
        Server { address: format!("127.0.0.1:{}", read("port").trim()), token: read("token"), home }
    }

    /// Returns what curl prints: the body and the status code.
    fn curl(&self, path: &str, args: &[&str]) -> String {
        let authority = self.home.path("data/server/ca.crt").display().to_string();
        let url = format!("https://{}{path}", self.address);
        let mut curl = Command::new("curl");
        curl.args(["-s", "-m", "30", "-w", " %{http_code}", "--cacert", &authority, &url]).args(args);
        let Output { stdout, .. } = curl.output().unwrap();
        String::from_utf8(stdout).unwrap()
    }

    fn authorized(&self, path: &str, args: &[&str]) -> String {
        let header = format!("Authorization: Bearer {}", self.token);
        self.curl(path, &[&["-H", &header], args].concat())
    }
}

#[test]
fn only_who_has_the_token_is_answered() {
    let server = Server::start();
    for args in [&[][..], &["-H", "Authorization: Bearer wrong"], &["-u", "admin:admin"]] {
        for path in ["/api/v1/pods", "/version", "/nothing"] {
            let said = server.curl(path, args);
            assert!(
                said.ends_with(" 401") && said.contains("\"reason\":\"Unauthorized\""),
                "{path} {args:?}: {said}"
            );
        }
    }
    assert!(server.authorized("/api/v1/pods", &[]).ends_with(" 200"));
    let said = server.authorized("/api/v1/pods", &["-H", "Host: evil.example"]);
    assert!(said.ends_with(" 403"), "{said}");
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let server = Server::start();
    let pods = "/api/v1/namespaces/default/pods";
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let json = ["-H", "Content-Type: application/json", "-d"];
    let large = server.home.file("large", &"x".repeat(4 << 20));
    let large = format!("@{large}");
    for (path, args, code) in [
        (pods, &[&json[..], &["{"]].concat()[..], "400"),
        (pods, &[&json[..], &["[]"]].concat(), "400"),
        (pods, &[&json[..], &["{\"kind\":\"Secret\"}"]].concat(), "400"),
        (pods, &[&json[..], &["{\"metadata\":\"a\"}"]].concat(), "400"),
        (pods, &[&json[..], &["{\"metadata\":{\"name\":\"a\"},\"spec\":[1]}"]].concat(), "400"),
        (reviews, &[&json[..], &["[]"]].concat(), "400"),
        (reviews, &[&json[..], &["\"spec\""]].concat(), "400"),
        (pods, &[&["-X", "DELETE"], &json[..], &["5"]].concat(), "400"),
        (
            pods,
            &[&json[..], &["{\"metadata\":{\"name\":\"../../x\"},\"spec\":{\"containers\":[]}}"]].concat(),
            "422",
        ),
        (pods, &["-H", "Content-Type: text/html", "-d", "x"], "415"),
        (pods, &["-H", "Content-Type: application/vnd.kubernetes.protobuf", "-d", "k8s"], "400"),
        (pods, &["--data-binary", &large], "413"),
        (pods, &["-X", "PUT"], "405"),
        ("/api/v1/namespaces/default/pods/x?watch=1", &[], "404"),
        ("/api/v1/namespaces/..%2f..%2fetc/configmaps", &[], "404"),
        ("/api/v1/namespaces/default/secrets/..%2fx", &[], "404"),
        ("/api/v1/pods?labelSelector=a%20b", &[], "400"),
        ("/api/v1/pods?fieldSelector=x", &[], "400"),
        ("/api/v1/pods?limit=-1", &[], "400"),
        ("/api/v1/pods?continue=zz", &[], "400"),
        ("/api/v1/pods", &["-H", "Accept: text/html"], "406"),
    ] {
        let said = server.authorized(path, args);
        assert!(said.ends_with(&format!(" {code}")), "{path} {args:?}: {said}");
    }
    assert!(server.authorized("/api/v1/pods", &[]).contains("\"items\":[]"));
}

#[test]
fn clients_that_say_nothing_and_watches_that_are_not_read_make_nobody_wait() {
    let server = Server::start();
    let silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    let authority = server.home.path("data/server/ca.crt").display().to_string();
    let header = format!("Authorization: Bearer {}", server.token);
    let url = format!("https://{}/api/v1/configmaps?watch=true", server.address);
    // Its output is a pipe that nobody empties.
    let mut unread = Command::new("curl")
        .args(["-sN", "--cacert", &authority, "-H", &header, &url])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let data = "x".repeat(100_000);
    for number in 0..30 {
        let map = format!("{{\"metadata\":{{\"name\":\"m{number}\"}},\"data\":{{\"a\":\"{data}\"}}}}");
        let map = server.home.file("map.json", &map);
        let began = Instant::now();
        let said = server.authorized(
            "/api/v1/namespaces/default/configmaps",
            &["-H", "Content-Type: application/json", "--data-binary", &format!("@{map}")],
        );
        assert!(said.ends_with(" 201"), "{}", &said[said.len().saturating_sub(300)..]);
        assert!(began.elapsed() < Duration::from_secs(20), "the {number}th took {:?}", began.elapsed());
    }
    unread.kill().unwrap();
    unread.wait().unwrap();
    drop(silent);
}

#[test]
fn what_is_no_tls_is_closed() {
    let server = Server::start();
    let mut plain = TcpStream::connect(&server.address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    plain.write_all(b"GET /api/v1/pods HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut said = Vec::new();
    // A reset is as good as an end.
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("items"), "{said:?}");
}
