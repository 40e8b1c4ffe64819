//! Between this terminal and a process in a pod: bytes both ways, the window's size, the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{read, write},
};

use crate::{
    cli::{
        Error, io, paint_red,
        raw_terminal::{self, Raw},
    },
    engine::{self, Exec, LONG_SILENCE},
    lifecycle::Exit,
};

/// The streams of one process; all descriptors of the other side are non-blocking.
pub(super) struct Session<'a> {
    /// Tells the end.
    pub process: &'a Exec,
    /// Takes what comes from standard input.
    pub input: Option<OwnedFd>,
    /// Holds what goes to standard output and to standard error.
    pub outputs: [Option<OwnedFd>; 2],
    /// The other side is a terminal and ours is raw.
    pub raw: bool,
    /// Holds what a person types to leave; empty when there is no leaving.
    pub detach_keys: &'a [u8],
}

/// Tells how a session ends.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// With the process's own code.
    Exited(i32),
    /// The detach keys were typed.
    Detached,
    /// The supervisor says why.
    Refused(String, i32),
    /// This signal ended it here.
    Signal(i32),
    /// The pod has gone.
    Lost,
}

impl End {
    /// The exit code that says so, `None` when the process goes on. A refusal is shown.
    pub(super) fn code(self) -> Option<i32> {
        match self {
            End::Exited(code) => Some(code),
            End::Refused(message, code) => Some(refused(&message, code)),
            End::Signal(signal) => Some(Exit::Signal(signal).code()),
            End::Lost => Some(refused("the pod ended, and the process with it", 137)),
            End::Detached => None,
        }
    }
}

/// Shows why the supervisor would not; gives the exit code that says so.
pub(super) fn refused(message: &str, exit_code: i32) -> i32 {
    eprintln!("{}: {message}", paint_red("error"));
    exit_code
}

