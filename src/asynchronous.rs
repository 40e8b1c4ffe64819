//! Pods in asynchronous programs, with the feature `tokio`.
//!
//! Promises: no call blocks a thread of the runtime, and none starts a runtime of its own. What ends by itself when its
//! descriptor is readable is polled ([`LogStream`], [`PodStream`], [`AsyncSession`]); what takes several steps runs on a
//! thread for blocking calls ([`run_blocking`]).
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use podctl::{Engine, LogOptions, Options, asynchronous::run_blocking};
//!
//! # async fn example(yaml: String) -> Result<(), podctl::Error> {
//! let engine = Engine::of_user()?;
//! let pod = run_blocking(move || engine.run_yaml("default", &yaml, &Options::default())).await?.remove(0);
//! pod.wait_ready_async(None).await?;
//! let mut logs = pod.stream_logs(&LogOptions { follow: true, ..LogOptions::default() })?;
//! while let Some(entry) = logs.next().await {
//!     println!("{}", String::from_utf8_lossy(&entry.text));
//! }
//! # Ok(()) }
//! ```

use std::{
    collections::VecDeque,
    fs::File,
    future::Future,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd},
    net::TcpStream,
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    Engine, Entry, Error, ExecCommand, LogOptions, Logs, PodGuard, PodHandle, Session, Watch, engine::Quiet,
    testing::TestPod,
};

/// The number of times a pod is looked at whose supervisor may have been killed: that changes no file.
const LOOK: Duration = Duration::from_millis(500);

fn io_error(step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { step, source }
}

/// Runs what blocks on a thread that is there for that, and waits for it without blocking.
///
/// # Errors
/// Those of the call.
///
/// # Panics
/// When the call does.
pub async fn run_blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(call).await {
        Ok(outcome) => outcome,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        // The runtime ends, and nobody waits any more.
        Err(_) => Err(io_error("finish a call")(io::Error::other("the runtime has ended"))),
    }
}

/// The pod's log entries as they are written.
#[derive(Debug)]
pub struct LogStream {
    logs: Logs,
    ready: VecDeque<Entry>,
    /// None where the logs do not grow.
    changes: Option<AsyncFd<OwnedFd>>,
    looks: Interval,
    attention: Attention,
    failure: Option<Error>,
}

/// The pod as it changes: as it is now first, and then whenever something about it may have changed, until it has ended.
#[derive(Debug)]
pub struct PodStream {
    pod: PodHandle,
    watch: Watch,
    changes: AsyncFd<OwnedFd>,
    looks: Interval,
    attention: Attention,
    is_first: bool,
    is_over: bool,
}

/// Asks a pod's supervisor whether it answers, while nothing comes of the pod; on a thread for blocking calls.
#[derive(Debug)]
struct Attention {
    pod: PodHandle,
    quiet: Quiet,
    asked: Option<JoinHandle<Result<(), Error>>>,
}

impl Attention {
    fn new(pod: &PodHandle) -> Attention {
        Attention { pod: pod.clone(), quiet: Quiet::begin(), asked: None }
    }

    /// Notes that something has come.
    fn rest(&mut self) {
        self.quiet = Quiet::begin();
    }

    /// Ready with why, when it does not answer. To be called with each look.
    fn poll_failure(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if self.asked.is_none() && self.quiet.has_lasted() {
            let pod = self.pod.clone();
            self.asked = Some(tokio::task::spawn_blocking(move || pod.check_supervisor()));
        }
        let Some(asked) = &mut self.asked else { return Poll::Pending };
        let answer = ready!(Pin::new(asked).poll(context));
        self.asked = None;
        match answer {
            Ok(Err(failure)) => Poll::Ready(failure),
            // Where the runtime ends nobody waits any more.
            _ => Poll::Pending,
        }
    }
}

impl LogStream {
    /// Takes the reason why the entries ended before the pod has: [`Error::Unreachable`], where its supervisor hangs.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }
}

/// Has the runtime say when a descriptor can be read or written.
fn register_descriptor<T: AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: an OwnedFd and a File, of which there are no others here, are the same descriptor for as long as they live.
    Ok(unsafe { AsyncFd::register(owner) }?)
}

