//! A program with podctl inside: runs a pod, waits for its end, prints its logs, deletes it.
//!
//! `cargo run --example embed`, or with a manifest file as its argument.

use std::process::ExitCode;

use podctl::{Engine, Error, LogOptions, Options, manifest::Source};

const HELLO: &str = "
apiVersion: v1
kind: Pod
metadata: {name: embedded}
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, 'echo hello from $(hostname)']
";

fn main() -> ExitCode {
    let text = match std::env::args().nth(1).map(std::fs::read_to_string) {
        Some(Ok(text)) => text,
        Some(Err(e)) => {
            eprintln!("error: cannot read the manifest: {e}");
            return ExitCode::FAILURE;
        }
        None => HELLO.to_owned(),
    };
    match run(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(text: String) -> Result<(), Error> {
    let engine = Engine::of_user()?;
    let manifest = engine.load("default", &[Source { name: "manifest".into(), text }])?;
    for pod in &manifest.pods {
        let pod = engine.run(pod, &manifest, &Options::default())?;
        pod.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
        let ended = pod.wait()?;
        for entry in pod.logs(&LogOptions::default())? {
            println!("{}: {}", entry.container, String::from_utf8_lossy(&entry.text));
        }
        let phase = ended.status.and_then(|status| status.phase);
        println!("{} is {}", pod.name(), phase.unwrap_or_default());
        pod.delete(None)?;
    }
    Ok(())
}
