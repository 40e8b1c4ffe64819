//! Random pods, random events, a virtual clock; after every step the invariants of a pod's life.
//!
//! A failing life prints its seed: `PODCTL_SIMULATION_SEED=N` runs that one alone, with every step shown.
//! `PODCTL_SIMULATION_LIVES` says how many are tried.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::PodStatus, jiff::SignedDuration};
use serde_json::json;

use super::{
    super::spec::Kind,
    random_pods::{Random, random_container},
    *,
};

/// Names what a container, a hook or a probe will do next, and when.
#[derive(Clone, Debug)]
enum Plan {
    Report(Event),
    User(Event),
    /// Somebody changes what of a spec can be changed.
    Change,
}

struct Life {
    random: Random,
    spec: Spec,
    state: State,
    at: Duration,
    /// Steps of the wall clock so far.
    drift: i64,
    plans: BTreeMap<(Duration, u64), Plan>,
    planned: u64,
    verbose: bool,
    /// Runs that have been started and have not ended.
    live: BTreeSet<Run>,
    /// Every run that was ever asked for.
    asked: BTreeSet<Run>,
    /// Every run that was made before its turn.
    made: BTreeSet<Run>,
    ended: BTreeSet<Run>,
    /// Containers whose turn has come since the pod began, or began anew.
    begun: BTreeSet<usize>,
    /// Probes and hooks that have been asked for and not answered.
    outstanding: BTreeSet<String>,
    /// The time when each run was asked to end.
    termed: BTreeMap<Run, Duration>,
    /// The time when the user last wished something.
    wished: Duration,
    ending: Option<Duration>,
    by: Duration,
    /// The time when each live run began.
    began: BTreeMap<Run, Duration>,
    /// R-APP-3, counted once more: each container's next wait, and when its present one is over.
    waits: BTreeMap<String, Duration>,
    due: BTreeMap<String, Duration>,
    /// Containers that have been changed: their back-off has begun anew at some time.
    changed: BTreeSet<String>,
    finished: bool,
}

impl Life {
    fn new(seed: u64, verbose: bool) -> Life {
        let mut random = Random(seed);
        let mut inits = Vec::new();
        for n in 0..random.below(5) {
            let kind = if random.has_chance(50) { Kind::Sidecar } else { Kind::Init };
            inits.push(random_container(&mut random, format!("i{n}"), kind));
        }
        let mut apps = Vec::new();
        for n in 0..random.below(3) + 1 {
            apps.push(random_container(&mut random, format!("a{n}"), Kind::App));
        }
        let mut pod = json!({
            "restartPolicy": random.one_of(&["Always", "OnFailure", "Never"]),
            "terminationGracePeriodSeconds": random.one_of(&[0, 1, 5, 30]),
            "initContainers": inits,
            "containers": apps,
        });
        if random.has_chance(15) {
            pod["activeDeadlineSeconds"] = (random.below(600) + 1).into();
        }
        let options = Options { restart_pod_on_init_failure: random.has_chance(20), ..Options::default() };
        let pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": pod})).unwrap();
        let spec = Spec::new(&pod, &options);
        let now = Now { monotonic: Duration::ZERO, wall: Timestamp::from_second(1_000_000_000).unwrap() };
        let state = State::new(&spec, now);
        Life {
            random,
            spec,
            state,
            at: Duration::ZERO,
            drift: 0,
            plans: BTreeMap::new(),
            planned: 0,
            verbose,
            live: BTreeSet::new(),
            asked: BTreeSet::new(),
            made: BTreeSet::new(),
            ended: BTreeSet::new(),
            begun: BTreeSet::new(),
            outstanding: BTreeSet::new(),
            termed: BTreeMap::new(),
            wished: Duration::ZERO,
            ending: None,
            by: Duration::MAX,
            began: BTreeMap::new(),
            waits: BTreeMap::new(),
            due: BTreeMap::new(),
            changed: BTreeSet::new(),
            finished: false,
        }
    }

    fn plan(&mut self, after_ms: u64, plan: Plan) {
        self.planned += 1;
        self.plans.insert((self.at + Duration::from_millis(after_ms), self.planned), plan);
    }

    fn say(&self, words: &dyn std::fmt::Debug, arrow: &str) {
        if self.verbose {
            eprintln!("{:>9.3} {arrow} {words:?}", self.at.as_secs_f64());
        }
    }

