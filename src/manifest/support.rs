//! Which fields of a pod and a Service podctl honours: one table, which validation reads and `docs/fields.md` shows.
//!
//! A type that is not in the table is one that is only reached through a field that is not honoured.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

use super::{Report, Severity, schema, typed};

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does what the API says.
    Honoured,
    /// The pod is not started, for without the field it would behave otherwise.
    Refused,
    /// A warning: on one machine it changes nothing.
    NoMeaning,
}

use Support::{NoMeaning, Refused};

type Rest = &'static [(&'static str, Support, &'static str)];

const SCHEDULED: &str = "chooses among machines, of which there is one";
const CLOUD: &str = "is a volume of a cluster's or a cloud's";
const SERVERS: &str = "is an API server's to write";
const LOCAL: &str = "the volume is a local directory";
const HERE: &str = "every pod and every client is on this machine";
const NEW: &str = "is not supported yet";

/// A type, its honoured fields, and all others with the reason.
#[rustfmt::skip]
const TABLE: &[(&str, &str, Rest)] = &[
    ("PodSpec", "activeDeadlineSeconds containers dnsConfig dnsPolicy hostAliases hostIPC hostNetwork hostPID hostUsers hostname hostnameOverride imagePullSecrets initContainers os resources restartPolicy securityContext setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds volumes", &[
        ("affinity", NoMeaning, SCHEDULED),
        ("automountServiceAccountToken", NoMeaning, "there is no API server to be known to"),
        ("enableServiceLinks", NoMeaning, "no Service variables are put into the environment"),
        ("ephemeralContainers", Refused, "must not be set when a pod is created; `podctl debug` adds them to a running pod"),
        ("evictionResponders", NoMeaning, "nothing is evicted for want of room elsewhere"),
        ("nodeName", NoMeaning, SCHEDULED),
        ("nodeSelector", NoMeaning, SCHEDULED),
        ("overhead", NoMeaning, "there is no RuntimeClass that would set it"),
        ("preemptionPolicy", NoMeaning, SCHEDULED),
        ("priority", NoMeaning, SCHEDULED),
        ("priorityClassName", NoMeaning, SCHEDULED),
        ("readinessGates", NoMeaning, "nobody else sets conditions of the pod"),
        ("resourceClaims", Refused, "this machine has no device drivers for dynamic resource allocation"),
        ("runtimeClassName", NoMeaning, "podctl is the only runtime"),
        ("schedulerName", NoMeaning, SCHEDULED),
        ("schedulingGates", NoMeaning, SCHEDULED),
        ("schedulingGroup", NoMeaning, SCHEDULED),
        ("serviceAccount", NoMeaning, "there is no API server to be known to"),
        ("serviceAccountName", NoMeaning, "there is no API server to be known to"),
        ("tolerations", NoMeaning, SCHEDULED),
        ("topologySpreadConstraints", NoMeaning, SCHEDULED),
    ]),
    ("Container", "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resources restartPolicy restartPolicyRules securityContext startupProbe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeMounts workingDir", &[
        ("resizePolicy", NoMeaning, "a running pod is not resized"),
        ("volumeDevices", Refused, "there are no block volumes"),
    ]),
    ("PodSecurityContext", "appArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seccompProfile supplementalGroups supplementalGroupsPolicy sysctls", &[
        ("seLinuxChangePolicy", NoMeaning, "podctl sets no SELinux labels"),
        ("seLinuxOptions", NoMeaning, "podctl sets no SELinux labels"),
        ("windowsOptions", NoMeaning, "this is no Windows"),
    ]),
    ("SecurityContext", "allowPrivilegeEscalation appArmorProfile capabilities privileged procMount readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser seccompProfile", &[
        ("seLinuxOptions", NoMeaning, "podctl sets no SELinux labels"),
        ("windowsOptions", NoMeaning, "this is no Windows"),
    ]),
    ("Volume", "configMap downwardAPI emptyDir ephemeral hostPath image name persistentVolumeClaim projected secret", &[
        ("awsElasticBlockStore", Refused, CLOUD), ("azureDisk", Refused, CLOUD), ("azureFile", Refused, CLOUD),
        ("cephfs", Refused, CLOUD), ("cinder", Refused, CLOUD), ("csi", Refused, CLOUD),
        ("fc", Refused, CLOUD), ("flexVolume", Refused, CLOUD), ("flocker", Refused, CLOUD),
        ("gcePersistentDisk", Refused, CLOUD), ("gitRepo", Refused, "clone in an init container into an emptyDir"),
        ("glusterfs", Refused, CLOUD), ("iscsi", Refused, CLOUD),
        ("nfs", Refused, "mount it on this machine and use hostPath"),
        ("photonPersistentDisk", Refused, CLOUD), ("portworxVolume", Refused, CLOUD), ("quobyte", Refused, CLOUD),
        ("rbd", Refused, CLOUD), ("scaleIO", Refused, CLOUD), ("storageos", Refused, CLOUD), ("vsphereVolume", Refused, CLOUD),
    ]),
    ("AppArmorProfile", "localhostProfile type", &[]),
    ("Capabilities", "add drop", &[]),
    ("ConfigMapEnvSource", "name optional", &[]),
    ("ConfigMapKeySelector", "key name optional", &[]),
    ("ConfigMapProjection", "items name optional", &[]),
    ("ConfigMapVolumeSource", "defaultMode items name optional", &[("defaultUser", Refused, NEW)]),
    ("ContainerPort", "containerPort hostIP hostPort name protocol", &[]),
    ("ContainerRestartRule", "action exitCodes", &[]),
    ("ContainerRestartRuleOnExitCodes", "operator values", &[]),
    ("DownwardAPIProjection", "items", &[]),
    ("DownwardAPIVolumeFile", "fieldRef mode path resourceFieldRef", &[("user", Refused, NEW)]),
    ("DownwardAPIVolumeSource", "defaultMode items", &[("defaultUser", Refused, NEW)]),
    ("EmptyDirVolumeSource", "medium sizeLimit", &[("mode", Refused, NEW)]),
    ("EnvFromSource", "configMapRef prefix secretRef", &[]),
    ("EnvVar", "name value valueFrom", &[]),
    ("EnvVarSource", "configMapKeyRef fieldRef resourceFieldRef secretKeyRef", &[("fileKeyRef", Refused, "mount the volume, and let the command read the file")]),
    ("EphemeralVolumeSource", "volumeClaimTemplate", &[]),
    ("ExecAction", "command", &[]),
    ("GRPCAction", "port service", &[("mode", Refused, NEW)]),
    ("HTTPGetAction", "host httpHeaders path port scheme", &[("protocol", Refused, NEW)]),
    ("HTTPHeader", "name value", &[]),
    ("HostAlias", "hostnames ip", &[]),
    ("HostPathVolumeSource", "path type", &[]),
    ("ImageVolumeSource", "pullPolicy reference", &[]),
    ("KeyToPath", "key mode path", &[("user", Refused, NEW)]),
    ("Lifecycle", "postStart preStop stopSignal", &[]),
    ("LifecycleHandler", "exec httpGet sleep tcpSocket", &[]),
    ("LocalObjectReference", "name", &[]),
    ("ObjectFieldSelector", "apiVersion fieldPath", &[]),
    ("ObjectMeta", "annotations generateName labels name namespace", &[
        ("creationTimestamp", NoMeaning, SERVERS), ("deletionGracePeriodSeconds", NoMeaning, SERVERS),
        ("deletionTimestamp", NoMeaning, SERVERS), ("finalizers", NoMeaning, SERVERS), ("generation", NoMeaning, SERVERS),
        ("managedFields", NoMeaning, SERVERS), ("ownerReferences", NoMeaning, SERVERS),
        ("resourceVersion", NoMeaning, SERVERS), ("selfLink", NoMeaning, SERVERS), ("uid", NoMeaning, SERVERS),
    ]),
    ("PersistentVolumeClaimSpec", "accessModes resources volumeMode", &[
        ("dataSource", Refused, "a local volume begins empty"),
        ("dataSourceRef", Refused, "a local volume begins empty"),
        ("selector", NoMeaning, LOCAL), ("storageClassName", NoMeaning, LOCAL),
        ("volumeAttributesClassName", NoMeaning, LOCAL), ("volumeName", NoMeaning, LOCAL),
    ]),
    ("PersistentVolumeClaimTemplate", "metadata spec", &[]),
    ("PersistentVolumeClaimVolumeSource", "claimName readOnly", &[]),
    ("PodDNSConfig", "nameservers options searches", &[]),
    ("PodDNSConfigOption", "name value", &[]),
    ("PodOS", "name", &[]),
    ("Probe", "exec failureThreshold grpc httpGet initialDelaySeconds periodSeconds successThreshold tcpSocket terminationGracePeriodSeconds timeoutSeconds", &[]),
    ("ProjectedVolumeSource", "defaultMode sources", &[("defaultUser", Refused, NEW)]),
    ("ResourceFieldSelector", "containerName divisor resource", &[]),
    ("ResourceRequirements", "limits requests", &[("claims", Refused, "this machine has no device drivers for dynamic resource allocation")]),
    ("SeccompProfile", "localhostProfile type", &[]),
    ("SecretEnvSource", "name optional", &[]),
    ("SecretKeySelector", "key name optional", &[]),
    ("SecretProjection", "items name optional", &[]),
    ("SecretVolumeSource", "defaultMode items optional secretName", &[("defaultUser", Refused, NEW)]),
    ("ClientIPConfig", "timeoutSeconds", &[]),
    ("ServicePort", "name nodePort port protocol targetPort", &[
        ("appProtocol", NoMeaning, "nothing between client and pod looks into the connection"),
    ]),
    ("ServiceSpec", "clusterIP clusterIPs externalName ports publishNotReadyAddresses selector sessionAffinity sessionAffinityConfig type", &[
        ("allocateLoadBalancerNodePorts", NoMeaning, "a load balancer's own port is published on this machine"),
        ("externalIPs", Refused, "no packets for other addresses come to this machine"),
        ("externalTrafficPolicy", NoMeaning, HERE),
        ("healthCheckNodePort", NoMeaning, HERE),
        ("internalTrafficPolicy", NoMeaning, HERE),
        ("ipFamilies", NoMeaning, "a Service has an address of each family that the machine has"),
        ("ipFamilyPolicy", NoMeaning, "a Service has an address of each family that the machine has"),
        ("loadBalancerClass", NoMeaning, "there is no load balancer to be chosen"),
        ("loadBalancerIP", Refused, "the port is published at this machine's own addresses"),
        ("loadBalancerSourceRanges", Refused, "nobody is kept from a published port"),
        ("trafficDistribution", NoMeaning, HERE),
    ]),
    ("SessionAffinityConfig", "clientIP", &[]),
    ("SleepAction", "seconds", &[]),
    ("Sysctl", "name value", &[]),
    ("TCPSocketAction", "host port", &[]),
    ("VolumeMount", "mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr", &[("bindMountOptions", Refused, NEW)]),
    ("VolumeResourceRequirements", "limits requests", &[]),
    ("VolumeProjection", "configMap downwardAPI secret", &[
        ("clusterTrustBundle", Refused, "there is no cluster to trust"),
        ("podCertificate", Refused, "there is no API server to sign it"),
        ("serviceAccountToken", NoMeaning, "there is no API server to issue a token"),
    ]),
];

