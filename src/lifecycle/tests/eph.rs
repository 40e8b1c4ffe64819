//! R-EPH: containers added to a running pod.

use k8s_openapi::api::core::v1::EphemeralContainer;

use super::*;

#[test]
fn r_eph_1_an_ephemeral_container_is_never_restarted_and_ends_with_the_pod() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    for name in ["d", "e"] {
        let added = EphemeralContainer { name: name.into(), ..Default::default() };
        s.spec.add_ephemeral(&added);
        s.event(Event::AddEphemeralContainer(Box::new(added)));
    }
    assert_eq!(s.take_done(), ["start a/0", "start d/0", "start e/0"]);
    s.exit("d", 1);
    s.pass(60);
    let status = s.status();
    let ephemeral = status.ephemeral_container_statuses.unwrap();
    assert_eq!(ephemeral[0].state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    assert_eq!((ephemeral[0].restart_count, status.phase.as_deref()), (0, Some("Running")));
    s.delete();
    assert_eq!(s.take_done(), ["kill 15 a/0", "kill 15 e/0"]);
    s.exit("a", 0);
    s.exit("e", 0);
    assert_eq!(s.take_done(), ["finish"]);
}

#[test]
fn r_eph_1_it_stays_while_the_pod_restarts() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    let added = EphemeralContainer { name: "d".into(), ..Default::default() };
    s.spec.add_ephemeral(&added);
    s.event(Event::AddEphemeralContainer(Box::new(added)));
    s.take_done();
    s.event(Event::Restart);
    assert_eq!(s.take_done(), ["kill 15 a/0"]);
    s.exit("a", 0);
    assert_eq!(s.take_done(), ["start a/1"]);
}

#[test]
fn r_eph_3_it_has_a_status_of_its_own_and_no_part_in_the_pods_readiness() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    assert!(s.status().ephemeral_container_statuses.is_none_or(|all| all.is_empty()));
    let added = EphemeralContainer { name: "d".into(), ..Default::default() };
    s.spec.add_ephemeral(&added);
    s.event(Event::AddEphemeralContainer(Box::new(added)));
    let status = s.status();
    let one = &status.ephemeral_container_statuses.unwrap()[0];
    assert!(one.name == "d" && one.state.as_ref().unwrap().running.is_some());
    assert!(status.container_statuses.unwrap().iter().all(|c| c.name != "d"));
    s.exit("d", 1);
    assert_eq!(s.condition("Ready"), "True");
}