    fn live(mut self) {
        let sandbox = Event::SandboxReady { pod_ips: vec!["10.0.0.1".into()], host_ips: Vec::new() };
        let after = self.random.below(2000);
        self.plan(after, Plan::Report(sandbox));
        // Somebody ends every pod some time.
        let end = self.random.below(2_000_000);
        self.plan(end, Plan::User(Event::Delete { grace_period: None }));
        for _ in 0..self.random.below(4) {
            let event = match self.random.below(6) {
                0 | 1 => Event::Restart,
                2 => Event::Delete { grace_period: Some(Duration::ZERO) },
                3 => Event::Delete { grace_period: Some(Duration::from_secs(self.random.below(60))) },
                4 => Event::Evict { message: "full".into() },
                _ => Event::Delete { grace_period: None },
            };
            let after = self.random.below(2_000_000);
            self.plan(after, Plan::User(event));
        }
        for _ in 0..self.random.below(4) {
            let after = self.random.below(1_000_000);
            self.plan(after, Plan::Change);
        }
        let now = self.now();
        let actions = begin(&self.spec, &mut self.state, now);
        self.act(actions);
        let mut turns = 0;
        while !self.finished {
            turns += 1;
            assert!(turns < 60_000, "the life does not end");
            let plan = self.plans.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.state.next_deadline(&self.spec);
            let next = plan.into_iter().chain(deadline).min().expect("something comes: the pod never ends");
            self.at = self.at.max(next);
            if self.random.has_chance(1) {
                self.drift += self.random.below(7200) as i64 - 3600;
            }
            match self.plans.first_entry().filter(|e| e.key().0 <= self.at) {
                Some(entry) => {
                    let plan = entry.remove();
                    self.play_plan(plan);
                }
                None => {
                    self.event(Event::Tick);
                    let again = self.state.next_deadline(&self.spec);
                    assert!(
                        again.is_none_or(|d| d > self.at),
                        "a deadline that has passed is asked for again: the supervisor would spin"
                    );
                }
            }
        }
        assert!(self.live.is_empty(), "finished while something runs");
        for run in &self.asked {
            assert!(self.ended.contains(run), "{run:?} was started and never ended");
        }
        let now = self.now();
        let actions = step(&self.spec, &mut self.state, Event::Restart, now);
        assert!(actions.is_empty(), "something is done after the end");
        let phase = self.state.status(&self.spec).phase;
        assert!(matches!(phase.as_deref(), Some("Succeeded" | "Failed")), "{phase:?} at the end");
    }

    fn now(&self) -> Now {
        let since = SignedDuration::try_from(self.at).unwrap() + SignedDuration::from_secs(self.drift);
        Now { monotonic: self.at, wall: Timestamp::from_second(1_000_000_000).unwrap() + since }
    }

    fn play_plan(&mut self, plan: Plan) {
        match plan {
            Plan::Change => self.change_spec(),
            Plan::User(event) => {
                self.wished = self.at;
                let grace = match &event {
                    Event::Delete { grace_period } => Some(grace_period.unwrap_or(self.spec.grace)),
                    Event::Evict { .. } => Some(Duration::ZERO),
                    _ => None,
                };
                if let Some(grace) = grace {
                    self.ending = Some(self.at);
                    self.by = self.by.min(self.at + grace);
                }
                self.event(event);
            }
            Plan::Report(event) => {
                match &event {
                    Event::Exited { run, .. } => {
                        // Whatever came first: a run ends once.
                        if !self.live.remove(run) {
                            return;
                        }
                        assert!(self.ended.insert(run.clone()), "{run:?} ended twice");
                    }
                    Event::StartFailed { run, reason: StartFailure::Start, .. } => {
                        self.ended.insert(run.clone());
                    }
                    Event::Started { run, .. } => {
                        self.live.insert(run.clone());
                        self.began.insert(run.clone(), self.at);
                        self.plan_exit(run.clone());
                    }
                    Event::HookEnded { run, hook, .. } => {
                        self.outstanding.remove(&format!("{run:?} {hook:?}"));
                    }
                    Event::Resized { run, .. } => {
                        self.outstanding.remove(&format!("{run:?} resize"));
                    }
                    Event::PodResized(_) => {
                        self.outstanding.remove("pod resize");
                    }
                    Event::ProbeEnded { run, probe, .. } => {
                        self.outstanding.remove(&format!("{run:?} {probe:?}"));
                    }
                    _ => {}
                }
                let ended = match &event {
                    Event::Exited { run, .. }
                    | Event::StartFailed { run, reason: StartFailure::Start, .. } => Some(run.clone()),
                    _ => None,
                };
                let anew = self.event(event);
                if let Some(run) = ended.filter(|_| !anew) {
                    self.check_back_off(&run);
                }
            }
        }
    }

