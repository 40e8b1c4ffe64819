//! Bytes between two connections, through a pipe where they are many: these never come into this process's memory.

use std::{
    io::{self, ErrorKind},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::socket::{Shutdown, shutdown},
    unistd::pipe2,
};
use tokio::{io::Interest, net::TcpStream};

/// Names what is read at once at first; a reader who fills it has more to come. Most exchanges never do,
/// and need no pipe.
const BUFFER: usize = 16 << 10;
/// Names what a pipe holds.
const PIPE: usize = 256 << 10;

/// Carries both directions to their ends; each is closed by itself.
///
/// # Errors
/// The first of either connection's.
pub async fn splice_both(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    tokio::try_join!(copy(one, other), copy(other, one)).map(drop)
}

async fn copy(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        from.readable().await?;
        buffer.resize(BUFFER, 0);
        let read = match from.try_read(&mut buffer) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
            read => read?,
        };
        if read == 0 {
            return end(to);
        }
        let mut written = 0;
        while written < read {
            to.writable().await?;
            match to.try_write(&buffer[written..read]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                more => written += more?,
            }
        }
        if read == BUFFER
            && let Ok(pipe) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        {
            drop(buffer);
            return splice_stream(from, to, pipe).await;
        }
    }
}

/// The pipe is empty whenever more is read: that there is nothing to move can only be the sender's doing.
async fn splice_stream(from: &TcpStream, to: &TcpStream, (out, into): (OwnedFd, OwnedFd)) -> io::Result<()> {
    // The usual size does as well.
    let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(PIPE as i32));
    loop {
        let mut left = from.async_io(Interest::READABLE, || splice(from, &into, PIPE)).await?;
        if left == 0 {
            return end(to);
        }
        while left > 0 {
            left -= to.async_io(Interest::WRITABLE, || splice(&out, to, left)).await?;
        }
    }
}

fn end(to: &TcpStream) -> io::Result<()> {
    Ok(shutdown(to.as_raw_fd(), Shutdown::Write)?)
}

fn splice(from: &impl AsRawFd, to: &impl AsRawFd, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are open as long as they are borrowed, and no offset is passed.
    let moved = unsafe { libc::splice(from.as_raw_fd(), none, to.as_raw_fd(), none, most, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}
