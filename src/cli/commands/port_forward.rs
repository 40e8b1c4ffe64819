//! `podctl port-forward`: local ports that lead into a pod, also where no network leads there.
//!
//! The supervisor makes each connection inside the pod and hands it over; the bytes are moved here.

use std::{
    io::{self as stdio, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;

use crate::{
    cli::{
        Error, Namespace, io,
        pod_selection::read,
        target_pod::{ATTACH, PatienceArgs, find_service_target_port, find_target_pod},
    },
    engine::{self, PodHandle},
    pod::PodExt,
    state::Home,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// `NAME`, `pod/NAME`, or `service/NAME` and `deployment/NAME` for a pod of theirs.
    pod: String,
    /// `[LOCAL:]REMOTE`; REMOTE may be a port's name, `:REMOTE` takes a free local port.
    #[arg(required = true)]
    ports: Vec<String>,
    /// Where to listen: addresses, or localhost.
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
    #[command(flatten)]
    patience: PatienceArgs,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if args.address.iter().all(String::is_empty) {
        return Err(Error::missing("you must specify at least 1 address"));
    }
    let until = args.patience.find_deadline("\nSee 'podctl port-forward -h' for help and examples")?;
    let dir = find_target_pod((home, namespace), &args.pod, ATTACH, until)?;
    let phase = read(&dir)?.phase().to_owned();
    if phase != "Running" {
        let what = format!("unable to forward port because pod is not running. Current status={phase}");
        return Err(Error::unmet(what));
    }
    let handle = PodHandle::of(home, &dir);
    // Held to see the pod's end.
    let watched = engine::dial(&dir)?;
    let pod = dir.read()?;
    let pod_handle = Arc::new(handle);
    let mut listeners = Vec::new();
    for word in &args.ports {
        let (local, remote) = match word.split_once(':') {
            Some((local, remote)) => (Some(local), remote),
            None => (None, word.as_str()),
        };
        // A Service's port stands for the one of its pods; the local one is the Service's all the same.
        let behind = find_service_target_port(home, namespace, &args.pod, remote)?;
        let local = local.or(behind.is_some().then_some(remote).filter(|port| port.parse::<u16>().is_ok()));
        let remote = behind.as_deref().unwrap_or(remote);
        let word = local.map_or_else(|| remote.to_owned(), |local| format!("{local}:{remote}"));
        let (local, remote) = ports(&word, &pod)?;
        listeners.extend(listen(&args.address, local)?.into_iter().map(|l| (l, remote)));
    }
    for (listener, remote) in listeners {
        let at = listener.local_addr().map_err(io("cannot listen"))?;
        println!("Forwarding from {at} -> {remote}");
        let handle = pod_handle.clone();
        let forwarding = std::thread::Builder::new().spawn(move || {
            for client in listener.incoming().flatten() {
                println!("Handling connection for {}", at.port());
                // It forwards also for whoever does not want to read of it.
                let _ = stdio::stdout().flush();
                let handle = handle.clone();
                let started = std::thread::Builder::new().spawn(move || {
                    if let Err(message) = forward(&handle, client, remote) {
                        eprintln!("error forwarding port {remote} to pod {}: {message}", handle.name());
                    }
                });
                if let Err(e) = started {
                    eprintln!("error forwarding port {remote}: cannot start a thread: {e}");
                }
            }
        });
        forwarding.map_err(io("cannot start a thread"))?;
    }
    // It forwards also for whoever does not want to read of it.
    let _ = stdio::stdout().flush();
    engine::wait_for_end(&dir, &watched)?;
    Err(Error::unmet("lost connection to pod"))
}

fn ports(word: &str, pod: &Pod) -> Result<(u16, u16), Error> {
    let wrong = |what: String| Error::bad_value(what);
    let number = |text: &str, side: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => wrong(format!(
            "error parsing {side} port '{text}': strconv.ParseUint: parsing {text:?}: value out of range"
        )),
        false => wrong(format!(
            "error parsing {side} port '{text}': strconv.ParseUint: parsing {text:?}: invalid syntax"
        )),
    };
    let (local, remote) = word.split_once(':').map_or((None, word), |(l, r)| (Some(l), r));
    let remote = match remote.parse::<u16>() {
        Ok(0) => return Err(wrong("remote port must be > 0".into())),
        Ok(port) => port,
        Err(_) if remote.is_empty() => return Err(wrong("remote port cannot be empty".into())),
        // A port that is alone is the local one first.
        Err(_) if remote.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(number(remote, if local.is_some() { "remote" } else { "local" }));
        }
        Err(_) => named(remote, pod).ok_or_else(|| {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            wrong(format!("Pod '{pod}' does not have a named port '{remote}'"))
        })?,
    };
    let local = match local {
        None => remote,
        Some("") => 0,
        Some(text) => text.parse().map_err(|_| number(text, "local"))?,
    };
    Ok((local, remote))
}

fn named(name: &str, pod: &Pod) -> Option<u16> {
    let spec = pod.spec.as_ref()?;
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut ports = all.flat_map(|c| c.ports.iter().flatten());
    ports.find(|p| p.name.as_deref() == Some(name)).and_then(|p| p.container_port.try_into().ok())
}

/// localhost is both loopbacks, at the same port; one of them is enough.
fn listen(addresses: &[String], port: u16) -> Result<Vec<TcpListener>, Error> {
    let mut all = Vec::new();
    for address in addresses {
        let at = |ip: IpAddr, port| {
            TcpListener::bind(SocketAddr::new(ip, port))
                .map_err(io(format!("unable to listen on {}", SocketAddr::new(ip, port))))
        };
        if address == "localhost" {
            let v4 = at(Ipv4Addr::LOCALHOST.into(), port)?;
            let chosen = v4.local_addr().map_err(io("cannot listen"))?.port();
            all.push(v4);
            all.extend(at(Ipv6Addr::LOCALHOST.into(), chosen).ok());
            continue;
        }
        let ip = address.parse().map_err(|_| Error::bad_value(format!("{address} is not a valid IP")))?;
        all.push(at(ip, port)?);
    }
    Ok(all)
}

fn forward(pod: &PodHandle, client: TcpStream, port: u16) -> Result<(), String> {
    let inside = pod.dial(port).map_err(|e| e.to_string())?;
    let (from_pod, to_client) = (clone(&inside)?, clone(&client)?);
    let back = std::thread::Builder::new()
        .spawn(move || pour(from_pod, to_client))
        .map_err(|e| format!("cannot start a thread: {e}"))?;
    pour(client, inside);
    // Its end is that of the connection, however it came.
    let _ = back.join();
    Ok(())
}

fn clone(stream: &TcpStream) -> Result<TcpStream, String> {
    stream.try_clone().map_err(|e| e.to_string())
}

/// A direction, to its end; the other goes on.
fn pour(mut from: TcpStream, mut to: TcpStream) {
    // A side that broke off ends its direction as a side that has finished does.
    let _ = stdio::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
