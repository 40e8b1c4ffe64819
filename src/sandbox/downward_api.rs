//! The downward API: what fieldRef and resourceFieldRef read.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_openapi::{
    api::core::v1::{Container, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity,
};

use super::Error;
use crate::pod::ServiceLink;
use crate::pod::quantity::{quantity_bytes, quantity_millis};

/// Holds what a pod knows of itself.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// metadata.name
    pub name: String,
    /// metadata.namespace
    pub namespace: String,
    /// metadata.uid
    pub uid: String,
    /// metadata.labels
    pub labels: BTreeMap<String, String>,
    /// metadata.annotations
    pub annotations: BTreeMap<String, String>,
    /// The pod's host name.
    pub hostname: String,
    /// The machine's name, which stands for spec.nodeName.
    pub node: String,
    /// spec.serviceAccountName
    pub service_account: String,
    /// status.hostIPs
    pub host_ips: Vec<String>,
    /// status.podIPs
    pub pod_ips: Vec<String>,
    /// The place where its emptyDirs are, by name.
    pub volumes: BTreeMap<String, PathBuf>,
    /// Services of its namespace; of them each container finds those that there are when it is made.
    pub services: Vec<ServiceLink>,
    /// Names whose requests and limits may be asked for by name.
    pub containers: Vec<Container>,
    /// Limits of the pod as a whole, which are those of a container without its own.
    pub limits: BTreeMap<String, Quantity>,
}

/// The value of a field path such as `metadata.labels['app']`.
///
/// # Errors
/// [`Error::Config`] for a path that the API does not offer here.
pub fn value(path: &str, facts: &Facts) -> Result<String, Error> {
    let keyed = |map: &BTreeMap<String, String>, rest: &str| {
        rest.strip_prefix("['")?.strip_suffix("']").map(|key| map.get(key).cloned().unwrap_or_default())
    };
    let lines = |map: &BTreeMap<String, String>| {
        map.iter().map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>().join("\n")
    };
    let found = match path {
        "metadata.name" => Some(facts.name.clone()),
        "metadata.namespace" => Some(facts.namespace.clone()),
        "metadata.uid" => Some(facts.uid.clone()),
        "metadata.labels" => Some(lines(&facts.labels)),
        "metadata.annotations" => Some(lines(&facts.annotations)),
        "spec.nodeName" => Some(facts.node.clone()),
        "spec.serviceAccountName" => Some(facts.service_account.clone()),
        "status.hostIP" => Some(facts.host_ips.first().cloned().unwrap_or_default()),
        "status.hostIPs" => Some(facts.host_ips.join(",")),
        "status.podIP" => Some(facts.pod_ips.first().cloned().unwrap_or_default()),
        "status.podIPs" => Some(facts.pod_ips.join(",")),
        _ => None,
    }
    .or_else(|| keyed(&facts.labels, path.strip_prefix("metadata.labels")?))
    .or_else(|| keyed(&facts.annotations, path.strip_prefix("metadata.annotations")?));
    found.ok_or_else(|| Error::Config(format!("field path {path:?} is not supported")))
}

/// The value of a request or limit, in units of the divisor, rounded up; of the container that is named, else of `own`.
///
/// # Errors
/// [`Error::Config`] for an unknown container or resource, or an unreadable quantity.
pub fn resource(
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
    facts: &Facts,
) -> Result<String, Error> {
    let name = selector.container_name.as_deref().unwrap_or_default();
    let named = facts.containers.iter().find(|c| c.name == name);
    let container = if name.is_empty() { own } else { named };
    let container = container
        .ok_or_else(|| Error::Config(format!("resourceFieldRef: there is no container {name:?}")))?;
    let unknown =
        || Error::Config(format!("resource {:?} is not supported in resourceFieldRef", selector.resource));
    let (list, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let (asked, other) = match list {
        "limits" => (resources.and_then(|r| r.limits.as_ref()), Some(&facts.limits)),
        "requests" => {
            (resources.and_then(|r| r.requests.as_ref()), resources.and_then(|r| r.limits.as_ref()))
        }
        _ => return Err(unknown()),
    };
    let quantity = asked.and_then(|l| l.get(name)).or_else(|| other.and_then(|l| l.get(name)));
    let milli = name == "cpu";
    let read = |text: &str| {
        let parsed = if milli { quantity_millis(text) } else { quantity_bytes(text) };
        parsed
            .ok()
            .map(|v| v as i128)
            .filter(|v| *v >= 0)
            .ok_or_else(|| Error::Config(format!("{text:?} is not a quantity of {name}")))
    };
    let amount = match quantity {
        Some(q) => read(&q.0)?,
        // The whole machine is the limit of a container without one, in a pod without one.
        // A request that is not made is none.
        None if list == "requests" => 0,
        None if milli => std::thread::available_parallelism().map_or(1, |n| n.get()) as i128 * 1000,
        None if name == "memory" => memory_of_machine(),
        None if name == "ephemeral-storage" => disk_of_machine(),
        None => 0,
    };
    let divisor =
        selector.divisor.as_ref().map(|d| d.0.as_str()).filter(|d| !d.is_empty() && *d != "0").unwrap_or("1");
    Ok((amount + read(divisor)? - 1).div_euclid(read(divisor)?.max(1)).to_string())
}

pub(crate) fn memory_of_machine() -> i128 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<i128>().ok());
    kib.unwrap_or(0) * 1024
}

fn disk_of_machine() -> i128 {
    nix::sys::statvfs::statvfs("/").map_or(0, |s| i128::from(s.blocks()) * i128::from(s.fragment_size()))
}
