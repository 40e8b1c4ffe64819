//! A job's pods, one case a rule of the Job controller.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::{
    lifecycle::job::{
        Action, Happened, Outcome, Spec, State, advance, ended, next_deadline, note_suspension, seen,
    },
    pod::{Place, parse_indexes},
};

struct Run {
    spec: Spec,
    state: State,
    at: u64,
}

impl Run {
    fn of(job: serde_json::Value) -> Run {
        Run::with("Never", job)
    }

    /// `job` lacks its template, which nobody asks for here.
    fn with(restart_policy: &str, mut job: serde_json::Value) -> Run {
        job["template"] = serde_json::json!({});
        let pod =
            serde_json::json!({"metadata": {}, "spec": {"restartPolicy": restart_policy, "containers": []}});
        let backoff = (Duration::from_secs(10), Duration::from_secs(300));
        let spec =
            Spec::new(&serde_json::from_value(job).unwrap(), &serde_json::from_value(pod).unwrap(), backoff);
        Run { spec, state: State::new(Duration::ZERO), at: 0 }
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.at)
    }

    /// Returns what is done now, such as `+0 +1/2 -1`: starts of index/attempt, and ends.
    fn take_actions(&mut self) -> String {
        let name = |p: &Place| match p.attempt {
            0 => p.index.to_string(),
            attempt => format!("{}/{attempt}", p.index),
        };
        let now = self.now();
        let actions = advance(&self.spec, &mut self.state, now);
        let words = actions.iter().map(|action| match action {
            Action::Start { place, .. } => format!("+{}", name(place)),
            Action::End(place) => format!("-{}", name(place)),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn end_place(&mut self, index: u32, attempt: u32, code: i32) -> &mut Run {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let pod = pod(serde_json::json!({
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{
                "name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}},
            }],
        }));
        let now = self.now();
        ended(&self.spec, &mut self.state, Place { index, attempt }, Some(&pod), now);
        self
    }

    fn advance_seconds(&mut self, seconds: u64) -> &mut Run {
        self.at += seconds;
        self
    }

    fn follow(&mut self, mut job: serde_json::Value) -> &mut Run {
        job["template"] = serde_json::json!({});
        self.spec.follow(&serde_json::from_value(job).unwrap());
        self
    }

    fn outcome(&self) -> String {
        self.state.outcome().map_or("none".into(), |o| {
            let how = if o.complete { "Complete" } else { "Failed" };
            format!("{how} {} {}", o.reason, o.message).trim().to_owned()
        })
    }
}

fn pod(status: serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "namespace": "n"}, "status": status}))
        .unwrap()
}

#[test]
fn completions_are_run_so_many_at_a_time() {
    let mut job = Run::of(serde_json::json!({"completions": 3, "parallelism": 2}));
    assert_eq!(job.take_actions(), "+0 +1");
    assert_eq!(job.take_actions(), "");
    assert_eq!(job.end_place(1, 0, 0).take_actions(), "+2");
    assert_eq!(job.end_place(0, 0, 0).end_place(2, 0, 0).take_actions(), "");
    assert_eq!(job.outcome(), "Complete");
    assert!(job.state.is_over());
}

#[test]
fn without_completions_the_first_success_is_enough_and_the_others_are_waited_for() {
    let mut job = Run::of(serde_json::json!({"parallelism": 3}));
    assert_eq!(job.take_actions(), "+0 +1 +2");
    assert_eq!(job.end_place(1, 0, 0).take_actions(), "");
    assert_eq!(job.outcome(), "none");
    assert_eq!(job.end_place(0, 0, 1).advance_seconds(60).take_actions(), "");
    assert_eq!(job.end_place(2, 0, 0).take_actions(), "");
    assert_eq!(job.outcome(), "Complete");
}

#[test]
fn a_failed_pod_is_replaced_after_a_wait_that_doubles_until_the_backoff_limit() {
    let mut job = Run::of(serde_json::json!({"completions": 1, "backoffLimit": 2}));
    job.take_actions();
    assert_eq!(job.end_place(0, 0, 1).advance_seconds(9).take_actions(), "");
    assert_eq!(next_deadline(&job.spec, &job.state, job.now()), Some(Duration::from_secs(10)));
    assert_eq!(job.advance_seconds(1).take_actions(), "+0/1");
    assert_eq!(job.end_place(0, 1, 1).advance_seconds(19).take_actions(), "");
    assert_eq!(job.advance_seconds(1).take_actions(), "+0/2");
    assert_eq!(job.end_place(0, 2, 1).take_actions(), "");
    assert_eq!(job.outcome(), "Failed BackoffLimitExceeded Job has reached the specified backoff limit");
}

