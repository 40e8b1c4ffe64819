//! R-UPD: a pod that exists and is changed.

use k8s_openapi::api::core::v1::PodCondition;

use super::*;

/// Gives a container another image or other resources, and tells the lifecycle that something has happened.
fn change(s: &mut Simulation, name: &str, with: serde_json::Value) {
    let found = s.spec.containers.iter_mut().find(|(_, c)| c.name == name).unwrap();
    let mut whole = serde_json::to_value(&found.1).unwrap();
    for (field, value) in with.as_object().unwrap() {
        whole[field] = value.clone();
    }
    found.1 = serde_json::from_value(whole).unwrap();
    s.event(Event::Tick);
}

#[test]
fn r_upd_1_a_running_container_starts_anew_with_its_new_image_whatever_the_policy() {
    let mut s = Simulation::of(pod("Never", list![], list![named("a"), named("b")]));
    s.take_done();
    change(&mut s, "a", serde_json::json!({"image": "j"}));
    assert_eq!(s.take_done(), ["kill 15 a/0"]);
    assert!(s.records.contains(&"Killing: Container a definition changed, will be restarted".to_owned()));
    s.exit("a", 143);
    assert_eq!(s.take_done(), ["start a/1"]);
    assert_eq!(s.container("a")["restartCount"], 1);
    assert_eq!(s.container("b")["restartCount"], 0);
}

#[test]
fn r_upd_1_one_whose_image_cannot_be_had_asks_for_the_new_one_at_once() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    s.broken_images = vec!["a"];
    change(&mut s, "a", serde_json::json!({"image": "j"}));
    s.exit("a", 143);
    assert_eq!(s.container("a")["state"]["waiting"]["reason"], "ErrImagePull");
    s.broken_images.clear();
    s.take_done();
    change(&mut s, "a", serde_json::json!({"image": "k"}));
    assert_eq!(s.take_done(), ["start a/1"]);
}

#[test]
fn r_upd_1_one_that_has_ended_for_good_stays() {
    let mut s = Simulation::of(pod("Never", list![], list![named("a"), named("b")]));
    s.exit("a", 0);
    s.take_done();
    change(&mut s, "a", serde_json::json!({"image": "j"}));
    assert!(s.take_done().is_empty());
}

#[test]
fn r_upd_2_a_running_container_is_given_its_resources_and_says_what_it_has() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    s.take_done();
    let limits =
        |memory: &str| serde_json::json!({"limits": {"memory": memory}, "requests": {"memory": memory}});
    s.resize_error = Some("too small".into());
    change(&mut s, "a", serde_json::json!({"resources": limits("1Gi")}));
    assert_eq!(s.take_done(), ["resize a/0"]);
    assert_eq!(s.condition("PodResizeInProgress"), "True Error too small");
    assert!(s.container("a")["resources"].get("limits").is_none());
    assert_eq!(s.container("a")["allocatedResources"]["memory"], "1Gi");
    s.resize_error = None;
    s.pass(10);
    assert_eq!(s.take_done(), ["resize a/0"]);
    assert_eq!(s.container("a")["resources"], limits("1Gi"));
    assert_eq!(s.container("a")["restartCount"], 0);
    assert!(s.status().conditions.unwrap().iter().all(|c| c.type_ != "PodResizeInProgress"));
}

#[test]
fn r_upd_2_a_resize_that_needs_a_restart_restarts_that_container() {
    let mut a = named("a");
    a["resizePolicy"] = serde_json::json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let mut s = Simulation::of(pod("Always", list![], list![a, named("b")]));
    s.take_done();
    change(&mut s, "a", serde_json::json!({"resources": {"limits": {"cpu": "1"}}}));
    assert_eq!(s.take_done(), ["resize a/0"]);
    change(&mut s, "a", serde_json::json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}));
    assert_eq!(s.take_done(), ["kill 15 a/0"]);
    s.exit("a", 143);
    assert_eq!(s.take_done(), ["start a/1"]);
    assert_eq!(s.container("a")["resources"]["limits"]["memory"], "1Gi");
}

