//! `podctl serve` and `podctl kubeconfig`: the Kubernetes API for `kubectl` and other clients.

use std::{fs, net::SocketAddr, path::PathBuf};

use serde_json::Value;

use crate::{
    cli::{Error, io, print, user_files::replace_file},
    engine::Engine,
    server::{kubeconfig, serve},
    state::Home,
    view::yaml,
};

#[derive(clap::Args)]
#[command(
    after_help = "Nobody has to run this: the context that `podctl kubeconfig --merge` writes starts the server when
a client needs it, and it ends a minute after the last connection."
)]
pub(super) struct Args {
    /// Listen on ADDRESS:PORT instead of the user's own port of the loopback.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Print the credential for a client, and start the server when it is not there.
    #[arg(long, hide = true)]
    credential: bool,
    /// End when it is not used.
    #[arg(long, hide = true)]
    on_demand: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl kubeconfig --merge
  kubectl --context podctl get pods")]
pub(super) struct KubeconfigArgs {
    /// Put the context into $KUBECONFIG or ~/.kube/config instead of printing it.
    #[arg(long)]
    merge: bool,
}

pub(super) fn run(args: &Args, home: &Home) -> Result<i32, Error> {
    let engine = Engine::over(home);
    if args.credential {
        print(&format!("{}\n", serve::give_credential(&engine)?));
        return Ok(0);
    }
    let options = serve::Options { listen: args.listen, on_demand: args.on_demand };
    let began = |address: SocketAddr| {
        if !args.on_demand {
            anstream::eprintln!("serving the Kubernetes API on https://{address}");
            anstream::eprintln!(
                "clients find it by `podctl kubeconfig --merge`, as context {}",
                kubeconfig::NAME
            );
        }
    };
    serve::serve(&engine, &options, began)?;
    Ok(0)
}

pub(super) fn write_kubeconfig(args: &KubeconfigArgs, home: &Home, namespace: &str) -> Result<i32, Error> {
    let program = std::env::current_exe().map_err(io("cannot find this program"))?;
    let own = kubeconfig::make_kubeconfig(&Engine::over(home), &program, namespace)?;
    if !args.merge {
        print(&yaml::document(&own));
        return Ok(0);
    }
    let path = kubeconfig_file()?;
    let mut known = match fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Value::Null,
        Ok(text) => crate::manifest::parse_yaml(&text).map_err(|e| {
            Error::unreadable(format!("{} is no YAML, and is left as it is: {e}", path.display()))
        })?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(e) => return Err(io(format!("cannot read {}", path.display()))(e)),
    };
    kubeconfig::merge_kubeconfig(&mut known, &own);
    replace_file(&path, &yaml::document(&known)).map_err(io(format!("cannot write {}", path.display())))?;
    anstream::eprintln!(
        "context {:?} is in {}; try: kubectl --context podctl get pods",
        kubeconfig::NAME,
        path.display()
    );
    Ok(0)
}

/// The first file of $KUBECONFIG, else ~/.kube/config; what a symbolic link leads to.
fn kubeconfig_file() -> Result<PathBuf, Error> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let first = std::env::split_paths(&listed).find(|path| !path.as_os_str().is_empty());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let path = first.or_else(home).ok_or_else(|| {
        Error::unmet("neither KUBECONFIG nor HOME is set, so there is no file to merge into; set one")
    })?;
    Ok(fs::canonicalize(&path).unwrap_or(path))
}
