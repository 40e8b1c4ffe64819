//! Further processes in a container: commands of clients (`exec`), hooks and probes.

use std::{
    fs,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ExecAction, LifecycleHandler};
use nix::unistd::{ForkResult, fork, pipe2};
use podctl_runtime::{Process, Stdio, close_other_descriptors, make_files_as_self};

use super::{
    Supervisor,
    create::nonblocking,
    enter::{Entrant, Wanted},
    network_handlers::{Check, check},
};
use crate::{
    lifecycle::{Event, Exit, Hook, Probe, Run},
    pod::ProbeExt,
    wire::Reply,
};

/// Tells how much of a failed command's output is kept for its message.
const LONGEST_OUTPUT: u64 = 1 << 10;

/// The running process beside a container's first one.
pub(super) struct Exec {
    pub(super) process: Process,
    pub(super) purpose: Purpose,
    /// Counts on the supervisor's clock; SIGKILL when it has passed.
    pub(super) deadline: Option<Duration>,
    pub(super) timed_out: bool,
    pub(super) output: Option<OwnedFd>,
    /// Tells that it speaks for the supervisor: what it says at a success is a warning.
    pub(super) handler: bool,
}

pub(super) enum Purpose {
    Client(u64),
    Hook(Run, Hook),
    Probe(Run, Probe),
    /// Looks at what the pod takes of the disk.
    Look,
}

impl Purpose {
    /// The run that a hook or probe is of.
    pub(super) fn run(&self) -> Option<&Run> {
        match self {
            Purpose::Hook(run, _) | Purpose::Probe(run, _) => Some(run),
            Purpose::Client(_) | Purpose::Look => None,
        }
    }
}

/// Names what a hook or a probe wants done.
enum Task {
    Exec(ExecAction),
    Check(Check),
}

impl Supervisor {
    /// Starts a client's command in a container (R-EPH-3); the error has the exit code that says so. The bytes flow
    /// between the command and its client, not through here.
    pub(super) fn exec_for_client(
        &mut self,
        id: u64,
        container: &str,
        command: Vec<String>,
        (terminal, size): (bool, Option<(u16, u16)>),
        fds: Vec<OwnedFd>,
    ) -> Result<(), (String, i32)> {
        let run = self.live.keys().find(|run| run.container == container).cloned();
        let run = run.ok_or_else(|| (self.why_not_running(container), 1))?;
        let stdio = match (terminal, <[OwnedFd; 3]>::try_from(fds)) {
            (true, _) => Stdio::Terminal,
            (false, Ok([stdin, stdout, stderr])) => Stdio::Streams { stdin, stdout, stderr },
            (false, Err(_)) => return Err(("standard input, output and error are missing".into(), 1)),
        };
        let purpose = Purpose::Client(id);
        self.enter(&run, Wanted { command, stdio, size, purpose, timeout: None, output: None })
    }

    pub(super) fn run_hook(&mut self, run: Run, hook: Hook, timeout: Option<Duration>) {
        let found = self.container(&run.container).and_then(|c| c.lifecycle.as_ref());
        let handler = found.and_then(|l| match hook {
            Hook::PostStart => l.post_start.clone(),
            Hook::PreStop => l.pre_stop.clone(),
        });
        if let Some(sleep) = handler.as_ref().and_then(|h| h.sleep.as_ref()) {
            let until = self.began.elapsed_since() + Duration::from_secs(sleep.seconds.max(0) as u64);
            return self.sleeps.push((until, run, hook));
        }
        let task = handler.and_then(hook_task);
        let purpose = Purpose::Hook(run.clone(), hook);
        if let Err(message) = self.run_task(&run, task, timeout, purpose) {
            self.pending.push_back(Event::HookEnded { run, hook, result: Err(message) });
        }
    }