    /// Another image or another limit, of one container.
    fn change_spec(&mut self) {
        let at = self.random.below(self.spec.containers.len() as u64) as usize;
        let (image, memory) = (format!("i{}", self.random.below(3)), self.random.below(3) + 1);
        let container = &mut self.spec.containers[at].1;
        match self.random.has_chance(50) {
            true => container.image = Some(image),
            false => {
                let limits = json!({"limits": {"memory": format!("{memory}Gi")}});
                container.resources = serde_json::from_value(limits).unwrap();
            }
        }
        self.changed.insert(container.name.clone());
        self.due.remove(&container.name);
        // What was made ahead is made anew.
        self.made.retain(|run| self.asked.contains(run));
        self.event(Event::Tick);
    }

    fn check_back_off(&mut self, run: &Run) {
        if self.changed.contains(&run.container) {
            return;
        }
        let ran = self.began.remove(run).map_or(Duration::ZERO, |began| self.at - began);
        if ran >= Duration::from_secs(600) {
            self.waits.remove(&run.container);
        }
        let (at, _) = self.kind(&run.container);
        let one = &self.state.all[at];
        // A wait of zero is over at once.
        let wait = match one.phase {
            state::Phase::BackOff { wait, .. } => wait,
            state::Phase::Starting if one.attempt == run.attempt + 1 && one.begun => Duration::ZERO,
            _ => return,
        };
        // Those wait together, by the pod's own back-off.
        if self.spec.may_restart_all() || self.spec.options.restart_pod_on_init_failure {
            return;
        }
        let expected = self.waits.get(&run.container).copied().unwrap_or_default();
        assert_eq!(wait, expected, "{run:?} waits otherwise than R-APP-3 says");
        let next = (expected * 2).clamp(Duration::from_secs(10), Duration::from_secs(300));
        self.waits.insert(run.container.clone(), next);
        if !wait.is_zero() {
            self.due.insert(run.container.clone(), self.at + wait);
        }
    }

    /// Exits by itself sooner, later or never.
    fn plan_exit(&mut self, run: Run) {
        let after = match self.random.below(4) {
            0 => self.random.below(1000),
            1 => self.random.below(60_000),
            2 => self.random.below(1_500_000),
            _ => return,
        };
        let exit = match self.random.below(6) {
            0 => Exit::Signal(11),
            n => Exit::Code((n as i32 - 1).min(2)),
        };
        self.plan_end(run, after, exit);
    }

    fn plan_end(&mut self, run: Run, after: u64, exit: Exit) {
        let oom_killed = self.random.has_chance(5);
        self.plan(after, Plan::Report(Event::Exited { run, exit, oom_killed, message: String::new() }));
    }

    /// Tells whether the pod began anew.
    fn event(&mut self, event: Event) -> bool {
        self.say(&event, "<");
        let now = self.now();
        let restarting = self.state.restarting.is_some() || event == Event::Restart;
        let actions = step(&self.spec, &mut self.state, event, now);
        let anew = restarting && self.state.restarting.is_none() && self.state.ending.is_none();
        if anew {
            self.begun.clear();
            self.due.clear();
            self.waits.clear();
        }
        self.act(actions);
        self.check_status();
        anew
    }

