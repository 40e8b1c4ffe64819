//! `podctl exec`: a command in a container. Its bytes flow between it and this process directly.

use std::{
    fs::File,
    io::IsTerminal,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};

use crate::{
    cli::{
        Error, Namespace, io, raw_terminal,
        target_pod::{ContainerArgs, PatienceArgs, TargetFileArgs, check_goes_on, choose_container},
        terminal_session::{Session, refused},
    },
    engine::{self, ExecCommand, PodHandle, Streams},
    state::Home,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl exec web -- date
  podctl exec -it web -c app -- sh
  podctl exec -i web -- tar xf - <files.tar")]
pub(super) struct Args {
    /// `NAME`, `pod/NAME`, `service/NAME` or `deployment/NAME`.
    #[arg(required_unless_present = "filename")]
    pod: Option<String>,
    #[command(flatten)]
    file: TargetFileArgs,
    #[command(flatten)]
    of: ContainerArgs,
    #[command(flatten)]
    patience: PatienceArgs,
    /// Words before `--`.
    #[arg(hide = true)]
    undivided: Vec<String>,
    /// The command.
    #[arg(last = true)]
    command: Vec<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if args.pod.is_some() && !args.file.filename.is_empty() {
        return Err(Error::contradiction(
            "resource/name arguments cannot be provided when a path is specified",
        ));
    }
    if !args.undivided.is_empty() {
        return Err(Error::contradiction(
            "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead\nSee 'podctl exec -h' for help and examples",
        ));
    }
    if args.command.is_empty() {
        return Err(Error::missing("you must specify at least one command for the container"));
    }
    let ContainerArgs { stdin, tty, quiet, .. } = args.of;
    let until = args.patience.find_deadline("\nSee 'podctl exec -h' for help and examples")?;
    let dir = args.file.find_pod(home, namespace, args.pod.as_deref(), until)?;
    check_goes_on(&dir, "exec into")?;
    let container = choose_container(&dir, args.of.container.as_deref(), quiet)?;
    let terminal = tty && std::io::stdin().is_terminal();
    if tty && stdin && !terminal && !quiet {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let pod = PodHandle::of(home, &dir);
    let lived = pod.is_alive();
    let ended = match terminal {
        true => {
            let (words, size) = (args.command.clone(), raw_terminal::size());
            with_terminal(&pod, ExecCommand { container: Some(container), words, stdin, terminal, size })
        }
        false => with_streams(&pod, &container, &args.command, stdin),
    };
    let code = match ended {
        // What is no command fails as a shell's would, anything else before there is a command.
        Err(Error::Engine(engine::Error::Refused { message, exit_code: code @ (126 | 127) })) => {
            eprintln!("{message}");
            code
        }
        Err(Error::Engine(engine::Error::Refused { message, exit_code })) => {
            return Ok(refused(&message, exit_code));
        }
        // The pod ended before the command could answer for itself.
        Err(Error::Engine(engine::Error::Ended(_))) if lived => {
            refused("the pod ended, and the process with it", 137)
        }
        ended => ended?,
    };
    if code != 0 && !quiet {
        eprintln!("command terminated with exit code {code}");
    }
    Ok(code)
}

fn with_terminal(pod: &PodHandle, command: ExecCommand) -> Result<i32, Error> {
    let pass_input = command.stdin;
    let opened = pod.open_exec(command)?;
    // Without -i our keys stay ours: Ctrl-C ends this command, and the other with it.
    let session = Session {
        process: &opened.process,
        input: opened.stdin,
        outputs: [opened.stdout, None],
        raw: pass_input,
        detach_keys: &[],
    };
    Ok(session.run()?.code().unwrap_or(0))
}

/// A stream that is a terminal does not go into the container, which could read from it and set it
/// up: a pipe goes instead. Everything else is passed as it is.
fn with_streams(pod: &PodHandle, container: &str, words: &[String], pass_input: bool) -> Result<i32, Error> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let own = |stream: BorrowedFd<'_>| stream.try_clone_to_owned().map_err(io("cannot use a stream"));
    let (mut input, mut outputs) = (None, [None, None]);
    let theirs_in = match pass_input {
        true if stdin.is_terminal() => {
            let (read, write) = pipe()?;
            nonblocking(&write)?;
            input = Some(write);
            read
        }
        true => own(stdin.as_fd())?,
        false => File::open("/dev/null").map_err(io("cannot open /dev/null"))?.into(),
    };
    let mut theirs_out = Vec::new();
    for (at, (stream, is_terminal)) in
        [(stdout.as_fd(), stdout.is_terminal()), (stderr.as_fd(), stderr.is_terminal())]
            .into_iter()
            .enumerate()
    {
        if is_terminal {
            let (read, write) = pipe()?;
            nonblocking(&read)?;
            outputs[at] = Some(read);
            theirs_out.push(write);
        } else {
            theirs_out.push(own(stream)?);
        }
    }
    let [stdout, stderr] = <[OwnedFd; 2]>::try_from(theirs_out).expect("there are two");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let process = pod.exec(Some(container), &words, Streams { stdin: theirs_in, stdout, stderr })?;
    let session = Session { process: &process, input, outputs, raw: false, detach_keys: &[] };
    Ok(session.run()?.code().unwrap_or(0))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe2(OFlag::O_CLOEXEC).map_err(|e| io("cannot make a pipe")(e.into()))
}

fn nonblocking(fd: &OwnedFd) -> Result<(), Error> {
    let failed = |e: nix::errno::Errno| io("cannot set up a stream")(e.into());
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop).map_err(failed)
}
