//! R-APP-5, R-APP-6: the pod's status as the API has it.

use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, ContainerUser, HostIP, PodCondition, PodIP, PodStatus, VolumeMount,
        VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    Now, Spec, State,
    spec::Kind,
    state::{One, Phase},
};
use crate::pod::kubernetes_versions::set_pod_resources;

impl State {
    /// The pod's status as the API has it.
    pub fn status(&self, spec: &Spec) -> PodStatus {
        let of = |wanted: fn(Kind) -> bool| -> Option<Vec<ContainerStatus>> {
            let all = (0..self.all.len()).filter(|at| wanted(spec.kind(*at)));
            let all: Vec<_> = all.map(|at| self.container_status(spec, at)).collect();
            (!all.is_empty()).then_some(all)
        };
        // As the kubelet has it: an end shows when nothing runs any more.
        let (reason, message) = self.failed.clone().filter(|_| self.finished).unzip();
        let mut status = PodStatus {
            phase: Some(self.phase(spec).to_owned()),
            reason: reason.filter(|r| !r.is_empty()).map(str::to_owned),
            message: message.filter(|m| !m.is_empty()),
            conditions: Some(self.conditions.clone()),
            start_time: Some(Time(self.began.1)),
            pod_ip: self.pod_ips.first().cloned(),
            pod_ips: (!self.pod_ips.is_empty())
                .then(|| self.pod_ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
            host_ip: self.host_ips.first().cloned(),
            host_ips: (!self.host_ips.is_empty())
                .then(|| self.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
            qos_class: Some(spec.qos_class.to_owned()),
            init_container_statuses: of(|k| matches!(k, Kind::Init | Kind::Sidecar)),
            container_statuses: of(|k| k == Kind::App),
            ephemeral_container_statuses: of(|k| k == Kind::Ephemeral),
            ..PodStatus::default()
        };
        let allocated = spec.pod_resources.as_ref().and_then(|r| r.requests.clone());
        set_pod_resources(&mut status, self.resources.clone(), allocated);
        status
    }

    /// R-APP-5.
    fn phase(&self, spec: &Spec) -> &'static str {
        let apps =
            || self.all.iter().enumerate().filter(|(at, _)| spec.kind(*at) == Kind::App).map(|(_, o)| o);
        let failed = self.failed.is_some() || apps().any(|o| o.exit_code().is_some_and(|c| c != 0));
        let has_run = |o: &One| o.phase == Phase::Running || o.terminated.is_some() || o.last.is_some();
        match self.finished {
            true if failed || !apps().any(has_run) => "Failed",
            true => "Succeeded",
            // One that has never run keeps the whole pod pending.
            false if apps().all(has_run) => "Running",
            false => "Pending",
        }
    }

    fn container_status(&self, spec: &Spec, at: usize) -> ContainerStatus {
        let one = &self.all[at];
        let ready = match spec.kind(at) {
            Kind::Init => one.exit_code() == Some(0) && one.phase == Phase::Ended,
            _ => one.ready && one.phase == Phase::Running,
        };
        let container = spec.container(at);
        let has_process = one.container_id.is_some();
        ContainerStatus {
            name: container.name.clone(),
            image: one.image.clone(),
            image_id: one.image_id.clone(),
            container_id: one.container_id.clone(),
            ready,
            started: Some(one.phase == Phase::Running && (one.started || spec.kind(at) == Kind::Init)),
            restart_count: one.restarts,
            state: Some(self.container_state(spec, at)),
            last_state: Some(ContainerState {
                terminated: match one.phase {
                    Phase::BackOff { wait, .. } if !wait.is_zero() => one.terminated.clone(),
                    _ => one.last.clone(),
                },
                ..ContainerState::default()
            }),
            resources: one.resources.clone().filter(|_| has_process),
            allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
            stop_signal: has_process.then(|| {
                let own = container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone());
                own.or(one.image_stop_signal.clone()).unwrap_or_else(|| "SIGTERM".to_owned())
            }),
            user: one.user.clone().map(|linux| ContainerUser { linux: Some(linux) }),
            volume_mounts: container
                .volume_mounts
                .as_deref()
                .map(|all| all.iter().map(mount_status).collect()),
            ..ContainerStatus::default()
        }
    }

