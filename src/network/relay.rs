//! From a published port to a pod: connections and datagrams, once somebody listens there.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    rc::Rc,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::spawn_local,
    time::timeout,
};

use super::{clients, inside::Inside, ports::Taken};

/// Longest wait for a pod to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// An exchange of datagrams is over after that much silence.
const SILENCE: Duration = Duration::from_secs(60);
/// What one connection holds in each direction at most.
const BUFFER: usize = 64 << 10;
/// Exchanges of datagrams at one port at a time.
const EXCHANGES: usize = 1024;

/// Where what comes in now goes.
pub type Aim = Rc<dyn Fn() -> Option<SocketAddr>>;

/// Serves a published port until the task is aborted.
pub async fn serve(taken: Taken, inside: Rc<Inside>, aim: Aim) -> io::Result<()> {
    match taken {
        Taken::Tcp(listener) => tcp(TcpListener::from_std(listener)?, &inside, &aim).await,
        Taken::Udp(socket) => udp(Rc::new(UdpSocket::from_std(socket)?), &inside, &aim).await,
    }
}

async fn tcp(listener: TcpListener, inside: &Rc<Inside>, aim: &Aim) -> io::Result<()> {
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            // Out of descriptors: some will be closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (inside, aim) = (inside.clone(), aim.clone());
        spawn_local(async move { connection(stream, client, &inside, &aim).await });
    }
}

async fn connection(mut stream: TcpStream, client: SocketAddr, inside: &Inside, aim: &Aim) {
    let pod = match aim() {
        Some(to) => dial(inside, to, client).await,
        None => Err(io::ErrorKind::ConnectionRefused.into()),
    };
    let done = match pod {
        Ok(mut pod) => {
            let _ = (stream.set_nodelay(true), pod.set_nodelay(true));
            copy_bidirectional_with_sizes(&mut stream, &mut pod, BUFFER, BUFFER).await.map(drop)
        }
        Err(e) => Err(e),
    };
    if done.is_err() {
        // Closed with a reset: whoever connected must not take it for an answer.
        let reset = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(&stream.as_fd(), sockopt::Linger, &reset);
    }
}

/// Connects to a pod, with the client's own address where that is possible.
async fn dial(inside: &Inside, to: SocketAddr, client: SocketAddr) -> io::Result<TcpStream> {
    let towards = match (client.ip().to_canonical(), to.ip()) {
        // A pod that does not listen there may still do so in IPv4.
        (IpAddr::V6(_), IpAddr::V4(pod)) => {
            inside.in_v6(pod).map(|pod| SocketAddr::new(pod.into(), to.port()))
        }
        _ => Some(to),
    };
    if let Some(towards) = towards.filter(|_| inside.keeps_clients.get())
        && let Some(source) = clients::source(client, towards.ip())
        && let Ok(socket) = inside.run(move || bearing(source))
    {
        match timeout(CONNECT, socket.connect(towards)).await? {
            Err(_) if towards != to => {}
            done => return done,
        }
    }
    let socket = inside.run(move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })?;
    timeout(CONNECT, socket.connect(to)).await?
}

fn bearing(source: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    clients::mark(&socket)?;
    socket.bind(source)?;
    Ok(socket)
}

/// A socket for datagrams to a pod, with the client's own address where there is one.
fn exchange(to: SocketAddr, source: Option<SocketAddr>) -> io::Result<std::net::UdpSocket> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    if let Some(source) = source {
        clients::mark(&fd)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(source))?;
    }
    Ok(fd.into())
}

async fn udp(socket: Rc<UdpSocket>, inside: &Rc<Inside>, aim: &Aim) -> io::Result<()> {
    let exchanges: Rc<RefCell<HashMap<SocketAddr, Rc<UdpSocket>>>> = Rc::default();
    let mut datagram = vec![0; BUFFER];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut datagram).await else { continue };
        let known = exchanges.borrow().get(&peer).cloned();
        let pod = match known {
            Some(pod) => pod,
            None if exchanges.borrow().len() >= EXCHANGES => continue,
            None => {
                let Some(to) = aim() else { continue };
                let keeps = inside.keeps_clients.get();
                let source = clients::source(peer, to.ip()).filter(|_| keeps);
                let Ok(pod) = inside.run(move || {
                    let socket = exchange(to, source)?;
                    socket.connect(to)?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                }) else {
                    continue;
                };
                let pod = Rc::new(UdpSocket::from_std(pod)?);
                exchanges.borrow_mut().insert(peer, pod.clone());
                let (socket, exchanges, answers) = (socket.clone(), exchanges.clone(), pod.clone());
                spawn_local(async move {
                    let mut datagram = vec![0; BUFFER];
                    while let Ok(Ok(length)) = timeout(SILENCE, answers.recv(&mut datagram)).await {
                        let _ = socket.send_to(&datagram[..length], peer).await;
                    }
                    exchanges.borrow_mut().remove(&peer);
                });
                pod
            }
        };
        let _ = pod.send(&datagram[..length]).await;
    }
}
