//! The server's process: where it listens, how it begins, when it ends.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    socket::{SockaddrLike, SockaddrStorage, getsockname},
};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::{
    Server,
    http::serve_listener,
    server_credentials::{self, Credentials, read_or_make},
};
use crate::{engine::Engine, process::share_heap};

/// The time for which a server that a client started stays without a connection.
const IDLE: Duration = Duration::from_secs(60);
/// The time for which a client waits for the server that it started.
const START: Duration = Duration::from_secs(10);
/// The first port that is tried; a user's own lies up to a thousand above.
const FIRST_PORT: u16 = 26443;
/// Threads for what waits for files and pods.
const THREADS: usize = 64;
/// The first descriptor that a service manager passes on.
const FIRST_PASSED: i32 = 3;

/// The reason why there is no server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The credentials cannot be had.
    #[error(transparent)]
    Credentials(#[from] server_credentials::Error),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {source}; --listen chooses another address")]
    Listen {
        /// Tells which one.
        address: SocketAddr,
        /// The reason why not.
        source: io::Error,
    },
    /// The server that was started does not answer.
    #[error("the server did not begin to listen on {0} in time; `podctl serve` in a terminal says why")]
    Absent(SocketAddr),
    /// Something else of the system's.
    #[error("cannot {step}: {source}")]
    Io {
        /// Holds what was tried.
        step: &'static str,
        /// The reason why not.
        source: io::Error,
    },
}

fn io(step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { step, source }
}

/// Tells how the server is to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Elsewhere than on the user's own port of the loopback.
    pub listen: Option<SocketAddr>,
    /// Tells that a client started it: it ends when it is not used, and is content when another one serves.
    pub on_demand: bool,
}

/// Serves until it is ended, or is not used; `began` hears the address.
///
/// # Errors
/// [`Error`]
pub(crate) fn serve(engine: &Engine, options: &Options, began: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let credentials = Credentials::open(&engine.server_dir())?;
    let passed = take_passed_listener();
    let idle = (options.on_demand || passed.is_some()).then_some(IDLE);
    let listener = match (passed, options.listen) {
        (Some(listener), _) => listener,
        (None, Some(address)) => bind(address)?,
        (None, None) => match bind(own_address(engine)?) {
            // Another server was faster.
            Err(Error::Listen { source, .. })
                if options.on_demand && source.kind() == io::ErrorKind::AddrInUse =>
            {
                return Ok(());
            }
            listener => listener?,
        },
    };
    let address = listener.local_addr().map_err(io("ask for the own address"))?;
    let tls = TlsAcceptor::from(credentials.server_config(&served_addresses(address, engine))?);
    if options.on_demand {
        // It is nobody's child, and stands in no directory's way.
        let _ = nix::unistd::setsid();
        let _ = std::env::set_current_dir("/");
    }
    listener.set_nonblocking(true).map_err(io("prepare the listener"))?;
    share_heap();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .build()
        .map_err(io("begin to serve"))?;
    let server = Server::new(engine.clone());
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(io("begin to serve"))?;
        began(address);
        serve_listener(server, listener, Arc::new(credentials), tls, idle).await;
        Ok(())
    })
}

/// Returns what the `exec` plugin of a kubeconfig prints: the token. Starts the server when it is not there.
///
/// # Errors
/// [`Error`]
pub(crate) fn give_credential(engine: &Engine) -> Result<Value, Error> {
    let credentials = Credentials::open(&engine.server_dir())?;
    let address = own_address(engine)?;
    // A connection also tells a server that is about to end that it is used.
    if std::net::TcpStream::connect(address).is_err() {
        start_server()?;
        let deadline = Instant::now() + START;
        while std::net::TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                return Err(Error::Absent(address));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": credentials.token},
    }))
}

/// Lets this process have as many connections as the system allows it; what it starts begins with the usual limit.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it may not, clients beyond the limit wait until others have left.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// This same program again, behind the client that needs it.
fn start_server() -> Result<(), Error> {
    let program = std::env::current_exe().map_err(io("find this program"))?;
    let mut command = Command::new(program);
    command.args(["serve", "--on-demand"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A Ctrl-C for the client is not for the server.
    command.process_group(0).spawn().map(drop).map_err(io("start the server"))
}

/// The user's own address, which stays: clients remember it in their kubeconfigs and caches.
///
/// # Errors
/// [`Error::Credentials`]
pub(crate) fn own_address(engine: &Engine) -> Result<SocketAddr, Error> {
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let path = engine.server_dir().join("port");
    let choose = || {
        // Users, and homes of one user, begin at places of their own: a port is taken only when a server starts.
        let place = path.as_os_str().as_encoded_bytes().iter();
        let place =
            place.fold(0u16, |hash, byte| (hash.wrapping_mul(31).wrapping_add((*byte).into())) % 1000);
        let first = FIRST_PORT + place;
        let is_free = |port: &u16| TcpListener::bind((loopback, *port)).is_ok();
        Ok((first..first + 1000).find(is_free).unwrap_or(first).to_string())
    };
    let text = read_or_make(&path, choose)?;
    let damaged =
        |e: std::num::ParseIntError| server_credentials::Error::Damaged { path, why: e.to_string() };
    Ok(SocketAddr::new(loopback, text.trim().parse().map_err(damaged)?))
}

fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).map_err(|source| Error::Listen { address, source })
}

/// The addresses by which clients reach it; of a listener on all of them, this machine's own.
fn served_addresses(address: SocketAddr, engine: &Engine) -> Vec<IpAddr> {
    match address.ip() {
        ip if ip.is_unspecified() => {
            engine.host_address().and_then(|ip| ip.parse().ok()).into_iter().collect()
        }
        ip => vec![ip],
    }
}

/// The socket of a service manager, as sd_listen_fds(3) has it.
fn take_passed_listener() -> Option<TcpListener> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").is_none_or(|count| count < 1)
    {
        return None;
    }
    // Something else could be there, when the variables are stale.
    getsockname::<SockaddrStorage>(FIRST_PASSED).ok()?.family()?;
    // SAFETY: the service manager opened this descriptor for us, and this is called once.
    Some(unsafe { OwnedFd::from_raw_fd(FIRST_PASSED) }.into())
}
