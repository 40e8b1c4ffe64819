//! R-RES-1 on real cgroups, of whichever version this user may write; a user who may write none gets the warning.

use crate::common::{Home, lines, stderr, stdout, until};

fn pod(script: &str, resources: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: a\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n    resources: {resources}\n"
    )
}

/// Tells whether limits are enforced here; where they are not, that is what the test tests.
fn enforced(home: &Home) -> bool {
    let output = home
        .run(&pod("true", "{limits: {memory: 64Mi, cpu: 500m}}"), &["--network", "none", "--strict-limits"]);
    if !output.status.success() {
        let words = stderr(&output);
        assert!(words.contains("limits are not enforced"), "{words}");
        eprintln!("skipped: {words}");
    }
    output.status.success()
}

#[test]
fn r_res_1_a_container_beyond_its_memory_is_oom_killed() {
    let home = Home::new();
    let text = pod("tail /dev/zero", "{limits: {memory: 32Mi}}");
    if enforced(&home) {
        let output = home.run(&text, &["--network", "none"]);
        assert_eq!(output.status.code(), Some(137), "{}", stderr(&output));
        let status = &home.pod("p")["status"];
        assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "OOMKilled");
        assert_eq!(status["qosClass"], "Burstable");
    }
}

#[test]
fn r_res_1_the_pods_own_limit_bounds_its_containers_together() {
    let home = Home::new();
    let text = pod("tail /dev/zero", "{requests: {cpu: 10m}}").replace(
        "  containers:",
        "  resources: {limits: {memory: 32Mi, cpu: 500m}, requests: {memory: 16Mi}}\n  containers:",
    );
    if enforced(&home) {
        let output = home.run(&text, &["--network", "none", "--replace"]);
        assert_eq!(output.status.code(), Some(137), "{}", stderr(&output));
        assert_eq!(home.pod("p")["status"]["qosClass"], "Burstable");
    }
    let explained = home.podctl(&["explain-file", &home.file("pod.yaml", &text)]);
    assert!(stdout(&explained).contains("limits cpu 500m, memory 32Mi"), "{}", stdout(&explained));
}

#[test]
fn r_res_1_a_limit_that_cannot_be_kept_is_a_warning_or_an_error() {
    let home = Home::new();
    if !enforced(&home) {
        let output = home.run(&pod("echo runs", "{limits: {memory: 32Mi}}"), &["--network", "none"]);
        assert!(stdout(&output).contains("runs"));
        assert!(
            stderr(&output).contains("warning: the pod's memory limits are not enforced"),
            "{}",
            stderr(&output)
        );
        let output = home.run(&pod("echo runs", "{}"), &["--network", "none", "--replace"]);
        assert!(!stderr(&output).contains("not enforced"), "{}", stderr(&output));
    }
}

#[test]
fn r_res_1_the_score_of_a_container_is_the_kubelets() {
    let home = Home::new();
    let score = |resources: &str| {
        let output =
            home.run(&pod("cat /proc/self/oom_score_adj", resources), &["--network", "none", "--replace"]);
        stdout(&output).trim().trim_start_matches("a | ").to_owned()
    };
    assert_eq!(score("{}"), "1000");
    assert_eq!(score("{limits: {cpu: 100m}}"), "999");
}

