//! R-INIT: init containers.

use super::*;

#[test]
fn r_init_1_one_at_a_time_in_file_order_then_the_apps() {
    let mut s = Simulation::of(pod("Always", list![named("i"), named("j")], list![named("a"), named("b")]));
    assert_eq!(s.take_done(), ["start i/0"]);
    assert_eq!(s.container("i")["ready"], false, "its readiness is its success");
    s.exit("i", 0);
    assert_eq!(s.container("i")["ready"], true);
    assert_eq!(s.take_done(), ["start j/0"]);
    assert_eq!(s.status().phase.as_deref(), Some("Pending"));
    s.exit("j", 0);
    assert_eq!(s.take_done(), ["start a/0", "start b/0"]);
    assert_eq!(s.status().phase.as_deref(), Some("Running"));
}

#[test]
fn r_init_1_while_one_runs_the_next_two_are_made() {
    let all = list![named("a"), named("b"), named("c")];
    let mut s = Simulation::of(pod("Always", list![named("i"), named("j")], all));
    assert_eq!(s.made, ["j", "a"]);
    s.exit("i", 0);
    assert_eq!(s.made, ["j", "a", "b"]);
    s.exit("j", 0);
    assert_eq!(s.made, ["j", "a", "b", "c"], "while a starts");
    assert_eq!(s.take_done(), ["start i/0", "start j/0", "start a/0", "start b/0", "start c/0"]);
}

#[test]
fn r_init_1_what_an_earlier_one_can_still_change_is_not_made_before_its_turn() {
    let with = |mount: serde_json::Value| {
        let mut one = named("a");
        one["volumeMounts"] = list![mount];
        let volumes =
            serde_json::json!([{"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/h"}}]);
        let mut pod = pod("Always", list![named("i")], list![one, named("b")]);
        pod["volumes"] = volumes;
        Simulation::of(pod).made
    };
    assert_eq!(with(serde_json::json!({"name": "v", "mountPath": "/v"})), ["a", "b"]);
    assert_eq!(with(serde_json::json!({"name": "v", "mountPath": "/v", "subPath": "s"})), ["b"]);
    assert_eq!(with(serde_json::json!({"name": "h", "mountPath": "/v"})), ["b"]);
    let shared = serde_json::json!({"name": "h", "mountPath": "/v", "mountPropagation": "Bidirectional"});
    assert_eq!(with(shared), Vec::<String>::new());
}

#[test]
fn r_init_2_a_failed_one_is_retried_or_fails_the_pod() {
    let mut s = Simulation::of(pod("OnFailure", list![named("i")], list![named("a")]));
    s.exit("i", 1);
    assert_eq!(s.take_done(), ["start i/0", "start i/1"]);
    s.exit("i", 1);
    s.pass(9);
    assert_eq!(s.take_done(), Vec::<String>::new());
    s.pass(1);
    assert_eq!(s.take_done(), ["start i/2"]);

    let mut s = Simulation::of(pod("Never", list![named("i")], list![named("a")]));
    s.exit("i", 1);
    assert_eq!(s.take_done(), ["start i/0", "finish"]);
    assert_eq!(s.status().phase.as_deref(), Some("Failed"));
}

#[test]
fn r_init_3_a_restart_of_the_pod_runs_every_init_container_again() {
    let mut s = Simulation::of(pod("Always", list![named("i")], list![named("a")]));
    s.exit("i", 0);
    s.event(Event::Restart);
    assert_eq!(s.take_done(), ["start i/0", "start a/0", "kill 15 a/0"]);
    s.exit("a", 0);
    assert_eq!(s.take_done(), ["start i/1"]);
    s.exit("i", 0);
    assert_eq!(s.take_done(), ["start a/1"]);
}

#[test]
fn r_init_4_restart_pod_runs_all_of_them_again_after_the_pods_own_back_off() {
    let options = Options { restart_pod_on_init_failure: true, ..Options::default() };
    let mut s = Simulation::with(pod("Always", list![named("i"), named("j")], list![named("a")]), &options);
    s.exit("i", 0);
    s.exit("j", 1);
    assert_eq!(s.take_done(), ["start i/0", "start j/0", "start i/1"]);
    s.exit("i", 0);
    s.exit("j", 1);
    assert_eq!(s.container("j")["state"]["waiting"]["reason"], "CrashLoopBackOff");
    s.pass(9);
    assert_eq!(s.take_done(), ["start j/1"]);
    s.pass(1);
    assert_eq!(s.take_done(), ["start i/2"]);
}

#[test]
fn r_app_6_initialized_names_what_is_missing() {
    let mut s = Simulation::of(pod("Always", list![named("i"), sidecar("s")], list![named("a")]));
    assert_eq!(
        s.condition("Initialized"),
        "False ContainersNotInitialized containers with incomplete status: [i s]"
    );
    assert_eq!(s.condition("Ready"), "False ContainersNotReady containers with unready status: [s a]");
    s.exit("i", 0);
    assert_eq!((s.condition("Initialized"), s.condition("Ready")), ("True".into(), "True".into()));
    s.exit("s", 1);
    assert_eq!(s.condition("Initialized"), "True");
}
