//! `podctl cp`: files out of and into containers; no program in the image is needed.

use std::{
    io::IsTerminal,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        Error, Namespace, io, pod_dir,
        target_pod::{check_goes_on, choose_container},
        terminal_session::refused,
    },
    engine::{self, CopyOptions, CopySide, PodHandle},
    state::{Home, PodDir},
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

/// The words of kubectl's about what is neither a path nor a pod's.
const BAD_SPECIFICATION: &str = "filespec must match the canonical format: [[namespace/]pod:]file/path";

/// The side of a copy.
enum Side {
    Host(PathBuf),
    Stream,
    Pod {
        dir: PodDir,
        path: PathBuf,
        /// Tells that it was written with the root in front.
        from_root: bool,
    },
}

fn side(text: &str, home: &Home, namespace: &Namespace) -> Result<Side, Error> {
    if text == "-" {
        return Ok(Side::Stream);
    }
    if text.is_empty() {
        return Err(Error::bad_value("filepath can not be empty"));
    }
    if text.starts_with(':') {
        return Err(Error::bad_value(BAD_SPECIFICATION));
    }
    // As kubectl has it: what begins like a path is one, also with a colon in it.
    let (pod, path) = match text.split_once(':') {
        Some((pod, path)) if !pod.starts_with(['/', '.', '~']) && !pod.is_empty() => (pod, path),
        _ => return Ok(Side::Host(text.into())),
    };
    if path.is_empty() {
        return Err(Error::bad_value("filepath can not be empty"));
    }
    let dir = match pod.split_once('/') {
        Some(("pod" | "pods" | "po", name)) => pod_dir(home, namespace, name)?,
        Some((_, name)) if name.contains('/') => return Err(Error::bad_value(BAD_SPECIFICATION)),
        Some((namespace, name)) => pod_dir(home, &Namespace::parse(namespace)?, name)?,
        None => pod_dir(home, namespace, pod)?,
    };
    // A relative path starts at the container's root.
    Ok(Side::Pod { dir, path: Path::new("/").join(path), from_root: path.starts_with('/') })
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let sides = (side(&args.source, home, namespace)?, side(&args.destination, home, namespace)?);
    let stderr = std::io::stderr();
    let chosen = |dir: &PodDir| {
        check_goes_on(dir, "exec into")?;
        let container = Some(choose_container(dir, args.container.as_deref(), false)?);
        Ok::<_, Error>((PodHandle::of(home, dir), CopyOptions { container, preserve: !args.no_preserve }))
    };
    let copied = match sides {
        (Side::Pod { dir, path, from_root }, Side::Host(to)) => {
            let (pod, options) = chosen(&dir)?;
            let copied = pod.copy_out(&options, &path, CopySide::Path(to), stderr.as_fd());
            if from_root && matches!(copied, Ok(0)) {
                // As the container's tar says it, which kubectl has do the work.
                eprintln!("tar: removing leading '/' from member names");
            }
            copied
        }
        (Side::Pod { dir, path, .. }, Side::Stream) => {
            let stdout = std::io::stdout();
            if stdout.is_terminal() {
                return Err(Error::contradiction(
                    "refusing to write a tar stream to a terminal; redirect it",
                ));
            }
            let (pod, options) = chosen(&dir)?;
            let stdout = stdout.as_fd().try_clone_to_owned().map_err(io("cannot use standard output"))?;
            pod.copy_out(&options, &path, CopySide::Stream(stdout), stderr.as_fd())
        }
        (Side::Host(from), Side::Pod { dir, path, .. }) => {
            // Before a container is chosen, which is told.
            if !from.try_exists().map_err(io(format!("cannot copy {}", from.display())))? {
                let what = format!("{} doesn't exist in local filesystem", from.display());
                return Err(Error::absent(what));
            }
            let (pod, options) = chosen(&dir)?;
            let copied = pod.copy_in(&options, CopySide::Path(from), &path, stderr.as_fd());
            if let Ok(code @ 1..) = copied {
                eprintln!("command terminated with exit code {code}");
            }
            copied
        }
        (Side::Stream, Side::Pod { dir, path, .. }) => {
            let (pod, options) = chosen(&dir)?;
            let stdin = std::io::stdin();
            let stdin = stdin.as_fd().try_clone_to_owned().map_err(io("cannot use standard input"))?;
            pod.copy_in(&options, CopySide::Stream(stdin), &path, stderr.as_fd())
        }
        (Side::Pod { .. }, Side::Pod { .. }) => {
            return Err(Error::bad_value("one of src or dest must be a local file specification"));
        }
        _ => return Err(Error::bad_value("one of src or dest must be a remote file specification")),
    };
    match copied {
        Err(engine::Error::Refused { message, exit_code }) => Ok(refused(&message, exit_code)),
        Err(engine::Error::Ended(pod)) => Err(Error::Ended { pod, when: "during the copy" }),
        copied => Ok(copied?),
    }
}
