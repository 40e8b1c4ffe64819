//! Services and where they lead, as kubectl has them: objects, rows, a page. PURE.

use serde_json::{Value, json};

use super::{
    describe::{Page, annotations_of},
    tab_stops,
};
use crate::{
    manifest::complete_service,
    network::{Backend, Seen},
};

/// The Service; a load balancer's address is this machine's.
pub fn object(seen: &Seen, host_ip: Option<&str>) -> Value {
    let mut value = serde_json::to_value(&seen.service).unwrap_or_default();
    value["status"] = json!({"loadBalancer": {}});
    if value["spec"]["type"] == "LoadBalancer"
        && let Some(ip) = host_ip
    {
        value["status"]["loadBalancer"]["ingress"] = json!([{"ip": ip}]);
    }
    value
}

/// The Endpoints; none for a Service without a selector.
pub fn endpoints(seen: &Seen) -> Option<Value> {
    selector(seen)?;
    let address = |b: &Backend| json!({"ip": b.addresses.v4.to_string(), "targetRef": target(seen, b)});
    let mut subsets = Vec::new();
    for (ports, backends) in group_backends(seen) {
        let addresses = |ready| backends.iter().filter(|b| b.ready == ready).map(|b| address(b)).collect();
        let (ready, not): (Vec<Value>, Vec<Value>) = (addresses(true), addresses(false));
        let mut subset = json!({"ports": ports});
        for (name, list) in [("addresses", ready), ("notReadyAddresses", not)] {
            if !list.is_empty() {
                subset[name] = list.into();
            }
        }
        subsets.push(subset);
    }
    let (name, namespace) = named(seen);
    let mut metadata = json!({"name": name, "namespace": namespace});
    metadata["creationTimestamp"] = made(seen);
    Some(json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}))
}

/// The EndpointSlices: one of each family of addresses, and of each choice of ports.
pub fn slice_rows(seen: &Seen) -> Vec<Value> {
    if selector(seen).is_none() {
        return Vec::new();
    }
    let mut groups = group_backends(seen);
    if groups.is_empty() {
        groups.push((Vec::new(), Vec::new()));
    }
    let families = if seen.backends.iter().any(|b| b.addresses.v6.is_some()) { 2 } else { 1 };
    let (name, namespace) = named(seen);
    let mut slices = Vec::new();
    for (at, (ports, backends)) in groups.iter().enumerate() {
        for family in ["IPv4", "IPv6"].into_iter().take(families) {
            let ports: Vec<Value> = ports.iter().cloned().map(name_port).collect();
            let endpoint = |b: &&Backend| {
                let own = b.addresses.all().find(|a| a.is_ipv4() == (family == "IPv4"))?;
                let conditions = json!({"ready": b.ready, "serving": b.ready, "terminating": false});
                Some(json!({"addresses": [own], "conditions": conditions, "targetRef": target(seen, b)}))
            };
            let suffix = if at == 0 { String::new() } else { format!("-{at}") };
            let mut metadata = json!({
                "name": format!("{name}-{}{suffix}", family.to_lowercase()), "namespace": namespace,
                "labels": {"kubernetes.io/service-name": name}});
            metadata["creationTimestamp"] = made(seen);
            slices.push(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
                "addressType": family, "ports": ports,
                "endpoints": backends.iter().filter_map(endpoint).collect::<Vec<_>>()}));
        }
    }
    slices
}

/// Backends with the same numbers for the Service's ports, and these ports.
fn group_backends(seen: &Seen) -> Vec<(Vec<Value>, Vec<&Backend>)> {
    let mut groups: Vec<(Vec<Value>, Vec<&Backend>)> = Vec::new();
    for backend in &seen.backends {
        let ports = seen.service.spec.iter().flat_map(|s| s.ports.iter().flatten()).zip(&backend.ports);
        let ports = ports.filter_map(|(port, number)| {
            let mut value =
                json!({"port": (*number)?, "protocol": port.protocol.as_deref().unwrap_or("TCP")});
            if let Some(name) = &port.name {
                value["name"] = name.as_str().into();
            }
            Some(value)
        });
        let ports: Vec<Value> = ports.collect();
        match groups.iter_mut().find(|(known, _)| *known == ports) {
            Some((_, backends)) => backends.push(backend),
            None => groups.push((ports, vec![backend])),
        }
    }
    groups
}

/// kubectl reads the name of a slice's port without asking whether there is one.
fn name_port(mut port: Value) -> Value {
    if port["name"].is_null() {
        port["name"] = "".into();
    }
    port
}

