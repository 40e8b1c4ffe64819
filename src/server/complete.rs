//! The fields that a cluster's objects always have: clients written in Go take them for granted. PURE.

use serde_json::{Value, json};

/// Fills in what an API server would have filled in.
pub fn complete_object(kind: &str, object: &mut Value) {
    match kind {
        "Pod" => complete_pod(object),
        "Service" => complete_service(object),
        "Event" => complete_event(object),
        "EndpointSlice" => complete_slice(object),
        "PersistentVolumeClaim" => {
            set_default(&mut object["spec"], "volumeMode", json!("Filesystem"));
            set_default(&mut object["spec"], "storageClassName", json!("local"));
        }
        _ => {}
    }
}

fn complete_pod(pod: &mut Value) {
    let spec = &mut pod["spec"];
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("serviceAccountName", json!("default")),
        ("serviceAccount", json!("default")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
        ("priority", json!(0)),
    ] {
        set_default(spec, field, value);
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            for (field, value) in [
                ("resources", json!({})),
                ("terminationMessagePath", json!("/dev/termination-log")),
                ("terminationMessagePolicy", json!("File")),
                ("imagePullPolicy", json!("IfNotPresent")),
            ] {
                set_default(container, field, value);
            }
            for port in container["ports"].as_array_mut().into_iter().flatten() {
                set_default(port, "protocol", json!("TCP"));
            }
        }
        // What reads a missing list would leave null behind.
        remove_null(spec, list);
    }
    set_default(&mut pod["status"], "phase", json!("Pending"));
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        for status in pod["status"][list].as_array_mut().into_iter().flatten() {
            set_default(status, "lastState", json!({}));
        }
        remove_null(&mut pod["status"], list);
    }
}

fn complete_service(service: &mut Value) {
    let external = service["spec"]["type"] == "ExternalName";
    let spec = &mut service["spec"];
    set_default(spec, "type", json!("ClusterIP"));
    set_default(spec, "sessionAffinity", json!("None"));
    set_default(spec, "internalTrafficPolicy", json!("Cluster"));
    if !external {
        set_default(spec, "ipFamilies", json!(["IPv4"]));
        set_default(spec, "ipFamilyPolicy", json!("SingleStack"));
        if let Some(address) = spec["clusterIP"].as_str().map(str::to_owned) {
            set_default(spec, "clusterIPs", json!([address]));
        }
    }
    if matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        set_default(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        set_default(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        set_default(port, "targetPort", number);
    }
    for null in ["ports", "clusterIP"] {
        remove_null(&mut service["spec"], null);
    }
}

/// kubectl reads a port's name and an endpoint's conditions without asking whether they are there.
fn complete_slice(slice: &mut Value) {
    for port in slice["ports"].as_array_mut().into_iter().flatten() {
        if port["name"].is_null() {
            port["name"] = "".into();
        }
        set_default(port, "protocol", json!("TCP"));
    }
    for endpoint in slice["endpoints"].as_array_mut().into_iter().flatten() {
        let ready = endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
        endpoint["conditions"] = json!({"ready": ready, "serving": ready, "terminating": false});
    }
    for list in ["ports", "endpoints"] {
        if slice[list].is_null() {
            slice[list] = json!([]);
        }
    }
}

fn complete_event(event: &mut Value) {
    let involved = &mut event["involvedObject"];
    set_default(involved, "apiVersion", json!("v1"));
    let component = event["source"]["component"].as_str().unwrap_or("podctl").to_owned();
    set_default(event, "reportingComponent", component.into());
    set_default(event, "reportingInstance", json!(""));
}

/// A field's value where there is none.
fn set_default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() || object[field] == "" {
        object[field] = value;
    }
}

fn remove_null(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut()
        && object.get(field).is_some_and(Value::is_null)
    {
        object.remove(field);
    }
}

/// A uid for an object that was kept without: the same whenever it is asked for, another after it was made anew.
pub fn stable_uid(kind: &str, object: &Value) -> String {
    let meta = &object["metadata"];
    let text = format!("{kind} {} {} {}", meta["namespace"], meta["name"], meta["creationTimestamp"]);
    // FNV-1a, twice with other beginnings: it has to differ, not to be secret.
    let hash = |seed: u64| text.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&hash(0xcbf2_9ce4_8422_2325).to_be_bytes());
    bytes[8..].copy_from_slice(&hash(0x9ae1_6a3b_2f90_404f).to_be_bytes());
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_what_go_takes_for_granted_and_keeps_what_it_had() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}});
        complete_object("Pod", &mut pod);
        assert_eq!(pod["spec"]["securityContext"], json!({}));
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert_eq!(pod["spec"]["containers"][0]["resources"], json!({}));
        assert!(pod["spec"].get("initContainers").is_none());
        assert!(pod["status"].get("containerStatuses").is_none());
    }

    #[test]
    fn a_service_has_its_defaults() {
        let mut service = json!({"spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1"}});
        complete_object("Service", &mut service);
        assert_eq!(service["spec"]["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
        assert_eq!(service["spec"]["clusterIPs"], json!(["10.0.0.1"]));
        let mut external = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
        complete_object("Service", &mut external);
        assert!(external["spec"].get("clusterIP").is_none() && external["spec"].get("ports").is_none());
    }

    #[test]
    fn a_uid_is_the_same_until_the_object_is_made_anew() {
        let object = |time: &str| json!({"metadata": {"name": "a", "creationTimestamp": time}});
        assert_eq!(stable_uid("Secret", &object("1")), stable_uid("Secret", &object("1")));
        assert_ne!(stable_uid("Secret", &object("1")), stable_uid("Secret", &object("2")));
        assert_ne!(stable_uid("Secret", &object("1")), stable_uid("ConfigMap", &object("1")));
    }
}
