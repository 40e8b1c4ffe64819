use super::*;
use crate::pod::{Place, quantity::quantity_bytes};

fn list_errors(text: &str) -> Vec<String> {
    let source = Source { name: "pod.yaml".into(), text: text.into() };
    load(&[source]).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

const HEAD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n";

#[test]
fn every_error_of_a_file_is_reported_with_its_place() {
    let found = list_errors(&format!(
        "{HEAD}  containers:\n  - name: App\n    image: busybox\n    imagePullPolicie: Never\n  - name: b\n    volumeMounts:\n    - name: nope\n      mountPath: /../x\n"
    ));
    let places: Vec<&str> = found.iter().map(|e| e.split(": error").next().unwrap()).collect();
    assert!(
        found[1].contains("unknown field \"imagePullPolicie\"")
            && found[1].contains("did you mean \"imagePullPolicy\"?"),
        "{found:#?}"
    );
    assert!(places.contains(&"pod.yaml:7:5") && places.contains(&"pod.yaml:9:5"), "{found:#?}");
    assert!(found.iter().any(|e| e.contains("spec.containers[1].image: Required value")), "{found:#?}");
    assert!(found.iter().any(|e| e.contains("volumeMounts[0].name: Not found: \"nope\"")), "{found:#?}");
    assert!(found.iter().any(|e| e.contains("must not contain")), "{found:#?}");
}

#[test]
fn r_init_5_probes_are_for_sidecars_not_for_ordinary_init_containers() {
    let pod = |policy: &str| {
        format!(
            "{HEAD}  initContainers:\n  - name: i\n    image: busybox\n{policy}    startupProbe: {{exec: {{command: [a]}}}}\n  containers:\n  - {{name: a, image: busybox}}\n"
        )
    };
    assert!(list_errors(&pod(""))[0].contains("Forbidden: must not be set for init containers"));
    assert!(list_errors(&pod("    restartPolicy: Always\n")).is_empty());
}

#[test]
fn r_vol_3_a_missing_config_map_names_the_field_and_the_way_out() {
    let pod = format!(
        "{HEAD}  containers:\n  - {{name: a, image: busybox}}\n  volumes:\n  - name: c\n    configMap:\n      name: conf\n"
    );
    let found = list_errors(&pod);
    assert!(
        found[0].starts_with(
            "pod.yaml:11:7: error: spec.volumes[0].configMap.name: ConfigMap \"conf\" not found"
        ),
        "{found:#?}"
    );
    assert!(
        list_errors(&format!("{pod}---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: conf\n"))
            .is_empty()
    );
}

#[test]
fn r_img_1_the_pull_policy_follows_the_tag() {
    let source = Source {
        name: "p".into(),
        text: format!(
            "{HEAD}  containers:\n  - {{name: a, image: busybox}}\n  - {{name: b, image: 'busybox:1.36'}}\n"
        ),
    };
    let pods = load(&[source]).unwrap().pods;
    let policies: Vec<_> = pods[0]
        .spec
        .as_ref()
        .unwrap()
        .containers
        .iter()
        .map(|c| c.image_pull_policy.clone().unwrap())
        .collect();
    assert_eq!(policies, ["Always", "IfNotPresent"]);
}

#[test]
fn a_number_where_text_belongs_says_to_quote_it() {
    let found = list_errors(&format!(
        "{HEAD}  containers:\n  - name: a\n    image: busybox\n    env:\n    - name: NUMBER\n      value: 1\n"
    ));
    assert!(found[0].contains("pod.yaml:11:7") && found[0].contains("quotes"), "{found:#?}");
}

#[test]
fn a_tab_and_a_repeated_key_are_explained() {
    assert!(list_errors("a:\n\tb: 1\n")[0].contains("tabs"));
    assert!(list_errors("a: 1\na: 2\n")[0].contains("already set"));
}

fn one(body: &str) -> Pod {
    let source = Source { name: "p".into(), text: format!("{HEAD}{body}") };
    load(&[source]).unwrap_or_else(|found| panic!("{found:#?}")).pods.remove(0)
}

#[test]
fn yaml_is_read_as_kubectl_reads_it() {
    let pod = one(
        "  containers:\n  - &base\n    name: a\n    image: busybox\n    env: [{name: A, value: '1'}]\n  - <<: *base\n    name: b\n  volumes:\n  - name: v\n    downwardAPI: {defaultMode: 0640}\n",
    );
    let spec = pod.spec.unwrap();
    assert_eq!(spec.containers[1].name, "b");
    assert_eq!(spec.containers[1].env, spec.containers[0].env);
    assert_eq!(spec.volumes.unwrap()[0].downward_api.as_ref().unwrap().default_mode, Some(0o640));
    let text =
        format!("\u{feff}---\n---\n# nothing\n---\n{HEAD}  containers: [{{name: a, image: b}}]\n...\n");
    let source = Source { name: "p".into(), text: text.replace('\n', "\r\n") };
    assert_eq!(load(&[source]).unwrap().pods.len(), 1);
}

#[test]
fn a_quantity_may_be_a_number() {
    let pod = one(
        "  containers:\n  - name: a\n    image: b\n    resources: {limits: {cpu: 1, memory: 1048576}, requests: {cpu: 0.5}}\n",
    );
    let limits = pod.spec.unwrap().containers[0].resources.clone().unwrap().limits.unwrap();
    assert_eq!(quantity_bytes(&limits["memory"].0), Ok(1 << 20));
}

fn read_workload(text: &str) -> Manifest {
    load(&[Source { name: "w".into(), text: text.into() }]).unwrap_or_else(|found| panic!("{found:#?}"))
}

#[test]
fn replicas_are_numbered_and_one_has_the_workloads_name() {
    let names = |kind: &str, replicas: i32| {
        let manifest = read_workload(&format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: w}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{a: b}}}}\n  template:\n    metadata: {{labels: {{a: b}}}}\n    spec: {{containers: [{{name: c, image: i}}]}}\n"
        ));
        manifest.pods.into_iter().map(|p| p.metadata.name.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names("Deployment", 2), ["w-0", "w-1"]);
    assert_eq!(names("Deployment", 1), ["w"]);
    assert_eq!(names("StatefulSet", 1), ["w-0"]);
}

