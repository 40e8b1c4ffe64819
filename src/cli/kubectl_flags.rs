//! kubectl's flags and commands that podctl has not: each is refused with its reason, or what it asks for is so anyway.
//!
//! Promises: together with the commands' own flags these are all flags that kubectl has for a verb of podctl's; a test
//! compares them with `kubectl --help`, and writes `docs/kubectl-flags.md`.

/// Names what becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Means that it is an error, for this reason.
    Refused(&'static str),
    /// What it asks for is so anyway, for this reason.
    Fulfilled(&'static str),
    /// As [`Treatment::Fulfilled`] with the value; with any other it is refused.
    FulfilledBy(&'static str, &'static str),
}

use Treatment::{Fulfilled, FulfilledBy, Refused};

/// One or several flags of one or several verbs.
struct Entry {
    /// Verbs, comma-separated; `*` is every one.
    verbs: &'static str,
    /// Flags without their dashes, comma-separated; short ones are one letter.
    flags: &'static str,
    /// Tells whether they take a value, which may be the next word.
    has_value: bool,
    treatment: Treatment,
}

const fn with_value(verbs: &'static str, flags: &'static str, treatment: Treatment) -> Entry {
    Entry { verbs, flags, has_value: true, treatment }
}

const fn switch(verbs: &'static str, flags: &'static str, treatment: Treatment) -> Entry {
    Entry { verbs, flags, has_value: false, treatment }
}

const CHOOSES: &str = "it chooses a cluster, or who asks it, and podctl has none: its pods run on this machine; leave it out, or use kubectl";
const NO_KLOG: &str =
    "it is about kubectl's own log; `podctl describe` and `podctl events` tell what happens to pods";
const APPLY_DELETES_NOTHING: &str = "`apply` deletes nothing; `podctl delete -f FILE` does, and `podctl run -d --replace FILE` starts a pod anew";
const NO_SUBRESOURCE: &str =
    "objects are written whole here; `podctl patch --subresource=resize` changes a pod's resources";
const ONE_NODE: &str = "no bytes are saved by it on one machine";

const ENTRIES: &[Entry] = &[
    with_value(
        "*",
        "as,as-group,as-uid,as-user-extra,certificate-authority,client-certificate,client-key,kubeconfig,password,proxy-url,s,server,tls-server-name,token,username",
        Refused(CHOOSES),
    ),
    with_value("*", "cluster,context,user", FulfilledBy("podctl", CHOOSES)),
    switch("*", "insecure-skip-tls-verify", Refused(CHOOSES)),
    with_value("*", "cache-dir", Fulfilled("nothing is asked of a server, so there is nothing to cache")),
    switch("*", "disable-compression", Fulfilled(ONE_NODE)),
    switch("*", "match-server-version", Fulfilled("client and server are one program")),
    with_value(
        "*",
        "request-timeout",
        Fulfilled(
            "nothing is asked over a network: files answer at once, and a pod's supervisor has a deadline of its own; `get`, `events` and `logs` stop following then",
        ),
    ),
    with_value("*", "kuberc", Refused("it is a file with kubectl's preferences")),
    with_value("*", "v", FulfilledBy("0 1 2 3 4 5", NO_KLOG)),
    with_value("*", "log-flush-frequency,vmodule", Refused(NO_KLOG)),
    with_value(
        "*",
        "profile,profile-output",
        Refused("it measures kubectl itself; `podctl timeline` shows where a start's time goes"),
    ),
    switch(
        "*",
        "warnings-as-errors",
        Refused("`podctl run --strict-kinds --strict-limits` refuses what is warned about"),
    ),
    with_value("diff", "field-manager", Fulfilled("what would change is the same, whoever manages it")),
    with_value(
        "rollout",
        "field-manager",
        Fulfilled("podctl keeps no workloads whose fields could have managers"),
    ),
    switch("diff", "force-conflicts", Fulfilled("fields have no managers who could disagree")),
    switch(
        "diff",
        "server-side",
        Fulfilled("the command and the server are one engine, which applies objects whole"),
    ),
    switch("apply", "openapi-patch,overwrite", FulfilledBy("true", "an object becomes what its file says")),
    switch("apply", "all,prune,wait,force", Refused(APPLY_DELETES_NOTHING)),
    with_value("apply", "cascade,grace-period,prune-allowlist,timeout", Refused(APPLY_DELETES_NOTHING)),
    switch("diff", "prune", Refused(APPLY_DELETES_NOTHING)),
    with_value("diff", "prune-allowlist", Refused(APPLY_DELETES_NOTHING)),
    with_value("diff", "concurrency", Fulfilled("objects are compared as fast one after another")),
    with_value(
        "get,describe,events",
        "chunk-size",
        Fulfilled("a list comes whole: nothing is asked in parts"),
    ),
    switch("get", "server-print", FulfilledBy("true", "there are the server's columns only")),
    with_value("get", "subresource", FulfilledBy("status", "an object is shown with its status")),
    with_value("edit,apply,replace", "subresource", Refused(NO_SUBRESOURCE)),
    // Without a value of its own it is `strict`.
    switch(
        "create,apply,edit,replace",
        "validate",
        FulfilledBy("strict true", "unknown fields are always errors"),
    ),
    switch("edit", "save-config", Refused("`podctl apply -f FILE` notes what it was given, also after this")),
    switch("create", "edit", Refused("`--dry-run=client -o yaml >FILE` gives a file to edit")),
    switch("edit", "output-patch", Refused("the object is written whole, not as a patch")),
    switch("create,edit", "windows-line-endings", Refused("podctl runs on Linux")),
    switch("replace", "wait", Fulfilled("`replace --force` waits until the old objects are gone")),
    with_value("replace", "cascade", Fulfilled("nothing depends on an object here")),
    with_value("scale", "resource-version", Refused("podctl keeps no workloads that could have a version")),
    switch("scale", "all", Refused("name the workloads: podctl keeps none that could be listed")),
    with_value(
        "scale,rollout",
        "l,selector",
        Refused("name the workloads: podctl keeps none that could be selected"),
    ),
    with_value("rollout", "revision,to-revision", Refused("podctl keeps no revisions of workloads")),
    with_value("rollout", "dry-run", Refused("podctl keeps no revisions of workloads")),
    switch("api-resources", "cached", Fulfilled("the list is in the program")),
    switch("api-resources", "show-managed-fields", Fulfilled("kinds have no managed fields")),
    with_value("expose", "load-balancer-ip", Refused("a load balancer's address is this machine's own")),
    switch(
        "wait",
        "local",
        Refused("an object of a file alone never changes, so there is nothing to wait for"),
    ),
    switch("logs", "insecure-skip-tls-verify-backend", Fulfilled("logs are read from files")),
    with_value(
        "run",
        "grace-period,timeout,cascade",
        Refused("`podctl delete` takes it; --rm ends the pod as the pod asks"),
    ),
    switch("run", "force", Refused("`podctl delete --force` kills at once")),
    with_value(
        "run",
        "v,volume,mount",
        Refused(
            "volumes stand in a manifest: `podctl run NAME --image=IMAGE --dry-run=client -o yaml >pod.yaml` begins one",
        ),
    ),
    with_value("run", "e", Refused("it is --env=NAME=VALUE here, as in kubectl")),
    with_value("run", "name", Refused("the name is the first word: `podctl run NAME --image=IMAGE`")),
    with_value(
        "run",
        "env-file,entrypoint,w,workdir,u,memory,cpus,h,hostname",
        Refused(
            "a manifest says it: `podctl run NAME --image=IMAGE --dry-run=client -o yaml >pod.yaml` begins one",
        ),
    ),
    with_value(
        "pull,run",
        "authfile,creds,cert-dir",
        Refused("`podctl login` keeps who to be, registries.conf and certs.d whom to trust"),
    ),
    switch("pull,run", "tls-verify", Refused("`insecure = true` in registries.conf says it of a registry")),
    switch("top", "use-protocol-buffers", Fulfilled("nothing is asked over a network")),
    switch("top", "show-swap", Refused("cgroups say what pods use of memory, and podctl reads no swap")),
    with_value(
        "cp",
        "retries",
        Fulfilled("a copy on one machine is not cut off, so nothing has to be tried again"),
    ),
    switch("config view", "show-managed-fields", Fulfilled("a kubeconfig has none")),
];

/// Why a kubeconfig is not changed.
const NO_CONTEXTS: &str = "podctl has one context, which it does not read: `-n` says the namespace, `podctl kubeconfig --merge` puts the context into kubectl's file, and `kubectl config` changes that";

/// Commands of kubectl, docker and podman that podctl has not, and why, or what does the same.
const COMMANDS: &[(&str, &str)] = &[
    (
        "build",
        "podctl builds no images: `buildah bud -t app oci-archive:app.tar . && podctl load -i app.tar`",
    ),
    (
        "push",
        "podctl pushes no images: `podctl save -o app.tar IMAGE && skopeo copy oci-archive:app.tar docker://…`",
    ),
    (
        "kube",
        "the files that `podman kube play` takes are run by `podctl run -d FILE`, and ended by `podctl delete -f FILE`",
    ),
    ("play", "the files that `podman play kube` takes are run by `podctl run -d FILE`"),
    (
        "compose",
        "podctl runs Kubernetes manifests: `kompose convert --stdout | podctl run -` makes one of a compose file",
    ),
    ("pod", "every command is about pods: `podctl get pods`, `podctl delete pod NAME`"),
    ("kill", "`podctl delete POD --force` kills at once; `podctl exec POD -- kill …` signals"),
    ("rm", "`podctl delete POD` ends a pod and forgets it; `podctl rmi IMAGE` removes an image"),
    ("info", "`podctl doctor` shows what this machine offers"),
    ("reconcile", "podctl keeps no roles: its user may do with the user's own pods what the kernel lets him"),
    ("autoscale", "podctl measures no load to scale by; `podctl scale` starts and ends pods"),
    ("certificate", "podctl signs no certificates"),
    ("cordon", "this machine is the one node: nothing else would take its pods"),
    ("uncordon", "this machine is the one node: nothing else would take its pods"),
    ("drain", "this machine is the one node; `podctl delete pods --all -A` ends its pods"),
    ("taint", "this machine is the one node: nothing else would take its pods"),
    ("set-context", NO_CONTEXTS),
    ("set-cluster", NO_CONTEXTS),
    ("set-credentials", NO_CONTEXTS),
    ("unset", NO_CONTEXTS),
    ("rename-context", NO_CONTEXTS),
    ("delete-context", NO_CONTEXTS),
    ("delete-cluster", NO_CONTEXTS),
    ("delete-user", NO_CONTEXTS),
    ("plugin", "podctl has no plugins"),
    ("proxy", "`podctl serve` answers on the loopback, and `podctl kubeconfig` says how to ask"),
    ("options", "`podctl --help` lists the flags of every command"),
    ("kuberc", "it edits kubectl's preferences"),
    ("search", "registries are not searched: `podctl pull IMAGE` asks for one by its name"),
    ("container", "`podctl ps` shows the pods, `podctl describe pod NAME` the containers in one"),
    ("port", "`podctl get pods -o wide` shows which ports of the machine lead to the pods"),
    ("df", "`podctl images` and `podctl volume ls` say how large what is kept is"),
    ("network", "there is one network of a user's pods; `podctl run --network host|none` leaves it"),
];

/// Tells why `create` has no such kind, or nothing where none is known by that name.
pub(super) fn explain_creation(kind: &str) -> Option<String> {
    let plural = match kind {
        "clusterrole" | "role" | "clusterrolebinding" | "rolebinding" => format!("{kind}s"),
        "ingress" | "ing" => "ingresses".into(),
        "poddisruptionbudget" | "pdb" => "poddisruptionbudgets".into(),
        "priorityclass" | "pc" => "priorityclasses".into(),
        "quota" | "resourcequota" => "resourcequotas".into(),
        "serviceaccount" | "sa" => return Some("podctl keeps no serviceaccounts but `default`".into()),
        "token" => return Some("podctl issues no tokens: its pods know no API server to show them".into()),
        _ => return None,
    };
    Some(format!("podctl keeps no {plural}: nothing on this machine would act on one"))
}

/// Finds what becomes of a flag of kubectl's that a verb of podctl's has not itself.
pub(super) fn find_treatment(verb: &str, flag: &str) -> Option<(Treatment, bool)> {
    let flag = flag.trim_start_matches('-');
    let is_verb = |known: &str| {
        known == "*" || verb == known || verb.strip_prefix(known).is_some_and(|rest| rest.starts_with(' '))
    };
    let found = ENTRIES.iter().filter(|entry| entry.flags.split(',').any(|known| known == flag));
    let mut found: Vec<_> = found.filter(|entry| entry.verbs.split(',').any(is_verb)).collect();
    // A verb's own entry goes before that of all.
    found.sort_by_key(|entry| entry.verbs == "*");
    found.first().map(|entry| (entry.treatment, entry.has_value))
}

/// Returns why there is no such command, or what does the same.
pub(super) fn explain_command(name: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests;