fn selector(seen: &Seen) -> Option<&std::collections::BTreeMap<String, String>> {
    let spec = seen.service.spec.as_ref()?;
    spec.selector.as_ref().filter(|s| !s.is_empty() && spec.type_.as_deref() != Some("ExternalName"))
}

fn target(seen: &Seen, backend: &Backend) -> Value {
    json!({"kind": "Pod", "name": backend.pod, "namespace": named(seen).1})
}

fn named(seen: &Seen) -> (&str, &str) {
    let meta = &seen.service.metadata;
    (meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref().unwrap_or("default"))
}

fn made(seen: &Seen) -> Value {
    serde_json::to_value(&seen.service.metadata.creation_timestamp).unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".into() } else { text }
}

/// The first three, and how many more.
fn some(all: &[String]) -> String {
    match all.len() {
        0..=3 => or_none(all.join(",")),
        count => format!("{} + {} more...", all[..3].join(","), count - 3),
    }
}

/// `NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE [SELECTOR]` of an [`object`].
pub fn row(service: &Value, age: String, wide: bool) -> Vec<String> {
    let spec = &service["spec"];
    let kind = spec["type"].as_str().unwrap_or("ClusterIP");
    let external = match kind {
        "ExternalName" => text(&spec["externalName"]),
        "LoadBalancer" => match list(&service["status"]["loadBalancer"]["ingress"]) {
            [] => "<pending>".into(),
            all => all.iter().map(|i| text(&i["ip"])).collect::<Vec<_>>().join(","),
        },
        _ => "<none>".into(),
    };
    let port = |p: &Value| {
        let node = p["nodePort"].as_i64().map(|n| format!(":{n}")).unwrap_or_default();
        format!("{}{node}/{}", p["port"], p["protocol"].as_str().unwrap_or("TCP"))
    };
    let ports: Vec<String> = list(&spec["ports"]).iter().map(port).collect();
    let mut row = vec![
        text(&service["metadata"]["name"]),
        kind.into(),
        or_none(text(&spec["clusterIP"])),
        external,
        or_none(ports.join(",")),
        age,
    ];
    if wide {
        row.push(or_none(pairs(&spec["selector"]).join(",")));
    }
    row
}

/// `NAME ENDPOINTS AGE`
pub fn endpoints_row(endpoints: &Value, age: String) -> Vec<String> {
    let mut all = Vec::new();
    for subset in list(&endpoints["subsets"]) {
        for address in list(&subset["addresses"]) {
            let at = text(&address["ip"]);
            match list(&subset["ports"]) {
                [] => all.push(at),
                ports => all.extend(ports.iter().map(|p| format!("{at}:{}", p["port"]))),
            }
        }
    }
    vec![text(&endpoints["metadata"]["name"]), some(&all), age]
}

/// `NAME ADDRESSTYPE PORTS ENDPOINTS AGE`
pub fn slice_row(slice: &Value, age: String) -> Vec<String> {
    let ports: Vec<String> = list(&slice["ports"]).iter().map(|p| p["port"].to_string()).collect();
    let addresses = list(&slice["endpoints"]).iter().flat_map(|e| list(&e["addresses"])).map(text);
    let ports = if ports.is_empty() { "<unset>".into() } else { some(&ports) };
    let mut addresses = some(&addresses.collect::<Vec<_>>());
    if addresses == "<none>" {
        addresses = "<unset>".into();
    }
    vec![text(&slice["metadata"]["name"]), text(&slice["addressType"]), ports, addresses, age]
}

fn pairs(map: &Value) -> Vec<String> {
    map.as_object().into_iter().flatten().map(|(name, value)| format!("{name}={}", text(value))).collect()
}

/// The first three, and how many there are beside them.
fn shorten_list(all: &[String]) -> String {
    const SHOWN: usize = 3;
    match all.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{} + {more} more...", all[..SHOWN].join(",")),
        None => all.join(","),
    }
}

