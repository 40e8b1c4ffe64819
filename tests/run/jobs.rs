//! Jobs on real pods. What each rule means is tested in `lifecycle/tests/job.rs`; here it is carried out.

use crate::common::{Home, stderr, stdout, until};

/// A Job of one container that runs the script; its volume outlives its pods.
fn job(script: &str, spec: &str, restart_policy: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j}}\nspec:\n{spec}  template:\n    spec:\n      restartPolicy: {restart_policy}\n      terminationGracePeriodSeconds: 0\n      containers: [{{name: a, image: \"busybox:1.36\", command: [sh, -c, '{script}'], volumeMounts: [{{name: v, mountPath: /v}}]}}]\n      volumes: [{{name: v, persistentVolumeClaim: {{claimName: j}}}}]\n"
    )
}

const FAST: &[&str] = &["--network", "none", "--backoff-initial", "0.1"];

#[test]
fn a_job_runs_its_pods_one_after_another_until_all_have_succeeded() {
    let home = Home::new();
    let script = "mkdir /v/busy || exit 1; echo $JOB_COMPLETION_INDEX >> /v/order; rmdir /v/busy; cat /v/order | tr \"\\n\" \" \"; echo";
    let output = home.run(&job(script, "  completions: 3\n  completionMode: Indexed\n", "Never"), FAST);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("0 1 2"), "{}", stdout(&output));
    assert!(stderr(&output).contains("job j is complete"), "{}", stderr(&output));
}

#[test]
fn a_pod_of_an_indexed_job_is_known_by_its_number() {
    let home = Home::new();
    let output = home.run(
        &job("hostname", "  completions: 2\n  parallelism: 2\n  completionMode: Indexed\n", "Never"),
        FAST,
    );
    let said = stdout(&output);
    assert!(said.contains("j-0") && said.contains("| j-1"), "{said}");
    let labels = &home.pod("j-1")["metadata"]["labels"];
    assert_eq!(labels["batch.kubernetes.io/job-completion-index"], "1");
    assert_eq!(labels["batch.kubernetes.io/job-name"], "j");
    let selected = home.podctl(&["get", "pods", "-l", "job-name=j", "-o", "name"]);
    assert_eq!(stdout(&selected), "pod/j-0\npod/j-1\n");
}

#[test]
fn failed_pods_are_replaced_as_often_as_the_backoff_limit_says() {
    let home = Home::new();
    let text = job("echo x >> /v/tries; test $(wc -l < /v/tries) -ge 3", "  backoffLimit: 2\n", "Never");
    let output = home.run(&text, FAST);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(home.pod("j-retry-2")["status"]["phase"], "Succeeded");
    let fails = job("exit 7", "  backoffLimit: 1\n", "Never");
    let output = home.run(&fails, &[FAST, &["--replace"]].concat());
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    let words = "job j has failed: BackoffLimitExceeded: Job has reached the specified backoff limit";
    assert!(stderr(&output).contains(words), "{}", stderr(&output));
}

#[test]
fn restarts_in_the_pod_count_with_on_failure() {
    let home = Home::new();
    let output = home.run(&job("exit 3", "  backoffLimit: 2\n", "OnFailure"), FAST);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("BackoffLimitExceeded"), "{}", stderr(&output));
    until("the pod is gone", || home.pod("j").is_null());
}

#[test]
fn a_rule_fails_the_job_at_once_or_ignores_the_failure() {
    let home = Home::new();
    let rules =
        "  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}\n";
    let output = home.run(&job("exit 42", rules, "Never"), FAST);
    assert_eq!(output.status.code(), Some(42));
    let words = "PodFailurePolicy: Container a for pod default/j failed with exit code 42 matching FailJob rule at index 0";
    assert!(stderr(&output).contains(words), "{}", stderr(&output));
    let rules = "  backoffLimit: 0\n  podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [43]}}]}\n";
    let script = "echo x >> /v/tries; test $(wc -l < /v/tries) -ge 2 || exit 43";
    let output = home.run(&job(script, rules, "Never"), &[FAST, &["--replace"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_success_policy_ends_the_pods_that_are_left() {
    let home = Home::new();
    let spec = "  completions: 2\n  parallelism: 2\n  completionMode: Indexed\n  successPolicy: {rules: [{succeededIndexes: \"0\"}]}\n";
    let script = "test $JOB_COMPLETION_INDEX = 0 || exec sleep 1000";
    let output = home.run(&job(script, spec, "Never"), FAST);
    assert!(output.status.success(), "{}", stderr(&output));
    let words = "job j is complete: SuccessPolicy: Matched rules at index 0";
    assert!(stderr(&output).contains(words), "{}", stderr(&output));
    assert!(home.pod("j-1").is_null());
}

#[test]
fn the_deadline_of_a_job_ends_it() {
    let home = Home::new();
    let output = home.run(&job("exec sleep 1000", "  activeDeadlineSeconds: 1\n", "Never"), FAST);
    assert_eq!(output.status.code(), Some(1));
    let words = "job j has failed: DeadlineExceeded: Job was active longer than specified deadline";
    assert!(stderr(&output).contains(words), "{}", stderr(&output));
}

#[test]
fn pods_without_a_time_to_live_are_forgotten_at_the_end() {
    let home = Home::new();
    let output = home.run(&job("echo done", "  ttlSecondsAfterFinished: 0\n", "Never"), FAST);
    assert!(output.status.success() && stdout(&output).contains("done"), "{}", stderr(&output));
    assert!(home.pod("j").is_null());
}

#[test]
fn a_cron_jobs_job_runs_once_now() {
    let home = Home::new();
    let text = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec:\n  schedule: '* * * * *'\n  concurrencyPolicy: Forbid\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          restartPolicy: Never\n          containers: [{name: a, image: 'busybox:1.36', command: [echo, now]}]\n";
    let output = home.run(text, FAST);
    assert!(output.status.success() && stdout(&output).contains("now"), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("spec.schedule: is not kept") && said.contains("spec.concurrencyPolicy"), "{said}");
}

#[test]
fn a_dry_run_says_what_a_job_does() {
    let home = Home::new();
    let spec = "  completions: 4\n  parallelism: 2\n  completionMode: Indexed\n  backoffLimitPerIndex: 1\n";
    let output = home.run(&job("true", spec, "Never"), &["--dry-run"]);
    let words = "job j\n  4 pods, 2 at a time\n  each knows its number by JOB_COMPLETION_INDEX and its host name\n  an index fails when more than 1 of its pods have failed\npod j-0\n";
    assert!(stdout(&output).starts_with(words), "{}", stdout(&output));
}

#[test]
fn a_detached_job_says_that_nobody_sees_to_it() {
    let home = Home::new();
    let output =
        home.run(&job("true", "  parallelism: 2\n  completions: 2\n", "Never"), &[FAST, &["-d"]].concat());
    assert!(output.status.success() && stderr(&output).contains("nobody sees to job"), "{}", stderr(&output));
    let output = home.run(&job("true", "  completions: 2\n", "Never"), &["-d"]);
    assert!(!output.status.success() && stderr(&output).contains("run it without --detach"));
}

#[test]
fn an_image_that_cannot_be_had_ends_the_job_and_its_other_pods() {
    let home = Home::new();
    let text = job("exec sleep 1000", "  completions: 2\n  parallelism: 2\n", "Never")
        .replace("busybox:1.36", "nowhere.invalid/image:1");
    let output = home.run(&text, FAST);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("ErrImagePull"), "{}", stderr(&output));
    until("no pod is left", || stdout(&home.podctl(&["get", "pods", "-o", "name"])).is_empty());
}
