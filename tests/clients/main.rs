//! The Kubernetes API as its real clients see it: `kubectl`, and Kubernetes' own client for Python.
//!
//! The clients are installed once, into a virtual environment of Python: $PODCTL_TEST_CLIENTS, else `target/clients`.

#[path = "../common/mod.rs"]
mod common;

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

/// Tells where the clients are; they are installed when they are not there.
fn clients() -> &'static Path {
    static CLIENTS: OnceLock<PathBuf> = OnceLock::new();
    CLIENTS.get_or_init(|| {
        let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients");
        let dir = std::env::var_os("PODCTL_TEST_CLIENTS").map_or_else(own, PathBuf::from);
        if !dir.join("bin/kubectl").exists() {
            let requirements = dir.with_extension("txt");
            std::fs::write(&requirements, include_str!("requirements.txt")).unwrap();
            let run = |program: &Path, args: &[&str]| {
                let status = Command::new(program).args(args).status().unwrap();
                assert!(status.success(), "{program:?} {args:?}: {status}");
            };
            run(Path::new("python3"), &["-m", "venv", &dir.display().to_string()]);
            run(&dir.join("bin/pip"), &["install", "-q", "-r", &requirements.display().to_string()]);
        }
        dir
    })
}

/// A command that finds the clients, and the server of this home in its kubeconfig.
fn client(home: &Home, program: &str) -> Command {
    let kubeconfig = home.path("kubeconfig");
    if !kubeconfig.exists() {
        std::fs::write(&kubeconfig, home.said(&["kubeconfig"])).unwrap();
    }
    let path = format!("{}:{}", clients().join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(program);
    command.env("PATH", path).env("HOME", home.path("")).env("KUBECONFIG", kubeconfig);
    command.current_dir(home.path("")).stdin(std::process::Stdio::null());
    command
}
