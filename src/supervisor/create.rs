//! Making containers and starting them. The supervisor does not wait for either: the new process reports.

use std::{collections::HashMap, fs, os::fd::OwnedFd, path::PathBuf, rc::Rc, time::Duration};

use k8s_openapi::api::core::v1::{LinuxContainerUser, Pod};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};
use oci_spec::runtime::{LinuxDeviceCgroup, Spec};
use podctl_runtime::{
    Cgroup, Created, DeviceFilter, StartError, Stdio, create, seccomp::Program, start_trace as steps,
};

use super::{Live, Supervisor, TRACED, poll::Source, writable_layer::Layer};
use crate::{
    lifecycle::{Event, Run, StartFailure},
    logs::{Log, Stream},
    pod::{ContainerName, PodExt},
    sandbox,
    state::log_file,
    wire::Reply,
};

/// The time a container may take to run once it was told to; a kubelet waits as long for its runtime.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time when the pod is to end.
const HURRY: Duration = Duration::from_secs(2);

/// A container that is made, or being made, and does not run yet.
pub(super) struct Making {
    pub created: Created,
    cgroup: Option<Cgroup>,
    spec: Spec,
    filter: Option<Rc<Program>>,
    streams: HashMap<Stream, OwnedFd>,
    input: Option<OwnedFd>,
    /// Counts from its start on.
    log: Option<Log>,
    /// Counts on the supervisor's clock; from its start on.
    deadline: Option<Duration>,
    layer: Layer,
}

/// Containers that do not run yet, and what their making leaves.
pub(super) struct Creation {
    pub making: HashMap<Run, Making>,
    pub filters: Filters,
    /// Cgroups of containers that were given up, whose processes are being ended.
    given_up: Vec<(Run, Cgroup)>,
}

impl Creation {
    pub(super) fn new(filters: Filters) -> Creation {
        Creation { making: HashMap::new(), filters, given_up: Vec::new() }
    }
}

/// Holds what has been compiled: most containers of a pod have the same.
#[derive(Default)]
pub(super) struct Filters {
    calls: Vec<(sandbox::Filter, Rc<Program>)>,
    devices: Vec<Rc<DeviceFilter>>,
}

impl Filters {
    /// Those that need no more than the pod; others are compiled when they are wanted.
    pub(super) fn of(pod: &Pod) -> Filters {
        let mut filters = Filters::default();
        for filter in pod.containers().filter_map(|container| sandbox::default_filter(pod, container)) {
            // One that cannot be compiled says so when its container is made.
            let _ = filters.compiled(&filter);
        }
        filters
    }

    fn compiled(&mut self, filter: &sandbox::Filter) -> Result<Rc<Program>, podctl_runtime::Error> {
        if let Some((_, program)) = self.calls.iter().find(|(known, _)| known == filter) {
            return Ok(program.clone());
        }
        let program = Rc::new(filter.compiled()?);
        self.calls.push((filter.clone(), program.clone()));
        Ok(program)
    }

    fn of_devices(&mut self, rules: &[LinuxDeviceCgroup]) -> Rc<DeviceFilter> {
        let known = self.devices.iter().find(|filter| filter.is_of(rules)).cloned();
        known.unwrap_or_else(|| {
            let filter = Rc::new(DeviceFilter::new(rules));
            self.devices.push(filter.clone());
            filter
        })
    }
}

/// The lifecycle's word for it, and the user's.
type Failure = (StartFailure, String);

/// The container's name as a part of paths.
fn container_name(run: &Run) -> Result<ContainerName, Failure> {
    ContainerName::parse(&run.container).map_err(|e| (StartFailure::CreateContainer, e.to_string()))
}

fn broken(what: &str, e: &dyn std::fmt::Display) -> Failure {
    (StartFailure::CreateContainer, format!("cannot {what}: {e}"))
}

impl Supervisor {
    /// Made now, it can start at once when its turn comes. One that cannot be made is tried again then, and says why.
    pub(super) fn create_ahead(&mut self, run: &Run) {
        self.give_up_made(|made| made.container == run.container);
        // It is tried again when its turn comes, and says why then.
        let _ = self.make(run);
    }

    pub(super) fn start(&mut self, run: Run) {
        self.give_up_made(|made| made.container == run.container && *made != run);
        let made = if self.creation.making.contains_key(&run) { Ok(()) } else { self.make(&run) };
        // A log says that its container has had its turn.
        let log_path = self.log_path(&run);
        let logs = |()| Log::create(&log_path?, self.output.limits).map_err(|e| broken("make the log", &e));
        let now = self.began.elapsed_since();
        match (made.and_then(logs), self.creation.making.get_mut(&run)) {
            (Ok(log), Some(making)) => {
                making.log = Some(log);
                making.deadline = Some(now + PATIENCE);
                making.created.start();
            }
            (Err(failure), _) => {
                self.give_up_made(|made| *made == run);
                self.start_failed(run, failure);
            }
            (Ok(_), None) => {}
        }
    }