/// The fields of each type and the types of those, asked once.
static TYPES: LazyLock<BTreeMap<&'static str, Vec<schema::Field>>> = LazyLock::new(schema::of_specs);

/// What becomes of a field, and why; none for one that the table does not know.
pub fn of(kind: &str, field: &str) -> Option<(Support, &'static str)> {
    let (_, honoured, rest) = TABLE.iter().find(|(known, ..)| *known == kind)?;
    if honoured.split(' ').any(|known| known == field) {
        return Some((Support::Honoured, ""));
    }
    rest.iter().find(|(known, ..)| *known == field).map(|(_, support, why)| (*support, *why))
}

/// Complains about every field of a spec that is not honoured.
pub(super) fn check(spec: &Value, path: &str, report: &mut Report<'_>) {
    object("PodSpec", spec, path, report);
}

/// Complains about every field of an object of that type that is not honoured.
pub(super) fn object(kind: &str, value: &Value, path: &str, report: &mut Report<'_>) {
    let fields = TYPES.get(kind).map(Vec::as_slice).unwrap_or_default();
    for (name, value) in value.as_object().into_iter().flatten() {
        // An empty list or a false asks for nothing.
        let asks = match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(all) => !all.is_empty(),
            _ => true,
        };
        let at = typed::entry(path, name);
        match of(kind, name) {
            Some((Support::Honoured, _)) => {
                let Some((_, Some(inner))) = fields.iter().find(|(known, _)| known == name) else { continue };
                match value {
                    Value::Array(all) => {
                        all.iter()
                            .enumerate()
                            .for_each(|(i, v)| object(inner, v, &format!("{at}[{i}]"), report));
                    }
                    one => object(inner, one, &at, report),
                }
            }
            Some((Support::NoMeaning, why)) if asks => {
                report.say(
                    Severity::Warning,
                    &at,
                    format!("has no meaning on one machine and changes nothing: {why}"),
                    None,
                );
            }
            Some((Support::Refused, why)) if asks => report.error(&at, format!("is not supported: {why}")),
            None if asks => report.error(&at, "is not supported"),
            _ => {}
        }
    }
}

