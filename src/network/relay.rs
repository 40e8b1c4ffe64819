//! From a published port to a pod: connections and datagrams, once somebody listens there.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    rc::Rc,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream, UdpSocket},
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
        spawn_local(async move { connection(stream, client.ip(), &inside, &aim).await });
    }
}

async fn connection(mut stream: TcpStream, client: IpAddr, inside: &Inside, aim: &Aim) {
    let pod = match aim() {
        Some(to) => match timeout(CONNECT, clients::dial(inside, to, client)).await {
            Ok(done) => done,
            Err(late) => Err(late.into()),
        },
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
                let Ok(pod) = clients::exchange(inside, to, peer.ip()) else { continue };
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