#[test]
fn a_fork_bomb_stays_inside_its_pod() {
    let home = Home::new();
    if enforced(&home) {
        let bomb = "f() { f | f & }; f; sleep 1; echo alive";
        let output = home.run(&pod(bomb, "{limits: {memory: 64Mi, cpu: 500m}}"), &["-d", "--replace"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(home.podctl(&["delete", "p", "--now"]).status.success());
        until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
    }
}

#[test]
fn a_container_finds_its_own_limit_in_its_cgroup_files() {
    let home = Home::new();
    if enforced(&home) {
        let files = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; touch /sys/fs/cgroup/x 2>&1 | grep -c Read-only";
        let output = home.run(&pod(files, "{limits: {memory: 20Mi}}"), &["--network", "none"]);
        assert_eq!(lines(&output), ["20971520", "1"]);
    }
}

/// Prints a container's limits of memory and CPU, of whichever version: bytes, then microseconds a period of 100 ms.
const SHOW_LIMITS: &str = "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null; cut -d\\  -f1 cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us";

/// Returns what a container of the pod `p` finds as its limits of memory and CPU.
fn find_limits(home: &Home, container: &str) -> Vec<String> {
    let shown = home.podctl(&["exec", "p", "-c", container, "--", "sh", "-c", SHOW_LIMITS]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    stdout(&shown).lines().map(str::to_owned).collect()
}

fn resize(home: &Home, spec: &str) {
    let patched =
        home.podctl(&["patch", "pod", "p", "--subresource=resize", "-p", &format!("{{spec: {spec}}}")]);
    assert!(patched.status.success(), "{}", stderr(&patched));
}

fn why_not_resized(home: &Home) -> String {
    let path = "jsonpath={.status.conditions[?(@.type==\"PodResizeInProgress\")].message}";
    stdout(&home.podctl(&["get", "pod", "p", "-o", path]))
}

#[test]
fn r_upd_2_a_running_container_is_resized_in_place_and_never_below_what_it_uses() {
    let home = Home::new();
    if !enforced(&home) {
        return;
    }
    let text = pod("sleep 1000", "{limits: {memory: 64Mi, cpu: 500m}, requests: {cpu: 100m}}");
    let run = home.run(&text, &["--network", "none", "-d", "--replace"]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert_eq!(find_limits(&home, "a"), ["67108864", "50000"]);
    resize(&home, "{containers: [{name: a, resources: {limits: {memory: 96Mi, cpu: 700m}}}]}");
    assert_eq!(find_limits(&home, "a"), ["100663296", "70000"]);
    let filled = home.podctl(&[
        "exec",
        "p",
        "-c",
        "a",
        "--",
        "dd",
        "if=/dev/zero",
        "of=/dev/shm/x",
        "bs=1M",
        "count=50",
    ]);
    assert!(filled.status.success(), "{}", stderr(&filled));
    resize(&home, "{containers: [{name: a, resources: {limits: {memory: 40Mi}, requests: {memory: 40Mi}}}]}");
    until("it says why it stays as it was", || {
        why_not_resized(&home).contains("memory limit (41943040) below current usage")
    });
    let status = &home.pod("p")["status"]["containerStatuses"][0];
    assert_eq!(status["resources"]["limits"]["memory"], "96Mi");
    assert_eq!((&status["restartCount"], &status["ready"]), (&0.into(), &true.into()), "{status}");
    assert_eq!(find_limits(&home, "a"), ["100663296", "70000"]);
    let events = home.said(&["events"]);
    let told = |what: &str| events.lines().filter(|line| line.contains(what)).count();
    let counts = [told("ResizeStarted"), told("ResizeCompleted"), told("ResizeError")];
    assert_eq!(counts, [2, 1, 1], "{events}");
}

#[test]
fn r_upd_2_a_container_without_limits_has_its_pods_and_follows_when_they_are_resized() {
    let home = Home::new();
    if !enforced(&home) {
        return;
    }
    let text = pod("sleep 1000", "{}").replace(
        "  containers:",
        "  resources: {limits: {memory: 64Mi, cpu: 500m}, requests: {memory: 32Mi}}\n  containers:\n  - {name: own, image: 'busybox:1.36', command: [sleep, '1000'], resources: {limits: {memory: 20Mi}}}",
    );
    let run = home.run(&text, &["--network", "none", "-d", "--replace"]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert_eq!(find_limits(&home, "a"), ["67108864", "50000"]);
    assert_eq!(find_limits(&home, "own"), ["20971520", "50000"]);
    resize(&home, "{resources: {limits: {memory: 80Mi}}}");
    assert_eq!(find_limits(&home, "a"), ["83886080", "50000"]);
    assert_eq!(find_limits(&home, "own"), ["20971520", "50000"]);
    assert_eq!(home.pod("p")["status"]["resources"]["limits"]["memory"], "80Mi");
}

#[test]
fn r_upd_2_an_init_container_that_runs_is_resized() {
    let home = Home::new();
    if !enforced(&home) {
        return;
    }
    let text = pod("true", "{}").replace(
        "  containers:",
        "  initContainers:\n  - {name: i, image: 'busybox:1.36', command: [sleep, '1000'], resources: {limits: {memory: 20Mi, cpu: 500m}}}\n  containers:",
    );
    let run = home.run(&text, &["--network", "none", "-d", "--wait", "none", "--replace"]);
    assert!(run.status.success(), "{}", stderr(&run));
    until("the init container runs", || {
        let status = &home.pod("p")["status"]["initContainerStatuses"][0];
        !status["state"]["running"].is_null()
    });
    resize(&home, "{initContainers: [{name: i, resources: {limits: {memory: 24Mi}}}]}");
    assert_eq!(find_limits(&home, "i"), ["25165824", "50000"]);
}

#[test]
fn a_request_of_cpu_is_a_weight_and_no_container_has_swap() {
    let home = Home::new();
    if !enforced(&home) {
        return;
    }
    let show = "cd /sys/fs/cgroup; cat cpu.weight cpu/cpu.shares 2>/dev/null; cat memory.swap.max 2>/dev/null || echo 0";
    let output = home.run(&pod(show, "{requests: {cpu: 1}}"), &["--network", "none", "--replace"]);
    let shown = lines(&output);
    // 1024 shares, or what stands for them in version 2.
    assert!(["39", "1024"].contains(&shown[0].as_str()), "{shown:?}");
    assert_eq!(shown[1], "0", "{shown:?}");
}

#[test]
fn huge_pages_that_the_machine_has_not_are_told_of_and_none_are_always_there() {
    let home = Home::new();
    let none = home.run(&pod("true", "{limits: {memory: 64Mi, hugepages-2Mi: 0}}"), &["--network", "none"]);
    assert!(none.status.success(), "{}", stderr(&none));
    let refused =
        home.run(&pod("true", "{limits: {memory: 64Mi, hugepages-1Gi: 1Ei}}"), &["--network", "none"]);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("Insufficient hugepages-1Gi"), "{}", stderr(&refused));
}
