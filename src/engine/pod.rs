//! One pod, for those who did not start it as well.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Event, Pod};

use super::{
    Engine, Error, Quiet, dial, end_by_signal, gone, io, reach, request,
    start::{self, Started},
    sweep, unreachable_pod,
};
pub use crate::logs::Watch;
use crate::{
    lifecycle::{Broken, PodPart, check_pod_update, merge_pod_update},
    manifest::{Diagnostic, Severity, with_defaults},
    pod::{ContainerExt, HostPort, PodExt, find_host_port},
    state::{Home, Liveness, PodDir},
    wire::{self, Reply, Request},
};

/// Looked at so often without a change: a supervisor that is killed may change no file.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The pod of an [`Engine`](super::Engine), alive or ended. Dropping it does nothing to the pod.
///
/// The supervisor of a pod that [`Engine::run`](super::Engine::run) started is a child of this process.
/// Ended, it is reaped by [`PodHandle::wait`], [`PodHandle::stop`] and [`PodHandle::delete`] of the handle
/// that `run` gave, or when the next pod is started.
#[derive(Clone, Debug)]
pub struct PodHandle {
    pub(super) home: Home,
    pub(super) dir: PodDir,
    started: Option<Arc<Started>>,
}

impl PodHandle {
    pub(crate) fn of(home: &Home, dir: &PodDir) -> PodHandle {
        PodHandle { home: home.clone(), dir: dir.clone(), started: None }
    }

    /// The pod of another place of the same home.
    pub(crate) fn beside(&self, dir: &PodDir) -> PodHandle {
        PodHandle::of(&self.home, dir)
    }

    pub(super) fn started(home: &Home, started: Started) -> PodHandle {
        PodHandle { home: home.clone(), dir: started.dir.clone(), started: Some(Arc::new(started)) }
    }

    /// `metadata.namespace`
    pub fn namespace(&self) -> &str {
        &self.dir.namespace
    }

    /// `metadata.name`
    pub fn name(&self) -> &str {
        &self.dir.name
    }

    /// Returns what will not work as the manifest says, and why; known to the handle that started the pod.
    pub fn warnings(&self) -> &[String] {
        self.started.as_ref().map_or(&[], |s| &s.warnings)
    }

    /// The ports of this machine that were chosen for it; known to the handle that started the pod.
    pub fn published(&self) -> &[HostPort] {
        self.started.as_ref().map_or(&[], |s| &s.published)
    }

