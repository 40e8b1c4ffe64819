//! What commands ask of a pod and its containers: `delete`, `exec`, `debug`, `cp`, `port-forward`, `top` and their kin.
//!
//! Promises: only descriptors pass through here, never a command's bytes; what a client started
//! ends with its connection.

use std::{
    fs, io,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use k8s_openapi::api::core::v1::EphemeralContainer;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        socket::{
            AddressFamily, Shutdown, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, connect,
            shutdown, socket,
        },
    },
    unistd::Pid,
};
use podctl_runtime::Process;

use super::{
    Live, Supervisor,
    attach::Attachment,
    execs::{Exec, Purpose, in_child},
};
use crate::{
    archive,
    lifecycle::Event,
    pod::ContainerName,
    wire::{self, Reply, Request, Usage},
};

/// The reason why a request is refused, and the exit code that says so.
type Refusal = (String, i32);

impl Supervisor {
    /// Carries out what a client asks.
    pub(super) fn serve_client(&mut self, id: u64, request: Request, fds: Vec<OwnedFd>) {
        let done = match request {
            Request::Delete { grace_period } => {
                self.delete_requested = true;
                self.mark_deleted(grace_period);
                self.pending.push_back(Event::Delete { grace_period });
                // Who kills what does not hear (--force) waits for this.
                self.answer(id, &Reply::Started, &[]);
                Ok(())
            }
            Request::Stop { grace_period } => {
                self.pending.push_back(Event::Delete { grace_period });
                self.answer(id, &Reply::Started, &[]);
                Ok(())
            }
            Request::Restart => {
                self.pending.push_back(Event::Restart);
                self.answer(id, &Reply::Started, &[]);
                Ok(())
            }
            Request::Refresh => {
                self.refresh(fds);
                Ok(())
            }
            Request::Update { part } => {
                self.update_pod(part, fds).map(|()| self.answer(id, &Reply::Started, &[]))
            }
            Request::Exec { container, command, terminal, size } => {
                self.exec_for_client(id, &container, command, (terminal, size), fds)
            }
            Request::Attach { container, input } => self.attach(id, container, input),
            Request::Debug { container, attach } => self.start_debug(id, container, attach),
            Request::CopyOut { container, path } => {
                self.copy(id, &container, fds, move |pipe, warn| archive::pack_tree(&path, pipe, warn))
            }
            Request::CopyIn { container, into } => {
                let owner = self.running(&container).map(find_owner).unwrap_or_default();
                self.copy(id, &container, fds, move |pipe, warn| {
                    archive::unpack(&into, Some(owner), pipe, warn)
                })
            }
            Request::Dial { port, v6 } => self.dial(id, port, v6),
            Request::Usage => {
                self.answer(id, &Reply::Usage(self.usage()), &[]);
                Ok(())
            }
            Request::Ping => {
                self.answer(id, &Reply::Started, &[]);
                Ok(())
            }
            Request::Network => {
                let user = fs::File::open("/proc/self/ns/user").map(OwnedFd::from);
                match (&self.network.member, &user) {
                    (Some(network), Ok(user)) => {
                        self.answer(id, &Reply::Started, &[user.as_fd(), network.namespace.as_fd()]);
                        Ok(())
                    }
                    _ => Err(("the pod is not on a network".into(), 1)),
                }
            }
        };
        if let Err((message, exit_code)) = done {
            self.answer(id, &Reply::Refused { message, exit_code }, &[]);
        }
    }

    /// Refuses what a command of another version asks.
    pub(super) fn refuse_version(&mut self, id: u64, version: u32) {
        let (pod, own) = (&self.dir.name, wire::PROTOCOL);
        let message = format!(
            "pod {pod:?} was started by another version of podctl (it speaks version {own}, this command version {version}); use that one, or `podctl delete pod {pod}` and run it again"
        );
        self.answer(id, &Reply::Refused { message, exit_code: 1 }, &[]);
    }

    /// The client hears of the end of this process, and takes it with it when it leaves.
    fn watch_for_client(&mut self, id: u64, process: Process) {
        let pid = process.pid.as_raw();
        let purpose = Purpose::Client(id);
        self.execs.insert(
            pid,
            Exec { process, purpose, deadline: None, timed_out: false, output: None, handler: false },
        );
    }

    /// A client that leaves takes its command with it, as a closed terminal would.
    pub(super) fn client_left(&mut self, id: u64) {
        self.end_entrants(|purpose| matches!(purpose, Purpose::Client(of) if *of == id));
        for exec in self.execs.values() {
            if matches!(exec.purpose, Purpose::Client(of) if of == id) {
                // Its whole group: the number cannot be another's before its leader has been reaped.
                if kill(Pid::from_raw(-exec.process.pid.as_raw()), Signal::SIGHUP).is_err() {
                    // One that has ended needs no signal.
                    let _ = exec.process.signal(libc::SIGHUP);
                }
            }
        }
        self.attachments.retain(|a| a.connection != id);
    }