/// A Service in full.
pub fn describe(seen: &Seen, host_ip: Option<&str>, show_events: bool) -> String {
    let mut seen = seen.clone();
    complete_service(&mut seen.service);
    let service = object(&seen, host_ip);
    let (meta, spec) = (&service["metadata"], &service["spec"]);
    let mut page = Page::default();
    page.field(0, "Name", text(&meta["name"]));
    page.field(0, "Namespace", text(&meta["namespace"]));
    page.list("Labels", &pairs(&meta["labels"]));
    page.list("Annotations", &annotations_of(meta));
    page.field(0, "Selector", or_none(pairs(&spec["selector"]).join(",")));
    page.field(0, "Type", spec["type"].as_str().unwrap_or("ClusterIP"));
    let own: Vec<String> = list(&spec["clusterIPs"]).iter().map(text).collect();
    if spec["type"] != "ExternalName" {
        page.field(0, "IP Family Policy", text(&spec["ipFamilyPolicy"]));
        let families: Vec<String> = list(&spec["ipFamilies"]).iter().map(text).collect();
        page.field(0, "IP Families", families.join(","));
    }
    if spec["type"] != "ExternalName" {
        page.field(0, "IP", or_none(text(&spec["clusterIP"])));
        page.field(0, "IPs", or_none(own.join(",")));
    } else {
        page.field(0, "External Name", text(&spec["externalName"]));
    }
    if let [ingress, ..] = list(&service["status"]["loadBalancer"]["ingress"]) {
        page.field(0, "LoadBalancer Ingress", text(&ingress["ip"]));
    }
    let endpoints = endpoints(&seen).unwrap_or_default();
    let has_v6 = list(&spec["ipFamilies"]).iter().any(|family| family == "IPv6");
    for (at, port) in list(&spec["ports"]).iter().enumerate() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let name = port["name"].as_str().unwrap_or("<unset>");
        page.field(0, "Port", format_args!("{name}\t{}/{protocol}", port["port"]));
        let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
        page.field(0, "TargetPort", format_args!("{}/{protocol}", text(target)));
        if let Some(node) = port["nodePort"].as_i64() {
            page.field(0, "NodePort", format_args!("{name}\t{node}/{protocol}"));
        }
        let ready = || seen.backends.iter().filter(|b| b.ready);
        let v4 = ready().filter_map(|b| Some(format!("{}:{}", b.addresses.v4, (*b.ports.get(at)?)?)));
        let v6 = ready()
            .filter(|_| has_v6)
            .filter_map(|b| Some(format!("[{}]:{}", b.addresses.v6?, (*b.ports.get(at)?)?)));
        page.field(0, "Endpoints", shorten_list(&v4.chain(v6).collect::<Vec<_>>()));
    }
    if list(&spec["ports"]).is_empty() && endpoints.is_object() {
        page.field(0, "Endpoints", endpoints_row(&endpoints, String::new()).swap_remove(1));
    }
    page.field(0, "Session Affinity", spec["sessionAffinity"].as_str().unwrap_or("None"));
    if spec["type"] != "ExternalName" {
        page.field(0, "Internal Traffic Policy", spec["internalTrafficPolicy"].as_str().unwrap_or("Cluster"));
    }
    if show_events {
        page.field(0, "Events", "<none>");
    }
    tab_stops::align_columns(&page.0, 0, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Addresses;

    #[test]
    fn a_service_and_its_endpoints_have_kubectls_columns() {
        let service = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "NodePort", "clusterIP": "10.213.128.1", "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}]}});
        let backend = |last: u8, ready| Backend {
            pod: format!("web-{last}"),
            addresses: Addresses { v4: [10, 213, 0, last].into(), v6: None },
            ready,
            ports: vec![Some(8080)],
        };
        let service = serde_json::from_value(service).unwrap();
        let seen = Seen { service, kept: true, backends: vec![backend(2, true), backend(3, false)] };
        assert_eq!(
            row(&object(&seen, None), "5s".into(), true).join("|"),
            "web|NodePort|10.213.128.1|<none>|80:30080/TCP|5s|app=web"
        );
        let endpoints = endpoints(&seen).unwrap();
        assert_eq!(endpoints_row(&endpoints, "5s".into()).join("|"), "web|10.213.0.2:8080|5s");
        assert_eq!(endpoints["subsets"][0]["notReadyAddresses"][0]["targetRef"]["name"], "web-3");
        let slices = slice_rows(&seen);
        assert_eq!(
            slice_row(&slices[0], "5s".into()).join("|"),
            "web-ipv4|IPv4|8080|10.213.0.2,10.213.0.3|5s"
        );
        assert_eq!(shorten_list(&["a", "b", "c"].map(str::to_owned)), "a,b,c");
        assert_eq!(shorten_list(&["a", "b", "c", "d"].map(str::to_owned)), "a,b,c + 1 more...");
        let page = describe(&seen, None, true);
        assert!(page.contains("Endpoints:                10.213.0.2:8080\n"), "{page}");
        assert!(page.contains("Port:                     http  80/TCP\n"), "{page}");
    }
}