#[test]
fn each_pod_of_a_stateful_set_has_its_own_claims() {
    let manifest = read_workload(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  replicas: 2\n  serviceName: db\n  selector: {matchLabels: {a: b}}\n  volumeClaimTemplates:\n  - metadata: {name: data}\n    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: i, volumeMounts: [{name: data, mountPath: /d}]}]}\n",
    );
    let claims: Vec<_> = manifest.claims.iter().map(|c| c.metadata.name.clone().unwrap()).collect();
    assert_eq!(claims, ["data-db-0", "data-db-1"]);
    let named = list_references(&manifest.pods[1]).into_iter().map(|r| r.name.to_owned()).collect::<Vec<_>>();
    assert_eq!(named, ["data-db-1"]);
}

#[test]
fn a_job_has_a_pod_for_each_completion() {
    let manifest = read_workload(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  completions: 3\n  parallelism: 2\n  backoffLimit: 1\n  completionMode: Indexed\n  template:\n    spec: {restartPolicy: Never, containers: [{name: c, image: i}]}\n",
    );
    let job = &manifest.jobs[0];
    assert_eq!((job.count_places(), job.parallelism(), job.spec.backoff_limit), (3, 2, Some(1)));
    let pod = job.pod(Place { index: 2, attempt: 1 }, 0, 0);
    assert_eq!(pod.metadata.name.as_deref(), Some("j-2-retry-1"));
    assert_eq!(pod.metadata.labels.as_ref().unwrap()["batch.kubernetes.io/job-completion-index"], "2");
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("j-2"));
    assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
}

/// Every file of tests/manifests/bad with what is said about it; `PODCTL_BLESS=1` writes it anew.
#[test]
fn bad_manifests_are_explained_as_before() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/bad");
    let bless = std::env::var_os("PODCTL_BLESS").is_some();
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "yaml")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).unwrap();
        let found = load(&[Source { name: name.clone(), text }]).err().unwrap_or_default();
        let said: String = found.iter().map(|d| format!("{d}\n")).collect();
        let golden = file.with_extension("txt");
        if bless {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(said, expected, "{name}; if this is better, run again with PODCTL_BLESS=1");
    }
}