    /// Tells where a TCP port of the pod is reached on this machine, whoever published it: by a hostPort,
    /// by `-p` or by [`Options::publish`](crate::Options::publish). What is published at every address is
    /// reached at 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::NotPublished`], [`Error::State`].
    pub fn host_port(&self, port: u16) -> Result<SocketAddr, Error> {
        let found = find_host_port(&self.dir.read()?, port, false);
        let (ip, host) = found.ok_or_else(|| Error::NotPublished { pod: self.name().to_owned(), port })?;
        Ok(SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), host))
    }

    /// The pod with its status, as `podctl get -o json` has it.
    ///
    /// # Errors
    /// [`Error::State`]; among it that the pod was deleted.
    pub fn pod(&self) -> Result<Pod, Error> {
        with_display_status(&self.dir)
    }

    /// Returns what happened to it, oldest first; an event that came again has a `count`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn events(&self) -> Result<Vec<Event>, Error> {
        Ok(self.dir.events()?)
    }

    /// Tells whether it has a supervisor, and so may run.
    pub fn is_alive(&self) -> bool {
        self.dir.read_liveness() == Liveness::Alive
    }

    /// Something to wait with for changes of the pod, its events and its logs.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn watch(&self) -> Result<Watch, Error> {
        Ok(Watch::new(&self.dir)?)
    }

    /// Waits until the pod is as it should be; gives it as it then is.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; [`Error::Ended`] when it ended otherwise; [`Error::State`] when it was deleted.
    pub fn wait_until(
        &self,
        mut condition: impl FnMut(&Pod) -> bool,
        timeout: Option<Duration>,
    ) -> Result<Pod, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let watch = self.watch()?;
        let mut quiet = Quiet::begin();
        loop {
            // Asked before the pod is read: nothing changes after the end.
            let alive = self.is_alive();
            let pod = self.pod()?;
            if condition(&pod) {
                return Ok(pod);
            }
            if !alive {
                return Err(Error::Ended(self.dir.name.to_string()));
            }
            let left = deadline.map_or(LOOK, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(Error::TimedOut(self.dir.name.to_string()));
            }
            watch.wait(Some(left.min(LOOK)));
            quiet.check(&self.dir)?;
        }
    }

    /// Asks whether the pod's supervisor answers.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    #[cfg(feature = "tokio")]
    pub(crate) fn check_supervisor(&self) -> Result<(), Error> {
        super::check_supervisor(&self.dir)
    }

    /// Waits for the pod's end; gives the pod as it ended, `Succeeded` or `Failed`.
    ///
    /// # Errors
    /// [`Error::State`]; among it that the pod was deleted. [`Error::Unreachable`] where its supervisor hangs.
    pub fn wait(&self) -> Result<Pod, Error> {
        let watch = self.watch()?;
        let mut quiet = Quiet::begin();
        while self.is_alive() {
            watch.wait(Some(LOOK));
            quiet.check(&self.dir)?;
        }
        self.reap();
        self.pod()
    }

    /// Ends the pod and keeps its record and logs, so that [`PodHandle::start`] can start it anew.
    /// Without a grace period its own terminationGracePeriodSeconds counts.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Unreachable`].
    pub fn stop(&self, grace_period: Option<Duration>) -> Result<(), Error> {
        // One that lives ends whatever its record looks like.
        if !self.is_alive() {
            self.dir.read()?;
        }
        match reach(&self.dir) {
            Err(failure) => end_by_signal(&self.dir, grace_period, failure)?,
            Ok(None) => {}
            Ok(Some(socket)) => {
                let sent = wire::send_request(&socket, &Request::Stop { grace_period }, &[]);
                match sent.map_err(unreachable_pod(&self.dir)) {
                    Err(Error::Ended(_)) => {}
                    sent => sent.and_then(|()| super::wait_for_end(&self.dir, &socket))?,
                }
            }
        }
        self.reap();
        Ok(())
    }

    /// Ends the pod, if it lives, and forgets it: its record, its logs, what it wrote. With a grace period of zero a
    /// supervisor that does not answer is killed.
    ///
    /// # Errors
    /// [`Error::Unreachable`]; [`Error::Start`] when something of it cannot be removed.
    pub fn delete(&self, grace_period: Option<Duration>) -> Result<(), Error> {
        // What a killed start has left of the pod before this one does not come back when this one is gone.
        sweep::sweep_records(&self.home);
        let ending = request(&self.home, &self.dir, grace_period)?;
        gone(&self.home, &self.dir, ending, None)?;
        self.reap();
        Ok(())
    }

    /// Starts an ended pod anew: the same manifest, objects and options; a new uid, and new logs. Gives
    /// the handle of the new pod, which may have warnings.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn start(&self) -> Result<PodHandle, Error> {
        Ok(PodHandle::started(&self.home, start::start_again(&self.home, &self.dir)?))
    }

    /// Starts every container anew, init containers first (R-INIT-3); an ended pod as
    /// [`PodHandle::start`] does. Gives the handle to go on with.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Start`], [`Error::Unreachable`].
    pub fn restart(&self) -> Result<PodHandle, Error> {
        self.dir.read()?;
        if !self.is_alive() {
            return self.start();
        }
        let asked = dial(&self.dir).and_then(|socket| {
            wire::send_request(&socket, &Request::Restart, &[]).map_err(unreachable_pod(&self.dir))?;
            wire::receive_answer::<Reply>(&socket).map_err(unreachable_pod(&self.dir))
        });
        match asked {
            // It has ended meanwhile.
            Err(Error::Ended(_)) => self.start(),
            asked => asked.map(|_| self.clone()),
        }
    }

    /// Changes what a pod lets change: labels, annotations and the like, images, more tolerations, an earlier
    /// activeDeadlineSeconds. A container whose image is another starts anew with it. Returns the pod as it then is.
    ///
    /// # Errors
    /// [`Error::Manifest`] when the new one differs in anything else; [`Error::Ended`], [`Error::State`],
    /// [`Error::Unreachable`].
    pub fn update(&self, new: &Pod) -> Result<Pod, Error> {
        self.update_part(new, PodPart::Object)
    }

    /// Gives the pod's containers the CPU and memory that the new one's have, while they run; one whose resizePolicy says
    /// so starts anew. Returns the pod as it then is: its status tells what each container has.
    ///
    /// # Errors
    /// As [`PodHandle::update`].
    pub fn resize(&self, new: &Pod) -> Result<Pod, Error> {
        self.update_part(new, PodPart::Resources)
    }

    /// Changes one part of the pod.
    ///
    /// # Errors
    /// As [`PodHandle::update`].
    pub(super) fn update_part(&self, new: &Pod, part: PodPart) -> Result<Pod, Error> {
        if !self.is_alive() && self.update_ended(new, part)? {
            return self.pod();
        }
        let updated = self.preview_update(new, part)?;
        self.fetch_changed_images(&updated)?;
        let socket = dial(&self.dir)?;
        let document = wire::write_document(new).map_err(io("make a memory file"))?;
        let request = Request::Update { part };
        wire::send_request(&socket, &request, &[document.as_fd()]).map_err(unreachable_pod(&self.dir))?;
        match wire::receive_answer::<Reply>(&socket).map_err(unreachable_pod(&self.dir))? {
            Some((Reply::Started, _)) => self.pod(),
            Some((Reply::Refused { message, .. }, _)) => {
                Err(self.refuse_update(vec![(String::new(), message)]))
            }
            _ => Err(Error::Ended(self.dir.name.to_string())),
        }
    }

    /// Changes the record of a pod that has ended, which its supervisor writes no more; whether it has.
    fn update_ended(&self, new: &Pod, part: PodPart) -> Result<bool, Error> {
        let Some(_kept) = self.dir.keep_in_place()? else { return Ok(false) };
        let updated = self.preview_update(new, part)?;
        self.dir.write(&updated)?;
        if part != PodPart::Status {
            wire::record_update(&self.dir, &updated, part)?;
        }
        Ok(true)
    }

    /// Returns what [`PodHandle::update_part`] would make of the pod.
    ///
    /// # Errors
    /// As [`PodHandle::update`].
    pub(super) fn preview_update(&self, new: &Pod, part: PodPart) -> Result<Pod, Error> {
        let mut pod = self.dir.read()?;
        // What one of them says and the other leaves to its default is no change.
        let checked = check_pod_update(&with_defaults(&pod), &with_defaults(new), part);
        checked.map_err(|broken| self.refuse_update(broken))?;
        merge_pod_update(&mut pod, new, part);
        Ok(pod)
    }

    /// Has the images of containers that are to have another, for the pod's own processes may not be able to fetch them
    /// any more. One that cannot be had is the container's to tell, as one of its start is.
    fn fetch_changed_images(&self, updated: &Pod) -> Result<(), Error> {
        let known = self.dir.read()?;
        let engine = Engine::over(&self.home);
        for container in updated.containers() {
            let image = container.image.as_deref().unwrap_or_default();
            let had = known.containers().find(|known| known.name == container.name);
            if had.is_some_and(|had| had.image.as_deref() != Some(image)) {
                // The supervisor pulls again and tells in the pod's events why it cannot.
                let _ = engine.have_image(image, container.pull_policy(), &wire::Options::default());
                // As above: an image that is not fit says so when its container is made.
                let _ = self.remap_image(image);
            }
        }
        Ok(())
    }

    fn refuse_update(&self, broken: Vec<Broken>) -> Error {
        let diagnostic = |(path, message)| Diagnostic {
            severity: Severity::Error,
            file: format!("pod {:?}", self.name()),
            line: 0,
            column: 0,
            path,
            message,
            help: None,
        };
        Error::Manifest(broken.into_iter().map(diagnostic).collect())
    }

    fn reap(&self) {
        if let Some(started) = &self.started {
            started.wait();
        }
    }
}

