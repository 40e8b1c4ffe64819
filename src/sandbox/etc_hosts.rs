//! Names: the pod's own, `/etc/hosts`, `/etc/resolv.conf`; as the kubelet writes them.

use std::fs;

use k8s_openapi::api::core::v1::Pod;

use super::{Error, downward_api::Facts};
use crate::pod::{PodExt, kubernetes_versions};

/// Longest host name of the kernel's.
const LONGEST: usize = 64;
/// Names what a cluster calls itself when nobody chose.
const CLUSTER_DOMAIN: &str = "cluster.local";
const HOSTS: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// The host name of a pod with a network of its own.
///
/// # Errors
/// [`Error::Config`], in the kubelet's words, for one that the kernel has no room for.
pub(super) fn pod_hostname(pod: &Pod) -> Result<String, Error> {
    let spec = pod.spec.as_ref();
    if let Some(name) = hostname_override(pod) {
        return Ok(name.to_owned());
    }
    let short = short_hostname(pod);
    let Some(domain) = pod_domain(pod).filter(|_| spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true))
    else {
        return Ok(short);
    };
    let (fqdn, most) = (format!("{short}.{domain}"), LONGEST);
    match fqdn.len() {
        length if length > LONGEST => Err(Error::Config(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({most} characters is the max, {length} characters requested)"
        ))),
        _ => Ok(fqdn),
    }
}

/// Means that it stands above all other names, also those of a Service's domain.
fn hostname_override(pod: &Pod) -> Option<&str> {
    kubernetes_versions::hostname_override(pod.spec.as_ref()?).filter(|name| !name.is_empty())
}

/// A label has 63 characters at most; the kubelet cuts a longer pod name.
fn short_hostname(pod: &Pod) -> String {
    let named = pod.spec.as_ref().and_then(|s| s.hostname.clone()).filter(|h| !h.is_empty());
    let name = pod.name();
    named.unwrap_or_else(|| name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned())
}

/// `SUBDOMAIN.NAMESPACE.svc.cluster.local`
fn pod_domain(pod: &Pod) -> Option<String> {
    if hostname_override(pod).is_some() {
        return None;
    }
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|s| !s.is_empty())?;
    let namespace = pod.namespace();
    Some(format!("{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}"))
}

/// `/etc/hosts`: the host's own with hostNetwork, and the pod's hostAliases.
pub(super) fn write_hosts(pod: &Pod, facts: &Facts) -> String {
    let host_network = pod.has_host_network();
    let mut text = match fs::read_to_string("/etc/hosts") {
        Ok(own) if host_network => format!("# Kubernetes-managed hosts file (host network).\n{own}"),
        _ => HOSTS.to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if !host_network {
        let names = match pod_domain(pod) {
            Some(domain) => format!("{0}.{domain}\t{0}", short_hostname(pod)),
            None => facts.hostname.clone(),
        };
        let none = ["127.0.1.1".to_owned()];
        let ips = if facts.pod_ips.is_empty() { &none[..] } else { &facts.pod_ips };
        text.extend(ips.iter().map(|ip| format!("{ip}\t{names}\n")));
    }
    let aliases: Vec<_> = pod.spec.iter().flat_map(|s| s.host_aliases.iter().flatten()).collect();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for alias in aliases {
        text += &format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let text = serde_json::json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_subdomain_gives_the_pod_a_qualified_name() {
        let spec = serde_json::json!({"subdomain": "s", "setHostnameAsFQDN": true,
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["x", "y"]}]});
        let pod = pod(spec);
        assert_eq!(pod_hostname(&pod).unwrap(), "p.s.n.svc.cluster.local");
        let facts = Facts { pod_ips: vec!["10.1.1.1".into()], ..Facts::default() };
        let text = write_hosts(&pod, &facts);
        assert!(text.contains("10.1.1.1\tp.s.n.svc.cluster.local\tp\n"), "{text}");
        assert!(text.ends_with("# Entries added by HostAliases.\n10.0.0.1\tx\ty\n"), "{text}");
    }

    #[test]
    fn a_qualified_name_that_the_kernel_has_no_room_for_is_refused() {
        let named = |subdomain: usize, qualified: bool| {
            let spec =
                serde_json::json!({"subdomain": "s".repeat(subdomain), "setHostnameAsFQDN": qualified});
            pod_hostname(&pod(spec)).map_err(|e| e.to_string())
        };
        // p.….n.svc.cluster.local
        assert_eq!(named(42, true).map(|name| name.len()), Ok(64));
        let refused = named(43, true).unwrap_err();
        assert!(
            refused.ends_with("is too long (64 characters is the max, 65 characters requested)"),
            "{refused}"
        );
        assert_eq!(named(43, false).unwrap(), "p");
    }

    #[test]
    fn a_host_name_that_overrides_stands_above_the_domain() {
        let pod = pod(serde_json::json!({"subdomain": "s", "hostnameOverride": "o.example"}));
        let facts = Facts {
            hostname: pod_hostname(&pod).unwrap(),
            pod_ips: vec!["10.1.1.1".into()],
            ..Facts::default()
        };
        assert!(write_hosts(&pod, &facts).contains("10.1.1.1\to.example\n"));
    }
}
