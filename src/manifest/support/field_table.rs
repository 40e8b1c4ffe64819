//! The table itself: every type that a pod is made of, with each field's lot.

use super::{
    Row,
    Support::{NoMeaning, Refused},
};

const SCHEDULED: &str = "chooses among machines, of which there is one";
const CLOUD: &str = "is a volume of a cluster's or a cloud's";
const SERVERS: &str = "is an API server's to write";
const HERE: &str = "every pod and every client is on this machine";
const LOCAL: &str = "the volume is a local directory";
const EPHEMERAL: &str = "must not be set for an ephemeral container";
const NEW: &str = "is not supported yet";

/// The type; its honoured fields, by the test that shows them (`suite::test` of `tests/`); all others with the reason.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    ("PodSpec", &[
        ("activeDeadlineSeconds", "lifecycle::r_app_7_the_active_deadline_fails_the_pod"),
        ("containers initContainers restartPolicy volumes", "run::r_init_1_init_containers_run_one_by_one_in_file_order_before_the_app"),
        ("dnsConfig dnsPolicy", "host_names::resolv_conf_is_that_of_the_policy_with_what_the_pod_adds"),
        ("enableServiceLinks", "environment::r_env_1_services_of_the_namespace_are_among_the_variables_unless_links_are_off"),
        ("hostAliases hostname hostnameOverride setHostnameAsFQDN subdomain", "host_names::host_names_and_aliases_are_written_as_the_kubelet_does"),
        ("hostIPC hostPID", "security::the_hosts_namespaces_are_joined_when_asked_for"),
        ("hostNetwork", "host_names::with_the_hosts_network_a_pod_has_the_hosts_names"),
        ("hostUsers", "security::r_sec_1_host_users_says_whether_there_is_a_user_namespace"),
        ("imagePullSecrets", "images::r_img_1_the_pods_pull_secret_opens_the_registry"),
        ("os", "host_names::names_that_no_machine_takes_are_refused"),
        ("readinessGates", "changes::conditions_that_others_set_open_a_pods_gates"),
        ("resources", "resources::r_res_1_the_pods_own_limit_bounds_its_containers_together"),
        ("securityContext", "security::r_sec_1_users_and_groups_are_those_of_the_manifest"),
        ("shareProcessNamespace", "security::a_shared_pid_namespace_has_a_first_process_that_shows_nothing"),
        ("terminationGracePeriodSeconds", "handlers::r_hook_2_the_stop_signal_is_the_manifests_and_the_grace_period_ends"),
    ], &[
        ("affinity", NoMeaning, SCHEDULED),
        ("automountServiceAccountToken", NoMeaning, "there is no API server to be known to"),
        ("ephemeralContainers", Refused, "must not be set when a pod is created; `podctl debug` adds them to a running pod"),
        ("evictionResponders", NoMeaning, "nothing is evicted for want of room elsewhere"),
        ("nodeName", NoMeaning, SCHEDULED),
        ("nodeSelector", NoMeaning, SCHEDULED),
        ("overhead", NoMeaning, "there is no RuntimeClass that would set it"),
        ("preemptionPolicy", NoMeaning, SCHEDULED),
        ("priority", NoMeaning, SCHEDULED),
        ("priorityClassName", NoMeaning, SCHEDULED),
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
    ("Container", &[
        ("args command image name workingDir", "environment::command_and_args_replace_the_images_and_a_missing_working_directory_is_made"),
        ("env envFrom", "environment::r_env_1_what_is_optional_may_be_missing_and_later_sources_win"),
        ("imagePullPolicy", "images::r_img_1_the_pull_policy_says_whether_the_registry_is_asked"),
        ("lifecycle livenessProbe ports readinessProbe startupProbe", "handlers::r_probe_1_handlers_over_the_network_go_where_they_are_sent"),
        ("resizePolicy", "changes::a_running_pod_gets_other_resources_and_another_image"),
        ("resources", "resources::r_res_1_a_container_beyond_its_memory_is_oom_killed"),
        ("restartPolicy restartPolicyRules", "lifecycle::r_app_2_a_rule_restarts_what_never_restarts"),
        ("securityContext", "security::r_sec_1_users_and_groups_are_those_of_the_manifest"),
        ("stdin stdinOnce", "debug::with_stdin_once_a_containers_input_ends_with_its_first_clients"),
        ("terminationMessagePath", "environment::r_app_4_the_termination_message_is_at_the_path_that_is_asked_for"),
        ("terminationMessagePolicy", "lifecycle::r_app_4_the_termination_message_is_what_was_written_or_the_logs_end"),
        ("tty", "debug::run_it_attaches_and_detach_keys_leave_the_container_running"),
        ("volumeMounts", "volumes::r_vol_1_volumes_of_the_pod_outlive_its_containers_and_a_claim_may_be_read_only"),
    ], &[
        ("volumeDevices", Refused, "there are no block volumes"),
    ]),
    ("EphemeralContainer", &[
        ("args command env envFrom image name securityContext stdin stdinOnce terminationMessagePath terminationMessagePolicy workingDir", "debug::r_eph_1_a_debug_container_has_what_its_flags_and_custom_fields_say"),
        ("imagePullPolicy", "debug::r_eph_2_without_an_image_debug_wants_one_and_an_absent_one_is_not_pulled_against_its_policy"),
        ("targetContainerName tty", "debug::r_eph_1_debug_sees_the_targets_processes_files_and_network"),
        ("volumeMounts", "debug::r_eph_1_a_fast_debug_container_loses_no_output_and_custom_mounts_volumes"),
    ], &[
        ("lifecycle", Refused, EPHEMERAL), ("livenessProbe", Refused, EPHEMERAL), ("ports", Refused, EPHEMERAL),
        ("readinessProbe", Refused, EPHEMERAL), ("resizePolicy", Refused, EPHEMERAL), ("resources", Refused, EPHEMERAL),
        ("restartPolicy", Refused, EPHEMERAL), ("restartPolicyRules", Refused, EPHEMERAL),
        ("startupProbe", Refused, EPHEMERAL), ("volumeDevices", Refused, "there are no block volumes"),
    ]),
    ("PodReadinessGate", &[("conditionType", "changes::conditions_that_others_set_open_a_pods_gates")], &[]),
    ("ContainerResizePolicy", &[
        ("resourceName restartPolicy", "changes::a_running_pod_gets_other_resources_and_another_image"),
    ], &[]),
    ("PodSecurityContext", &[
        ("appArmorProfile", "security::r_sec_1_an_app_armor_profile_is_refused_where_there_is_no_app_armor"),
        ("fsGroup runAsGroup runAsUser supplementalGroups", "security::r_sec_1_users_and_groups_are_those_of_the_manifest"),
        ("fsGroupChangePolicy", "volumes::r_vol_2_fs_group_changes_what_its_policy_says"),
        ("runAsNonRoot supplementalGroupsPolicy", "security::r_sec_1_named_users_and_groups_of_the_image_are_looked_up_and_strict_leaves_its_groups_out"),
        ("seccompProfile", "security::r_sec_1_the_pods_seccomp_profile_is_every_containers"),
        ("sysctls", "security::sysctls_are_the_pods"),
    ], &[
        ("seLinuxChangePolicy", NoMeaning, "podctl sets no SELinux labels"),
        ("seLinuxOptions", NoMeaning, "podctl sets no SELinux labels"),
        ("windowsOptions", NoMeaning, "this is no Windows"),
    ]),
    ("SecurityContext", &[
        ("allowPrivilegeEscalation readOnlyRootFilesystem", "security::r_sec_1_seccomp_masks_and_no_new_privs"),
        ("appArmorProfile", "security::r_sec_1_an_app_armor_profile_is_refused_where_there_is_no_app_armor"),
        ("capabilities", "security::r_sec_1_capabilities_follow_add_drop_and_privileged"),
        ("privileged", "security::r_sec_1_a_privileged_container_has_no_filter_nothing_masked_and_roots_has_the_devices"),
        ("procMount", "security::r_sec_1_an_unmasked_proc_is_for_user_namespaces"),
        ("runAsGroup runAsNonRoot runAsUser", "security::r_sec_1_users_and_groups_are_those_of_the_manifest"),
        ("seccompProfile", "security::r_sec_1_a_localhost_profile_is_read_from_the_users_directory"),
    ], &[
        ("seLinuxOptions", NoMeaning, "podctl sets no SELinux labels"),
        ("windowsOptions", NoMeaning, "this is no Windows"),
    ]),
    ("Volume", &[
        ("configMap downwardAPI name projected secret", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
        ("emptyDir ephemeral persistentVolumeClaim", "volumes::r_vol_1_volumes_of_the_pod_outlive_its_containers_and_a_claim_may_be_read_only"),
        ("hostPath", "volumes::r_vol_2_a_host_path_is_of_the_type_that_is_asked_for"),
        ("image", "volumes::r_vol_2_an_image_volume_is_read_only_and_runs_nothing"),
    ], &[
        ("awsElasticBlockStore", Refused, CLOUD), ("azureDisk", Refused, CLOUD), ("azureFile", Refused, CLOUD),
        ("cephfs", Refused, CLOUD), ("cinder", Refused, CLOUD), ("csi", Refused, CLOUD),
        ("fc", Refused, CLOUD), ("flexVolume", Refused, CLOUD), ("flocker", Refused, CLOUD),
        ("gcePersistentDisk", Refused, CLOUD), ("gitRepo", Refused, "clone in an init container into an emptyDir"),
        ("glusterfs", Refused, CLOUD), ("iscsi", Refused, CLOUD),
        ("nfs", Refused, "mount it on this machine and use hostPath"),
        ("photonPersistentDisk", Refused, CLOUD), ("portworxVolume", Refused, CLOUD), ("quobyte", Refused, CLOUD),
        ("rbd", Refused, CLOUD), ("scaleIO", Refused, CLOUD), ("storageos", Refused, CLOUD), ("vsphereVolume", Refused, CLOUD),
    ]),
    ("AppArmorProfile", &[
        ("localhostProfile type", "security::r_sec_1_an_app_armor_profile_is_refused_where_there_is_no_app_armor"),
    ], &[]),
    ("Capabilities", &[
        ("add drop", "security::r_sec_1_capabilities_follow_add_drop_and_privileged"),
    ], &[]),
    ("ConfigMapEnvSource", &[
        ("name optional", "environment::r_env_1_what_is_optional_may_be_missing_and_later_sources_win"),
    ], &[]),
    ("ConfigMapKeySelector", &[
        ("key name optional", "environment::r_env_1_what_is_optional_may_be_missing_and_later_sources_win"),
    ], &[]),
    ("ConfigMapProjection", &[
        ("items name optional", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[]),
    ("ConfigMapVolumeSource", &[
        ("defaultMode items name optional", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[("defaultUser", Refused, NEW)]),
    ("ContainerPort", &[
        ("containerPort hostIP hostPort protocol", "network::published_ports_reach_the_pod_over_tcp_and_udp"),
        ("name", "handlers::r_probe_1_handlers_over_the_network_go_where_they_are_sent"),
    ], &[]),
    ("ContainerRestartRule", &[
        ("action exitCodes", "lifecycle::r_app_2_a_rule_restarts_what_never_restarts"),
    ], &[]),
    ("ContainerRestartRuleOnExitCodes", &[
        ("operator values", "lifecycle::r_app_2_a_rule_restarts_what_never_restarts"),
    ], &[]),
    ("DownwardAPIProjection", &[
        ("items", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[]),
    ("DownwardAPIVolumeFile", &[
        ("fieldRef mode path resourceFieldRef", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[("user", Refused, NEW)]),
    ("DownwardAPIVolumeSource", &[
        ("defaultMode items", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[("defaultUser", Refused, NEW)]),
    ("EmptyDirVolumeSource", &[
        ("medium", "volumes::r_vol_1_an_empty_dir_in_memory_is_as_large_as_its_limit"),
        ("sizeLimit", "volumes::r_vol_1_an_empty_dir_over_its_size_limit_evicts_the_pod"),
    ], &[("mode", Refused, NEW)]),
    ("EnvFromSource", &[
        ("configMapRef prefix secretRef", "environment::r_env_1_what_is_optional_may_be_missing_and_later_sources_win"),
    ], &[]),
    ("EnvVar", &[
        ("name value valueFrom", "environment::r_env_1_what_is_optional_may_be_missing_and_later_sources_win"),
    ], &[]),
    ("EnvVarSource", &[
        ("configMapKeyRef secretKeyRef", "environment::r_env_1_what_is_optional_may_be_missing_and_later_sources_win"),
        ("fieldRef", "environment::r_env_1_a_pod_knows_its_own_and_its_machines_addresses_and_names"),
        ("resourceFieldRef", "environment::r_env_1_resources_are_those_of_the_named_container_and_without_a_limit_the_machines"),
        ("fileKeyRef", "environment::r_env_1_variables_come_from_a_file_that_an_init_container_writes"),
    ], &[]),
    ("EphemeralVolumeSource", &[
        ("volumeClaimTemplate", "volumes::r_vol_1_volumes_of_the_pod_outlive_its_containers_and_a_claim_may_be_read_only"),
    ], &[]),
    ("FileKeySelector", &[
        ("key optional path volumeName", "environment::r_env_1_variables_come_from_a_file_that_an_init_container_writes"),
    ], &[]),
    ("ExecAction", &[
        ("command", "handlers::r_probe_1_every_number_of_a_probe_counts"),
    ], &[]),
    ("GRPCAction", &[
        ("port service", "probes::r_probe_1_grpc_follows_what_the_health_service_says"),
    ], &[("mode", Refused, NEW)]),
    ("HTTPGetAction", &[
        ("host path port", "handlers::r_probe_1_handlers_over_the_network_go_where_they_are_sent"),
        ("httpHeaders scheme", "failing_starts::r_probe_1_https_needs_no_known_certificate_and_hooks_speak_it_too"),
    ], &[("protocol", Refused, NEW)]),
    ("HTTPHeader", &[
        ("name value", "failing_starts::r_probe_1_https_needs_no_known_certificate_and_hooks_speak_it_too"),
    ], &[]),
    ("HostAlias", &[
        ("hostnames ip", "host_names::host_names_and_aliases_are_written_as_the_kubelet_does"),
    ], &[]),
    ("HostPathVolumeSource", &[
        ("path type", "volumes::r_vol_2_a_host_path_is_of_the_type_that_is_asked_for"),
    ], &[]),
    ("ImageVolumeSource", &[
        ("pullPolicy reference", "volumes::r_vol_2_an_image_volume_is_read_only_and_runs_nothing"),
    ], &[]),
    ("KeyToPath", &[
        ("key mode path", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[("user", Refused, NEW)]),
    ("Lifecycle", &[
        ("postStart preStop", "handlers::r_probe_1_handlers_over_the_network_go_where_they_are_sent"),
        ("stopSignal", "handlers::r_hook_2_the_stop_signal_is_the_manifests_and_the_grace_period_ends"),
    ], &[]),
    ("LifecycleHandler", &[
        ("exec", "lifecycle::r_hook_1_pre_stop_runs_before_the_stop_signal_and_ends_with_its_container"),
        ("httpGet tcpSocket", "handlers::r_probe_1_handlers_over_the_network_go_where_they_are_sent"),
        ("sleep", "lifecycle::r_hook_1_sleep_holds_the_stop_signal_back_and_ends_with_its_container"),
    ], &[]),
    ("LocalObjectReference", &[
        ("name", "images::r_img_1_the_pods_pull_secret_opens_the_registry"),
    ], &[]),
    ("ObjectFieldSelector", &[
        ("apiVersion fieldPath", "environment::r_env_1_a_pod_knows_its_own_and_its_machines_addresses_and_names"),
    ], &[]),
    ("ObjectMeta", &[
        ("annotations generateName labels name namespace", "objects::claims_show_what_they_asked_for_and_names_are_generated"),
    ], &[
        ("creationTimestamp", NoMeaning, SERVERS), ("deletionGracePeriodSeconds", NoMeaning, SERVERS),
        ("deletionTimestamp", NoMeaning, SERVERS), ("finalizers", NoMeaning, SERVERS), ("generation", NoMeaning, SERVERS),
        ("managedFields", NoMeaning, SERVERS), ("ownerReferences", NoMeaning, SERVERS),
        ("resourceVersion", NoMeaning, SERVERS), ("selfLink", NoMeaning, SERVERS), ("uid", NoMeaning, SERVERS),
    ]),
    ("PersistentVolumeClaimSpec", &[
        ("resources volumeMode", "objects::claims_show_what_they_asked_for_and_names_are_generated"),
        ("accessModes", "volumes::r_vol_2_a_volume_in_use_is_not_removed_and_read_write_once_pod_admits_one_pod"),
    ], &[
        ("dataSource", Refused, "a local volume begins empty"),
        ("dataSourceRef", Refused, "a local volume begins empty"),
        ("selector", NoMeaning, LOCAL), ("storageClassName", NoMeaning, LOCAL),
        ("volumeAttributesClassName", NoMeaning, LOCAL), ("volumeName", NoMeaning, LOCAL),
    ]),
    ("PersistentVolumeClaimTemplate", &[
        ("metadata spec", "volumes::r_vol_1_volumes_of_the_pod_outlive_its_containers_and_a_claim_may_be_read_only"),
    ], &[]),
    ("PersistentVolumeClaimVolumeSource", &[
        ("claimName readOnly", "volumes::r_vol_1_volumes_of_the_pod_outlive_its_containers_and_a_claim_may_be_read_only"),
    ], &[]),
    ("PodDNSConfig", &[
        ("nameservers options searches", "host_names::resolv_conf_is_that_of_the_policy_with_what_the_pod_adds"),
    ], &[]),
    ("PodDNSConfigOption", &[
        ("name value", "host_names::resolv_conf_is_that_of_the_policy_with_what_the_pod_adds"),
    ], &[]),
    ("PodOS", &[
        ("name", "host_names::names_that_no_machine_takes_are_refused"),
    ], &[]),
    ("Probe", &[
        ("exec failureThreshold initialDelaySeconds periodSeconds successThreshold terminationGracePeriodSeconds", "handlers::r_probe_1_every_number_of_a_probe_counts"),
        ("grpc", "probes::r_probe_1_grpc_follows_what_the_health_service_says"),
        ("httpGet tcpSocket", "handlers::r_probe_1_handlers_over_the_network_go_where_they_are_sent"),
        ("timeoutSeconds", "lifecycle::r_probe_1_a_probe_that_times_out_leaves_no_process_behind"),
    ], &[]),
    ("ProjectedVolumeSource", &[
        ("defaultMode sources", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[("defaultUser", Refused, NEW)]),
    ("ResourceFieldSelector", &[
        ("containerName divisor resource", "environment::r_env_1_resources_are_those_of_the_named_container_and_without_a_limit_the_machines"),
    ], &[]),
    ("ResourceRequirements", &[
        ("limits", "resources::r_res_1_a_container_beyond_its_memory_is_oom_killed"),
        ("requests", "resources::r_res_1_the_pods_own_limit_bounds_its_containers_together"),
    ], &[("claims", Refused, "this machine has no device drivers for dynamic resource allocation")]),
    ("SeccompProfile", &[
        ("localhostProfile type", "security::r_sec_1_a_localhost_profile_is_read_from_the_users_directory"),
    ], &[]),
    ("SecretEnvSource", &[
        ("name optional", "environment::r_env_1_what_is_optional_may_be_missing_and_later_sources_win"),
    ], &[]),
    ("SecretKeySelector", &[
        ("key name optional", "environment::r_env_1_what_is_optional_may_be_missing_and_later_sources_win"),
    ], &[]),
    ("SecretProjection", &[
        ("items name optional", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[]),
    ("SecretVolumeSource", &[
        ("defaultMode items optional secretName", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[("defaultUser", Refused, NEW)]),
    ("ClientIPConfig", &[("timeoutSeconds", "services::connections_are_spread_evenly_and_a_client_with_affinity_keeps_its_endpoint")], &[]),
    ("ServicePort", &[
        ("name port protocol targetPort", "resolvers::r_net_1_the_resolver_answers_every_kind_of_question_and_every_kind_of_client"),
        ("nodePort", "services::a_kept_node_port_is_chosen_once_served_while_pods_live_and_survives_the_keeper"),
    ], &[
        ("appProtocol", NoMeaning, "nothing between client and pod looks into the connection"),
    ]),
    ("ServiceSpec", &[
        ("clusterIP clusterIPs", "services::a_chosen_cluster_ip_is_the_services_own_or_refused_as_the_api_server_would"),
        ("externalName ports", "resolvers::r_net_1_the_resolver_answers_every_kind_of_question_and_every_kind_of_client"),
        ("publishNotReadyAddresses", "services::readiness_changes_what_the_network_says"),
        ("selector", "services::r_net_1_a_kept_service_selects_pods_of_before_and_after_until_it_is_deleted"),
        ("sessionAffinity sessionAffinityConfig", "services::connections_are_spread_evenly_and_a_client_with_affinity_keeps_its_endpoint"),
        ("type", "services::a_kept_node_port_is_chosen_once_served_while_pods_live_and_survives_the_keeper"),
    ], &[
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
    ("SessionAffinityConfig", &[("clientIP", "services::connections_are_spread_evenly_and_a_client_with_affinity_keeps_its_endpoint")], &[]),
    ("SleepAction", &[
        ("seconds", "lifecycle::r_hook_1_sleep_holds_the_stop_signal_back_and_ends_with_its_container"),
    ], &[]),
    ("Sysctl", &[
        ("name value", "security::sysctls_are_the_pods"),
    ], &[]),
    ("TCPSocketAction", &[
        ("host port", "handlers::r_probe_1_handlers_over_the_network_go_where_they_are_sent"),
    ], &[]),
    ("VolumeMount", &[
        ("mountPath mountPropagation name readOnly recursiveReadOnly", "volumes::r_vol_2_mounts_made_in_a_volume_reach_who_asks_for_them_and_read_only_covers_them_where_it_recurses"),
        ("subPath subPathExpr", "volumes::r_vol_2_a_sub_path_is_made_in_the_volume_and_a_link_does_not_lead_out_of_it"),
    ], &[("bindMountOptions", Refused, NEW)]),
    ("VolumeResourceRequirements", &[
        ("requests", "objects::claims_show_what_they_asked_for_and_names_are_generated"),
    ], &[("limits", NoMeaning, "a local volume is as large as its disk")]),
    ("VolumeProjection", &[
        ("configMap downwardAPI secret", "volumes::r_vol_2_the_downward_api_and_projections_write_files_with_their_modes"),
    ], &[
        ("clusterTrustBundle", Refused, "there is no cluster to trust"),
        ("podCertificate", Refused, "there is no API server to sign it"),
        ("serviceAccountToken", NoMeaning, "there is no API server to issue a token"),
    ]),
];