    fn kind(&self, name: &str) -> (usize, Kind) {
        let at = self.spec.containers.iter().position(|(_, c)| c.name == name).unwrap();
        (at, self.spec.kind(at))
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            if !matches!(action, Action::Record(_)) {
                self.say(&action, ">");
            }
            assert!(!self.finished, "{action:?} after Finish");
            match action {
                Action::PullImage { container } => {
                    let event = match self.random.has_chance(10) {
                        true => Event::ImageFailed {
                            container,
                            reason: self.random.one_of(&[ImageFailure::Pull, ImageFailure::NeverPull]),
                            message: "no".into(),
                        },
                        false => Event::ImageReady {
                            image: "i".into(),
                            container,
                            image_id: "i@sha256:0".into(),
                            stop_signal: None,
                            pulled: None,
                        },
                    };
                    let after = self.random.below(5000);
                    self.plan(after, Plan::Report(event));
                }
                Action::CreateContainer { run } => {
                    assert!(!self.asked.contains(&run), "{run:?} is made after its start");
                    assert!(self.made.insert(run.clone()), "{run:?} is made twice");
                }
                Action::StartContainer { run } => self.start(run),
                Action::Signal { run, signal } => self.signal(run, signal),
                Action::RunHook { run, hook, timeout } => {
                    assert!(self.live.contains(&run), "a hook of a dead run");
                    assert!(self.outstanding.insert(format!("{run:?} {hook:?}")), "the same hook twice");
                    let longest = timeout.map_or(120_000, |t| t.as_millis() as u64);
                    let result = if self.random.has_chance(70) { Ok(()) } else { Err("no".to_owned()) };
                    let after = if self.random.has_chance(20) {
                        longest
                    } else {
                        self.random.below(longest.min(5000) + 1)
                    };
                    self.plan(after, Plan::Report(Event::HookEnded { run, hook, result }));
                }
                Action::RunProbe { run, probe } => {
                    assert!(self.live.contains(&run), "a probe of a dead run");
                    assert!(
                        self.outstanding.insert(format!("{run:?} {probe:?}")),
                        "two of one probe at once"
                    );
                    let at = self.kind(&run.container).0;
                    let startup = self.spec.container(at).startup_probe.is_some();
                    assert!(
                        probe == Probe::Startup || !startup || self.state.all[at].started,
                        "{probe:?} before the startup probe has passed"
                    );
                    let result = if self.random.has_chance(80) { Ok(()) } else { Err("no".to_owned()) };
                    let after = self.random.below(1000);
                    self.plan(after, Plan::Report(Event::ProbeEnded { run, probe, result }));
                }
                Action::Resize { run } => {
                    assert!(self.live.contains(&run), "a resize of a dead run");
                    assert!(self.outstanding.insert(format!("{run:?} resize")), "two resizes at once");
                    let result = if self.random.has_chance(70) { Ok(()) } else { Err("no".to_owned()) };
                    let after = self.random.below(1000);
                    self.plan(after, Plan::Report(Event::Resized { run, result }));
                }
                Action::ResizePod => {
                    assert!(self.outstanding.insert("pod resize".to_owned()), "two resizes at once");
                    let result = if self.random.has_chance(70) { Ok(()) } else { Err("no".to_owned()) };
                    let after = self.random.below(1000);
                    self.plan(after, Plan::Report(Event::PodResized(result)));
                }
                Action::Record(_) => {}
                Action::Finish => self.finished = true,
            }
        }
    }

    fn start(&mut self, run: Run) {
        assert!(self.ending.is_none(), "{run:?} starts after the pod's end was asked for");
        assert!(self.asked.insert(run.clone()), "{run:?} starts twice");
        assert!(!self.live.iter().any(|r| r.container == run.container), "two runs of {run:?} at once");
        let at = self.kind(&run.container).0;
        let attempt = self.asked.iter().filter(|r| r.container == run.container).count() as u32;
        assert!(run.attempt + 1 >= attempt, "attempts do not grow");
        for before in 0..at {
            let one = &self.state.all[before];
            match self.spec.kind(before) {
                Kind::Init => assert!(
                    one.phase == state::Phase::Ended && one.exit_code() == Some(0),
                    "{run:?} starts before init container {before} is done"
                ),
                Kind::Sidecar => assert!(
                    one.started || self.begun.iter().any(|later| *later > before),
                    "{run:?} starts before sidecar {before} is started"
                ),
                Kind::App | Kind::Ephemeral => {}
            }
        }
        self.begun.insert(at);
        if let Some(due) = self.due.remove(&run.container) {
            assert_eq!(self.at, due, "{run:?} starts before or after its back-off");
        }
        let after = self.random.below(500);
        let event = match self.random.below(20) {
            0 => Some(StartFailure::CreateContainerConfig),
            1 => Some(StartFailure::Start),
            2 => Some(StartFailure::CreateContainer),
            _ => None,
        };
        // A container that was not created did not use up its attempt.
        match event {
            Some(StartFailure::Start) | None => {}
            _ => drop((self.asked.remove(&run), self.made.remove(&run))),
        }
        let event = match event {
            Some(reason) => Event::StartFailed { run, reason, message: "no".into() },
            None => Event::Started { run, container_id: "podctl://c".into(), user: Default::default() },
        };
        self.plan(after, Plan::Report(event));
    }

    fn signal(&mut self, run: Run, signal: i32) {
        assert!(self.live.contains(&run), "a signal to a dead run");
        let (at, kind) = self.kind(&run.container);
        if signal != 9 {
            let before = self.termed.insert(run.clone(), self.at);
            // Again only when all is to end sooner than it was to.
            let again = before.is_none() || self.state.stopping_all().is_some();
            assert!(again, "{run:?} is asked to end twice");
        } else if let Some(asked) = self.termed.get(&run)
            // One that was asked for another reason, before, has the grace period of that.
            && self.ending.is_some_and(|began| began < *asked)
            && kind == Kind::Sidecar
            && self.wished < *asked
        {
            assert!(self.at - *asked >= Duration::from_secs(2), "{run:?} is killed without its two seconds");
        }
        if self.ending.is_some() && kind == Kind::Sidecar && signal != 9 && !self.state.is_forced() {
            let later = self.live.iter().find(|r| self.kind(&r.container).0 > at);
            assert!(later.is_none(), "sidecar {run:?} is stopped before {later:?}");
        }
        match (signal, self.random.below(3)) {
            (9, _) => self.plan_end(run, 1, Exit::Signal(9)),
            (_, 0) => {}
            (_, 1) => self.plan_end(run, 0, Exit::Code(0)),
            _ => {
                let after = self.random.below(40_000);
                self.plan_end(run, after, Exit::Code(143));
            }
        }
    }

    fn check_status(&mut self) {
        let status = self.state.status(&self.spec);
        assert_legal(&status, self.finished);
        if let Some(ending) = &self.state.ending {
            // The pod may end by itself: its apps are over, its deadline has passed.
            self.ending.get_or_insert(self.at);
            let by = ending.by.min(self.by);
            let sidecars = self.spec.containers.iter().filter(|(kind, _)| *kind == Kind::Sidecar).count();
            // What was starting when the end came starts within half a second here, and dies in one more ms.
            let slack = Duration::from_secs(2 * (sidecars as u64 + 1)) + Duration::from_millis(600);
            assert!(self.finished || self.at <= by + slack, "the end takes longer than the grace period");
        }
    }
}