    fn make(&mut self, run: &Run) -> Result<(), Failure> {
        let layer = format!("{}.{}", container_name(run)?, run.attempt);
        let layer = Layer::of(&self.sandbox, &layer);
        let making = self.begin_to_make(run, layer.clone()).inspect_err(|_| layer.remove())?;
        // An unwatched one would only be noticed by its end; it cannot happen with an open descriptor.
        let _ = self.poll.add(making.created.fd(), Source::Making(run.clone()));
        self.creation.making.insert(run.clone(), making);
        Ok(())
    }

    fn log_path(&self, run: &Run) -> Result<PathBuf, Failure> {
        Ok(log_file(&self.logs, &container_name(run)?, run.attempt))
    }

    fn start_failed(&mut self, run: Run, (reason, message): Failure) {
        let refused = Reply::Refused { message: message.clone(), exit_code: 1 };
        self.attached_ended(&run.container, &refused);
        self.pending.push_back(Event::StartFailed { run, reason, message });
    }

    /// Looks how far a container is: it runs, it cannot be made, or it is still at it.
    pub(super) fn look_at(&mut self, run: &Run) {
        let Some(making) = self.creation.making.get_mut(run) else { return };
        let asked = making.created.is_started();
        let outcome = making.created.outcome();
        if matches!(outcome, Ok(None)) {
            return;
        }
        let Some(making) = self.creation.making.remove(run) else { return };
        self.poll.forget(making.created.fd());
        match outcome {
            Ok(Some(container)) if asked => self.started(run, making, container),
            // Made ahead, it ended before its turn: then it is made anew, and says what is wrong.
            Ok(_) => self.give_up(run, making),
            Err(e) => {
                self.give_up(run, making);
                if asked {
                    self.start_failed(run.clone(), start_failure(&e));
                }
            }
        }
    }

    fn started(&mut self, run: &Run, making: Making, container: podctl_runtime::Container) {
        steps::mark(TRACED, &format!("see container {} executed", run.container));
        let Making { cgroup, spec, filter, mut streams, input, log: Some(log), layer, .. } = making else {
            return;
        };
        if let Some(terminal) = container.terminal.filter(|t| nonblocking(t).is_ok()) {
            streams.insert(Stream::Stdout, terminal);
        }
        for (stream, fd) in &streams {
            // An unwatched stream would only lose output; it cannot happen with an open descriptor.
            let _ = self.poll.add(fd, Source::Output(run.clone(), *stream));
        }
        let wanted = self.container(&run.container);
        let says = |field: fn(&k8s_openapi::api::core::v1::Container) -> Option<bool>| {
            wanted.and_then(field) == Some(true)
        };
        let user = user_of(&spec);
        let live = Live {
            terminal: says(|c| c.tty),
            input_wanted: says(|c| c.stdin),
            input_once: says(|c| c.stdin_once),
            process: container.process,
            cgroup,
            spec,
            streams,
            log,
            layer,
            input,
            filter,
        };
        self.live.insert(run.clone(), live);
        self.attach_waiting(&run.container);
        let container_id = self.container_id(run);
        self.pending.push_back(Event::Started { run: run.clone(), container_id, user });
    }

    /// A child that has ended before it was seen to run: it had started and ended already, or could not.
    pub(super) fn making_ended(&mut self, pid: nix::unistd::Pid) {
        let run = self.creation.making.iter().find(|(_, m)| m.created.is(pid)).map(|(run, _)| run.clone());
        run.iter().for_each(|run| self.look_at(run));
    }

    /// Removes what was made ahead and is not needed any more.
    pub(super) fn give_up_the_made(&mut self) {
        self.give_up_made(|_| true);
    }

    /// What was made and not told to start is made anew when its turn comes.
    pub(super) fn give_up_unstarted(&mut self) {
        let waiting = self.creation.making.iter().filter(|(_, making)| making.deadline.is_none());
        let waiting: Vec<Run> = waiting.map(|(run, _)| run.clone()).collect();
        self.give_up_made(|made| waiting.contains(made));
    }

    fn give_up_made(&mut self, which: impl Fn(&Run) -> bool) {
        let given_up: Vec<Run> = self.creation.making.keys().filter(|run| which(run)).cloned().collect();
        for run in given_up {
            if let Some(making) = self.creation.making.remove(&run) {
                self.poll.forget(making.created.fd());
                self.give_up(&run, making);
            }
        }
    }

    /// Nothing of it is left, but for its cgroup, until its process has ended: nobody waits for that.
    fn give_up(&mut self, run: &Run, making: Making) {
        making.created.kill();
        making.layer.remove();
        self.creation.given_up.extend(making.cgroup.map(|cgroup| (run.clone(), cgroup)));
    }

    /// Takes away the cgroups of those that were given up, once nothing is in them: a child has ended, which may be the
    /// last. The cgroup may be that of the next try already.
    pub(super) fn remove_given_up(&mut self) {
        let (making, live) = (&self.creation.making, &self.live);
        self.creation.given_up.retain(|(run, cgroup)| {
            !making.contains_key(run) && !live.contains_key(run) && cgroup.remove().is_err()
        });
    }