#[test]
fn r_upd_2_the_pod_as_a_whole_is_resized_like_its_containers() {
    let limits = |memory: &str| serde_json::json!({"limits": {"memory": memory}, "requests": {"cpu": "1"}});
    let mut of = pod("Always", list![], list![named("a")]);
    of["resources"] = limits("1Gi");
    let mut s = Simulation::of(of);
    s.take_done();
    assert_eq!(serde_json::to_value(s.status().resources).unwrap(), limits("1Gi"));
    s.resize_error = Some("too small".into());
    s.spec.pod_resources = serde_json::from_value(limits("1Mi")).unwrap();
    s.event(Event::Tick);
    assert_eq!(s.take_done(), ["resize pod"]);
    assert_eq!(s.condition("PodResizeInProgress"), "True Error too small");
    assert_eq!(serde_json::to_value(s.status().resources).unwrap(), limits("1Gi"));
    s.resize_error = None;
    s.pass(10);
    assert_eq!(s.take_done(), ["resize pod"]);
    assert_eq!(serde_json::to_value(s.status().resources).unwrap(), limits("1Mi"));
    assert_eq!(s.status().allocated_resources.unwrap()["cpu"].0, "1");
    assert!(s.status().conditions.unwrap().iter().all(|c| c.type_ != "PodResizeInProgress"));
}

#[test]
fn r_upd_4_a_resize_is_told_from_its_beginning_to_its_end_and_each_reason_once() {
    let told = |s: &mut Simulation| -> Vec<String> {
        let all = std::mem::take(&mut s.records).into_iter();
        all.filter(|told| told.starts_with("Resize")).collect()
    };
    let mut s = Simulation::of(pod("Always", list![sidecar("i")], list![named("a"), named("b")]));
    assert!(told(&mut s).is_empty());
    s.resize_error = Some("too small".into());
    s.spec.generation = 2;
    change(&mut s, "a", serde_json::json!({"resources": {"limits": {"cpu": "1"}}}));
    let summary = |more: &str| {
        format!(
            r#"{{"initContainers":[{{"name":"i","resources":{{}}}}],"containers":[{{"name":"a","resources":{{"limits":{{"cpu":"1"}}}}}},{{"name":"b","resources":{{}}}}],"generation":2{more}}}"#
        )
    };
    let started = format!("ResizeStarted: Pod resize started: {}", summary(""));
    let failed = |error: &str| {
        format!("ResizeError: Pod resize error: {}", summary(&format!(r#","error":"{error}""#)))
    };
    assert_eq!(told(&mut s), [started, failed("too small")]);
    s.pass(30);
    assert!(told(&mut s).is_empty());
    s.resize_error = Some("still too small".into());
    s.pass(10);
    assert_eq!(told(&mut s), [failed("still too small")]);
    s.resize_error = None;
    s.pass(10);
    assert_eq!(told(&mut s), [format!("ResizeCompleted: Pod resize completed: {}", summary(""))]);
    s.pass(60);
    assert!(told(&mut s).is_empty());
}

#[test]
fn r_upd_4_a_resize_by_restart_is_completed_when_what_ran_before_has_ended() {
    let mut a = named("a");
    a["resizePolicy"] = serde_json::json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let mut s = Simulation::of(pod("Always", list![], list![a]));
    change(&mut s, "a", serde_json::json!({"resources": {"limits": {"memory": "1Gi"}}}));
    let reasons = |s: &Simulation| -> Vec<String> {
        let all = s.records.iter().filter_map(|told| told.split_once(':'));
        all.map(|(reason, _)| reason.to_owned()).filter(|reason| reason.starts_with("Resize")).collect()
    };
    assert_eq!(reasons(&s), ["ResizeStarted"]);
    s.exit("a", 143);
    assert_eq!(reasons(&s), ["ResizeStarted", "ResizeCompleted"]);
}

#[test]
fn r_upd_3_a_pod_is_ready_when_others_have_opened_its_gates() {
    let mut with_gate = pod("Always", list![], list![named("a")]);
    with_gate["readinessGates"] = serde_json::json!([{"conditionType": "example.com/open"}]);
    let mut s = Simulation::of(with_gate);
    assert_eq!(s.condition("ContainersReady"), "True");
    assert!(s.condition("Ready").starts_with("False ReadinessGatesNotReady"));
    let set = |status: &str| {
        let (type_, status) = ("example.com/open".to_owned(), status.to_owned());
        Event::SetConditions(vec![PodCondition { type_, status, ..PodCondition::default() }])
    };
    s.event(set("False"));
    assert!(s.condition("Ready").contains("is False, not True"));
    s.event(set("True"));
    assert_eq!((s.condition("Ready"), s.condition("example.com/open")), ("True".into(), "True".into()));
}