/// Does what the API server's validation and every reader of a status may count on.
fn assert_legal(status: &PodStatus, finished: bool) {
    let phase = status.phase.as_deref().unwrap();
    assert!(matches!(phase, "Pending" | "Running" | "Succeeded" | "Failed"), "{phase}");
    assert_eq!(finished, matches!(phase, "Succeeded" | "Failed"), "{phase} while finished is {finished}");
    let init = status.init_container_statuses.iter().flatten();
    for c in init.chain(status.container_statuses.iter().flatten()) {
        let state = c.state.as_ref().unwrap();
        let set = [state.waiting.is_some(), state.running.is_some(), state.terminated.is_some()];
        assert_eq!(set.iter().filter(|s| **s).count(), 1, "{}: one state at a time", c.name);
        if let Some(waiting) = &state.waiting {
            assert!(waiting.reason.is_some(), "{}: waiting without a reason", c.name);
        }
        if let Some(running) = &state.running {
            assert!(running.started_at.is_some() && c.container_id.is_some(), "{}", c.name);
        }
        let last = c.last_state.as_ref().and_then(|l| l.terminated.as_ref());
        for t in state.terminated.iter().chain(last) {
            assert!(t.reason.is_some() && t.started_at.is_some() && t.finished_at.is_some(), "{}", c.name);
            assert!(t.signal.is_none_or(|s| t.exit_code == 128 + s), "{}", c.name);
        }
        assert!(c.restart_count >= 0, "{}", c.name);
        assert!(c.started != Some(true) || state.running.is_some(), "{}: started but not running", c.name);
        let done = state.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
        assert!(!c.ready || state.running.is_some() || done, "{}: ready but not running", c.name);
    }
    let conditions = status.conditions.as_ref().unwrap();
    let names: BTreeSet<&str> = conditions.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(names.len(), conditions.len(), "every condition once");
    for name in ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"] {
        let c = conditions.iter().find(|c| c.type_ == name).unwrap();
        assert!(matches!(c.status.as_str(), "True" | "False") && c.last_transition_time.is_some(), "{name}");
        assert!(c.message.is_none() || c.reason.is_some(), "{name}: a message without a reason");
    }
    assert!(status.reason.is_none() || finished, "a reason before the end");
}

#[test]
fn random_lives_keep_every_invariant() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("PODCTL_SIMULATION_SEED") {
        return Life::new(seed, true).live();
    }
    let lives = number("PODCTL_SIMULATION_LIVES").unwrap_or(10_000);
    for seed in 0..lives {
        let life = std::panic::AssertUnwindSafe(|| Life::new(seed, false).live());
        if std::panic::catch_unwind(life).is_err() {
            panic!("life {seed} broke a rule; PODCTL_SIMULATION_SEED={seed} shows it step by step");
        }
    }
}
