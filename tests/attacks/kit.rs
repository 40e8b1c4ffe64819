//! What the attacks share: pods of one container, images made for an attack, and programs that call the kernel.

use std::process::Command;

use crate::common::{Home, stderr, stdout};

/// A pod of one container that runs a line of shell. `pod` and `container` are further lines of either.
pub struct Attack<'a> {
    pub image: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
    pub script: &'a str,
}

impl Default for Attack<'_> {
    fn default() -> Self {
        Attack { image: "busybox:1.36", pod: "", container: "", script: "true" }
    }
}

impl Attack<'_> {
    pub fn manifest(&self) -> String {
        let Attack { image, pod, container, script } = self;
        let script = serde_json::to_string(script).unwrap();
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 0\n{pod}  containers:\n  - name: a\n    image: {image}\n    imagePullPolicy: IfNotPresent\n    command: [sh, -c, {script}]\n{container}"
        )
    }

    /// Everything that the pod and podctl say.
    pub fn outcome(&self, home: &Home) -> String {
        self.outcome_with(home, &["--network", "none"])
    }

    pub fn outcome_with(&self, home: &Home, flags: &[&str]) -> String {
        let output = home.run(&self.manifest(), &[&["--replace"], flags].concat());
        stdout(&output) + &stderr(&output)
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs a test of this very program, one of those that are only there to be run so, without any wall around it.
pub fn probe_on_the_host(name: &str) -> String {
    let mut probe = Command::new(std::env::current_exe().unwrap());
    let output = probe.args(["--ignored", "--exact", name, "--nocapture"]).output().unwrap();
    stdout(&output) + &stderr(&output)
}

/// Runs it in a container. It needs the machine's libraries, for busybox's image has none.
pub fn probe_in_a_container(home: &Home, name: &str, context: &str) -> String {
    let program = std::env::current_exe().unwrap().canonicalize().unwrap().display().to_string();
    let libraries: Vec<&str> =
        ["/lib", "/lib64", "/usr/lib"].into_iter().filter(|dir| std::path::Path::new(dir).exists()).collect();
    let mut volumes = format!("  volumes:\n  - {{name: probe, hostPath: {{path: {program}}}}}\n");
    let mut container = format!(
        "    securityContext: {context}\n    volumeMounts:\n    - {{name: probe, mountPath: /probe}}\n"
    );
    for (at, dir) in libraries.iter().enumerate() {
        volumes += &format!("  - {{name: l{at}, hostPath: {{path: {dir}}}}}\n");
        container += &format!("    - {{name: l{at}, mountPath: {dir}, readOnly: true}}\n");
    }
    let script = format!("/probe --ignored --exact {name} --nocapture --test-threads=1");
    Attack { pod: &volumes, container: &container, script: &script, ..Attack::default() }.outcome(home)
}
