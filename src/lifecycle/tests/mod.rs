//! The rules, each by its name, on a virtual clock.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    jiff::Timestamp,
};

use super::*;

mod app;
mod eph;
mod hook;
mod init;
mod job;
mod probe;
mod random_pods;
mod side;
mod simulation;
mod term;
mod upd;

/// The life of a pod whose containers do as the test says.
struct Simulation {
    spec: Spec,
    state: State,
    at: Duration,
    /// These images cannot be had.
    broken_images: Vec<&'static str>,
    /// These containers' starts fail.
    broken_starts: Vec<(&'static str, StartFailure)>,
    /// The reason why no container can be given other resources.
    resize_error: Option<String>,
    /// Events, `Killing: Stopping container a`.
    records: Vec<String>,
    /// Everything that was to be done, `start a/0`, `kill 15 a/0`, `finish`.
    done: Vec<String>,
    /// Containers made before their turn.
    made: Vec<String>,
}

impl Simulation {
    /// Begins the pod; every image is there and the sandbox stands.
    fn of(pod: serde_json::Value) -> Simulation {
        Simulation::with(pod, &Options::default())
    }

    fn with(pod: serde_json::Value, options: &Options) -> Simulation {
        let pod: Pod = serde_json::from_value(
            serde_json::json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": pod}),
        )
        .unwrap();
        let spec = Spec::new(&pod, options);
        let now = Now { monotonic: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
        let state = State::new(&spec, now);
        let mut simulation = Simulation {
            spec,
            state,
            at: Duration::ZERO,
            broken_images: Vec::new(),
            broken_starts: Vec::new(),
            resize_error: None,
            records: Vec::new(),
            done: Vec::new(),
            made: Vec::new(),
        };
        let actions = begin(&simulation.spec, &mut simulation.state, now);
        simulation.take(actions);
        simulation.event(Event::SandboxReady { pod_ips: vec!["10.0.0.1".into()], host_ips: Vec::new() });
        simulation
    }

    fn now(&self) -> Now {
        let wall = Timestamp::UNIX_EPOCH + k8s_openapi::jiff::SignedDuration::try_from(self.at).unwrap();
        Now { monotonic: self.at, wall }
    }

    fn event(&mut self, event: Event) {
        let now = self.now();
        let actions = step(&self.spec, &mut self.state, event, now);
        self.take(actions);
    }

    /// Starts and pulls succeed at once; everything else is noted for the test.
    fn take(&mut self, actions: Vec<Action>) {
        let name = |run: &Run| format!("{}/{}", run.container, run.attempt);
        for action in actions {
            match action {
                Action::PullImage { container } if self.broken_images.contains(&container.as_str()) => {
                    self.event(Event::ImageFailed {
                        container,
                        reason: ImageFailure::Pull,
                        message: "no such image".into(),
                    });
                }
                Action::PullImage { container } => self.event(Event::ImageReady {
                    image: container.clone(),
                    container,
                    image_id: "i".into(),
                    stop_signal: None,
                    pulled: None,
                }),
                Action::CreateContainer { run } => self.made.push(run.container),
                Action::StartContainer { run } => {
                    self.done.push(format!("start {}", name(&run)));
                    let broken = self.broken_starts.iter().find(|(name, _)| *name == run.container);
                    if let Some((_, reason)) = broken.copied() {
                        self.event(Event::StartFailed { run, reason, message: "no such file".into() });
                        continue;
                    }
                    self.event(Event::Started { run, container_id: "c".into(), user: Default::default() });
                }
                Action::Signal { run, signal } => self.done.push(format!("kill {signal} {}", name(&run))),
                Action::RunHook { run, hook, .. } => self.done.push(format!("{hook:?} {}", name(&run))),
                Action::RunProbe { run, probe } => self.done.push(format!("{probe:?} {}", name(&run))),
                Action::Resize { run } => {
                    self.done.push(format!("resize {}", name(&run)));
                    let result = self.resize_error.clone().map_or(Ok(()), Err);
                    self.event(Event::Resized { run, result });
                }
                Action::ResizePod => {
                    self.done.push("resize pod".to_owned());
                    let result = self.resize_error.clone().map_or(Ok(()), Err);
                    self.event(Event::PodResized(result));
                }
                Action::Record(r) => self.records.push(format!("{}: {}", r.reason, r.message)),
                Action::Finish => self.done.push("finish".into()),
            }
        }
    }

    fn exit(&mut self, name: &str, code: i32) {
        let run = self.run(name);
        self.event(Event::Exited { run, exit: Exit::Code(code), oom_killed: false, message: String::new() });
    }

    fn probe(&mut self, name: &str, probe: Probe, passes: bool) {
        let run = self.run(name);
        let result = if passes { Ok(()) } else { Err("no".into()) };
        self.event(Event::ProbeEnded { run, probe, result });
    }

    fn hook(&mut self, name: &str, hook: Hook, passes: bool) {
        let run = self.run(name);
        let result = if passes { Ok(()) } else { Err("no".into()) };
        self.event(Event::HookEnded { run, hook, result });
    }

    fn run(&self, name: &str) -> Run {
        let at = self.spec.containers.iter().position(|(_, c)| c.name == name).unwrap();
        Run { container: name.into(), attempt: self.state.all[at].attempt }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.at + Duration::from_secs(seconds);
        while let Some(next) = self.state.next_deadline(&self.spec).filter(|next| *next <= end) {
            self.at = self.at.max(next);
            self.event(Event::Tick);
        }
        self.at = end;
        self.event(Event::Tick);
    }

    /// Returns what was done since the last time this was asked.
    fn take_done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    /// Returns a container's status, as JSON.
    fn container(&self, name: &str) -> serde_json::Value {
        let status = self.status();
        let mut all = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
        serde_json::to_value(all.find(|c| c.name == name).unwrap()).unwrap()
    }

    /// Returns a condition as `status reason message`.
    fn condition(&self, name: &str) -> String {
        let all = self.status().conditions.unwrap();
        let c = all.into_iter().find(|c| c.type_ == name).unwrap();
        let words = [Some(c.status), c.reason, c.message];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn status(&self) -> PodStatus {
        self.state.status(&self.spec)
    }

    fn delete(&mut self) {
        self.event(Event::Delete { grace_period: None });
    }
}

fn pod(policy: &str, init: serde_json::Value, apps: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 30, "initContainers": init, "containers": apps})
}

fn named(name: &str) -> serde_json::Value {
    serde_json::json!({"name": name, "image": "i"})
}

fn sidecar(name: &str) -> serde_json::Value {
    serde_json::json!({"name": name, "image": "i", "restartPolicy": "Always"})
}

macro_rules! list {
    ($($item:expr),*) => { serde_json::Value::Array(vec![$($item),*]) };
}

use list;
