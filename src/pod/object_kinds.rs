//! The kinds of objects there are, and what people and programs call them. Pure.

/// The kind of object that podctl has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ObjectKind {
    /// The pod, alive or ended.
    Pod,
    /// The Service: a kept one, or one that came with a pod.
    Service,
    /// Holds what is kept for pods to refer to.
    ConfigMap,
    /// Holds what is kept for pods to refer to.
    Secret,
    /// The claim, and the local volume behind it.
    PersistentVolumeClaim,
    /// The place where a Service leads; made from the pods that it selects.
    Endpoints,
    /// The place where a Service leads; made from the pods that it selects.
    EndpointSlice,
    /// What happened to a pod.
    Event,
    /// The part of every object's name.
    Namespace,
    /// Names who pods run as; there is one of the name `default` in each namespace.
    ServiceAccount,
    /// This machine.
    Node,
    /// Pods that are run to their end, by a process that keeps the Job.
    Job,
    /// Says that this machine lives.
    Lease,
}

/// Tells how a kind is called.
struct Names {
    kind: ObjectKind,
    /// `kind` in objects.
    name: &'static str,
    /// Empty for the core group.
    group: &'static str,
    version: &'static str,
    /// Gives it as URLs and `get` have it.
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
}

const fn core(
    kind: ObjectKind,
    name: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
) -> Names {
    Names { kind, name, group: "", version: "v1", plural, singular, short }
}

const NAMES: [Names; 13] = [
    core(ObjectKind::Pod, "Pod", "pods", "pod", &["po"]),
    core(ObjectKind::Service, "Service", "services", "service", &["svc"]),
    core(ObjectKind::ConfigMap, "ConfigMap", "configmaps", "configmap", &["cm"]),
    core(ObjectKind::Secret, "Secret", "secrets", "secret", &[]),
    core(
        ObjectKind::PersistentVolumeClaim,
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "persistentvolumeclaim",
        &["pvc"],
    ),
    core(ObjectKind::Endpoints, "Endpoints", "endpoints", "endpoints", &["ep"]),
    Names {
        kind: ObjectKind::EndpointSlice,
        name: "EndpointSlice",
        group: "discovery.k8s.io",
        version: "v1",
        plural: "endpointslices",
        singular: "endpointslice",
        short: &[],
    },
    core(ObjectKind::Event, "Event", "events", "event", &["ev"]),
    core(ObjectKind::Namespace, "Namespace", "namespaces", "namespace", &["ns"]),
    core(ObjectKind::ServiceAccount, "ServiceAccount", "serviceaccounts", "serviceaccount", &["sa"]),
    core(ObjectKind::Node, "Node", "nodes", "node", &["no"]),
    Names {
        kind: ObjectKind::Job,
        name: "Job",
        group: "batch",
        version: "v1",
        plural: "jobs",
        singular: "job",
        short: &[],
    },
    Names {
        kind: ObjectKind::Lease,
        name: "Lease",
        group: "coordination.k8s.io",
        version: "v1",
        plural: "leases",
        singular: "lease",
        short: &[],
    },
];

impl ObjectKind {
    /// Every kind, pods first.
    pub fn all() -> impl Iterator<Item = ObjectKind> {
        NAMES.iter().map(|names| names.kind)
    }

    fn names(self) -> &'static Names {
        NAMES.iter().find(|names| names.kind == self).unwrap_or(&NAMES[0])
    }

    /// `kind` as objects have it: `ConfigMap`.
    pub fn name(self) -> &'static str {
        self.names().name
    }

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        self.names().group
    }

    /// `apiVersion` as objects have it: `v1`, `discovery.k8s.io/v1`.
    pub fn api_version(self) -> String {
        let Names { group, version, .. } = self.names();
        if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") }
    }

    /// Does as URLs have it: `configmaps`.
    pub fn plural(self) -> &'static str {
        self.names().plural
    }

    /// Does as messages have it: `configmap`, `endpointslice.discovery.k8s.io`.
    pub fn singular(self) -> String {
        with_group(self.names().singular, self.group())
    }

    /// The plural as error messages have it: `configmaps`, `endpointslices.discovery.k8s.io`.
    pub fn qualified_plural(self) -> String {
        with_group(self.plural(), self.group())
    }

    /// Returns what users may write for it besides: `cm`.
    pub fn short_names(self) -> &'static [&'static str] {
        self.names().short
    }

    /// Tells whether its objects lie in namespaces.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, ObjectKind::Namespace | ObjectKind::Node)
    }

    /// Tells whether `all` means it as well. Nothing that holds data is among these.
    pub fn is_in_all(self) -> bool {
        matches!(self, ObjectKind::Pod | ObjectKind::Service | ObjectKind::Job)
    }

    /// The kind that objects of this `kind` are of, as files write it.
    pub fn of_object(name: &str) -> Option<ObjectKind> {
        NAMES.iter().find(|names| names.name == name).map(|names| names.kind)
    }

    /// The kind that a word means: singular, plural or short, in whatever case, alone or as `KIND.GROUP` and
    /// `KIND.VERSION.GROUP`.
    pub fn of_word(word: &str) -> Option<ObjectKind> {
        let word = word.to_lowercase();
        let (word, rest) =
            word.split_once('.').map_or((word.as_str(), None), |(word, rest)| (word, Some(rest)));
        let known = |names: &&Names| {
            let Names { group, version, .. } = names;
            let same = [names.plural, names.singular].contains(&word) || names.short.contains(&word);
            let versioned = |rest: &str| {
                rest.strip_prefix(version).and_then(|rest| rest.strip_prefix('.')) == Some(*group)
            };
            let there = rest.is_none_or(|rest| rest == *group || versioned(rest));
            same && there
        };
        NAMES.iter().find(known).map(|names| names.kind)
    }
}

fn with_group(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::ObjectKind;

    #[test]
    fn a_kind_is_known_by_all_its_names() {
        for (word, kind) in [
            ("pods", Some(ObjectKind::Pod)),
            ("Pod", Some(ObjectKind::Pod)),
            ("po", Some(ObjectKind::Pod)),
            ("pods.v1", None),
            ("pods.", Some(ObjectKind::Pod)),
            ("pods.v1.", Some(ObjectKind::Pod)),
            ("ConfigMap", Some(ObjectKind::ConfigMap)),
            ("PVC", Some(ObjectKind::PersistentVolumeClaim)),
            ("endpointslices.discovery.k8s.io", Some(ObjectKind::EndpointSlice)),
            ("endpointslices.v1.discovery.k8s.io", Some(ObjectKind::EndpointSlice)),
            ("pods.apps", None),
            ("podz", None),
            ("", None),
        ] {
            assert_eq!(ObjectKind::of_word(word), kind, "{word}");
        }
    }
}
