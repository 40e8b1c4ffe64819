//! `exec` and `attach`: a container's streams over the channels of a WebSocket.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::{Opening, Socket, Stream, close_normally, register_descriptor};
use crate::{
    engine::{Error, ExecCommand, PodHandle, Session},
    server::{
        Server,
        channels::{self, Message, read_message},
        http::{Answer, Asked},
        read::read_container,
        route::Target,
        run_blocking,
        status::Failure,
    },
};

/// Bytes that go to a client at once.
const PIECE: usize = 32 << 10;

/// `…/exec` and `…/attach`
///
/// # Errors
/// Why it does not begin.
pub async fn answer_exec(server: Arc<Server>, mut asked: Asked, target: &Target) -> Result<Answer, Failure> {
    let opening = Opening::parse(&mut asked, false)?;
    let pod = server.find_object(target).await?;
    let container = read_container(&pod, asked.query.find("container"))?;
    let query = &asked.query;
    let command = ExecCommand {
        container: Some(container),
        size: None,
        words: query.all("command").map(str::to_owned).collect(),
        stdin: query.is_true("stdin"),
        terminal: query.is_true("tty"),
    };
    let attaches = target.subresource.as_deref() == Some("attach");
    if !attaches && command.words.is_empty() {
        return Err(Failure::bad_request("you must specify at least one command for the container"));
    }
    let (namespace, name) =
        (target.namespace.clone().unwrap_or_default(), target.name.clone().unwrap_or_default());
    let engine = server.engine.clone();
    let opened = run_blocking(move || {
        let handle: PodHandle =
            engine.pod(&namespace, &name).map_err(|e| Failure::internal(e.to_string()))?;
        let opened = if attaches {
            handle.attach(command.container.as_deref(), command.stdin)
        } else {
            handle.open_exec(command)
        };
        match opened {
            // A shell's codes say that the command was at fault: its client hears of it as a shell's user would.
            Err(Error::Refused { message, exit_code: exit_code @ (126 | 127) }) => {
                Ok(Err((message, exit_code)))
            }
            Err(Error::Refused { message, exit_code }) if message.is_empty() => Ok(Err((message, exit_code))),
            Err(Error::Refused { message, .. }) => Err(Failure::bad_request(message)),
            Err(e) => Err(Failure::bad_request(e.to_string())),
            Ok(session) => Ok(Ok(session)),
        }
    });
    let opened = opened.await?;
    let (answer, socket) = opening.accept();
    tokio::spawn(async move {
        let Some(socket) = socket.await else { return };
        let (mut sink, stream) = socket.split();
        let status = match opened {
            Err((message, code)) => {
                // A client that has left hears nothing.
                if !message.is_empty() {
                    let _ = send(&mut sink, channels::STDERR, format!("{message}\n").as_bytes()).await;
                }
                Some(channels::exit_status(code))
            }
            Ok(session) => converse(session, &mut sink, stream).await,
        };
        if let Some(status) = status
            && send(&mut sink, channels::ERROR, status.to_string().as_bytes()).await.is_ok()
        {
            // A client that has left needs no farewell.
            let _ = sink.send(close_normally()).await;
        }
    });
    Ok(answer)
}

/// Moves bytes until the process has ended, and says how; `None` when the client has left.
async fn converse(
    mut session: Session,
    sink: &mut SplitSink<Socket, Frame>,
    stream: SplitStream<Socket>,
) -> Option<Value> {
    let open = |fd: &mut Option<OwnedFd>| fd.take().map(Stream::new).transpose();
    let stdin = open(&mut session.stdin).ok()?;
    // The terminal's size is set through the session's own descriptor.
    let stdout = match session.terminal {
        true => {
            session.stdout.as_ref().map(OwnedFd::try_clone).transpose().ok()?.map(Stream::new).transpose()
        }
        false => open(&mut session.stdout),
    };
    let (stdout, stderr) = (stdout.ok()?, open(&mut session.stderr).ok()?);
    let ended = register_descriptor(session.process.as_fd().try_clone_to_owned().ok()?).ok()?;
    let input = pass_input(stream, stdin, &session);
    let output = async {
        let mut outputs = [(channels::STDOUT, stdout), (channels::STDERR, stderr)];
        let mut buffers = [vec![0; PIECE], vec![0; PIECE]];
        loop {
            let [(out_channel, out), (err_channel, err)] = &mut outputs;
            let [out_buffer, err_buffer] = &mut buffers;
            let (channel, stream, got, buffer) = tokio::select! {
                got = read_open(out, out_buffer) => (*out_channel, out, got, out_buffer),
                got = read_open(err, err_buffer) => (*err_channel, err, got, err_buffer),
                _ = ended.readable() => break,
            };
            match got {
                0 => *stream = None,
                count => send(sink, channel, &buffer[..count]).await.ok()?,
            }
        }
        // What the process has written is there; a process that it left behind is not waited for.
        for (channel, stream) in &outputs {
            while let Some(count) = stream.as_ref().and_then(|s| s.read_present(&mut buffers[0])) {
                send(sink, *channel, &buffers[0][..count]).await.ok()?;
            }
        }
        Some(())
    };
    tokio::select! {
        sent = output => sent?,
        () = input => return None,
    }
    Some(match session.process.receive_end() {
        Ok(code) => channels::exit_status(code),
        Err(Error::Refused { message, .. }) => channels::failure_status(&message),
        // The pod ended, and killed it.
        Err(_) => channels::exit_status(137),
    })
}

/// Reads from a stream that is open; one that is not never gives anything.
async fn read_open(stream: &Option<Stream>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// Passes on what a client sends; returns when it has left.
async fn pass_input(mut stream: SplitStream<Socket>, mut stdin: Option<Stream>, session: &Session) {
    while let Some(Ok(frame)) = stream.next().await {
        let bytes = match frame {
            Frame::Binary(bytes) => bytes,
            // Python's client sends text.
            Frame::Text(text) => text.into(),
            Frame::Close(_) => return,
            _ => continue,
        };
        match read_message(&bytes) {
            Message::Input(bytes) => {
                // A process that reads no more is no reason to end what it writes.
                if let Some(open) = &stdin
                    && open.write_all(bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Message::InputEnds => stdin = None,
            Message::Resize(rows, columns) => session.resize_terminal(rows, columns),
            Message::Other => {}
        }
    }
}

async fn send(sink: &mut SplitSink<Socket, Frame>, channel: u8, bytes: &[u8]) -> Result<(), ()> {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    sink.send(Frame::Binary(message.into())).await.map_err(drop)
}
