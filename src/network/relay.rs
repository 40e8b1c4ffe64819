//! From a published port to a pod: connections and datagrams, once somebody listens there.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Notify,
    task::spawn_local,
    time::timeout,
};

use super::{
    client_address,
    namespace_thread::Inside,
    ports::{self, Taken},
    room::{Place, Room},
    splice,
};

/// Longest wait for a pod to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The time of silence after which an exchange of datagrams is over.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest datagram.
const BUFFER: usize = 64 << 10;
/// Exchanges of datagrams at one port at a time.
const EXCHANGES: usize = 1024;
/// Descriptors that one connection may take: its two ends, and a pipe for each direction.
pub const DESCRIPTORS: usize = 6;

/// The time for which it may take to notice a listener that comes late: first, and when there has been none for long.
const LOOK: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(500)];

/// The time for which it is asked whether somebody listens in the pod. After that nobody is woken for it:
/// the port listens, and the next connection is what asks.
const ASKED: Duration = Duration::from_secs(10);

/// Names who is behind a published port.
pub struct Goal {
    /// The place where what comes from that client goes.
    pub aim: Box<dyn Fn(IpAddr) -> Option<SocketAddr>>,
    /// Tells whether somebody listens there.
    pub answers: Box<dyn Fn() -> bool>,
    /// Means that it may have changed.
    pub changed: Rc<Notify>,
    /// The place where connections of all ports find room; one that finds none waits in the kernel's queue.
    pub room: Rc<Room<u64>>,
    /// The number of this port in it.
    pub number: u64,
}

/// Serves a published port until the task is aborted.
pub async fn serve(taken: Taken, inside: Rc<Inside>, goal: Goal) -> io::Result<()> {
    let goal = Rc::new(goal);
    match taken {
        Taken::Tcp(socket) => relay_tcp(&socket, &inside, &goal).await,
        Taken::Udp(socket) => relay_udp(Rc::new(UdpSocket::from_std(socket)?), &inside, &goal).await,
    }
}

/// While nobody listens in the pod, nobody listens here: the kernel refuses connections, and the port stays taken. When
/// that has been so for long, a connection is taken, finds nobody and is reset, and those that follow it are refused
/// again.
async fn relay_tcp(socket: &OwnedFd, inside: &Rc<Inside>, goal: &Rc<Goal>) -> io::Result<()> {
    loop {
        if !(goal.answers)() {
            ports::refuse(socket)?;
            answered(goal).await;
        }
        ports::listen(socket)?;
        let listener = TcpListener::from_std(socket.try_clone()?.into())?;
        accept(&listener, inside, goal).await;
    }
}

/// Waits until somebody listens in the pod, or it has been asked for long. The kernel tells nobody of that, so it has
/// to be asked.
async fn answered(goal: &Goal) {
    let mut pause = LOOK[0];
    let mut since = Instant::now();
    while !(goal.answers)() && since.elapsed() < ASKED {
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOK[1]),
            () = goal.changed.notified() => (pause, since) = (LOOK[0], Instant::now()),
        }
    }
}

/// Takes connections until nobody listens in the pod.
async fn accept(listener: &TcpListener, inside: &Rc<Inside>, goal: &Rc<Goal>) {
    loop {
        let next = async {
            let place = goal.room.take(&goal.number).await;
            listener.accept().await.map(|accepted| (accepted, place))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = goal.changed.notified() => match (goal.answers)() {
                true => continue,
                false => return,
            }
        };
        let Ok(((stream, peer), place)) = accepted else {
            // Out of descriptors: some will be closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (inside, goal) = (inside.clone(), goal.clone());
        spawn_local(async move { connection(stream, peer.ip(), &inside, &goal, place).await });
    }
}

async fn connection(stream: TcpStream, client: IpAddr, inside: &Inside, goal: &Goal, _place: Place<u64>) {
    let pod = match (goal.aim)(client) {
        Some(to) => match timeout(CONNECT, client_address::dial(inside, to, client)).await {
            Ok(done) => done,
            Err(late) => Err(late.into()),
        },
        None => Err(io::ErrorKind::ConnectionRefused.into()),
    };
    let done = match pod {
        Ok(pod) => {
            // A connection with delays is one, too.
            let _ = (stream.set_nodelay(true), pod.set_nodelay(true));
            splice::splice_both(&stream, &pod).await
        }
        Err(e) => {
            // It has stopped listening just now.
            goal.changed.notify_waiters();
            Err(e)
        }
    };
    if done.is_err() {
        // Closed with a reset: whoever connected must not take it for an answer.
        let reset = libc::linger { l_onoff: 1, l_linger: 0 };
        // Without it the end looks like an orderly one, no more.
        let _ = setsockopt(&stream.as_fd(), sockopt::Linger, &reset);
    }
}

async fn relay_udp(socket: Rc<UdpSocket>, inside: &Rc<Inside>, goal: &Goal) -> io::Result<()> {
    let exchanges: Rc<RefCell<HashMap<SocketAddr, Rc<UdpSocket>>>> = Rc::default();
    let mut datagram = vec![0; BUFFER];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut datagram).await else { continue };
        let known = exchanges.borrow().get(&peer).cloned();
        let pod = match known {
            Some(pod) => pod,
            None if exchanges.borrow().len() >= EXCHANGES => continue,
            None => {
                let Some(to) = (goal.aim)(peer.ip()) else { continue };
                let Some(place) = goal.room.try_take(&goal.number) else { continue };
                let Ok(pod) = client_address::exchange_socket(inside, to, peer.ip()) else { continue };
                let pod = Rc::new(UdpSocket::from_std(pod)?);
                exchanges.borrow_mut().insert(peer, pod.clone());
                let (socket, exchanges, answers) = (socket.clone(), exchanges.clone(), pod.clone());
                spawn_local(async move {
                    let mut datagram = vec![0; BUFFER];
                    while let Ok(Ok(length)) = timeout(SILENCE, answers.recv(&mut datagram)).await {
                        // A datagram may be lost.
                        let _ = socket.send_to(&datagram[..length], peer).await;
                    }
                    exchanges.borrow_mut().remove(&peer);
                    drop(place);
                });
                pod
            }
        };
        // A datagram may be lost.
        let _ = pod.send(&datagram[..length]).await;
    }
}