impl Session<'_> {
    /// Until the process ends or one side leaves.
    pub(super) fn run(mut self) -> Result<End, Error> {
        let failed = || |e: Errno| io("cannot use the terminal")(e.into());
        let signals = match self.raw {
            true => Some(signals().map_err(failed())?),
            false => None,
        };
        let _raw = self.raw.then(Raw::enter).transpose().map_err(failed())?;
        self.resize();
        let mut typed = Typed { keys: self.detach_keys, matched: 0 };
        let mut pending: Vec<u8> = Vec::new();
        let mut stdin_open = self.input.is_some();
        loop {
            let stdin = std::io::stdin();
            let mut fds = vec![PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
            let mut meant = vec![Meaning::Socket];
            let mut add = |fd, flags, meaning| {
                fds.push(PollFd::new(fd, flags));
                meant.push(meaning);
            };
            if let Some(signals) = &signals {
                add(signals.as_fd(), PollFlags::POLLIN, Meaning::Signals);
            }
            for (at, output) in self.outputs.iter().enumerate() {
                if let Some(output) = output {
                    add(output.as_fd(), PollFlags::POLLIN, Meaning::Output(at));
                }
            }
            if pending.is_empty() {
                if stdin_open {
                    add(stdin.as_fd(), PollFlags::POLLIN, Meaning::Stdin);
                }
            } else if let Some(input) = &self.input {
                add(input.as_fd(), PollFlags::POLLOUT, Meaning::Input);
            }
            let silence = PollTimeout::try_from(LONG_SILENCE).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, silence) {
                Ok(0) => self.process.check_supervisor()?,
                Err(Errno::EINTR) => continue,
                other => drop(other.map_err(failed())?),
            }
            let ready: Vec<Meaning> = fds
                .iter()
                .zip(meant)
                .filter(|(fd, _)| fd.revents().is_some_and(|r| !r.is_empty()))
                .map(|(_, m)| m)
                .collect();
            for meaning in ready {
                match meaning {
                    Meaning::Output(at) => self.show(at)?,
                    Meaning::Input => self.feed(&mut pending),
                    Meaning::Stdin => {
                        let mut buffer = [0; 16 << 10];
                        match read(&stdin, &mut buffer) {
                            Ok(0) => stdin_open = false,
                            Ok(n) => {
                                if typed.pass(&buffer[..n], &mut pending) {
                                    return Ok(End::Detached);
                                }
                                self.feed(&mut pending);
                            }
                            Err(Errno::EINTR | Errno::EAGAIN) => {}
                            Err(_) => stdin_open = false,
                        }
                        if !stdin_open && pending.is_empty() && !self.raw {
                            // Half-closed: the process reads its end of file and may go on writing.
                            self.input = None;
                        }
                    }
                    Meaning::Signals => {
                        if let Some(end) = self.signal(signals.as_ref()) {
                            return Ok(end);
                        }
                    }
                    Meaning::Socket => {
                        let end = match self.process.receive_end() {
                            Ok(code) => End::Exited(code),
                            Err(engine::Error::Refused { message, exit_code }) => {
                                End::Refused(message, exit_code)
                            }
                            Err(engine::Error::Ended(_)) => End::Lost,
                            // It was reset: not all that was sent has been read.
                            Err(engine::Error::Unreachable { source, .. })
                                if source.kind() == std::io::ErrorKind::ConnectionReset =>
                            {
                                End::Lost
                            }
                            Err(e) => return Err(e.into()),
                        };
                        self.show(0)?;
                        self.show(1)?;
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Writes what is there; a stream that has ended is closed.
    fn show(&mut self, at: usize) -> Result<(), Error> {
        let Some(output) = &self.outputs[at] else { return Ok(()) };
        let mut buffer = [0; 64 << 10];
        loop {
            match read(output, &mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
                    let ours = if at == 0 { stdout.as_fd() } else { stderr.as_fd() };
                    write_all(ours, &buffer[..n]).map_err(|e| io("cannot write output")(e.into()))?;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                // EIO: nobody has the terminal open any more.
                Err(_) => break,
            }
        }
        self.outputs[at] = None;
        Ok(())
    }

    fn feed(&mut self, pending: &mut Vec<u8>) {
        let Some(input) = &self.input else { return pending.clear() };
        match write(input, pending) {
            Ok(n) => drop(pending.drain(..n)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // It reads no more.
            Err(_) => {
                pending.clear();
                self.input = None;
            }
        }
    }

    fn signal(&self, signals: Option<&SignalFd>) -> Option<End> {
        while let Ok(Some(info)) = signals?.read_signal() {
            match info.ssi_signo as i32 {
                nix::libc::SIGWINCH => self.resize(),
                signal => return Some(End::Signal(signal)),
            }
        }
        None
    }

    fn resize(&self) {
        if let Some(input) = self.input.as_ref().filter(|_| self.raw) {
            raw_terminal::resize(input);
        }
    }
}

enum Meaning {
    Socket,
    Signals,
    Output(usize),
    Input,
    Stdin,
}

/// Signals that would leave the terminal raw.
fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Writes all of it, also to a terminal that somebody has made non-blocking.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                // Interrupted or not, the write is tried again.
                let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Looks for the detach keys in what is typed, across reads.
struct Typed<'a> {
    keys: &'a [u8],
    matched: usize,
}

impl Typed<'_> {
    /// Passes on what is not the detach keys; `true` when they are complete.
    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in bytes {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            // A beginning that came to nothing was meant for the process.
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            match self.keys.first() == Some(&byte) {
                true => self.matched = 1,
                false => out.push(byte),
            }
        }
        false
    }
}

/// `ctrl-p,ctrl-q`: keys with commas between them, each a character or `ctrl-` and one.
pub(super) fn detach_keys(text: &str) -> Result<Vec<u8>, String> {
    let key = |key: &str| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
        (Some(rest), _) => match rest.as_bytes() {
            [c @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(c & 0x1f),
            _ => None,
        },
        (None, [c]) => Some(*c),
        _ => None,
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|k| key(k).ok_or_else(|| format!("{k:?} is no key; write a character, or ctrl- and a letter")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_all_else_is_passed_on() {
        let keys = detach_keys("ctrl-p,ctrl-q").unwrap();
        assert_eq!(keys, [0x10, 0x11]);
        let mut typed = Typed { keys: &keys, matched: 0 };
        let mut out = Vec::new();
        assert!(!typed.pass(b"a\x10b\x10", &mut out));
        assert!(!typed.pass(b"\x10", &mut out));
        assert!(typed.pass(b"\x11z", &mut out));
        assert_eq!(out, b"a\x10b\x10");
        assert!(detach_keys("ctrl-1").is_err());
    }
}
