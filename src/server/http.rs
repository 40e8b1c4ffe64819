//! Connections: TLS, HTTP/1.1, bounds of time and size, and the credential that each request must have.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{Server, handle, route::Query, server_credentials::Credentials, status::Failure};
use crate::{engine::openapi::hash_bytes, process::give_back_memory};

/// Bytes that a request's body may have, as the API server bounds it.
pub const LONGEST_BODY: usize = 3 << 20;
/// Bytes that a request's line and headers may have.
const LONGEST_HEAD: usize = 64 << 10;
/// The time for which a client may take for TLS, for its headers, and for its body.
const PATIENCE: Duration = Duration::from_secs(10);
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Connections at a time; the next one is closed.
const MOST_CONNECTIONS: usize = 4000;
/// Pieces of an answer that wait for a slow client; whoever makes them waits, too, and nobody else.
const WAITING_PIECES: usize = 16;

/// The answer's body: whole, or in pieces as they come.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
/// The answer.
pub type Answer = Response<Body>;

/// The request whose credential was accepted, its body read.
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Holds what becomes of the connection after an answer that switches protocols.
    pub upgrade: Option<OnUpgrade>,
}

impl Asked {
    /// Returns a header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Serves a listener until nobody has been connected for so long.
pub async fn serve_listener(
    server: Arc<Server>,
    listener: TcpListener,
    credentials: Arc<Credentials>,
    tls: TlsAcceptor,
    idle: Option<Duration>,
) {
    let connected = Arc::new(AtomicUsize::new(0));
    let left = Arc::new(Notify::new());
    let mut last = Instant::now();
    loop {
        let wait = match idle {
            Some(idle) if connected.load(Ordering::Relaxed) == 0 => idle.saturating_sub(last.elapsed()),
            _ => Duration::from_secs(3600),
        };
        tokio::select! {
            accepted = listener.accept() => {
                last = Instant::now();
                let Ok((stream, peer)) = accepted else {
                    // No descriptor is free: those that are used come back.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                if connected.load(Ordering::Relaxed) >= MOST_CONNECTIONS {
                    continue;
                }
                connected.fetch_add(1, Ordering::Relaxed);
                let (connected, left) = (connected.clone(), left.clone());
                let (server, credentials, tls) = (server.clone(), credentials.clone(), tls.clone());
                tokio::spawn(async move {
                    serve_connection(server, stream, peer, credentials, tls).await;
                    connected.fetch_sub(1, Ordering::Relaxed);
                    left.notify_one();
                });
            }
            () = left.notified() => {
                last = Instant::now();
                // At rest the server keeps no more than it needs to hear of the next client.
                if connected.load(Ordering::Relaxed) == 0 {
                    give_back_memory();
                }
            }
            () = tokio::time::sleep(wait) => {
                let unused = connected.load(Ordering::Relaxed) == 0;
                if unused && idle.is_some_and(|idle| last.elapsed() >= idle) {
                    return;
                }
            }
        }
    }
}

async fn serve_connection(
    server: Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    credentials: Arc<Credentials>,
    tls: TlsAcceptor,
) {
    // Small pieces of terminals are not to wait for one another; without it they are slower and as right.
    let _ = stream.set_nodelay(true);
    let own = stream.local_addr().map(|a| a.ip()).unwrap_or(peer.ip());
    let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await else { return };
    let service = service_fn(move |request| {
        let (server, credentials) = (server.clone(), credentials.clone());
        async move { Ok::<_, Infallible>(answer_request(&server, &credentials, own, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(LONGEST_HEAD);
    // A client that breaks off needs no answer.
    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

async fn answer_request(
    server: &Arc<Server>,
    credentials: &Credentials,
    own: IpAddr,
    mut request: Request<Incoming>,
) -> Answer {
    if !is_own_host(request.headers(), own) {
        let message = "the Host header does not name this server: use its address, or localhost";
        return failure_answer(&Failure::forbidden(message));
    }
    let header = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    if !credentials.accept_header(header) {
        return failure_answer(&Failure::unauthorized());
    }
    let wants_upgrade = request.headers().contains_key(header::UPGRADE);
    let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let body = match timeout(BODY_PATIENCE, Limited::new(body, LONGEST_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
            return failure_answer(&Failure::too_large(LONGEST_BODY));
        }
        Ok(Err(e)) => return failure_answer(&Failure::bad_request(format!("the body cannot be read: {e}"))),
        Err(_) => return failure_answer(&Failure::timed_out("the body did not come in time")),
    };
    let asked = Asked {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: Query::parse(head.uri.query().unwrap_or_default()),
        headers: head.headers,
        body,
        upgrade,
    };
    match handle::answer_request(server.clone(), asked).await {
        Ok(answer) => answer,
        Err(failure) => failure_answer(&failure),
    }
}

/// Tells whether the Host header names this server: else a web page could have its own name lead here.
fn is_own_host(headers: &HeaderMap, own: IpAddr) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return true };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == own)
}

/// Returns an answer of JSON.
pub fn json_answer(code: StatusCode, value: &Value) -> Answer {
    typed_answer(code, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

/// Returns an answer of that type.
pub fn typed_answer(code: StatusCode, type_: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = code;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(type_));
    answer
}

/// Returns an answer of what stays the same as long as this program does: a client that has it already is only told so.
/// `lasts` says that it need not even ask, for the address has its hash.
pub fn lasting_answer(asked: &Asked, type_: &'static str, body: impl Into<Bytes>, lasts: bool) -> Answer {
    let body = body.into();
    let tag = format!("\"{}\"", hash_bytes(&body));
    let is_known =
        asked.header("if-none-match").is_some_and(|all| all.split(',').any(|one| one.trim() == tag));
    let mut answer = match is_known {
        true => typed_answer(StatusCode::NOT_MODIFIED, type_, Bytes::new()),
        false => typed_answer(StatusCode::OK, type_, body),
    };
    let cache = if lasts { "public, immutable, max-age=31536000" } else { "no-cache, private" };
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static(cache));
    headers.insert(header::VARY, header::HeaderValue::from_static("Accept, Accept-Encoding"));
    // It has only digits.
    if let Ok(tag) = tag.parse() {
        headers.insert(header::ETAG, tag);
    }
    answer
}

/// The Status of a failure.
pub fn failure_answer(failure: &Failure) -> Answer {
    let code = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json_answer(code, &failure.to_status());
    if code == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Returns an answer in pieces: what is sent into the channel. Its other side learns by a closed channel that the
/// client left.
pub fn streamed_answer(type_: &'static str) -> (mpsc::Sender<Bytes>, Answer) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING_PIECES);
    let pieces = futures_util::stream::poll_fn(move |context| {
        receiver.poll_recv(context).map(|piece| piece.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))))
    });
    let mut answer = Response::new(StreamBody::new(pieces).boxed_unsync());
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(type_));
    (sender, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_header_must_name_this_server() {
        let own = "192.0.2.7".parse().unwrap();
        for (host, expected) in [
            ("127.0.0.1:26443", true),
            ("localhost:26443", true),
            ("[::1]:26443", true),
            ("192.0.2.7", true),
            ("evil.example:26443", false),
            ("192.0.2.8:1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            assert_eq!(is_own_host(&headers, own), expected, "{host}");
        }
    }
}