    fn container_state(&self, spec: &Spec, at: usize) -> ContainerState {
        let one = &self.all[at];
        match &one.phase {
            Phase::Running => ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: one.started_at.map(|(_, wall)| Time(wall)),
                }),
                ..ContainerState::default()
            },
            Phase::Ended => terminated(one.terminated.clone().unwrap_or_default()),
            // Until the back-off is felt, the end is what there is to see.
            Phase::BackOff { wait, .. } if wait.is_zero() => {
                terminated(one.terminated.clone().unwrap_or_default())
            }
            Phase::BackOff { fresh_until: Some(_), .. } => {
                let message = one.terminated.as_ref().and_then(|t| t.message.clone());
                waiting("RunContainerError", message)
            }
            Phase::BackOff { wait, .. } => {
                let (wait, name) = (go_duration(*wait), &spec.container(at).name);
                let message = format!("back-off {wait} restarting failed container={name} pod={}", spec.pod);
                waiting("CrashLoopBackOff", Some(message))
            }
            Phase::NoImage { reason, message, fresh_until, .. } => match (fresh_until.is_none(), *reason) {
                (true, "ErrImagePull") => {
                    let asked =
                        one.pulling.as_deref().or(spec.container(at).image.as_deref()).unwrap_or_default();
                    let message = format!("Back-off pulling image \"{asked}\": ErrImagePull: {message}");
                    waiting("ImagePullBackOff", Some(message))
                }
                _ => waiting(reason, Some(message.clone())),
            },
            Phase::NotCreated { reason, message, .. } => waiting(reason, Some(message.clone())),
            Phase::Pulling | Phase::Waiting | Phase::Starting => {
                let inits =
                    spec.containers.iter().any(|(kind, _)| matches!(kind, Kind::Init | Kind::Sidecar));
                let after_inits = inits && spec.kind(at) != Kind::Ephemeral;
                waiting(if after_inits { "PodInitializing" } else { "ContainerCreating" }, None)
            }
        }
    }

    /// R-APP-6, each with the time at which it last changed.
    pub(super) fn set_conditions(&mut self, spec: &Spec, now: Now) {
        let fresh = self.fresh_conditions(spec);
        let known = std::mem::take(&mut self.conditions);
        self.conditions = fresh
            .into_iter()
            .map(|(type_, status, reason, message)| {
                let status = if status { "True" } else { "False" };
                let same = known.iter().find(|c| c.type_ == type_ && c.status == status);
                PodCondition {
                    type_: type_.to_owned(),
                    status: status.to_owned(),
                    reason: reason.map(str::to_owned),
                    message,
                    last_transition_time: same
                        .map_or(Some(Time(now.wall)), |c| c.last_transition_time.clone()),
                    ..PodCondition::default()
                }
            })
            .chain(self.others_conditions.iter().cloned())
            .collect();
    }

    fn fresh_conditions(&self, spec: &Spec) -> Vec<Condition> {
        let phase = self.phase(spec);
        let names = |wanted: &dyn Fn(Kind, &One) -> bool| {
            let all = (0..self.all.len()).filter(|at| wanted(spec.kind(*at), &self.all[*at]));
            all.map(|at| spec.container(at).name.as_str()).collect::<Vec<_>>().join(" ")
        };
        let incomplete = names(&|kind, o| match kind {
            Kind::Init => !(o.phase == Phase::Ended && o.exit_code() == Some(0)),
            Kind::Sidecar => !o.started,
            Kind::App | Kind::Ephemeral => false,
        });
        let app_started = self.all.iter().enumerate().any(|(at, o)| {
            spec.kind(at) == Kind::App && o.begun && (o.phase == Phase::Running || o.terminated.is_some())
        });
        let initialized = match phase {
            "Succeeded" => (true, Some("PodCompleted"), None),
            _ if app_started || incomplete.is_empty() => (true, None, None),
            _ => {
                let message = format!("containers with incomplete status: [{incomplete}]");
                (false, Some("ContainersNotInitialized"), Some(message))
            }
        };
        let unready = names(&|kind, o| {
            matches!(kind, Kind::Sidecar | Kind::App) && !(o.ready && o.phase == Phase::Running)
        });
        let ready = match phase {
            "Succeeded" => (false, Some("PodCompleted"), None),
            "Failed" => (false, Some("PodFailed"), None),
            _ if unready.is_empty() => (true, None, None),
            _ => {
                let message = format!("containers with unready status: [{unready}]");
                (false, Some("ContainersNotReady"), Some(message))
            }
        };
        let gated = match self.closed_gates(spec) {
            Some(message) if ready.0 => (false, Some("ReadinessGatesNotReady"), Some(message)),
            _ => ready.clone(),
        };
        let mut all = vec![
            ("PodReadyToStartContainers", self.sandbox && !self.finished, None, None),
            ("Initialized", initialized.0, initialized.1, initialized.2),
            ("Ready", gated.0, gated.1, gated.2),
            ("ContainersReady", ready.0, ready.1, ready.2),
            ("PodScheduled", true, None, None),
        ];
        if let Some(error) = self.unfinished_resize() {
            all.push(("PodResizeInProgress", true, error.is_some().then_some("Error"), error));
        }
        if spec.may_restart_all() {
            all.push(("AllContainersRestarting", self.restarting.is_some(), None, None));
        }
        all
    }
}