#[test]
fn a_suspended_job_starts_nothing_and_its_pods_end_without_being_counted() {
    let mut job = Run::of(serde_json::json!({"completions": 2, "parallelism": 2, "suspend": true}));
    assert_eq!(job.take_actions(), "");
    assert!(job.state.is_suspended());
    let resumed = serde_json::json!({"parallelism": 2, "backoffLimit": 0});
    assert_eq!(job.follow(resumed.clone()).take_actions(), "+0 +1");
    assert_eq!(job.end_place(0, 0, 0).take_actions(), "");
    let suspended = serde_json::json!({"parallelism": 2, "backoffLimit": 0, "suspend": true});
    assert_eq!(job.follow(suspended).take_actions(), "-1");
    assert_eq!(job.take_actions(), "");
    let counts = job.end_place(1, 0, 143).state.count_pods();
    assert_eq!((counts.active, counts.succeeded, counts.failed), (0, 1, 0));
    assert_eq!(job.follow(resumed).take_actions(), "+1/1");
    job.end_place(1, 1, 0).take_actions();
    assert_eq!(job.outcome(), "Complete");
}

#[test]
fn the_deadline_of_a_resumed_job_begins_anew() {
    let suspended = serde_json::json!({"completions": 1, "activeDeadlineSeconds": 30, "suspend": true});
    let mut job = Run::of(suspended.clone());
    job.take_actions();
    assert_eq!(next_deadline(&job.spec, &job.state, job.now()), None);
    let resumed = serde_json::json!({"completions": 1, "activeDeadlineSeconds": 30});
    assert_eq!(job.advance_seconds(100).follow(resumed.clone()).take_actions(), "+0");
    assert_eq!(next_deadline(&job.spec, &job.state, job.now()), Some(Duration::from_secs(130)));
    assert_eq!(job.advance_seconds(20).follow(suspended).take_actions(), "-0");
    job.end_place(0, 0, 143);
    assert_eq!(job.advance_seconds(100).follow(resumed).take_actions(), "+0/1");
    assert_eq!(job.advance_seconds(29).take_actions(), "");
    assert_eq!(job.advance_seconds(1).take_actions(), "-0/1");
}

#[test]
fn parallelism_that_changes_starts_pods_or_ends_the_last() {
    let mut job = Run::of(serde_json::json!({"completions": 5, "parallelism": 3}));
    assert_eq!(job.take_actions(), "+0 +1 +2");
    assert_eq!(job.follow(serde_json::json!({"parallelism": 1})).take_actions(), "-2 -1");
    assert_eq!(job.end_place(2, 0, 143).end_place(1, 0, 143).take_actions(), "");
    assert_eq!(job.follow(serde_json::json!({"parallelism": 2})).take_actions(), "+1/1");
    assert_eq!(job.follow(serde_json::json!({"parallelism": 0})).take_actions(), "-1/1 -0");
    assert_eq!(job.state.count_pods().failed, 0);
}

#[test]
fn a_status_says_that_a_job_is_suspended_and_its_start_is_that_of_the_last_resumption() {
    let time = |second: u32| serde_json::from_str(&format!("\"2026-01-01T00:00:{second:02}Z\"")).unwrap();
    let mut status = Default::default();
    assert_eq!(note_suspension(&mut status, false, &time(1)), None);
    assert_eq!((&status.start_time, &status.conditions), (&Some(time(1)), &None));
    assert_eq!(note_suspension(&mut status, true, &time(2)), Some(Happened::Suspended));
    assert_eq!(note_suspension(&mut status, true, &time(3)), None);
    assert_eq!(status.start_time, Some(time(1)));
    assert_eq!(note_suspension(&mut status, false, &time(4)), Some(Happened::Resumed));
    assert_eq!(note_suspension(&mut status, false, &time(5)), None);
    assert_eq!(status.start_time, Some(time(4)));
    let conditions = serde_json::to_value(&status.conditions).unwrap();
    assert_eq!(conditions.as_array().map(Vec::len), Some(1));
    assert_eq!((&conditions[0]["status"], &conditions[0]["reason"]), (&"False".into(), &"JobResumed".into()));
}

