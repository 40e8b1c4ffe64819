//! What of a running pod can be changed: images, CPU and memory, conditions that its gates wait for.

use std::process::Stdio;

use super::common::{Home, stderr, until};

fn sized(fields: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{terminationGracePeriodSeconds: 0, {fields} containers: [{{name: c, image: 'busybox:1.36', command: [sleep, '1000'], resizePolicy: [{{resourceName: cpu, restartPolicy: RestartContainer}}], resources: {{limits: {{memory: 64Mi, cpu: 1}}, requests: {{cpu: 100m}}}}}}]}}}}"
    )
}

#[test]
fn a_running_pod_gets_other_resources_and_another_image() {
    let home = Home::new();
    home.start(&sized(""), &["--wait=running"]);
    let status = || home.pod("p")["status"]["containerStatuses"][0].clone();
    let resize = |resources: &str| {
        let patch = format!("{{spec: {{containers: [{{name: c, resources: {resources}}}]}}}}");
        home.podctl(&["patch", "pod", "p", "--subresource=resize", "-p", &patch])
    };
    let resized = resize("{limits: {memory: 96Mi}}");
    assert!(resized.status.success(), "{}", stderr(&resized));
    until("the container has its memory", || status()["resources"]["limits"]["memory"] == "96Mi");
    assert_eq!(status()["restartCount"], 0);
    // Its policy says that more CPU needs a restart.
    home.said(&["set", "resources", "pod/p", "--limits=cpu=2"]);
    until("the container has started anew", || {
        status()["restartCount"] == 1 && status()["resources"]["limits"]["cpu"] == "2"
    });
    let refused = resize("{limits: {memory: null}}");
    assert!(stderr(&refused).contains("cannot be removed"), "{}", stderr(&refused));

    home.said(&["set", "image", "pod/p", "c=busybox:latest"]);
    until("the container runs its new image", || {
        status()["restartCount"] == 2 && status()["state"]["running"].is_object()
    });
    assert!(status()["image"].as_str().unwrap().ends_with("busybox:latest"), "{}", status());
    assert!(home.said(&["events"]).contains("Container c definition changed, will be restarted"));
}

/// Two that read an object before either has written it would each write what it has read of the other's.
#[test]
fn of_those_that_change_one_object_at_once_none_is_lost() {
    let home = Home::new();
    home.start(&sized(""), &["--network=none"]);
    home.said(&["create", "cm", "conf", "--from-literal=a=b"]);
    let change = |object: &str, round: usize| {
        let begin = |what: &str, key: String| {
            home.command(&[what, object, &key]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let words = [("label", "first"), ("label", "second"), ("annotate", "third")];
        for begun in words.map(|(what, key)| begin(what, format!("{key}{round}=x"))) {
            let ended = begun.wait_with_output().unwrap();
            assert!(ended.status.success(), "{object}: {}", stderr(&ended));
        }
        let meta = home.said(&["get", object, "-o", "jsonpath={.metadata}"]);
        for (_, key) in words {
            assert!(meta.contains(&format!("\"{key}{round}\":\"x\"")), "{object}, round {round}: {meta}");
        }
    };
    (0..5).for_each(|round| change("pod/p", round));
    home.said(&["stop", "p", "--grace-period=0"]);
    (5..10).for_each(|round| change("pod/p", round));
    (0..5).for_each(|round| change("cm/conf", round));
}

#[test]
fn quantities_are_shown_as_an_api_server_shows_them() {
    let home = Home::new();
    let volumes = "volumes: [{name: v, emptyDir: {sizeLimit: 1048576Ki}}],";
    let written = sized(volumes).replace("memory: 64Mi, cpu: 1", "memory: 65536Ki, cpu: 1000m");
    home.start(&written, &["--wait=running"]);
    let pod = home.pod("p");
    let resources = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"], serde_json::json!({"memory": "64Mi", "cpu": "1"}));
    assert_eq!(pod["status"]["containerStatuses"][0]["resources"]["limits"], resources["limits"]);
    assert_eq!(pod["spec"]["volumes"][0]["emptyDir"]["sizeLimit"], "1Gi");
    // What says the same in other words is no change.
    home.said(&["set", "resources", "pod/p", "--limits=memory=0.0625Gi"]);
    assert_eq!(home.pod("p")["metadata"]["generation"], 1);
    std::fs::write(home.path("p.yaml"), written).unwrap();
    let file = home.path("p.yaml").display().to_string();
    let local = home.said(&["set", "env", "-f", &file, "--local", "A=b", "-o", "yaml"]);
    assert!(local.contains("sizeLimit: 1Gi") && local.contains("memory: 64Mi"), "{local}");
}

#[test]
fn conditions_that_others_set_open_a_pods_gates() {
    let home = Home::new();
    home.start(&sized("readinessGates: [{conditionType: example.com/open}],"), &["--wait=running"]);
    let condition = |name: &str| {
        let all = home.pod("p")["status"]["conditions"].clone();
        let all = all.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|c| c["type"] == name).map(|c| c["status"].clone()).unwrap_or_default()
    };
    until("the containers are ready", || condition("ContainersReady") == "True");
    assert_eq!(condition("Ready"), "False");
    let patch = "{status: {conditions: [{type: example.com/open, status: 'True'}, {type: Initialized, status: 'False'}]}}";
    home.said(&["patch", "pod", "p", "--subresource=status", "-p", patch]);
    until("the pod is ready", || condition("Ready") == "True");
    assert_eq!(condition("Initialized"), "True", "it is not for others to say");
}
