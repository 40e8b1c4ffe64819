//! The network handlers of probes and hooks: httpGet, tcpSocket and grpc (R-PROBE-1, R-HOOK-1).
//!
//! [`check`] blocks, ends within its timeout, and words a failure as the kubelet does. It dials from the network
//! namespace of its caller: the supervisor runs it in a child that has joined the pod's.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::{ContainerPort, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use reqwest::redirect::Policy;
use tokio::net::TcpStream;
use tokio::time::timeout as within;

/// The bytes of a body that are read at most, as in the kubelet.
const MAX_BODY: usize = 10 * 1024;
const AGENT: &str = "kube-probe/1.37";

/// The handler that speaks over the network.
#[derive(Clone, Debug)]
pub enum Check {
    /// Passes on a status of 200 to 399.
    HttpGet(HTTPGetAction),
    /// Passes once a connection is open.
    TcpSocket(TCPSocketAction),
    /// Passes when `grpc.health.v1.Health/Check` answers SERVING.
    Grpc(GRPCAction),
}

/// Carries out `check` once; the error is the kubelet's text for the event, as is a warning beside a success. Named
/// ports are looked up in `ports`.
pub fn check(
    check: &Check,
    pod_ip: &str,
    ports: &[ContainerPort],
    timeout: Duration,
) -> Result<Option<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("start the handler: {error}"))?;
    let result = runtime.block_on(async {
        match check {
            Check::HttpGet(action) => http_get(action, pod_ip, ports, timeout).await,
            Check::TcpSocket(action) => {
                let host = non_empty(&action.host).unwrap_or(pod_ip);
                let address = join(host, resolve(&action.port, ports)?);
                match within(timeout, TcpStream::connect(&address)).await {
                    Ok(connected) => connected.map(|_| None).map_err(|error| dial_error(&address, &error)),
                    Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
                }
            }
            Check::Grpc(action) => call_grpc(action, pod_ip, timeout).await.map(|()| None),
        }
    });
    // A name lookup may still hold a blocking thread: the timeout does not wait for it.
    runtime.shutdown_background();
    result
}

fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn resolve(port: &IntOrString, ports: &[ContainerPort]) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => ports
            .iter()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    match (number.and_then(|number| u16::try_from(number).ok()), port) {
        (Some(number), _) if number > 0 => Ok(number),
        (_, IntOrString::Int(number)) => Err(format!("invalid port number: {number}")),
        (_, IntOrString::String(name)) => Err(format!("couldn't find port: {name:?}")),
    }
}

fn dial_error(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        io::ErrorKind::HostUnreachable => format!("dial tcp {address}: connect: no route to host"),
        io::ErrorKind::NetworkUnreachable => format!("dial tcp {address}: connect: network is unreachable"),
        _ => format!("dial tcp {address}: {error}"),
    }
}

async fn http_get(
    action: &HTTPGetAction,
    pod_ip: &str,
    ports: &[ContainerPort],
    timeout: Duration,
) -> Result<Option<String>, String> {
    let address = join(non_empty(&action.host).unwrap_or(pod_ip), resolve(&action.port, ports)?);
    let scheme = non_empty(&action.scheme).unwrap_or("http").to_lowercase();
    let path = non_empty(&action.path).unwrap_or("/");
    let url = format!("{scheme}://{address}/{}", path.strip_prefix('/').unwrap_or(path));
    let failed = |error: reqwest::Error| format!("Get {url:?}: {}", http_error(&address, &error));
    podctl_images::choose_tls_provider();
    let client = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .dns_resolver(podctl_images::HostNames)
        .tls_danger_accept_invalid_certs(true)
        .redirect(same_host())
        .build()
        .map_err(failed)?;
    let exchange = async {
        let request = client.get(&url).headers(build_headers(action)?);
        let mut response = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while body.len() < MAX_BODY {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) if ends_without_notice(&error) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        match response.status().as_u16() {
            200..300 => Ok(None),
            300..400 => {
                let body = String::from_utf8_lossy(&body);
                Ok(Some(format!("Probe terminated redirects, Response body: {body}")))
            }
            status => Err(format!("HTTP probe failed with statuscode: {status}")),
        }
    };
    within(timeout, exchange).await.unwrap_or_else(|_| {
        Err(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        ))
    })
}

