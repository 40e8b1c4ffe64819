//! The Kubernetes API as its real clients see it: `kubectl`, and Kubernetes' own client for Python.
//!
//! The clients are installed once, by `scripts/clients` into $PODCTL_TEST_CLIENTS, else `target/clients`.

#[path = "../common/mod.rs"]
mod common;

mod kr8s;
mod kube;
mod kubectl;
mod python;
mod requests;
mod same;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use common::Home;

/// Tells where the clients are, or those of another name (`scripts/clients`); they are installed when they are not there.
fn clients(which: &str) -> &'static Path {
    static CLIENTS: OnceLock<PathBuf> = OnceLock::new();
    static KR8S: OnceLock<PathBuf> = OnceLock::new();
    static KUBE: OnceLock<PathBuf> = OnceLock::new();
    let (known, below, last) = match which {
        "kr8s" => (&KR8S, "kr8s", "suite"),
        "kube" => (&KUBE, "kube", "suite"),
        _ => (&CLIENTS, "", "bin/kubectl"),
    };
    known.get_or_init(|| {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let chosen = std::env::var_os("PODCTL_TEST_CLIENTS").map(PathBuf::from);
        let dir = chosen.unwrap_or_else(|| project.join("target/clients"));
        let place = dir.join(below);
        if !place.join(last).exists() {
            let status = Command::new(project.join("scripts/clients")).arg(dir).arg(which).status().unwrap();
            assert!(status.success(), "scripts/clients: {status}");
        }
        place
    })
}

/// A command that finds the clients, and the server of this home in its kubeconfig.
fn client(home: &Home, program: &str) -> Command {
    let kubeconfig = home.path("kubeconfig");
    if !kubeconfig.exists() {
        std::fs::write(&kubeconfig, home.said(&["kubeconfig"])).unwrap();
    }
    let path = format!("{}:{}", clients("clients").join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(program);
    command.env("PATH", path).env("HOME", home.path("")).env("KUBECONFIG", kubeconfig);
    command.current_dir(home.path("")).stdin(std::process::Stdio::null());
    command
}