/// The pod as it is to be shown: on its node, and ended when its supervisor is gone.
pub(crate) fn with_display_status(dir: &PodDir) -> Result<Pod, Error> {
    // Asked before the pod is read: what a supervisor has written at its end is then known.
    let ended = dir.read_liveness() == Liveness::Ended;
    let mut pod = dir.read()?;
    let spec = pod.spec.get_or_insert_default();
    if spec.node_name.is_none() {
        spec.node_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    }
    if ended {
        mark_lost(&mut pod, dir.is_of_another_boot());
    }
    Ok(pod)
}

/// A pod whose supervisor was killed ended with it; its last written status does not say so. Of its containers is said
/// what a kubelet says of those that it does not find any more.
fn mark_lost(pod: &mut Pod, restarted: bool) {
    let status = pod.status.get_or_insert_default();
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return;
    }
    let (reason, message) = match restarted {
        true => ("MachineRestarted", "the machine was restarted while the pod ran"),
        false => ("SupervisorLost", "the pod's supervisor was killed, and its containers with it"),
    };
    status.phase = Some("Failed".into());
    status.reason = Some(reason.into());
    status.message = Some(message.into());
    let lists = [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    for container in lists.into_iter().flatten().flatten() {
        let Some(running) = container.state.as_mut().and_then(|state| state.running.take()) else { continue };
        (container.ready, container.started) = (false, Some(false));
        let terminated = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            started_at: running.started_at,
            ..ContainerStateTerminated::default()
        };
        container.state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
    }
    for condition in status.conditions.iter_mut().flatten() {
        if matches!(condition.type_.as_str(), "Ready" | "ContainersReady" | "PodReadyToStartContainers") {
            condition.status = "False".into();
            condition.reason = Some("PodFailed".into());
        }
    }
}