/// Follows ten redirects on the first host; one to another host is the answer itself, and a pass with a warning.
fn same_host() -> Policy {
    Policy::custom(|attempt| {
        if attempt.previous().first().is_some_and(|first| first.host() != attempt.url().host()) {
            attempt.stop()
        } else if attempt.previous().len() >= 10 {
            attempt.error("stopped after 10 redirects")
        } else {
            attempt.follow()
        }
    })
}

fn build_headers(action: &HTTPGetAction) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| format!("net/http: invalid header field name {:?}", header.name))?;
        let value = HeaderValue::from_str(&header.value)
            .map_err(|_| format!("net/http: invalid header field value for {:?}", header.name))?;
        headers.append(name, value);
    }
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    Ok(headers)
}

fn innermost_cause(error: &reqwest::Error) -> &(dyn Error + 'static) {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// Many servers close without TLS's close_notify; a kubelet takes that for the body's end.
fn ends_without_notice(error: &reqwest::Error) -> bool {
    let cause = innermost_cause(error).downcast_ref::<io::Error>();
    cause.is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof)
}

/// Returns what the kernel, TLS or HTTP said.
fn http_error(address: &str, error: &reqwest::Error) -> String {
    let cause = innermost_cause(error);
    match cause.downcast_ref::<io::Error>() {
        Some(io) if error.is_connect() => dial_error(address, io),
        _ => cause.to_string(),
    }
}

async fn call_grpc(action: &GRPCAction, pod_ip: &str, timeout: Duration) -> Result<(), String> {
    let port = resolve(&IntOrString::Int(action.port), &[])?;
    let address = join(pod_ip, port);
    let deadline = tokio::time::Instant::now() + timeout;
    let unreachable = || format!("timeout: failed to connect service {address:?} within {timeout:?}");
    let stream = match tokio::time::timeout_at(deadline, TcpStream::connect(&address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) | Err(_) => return Err(unreachable()),
    };
    let call = health_check(stream, &address, action.service.as_deref().unwrap_or(""));
    let answer = tokio::time::timeout_at(deadline, call)
        .await
        .map_err(|_| format!("timeout: health rpc did not complete within {timeout:?}"))?
        .map_err(|error| format!("error: health rpc probe failed: {error}"))?;
    match answer {
        Answer::Serving(1) => Ok(()),
        Answer::Serving(status) => {
            let word = match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "UNRECOGNIZED",
            };
            Err(format!("service unhealthy (responded with {word:?})"))
        }
        Answer::Failed(12, message) => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Answer::Failed(code, message) => {
            Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}"))
        }
    }
}

/// Names what the health service said: a `ServingStatus`, or a gRPC status other than OK.
enum Answer {
    Serving(u8),
    Failed(u32, String),
}

async fn health_check(stream: TcpStream, authority: &str, service: &str) -> Result<Answer, h2::Error> {
    let (send, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", AGENT)
        .body(())
        .map_err(|_| h2::Error::from(h2::Reason::PROTOCOL_ERROR))?;
    let (response, mut body) = send.ready().await?.send_request(request, false)?;
    body.send_data(request_frame(service), true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
        if message.len() > MAX_BODY {
            return Err(h2::Reason::ENHANCE_YOUR_CALM.into());
        }
    }
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    Ok(match text("grpc-status").parse().unwrap_or(2) {
        0 => Answer::Serving(serving_status(&message)),
        code => Answer::Failed(code, text("grpc-message").to_owned()),
    })
}

/// `HealthCheckRequest { service = 1 }` behind gRPC's five bytes: not compressed, length.
fn request_frame(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

/// `HealthCheckResponse { status = 1 }`: an absent field is UNKNOWN, 0.
fn serving_status(frame: &[u8]) -> u8 {
    match frame {
        [0, _, _, _, _, 0x08, status, ..] => *status,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
