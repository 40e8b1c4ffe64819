//! One process a pod: it lives in the pod's namespaces, carries out the lifecycle's actions and
//! reports to it what happens. It decides nothing.
//!
//! Promises: single-threaded, one epoll; nothing it waits for can block it; when it dies, the
//! kernel ends everything of the pod with it, for it is PID 1 of the pod's PID namespace.
//! `engine/start` starts it, and `wire/` is how that and commands reach it.

mod actions;
mod attach;
mod clock;
mod container_usage;
mod create;
mod enter;
mod ephemeral_containers;
mod event_recorder;
mod eviction;
mod execs;
mod image_pulls;
mod leave;
mod lost_files;
mod mapped_mounts;
mod mounting;
mod network;
pub mod network_handlers;
mod output_pace;
pub mod pause;
mod pod_cgroup;
mod pod_update;
mod poll;
mod prepare;
mod refreshed_volumes;
mod requests;
mod starting_client;
mod timeline;
mod unwritten;
mod writable_layer;

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    jiff::Timestamp,
};
use nix::{
    errno::Errno,
    sys::{
        socket::{Shutdown, shutdown},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
};
use podctl_runtime::{Cgroup, Process, seccomp::Program, start_trace as steps};

use self::{
    attach::Attachment,
    execs::Exec,
    poll::{Poll, Source},
    prepare::prepare,
    requests::has_left,
    writable_layer::Layer,
};
use crate::{
    lifecycle::{self, Event, Exit, Now, Run},
    logs::{Log, Stream, pump_output},
    network::Member,
    pod::PodExt,
    process::{
        descriptors::{
            supervisor::{CLIENT, LOCK},
            take_descriptor,
        },
        detach_from_terminal,
    },
    sandbox::Sandbox,
    state::{Home, PodDir},
    wire::{self, Heard, Ready, Reply},
};

/// Names whose steps these are when a start is traced.
const TRACED: &str = "supervisor";

/// The time until news is told again for which the kernel had no memory.
const TELL_AGAIN: Duration = Duration::from_millis(100);

/// Something in the supervisor's own work failed; shown by the client that started the pod.
type Failure = Box<dyn std::error::Error>;

/// The container whose process runs.
struct Live {
    process: Process,
    cgroup: Option<Cgroup>,
    /// Gives it as it was created; an exec takes identity and filter from it.
    spec: oci_spec::runtime::Spec,
    /// The output streams, until they end.
    streams: HashMap<Stream, OwnedFd>,
    log: Log,
    layer: Layer,
    /// The streams are a terminal.
    terminal: bool,
    /// `stdin`, `stdinOnce`
    input_wanted: bool,
    input_once: bool,
    /// The writing end of its standard input, kept for those who attach.
    input: Option<OwnedFd>,
    /// The seccomp filter, which an exec has as well.
    filter: Option<Rc<Program>>,
}

struct Supervisor {
    poll: Poll,
    began: clock::Clock,
    home: Home,
    dir: PodDir,
    /// The place where the pod's writable layers and volumes are on disk.
    data: PathBuf,
    /// The place where its logs are.
    logs: PathBuf,
    pod: Pod,
    spec: lifecycle::Spec,
    state: lifecycle::State,
    sandbox: Sandbox,
    pulls: image_pulls::Pulls,
    quotas: eviction::Quotas,
    cgroups: Option<pod_cgroup::PodCgroup>,
    live: HashMap<Run, Live>,
    creation: create::Creation,
    execs: HashMap<i32, Exec>,
    entrants: enter::Entrants,
    /// Hooks that only wait, and until when.
    sleeps: Vec<(Duration, Run, lifecycle::Hook)>,
    connections: HashMap<u64, OwnedFd>,
    attachments: Vec<Attachment>,
    records: unwritten::Records,
    output: output_pace::Output,
    /// Holds what happened and has not been told to the lifecycle yet.
    pending: VecDeque<Event>,
    delete_requested: bool,
    /// Something beside the status has changed and is to be written.
    changed: bool,
    /// Layers of containers that have ended, to be removed when nothing waits for it.
    garbage: Vec<Layer>,
    client: starting_client::StartingClient,
    finished: bool,
    network: network::Membership,
    /// Volumes that could not be made yet.
    mounting: Option<mounting::Mounting>,
    /// The pod's lock; held for life.
    lock: OwnedFd,
    /// The lock on the ids of a pod with a user namespace of its own.
    _ids: Option<OwnedFd>,
}

/// The supervisor's life, from exec to the pod's end. Gives its exit code.
pub fn main() -> i32 {
    // SAFETY: this process was started by launch with these descriptors.
    let (lock, client) = unsafe { (take_descriptor(LOCK), take_descriptor(CLIENT)) };
    match prepare(lock, &client) {
        Ok((mut supervisor, warnings)) => {
            let answer = serde_json::to_vec(&Ready { warnings }).expect("plain data");
            // Whether the client has heard it or not, the pod lives.
            let _ = wire::write_words(&client, &answer);
            supervisor.keep_client(client);
            detach_from_terminal();
            supervisor.run();
            supervisor.leave();
            0
        }
        Err(failure) => {
            // A client that has gone needs no answer.
            let _ = wire::write_words(&client, failure.to_string().as_bytes());
            // A socket that closes with something unread would take the answer back.
            let _ = shutdown(client.as_raw_fd(), Shutdown::Read);
            while nix::unistd::read(&client, &mut [0; 16]).is_ok_and(|read| read > 0) {}
            1
        }
    }
}

impl Supervisor {
    fn now(&self) -> Now {
        Now { monotonic: self.began.elapsed_since(), wall: Timestamp::now() }
    }

    fn run(&mut self) {
        let now = self.now();
        let actions = lifecycle::begin(&self.spec, &mut self.state, now);
        self.act(actions);
        self.settle();
        while !self.finished {
            for layer in self.garbage.drain(..) {
                layer.remove();
            }
            let deadlines = [
                self.state.next_deadline(&self.spec),
                self.next_exec_deadline(),
                self.quotas.next(),
                self.next_mount(),
            ];
            let next = deadlines.into_iter().flatten().min();
            let rejoin = self.network.member.as_ref().and_then(Member::next);
            let wait = next.map(|at| at.saturating_sub(self.began.elapsed_since()));
            let untold = self.client.has_news.then_some(TELL_AGAIN);
            let wait = [wait, rejoin, self.next_retry(), untold].into_iter().flatten().min();
            let sources = self.poll.wait(wait);
            let only_output = !sources.is_empty() && sources.iter().all(|s| matches!(s, Source::Output(..)));
            if only_output {
                self.output.pace.keep();
            }
            sources.into_iter().for_each(|source| self.serve(source));
            self.rejoin_network();
            self.notice_lost_record();
            self.write_what_waits();
            if only_output && self.pending.is_empty() && next.is_none_or(|at| at > self.began.elapsed_since())
            {
                // The lifecycle has no interest in it, and a container that floods its log none in waiting.
                self.tell_client();
                continue;
            }
            self.end_late_execs();
            self.look_at_quotas();
            self.mount_again();
            self.pending.push_back(Event::Tick);
            self.settle();
        }
    }

    /// Tells the lifecycle all that has happened, does what it answers, and shows the new state.
    fn settle(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            let now = self.now();
            self.records.trace.event(&event);
            match &event {
                Event::AddEphemeralContainer(container) => {
                    self.spec.add_ephemeral(container);
                    self.pod.metadata.generation = self.pod.metadata.generation.map(|known| known + 1);
                }
                Event::Delete { .. } => self.hasten_starts(),
                _ => {}
            }
            let actions = lifecycle::step(&self.spec, &mut self.state, event, now);
            self.act(actions);
        }
        let mut status = self.state.status(&self.spec);
        self.mark_network(&mut status);
        status.observed_generation = self.pod.metadata.generation;
        if self.pod.status.as_ref() != Some(&status) || std::mem::take(&mut self.changed) {
            let was_ready = self.pod.is_ready();
            self.pod.status = Some(status);
            if let Some(network) = &mut self.network.member
                && self.pod.is_ready() != was_ready
            {
                network.tell_ready(!was_ready);
            }
            self.write_status();
            steps::mark(TRACED, "write the status");
            self.client.has_news = true;
        }
        self.tell_client();
    }

    fn serve(&mut self, source: Source) {
        match source {
            Source::Children => self.reap(),
            Source::Terminate => self.pending.push_back(Event::Delete { grace_period: None }),
            Source::Unreached => self.mend_socket(),
            Source::Puller => self.hear_puller(),
            Source::Network => self.hear_network(),
            Source::Client => self.client_gone(),
            Source::Listener => {
                if let Some((id, socket)) = self.poll.accept() {
                    self.connections.insert(id, socket);
                }
            }
            Source::Connection(id) => self.serve_connection(id),
            Source::Making(run) => self.look_at(&run),
            Source::Entering(number) => self.look_at_entrant(number),
            Source::Output(run, stream) => self.read_output(&run, stream),
        }
    }

    fn read_output(&mut self, run: &Run, stream: Stream) {
        let Some(live) = self.live.get_mut(run) else { return };
        let Some(fd) = live.streams.get(&stream) else { return };
        let attachments = &mut self.attachments;
        let mut slow = Vec::new();
        self.client.has_news = true;
        let copy = |bytes: &[u8]| slow.extend(attach::copy(attachments, &run.container, stream, bytes));
        let pumped = pump_output(fd, &mut live.log, stream, &mut self.output.buffer, copy);
        self.output.pace.note_pumped(fd, pumped.bytes);
        if pumped.ended {
            // What could not be written is kept, and tried again with the log.
            let _ = live.log.end(stream);
            self.poll.forget(&live.streams.remove(&stream).expect("looked up above"));
        }
        for id in slow {
            let message = "let go: it read too slowly; `podctl logs` has what is missing".to_owned();
            self.answer(id, &Reply::Refused { message, exit_code: 1 }, &[]);
        }
    }

    fn serve_connection(&mut self, id: u64) {
        let Some(socket) = self.connections.get(&id) else { return };
        match wire::receive_request(socket) {
            Ok(Some((Heard::Request(request), fds))) => {
                // Who has given up and left was told that it failed.
                if !has_left(socket) || request.outlives_client() {
                    self.serve_client(id, request, fds);
                }
            }
            Ok(Some((Heard::Foreign(version), _))) => self.refuse_version(id, version),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            other => {
                if other.is_err_and(|e| e.kind() == io::ErrorKind::InvalidData) {
                    let message = format!(
                        "the pod is kept by podctl {}, which does not know what was asked; it can be deleted, and started by the podctl that asks",
                        wire::VERSION
                    );
                    self.answer(id, &Reply::Refused { message, exit_code: 1 }, &[]);
                }
                if let Some(socket) = self.connections.remove(&id) {
                    self.poll.forget(&socket);
                }
                self.client_left(id);
            }
        }
    }

    /// Does as the API server marks an object that is being deleted; a second delete can only shorten.
    fn mark_deleted(&mut self, grace_period: Option<Duration>) {
        let own = self.pod.grace_period_seconds();
        let seconds = grace_period.map_or(own, |g| i64::try_from(g.as_secs()).unwrap_or(i64::MAX));
        let meta = &mut self.pod.metadata;
        if meta.deletion_grace_period_seconds.is_none_or(|known| seconds < known) {
            // A pod may want to be waited for longer than there are dates.
            let length = k8s_openapi::jiff::SignedDuration::from_secs(seconds.max(0));
            let by = Timestamp::now().saturating_add(length).unwrap_or(Timestamp::MAX);
            meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(by));
            meta.deletion_grace_period_seconds = Some(seconds);
            self.changed = true;
        }
    }

    /// Reaps every child that has ended: containers, execs, and orphans of either.
    fn reap(&mut self) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            let (pid, exit) = match waitid(Id::All, look) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                // No other signal tells of these children again.
                Err(Errno::EINTR) => continue,
                _ => return,
            };
            // What they have said is heard while their numbers are still theirs.
            self.making_ended(pid);
            self.look_at_entrants();
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            self.remove_given_up();
            if let Some(exec) = self.execs.remove(&pid.as_raw()) {
                self.exec_ended(exec, exit);
            } else if let Some(run) =
                self.live.iter().find(|(_, l)| l.process.pid == pid).map(|(r, _)| r.clone())
            {
                self.container_ended(run, exit);
            }
        }
    }

    fn container_ended(&mut self, run: Run, exit: Exit) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.read_output(&run, stream);
        }
        let Some(mut live) = self.live.remove(&run) else { return };
        self.end_execs_of(&run);
        self.attached_ended(&run.container, &Reply::Ended(exit.code()));
        for (stream, fd) in live.streams.drain() {
            // What could not be written is kept, and tried again with the log.
            let _ = live.log.end(stream);
            self.poll.forget(&fd);
        }
        let mut oom_killed = false;
        if let Some(cgroup) = live.cgroup {
            oom_killed = cgroup.oom_kills() > 0;
            // What cannot be killed or removed is with the pod's cgroup at its end.
            let _ = cgroup.kill();
            let _ = cgroup.remove();
        }
        let message = self.container(&run.container).map(|c| {
            event_recorder::termination_message(c, exit, live.layer.termination_log(), live.log.path())
        });
        self.garbage.push(live.layer);
        self.close_log(&run.container, live.log);
        self.pending.push_back(Event::Exited { run, exit, oom_killed, message: message.unwrap_or_default() });
    }

    fn container(&self, name: &str) -> Option<&Container> {
        self.spec.containers().find(|c| c.name == name)
    }
}
