//! R-SIDE: native sidecars.

use super::*;

#[test]
fn r_side_1_the_next_one_waits_for_the_startup_probe_not_for_readiness() {
    let mut side = sidecar("s");
    side["startupProbe"] = serde_json::json!({"exec": {}, "periodSeconds": 1});
    side["readinessProbe"] = serde_json::json!({"exec": {}});
    let mut s = Simulation::of(pod("Always", list![side, named("i")], list![named("a")]));
    assert_eq!(s.take_done(), ["start s/0", "Startup s/0"]);
    s.probe("s", Probe::Startup, false);
    s.pass(1);
    assert_eq!(s.take_done(), ["Startup s/0"]);
    s.probe("s", Probe::Startup, true);
    assert_eq!(s.take_done(), ["start i/0", "Readiness s/0"]);
}

#[test]
fn r_side_2_a_sidecar_is_restarted_whatever_the_policy_also_during_init() {
    let mut s = Simulation::of(pod("Never", list![sidecar("s"), named("i")], list![named("a")]));
    s.exit("s", 0);
    assert_eq!(s.take_done(), ["start s/0", "start i/0", "start s/1"]);
}

#[test]
fn r_side_3_and_4_sidecars_end_after_the_apps_in_reverse_order_and_decide_nothing() {
    let mut s = Simulation::of(pod("Never", list![sidecar("s"), sidecar("t")], list![named("a")]));
    s.take_done();
    s.exit("a", 0);
    assert_eq!(s.take_done(), ["kill 15 t/0"]);
    s.exit("t", 1);
    assert_eq!(s.take_done(), ["kill 15 s/0"]);
    s.exit("s", 1);
    assert_eq!(s.take_done(), ["finish"]);
    assert_eq!(s.status().phase.as_deref(), Some("Succeeded"));
}

#[test]
fn r_side_4_a_sidecar_whose_turn_comes_late_still_gets_two_seconds() {
    let mut s = Simulation::of(pod("Always", list![sidecar("s")], list![named("a")]));
    s.take_done();
    s.delete();
    s.pass(30);
    assert_eq!(s.take_done(), ["kill 15 a/0", "kill 9 a/0"]);
    s.exit("a", 137);
    assert_eq!(s.take_done(), ["kill 15 s/0"]);
    s.pass(2);
    assert_eq!(s.take_done(), ["kill 9 s/0"]);
}

#[test]
fn r_side_4_the_least_two_seconds_are_kept_through_other_events_and_force_ends_them() {
    let mut s = Simulation::of(pod("Always", list![sidecar("s"), sidecar("t")], list![named("a")]));
    s.take_done();
    s.delete();
    s.pass(30);
    s.exit("a", 137);
    s.pass(1);
    s.event(Event::Tick);
    assert_eq!(s.take_done(), ["kill 15 a/0", "kill 9 a/0", "kill 15 t/0"]);
    s.event(Event::Delete { grace_period: Some(Duration::ZERO) });
    assert_eq!(s.take_done(), ["kill 9 s/0", "kill 9 t/0"]);
}

#[test]
fn r_side_1_holds_again_when_the_pod_restarts() {
    let mut side = sidecar("s");
    side["startupProbe"] = serde_json::json!({"exec": {}, "periodSeconds": 1});
    let mut s = Simulation::of(pod("Always", list![side, named("i")], list![named("a")]));
    s.probe("s", Probe::Startup, true);
    s.exit("i", 0);
    s.take_done();
    s.event(Event::Restart);
    s.exit("a", 0);
    s.exit("s", 0);
    assert_eq!(s.take_done(), ["kill 15 a/0", "kill 15 s/0", "start s/1", "Startup s/1"]);
    s.probe("s", Probe::Startup, true);
    assert_eq!(s.take_done(), ["start i/1"]);
}

#[test]
fn r_side_5_a_second_app_container_that_dies_is_restarted_alone() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a"), named("classic")]));
    s.exit("classic", 1);
    assert_eq!(s.take_done(), ["start a/0", "start classic/0", "start classic/1"]);
    assert_eq!((&s.container("a")["restartCount"], &s.container("a")["ready"]), (&0.into(), &true.into()));
    s.delete();
    assert_eq!(s.take_done(), ["kill 15 a/0", "kill 15 classic/1"]);

    let mut s = Simulation::of(pod("Never", list![], list![named("a"), named("classic")]));
    s.exit("classic", 1);
    s.pass(600);
    assert_eq!(s.take_done(), ["start a/0", "start classic/0"]);
    assert_eq!(s.status().phase.as_deref(), Some("Running"));
}