fn start_looking() -> Interval {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

impl Stream for LogStream {
    type Item = Entry;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Entry>> {
        let this = self.get_mut();
        loop {
            if let Some(entry) = this.ready.pop_front() {
                return Poll::Ready(Some(entry));
            }
            // Registered before the log is read: no change is missed.
            let changed = this.changes.as_ref().map(|fd| fd.poll_read_ready(context));
            match this.logs.next_within(Duration::ZERO) {
                None => return Poll::Ready(None),
                Some(entries) if !entries.is_empty() => {
                    this.ready.extend(entries);
                    this.attention.rest();
                    continue;
                }
                Some(_) => {}
            }
            if let Some(Poll::Ready(Ok(mut guard))) = changed {
                // What it told is read by now.
                guard.clear_ready();
                continue;
            }
            if let Poll::Ready(failure) = this.attention.poll_failure(context) {
                this.failure = Some(failure);
                return Poll::Ready(None);
            }
            ready!(this.looks.poll_tick(context));
        }
    }
}

impl Stream for PodStream {
    type Item = Result<Pod, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Pod, Error>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let changed = this.changes.poll_read_ready(context);
        let looked = this.looks.poll_tick(context);
        if let Poll::Ready(Ok(mut guard)) = changed {
            this.watch.wait(Some(Duration::ZERO));
            guard.clear_ready();
            this.attention.rest();
        } else if let Poll::Ready(failure) = this.attention.poll_failure(context) {
            this.is_over = true;
            return Poll::Ready(Some(Err(failure)));
        } else if looked.is_pending() && !this.is_first {
            return Poll::Pending;
        }
        this.is_first = false;
        // Asked before the pod is read: nothing changes after the end.
        let is_alive = this.pod.is_alive();
        let pod = this.pod.pod();
        this.is_over = !is_alive || pod.is_err();
        Poll::Ready(Some(pod))
    }
}

/// The process in a container, with streams that are read and written without blocking.
#[derive(Debug)]
pub struct AsyncSession {
    /// Holds what it reads; the terminal, if it has one. Dropped, it is the end of its input.
    pub stdin: Option<AsyncPipe>,
    /// Holds what it writes; the terminal, if it has one.
    pub stdout: Option<AsyncPipe>,
    /// Holds what it complains to.
    pub stderr: Option<AsyncPipe>,
    session: Session,
    end: AsyncFd<OwnedFd>,
}

/// The pipe or the terminal.
#[derive(Debug)]
pub struct AsyncPipe(AsyncFd<File>);

impl AsyncPipe {
    fn open(fd: Option<OwnedFd>) -> Result<Option<AsyncPipe>, Error> {
        fd.map(|fd| register_descriptor(File::from(fd)).map(AsyncPipe))
            .transpose()
            .map_err(io_error("poll a stream"))
    }
}

impl AsyncRead for AsyncPipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|fd| fd.get_ref().read(unfilled)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // Nobody has the other side of the terminal open any more.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for AsyncPipe {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|fd| fd.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncSession {
    fn open(mut session: Session) -> Result<AsyncSession, Error> {
        let clone = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
        // The terminal's size is set through the session's own descriptor.
        let stdout = if session.terminal { clone(&session.stdout) } else { Ok(session.stdout.take()) };
        let end = session.process.as_fd().try_clone_to_owned().map_err(io_error("use a connection"))?;
        Ok(AsyncSession {
            stdin: AsyncPipe::open(session.stdin.take())?,
            stdout: AsyncPipe::open(stdout.map_err(io_error("use the terminal"))?)?,
            stderr: AsyncPipe::open(session.stderr.take())?,
            session,
            end: register_descriptor(end).map_err(io_error("poll a connection"))?,
        })
    }

    /// Gives the terminal that many rows and columns; without one it does nothing.
    pub fn resize_terminal(&self, rows: u16, columns: u16) {
        self.session.resize_terminal(rows, columns);
    }

    /// Waits for the process's end; gives its exit code, 128 + n when signal n ended it.
    ///
    /// # Errors
    /// As [`Exec::wait`](crate::Exec::wait).
    pub async fn wait(self) -> Result<i32, Error> {
        // What its guard says is only that there is something to read.
        let _ = self.end.readable().await.map_err(io_error("poll a connection"))?;
        self.session.process.wait()
    }
}

