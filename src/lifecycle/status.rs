//! R-APP-5, R-APP-6: the pod's status as the API has it.

use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    Now, Spec, State,
    spec::Kind,
    state::{One, Phase},
};

impl State {
    /// The pod's status as the API has it.
    pub fn status(&self, spec: &Spec) -> PodStatus {
        let of = |wanted: fn(Kind) -> bool| -> Option<Vec<ContainerStatus>> {
            let all = (0..self.all.len()).filter(|at| wanted(spec.kind(*at)));
            let all: Vec<_> = all.map(|at| self.container_status(spec, at)).collect();
            (!all.is_empty()).then_some(all)
        };
        let (reason, message) = self.failed.clone().unzip();
        PodStatus {
            phase: Some(self.phase(spec).to_owned()),
            reason: reason.filter(|r| !r.is_empty()).map(str::to_owned),
            message: message.filter(|m| !m.is_empty()),
            conditions: Some(self.conditions()),
            start_time: Some(Time(self.began.1)),
            pod_ip: self.pod_ips.first().cloned(),
            pod_ips: (!self.pod_ips.is_empty())
                .then(|| self.pod_ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
            host_ip: self.host_ip.clone(),
            host_ips: self.host_ip.clone().map(|ip| vec![HostIP { ip }]),
            qos_class: Some(spec.qos_class.to_owned()),
            init_container_statuses: of(|k| matches!(k, Kind::Init | Kind::Sidecar)),
            container_statuses: of(|k| k == Kind::App),
            ephemeral_container_statuses: of(|k| k == Kind::Ephemeral),
            ..PodStatus::default()
        }
    }

    /// R-APP-5.
    fn phase(&self, spec: &Spec) -> &'static str {
        let apps =
            || self.all.iter().enumerate().filter(|(at, _)| spec.kind(*at) == Kind::App).map(|(_, o)| o);
        let over = self.finished || apps().all(|o| o.phase == Phase::Ended) && !self.restarting;
        let failed = self.failed.is_some() || apps().any(|o| o.exit_code().is_some_and(|c| c != 0));
        let begun = apps().any(|o| o.phase == Phase::Running || o.terminated.is_some() || o.last.is_some());
        match (over, failed, begun) {
            (true, true, _) => "Failed",
            (true, false, true) => "Succeeded",
            (true, false, false) => "Failed",
            (false, _, true) => "Running",
            (false, _, false) => "Pending",
        }
    }

    fn container_status(&self, spec: &Spec, at: usize) -> ContainerStatus {
        let one = &self.all[at];
        let init_done =
            spec.kind(at) == Kind::Init && one.exit_code() == Some(0) && one.phase == Phase::Ended;
        ContainerStatus {
            name: spec.container(at).name.clone(),
            image: one.image.clone(),
            image_id: one.image_id.clone(),
            container_id: one.container_id.clone(),
            ready: init_done || one.ready && one.phase == Phase::Running,
            started: Some(one.started && one.phase == Phase::Running),
            restart_count: one.restarts,
            state: Some(self.container_state(spec, at)),
            last_state: Some(ContainerState {
                terminated: match one.phase {
                    Phase::BackOff { .. } => one.terminated.clone().or(one.last.clone()),
                    _ => one.last.clone(),
                },
                ..ContainerState::default()
            }),
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
            Phase::BackOff { .. }
                if one.backoff == Some(spec.options.backoff_initial) && one.terminated.is_some() =>
            {
                terminated(one.terminated.clone().unwrap_or_default())
            }
            Phase::BackOff { .. } => {
                let wait = one.backoff.unwrap_or_default() / 2;
                let name = &spec.container(at).name;
                waiting(
                    "CrashLoopBackOff",
                    Some(format!("back-off {}s restarting failed container={name}", wait.as_secs())),
                )
            }
            Phase::NoImage { reason, message, fresh_until, .. } => match (fresh_until.is_none(), *reason) {
                (true, "ErrImagePull") => {
                    let message = format!("Back-off pulling image \"{}\": {message}", one.image);
                    waiting("ImagePullBackOff", Some(message))
                }
                _ => waiting(reason, Some(message.clone())),
            },
            Phase::NotCreated { reason, message, .. } => waiting(reason, Some(message.clone())),
            Phase::Pulling | Phase::Waiting | Phase::Starting => match self.ending {
                // It never came to run, and will not.
                Some(_) if self.finished && spec.kind(at) == Kind::App => waiting("ContainerCreating", None),
                _ if spec.kind(at) == Kind::App && self.has_inits(spec) => waiting("PodInitializing", None),
                _ if at > 0 && matches!(spec.kind(at), Kind::Init | Kind::Sidecar) => {
                    waiting("PodInitializing", None)
                }
                _ => waiting("ContainerCreating", None),
            },
        }
    }

    fn has_inits(&self, spec: &Spec) -> bool {
        (0..self.all.len()).any(|at| matches!(spec.kind(at), Kind::Init | Kind::Sidecar))
    }

    /// R-APP-6, each with the time at which it last changed.
    pub(super) fn set_conditions(&mut self, spec: &Spec, now: Now) {
        let inits_done = self.all.iter().enumerate().all(|(at, o): (usize, &One)| match spec.kind(at) {
            Kind::Init => o.phase == Phase::Ended && o.exit_code() == Some(0),
            Kind::Sidecar => o.started || self.all[at + 1..].iter().any(|l| l.started_at.is_some()),
            Kind::App | Kind::Ephemeral => true,
        });
        let ready = self.all.iter().enumerate().all(|(at, o)| match spec.kind(at) {
            Kind::Init | Kind::Ephemeral => true,
            _ => o.ready && o.phase == Phase::Running,
        });
        for (name, value) in [
            ("PodScheduled", true),
            ("PodReadyToStartContainers", self.sandbox && !self.finished),
            ("Initialized", inits_done),
            ("ContainersReady", ready),
            ("Ready", ready),
        ] {
            let known = self.conditions.entry(name).or_insert((value, now.wall));
            if known.0 != value {
                *known = (value, now.wall);
            }
        }
    }

    fn conditions(&self) -> Vec<PodCondition> {
        let one = |(name, (value, at)): (&&'static str, &(bool, _))| PodCondition {
            type_: (*name).to_owned(),
            status: if *value { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(Time(*at)),
            ..PodCondition::default()
        };
        self.conditions.iter().map(one).collect()
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(terminated: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}
