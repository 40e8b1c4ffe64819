//! `…/portforward`: connections to a pod's ports, as SPDY within a WebSocket (kubectl) or over its channels (others).

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream::SplitStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::{Opening, Socket, close_normally};
use crate::{
    engine::PodHandle,
    server::{
        Server, channels,
        http::{Answer, Asked},
        route::Target,
        run_blocking,
        spdy::{self, Decoder, Encoder},
        status::Failure,
    },
};

/// Bytes that go to a client at once.
const PIECE: usize = 32 << 10;
/// Frames that wait for a slow client, or for a slow pod; whoever sends them waits.
const WAITING_FRAMES: usize = 64;
/// Connections that one forwarding may have at a time.
const MOST_STREAMS: usize = 1024;

/// `…/portforward`
///
/// # Errors
/// Why it does not begin.
pub async fn answer_port_forward(
    server: Arc<Server>,
    mut asked: Asked,
    target: &Target,
) -> Result<Answer, Failure> {
    let opening = Opening::parse(&mut asked, true)?;
    server.find_object(target).await?;
    let (namespace, name) =
        (target.namespace.clone().unwrap_or_default(), target.name.clone().unwrap_or_default());
    let engine = server.engine.clone();
    let handle = run_blocking(move || {
        let handle = engine.pod(&namespace, &name).map_err(|e| Failure::internal(e.to_string()))?;
        if handle.is_alive() {
            return Ok(handle);
        }
        Err(Failure::bad_request("unable to forward port because pod is not running"))
    })
    .await?;
    let spdy = opening.protocol == channels::TUNNELLED_SPDY;
    let ports: Result<Vec<u16>, Failure> = asked
        .query
        .all("ports")
        .flat_map(|list| list.split(','))
        .map(|port| port.parse().map_err(|_| Failure::bad_request(format!("ports: {port:?} is no port"))))
        .collect();
    let ports = ports?;
    if !spdy && (ports.is_empty() || ports.len() > 100) {
        return Err(Failure::bad_request("ports: from 1 to 100 of them are to be named"));
    }
    let (answer, socket) = opening.accept();
    tokio::spawn(async move {
        let Some(socket) = socket.await else { return };
        let (mut sink, stream) = socket.split();
        let (sender, mut frames) = mpsc::channel::<Vec<u8>>(WAITING_FRAMES);
        let writing = async move {
            while let Some(frame) = frames.recv().await {
                if sink.send(Frame::Binary(frame.into())).await.is_err() {
                    return;
                }
            }
            // The client may have left first.
            let _ = sink.send(close_normally()).await;
        };
        let handle = Arc::new(handle);
        let serving = async move {
            match spdy {
                true => serve_spdy(handle, stream, sender).await,
                false => serve_channels(handle, ports, stream, sender).await,
            }
        };
        tokio::join!(writing, serving);
    });
    Ok(answer)
}

/// Holds what comes from the client for one connection; nothing more, once it is closed.
type Inbox = mpsc::Sender<Bytes>;

/// The pair of streams: an error stream and a data stream of the same request.
#[derive(Default)]
struct Pair {
    error: Option<u32>,
    data: Option<u32>,
}

async fn serve_spdy(handle: Arc<PodHandle>, mut stream: SplitStream<Socket>, frames: mpsc::Sender<Vec<u8>>) {
    let (mut decoder, mut encoder) = (Decoder::new(), Encoder::new());
    let mut pairs: HashMap<String, Pair> = HashMap::new();
    let mut inboxes: HashMap<u32, Inbox> = HashMap::new();
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Frame::Binary(bytes) => decoder.add_bytes(&bytes),
            Frame::Close(_) => return,
            _ => continue,
        }
        loop {
            // What is damaged cannot be understood any more: the connection ends.
            let Ok(next) = decoder.next_frame() else { return };
            let Some(frame) = next else { break };
            let answer = match frame {
                spdy::Frame::Open { stream, headers, .. } => {
                    inboxes.retain(|_, inbox| !inbox.is_closed());
                    if inboxes.len() >= MOST_STREAMS || pairs.len() >= MOST_STREAMS {
                        Some(Encoder::encode_reset(stream))
                    } else {
                        let Ok(reply) = encoder.encode_reply(stream) else { return };
                        if frames.send(reply).await.is_err() {
                            return;
                        }
                        if let Some(inbox) = open_stream(&handle, &mut pairs, stream, &headers, &frames) {
                            inboxes.insert(inbox.0, inbox.1);
                        }
                        None
                    }
                }
                spdy::Frame::Data { stream, bytes, ends } => {
                    // A pod that reads slowly makes its own client wait.
                    if let Some(inbox) = inboxes.get(&stream).filter(|_| !bytes.is_empty()) {
                        // A relay that has ended takes nothing more; its client is told by itself.
                        let _ = inbox.send(bytes.into()).await;
                    }
                    if ends {
                        inboxes.remove(&stream);
                    }
                    None
                }
                spdy::Frame::Reset { stream } => {
                    inboxes.remove(&stream);
                    None
                }
                spdy::Frame::Ping(number) => Some(Encoder::encode_ping(number)),
                spdy::Frame::GoAway => return,
                spdy::Frame::Other => None,
            };
            if let Some(answer) = answer
                && frames.send(answer).await.is_err()
            {
                return;
            }
        }
    }
}