    pub(super) fn run_probe(&mut self, run: Run, probe: Probe) {
        let spec = self.container(&run.container).and_then(|c| match probe {
            Probe::Startup => c.startup_probe.clone(),
            Probe::Liveness => c.liveness_probe.clone(),
            Probe::Readiness => c.readiness_probe.clone(),
        });
        let timeout = spec.as_ref().map(ProbeExt::timeout);
        let task = spec.and_then(|p| {
            p.exec
                .map(Task::Exec)
                .or(p.http_get.map(|h| Task::Check(Check::HttpGet(h))))
                .or(p.tcp_socket.map(|t| Task::Check(Check::TcpSocket(t))))
                .or(p.grpc.map(|g| Task::Check(Check::Grpc(g))))
        });
        let purpose = Purpose::Probe(run.clone(), probe);
        if let Err(message) = self.run_task(&run, task, timeout, purpose) {
            self.pending.push_back(Event::ProbeEnded { run, probe, result: Err(message) });
        }
    }

    fn run_task(
        &mut self,
        run: &Run,
        task: Option<Task>,
        timeout: Option<Duration>,
        purpose: Purpose,
    ) -> Result<(), String> {
        let (ours, theirs) = result_pipe()?;
        let task = task.ok_or("there is no handler")?;
        let wanted = match task {
            Task::Exec(action) => {
                let command = action.command.unwrap_or_default();
                let stdin = fs::File::open("/dev/null").map_err(|e| e.to_string())?.into();
                let stderr = theirs.try_clone().map_err(|e| e.to_string())?;
                let stdio = Stdio::Streams { stdin, stdout: theirs, stderr };
                let wanted = Wanted { command, stdio, size: None, purpose, timeout, output: Some(ours) };
                return self.enter(run, wanted).map_err(|(message, _)| message);
            }
            Task::Check(wanted) => wanted,
        };
        let container = self.container(&run.container);
        let ports = container.and_then(|c| c.ports.clone()).unwrap_or_default();
        let ip = self.sandbox.facts.pod_ips.first().cloned().unwrap_or_else(|| "127.0.0.1".into());
        let limit = timeout.unwrap_or(Duration::from_secs(3600));
        let process = in_child(&theirs, &[], move || check(&wanted, &ip, &ports, limit))?;
        // A check keeps the time itself and says what it waited for; it is ended only when it hangs.
        let deadline = timeout.map(|t| self.began.elapsed_since() + t + Duration::from_secs(2));
        let exec = Exec { process, purpose, deadline, timed_out: false, output: Some(ours), handler: true };
        self.execs.insert(exec.process.pid.as_raw(), exec);
        Ok(())
    }

    /// Tells when the next exec, hook or probe has to be ended.
    pub(super) fn next_exec_deadline(&self) -> Option<Duration> {
        let execs = self.execs.values().filter(|e| !e.timed_out).filter_map(|e| e.deadline);
        let entering = self.entrants.all.values().map(Entrant::next_deadline);
        execs
            .chain(entering)
            .chain(self.next_start_deadline())
            .chain(self.sleeps.iter().map(|(until, ..)| *until))
            .min()
    }

    /// Ends what has run out of its time.
    pub(super) fn end_late_execs(&mut self) {
        let now = self.began.elapsed_since();
        for exec in self.execs.values_mut().filter(|e| !e.timed_out && e.deadline.is_some_and(|d| d <= now)) {
            exec.timed_out = true;
            kill_tree(&exec.process);
        }
        self.end_late_entrants(now);
        self.end_late_starts(now);
        for (_, run, hook) in self.sleeps.extract_if(.., |(until, ..)| *until <= now) {
            self.pending.push_back(Event::HookEnded { run, hook, result: Ok(()) });
        }
    }

    /// A hook or probe does not outlive its container.
    pub(super) fn end_execs_of(&mut self, ended: &Run) {
        self.sleeps.retain(|(_, run, _)| run != ended);
        self.end_entrants(|purpose| purpose.run() == Some(ended));
        for exec in self.execs.values_mut() {
            if exec.purpose.run() == Some(ended) {
                exec.timed_out = true;
                // One that has ended needs no signal.
                let _ = exec.process.signal(libc::SIGKILL);
            }
        }
    }

