//! The rules, each by its name, on a virtual clock.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    jiff::Timestamp,
};

use super::*;

/// A pod whose containers do as the test says.
struct Simulation {
    spec: Spec,
    state: State,
    at: Duration,
    /// Everything that was to be done, `start a/0`, `kill 15 a/0`, `finish`.
    done: Vec<String>,
}

impl Simulation {
    /// Begins the pod; every image is there and the sandbox stands.
    fn of(pod: serde_json::Value) -> Simulation {
        let pod: Pod =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": pod})).unwrap();
        let spec = Spec::new(&pod, &Options::default());
        let now = Now { monotonic: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
        let state = State::new(&spec, now);
        let mut simulation = Simulation { spec, state, at: Duration::ZERO, done: Vec::new() };
        let actions = begin(&simulation.spec, &mut simulation.state, now);
        simulation.take(actions);
        simulation.event(Event::SandboxReady { pod_ips: vec!["10.0.0.1".into()], host_ip: None });
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
                Action::PullImage { container } => self.event(Event::ImageReady {
                    image: container.clone(),
                    container,
                    image_id: "i".into(),
                    stop_signal: None,
                    pulled: None,
                }),
                Action::StartContainer { run } => {
                    self.done.push(format!("start {}", name(&run)));
                    self.event(Event::Started { run, container_id: "c".into() });
                }
                Action::Signal { run, signal } => self.done.push(format!("kill {signal} {}", name(&run))),
                Action::RunHook { run, hook, .. } => self.done.push(format!("{hook:?} {}", name(&run))),
                Action::RunProbe { run, probe } => self.done.push(format!("{probe:?} {}", name(&run))),
                Action::Record(_) => {}
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

    /// What was done since the last time this was asked.
    fn done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
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

#[test]
fn r_init_1_one_at_a_time_in_file_order_then_the_apps() {
    let mut s = Simulation::of(pod("Always", list![named("i"), named("j")], list![named("a"), named("b")]));
    assert_eq!(s.done(), ["start i/0"]);
    s.exit("i", 0);
    assert_eq!(s.done(), ["start j/0"]);
    assert_eq!(s.status().phase.as_deref(), Some("Pending"));
    s.exit("j", 0);
    assert_eq!(s.done(), ["start a/0", "start b/0"]);
    assert_eq!(s.status().phase.as_deref(), Some("Running"));
}

#[test]
fn r_init_2_a_failed_one_is_retried_or_fails_the_pod() {
    let mut s = Simulation::of(pod("OnFailure", list![named("i")], list![named("a")]));
    s.exit("i", 1);
    assert_eq!(s.done(), ["start i/0", "start i/1"]);
    s.exit("i", 1);
    s.pass(9);
    assert_eq!(s.done(), Vec::<String>::new());
    s.pass(1);
    assert_eq!(s.done(), ["start i/2"]);

    let mut s = Simulation::of(pod("Never", list![named("i")], list![named("a")]));
    s.exit("i", 1);
    assert_eq!(s.done(), ["start i/0", "finish"]);
    assert_eq!(s.status().phase.as_deref(), Some("Failed"));
}

#[test]
fn r_init_3_a_restart_of_the_pod_runs_every_init_container_again() {
    let mut s = Simulation::of(pod("Always", list![named("i")], list![named("a")]));
    s.exit("i", 0);
    s.event(Event::Restart);
    assert_eq!(s.done(), ["start i/0", "start a/0", "kill 15 a/0"]);
    s.exit("a", 0);
    assert_eq!(s.done(), ["start i/1"]);
    s.exit("i", 0);
    assert_eq!(s.done(), ["start a/1"]);
}

#[test]
fn r_side_1_the_next_one_waits_for_the_startup_probe_not_for_readiness() {
    let mut side = sidecar("s");
    side["startupProbe"] = serde_json::json!({"exec": {}, "periodSeconds": 1});
    side["readinessProbe"] = serde_json::json!({"exec": {}});
    let mut s = Simulation::of(pod("Always", list![side, named("i")], list![named("a")]));
    assert_eq!(s.done(), ["start s/0", "Startup s/0"]);
    s.probe("s", Probe::Startup, false);
    s.pass(1);
    assert_eq!(s.done(), ["Startup s/0"]);
    s.probe("s", Probe::Startup, true);
    assert_eq!(s.done(), ["start i/0", "Readiness s/0"]);
}

#[test]
fn r_side_2_a_sidecar_is_restarted_whatever_the_policy_also_during_init() {
    let mut s = Simulation::of(pod("Never", list![sidecar("s"), named("i")], list![named("a")]));
    s.exit("s", 0);
    assert_eq!(s.done(), ["start s/0", "start i/0", "start s/1"]);
}

#[test]
fn r_side_3_and_4_sidecars_end_after_the_apps_in_reverse_order_and_decide_nothing() {
    let mut s = Simulation::of(pod("Never", list![sidecar("s"), sidecar("t")], list![named("a")]));
    s.done();
    s.exit("a", 0);
    assert_eq!(s.done(), ["kill 15 t/0"]);
    s.exit("t", 1);
    assert_eq!(s.done(), ["kill 15 s/0"]);
    s.exit("s", 1);
    assert_eq!(s.done(), ["finish"]);
    assert_eq!(s.status().phase.as_deref(), Some("Succeeded"));
}

#[test]
fn r_side_4_a_sidecar_whose_turn_comes_late_still_gets_two_seconds() {
    let mut s = Simulation::of(pod("Always", list![sidecar("s")], list![named("a")]));
    s.done();
    s.delete();
    s.pass(30);
    assert_eq!(s.done(), ["kill 15 a/0", "kill 9 a/0"]);
    s.exit("a", 137);
    assert_eq!(s.done(), ["kill 15 s/0"]);
    s.pass(2);
    assert_eq!(s.done(), ["kill 9 s/0"]);
}

#[test]
fn r_app_1_the_next_app_waits_for_post_start() {
    let mut first = named("a");
    first["lifecycle"] = serde_json::json!({"postStart": {"exec": {}}});
    let mut s = Simulation::of(pod("Always", list![], list![first, named("b")]));
    assert_eq!(s.done(), ["start a/0", "PostStart a/0"]);
    s.hook("a", Hook::PostStart, true);
    assert_eq!(s.done(), ["start b/0"]);
}

#[test]
fn r_app_3_back_off_doubles_to_its_limit_and_is_reset_by_a_long_run() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    let mut waits = Vec::new();
    for _ in 0..8 {
        s.exit("a", 1);
        let began = s.at;
        s.done();
        while s.state.all[0].phase != state::Phase::Running {
            s.pass(1);
        }
        waits.push((s.at - began).as_secs());
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    s.pass(600);
    s.done();
    s.exit("a", 1);
    assert_eq!(s.done(), ["start a/9"]);
}

#[test]
fn r_app_5_the_phase_when_all_apps_have_ended() {
    for (codes, phase) in [([0, 0], "Succeeded"), ([0, 3], "Failed")] {
        let mut s = Simulation::of(pod("Never", list![], list![named("a"), named("b")]));
        s.exit("a", codes[0]);
        assert_eq!(s.status().phase.as_deref(), Some("Running"));
        s.exit("b", codes[1]);
        assert_eq!(s.status().phase.as_deref(), Some(phase));
        assert_eq!(s.done().last().unwrap(), "finish");
    }
}

#[test]
fn r_app_7_the_deadline_fails_the_pod() {
    let mut text = pod("Always", list![], list![named("a")]);
    text["activeDeadlineSeconds"] = 5.into();
    let mut s = Simulation::of(text);
    s.pass(5);
    assert_eq!(s.done(), ["start a/0", "kill 15 a/0"]);
    s.exit("a", 0);
    assert_eq!(
        (s.status().phase.as_deref(), s.status().reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}

#[test]
fn r_hook_1_pre_stop_runs_before_sigterm_inside_the_grace_period() {
    let mut app = named("a");
    app["lifecycle"] = serde_json::json!({"preStop": {"exec": {}}});
    let mut s = Simulation::of(pod("Always", list![], list![app]));
    s.delete();
    assert_eq!(s.done(), ["start a/0", "PreStop a/0"]);
    s.pass(10);
    s.hook("a", Hook::PreStop, false);
    assert_eq!(s.done(), ["kill 15 a/0"]);
    s.pass(20);
    assert_eq!(s.done(), ["kill 9 a/0"]);
}

#[test]
fn r_probe_1_liveness_restarts_and_readiness_only_shows() {
    let mut app = named("a");
    app["livenessProbe"] = serde_json::json!({"exec": {}, "periodSeconds": 1, "failureThreshold": 2});
    app["readinessProbe"] = serde_json::json!({"exec": {}, "periodSeconds": 1, "failureThreshold": 1});
    let mut s = Simulation::of(pod("Always", list![], list![app]));
    let ready = |s: &Simulation| s.status().container_statuses.unwrap()[0].ready;
    assert!(!ready(&s));
    s.probe("a", Probe::Readiness, true);
    assert!(ready(&s));
    s.probe("a", Probe::Readiness, false);
    assert!(!ready(&s));
    s.probe("a", Probe::Liveness, false);
    s.pass(1);
    assert!(!s.done().contains(&"kill 15 a/0".to_owned()));
    s.probe("a", Probe::Liveness, false);
    assert_eq!(s.done(), ["kill 15 a/0"]);
    s.exit("a", 0);
    assert_eq!(s.done()[0], "start a/1");
}

#[test]
fn r_term_1_nothing_starts_after_a_delete_and_a_second_one_only_shortens() {
    let mut s = Simulation::of(pod("Always", list![named("i")], list![named("a")]));
    s.done();
    s.delete();
    s.event(Event::Delete { grace_period: Some(Duration::ZERO) });
    assert_eq!(s.done(), ["kill 15 i/0", "kill 9 i/0"]);
    s.exit("i", 0);
    assert_eq!(s.done(), ["finish"]);
    s.event(Event::Restart);
    s.pass(100);
    assert_eq!(s.done(), Vec::<String>::new());
}

#[test]
fn r_app_8_the_status_word_is_kubectls() {
    let mut s = Simulation::of(pod("Always", list![named("i"), named("j")], list![named("a")]));
    let word = |s: &Simulation| {
        let mut spec = serde_json::json!({"containers": [named("a")]});
        spec["initContainers"] = list![named("i"), named("j")];
        let pod = serde_json::json!({"metadata": {}, "spec": spec, "status": s.status()});
        printed_status(&serde_json::from_value(pod).unwrap())
    };
    assert_eq!(word(&s), "Init:0/2");
    s.exit("i", 0);
    assert_eq!(word(&s), "Init:1/2");
    s.exit("j", 1);
    s.exit("j", 1);
    assert_eq!(word(&s), "Init:CrashLoopBackOff");
    s.pass(20);
    s.exit("j", 0);
    assert_eq!(word(&s), "Running");
    s.exit("a", 2);
    s.exit("a", 2);
    assert_eq!(word(&s), "CrashLoopBackOff");
}

#[test]
fn r_eph_1_an_ephemeral_container_is_never_restarted_and_ends_with_the_pod() {
    let mut pod = Simulation::of(serde_json::json!({"containers": [{"name": "a"}]}));
    for name in ["d", "e"] {
        let added =
            k8s_openapi::api::core::v1::EphemeralContainer { name: name.into(), ..Default::default() };
        pod.spec.add_ephemeral(&added);
        pod.event(Event::AddEphemeralContainer(Box::new(added)));
    }
    pod.exit("d", 1);
    pod.event(Event::Tick);
    let status = pod.state.status(&pod.spec);
    let ephemeral = status.ephemeral_container_statuses.unwrap();
    assert_eq!(ephemeral[0].state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    assert_eq!((ephemeral[0].restart_count, status.phase.as_deref()), (0, Some("Running")));
    pod.event(Event::Delete { grace_period: None });
    assert_eq!(pod.done, ["start a/0", "start d/0", "start e/0", "kill 15 a/0", "kill 15 e/0"]);
    pod.exit("a", 0);
    pod.exit("e", 0);
    assert_eq!(pod.done.last().unwrap(), "finish");
}