impl PodHandle {
    /// Returns what the containers wrote, and with [`LogOptions::follow`] go on to write.
    ///
    /// # Errors
    /// As [`PodHandle::logs`].
    pub fn stream_logs(&self, options: &LogOptions) -> Result<LogStream, Error> {
        let logs = self.logs(options)?;
        let own =
            logs.fd().map(|fd| fd.try_clone_to_owned()).transpose().map_err(io_error("follow a log"))?;
        let changes = own.map(register_descriptor).transpose().map_err(io_error("poll a log"))?;
        let attention = Attention::new(self);
        Ok(LogStream {
            logs,
            ready: VecDeque::new(),
            changes,
            looks: start_looking(),
            attention,
            failure: None,
        })
    }

    /// The pod as it changes, until it has ended.
    ///
    /// # Errors
    /// As [`PodHandle::watch`].
    pub fn stream_changes(&self) -> Result<PodStream, Error> {
        let watch = self.watch()?;
        let own = watch.as_fd().try_clone_to_owned().map_err(io_error("poll a pod"))?;
        let changes = register_descriptor(own).map_err(io_error("poll a pod"))?;
        Ok(PodStream {
            pod: self.clone(),
            watch,
            changes,
            looks: start_looking(),
            attention: Attention::new(self),
            is_first: true,
            is_over: false,
        })
    }

    /// Starts a command, whose streams are then asynchronous.
    ///
    /// # Errors
    /// As [`PodHandle::open_exec`].
    pub fn exec_async(
        &self,
        command: ExecCommand,
    ) -> impl Future<Output = Result<AsyncSession, Error>> + use<> {
        let pod = self.clone();
        async move { AsyncSession::open(run_blocking(move || pod.open_exec(command)).await?) }
    }

    /// Shares in the streams of a container's first process, asynchronously.
    ///
    /// # Errors
    /// As [`PodHandle::attach`].
    pub fn attach_async(
        &self,
        container: Option<&str>,
        input: bool,
    ) -> impl Future<Output = Result<AsyncSession, Error>> + use<> {
        let (pod, container) = (self.clone(), container.map(str::to_owned));
        async move { AsyncSession::open(run_blocking(move || pod.attach(container.as_deref(), input)).await?) }
    }

    /// Connects to a TCP port of the pod from inside of it.
    ///
    /// # Errors
    /// As [`PodHandle::dial`].
    pub fn dial_async(&self, port: u16) -> impl Future<Output = Result<TcpStream, Error>> + use<> {
        let pod = self.clone();
        async move {
            let stream = run_blocking(move || pod.dial(port)).await?;
            stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream))
                .map_err(io_error("use a connection"))
        }
    }

    /// Waits until the pod is ready.
    ///
    /// # Errors
    /// As [`PodHandle::wait_ready`].
    pub fn wait_ready_async(
        &self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Pod, Error>> + use<> {
        let pod = self.clone();
        run_blocking(move || pod.wait_ready(timeout))
    }

    /// Waits for the pod's end.
    ///
    /// # Errors
    /// As [`PodHandle::wait`].
    pub fn wait_async(&self) -> impl Future<Output = Result<Pod, Error>> + use<> {
        let pod = self.clone();
        run_blocking(move || pod.wait())
    }

    /// Ends the pod, and forgets it.
    ///
    /// # Errors
    /// As [`PodHandle::delete`].
    pub fn delete_async(
        &self,
        grace_period: Option<Duration>,
    ) -> impl Future<Output = Result<(), Error>> + use<> {
        let pod = self.clone();
        run_blocking(move || pod.delete(grace_period))
    }
}

impl TestPod {
    /// Starts it, and waits until it can be used.
    ///
    /// # Errors
    /// As [`TestPod::start_in`].
    pub fn start_in_async(self, engine: &Engine) -> impl Future<Output = Result<PodGuard, Error>> + use<> {
        let engine = engine.clone();
        run_blocking(move || self.start_in(&engine))
    }
}