#[test]
fn the_volume_that_an_api_server_adds_is_a_warning_only() {
    let text = format!(
        "{HEAD}  containers: [{{name: a, image: b}}]\n  volumes:\n  - name: kube-api-access-x7k2p\n    projected:\n      sources:\n      - serviceAccountToken: {{path: token, expirationSeconds: 3607}}\n      - configMap: {{name: kube-root-ca.crt, items: [{{key: ca.crt, path: ca.crt}}]}}\n"
    );
    let manifest = load(&[Source { name: "p".into(), text }]).unwrap();
    assert!(manifest.warnings[0].path.ends_with("serviceAccountToken"), "{:?}", manifest.warnings);
}

#[test]
fn r_res_1_a_pod_with_limits_of_its_own_asks_for_what_its_containers_do() {
    let pod = one(
        "  resources: {limits: {cpu: '2', memory: 1Gi}}\n  containers:\n  - {name: a, image: i, resources: {requests: {cpu: 500m}}}\n  - {name: b, image: i, resources: {requests: {cpu: '1'}}}\n",
    );
    let requests = pod.spec.unwrap().resources.unwrap().requests.unwrap();
    assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("1500m", "1Gi"));
}

fn read_all(text: &str) -> Vec<serde_json::Value> {
    let source = Source { name: "f".into(), text: text.into() };
    document_tree::parse(&source)
        .unwrap_or_else(|e| panic!("{e}: {text}"))
        .iter()
        .map(Node::to_json)
        .collect()
}