#[test]
fn what_happens_to_a_job_is_told_in_the_controllers_words() {
    let failed = Outcome { complete: false, reason: "DeadlineExceeded", message: "m".into() };
    for (happened, type_, reason, message) in [
        (Happened::Created("p".into()), "Normal", "SuccessfulCreate", "Created pod: p"),
        (Happened::Deleted("p".into()), "Normal", "SuccessfulDelete", "Deleted pod: p"),
        (Happened::FailedCreate("w".into()), "Warning", "FailedCreate", "Error creating: w"),
        (Happened::Suspended, "Normal", "Suspended", "Job suspended"),
        (Happened::Resumed, "Normal", "Resumed", "Job resumed"),
        (
            Happened::Ended(Outcome { complete: true, reason: "", message: String::new() }),
            "Normal",
            "Completed",
            "Job completed",
        ),
        (Happened::Ended(failed), "Warning", "DeadlineExceeded", "m"),
    ] {
        assert_eq!(happened.words(), (type_, reason.to_owned(), message.to_owned()));
    }
}

#[test]
fn a_job_that_fails_ends_its_living_pods() {
    let mut job = Run::of(serde_json::json!({"completions": 3, "parallelism": 3, "backoffLimit": 0}));
    job.take_actions();
    assert_eq!(job.end_place(1, 0, 1).take_actions(), "-0 -2");
    assert!(!job.state.is_over());
    job.end_place(0, 0, 143).end_place(2, 0, 143);
    assert!(job.state.is_over());
}

#[test]
fn with_on_failure_the_restarts_of_living_pods_count() {
    for (limit, restarts, fails) in [(2, 1, false), (2, 2, true), (0, 0, false), (0, 1, true)] {
        let mut job = Run::with("OnFailure", serde_json::json!({"completions": 1, "backoffLimit": limit}));
        job.take_actions();
        let status = serde_json::json!({"phase": "Running", "containerStatuses": [
            {"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": restarts}]});
        let place = Place { index: 0, attempt: 0 };
        seen(&job.spec, &mut job.state, place, &pod(status), Duration::ZERO);
        assert_eq!(job.take_actions() == "-0", fails, "{limit} {restarts}");
    }
}

#[test]
fn the_deadline_is_the_jobs_and_not_each_pods() {
    let mut job = Run::of(serde_json::json!({"completions": 3, "activeDeadlineSeconds": 30}));
    job.take_actions();
    assert_eq!(job.advance_seconds(20).end_place(0, 0, 0).take_actions(), "+1");
    assert_eq!(next_deadline(&job.spec, &job.state, job.now()), Some(Duration::from_secs(30)));
    assert_eq!(job.advance_seconds(10).take_actions(), "-1");
    assert_eq!(job.outcome(), "Failed DeadlineExceeded Job was active longer than specified deadline");
}

#[test]
fn a_deleted_pod_is_replaced_when_the_policy_says() {
    for (policy, at_once) in [("TerminatingOrFailed", "+0/1"), ("Failed", "")] {
        let mut job = Run::of(serde_json::json!({"completions": 1, "podReplacementPolicy": policy}));
        job.take_actions();
        let mut pod = pod(serde_json::json!({"phase": "Running"}));
        pod.metadata.deletion_timestamp = Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap());
        let place = Place { index: 0, attempt: 0 };
        seen(&job.spec, &mut job.state, place, &pod, Duration::ZERO);
        assert_eq!(job.advance_seconds(10).take_actions(), at_once, "{policy}");
        let now = job.now();
        ended(&job.spec, &mut job.state, place, None, now);
        job.advance_seconds(10);
        assert_eq!(job.take_actions(), if at_once.is_empty() { "+0/1" } else { "" }, "{policy}");
    }
}

