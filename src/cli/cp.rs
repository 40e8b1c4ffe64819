//! `podctl cp`: files out of and into containers; no program in the image is needed.

use std::{
    fs::File,
    io::IsTerminal,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use super::{
    Error, Namespace,
    exec::{pipe, reach, unreachable_pod},
    io, pod_dir,
    session::refused,
};
use crate::{
    archive::{self, Destination, Place},
    engine,
    pod::ObjectName,
    state::{Home, PodDir},
    wire::{self, Reply, Request},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A file or directory here, `-` for a tar stream on standard input, or `[NAMESPACE/]POD:PATH`.
    source: String,
    /// The same; `-` is a tar stream on standard output.
    destination: String,
    /// Which container; as with exec else.
    #[arg(short, long)]
    container: Option<String>,
    /// Neither modes nor times are kept.
    #[arg(long)]
    no_preserve: bool,
}

/// A side of a copy.
enum Side {
    Host(PathBuf),
    Stream,
    Pod { dir: PodDir, path: PathBuf },
}

fn side(text: &str, home: &Home, namespace: &Namespace) -> Result<Side, Error> {
    if text == "-" {
        return Ok(Side::Stream);
    }
    // As kubectl has it: what begins like a path is one, also with a colon in it.
    let (pod, path) = match text.split_once(':') {
        Some((pod, path)) if !pod.starts_with(['/', '.', '~']) && !pod.is_empty() => (pod, path),
        _ => return Ok(Side::Host(text.into())),
    };
    if path.is_empty() {
        return Err(Error::Said(format!("{text:?}: filepath can not be empty; write POD:PATH")));
    }
    let dir = match pod.split_once('/') {
        Some(("pod" | "pods" | "po", name)) => home.pod(namespace, &ObjectName::parse(name)?),
        Some((namespace, name)) => home.pod(&Namespace::parse(namespace)?, &ObjectName::parse(name)?),
        None => pod_dir(home, namespace, pod)?,
    };
    // A relative path starts at the container's root.
    Ok(Side::Pod { dir, path: Path::new("/").join(path) })
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let sides = (side(&args.source, home, namespace)?, side(&args.destination, home, namespace)?);
    match sides {
        (Side::Pod { dir, path }, to @ (Side::Host(_) | Side::Stream)) => out(args, &dir, path, &to),
        (from @ (Side::Host(_) | Side::Stream), Side::Pod { dir, path }) => into(args, &dir, &from, path),
        (Side::Pod { .. }, Side::Pod { .. }) => {
            Err(Error::Said("one of src or dest must be a local file specification".into()))
        }
        _ => Err(Error::Said("one of src or dest must be POD:PATH".into())),
    }
}

fn out(args: &Args, dir: &PodDir, path: PathBuf, to: &Side) -> Result<i32, Error> {
    let (container, socket) = reach(dir, args.container.as_deref(), false)?;
    let request = Request::CopyOut { container, path };
    match to {
        Side::Host(path) => {
            let (ours, theirs) = pipe()?;
            if let Some(code) = begin(dir, &socket, &request, theirs)? {
                return Ok(code);
            }
            let into = Destination {
                path: path.clone(),
                merge: true,
                preserve: !args.no_preserve,
                place: Place::Host,
            };
            let unpacked = archive::unpack(&into, None, File::from(ours), &mut std::io::stderr());
            let code = ended(dir, &socket)?;
            match unpacked {
                // Why the stream is short, the other side has said already.
                Err(archive::Error::Stream(_)) if code != 0 => Ok(code),
                Err(e) => Err(Error::Said(e.to_string())),
                Ok(()) => Ok(code),
            }
        }
        _ => {
            let stdout = std::io::stdout();
            if stdout.is_terminal() {
                return Err(Error::Said("refusing to write a tar stream to a terminal; redirect it".into()));
            }
            let stdout = stdout.as_fd().try_clone_to_owned().map_err(io("cannot use standard output"))?;
            begin(dir, &socket, &request, stdout)?.map_or_else(|| ended(dir, &socket), Ok)
        }
    }
}

fn into(args: &Args, dir: &PodDir, from: &Side, path: PathBuf) -> Result<i32, Error> {
    if let Side::Host(source) = from
        && let Err(e) = std::fs::metadata(source)
    {
        return Err(io(format!("cannot copy {}", source.display()))(e));
    }
    let (container, socket) = reach(dir, args.container.as_deref(), false)?;
    let into = Destination { path, merge: false, preserve: !args.no_preserve, place: Place::Container };
    let request = Request::CopyIn { container, into };
    let Side::Host(source) = from else {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(io("cannot use standard input"))?;
        return begin(dir, &socket, &request, stdin)?.map_or_else(|| ended(dir, &socket), Ok);
    };
    let (theirs, ours) = pipe()?;
    if let Some(code) = begin(dir, &socket, &request, theirs)? {
        return Ok(code);
    }
    let packed = archive::pack_tree(source, File::from(ours), &mut std::io::stderr());
    let code = ended(dir, &socket)?;
    match packed {
        // The other side left first, and has said why.
        Err(archive::Error::Sink(_)) if code != 0 => Ok(code),
        Err(e) => Err(Error::Said(e.to_string())),
        Ok(()) => Ok(code),
    }
}

/// Asks for a copy; the exit code when there is none.
fn begin(dir: &PodDir, socket: &OwnedFd, request: &Request, stream: OwnedFd) -> Result<Option<i32>, Error> {
    let stderr = std::io::stderr();
    wire::send_request(socket, request, &[stream.as_fd(), stderr.as_fd()]).map_err(unreachable_pod(dir))?;
    match wire::receive_answer::<Reply>(socket).map_err(unreachable_pod(dir))? {
        Some((Reply::Refused { message, exit_code }, _)) => Ok(Some(refused(&message, exit_code))),
        _ => Ok(None),
    }
}

fn ended(dir: &PodDir, socket: &OwnedFd) -> Result<i32, Error> {
    loop {
        match engine::receive_reply(dir, socket)? {
            Some((Reply::Ended(code), _)) => return Ok(code),
            Some((Reply::Refused { message, exit_code }, _)) => return Ok(refused(&message, exit_code)),
            Some(_) => {}
            None => return Err(Error::Said(format!("pod {:?} has ended during the copy", dir.name))),
        }
    }
}
