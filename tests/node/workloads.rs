//! Files of whole applications: workloads' pods and their names, and objects that mean nothing on one machine.

use super::common::{Home, stderr, until};

const SERVER: &str = "image: busybox:1.36, command: [sh, -c, \"echo $(hostname) >/tmp/index.html; exec busybox httpd -f -p 8080 -h /tmp\"]";

#[test]
fn the_pods_of_a_stateful_set_have_names_of_their_own_everywhere() {
    let home = Home::new();
    let text = "apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: st}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: st}
spec:
  serviceName: peers
  replicas: 2
  ordinals: {start: 3}
  selector: {matchLabels: {app: st}}
  template:
    metadata: {labels: {app: st}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: busybox:1.36, command: [sleep, \"300\"]}]
";
    home.start(text, &[]);
    let pod = home.pod("st-4");
    let spec = &pod["spec"];
    assert_eq!((&spec["hostname"], &spec["subdomain"]), (&"st-4".into(), &"peers".into()));
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "st-4");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "4");
    let name = home.said(&["exec", "st-3", "--", "hostname", "-f"]);
    assert_eq!(name, "st-3.peers.default.svc.cluster.local\n");
    let look = || home.podctl(&["exec", "st-3", "--", "nslookup", "st-4.peers"]);
    until("its peer is found", || look().status.success());
}

#[test]
fn a_service_called_as_its_deployment_is_reached_from_within() {
    let home = Home::new();
    let text = format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: c, {SERVER}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web, creationTimestamp: \"2024-01-01T00:00:00Z\"}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    );
    home.said(&["pull", "-q", "busybox:1.36"]);
    let started = home.start(&text, &["--wait=ready"]);
    assert_eq!(stderr(&started), "", "what a server has written is worth no word");
    let mut said = String::new();
    until("the Service answers", || {
        let asked = home.podctl(&["exec", "web", "--", "wget", "-qO-", "http://web/"]);
        said = String::from_utf8_lossy(&asked.stdout).into_owned();
        asked.status.success()
    });
    assert!(said.starts_with("web-") && said.trim().len() == "web-12345".len(), "{said}");
    let age = home.said(&["get", "service", "web", "--no-headers"]);
    assert!(!age.contains('y') && !age.contains('d'), "as old as the pod, not as its file says: {age}");
    // The same again is the same pod.
    let file = home.file("again.yaml", &text);
    let applied = home.podctl(&["apply", "-f", &file]);
    assert!(applied.status.success() && !stderr(&applied).contains("another spec"), "{}", stderr(&applied));
    home.said(&["delete", "-f", &file]);
    assert_eq!(home.pod("web"), serde_json::Value::Null);
}

#[test]
fn objects_that_mean_nothing_here_are_passed_over_with_a_line_each() {
    let home = Home::new();
    let text = "apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: own}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: route}
spec: {hosts: [x]}
---
apiVersion: v1
kind: PodList
items:
- metadata: {name: p}
  spec:
    restartPolicy: Never
    containers: [{name: c, image: busybox:1.36, command: [echo, ran]}]
";
    let ran = home.run(text, &["--network=none"]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    let said = stderr(&ran);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("is passed over")).collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert!(
        lines[2].contains("NetworkPolicy \"deny\"") && lines[2].contains("NOTHING IS FILTERED"),
        "{said}"
    );
    let strict = home.run(text, &["--network=none", "--strict-kinds", "--replace"]);
    assert!(!strict.status.success() && stderr(&strict).contains("4 objects"), "{}", stderr(&strict));
    let typo = home.run("apiVersion: v1\nkind: Servise\nmetadata: {name: x}\n", &[]);
    assert!(stderr(&typo).contains("did you mean \"Service\"?"), "{}", stderr(&typo));
}