    /// R-EPH-1.
    fn start_debug(
        &mut self,
        id: u64,
        container: Box<EphemeralContainer>,
        attach: bool,
    ) -> Result<(), Refusal> {
        let refused = |message: String| (message, 1);
        ContainerName::parse(&container.name).map_err(|e| refused(e.to_string()))?;
        if self.container(&container.name).is_some() {
            return Err(refused(format!("container {:?} exists already in the pod", container.name)));
        }
        if let Some(target) = container.target_container_name.as_deref().filter(|t| !t.is_empty())
            && self.running(target).is_none()
        {
            return Err(refused(format!("cannot target: {}", self.why_not_running(target))));
        }
        let spec = self.pod.spec.get_or_insert_default();
        spec.ephemeral_containers.get_or_insert_default().push((*container).clone());
        // Who hears the answer finds the container in the pod.
        self.write_status();
        self.answer(id, &Reply::Started, &[]);
        if attach {
            let (name, input) = (container.name.clone(), container.stdin == Some(true));
            self.attachments.push(Attachment::new(id, name, input));
        }
        self.pending.push_back(Event::AddEphemeralContainer(container));
        Ok(())
    }

    /// Runs a copy in a child of its own, in the container's mount namespace.
    fn copy(
        &mut self,
        id: u64,
        container: &str,
        fds: Vec<OwnedFd>,
        task: impl FnOnce(fs::File, &mut fs::File) -> Result<(), archive::Error>,
    ) -> Result<(), Refusal> {
        let live = self.running(container).ok_or_else(|| (self.why_not_running(container), 1))?;
        let Ok([pipe, errors]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(("the pipe to copy through is missing".into(), 1));
        };
        let target = live.process.pidfd.as_fd();
        let copied = in_child(&errors, &[target, pipe.as_fd()], || {
            enter_mounts(target).map_err(|e| match e.raw_os_error() {
                Some(libc::ESRCH) => "error: the container has ended\n".to_owned(),
                _ => format!("error: cannot enter the container's mounts: {e}\n"),
            })?;
            let file = |fd: &OwnedFd| fd.try_clone().map(fs::File::from).map_err(|e| format!("error: {e}\n"));
            task(file(&pipe)?, &mut file(&errors)?).map(|()| None).map_err(|e| match e {
                // Who reads has left, and says why.
                archive::Error::Sink(e) if e.kind() == io::ErrorKind::BrokenPipe => String::new(),
                e => format!("{}\n", e.in_words_of_tar()),
            })
        });
        self.watch_for_client(id, copied.map_err(|message| (message, 1))?);
        self.answer(id, &Reply::Started, &[]);
        Ok(())
    }

    /// Connects from inside the pod's network namespace, which is the supervisor's own. Whether it
    /// is taken, the client will see.
    fn dial(&mut self, id: u64, port: u16, v6: bool) -> Result<(), Refusal> {
        let connection = match v6 {
            false => dial(AddressFamily::Inet, &SockaddrIn::new(127, 0, 0, 1, port)),
            true => {
                let address = SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0);
                dial(AddressFamily::Inet6, &SockaddrIn6::from(address))
            }
        };
        let connection = connection.map_err(|e| (e.desc().to_lowercase(), 1))?;
        self.answer(id, &Reply::Started, &[connection.as_fd()]);
        Ok(())
    }

    fn usage(&self) -> Vec<Usage> {
        let mut all: Vec<Usage> = self
            .live
            .iter()
            .map(|(run, live)| {
                super::container_usage::of(&run.container, &live.process, live.cgroup.as_ref())
            })
            .collect();
        all.sort_by(|a, b| a.container.cmp(&b.container));
        all
    }

    pub(super) fn running(&self, container: &str) -> Option<&Live> {
        self.live.iter().find(|(run, _)| run.container == container).map(|(_, live)| live)
    }

    /// Tells why nothing can be done in that container.
    pub(super) fn why_not_running(&self, container: &str) -> String {
        match self.container(container) {
            Some(_) => format!("container {container:?} is not running; `podctl get` shows its state"),
            None => {
                let names: Vec<_> = self.spec.containers().map(|c| c.name.as_str()).collect();
                let (pod, names) = (&self.dir.name, names.join(", "));
                format!("container {container} is not valid for pod {pod} out of: {names}")
            }
        }
    }

    pub(super) fn answer(&self, id: u64, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        if let Some(socket) = self.connections.get(&id) {
            let sent = wire::send(socket, reply, fds);
            if sent.is_err() {
                // It asks and does not read its answers, or there is no memory for one: it hears of the end instead of
                // waiting. One that has left needs none.
                let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
            }
        }
    }
}

/// Tells whether the other side has closed the connection.
pub(super) fn has_left(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Whom a container's new files belong to: who runs in it.
fn find_owner(live: &Live) -> (u32, u32) {
    live.spec.process().as_ref().map(|p| (p.user().uid(), p.user().gid())).unwrap_or_default()
}

/// Never waits: a full backlog is for the client to wait for.
fn dial(family: AddressFamily, address: &impl SockaddrLike) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    match connect(fd.as_raw_fd(), address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(e) => Err(e),
    }
}

/// The child's own view becomes the container's: its mounts, its root as `/`.
fn enter_mounts(target: BorrowedFd<'_>) -> io::Result<()> {
    nix::sched::setns(target, nix::sched::CloneFlags::CLONE_NEWNS)?;
    std::env::set_current_dir("/")
}