impl State {
    /// R-UPD-3: which readiness gates are not open; none when all are.
    fn closed_gates(&self, spec: &Spec) -> Option<String> {
        let closed = spec.gates.iter().filter_map(|gate| {
            let condition = self.others_conditions.iter().find(|c| c.type_ == *gate);
            match condition.map(|c| c.status.as_str()) {
                Some("True") => None,
                Some(status) => {
                    Some(format!("the condition of readiness gate {gate:?} is {status}, not True"))
                }
                None => Some(format!("the condition of readiness gate {gate:?} has not been set")),
            }
        });
        let closed: Vec<String> = closed.collect();
        (!closed.is_empty()).then(|| closed.join(", "))
    }

    /// R-UPD-2: whether a container, or the pod, waits for its new resources, and why it has to wait.
    pub(super) fn unfinished_resize(&self) -> Option<Option<String>> {
        let of_containers =
            self.all.iter().filter(|o| o.phase == Phase::Running).filter_map(|o| o.resizing.as_ref());
        let mut waiting = self.resizing.iter().chain(of_containers);
        let first = waiting.next()?;
        Some(first.error.clone().or_else(|| waiting.find_map(|r| r.error.clone())))
    }
}

/// Returns a volume of a container as its status has it.
fn mount_status(mount: &VolumeMount) -> VolumeMountStatus {
    let recursive = mount.recursive_read_only.clone();
    VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        // What this machine can do, IfPossible asks for.
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| {
            match recursive.as_deref() {
                Some("Enabled" | "IfPossible") => "Enabled".to_owned(),
                _ => "Disabled".to_owned(),
            }
        }),
        ..VolumeMountStatus::default()
    }
}

/// Type, status, reason, message.
type Condition = (&'static str, bool, Option<&'static str>, Option<String>);

/// Returns a wait as Go prints it: `10s`, `1m20s`, `5m0s`, `100ms`.
fn go_duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 => format!("{}ms", (seconds * 1e3).round()),
        1..60 => format!("{seconds}s"),
        whole if whole < 3600 => format!("{}m{}s", whole / 60, seconds % 60.0),
        whole => format!("{}h{}m{}s", whole / 3600, whole / 60 % 60, seconds % 60.0),
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(terminated: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}
