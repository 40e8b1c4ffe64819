//! The usual stack: applications that wait for a database and a cache of another file, on real images.

use crate::common::{Home, stderr, stdout, until};

const WEB_STACK: &str = include_str!("../stack/web-stack.yaml");
const WEB_APP: &str = include_str!("../stack/web-app.yaml");
const BACKENDS: &str = include_str!("../stack/backends.yaml");

impl Home {
    fn up(&self, text: &str, wait: &str) {
        let output = self.run(text, &["-d", "--wait", wait]);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    fn is_ready(&self, name: &str) -> bool {
        let conditions = self.pod(name)["status"]["conditions"].clone();
        conditions.as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    }
}

#[test]
fn r_net_1_applications_wait_for_their_backends_whichever_are_started_first() {
    let home = Home::new();
    let serves = |pod: &str, container: &str| {
        let get = "import urllib.request as r; print(r.urlopen(\"http://localhost:8080\").read().decode())";
        stdout(&home.podctl(&["exec", pod, "-c", container, "--", "python", "-c", get]))
            .contains("hello from myapp")
    };
    home.up(WEB_STACK, "none");
    home.up(WEB_APP, "none");
    until("both wait", || {
        let waits = |pod: &str, container: &str| {
            let status = home.pod(pod)["status"]["initContainerStatuses"][0].clone();
            status["name"] == container && status["state"]["running"].is_object()
        };
        waits("web-stack", "wait-db") && waits("web-app", "wait-db")
    });
    home.up(BACKENDS, "none");
    until("the backends are ready", || home.is_ready("postgres") && home.is_ready("redis"));
    for both in ["after", "before"] {
        until(&format!("what was started {both} its backends is ready"), || {
            home.is_ready("web-stack") && home.is_ready("web-app")
        });
        until("both serve", || serves("web-stack", "web") && serves("web-app", "app"));
        let migrated = stdout(&home.podctl(&["logs", "web-stack", "-c", "db-migration"]));
        assert_eq!(migrated, "Applied 2 migrations to mydb\n");
        if both == "after" {
            home.podctl(&["delete", "web-stack", "web-app", "--now"]);
            home.up(WEB_STACK, "none");
            home.up(WEB_APP, "none");
        }
    }
    // By its Service's name, with a password, into the database that the application migrates.
    let query = "PGPASSWORD=secret psql -h postgres-service -U postgres mydb -Atc \"select 6 * 7\"";
    assert_eq!(stdout(&home.podctl(&["exec", "postgres", "--", "sh", "-c", query])), "42\n");
    home.podctl(&["delete", "--all", "--now"]);
    for image in
        ["myapp:1.0", "postgres:15", "redis:7", "fluent/fluentd:v1.14", "prom/statsd-exporter:v0.22.0"]
    {
        home.podctl(&["rmi", image]);
    }
}
