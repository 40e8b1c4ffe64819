//! The same state shown by kubectl and by podctl: what both print, word for word, and how they end.
//!
//! `files/same.cases` has one command line a line. Those that may differ are in `docs/kubectl-differences.md`, each with its
//! reason.

use std::{
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{client, common::Home};

const CASES: &str = include_str!("files/same.cases");
const DIFFERENCES: &str = include_str!("../../docs/kubectl-differences.md");

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web, tier: a}, annotations: {note: x}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: 'busybox:1.36', command: [sh, -c, 'echo one; echo two; exec sleep 600'], ports: [{containerPort: 80}], env: [{name: A, value: b}]}
  - {name: side, image: 'busybox:1.36', command: [sh, -c, 'echo side; exec sleep 600']}
";

const JOB: &str = "apiVersion: batch/v1
kind: Job
metadata: {name: work, labels: {app: work}, annotations: {note: x}}
spec:
  completions: 2
  parallelism: 2
  completionMode: Indexed
  backoffLimit: 3
  activeDeadlineSeconds: 500
  template:
    metadata: {labels: {tier: b}, annotations: {note: z}}
    spec:
      restartPolicy: Never
      serviceAccountName: default
      nodeSelector: {kubernetes.io/os: linux}
      tolerations: [{key: k, operator: Exists, effect: NoExecute, tolerationSeconds: 300}]
      volumes: [{name: v, emptyDir: {}}, {name: m, configMap: {name: conf}}]
      initContainers:
      - {name: first, image: 'busybox:1.36', command: ['true']}
      containers:
      - name: c
        image: busybox:1.36
        command: [sh, -c, 'true']
        resources: {limits: {memory: 64Mi}}
        envFrom: [{configMapRef: {name: conf}}]
        env: [{name: A, value: b}, {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: L, valueFrom: {resourceFieldRef: {resource: limits.memory}}}]
        volumeMounts: [{name: v, mountPath: /v}, {name: m, mountPath: /m, readOnly: true}]
";

/// Number of command lines that are tried side by side.
const AT_ONCE: usize = 3;

/// Standard output, standard error and exit code of one client.
fn run(home: &Home, program: &str, line: &str) -> (String, String, Option<i32>) {
    let mut shell: Command = client(home, "bash");
    let podctl = home.command(&[]);
    shell
        .args(["-c", line])
        .env("client", if program == "kubectl" { "kubectl".into() } else { podctl.get_program().to_owned() });
    for (name, value) in podctl.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        shell.env(name, value);
    }
    let output = shell.output().unwrap();
    let text = |bytes: &[u8]| without_versions(&String::from_utf8_lossy(bytes).replace("kubectl", "podctl"));
    // klog's lines are kubectl's own.
    let is_log = |line: &&str| {
        line.len() > 5 && "EIW".contains(&line[..1]) && line[1..5].bytes().all(|b| b.is_ascii_digit())
    };
    let errors = text(&output.stderr);
    let errors: Vec<&str> = errors.lines().filter(|line| !is_log(line)).collect();
    (text(&output.stdout), errors.join("\n"), output.status.code())
}

/// Text without the numbers of resourceVersions: the server's are its own, and count for its clients.
fn without_versions(text: &str) -> String {
    let mut parts = text.split("resourceVersion");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let sign = part.find(|c: char| !"\": ".contains(c)).unwrap_or(part.len());
        out += &format!(
            "resourceVersion{}{}",
            &part[..sign],
            part[sign..].trim_start_matches(|c: char| c.is_ascii_digit())
        );
    }
    out
}

/// Text without what differs from one moment to the next: ages, and so the widths of columns.
fn without_ages(text: &str) -> String {
    let is_age = |word: &str| {
        word.ends_with(['s', 'm', 'h', 'd'])
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || "smhd".contains(c))
    };
    let words = |line: &str| {
        line.split_whitespace().map(|w| if is_age(w) { "AGE" } else { w }).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

#[test]
fn kubectl_and_podctl_show_the_same_state_alike() {
    let home = Home::new();
    std::fs::write(home.path("p.yaml"), POD).unwrap();
    home.start(POD, &["--wait=ready"]);
    home.said(&["create", "cm", "conf", "--from-literal=a=b"]);
    home.said(&["create", "secret", "generic", "sec", "--from-literal=k=v"]);
    home.said(&["create", "service", "clusterip", "web", "--tcp=80:8080"]);
    home.said(&["volume", "create", "vol"]);
    std::fs::write(home.path("job.yaml"), JOB).unwrap();
    home.said(&["create", "-f", home.path("job.yaml").to_str().unwrap()]);
    home.said(&["wait", "--for=condition=complete", "job/work", "--timeout=60s"]);
    let meant: Vec<&str> =
        DIFFERENCES.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    let wrong = Mutex::new(Vec::new());
    let compare = |case: &str| {
        let line = if case.contains("$client") { case.to_owned() } else { format!("$client {case}") };
        let (kubectl, podctl) = (run(&home, "kubectl", &line), run(&home, "podctl", &line));
        let same = kubectl == podctl
            || (without_ages(&kubectl.0), &kubectl.1, kubectl.2)
                == (without_ages(&podctl.0), &podctl.1, podctl.2);
        if !same && !meant.contains(&case) {
            wrong.lock().unwrap().push(format!("{case}\nkubectl: {kubectl:?}\npodctl:  {podctl:?}"));
        }
    };
    let cases: Vec<&str> = CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    // Those that change something are scripts, and come one after another when the others are through.
    let (scripts, plain): (Vec<&str>, Vec<&str>) = cases.iter().partition(|case| case.contains("$client"));
    let next = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some(case) = plain.get(next.fetch_add(1, Ordering::Relaxed)) {
                    compare(case);
                }
            });
        }
    });
    scripts.iter().for_each(|case| compare(case));
    let (wrong, count) = (wrong.into_inner().unwrap(), cases.len());
    assert!(count > 100, "{count} cases");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
