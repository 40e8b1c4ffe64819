//! R-PROBE: probes.

use super::*;

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
    assert!(!s.take_done().contains(&"kill 15 a/0".to_owned()));
    s.probe("a", Probe::Liveness, false);
    assert_eq!(s.take_done(), ["kill 15 a/0"]);
    s.exit("a", 0);
    assert_eq!(s.take_done()[0], "start a/1");
}

#[test]
fn r_probe_1_a_failed_liveness_probe_restarts_also_what_ends_with_0_unless_it_never_restarts() {
    let mut app = named("a");
    app["livenessProbe"] =
        serde_json::json!({"exec": {}, "failureThreshold": 1, "terminationGracePeriodSeconds": 3});
    for (policy, end, then) in [("OnFailure", ", will be restarted", "start a/1"), ("Never", "", "finish")] {
        let mut s = Simulation::of(pod(policy, list![], list![app.clone()]));
        s.probe("a", Probe::Liveness, false);
        assert_eq!(s.records.last().unwrap(), &format!("Killing: Container a failed liveness probe{end}"));
        s.pass(3);
        assert_eq!(s.take_done(), ["start a/0", "Liveness a/0", "kill 15 a/0", "kill 9 a/0"]);
        s.exit("a", 0);
        assert_eq!(s.take_done()[0], then);
    }
}

#[test]
fn r_probe_2_only_readiness_goes_on_while_the_pod_ends() {
    let mut app = named("a");
    app["livenessProbe"] = serde_json::json!({"exec": {}, "periodSeconds": 5});
    app["readinessProbe"] = serde_json::json!({"exec": {}, "periodSeconds": 5});
    let mut s = Simulation::of(pod("Always", list![], list![app]));
    s.probe("a", Probe::Liveness, true);
    s.probe("a", Probe::Readiness, true);
    s.delete();
    s.take_done();
    s.pass(5);
    assert_eq!(s.take_done(), ["Readiness a/0"]);
}

#[test]
fn r_probe_1_startup_gates_the_others_and_its_failure_restarts() {
    let mut app = named("a");
    app["startupProbe"] = serde_json::json!({"exec": {}, "failureThreshold": 2, "periodSeconds": 2});
    app["livenessProbe"] = serde_json::json!({"exec": {}});
    app["readinessProbe"] = serde_json::json!({"exec": {}});
    let mut s = Simulation::of(pod("Always", list![], list![app]));
    s.probe("a", Probe::Startup, false);
    s.pass(2);
    s.probe("a", Probe::Startup, false);
    assert_eq!(s.take_done(), ["start a/0", "Startup a/0", "Startup a/0", "kill 15 a/0"]);
    s.exit("a", 143);
    s.probe("a", Probe::Startup, true);
    assert_eq!(s.take_done(), ["start a/1", "Startup a/1", "Liveness a/1", "Readiness a/1"]);
}

#[test]
fn r_probe_1_the_defaults_are_the_kubelets() {
    let mut app = named("a");
    app["livenessProbe"] = serde_json::json!({"exec": {}});
    let mut s = Simulation::of(pod("Always", list![], list![app]));
    for _ in 0..2 {
        s.probe("a", Probe::Liveness, false);
        s.pass(9);
        s.take_done();
        s.pass(1);
        assert_eq!(s.take_done(), ["Liveness a/0"], "every ten seconds");
    }
    s.probe("a", Probe::Liveness, false);
    assert_eq!(s.take_done(), ["kill 15 a/0"], "at the third failure in a row");
}

#[test]
fn r_probe_1_a_warning_of_a_probe_is_told_and_changes_nothing() {
    let mut app = named("a");
    app["readinessProbe"] = serde_json::json!({"exec": {}});
    let mut s = Simulation::of(pod("Always", list![], list![app]));
    let run = Run { container: "a".into(), attempt: 0 };
    s.event(Event::ProbeWarned { run, probe: Probe::Readiness, message: "elsewhere".into() });
    assert_eq!(s.records.last().unwrap(), "ProbeWarning: Readiness probe warning: elsewhere");
    assert!(!s.status().container_statuses.unwrap()[0].ready);
}
