//! R-APP: app containers, their restarts and what status says of them.

use super::*;

#[test]
fn r_app_1_the_next_app_waits_for_post_start() {
    let mut first = named("a");
    first["lifecycle"] = serde_json::json!({"postStart": {"exec": {}}});
    let mut s = Simulation::of(pod("Always", list![], list![first, named("b")]));
    assert_eq!(s.take_done(), ["start a/0", "PostStart a/0"]);
    s.hook("a", Hook::PostStart, true);
    assert_eq!(s.take_done(), ["start b/0"]);
}

#[test]
fn r_app_3_back_off_doubles_to_its_limit_and_is_reset_by_a_long_run() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    let mut waits = Vec::new();
    for _ in 0..8 {
        s.exit("a", 1);
        let began = s.at;
        s.take_done();
        while s.state.all[0].phase != state::Phase::Running {
            s.pass(1);
        }
        waits.push((s.at - began).as_secs());
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    s.pass(600);
    s.take_done();
    s.exit("a", 1);
    assert_eq!(s.take_done(), ["start a/9"]);
}

#[test]
fn r_app_5_the_phase_when_all_apps_have_ended() {
    for (codes, phase) in [([0, 0], "Succeeded"), ([0, 3], "Failed")] {
        let mut s = Simulation::of(pod("Never", list![], list![named("a"), named("b")]));
        s.exit("a", codes[0]);
        assert_eq!(s.status().phase.as_deref(), Some("Running"));
        s.exit("b", codes[1]);
        assert_eq!(s.status().phase.as_deref(), Some(phase));
        assert_eq!(s.take_done().last().unwrap(), "finish");
    }
}

