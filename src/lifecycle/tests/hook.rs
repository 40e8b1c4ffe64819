//! R-HOOK: hooks and stop signals.

use super::*;

#[test]
fn r_hook_1_pre_stop_runs_before_sigterm_inside_the_grace_period() {
    let mut app = named("a");
    app["lifecycle"] = serde_json::json!({"preStop": {"exec": {}}});
    let mut s = Simulation::of(pod("Always", list![], list![app]));
    s.delete();
    assert_eq!(s.take_done(), ["start a/0", "PreStop a/0"]);
    s.pass(10);
    s.hook("a", Hook::PreStop, false);
    assert_eq!(s.take_done(), ["kill 15 a/0"]);
    s.pass(20);
    assert_eq!(s.take_done(), ["kill 9 a/0"]);
}

#[test]
fn r_hook_1_a_failed_post_start_kills_the_container_and_the_policy_decides() {
    let mut app = named("a");
    app["lifecycle"] = serde_json::json!({"postStart": {"exec": {}}});
    for (policy, then) in [("Always", "start a/1"), ("Never", "finish")] {
        let mut s = Simulation::of(pod(policy, list![], list![app.clone()]));
        s.hook("a", Hook::PostStart, false);
        assert_eq!(s.take_done(), ["start a/0", "PostStart a/0", "kill 15 a/0"]);
        assert!(s.records.iter().any(|r| r.starts_with("FailedPostStartHook: PostStartHook failed")));
        s.exit("a", 143);
        assert_eq!(s.take_done()[0], then);
    }
}

#[test]
fn r_hook_1_a_hook_that_ends_after_its_container_means_nothing() {
    let mut app = named("a");
    app["lifecycle"] = serde_json::json!({"postStart": {"exec": {}}});
    let mut s = Simulation::of(pod("Never", list![], list![app, named("b")]));
    s.exit("a", 1);
    s.take_done();
    s.hook("a", Hook::PostStart, false);
    assert_eq!(s.take_done(), Vec::<String>::new());
}

#[test]
fn r_hook_1_a_pre_stop_that_uses_the_grace_period_up_leaves_two_seconds() {
    let mut app = named("a");
    app["lifecycle"] = serde_json::json!({"preStop": {"exec": {}}});
    let mut s = Simulation::of(pod("Always", list![], list![app]));
    s.delete();
    s.pass(30);
    assert_eq!(s.take_done(), ["start a/0", "PreStop a/0", "kill 15 a/0"]);
    s.pass(2);
    assert_eq!(s.take_done(), ["kill 9 a/0"]);
}

#[test]
fn r_hook_2_the_stop_signal_is_the_containers_else_the_images_else_sigterm() {
    for (own, image, number) in
        [(Some("SIGUSR1"), Some("SIGQUIT"), 10), (None, Some("SIGQUIT"), 3), (None, None, 15)]
    {
        let mut app = named("a");
        app["lifecycle"] = serde_json::json!({"stopSignal": own});
        let mut s = Simulation::of(pod("Always", list![], list![app]));
        s.state.all[0].image_stop_signal = image.map(str::to_owned);
        s.delete();
        s.pass(30);
        assert_eq!(
            s.take_done(),
            ["start a/0".to_owned(), format!("kill {number} a/0"), "kill 9 a/0".into()]
        );
    }
}