/// `docs/fields.md`.
pub fn document() -> String {
    let mut text = "# Fields of pods and Services\n\nMade from podctl's own table (`src/manifest/support.rs`) and the Kubernetes types; do not edit.\n\
        `UPDATE_DOCS=1 cargo test --test fields` writes it.\n\nA *refused* field stops the run with its place in the file; one with *no meaning* on one machine is a\n\
        warning. What is beneath such a field is not listed.\n"
        .to_owned();
    let mut todo = vec!["ServiceSpec", "PodSpec"];
    let mut done = Vec::new();
    while let Some(kind) = todo.pop() {
        if done.contains(&kind) {
            continue;
        }
        done.push(kind);
        text += &format!("\n## {kind}\n\n| field | | |\n|---|---|---|\n");
        let fields = TYPES.get(kind).map(Vec::as_slice).unwrap_or_default();
        for (field, inner) in fields {
            let (support, why) = of(kind, field).unwrap_or((Refused, "is not in the table"));
            let word = match support {
                Support::Honoured => "honoured",
                Refused => "refused",
                NoMeaning => "no meaning",
            };
            let about = inner
                .filter(|_| support == Support::Honoured)
                .map(|i| format!("[{i}](#{})", i.to_lowercase()));
            text += &format!("| {field} | {word} | {} |\n", about.unwrap_or_else(|| why.to_owned()));
        }
        let inner =
            fields.iter().rev().filter(|(field, _)| matches!(of(kind, field), Some((Support::Honoured, _))));
        todo.extend(inner.filter_map(|(_, inner)| *inner));
    }
    text
}

/// What the table and the Kubernetes types do not agree on.
pub fn disagreements() -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec!["ServiceSpec", "PodSpec"];
    let mut done = Vec::new();
    while let Some(kind) = todo.pop() {
        if done.contains(&kind) {
            continue;
        }
        done.push(kind);
        for (field, inner) in TYPES.get(kind).into_iter().flatten() {
            match of(kind, field) {
                None => found.push(format!("{kind}.{field} is not in the table")),
                Some((Support::Honoured, _)) => todo.extend(*inner),
                Some(_) => {}
            }
        }
    }
    for (kind, honoured, rest) in TABLE {
        let fields = TYPES.get(kind).map(Vec::as_slice).unwrap_or_default();
        let named = honoured.split(' ').chain(rest.iter().map(|(field, ..)| *field));
        let unknown = named.filter(|name| !fields.iter().any(|(field, _)| field == name));
        found.extend(unknown.map(|name| format!("{kind}.{name} is not in the schema")));
    }
    found
}
