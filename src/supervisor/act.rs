//! Carrying out the lifecycle's actions.

use std::{cell::OnceCell, fs, os::fd::OwnedFd};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};
use podctl_runtime::{Cgroup, Rootfs, StartError, Stdio, create, trace as steps};

use super::{
    Live, Supervisor, TRACED,
    control::Reply,
    log::{Log, Stream},
    poll::Source,
    record::Happened,
};
use crate::{
    lifecycle::{Action, Event, Run, StartFailure},
    sandbox,
};

impl Supervisor {
    pub(super) fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.trace.action(&action);
            match action {
                Action::PullImage { container } => self.pull(&container),
                Action::StartContainer { run } => {
                    let event = match self.start(&run) {
                        Ok(()) => {
                            self.attach_waiting(&run.container);
                            Event::Started { container_id: self.container_id(&run), run }
                        }
                        Err((reason, message)) => {
                            let refused = Reply::Refused { message: message.clone(), exit_code: 1 };
                            self.attached_ended(&run.container, &refused);
                            Event::StartFailed { run, reason, message }
                        }
                    };
                    self.pending.push_back(event);
                }
                Action::Signal { run, signal } => {
                    if let Some(live) = self.live.get(&run) {
                        if signal == libc::SIGKILL
                            && let Some(cgroup) = &live.cgroup
                        {
                            let _ = cgroup.kill();
                        }
                        // One that is gone already needs no signal.
                        let _ = live.process.signal(signal);
                    }
                }
                Action::RunHook { run, hook, timeout } => self.run_hook(run, hook, timeout),
                Action::RunProbe { run, probe } => self.run_probe(run, probe),
                Action::Record(record) => {
                    self.recorder.write(Happened::now(record));
                    self.news = true;
                }
                Action::Finish => self.finished = true,
            }
        }
    }

    fn container_id(&self, run: &Run) -> String {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        format!("podctl://{uid}/{}/{}", run.container, run.attempt)
    }

    fn start(&mut self, run: &Run) -> Result<(), (StartFailure, String)> {
        let config = |e: sandbox::Error| (StartFailure::CreateContainerConfig, e.to_string());
        let broken = |what: &str, e: &dyn std::fmt::Display| {
            (StartFailure::CreateContainer, format!("cannot {what}: {e}"))
        };
        let missing =
            || (StartFailure::CreateContainerConfig, "the container or its image is not known".to_owned());
        let container = self.container(&run.container).cloned().ok_or_else(missing)?;
        let image = self.images.get(&run.container).cloned().ok_or_else(missing)?;

        let layer = self.sandbox.containers.join(format!("{}.{}", run.container, run.attempt));
        for part in ["", "upper", "work"] {
            fs::create_dir(layer.join(part)).map_err(|e| broken("make the writable layer", &e))?;
        }
        let termination_log = layer.join("termination-log");
        fs::write(&termination_log, "").map_err(|e| broken("make the termination log", &e))?;
        let writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(&termination_log, writable)
            .map_err(|e| broken("open the termination log", &e))?;

        let prepared =
            sandbox::container_spec(&self.pod, &container, &image, &self.sandbox, &termination_log)
                .map_err(config)?;
        let prepared =
            self.join_target(&run.container, prepared).map_err(|e| broken("join its target", &e))?;
        let uid = self.pod.metadata.uid.clone().unwrap_or_default();
        let log_path = self.home.log(&self.dir.namespace, &self.dir.name, &uid, &run.container, run.attempt);
        let log = Log::create(&log_path, self.log_limits).map_err(|e| broken("make the log", &e))?;

        let cgroup = match &self.cgroups {
            Some(pod) => {
                let cgroup = Cgroup::create(&pod.parent, &format!("{}-{}", run.container, run.attempt))
                    .map_err(|e| broken("make a cgroup", &e))?;
                cgroup.kill_as_a_group().map_err(|e| broken("set resource limits", &e))?;
                if let Some(resources) = prepared.spec.linux().as_ref().and_then(|l| l.resources().as_ref()) {
                    cgroup.apply(resources).map_err(|e| broken("set resource limits", &e))?;
                }
                Some(cgroup)
            }
            None => None,
        };

        let mut streams = std::collections::HashMap::new();
        let mut input = None;
        let wants_input = container.stdin == Some(true);
        let stdio = if container.tty == Some(true) {
            Stdio::Terminal
        } else {
            let (stdout, theirs_out) = output_pipe().map_err(|e| broken("make a pipe", &e))?;
            let (stderr, theirs_err) = output_pipe().map_err(|e| broken("make a pipe", &e))?;
            streams.insert(Stream::Stdout, stdout);
            streams.insert(Stream::Stderr, stderr);
            let stdin = if wants_input {
                let (theirs, ours) = pipe2(OFlag::O_CLOEXEC).map_err(|e| broken("make a pipe", &e))?;
                nonblocking(&ours).map_err(|e| broken("make a pipe", &e))?;
                input = Some(ours);
                theirs
            } else {
                fs::File::open("/dev/null").map_err(|e| broken("open /dev/null", &e))?.into()
            };
            Stdio::Streams { stdin, stdout: theirs_out, stderr: theirs_err }
        };
        let rootfs = Rootfs::Overlay {
            lower: image.layers.clone(),
            upper: layer.join("upper"),
            work: layer.join("work"),
        };
        steps::mark(TRACED, &format!("prepare container {}: its spec, layer, log, cgroup", run.container));
        let created = create(&prepared.spec, &rootfs, stdio, cgroup.as_ref());
        let created = match created {
            Ok(created) => created,
            Err(e) => {
                if let Some(cgroup) = cgroup {
                    let _ = cgroup.remove();
                }
                let _ = fs::remove_dir_all(&layer);
                return Err(start_failure(&e));
            }
        };
        steps::mark(TRACED, &format!("see container {} executed", run.container));
        if let Some(terminal) = created.terminal {
            nonblocking(&terminal).map_err(|e| broken("read the terminal", &e))?;
            streams.insert(Stream::Stdout, terminal);
        }
        for (stream, fd) in &streams {
            // An unwatched stream would only lose output; it cannot happen with an open descriptor.
            let _ = self.poll.add(fd, Source::Output(run.clone(), *stream));
        }
        let live = Live {
            process: created.process,
            cgroup,
            spec: prepared.spec,
            streams,
            log,
            log_path,
            layer,
            terminal: container.tty == Some(true),
            input_wanted: wants_input,
            input_once: container.stdin_once == Some(true),
            input,
            filter: OnceCell::new(),
        };
        self.live.insert(run.clone(), live);
        Ok(())
    }
}

fn start_failure(e: &StartError) -> (StartFailure, String) {
    let reason = match e.exit_code() {
        Some(exit_code) => StartFailure::Start { exit_code },
        None => StartFailure::CreateContainer,
    };
    (reason, e.to_string())
}

/// A pipe whose reading end, ours, never blocks.
fn output_pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    nonblocking(&ours)?;
    Ok((ours, theirs))
}

pub(super) fn nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}
