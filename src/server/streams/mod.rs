//! What goes on while a client is connected: logs, commands, terminals, ports. Bytes flow between the client and the
//! container's own descriptors; nothing is kept.

pub mod debug;
pub mod exec;
pub mod log;
pub mod port_forward;
pub mod proxy;

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
};

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, Interest, unix::AsyncFd};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    channels,
    http::{Answer, Asked},
    status::Failure,
};

/// Bytes that one message of a client may have.
const LONGEST_MESSAGE: usize = 1 << 20;

/// The WebSocket with a client.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The WebSocket that a client asked for.
pub struct Opening {
    /// Holds what both speak over it.
    pub protocol: String,
    upgrade: OnUpgrade,
    accept: String,
}

impl Opening {
    /// Reads what a client asks for.
    ///
    /// # Errors
    /// It asks for something else, or for no protocol that is spoken.
    pub fn parse(asked: &mut Asked, forwards: bool) -> Result<Opening, Failure> {
        let is_socket = asked.header("upgrade").is_some_and(|word| word.eq_ignore_ascii_case("websocket"));
        let key = asked
            .header("sec-websocket-key")
            .filter(|_| is_socket)
            .map(|key| derive_accept_key(key.as_bytes()));
        let Some(accept) = key else {
            return Err(Failure::bad_request(
                "Upgrade request required: this is served over WebSocket (kubectl from 1.31 on)",
            ));
        };
        let headers =
            asked.headers.get_all("sec-websocket-protocol").iter().filter_map(|value| value.to_str().ok());
        let offered: Vec<&str> = headers.flat_map(|value| value.split(',')).map(str::trim).collect();
        let chosen = match &offered[..] {
            // A client that names none speaks of channels as version 4 does.
            [] => Some(""),
            all => channels::choose_protocol(all, forwards),
        };
        let Some(protocol) = chosen.map(str::to_owned) else {
            return Err(Failure::bad_request(format!(
                "none of the protocols {offered:?} is spoken here; v5.channel.k8s.io and v4.channel.k8s.io are"
            )));
        };
        let upgrade = asked.upgrade.take().ok_or_else(|| Failure::bad_request("Upgrade request required"))?;
        Ok(Opening { protocol, upgrade, accept })
    }

    /// The answer that opens it, and what then comes out of it.
    pub fn accept(self) -> (Answer, impl Future<Output = Option<Socket>>) {
        let mut answer = Response::new(Full::default().boxed_unsync());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        for (name, value) in
            [(header::SEC_WEBSOCKET_ACCEPT, &self.accept), (header::SEC_WEBSOCKET_PROTOCOL, &self.protocol)]
        {
            if let (Ok(value), false) = (HeaderValue::from_str(value), value.is_empty()) {
                headers.insert(name, value);
            }
        }
        let upgrade = self.upgrade;
        let socket = async move {
            let upgraded = TokioIo::new(upgrade.await.ok()?);
            Some(open_server_socket(upgraded).await)
        };
        (answer, socket)
    }
}

/// The server's end of a WebSocket over a stream of bytes; what its client sends is bounded.
pub async fn open_server_socket<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST_MESSAGE))
        .max_frame_size(Some(LONGEST_MESSAGE));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// The last message of a conversation that has come to its end: clients take one without a code for a fault.
pub fn close_normally() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Has the runtime say when a descriptor can be read or written.
///
/// # Errors
/// Those of epoll_ctl(2).
pub fn register_descriptor(fd: OwnedFd) -> io::Result<AsyncFd<File>> {
    // SAFETY: a File is the same descriptor for as long as it lives, and closes it when it is dropped.
    Ok(unsafe { AsyncFd::register(File::from(fd)) }?)
}

/// The pipe or the terminal, which does not block.
pub struct Stream(AsyncFd<File>);

impl Stream {
    /// Takes a descriptor in.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn new(fd: OwnedFd) -> io::Result<Stream> {
        Ok(Stream(register_descriptor(fd)?))
    }

    /// Reads what there is; 0 at the end, which a terminal says with EIO.
    ///
    /// # Errors
    /// Those of read(2).
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.0.async_io(Interest::READABLE, |mut file| Read::read(&mut file, buffer)).await;
        match got {
            Err(e) if e.raw_os_error() == Some(nix::libc::EIO) => Ok(0),
            got => got,
        }
    }

    /// Reads what is there already; `None` when nothing is.
    pub fn read_present(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut file = self.0.get_ref();
        file.read(buffer).ok().filter(|count| *count > 0)
    }

    /// Writes all.
    ///
    /// # Errors
    /// Those of write(2).
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written =
                self.0.async_io(Interest::WRITABLE, |mut file| Write::write(&mut file, bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}