/// Notes a stream; when its pair is whole, the connection begins, and its inbox is given.
fn open_stream(
    handle: &Arc<PodHandle>,
    pairs: &mut HashMap<String, Pair>,
    stream: u32,
    headers: &[(String, String)],
    frames: &mpsc::Sender<Vec<u8>>,
) -> Option<(u32, Inbox)> {
    let header =
        |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let request = header("requestid").unwrap_or_default().to_owned();
    let pair = pairs.entry(request.clone()).or_default();
    match header("streamtype") {
        Some("error") => pair.error = Some(stream),
        _ => pair.data = Some(stream),
    }
    let (Some(error), Some(data)) = (pair.error, pair.data) else { return None };
    pairs.remove(&request);
    let port = header("port").and_then(|port| port.parse().ok()).unwrap_or(0);
    let (inbox, incoming) = mpsc::channel(WAITING_FRAMES);
    let (handle, frames) = (handle.clone(), frames.clone());
    tokio::spawn(async move {
        let encode = move |bytes: &[u8], ends| Encoder::encode_data(data, bytes, ends);
        let failure = relay_port(handle, port, incoming, &frames, encode).await.err().unwrap_or_default();
        // A client that has left needs no answer.
        let _ = frames.send(Encoder::encode_data(data, &[], true)).await;
        // A client that has left hears nothing.
        let _ = frames.send(Encoder::encode_data(error, failure.as_bytes(), true)).await;
    });
    Some((data, inbox))
}

/// Channels 2n and 2n + 1 are the data and the errors of the n-th port; each begins with the port's number.
async fn serve_channels(
    handle: Arc<PodHandle>,
    ports: Vec<u16>,
    mut stream: SplitStream<Socket>,
    frames: mpsc::Sender<Vec<u8>>,
) {
    let mut inboxes: HashMap<u8, Inbox> = HashMap::new();
    let mut relays = tokio::task::JoinSet::new();
    for (at, port) in ports.into_iter().enumerate() {
        let data = 2 * at as u8;
        let [low, high] = port.to_le_bytes();
        for channel in [data, data + 1] {
            if frames.send(vec![channel, low, high]).await.is_err() {
                return;
            }
        }
        let (inbox, incoming) = mpsc::channel(WAITING_FRAMES);
        inboxes.insert(data, inbox);
        let (handle, frames) = (handle.clone(), frames.clone());
        relays.spawn(async move {
            let encode = move |bytes: &[u8], _| [&[data], bytes].concat();
            if let Err(message) = relay_port(handle, port, incoming, &frames, encode).await {
                // A client that has left hears nothing.
                let _ = frames.send([&[data + 1], message.as_bytes()].concat()).await;
            }
        });
    }
    drop(frames);
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            let bytes = match message {
                Frame::Binary(bytes) => bytes,
                Frame::Text(text) => text.into(),
                Frame::Close(_) => break,
                _ => continue,
            };
            match bytes.split_first() {
                Some((&channels::CLOSE, [channel])) => drop(inboxes.remove(channel)),
                Some((channel, bytes)) if !bytes.is_empty() => {
                    if let Some(inbox) = inboxes.get(channel) {
                        // A connection that has ended takes no more.
                        let _ = inbox.send(Bytes::copy_from_slice(bytes)).await;
                    }
                }
                _ => {}
            }
        }
        inboxes.clear();
    };
    let ending = async { while relays.join_next().await.is_some() {} };
    tokio::select! {
        () = reading => {}
        () = ending => {}
    }
}

/// Moves bytes between a client's stream and a port of the pod, until both directions have ended.
async fn relay_port(
    handle: Arc<PodHandle>,
    port: u16,
    mut incoming: mpsc::Receiver<Bytes>,
    frames: &mpsc::Sender<Vec<u8>>,
    encode: impl Fn(&[u8], bool) -> Vec<u8>,
) -> Result<(), String> {
    let connection = connect(handle, port).await?;
    let (mut from_pod, mut to_pod) = connection.into_split();
    let inbound = async {
        while let Some(bytes) = incoming.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The pod may have closed it first.
        let _ = to_pod.shutdown().await;
    };
    let outbound = async {
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
            if frames.send(encode(&buffer[..count], false)).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(inbound);
    tokio::select! {
        // What the pod sends no more ends the connection, as its client reads until then.
        () = outbound => {}
        () = async { (&mut inbound).await; std::future::pending().await } => {}
    }
    Ok(())
}

/// Returns a connection to a port of the pod.
///
/// # Errors
/// What the pod or the system says.
pub async fn connect(handle: Arc<PodHandle>, port: u16) -> Result<TcpStream, String> {
    let dialled = run_blocking(move || handle.dial(port).map_err(|e| Failure::internal(e.to_string())));
    let inside = dialled.await.map_err(|e| e.message)?;
    inside.set_nonblocking(true).and_then(|()| TcpStream::from_std(inside)).map_err(|e| e.to_string())
}