#[test]
fn with_a_limit_per_index_each_index_fails_by_itself() {
    let mut job = Run::of(serde_json::json!({
        "completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1,
    }));
    assert_eq!(job.take_actions(), "+0 +1");
    assert_eq!(job.end_place(0, 0, 1).advance_seconds(10).take_actions(), "+0/1");
    assert_eq!(job.end_place(0, 1, 1).advance_seconds(60).take_actions(), "");
    assert_eq!(job.outcome(), "none");
    job.end_place(1, 0, 0).take_actions();
    assert_eq!(job.outcome(), "Failed FailedIndexes Job has failed indexes");
}

#[test]
fn an_index_that_waits_holds_no_other_up_and_too_many_failed_indexes_end_the_job() {
    let mut job = Run::of(serde_json::json!({
        "completions": 4, "parallelism": 1, "completionMode": "Indexed",
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 0, "maxFailedIndexes": 1,
    }));
    assert_eq!(job.take_actions(), "+0");
    assert_eq!(job.end_place(0, 0, 1).take_actions(), "+1");
    job.end_place(1, 0, 1).take_actions();
    assert_eq!(
        job.outcome(),
        "Failed MaxFailedIndexesExceeded Job has exceeded the specified maximal number of failed indexes"
    );
}

#[test]
fn rules_say_what_a_failure_means() {
    let rules = serde_json::json!({"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onExitCodes": {"containerName": "a", "operator": "In", "values": [43]}},
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [44]}},
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [45]}},
        {"action": "FailJob", "onPodConditions": [{"type": "Ready", "status": "False"}]},
    ]});
    let job = || {
        let mut job = Run::of(serde_json::json!({
            "completions": 2, "completionMode": "Indexed", "backoffLimit": 1, "backoffLimitPerIndex": 5, "podFailurePolicy": rules,
        }));
        job.take_actions();
        job
    };
    let mut fails = job();
    fails.end_place(0, 0, 42).take_actions();
    assert_eq!(
        fails.outcome(),
        "Failed PodFailurePolicy Container a for pod n/p failed with exit code 42 matching FailJob rule at index 0"
    );
    let mut ignored = job();
    for attempt in 0..4 {
        let next = format!("+0/{}", attempt + 1);
        assert_eq!(ignored.end_place(0, attempt, 43).advance_seconds(300).take_actions(), next);
    }
    let mut index = job();
    assert_eq!(index.end_place(0, 0, 44).take_actions(), "+1");
    let mut counted = job();
    assert_eq!(counted.end_place(0, 0, 1).advance_seconds(10).take_actions(), "+0/1");
    counted.end_place(0, 1, 1).take_actions();
    assert!(counted.outcome().contains("BackoffLimitExceeded"));
    let mut condition = job();
    condition.end_place(0, 0, 45).take_actions();
    assert!(condition.outcome().ends_with("Pod n/p has condition Ready matching FailJob rule at index 4"));
}

#[test]
fn a_success_policy_completes_the_job_early() {
    let job = |rule: serde_json::Value| {
        let mut job = Run::of(serde_json::json!({
            "completions": 4, "parallelism": 4, "completionMode": "Indexed", "successPolicy": {"rules": [rule]},
        }));
        job.take_actions();
        job
    };
    let mut leader = job(serde_json::json!({"succeededIndexes": "0"}));
    assert_eq!(leader.end_place(1, 0, 0).take_actions(), "");
    assert_eq!(leader.end_place(0, 0, 0).take_actions(), "-2 -3");
    assert_eq!(leader.outcome(), "Complete SuccessPolicy Matched rules at index 0");
    let mut some = job(serde_json::json!({"succeededIndexes": "1-3", "succeededCount": 2}));
    assert_eq!(some.end_place(0, 0, 0).end_place(1, 0, 0).take_actions(), "");
    assert_eq!(some.end_place(3, 0, 0).take_actions(), "-2");
}

#[test]
fn indexes_are_numbers_and_ranges_in_order() {
    assert_eq!(parse_indexes("0,2-4", 5).unwrap().into_iter().collect::<Vec<_>>(), [0, 2, 3, 4]);
    for wrong in ["5", "3-1", "2,1", "1-3,2", "a", "1,", "1-"] {
        assert!(parse_indexes(wrong, 5).is_err(), "{wrong}");
    }
}
