//! The kinds of objects that are served, as discovery lists them. PURE, and without dependencies: the program in
//! `scripts/api-tables` reads this file as well.

use std::sync::OnceLock;

/// The kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    /// Holds a text such as `v1`.
    pub version: &'static str,
    /// Gives it as URLs have it: `pods`.
    pub plural: &'static str,
    /// Gives it as objects have it: `Pod`.
    pub kind: &'static str,
    /// Tells whether its objects lie in namespaces.
    pub namespaced: bool,
    /// Tells that there never is an object of it.
    pub empty: bool,
    /// Holds what can be done with it.
    pub verbs: Vec<&'static str>,
    /// Holds what users may write for it.
    pub short_names: Vec<&'static str>,
    /// Groups of kinds that it belongs to: `all`.
    pub categories: Vec<&'static str>,
    /// Holds what lies below one object of it.
    pub subresources: Vec<Subresource>,
}

/// Holds what lies below one object, such as `pods/log`.
#[derive(Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `log`
    pub name: &'static str,
    /// The kind that is sent or given; another group's has that before it: `policy/v1/Eviction`.
    pub kind: &'static str,
    /// Holds what can be done with it.
    pub verbs: Vec<&'static str>,
}

/// The kinds, one a line: plural, kind, group and version, scope, verbs, short names, categories. Text, so that a start of
/// the program has no pointers to set right. Of those with the word `none` there never is an object: clients that show
/// what there is list them, and nobody would act on one that was made.
const KINDS: &str = "
pods Pod v1 namespaced kept po all
configmaps ConfigMap v1 namespaced kept cm -
secrets Secret v1 namespaced kept - -
services Service v1 namespaced kept svc all
persistentvolumeclaims PersistentVolumeClaim v1 namespaced kept pvc -
endpoints Endpoints v1 namespaced read ep -
events Event v1 namespaced read ev -
namespaces Namespace v1 cluster kept ns -
serviceaccounts ServiceAccount v1 namespaced read sa -
nodes Node v1 cluster read no -
persistentvolumes PersistentVolume v1 cluster none pv -
resourcequotas ResourceQuota v1 namespaced none quota -
limitranges LimitRange v1 namespaced none limits -
endpointslices EndpointSlice discovery.k8s.io/v1 namespaced read - -
events Event events.k8s.io/v1 namespaced read ev -
jobs Job batch/v1 namespaced kept - all
selfsubjectaccessreviews SelfSubjectAccessReview authorization.k8s.io/v1 cluster create - -
selfsubjectrulesreviews SelfSubjectRulesReview authorization.k8s.io/v1 cluster create - -
selfsubjectreviews SelfSubjectReview authentication.k8s.io/v1 cluster create - -
tokenreviews TokenReview authentication.k8s.io/v1 cluster create - -
ingresses Ingress networking.k8s.io/v1 namespaced none ing -
networkpolicies NetworkPolicy networking.k8s.io/v1 namespaced none netpol -
ingressclasses IngressClass networking.k8s.io/v1 cluster none - -
roles Role rbac.authorization.k8s.io/v1 namespaced none - -
rolebindings RoleBinding rbac.authorization.k8s.io/v1 namespaced none - -
clusterroles ClusterRole rbac.authorization.k8s.io/v1 cluster none - -
clusterrolebindings ClusterRoleBinding rbac.authorization.k8s.io/v1 cluster none - -
poddisruptionbudgets PodDisruptionBudget policy/v1 namespaced none pdb -
certificatesigningrequests CertificateSigningRequest certificates.k8s.io/v1 cluster none csr -
csistoragecapacities CSIStorageCapacity storage.k8s.io/v1 namespaced none - -
apiservices APIService apiregistration.k8s.io/v1 cluster none - -
leases Lease coordination.k8s.io/v1 namespaced read - -
nodes NodeMetrics metrics.k8s.io/v1beta1 cluster measured - -
pods PodMetrics metrics.k8s.io/v1beta1 namespaced measured - -
";

/// The subresources, one a line: of which kind, which measured ones are not, its own kind, verbs.
const SUBRESOURCES: &str = "
pods/attach PodAttachOptions create,get
pods/ephemeralcontainers Pod get,patch,update
pods/eviction policy/v1/Eviction create
pods/exec PodExecOptions create,get
pods/log Pod get
pods/portforward PodPortForwardOptions create,get
pods/proxy PodProxyOptions create,delete,get,patch,update
pods/resize Pod get,patch,update
pods/status Pod get,patch,update
services/proxy ServiceProxyOptions create,delete,get,patch,update
services/status Service get,patch,update
persistentvolumeclaims/status PersistentVolumeClaim get,patch,update
namespaces/finalize Namespace update
namespaces/status Namespace get,patch,update
nodes/status Node get,patch,update
jobs/status Job get,patch,update
serviceaccounts/token authentication.k8s.io/v1/TokenRequest create
";

/// All kinds, the core group's first.
pub fn all_kinds() -> &'static [Kind] {
    static ALL: OnceLock<Vec<Kind>> = OnceLock::new();
    ALL.get_or_init(|| KINDS.lines().filter_map(parse_kind).collect())
}

/// The kind that URLs name so.
pub fn find_kind(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all_kinds().iter().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// Every group with its version, in the order of the table.
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = all_kinds().iter().map(|k| (k.group, k.version)).collect();
    all.dedup();
    all
}

impl Kind {
    /// `v1`, `discovery.k8s.io/v1`
    pub fn api_version(&self) -> String {
        join_group(self.group, self.version)
    }

    /// `pod`
    pub fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

    /// `Pod`, `Event.events.k8s.io`
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// Tells whether a verb is among its own.
    pub fn allows_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The subresource of a name.
    pub fn find_subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

/// Returns a group and a version as `apiVersion` has them.
pub fn join_group(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn parse_kind(line: &'static str) -> Option<Kind> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [plural, kind, group_version, scope, verbs, short, categories] = words[..] else { return None };
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let list = |word: &'static str| word.split(',').filter(|w| *w != "-").collect();
    let empty = verbs == "none";
    let verbs = match verbs {
        "kept" => "create,delete,deletecollection,get,list,patch,update,watch",
        "read" | "none" => "get,list,watch",
        "measured" => "get,list",
        other => other,
    };
    let below = SUBRESOURCES.lines().filter(|_| group != "metrics.k8s.io").filter_map(|line| {
        let (path, rest) = line.split_once(' ')?;
        let (kind, verbs) = rest.split_once(' ')?;
        let name = path.strip_prefix(plural)?.strip_prefix('/')?;
        Some(Subresource { name, kind, verbs: verbs.split(',').collect() })
    });
    Some(Kind {
        group,
        version,
        plural,
        kind,
        namespaced: scope == "namespaced",
        empty,
        verbs: list(verbs),
        short_names: list(short),
        categories: list(categories),
        subresources: below.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_tables_is_read() {
        assert_eq!(all_kinds().len(), KINDS.trim().lines().count());
        let below: usize = all_kinds().iter().map(|k| k.subresources.len()).sum();
        assert_eq!(below, SUBRESOURCES.trim().lines().count());
        let pods = find_kind("", "v1", "pods").unwrap();
        assert!(pods.namespaced && pods.allows_verb("watch") && pods.short_names == ["po"]);
        assert_eq!(pods.find_subresource("eviction").unwrap().kind, "policy/v1/Eviction");
        assert_eq!(group_versions()[1], ("discovery.k8s.io", "v1"));
    }
}
