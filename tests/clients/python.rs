//! Kubernetes' own client for Python: objects, watches, logs, exec and port-forward.

use super::{client, clients, common::Home};

#[test]
fn pythons_client_creates_watches_reads_executes_and_forwards() {
    let home = Home::new();
    let script = home.file("client.py", include_str!("client.py"));
    let python = clients().join("bin/python").display().to_string();
    let output = client(&home, &python).arg(script).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().last(), Some("done"));
}