    pub(super) fn exec_ended(&mut self, exec: Exec, exit: Exit) {
        let code = exit.code();
        let words = exec.output.map(output).unwrap_or_default();
        let result = match (exec.timed_out, code) {
            (true, _) => Err("command timed out".to_owned()),
            (false, 0) => Ok(()),
            (false, code) if words.trim().is_empty() => Err(format!("command exited with {code}")),
            (false, _) => Err(words.trim().to_owned()),
        };
        match exec.purpose {
            Purpose::Client(id) => self.answer(id, &Reply::Ended(code), &[]),
            Purpose::Hook(run, hook) => self.pending.push_back(Event::HookEnded { run, hook, result }),
            Purpose::Probe(run, probe) => {
                if exec.handler && result.is_ok() && !words.is_empty() {
                    let run = run.clone();
                    self.pending.push_back(Event::ProbeWarned { run, probe, message: words });
                }
                self.pending.push_back(Event::ProbeEnded { run, probe, result });
            }
            Purpose::Look => {
                let broken = result.err().filter(|_| code == 1);
                self.quotas.note_look(self.began.elapsed_since(), broken.is_some());
                self.pending.extend(broken.map(|message| Event::Evict { message }));
            }
        }
    }
}

/// Through which a child says what has failed; our end never blocks.
pub(super) fn result_pipe() -> Result<(OwnedFd, OwnedFd), String> {
    let failed = |e| format!("cannot make a pipe: {e}");
    let (ours, theirs) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(failed)?;
    nonblocking(&ours).map_err(failed)?;
    Ok((ours, theirs))
}

fn hook_task(handler: LifecycleHandler) -> Option<Task> {
    handler
        .exec
        .map(Task::Exec)
        .or(handler.http_get.map(|h| Task::Check(Check::HttpGet(h))))
        .or(handler.tcp_socket.map(|t| Task::Check(Check::TcpSocket(t))))
}

/// Ends a command and all that it has started. Every process is stopped before its children are looked
/// for, so none can get away; the pod's own proc says who they are.
fn kill_tree(process: &Process) {
    let mut tree = vec![process.pid];
    let mut at = 0;
    while let Some(pid) = tree.get(at).copied() {
        // One that has ended has no children either.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP);
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        tree.extend(
            children.split_whitespace().filter_map(|c| c.parse().ok()).map(nix::unistd::Pid::from_raw),
        );
        at += 1;
    }
    // Stopped and not reaped: nobody else can have got their numbers.
    for pid in tree.into_iter().skip(1) {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    // One that has ended needs no signal.
    let _ = process.signal(libc::SIGKILL);
}

/// Runs a blocking task in a child of its own, which has nothing open but `result`, through which its failure comes, or
/// what is to be known of its success, and what it is to `keep`.
pub(super) fn in_child(
    result: &OwnedFd,
    keep: &[BorrowedFd<'_>],
    task: impl FnOnce() -> Result<Option<String>, String>,
) -> Result<Process, String> {
    // SAFETY: the supervisor has one thread, so the child may do everything that it could do.
    match unsafe { fork() }.map_err(|e| format!("cannot start a process: {e}"))? {
        ForkResult::Child => {
            let kept: Vec<_> = keep.iter().copied().chain([result.as_fd()]).collect();
            close_other_descriptors(&kept);
            make_files_as_self();
            let (message, code) = match task() {
                Ok(warning) => (warning.unwrap_or_default(), 0),
                Err(message) => (message, 1),
            };
            // Nobody reads it when the supervisor has ended.
            let _ = nix::unistd::write(result, message.as_bytes());
            // SAFETY: ends the child at once, without running what the parent registered for its exit.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => Process::of_child(child).map_err(|e| e.to_string()),
    }
}

fn output(pipe: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // EAGAIN ends it as well: a grandchild may still hold the other end.
    let _ = fs::File::from(pipe).take(LONGEST_OUTPUT).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