#[test]
fn flow_style_may_be_closed_anywhere_and_quoted_text_go_on_further_out() {
    for (text, wanted) in [
        ("a:\n  b: [\n    \"x\",\n    \"y\"\n  ]\n", serde_json::json!({"a": {"b": ["x", "y"]}})),
        ("a:\n  b: [\n    x\n]\n", serde_json::json!({"a": {"b": ["x"]}})),
        (
            "a:\n  b: [x,\n  z]\n  c: {\n    d: 1\n}\n",
            serde_json::json!({"a": {"b": ["x", "z"], "c": {"d": 1}}}),
        ),
        ("a:\n  b: \"x\ny\"\n", serde_json::json!({"a": {"b": "x y"}})),
        ("a: [!x, b, !x c]\n", serde_json::json!({"a": ["", "b", "c"]})),
        ("a: |\n  x", serde_json::json!({"a": "x\n"})),
        ("a: >-\n  x\n  y\n", serde_json::json!({"a": "x y"})),
        ("a: 1 # \u{2014}\r\nb:\t2\r\n", serde_json::json!({"a": 1, "b": 2})),
        ("d: {0x10: a, on: b, 1.5: c}\n", serde_json::json!({"d": {"16": "a", "true": "b", "1.5": "c"}})),
        (
            "a: &a {x: 1}\nb: {x: 2, <<: *a}\nc: {<<: *a, x: 3}\n",
            serde_json::json!({"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 3}}),
        ),
    ] {
        assert_eq!(read_all(text), [wanted], "{text}");
    }
}

#[test]
fn a_file_may_hold_several_values_of_json_and_each_document_its_own_mark() {
    let all = read_all(
        "{\"a\": \"\\ud83d\\ude00\"}\n{\"b\": [1, 2.0]} {\"c\": null}\n---\n\u{feff}d: e\n---\n\t{\"f\":\n\t1}\n",
    );
    let wanted = serde_json::json!([{"a": "\u{1f600}"}, {"b": [1, 2]}, {"c": null}, {"d": "e"}, {"f": 1}]);
    assert_eq!(serde_json::Value::from(all), wanted);
    assert_eq!(read_all("%YAML 1.1\n---\na: 1\n--- # next\nb: 2\n...\n").len(), 2);
}

#[test]
fn places_are_those_of_the_file_in_yaml_and_in_json() {
    let head = "# first\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n";
    assert!(list_errors(&format!("{head}  - {{name: a, imag: b}}\n"))[0].starts_with("pod.yaml:8:"));
    let json = "{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n \"metadata\": {\"name\": \"p\"},\n \"spec\": {\"x\": 1}}\n";
    assert!(
        list_errors(json).iter().any(|e| e.starts_with("pod.yaml:3:11: error: spec.x: unknown field")),
        "{:#?}",
        list_errors(json)
    );
    let broken = list_errors("{\"a\": 1,\n  \"b\": \"\\x\"}\n");
    assert!(broken[0].starts_with("pod.yaml:2:10: error: invalid escape"), "{broken:?}");
}

#[test]
fn base64_may_be_wrapped_and_a_volume_of_no_kind_is_an_empty_one() {
    let manifest = read_workload(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  k: |\n    aGVs\n    bG8=\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\nbinaryData: {k: \"aGVs\\r\\nbG8=\"}\ndata: {t: \"a\\nb\"}\n",
    );
    assert_eq!(manifest.secrets[0].data.as_ref().unwrap()["k"].0, b"hello");
    assert_eq!(manifest.config_maps[0].binary_data.as_ref().unwrap()["k"].0, b"hello");
    assert_eq!(manifest.config_maps[0].data.as_ref().unwrap()["t"], "a\nb");
    let pod =
        one("  containers: [{name: a, image: b}]\n  volumes:\n  - name: v\n    emptyDir:\n  - name: w\n");
    assert!(pod.spec.unwrap().volumes.unwrap().iter().all(|v| v.empty_dir.is_some()));
}

/// Every file of tests/manifests/corpus, read as the real kubectl has read it; `scripts/corpus --bless` writes that anew.
#[test]
fn files_of_real_life_are_read_as_kubectl_reads_them() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/corpus");
    let flattened = |node: serde_json::Value| match node["items"].as_array() {
        Some(items) if node["kind"] == "List" => items.clone(),
        _ => vec![node],
    };
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "yaml"));
    assert!(files.len() >= 150, "the corpus is not there");
    let mut differing = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut found: Vec<_> = read_all(&text).into_iter().flat_map(flattened).collect();
        for object in &mut found {
            object["metadata"]["labels"]["read"] = "yes".into();
        }
        let golden = std::fs::read_to_string(file.with_extension("jsonl")).unwrap();
        let wanted: Vec<serde_json::Value> =
            golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if found != wanted {
            differing.push(format!("{}\n   podctl: {found:?}\n  kubectl: {wanted:?}", file.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn what_templates_leave_empty_is_as_if_it_were_not_there_where_the_api_server_has_it_so() {
    let text = r#"
apiVersion: v1
kind: Pod
metadata: {name: "", generateName: made-, namespace: ""}
spec:
  containers:
  - name: a
    image: b
    env: [{name: OWN, valueFrom: {fieldRef: {apiVersion: "", fieldPath: metadata.name}}}]
    resources: {limits: {cpu: null}}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: ""}
spec:
  type: ""
  sessionAffinity: ""
  loadBalancerIP: ""
  selector: {a: b}
  ports: [{port: 80, targetPort: 0, nodePort: 0, protocol: "", name: ""}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: ""}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {namespace: "", labels: {a: b}}
    spec: {containers: [{name: a, image: b}]}
"#;
    let manifest = load(&[Source { name: "w".into(), text: text.into() }]);
    let manifest = manifest.unwrap_or_else(|found| panic!("{found:#?}"));
    let named = |pod: &Pod| pod.metadata.name.as_deref().unwrap_or_default().starts_with("made-");
    let pod = manifest.pods.iter().find(|pod| named(pod)).expect("it was given a name");
    let limits = pod.spec.as_ref().unwrap().containers[0].resources.as_ref().unwrap().limits.as_ref();
    assert_eq!(limits.unwrap()["cpu"].0, "0");
    let namespaces: Vec<_> = manifest.pods.iter().map(|pod| pod.metadata.namespace.as_deref()).collect();
    assert_eq!(namespaces, [Some("default"); 2]);
    let port = &manifest.services[0].spec.as_ref().unwrap().ports.as_ref().unwrap()[0];
    assert_eq!((&port.name, &port.node_port), (&None, &None));
    // Pointers in Go: there an empty text is a value, and none of those that can be.
    let refused = list_errors(&format!("{HEAD}  containers: [{{name: a, image: b, restartPolicy: \"\"}}]\n"));
    assert!(refused[0].contains("restartPolicy"), "{refused:?}");
}
