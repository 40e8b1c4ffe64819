//! Which kinds there are, as clients ask before everything else: aggregated and plain discovery, versions. PURE.

use serde_json::{Value, json};

use super::kinds::{Kind, Subresource, all_kinds, group_versions, join_group};

/// The version of the API that is spoken.
const MINOR: &str = "37";

/// Content type of the aggregated documents, which clients look for word by word.
pub const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// The same, of clients before 1.30.
pub const AGGREGATED_V2BETA1: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// `/version`
pub fn version_info() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0+podctl.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "rust",
        "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

/// `/`: what there is.
pub fn root_paths() -> Value {
    let mut paths: Vec<String> = vec!["/api".into(), "/apis".into()];
    for (group, version) in group_versions() {
        if group.is_empty() {
            paths.push(format!("/api/{version}"));
        } else {
            paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{version}")]);
        }
    }
    paths.extend(
        ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(String::from),
    );
    paths.sort();
    json!({"paths": paths})
}

/// `/api`, plain.
pub fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`, plain.
pub fn group_list() -> Value {
    let groups: Vec<Value> =
        group_versions().into_iter().filter(|(group, _)| !group.is_empty()).map(describe_group).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`, plain.
pub fn single_group(group: &str) -> Option<Value> {
    let found = group_versions().into_iter().find(|(name, _)| *name == group && !group.is_empty())?;
    let mut value = describe_group(found);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

fn describe_group((group, version): (&str, &str)) -> Value {
    let version = json!({"groupVersion": join_group(group, version), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

/// `/api/v1`, `/apis/GROUP/VERSION`, plain.
pub fn resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in all_kinds().iter().filter(|k| k.group == group && k.version == version) {
        let mut resource = json!({
            "name": kind.plural,
            "singularName": kind.singular(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": kind.verbs,
        });
        add_list(&mut resource, "shortNames", &kind.short_names);
        add_list(&mut resource, "categories", &kind.categories);
        if kind.verbs.contains(&"create") && kind.verbs.contains(&"list") {
            resource["storageVersionHash"] = format!("podctl-{}", kind.plural).into();
        }
        resources.push(resource);
        for below in &kind.subresources {
            let (group, version, name) = split_kind(kind, below);
            let mut resource = json!({
                "name": format!("{}/{}", kind.plural, below.name),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": name,
                "verbs": below.verbs,
            });
            if group != kind.group {
                resource["group"] = group.into();
                resource["version"] = version.into();
            }
            resources.push(resource);
        }
    }
    let list = |resources| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": join_group(group, version),
            "resources": resources})
    };
    (!resources.is_empty()).then(|| list(resources))
}

/// `/api` (`core`) and `/apis`, aggregated: everything in one answer.
pub fn aggregated_groups(core: bool, beta: bool) -> Value {
    let groups = group_versions().into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|(group, version)| {
            let kinds = all_kinds().iter().filter(|k| k.group == group && k.version == version);
            let resources: Vec<Value> = kinds.map(describe_kind).collect();
            let metadata = if core { json!({"creationTimestamp": null}) } else { json!({"name": group, "creationTimestamp": null}) };
            json!({"metadata": metadata, "versions": [{"version": version, "resources": resources, "freshness": "Current"}]})
        })
        .collect();
    let version = if beta { "v2beta1" } else { "v2" };
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items})
}

fn describe_kind(kind: &Kind) -> Value {
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular(),
        "verbs": kind.verbs,
    });
    add_list(&mut resource, "shortNames", &kind.short_names);
    add_list(&mut resource, "categories", &kind.categories);
    let below = kind.subresources.iter().map(|below| {
        let (group, version, name) = split_kind(kind, below);
        json!({"subresource": below.name, "verbs": below.verbs,
            "responseKind": {"group": group, "version": version, "kind": name}})
    });
    let below: Vec<Value> = below.collect();
    if !below.is_empty() {
        resource["subresources"] = below.into();
    }
    resource
}

fn split_kind<'a>(kind: &'a Kind, below: &'a Subresource) -> (&'a str, &'a str, &'a str) {
    let mut words = below.kind.split('/');
    match (words.next(), words.next(), words.next()) {
        (Some(group), Some(version), Some(name)) => (group, version, name),
        _ => (kind.group, kind.version, below.kind),
    }
}

fn add_list(resource: &mut Value, name: &str, list: &[&str]) {
    if !list.is_empty() {
        resource[name] = json!(list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_aggregated_discovery_name_the_same_kinds() {
        for (group, version) in group_versions() {
            let plain = resource_list(group, version).unwrap();
            let plain: Vec<&str> =
                plain["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
            let all = aggregated_groups(group.is_empty(), false);
            let items = all["items"].as_array().unwrap();
            let item = items.iter().find(|i| i["metadata"]["name"].as_str().unwrap_or_default() == group);
            let mut names = Vec::new();
            for resource in item.unwrap()["versions"][0]["resources"].as_array().unwrap() {
                let name = resource["resource"].as_str().unwrap();
                names.push(name.to_owned());
                for below in resource["subresources"].as_array().into_iter().flatten() {
                    names.push(format!("{name}/{}", below["subresource"].as_str().unwrap()));
                }
            }
            assert_eq!(plain, names);
        }
    }

    #[test]
    fn groups_and_short_names_are_found() {
        let pods = &resource_list("", "v1").unwrap()["resources"][0];
        assert_eq!(pods["shortNames"], json!(["po"]));
        assert_eq!(pods["categories"], json!(["all"]));
        assert_eq!(
            single_group("metrics.k8s.io").unwrap()["preferredVersion"]["groupVersion"],
            "metrics.k8s.io/v1beta1"
        );
        assert!(single_group("").is_none() && single_group("apps").is_none());
        assert!(resource_list("apps", "v1").is_none());
        assert_eq!(group_list()["groups"].as_array().unwrap().len(), group_versions().len() - 1);
    }
}