#[test]
fn r_app_7_the_deadline_fails_the_pod() {
    let mut text = pod("Always", list![], list![named("a")]);
    text["activeDeadlineSeconds"] = 5.into();
    let mut s = Simulation::of(text);
    s.pass(5);
    assert_eq!(s.take_done(), ["start a/0", "kill 15 a/0"]);
    s.exit("a", 0);
    assert_eq!(
        (s.status().phase.as_deref(), s.status().reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}

#[test]
fn r_app_8_the_status_word_is_kubectls() {
    let mut s = Simulation::of(pod("Always", list![named("i"), named("j")], list![named("a")]));
    let word = |s: &Simulation| {
        let mut spec = serde_json::json!({"containers": [named("a")]});
        spec["initContainers"] = list![named("i"), named("j")];
        let pod = serde_json::json!({"metadata": {}, "spec": spec, "status": s.status()});
        crate::view::status_column::summarize_pod(&serde_json::from_value(pod).unwrap()).status
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
fn r_app_2_rules_on_exit_codes_override_the_policy() {
    let rule = |action: &str, operator: &str, code: i32| {
        let mut app = named("a");
        app["restartPolicy"] = "Never".into();
        app["restartPolicyRules"] =
            serde_json::json!([{"action": action, "exitCodes": {"operator": operator, "values": [code]}}]);
        app
    };
    for (action, operator, listed, code, expected) in [
        ("Restart", "In", 42, 42, vec!["start a/1"]),
        ("Restart", "In", 42, 1, vec!["finish"]),
        ("Restart", "NotIn", 42, 1, vec!["start a/1"]),
        ("Restart", "NotIn", 42, 42, vec!["finish"]),
        ("RestartAllContainers", "In", 42, 42, vec!["start i/1"]),
    ] {
        let mut s = Simulation::of(pod("Never", list![named("i")], list![rule(action, operator, listed)]));
        s.exit("i", 0);
        s.take_done();
        s.exit("a", code);
        assert_eq!(s.take_done(), expected, "{action} {operator} {listed}, exit code {code}");
    }
}

#[test]
fn r_app_3_the_words_of_a_back_off_are_the_kubelets() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    for (wait, seconds) in
        [("10s", 10), ("20s", 20), ("40s", 40), ("1m20s", 80), ("2m40s", 160), ("5m0s", 300)]
    {
        if seconds == 10 {
            s.exit("a", 1);
        }
        s.exit("a", 1);
        let words = format!("back-off {wait} restarting failed container=a pod=p_n(u)");
        assert_eq!(s.container("a")["state"]["waiting"]["message"], words);
        assert_eq!(
            s.records.last().unwrap(),
            "BackOff: Back-off restarting failed container a in pod p_n(u)"
        );
        s.pass(seconds);
    }
}

#[test]
fn r_app_4_a_start_that_fails_is_shown_with_its_cause_then_as_a_back_off() {
    let mut s = Simulation::of(pod("Always", list![named("i")], list![named("a")]));
    s.broken_starts.push(("a", StartFailure::Start));
    s.exit("i", 0);
    let state = s.container("a")["state"]["waiting"].clone();
    assert_eq!(
        (state["reason"].as_str(), state["message"].as_str()),
        (Some("RunContainerError"), Some("no such file"))
    );
    s.pass(1);
    let one = s.container("a");
    assert_eq!(one["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(one["lastState"]["terminated"]["reason"], "StartError");
    assert_eq!(one["lastState"]["terminated"]["exitCode"], 128);
}

#[test]
fn r_app_1_an_app_that_cannot_start_harms_no_other() {
    let mut s = Simulation::of(pod("Always", list![named("i")], list![named("a"), named("b")]));
    s.broken_starts.push(("a", StartFailure::CreateContainerConfig));
    s.exit("i", 0);
    assert_eq!(s.take_done(), ["start i/0", "start a/0", "start b/0"]);
    assert_eq!(s.container("a")["state"]["waiting"]["reason"], "CreateContainerConfigError");
}

#[test]
fn r_img_1_a_failed_pull_is_shown_as_such_then_as_a_back_off_and_tried_again() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    s.event(Event::ImagePulling { container: "a".into(), image: "i".into() });
    s.event(Event::ImageFailed { container: "a".into(), reason: ImageFailure::Pull, message: "gone".into() });
    assert_eq!(s.container("a")["state"]["waiting"]["reason"], "ErrImagePull");
    s.pass(1);
    let waiting = s.container("a")["state"]["waiting"].clone();
    assert_eq!(waiting["reason"], "ImagePullBackOff");
    assert_eq!(waiting["message"], "Back-off pulling image \"i\": ErrImagePull: gone");
    assert!(s.records.contains(&"BackOff: Back-off pulling image \"i\"".to_owned()));
    s.pass(9);
    assert_eq!(s.status().phase.as_deref(), Some("Running"));
}

#[test]
fn r_app_4_an_end_has_its_code_its_signal_its_reason_and_its_times() {
    for (exit, oom_killed, code, signal, reason) in [
        (Exit::Code(0), false, 0, None, "Completed"),
        (Exit::Code(3), false, 3, None, "Error"),
        (Exit::Signal(15), false, 143, Some(15), "Error"),
        (Exit::Signal(9), true, 137, Some(9), "OOMKilled"),
    ] {
        let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
        s.pass(5);
        let run = s.run("a");
        s.event(Event::Exited { run, exit, oom_killed, message: "words".into() });
        let one = s.container("a");
        let ended = &one["lastState"]["terminated"];
        assert_eq!(
            (&ended["exitCode"], &ended["signal"], &ended["reason"], &ended["message"]),
            (&code.into(), &signal.into(), &reason.into(), &"words".into())
        );
        assert_eq!(
            (&ended["startedAt"], &ended["finishedAt"]),
            (&"1970-01-01T00:00:00Z".into(), &"1970-01-01T00:00:05Z".into())
        );
        assert_eq!((&one["restartCount"], one["state"]["running"].is_object()), (&1.into(), true));
    }
}

#[test]
fn r_app_6_a_condition_keeps_the_time_at_which_it_became_so() {
    let mut app = named("a");
    app["readinessProbe"] = serde_json::json!({"exec": {}});
    let mut s = Simulation::of(pod("Always", list![], list![app]));
    let since = |s: &Simulation, name: &str| {
        let all = s.status().conditions.unwrap();
        let found = all.into_iter().find(|c| c.type_ == name).unwrap();
        found.last_transition_time.unwrap().0.as_second()
    };
    s.pass(3);
    s.probe("a", Probe::Readiness, true);
    s.pass(4);
    assert_eq!((since(&s, "Ready"), since(&s, "ContainersReady")), (3, 3));
    for name in ["PodScheduled", "PodReadyToStartContainers", "Initialized"] {
        assert_eq!((since(&s, name), s.condition(name).as_str()), (0, "True"), "{name}");
    }
}

#[test]
fn r_app_5_the_pod_is_pending_until_every_app_container_has_run() {
    let hold = serde_json::json!({"postStart": {"exec": {"command": ["x"]}}});
    let first = serde_json::json!({"name": "a", "lifecycle": hold});
    let mut s = Simulation::of(pod("Always", list![], list![first, named("b")]));
    let phase = |s: &Simulation| s.state.status(&s.spec).phase.unwrap();
    assert_eq!(phase(&s), "Pending");
    s.hook("a", Hook::PostStart, true);
    assert_eq!(phase(&s), "Running");
    // What has run once keeps the pod running, whatever comes of it.
    s.broken_starts.push(("b", StartFailure::CreateContainerConfig));
    s.exit("b", 1);
    s.pass(100);
    assert_eq!(s.container("b")["state"]["waiting"]["reason"], "CreateContainerConfigError");
    assert_eq!(phase(&s), "Running");
}
