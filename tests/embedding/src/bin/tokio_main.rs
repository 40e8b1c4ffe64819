//! `#[tokio::main]`, with a call of `init` as late as it comes there: a hook was faster.
//!
//! usage: tokio_main RUNTIME-DIR DATA-DIR

use std::time::Duration;

use podctl::{Engine, Error, Options, PullOptions};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: async}
spec:
  restartPolicy: Never
  containers: [{name: app, image: 'busybox:1.36', command: [echo, hello]}]
";

#[tokio::main]
async fn main() -> Result<(), Error> {
    podctl::init();
    let mut args = std::env::args_os().skip(1);
    let engine = Engine::at(args.next().unwrap_or_default(), args.next().unwrap_or_default())?;
    // Blocks a worker of the runtime, and does not panic there.
    engine.pull("busybox:1.36", &PullOptions::default())?;
    let pod = engine.run_yaml("default", POD, &Options::default())?.remove(0).guard();
    pod.wait_until(
        |pod| pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Succeeded")),
        Some(Duration::from_secs(60)),
    )?;
    println!("done");
    pod.delete()
}
