//! `podctl cluster-info`: where the Kubernetes API is, if it is served.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    cli::{Error, Namespace, io},
    engine::Engine,
    server::kubeconfig::make_kubeconfig,
    state::Home,
};

/// The time that a server of this machine has to take a connection.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct Args {
    /// `dump` is refused: what it would show other commands do.
    words: Vec<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if args.words.first().is_some_and(|word| word == "dump") {
        return Err(Error::not_done(
            "podctl dumps no cluster: `podctl get all,cm,events -A -o yaml` shows what there is, and `podctl logs` what pods wrote",
        ));
    }
    let program = std::env::current_exe().map_err(io("cannot find this program"))?;
    let config = make_kubeconfig(&Engine::over(home), &program, namespace)?;
    let url = config["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default().to_owned();
    let address = url.strip_prefix("https://").and_then(|address| address.parse::<SocketAddr>().ok());
    let is_served = address.is_some_and(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok());
    match is_served {
        true => println!(
            "Kubernetes control plane is running at {url}\n\nTo further debug and diagnose cluster problems, use 'podctl cluster-info dump'."
        ),
        false => println!(
            "Kubernetes control plane is not running: pods need none. `podctl serve` would answer at {url}; `podctl kubeconfig --merge` lets kubectl start it."
        ),
    }
    Ok(0)
}
