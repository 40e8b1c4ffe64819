//! R-TERM: the end.

use super::*;

#[test]
fn r_term_1_nothing_starts_after_a_delete_and_a_second_one_only_shortens() {
    let mut s = Simulation::of(pod("Always", list![named("i")], list![named("a")]));
    s.take_done();
    s.delete();
    s.event(Event::Delete { grace_period: Some(Duration::ZERO) });
    assert_eq!(s.take_done(), ["kill 15 i/0", "kill 9 i/0"]);
    s.exit("i", 0);
    assert_eq!(s.take_done(), ["finish"]);
    s.event(Event::Restart);
    s.pass(100);
    assert_eq!(s.take_done(), Vec::<String>::new());
}

#[test]
fn r_term_1_a_second_delete_with_less_time_asks_once_more_and_one_with_more_changes_nothing() {
    let mut s = Simulation::of(pod("Always", list![], list![named("a")]));
    s.take_done();
    s.event(Event::Delete { grace_period: Some(Duration::from_secs(60)) });
    assert_eq!(s.take_done(), ["kill 15 a/0"]);
    s.pass(10);
    s.event(Event::Delete { grace_period: Some(Duration::from_secs(55)) });
    assert_eq!(s.take_done(), Vec::<String>::new());
    s.event(Event::Delete { grace_period: Some(Duration::from_secs(5)) });
    assert_eq!(s.take_done(), ["kill 15 a/0"]);
    s.pass(5);
    assert_eq!(s.take_done(), ["kill 9 a/0"]);
}
