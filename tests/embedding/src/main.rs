//! A plain `main` that lets a pod live with it: it prints the pod's directory when the pod is ready, and waits to be
//! killed, or for the end of its standard input.
//!
//! usage: podctl-embedding RUNTIME-DIR DATA-DIR [PROGRAM]

use std::time::Duration;

use podctl::{Engine, EngineOptions, Error, Options};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: tied}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: 'busybox:1.36', command: [sleep, '1000']}]
";

fn main() -> Result<(), Error> {
    let mut args = std::env::args_os().skip(1);
    let mut next = || args.next().unwrap_or_default();
    let directories = Some((next().into(), next().into()));
    let program = Some(next()).filter(|program| !program.is_empty()).map(Into::into);
    let engine = Engine::open(&EngineOptions { directories, program })?;
    let options = Options { ends_with_program: true, ..Options::default() };
    let pod = engine.run_yaml("default", POD, &options)?.remove(0);
    pod.wait_ready(Some(Duration::from_secs(60)))?;
    println!("{} is ready", pod.name());
    // The other side kills this program, or closes.
    let _ = std::io::read_to_string(std::io::stdin());
    Ok(())
}
