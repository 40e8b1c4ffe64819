//! The pod's resolv.conf, by dnsPolicy and dnsConfig.

use std::{fs, net::IpAddr};

use crate::pod::PodExt;
use k8s_openapi::api::core::v1::Pod;

/// Chosen as many as the kubelet hands on, and the resolvers of C libraries read.
const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const LONGEST_SEARCH: usize = 2048;

/// The lines of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolv {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolv {
    fn read(text: &str) -> Resolv {
        let mut found = Resolv::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => found.nameservers.extend(words.next()),
                // The last line of either counts.
                Some("search" | "domain") => found.searches = words.filter(|w| w != ".").collect(),
                Some("options") => found.options.extend(words),
                _ => {}
            }
        }
        found
    }

    /// Leaves out what is too much.
    fn limit(&mut self) {
        self.nameservers.truncate(MOST_NAMESERVERS);
        self.searches.truncate(MOST_SEARCHES);
        let mut length = 0;
        let fits = |search: &String| {
            length += search.len() + 1;
            length <= LONGEST_SEARCH + 1
        };
        let fitting = self.searches.iter().map(fits).take_while(|fits| *fits).count();
        self.searches.truncate(fitting);
    }

    fn text(&self) -> String {
        let mut text: String = self.nameservers.iter().map(|n| format!("nameserver {n}\n")).collect();
        for (word, values) in [("search", &self.searches), ("options", &self.options)] {
            if !values.is_empty() {
                text += &format!("{word} {}\n", values.join(" "));
            }
        }
        text
    }
}

/// The text for the pod. `resolver` is that of the network the pod is on: it knows the pods' names and asks the
/// host's resolvers, whichever these are at the time. On the host's own network these are asked directly, one that
/// answers on the host's loopback as any other.
pub(super) fn resolv_conf(pod: &Pod, resolver: Option<IpAddr>) -> String {
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut conf = build_conf(pod, resolver, &Resolv::read(&host));
    conf.limit();
    conf.text()
}

fn build_conf(pod: &Pod, resolver: Option<IpAddr>, host: &Resolv) -> Resolv {
    let spec = pod.spec.as_ref();
    let mut conf = match (spec.and_then(|s| s.dns_policy.as_deref()), resolver) {
        (Some("None"), _) => Resolv::default(),
        (_, None) => host.clone(),
        (Some("Default"), Some(own)) => Resolv { nameservers: vec![own.to_string()], ..host.clone() },
        (_, Some(own)) => {
            let namespace = pod.namespace();
            Resolv {
                nameservers: vec![own.to_string()],
                // One domain alone: busybox's nslookup fails when a name is missing in any of them. The resolver
                // knows shorter names as well, and searches the host's domains itself.
                searches: vec![format!("{namespace}.svc.cluster.local")],
                options: vec!["ndots:5".into()],
            }
        }
    };
    let Some(config) = spec.and_then(|s| s.dns_config.as_ref()) else { return conf };
    let add = |to: &mut Vec<String>, values: &Option<Vec<String>>| {
        for value in values.iter().flatten() {
            if !to.contains(value) {
                to.push(value.clone());
            }
        }
    };
    add(&mut conf.nameservers, &config.nameservers);
    add(&mut conf.searches, &config.searches);
    for option in config.options.iter().flatten() {
        let name = option.name.as_deref().unwrap_or_default();
        conf.options.retain(|o| o.split(':').next() != Some(name));
        let value = option.value.as_ref().map(|v| format!(":{v}")).unwrap_or_default();
        conf.options.push(format!("{name}{value}"));
    }
    conf
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(spec: serde_json::Value, resolver: bool) -> String {
        let pod = serde_json::json!({"metadata": {"namespace": "dev"}, "spec": spec});
        let host = Resolv::read("nameserver 192.0.2.53\nsearch home.lan\noptions timeout:1\n");
        let own = resolver.then(|| IpAddr::from([10, 213, 0, 1]));
        build_conf(&serde_json::from_value(pod).unwrap(), own, &host).text()
    }

    #[test]
    fn each_dns_policy_has_its_resolv_conf() {
        let spec = |policy: &str| serde_json::json!({"containers": [], "dnsPolicy": policy});
        assert_eq!(
            text(spec("ClusterFirst"), true),
            "nameserver 10.213.0.1\nsearch dev.svc.cluster.local\noptions ndots:5\n"
        );
        assert_eq!(
            text(spec("ClusterFirst"), false),
            "nameserver 192.0.2.53\nsearch home.lan\noptions timeout:1\n"
        );
        assert_eq!(
            text(spec("Default"), true),
            "nameserver 10.213.0.1\nsearch home.lan\noptions timeout:1\n"
        );
        assert_eq!(text(spec("None"), true), "");
    }

    #[test]
    fn dns_config_adds_to_the_policy_and_its_options_win() {
        let spec = serde_json::json!({"containers": [], "dnsConfig": {
            "nameservers": ["192.0.2.1"],
            "searches": ["corp.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        }});
        let text = text(spec, true);
        assert!(text.contains("nameserver 10.213.0.1\nnameserver 192.0.2.1\n"), "{text}");
        assert!(text.contains("cluster.local corp.example\n"), "{text}");
        assert!(text.ends_with("options ndots:2 edns0\n"), "{text}");
    }

    #[test]
    fn more_than_the_kubelet_hands_on_is_left_out() {
        let many = |count: usize, length: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("{n:0length$}")).collect();
            let mut conf = Resolv { searches: names.clone(), nameservers: names, options: vec![] };
            conf.limit();
            (conf.nameservers.len(), conf.searches.len())
        };
        assert_eq!(many(2, 1), (2, 2));
        assert_eq!(many(40, 1), (3, 32));
        // Eight of 255 characters and seven spaces are 2047.
        assert_eq!(many(9, 255), (3, 8));
        assert_eq!(many(9, 256), (3, 7));
    }
}
