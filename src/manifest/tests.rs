use super::*;

fn errors(text: &str) -> Vec<String> {
    let source = Source { name: "pod.yaml".into(), text: text.into() };
    load(&[source]).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

const HEAD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n";

#[test]
fn every_error_of_a_file_is_reported_with_its_place() {
    let found = errors(&format!(
        "{HEAD}  containers:\n  - name: App\n    image: busybox\n    imagePullPolicie: Never\n  - name: b\n    volumeMounts:\n    - name: nope\n      mountPath: x\n"
    ));
    let places: Vec<&str> = found.iter().map(|e| e.split(": error").next().unwrap()).collect();
    assert!(
        found[0].contains("unknown field \"imagePullPolicie\"")
            && found[0].contains("did you mean \"imagePullPolicy\"?"),
        "{found:#?}"
    );
    assert!(places.contains(&"pod.yaml:7:5") && places.contains(&"pod.yaml:9:5"), "{found:#?}");
    assert!(found.iter().any(|e| e.contains("spec.containers[1].image: Required value")), "{found:#?}");
    assert!(found.iter().any(|e| e.contains("volumeMounts[0].name: Not found: \"nope\"")), "{found:#?}");
    assert!(found.iter().any(|e| e.contains("must be an absolute path")), "{found:#?}");
}

#[test]
fn r_init_5_probes_are_for_sidecars_not_for_ordinary_init_containers() {
    let pod = |policy: &str| {
        format!(
            "{HEAD}  initContainers:\n  - name: i\n    image: busybox\n{policy}    startupProbe: {{exec: {{command: [a]}}}}\n  containers:\n  - {{name: a, image: busybox}}\n"
        )
    };
    assert!(errors(&pod(""))[0].contains("Forbidden: must not be set for init containers"));
    assert!(errors(&pod("    restartPolicy: Always\n")).is_empty());
}

#[test]
fn r_vol_3_a_missing_config_map_names_the_field_and_the_way_out() {
    let pod = format!(
        "{HEAD}  containers:\n  - {{name: a, image: busybox}}\n  volumes:\n  - name: c\n    configMap:\n      name: conf\n"
    );
    let found = errors(&pod);
    assert!(
        found[0].starts_with(
            "pod.yaml:11:7: error: spec.volumes[0].configMap.name: ConfigMap \"conf\" not found"
        ),
        "{found:#?}"
    );
    assert!(
        errors(&format!("{pod}---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: conf\n")).is_empty()
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
    let found = errors(&format!(
        "{HEAD}  containers:\n  - name: a\n    image: busybox\n    env:\n    - name: N\n      value: 1\n"
    ));
    assert!(found[0].contains("pod.yaml:11:7") && found[0].contains("quotes"), "{found:#?}");
}

#[test]
fn a_tab_and_a_repeated_key_are_explained() {
    assert!(errors("a:\n\tb: 1\n")[0].contains("tabs"));
    assert!(errors("a: 1\na: 2\n")[0].contains("already set"));
}