    /// Tells when the next container has to run that was told to start.
    pub(super) fn next_start_deadline(&self) -> Option<Duration> {
        self.creation.making.values().filter_map(|making| making.deadline).min()
    }

    /// Ends containers that were told to start and do not: one that others can stop may never come to it.
    pub(super) fn end_late_starts(&mut self, now: Duration) {
        let late = self.creation.making.iter().filter(|(_, m)| m.deadline.is_some_and(|by| by <= now));
        for run in late.map(|(run, _)| run.clone()).collect::<Vec<_>>() {
            self.give_up_made(|made| *made == run);
            let message =
                "it did not start in time and was killed: it is frozen, or another container stopped it";
            self.start_failed(run, (StartFailure::CreateContainer, message.to_owned()));
        }
    }

    /// The pod is to end: nobody waits long for what still starts.
    pub(super) fn hasten_starts(&mut self) {
        let by = self.began.elapsed_since() + HURRY;
        for deadline in self.creation.making.values_mut().filter_map(|making| making.deadline.as_mut()) {
            *deadline = by.min(*deadline);
        }
    }

    fn begin_to_make(&mut self, run: &Run, layer: Layer) -> Result<Making, Failure> {
        let config = |e: sandbox::Error| (StartFailure::CreateContainerConfig, e.to_string());
        let missing =
            || (StartFailure::CreateContainerConfig, "the container or its image is not known".to_owned());
        let container = self.container(&run.container).cloned().ok_or_else(missing)?;
        let image = self.pulls.images.get(&run.container).cloned().ok_or_else(missing)?;

        let layers = self.sandbox.layers_of(&image);
        layer.make(&layers).map_err(|e| broken("make the writable layer", &e))?;
        let prepared =
            sandbox::container_spec(&self.pod, &container, &image, &self.sandbox, layer.termination_log())
                .map_err(config)?;
        let prepared =
            self.join_target(&run.container, prepared).map_err(|e| broken("join its target", &e))?;
        if self.pod.metadata.generation.is_some_and(|generation| generation > 1) {
            // Its predecessor, which may have had more than the pod is to have, is gone.
            let _ = self.fit_pod_cgroup();
        }
        let cgroup = match &self.cgroups {
            Some(pod) => {
                let cgroup = Cgroup::create(&pod.parent, &format!("{}-{}", run.container, run.attempt))
                    .map_err(|e| broken("make a cgroup", &e))?;
                cgroup.kill_as_a_group().map_err(|e| broken("set resource limits", &e))?;
                if let Some(resources) = prepared.spec.linux().as_ref().and_then(|l| l.resources().as_ref()) {
                    cgroup.apply(resources).map_err(|e| broken("set resource limits", &e))?;
                    if self.sandbox.device_cgroup {
                        let rules = resources.devices().as_deref().unwrap_or_default();
                        let restricted = cgroup.restrict_devices(&self.creation.filters.of_devices(rules));
                        if !restricted.map_err(|e| broken("restrict devices", &e))? {
                            let why = "the kernel takes no device filter any more";
                            return Err(broken("restrict devices", &why));
                        }
                    }
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
        let rootfs = layer.over(&layers);
        steps::mark(TRACED, &format!("prepare container {}: its spec, layer, cgroup", run.container));
        let filter =
            prepared.filter.as_ref().map(|filter| self.creation.filters.compiled(filter)).transpose();
        let filter = filter.map_err(|e| broken("compile the seccomp profile", &e))?;
        match create(&prepared.spec, filter.as_deref(), &rootfs, stdio, cgroup.as_ref()) {
            Ok(created) => {
                let spec = prepared.spec;
                Ok(Making { created, cgroup, spec, filter, streams, input, log: None, deadline: None, layer })
            }
            Err(e) => {
                // An empty one goes with the pod's.
                let _ = cgroup.as_ref().map(Cgroup::remove);
                Err(start_failure(&e))
            }
        }
    }
}

/// Names whose a container's first process is, as its status says.
fn user_of(spec: &Spec) -> LinuxContainerUser {
    let user = spec.process().as_ref().map(|process| process.user().clone()).unwrap_or_default();
    let own = user.gid();
    let others = user.additional_gids().clone().unwrap_or_default().into_iter().filter(|gid| *gid != own);
    LinuxContainerUser {
        uid: user.uid().into(),
        gid: own.into(),
        supplemental_groups: Some(std::iter::once(own).chain(others).map(i64::from).collect()),
    }
}

fn start_failure(e: &StartError) -> (StartFailure, String) {
    let reason = match e {
        // In the container's own process, where containerd starts what it has created before.
        StartError::Create { .. } | StartError::Exec { .. } | StartError::WorkingDirectory { .. } => {
            StartFailure::Start
        }
        // Nothing that happens by itself will mend these.
        StartError::Profile { .. } | StartError::Spec { .. } => StartFailure::CreateContainerConfig,
        StartError::Prepare(_) | StartError::Killed => StartFailure::CreateContainer,
    };
    (reason, e.to_string())
}

/// Returns a pipe whose reading end, ours, never blocks.
fn output_pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    nonblocking(&ours)?;
    Ok((ours, theirs))
}

pub(super) fn nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}
