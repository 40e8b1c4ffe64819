//! R-ENV-1: where variables come from, and how a command line comes about.

use crate::common::{Home, lines, stderr, stdout, until};

/// A pod named `p` whose container prints its variables that begin with `V_`; `env` is its env or envFrom.
fn pod(env: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, env | grep ^V_ | sort]
{env}"
    )
}

#[test]
fn r_env_1_a_pod_knows_its_own_and_its_machines_addresses_and_names() {
    let home = Home::new();
    let field = |name: &str, path: &str| {
        format!("    - {{name: V_{name}, valueFrom: {{fieldRef: {{apiVersion: v1, fieldPath: {path}}}}}}}\n")
    };
    let wanted = [
        ("HOST", "status.hostIP"),
        ("HOSTS", "status.hostIPs"),
        ("IP", "status.podIP"),
        ("IPS", "status.podIPs"),
        ("NODE", "spec.nodeName"),
        ("UID", "metadata.uid"),
    ];
    let env: String = wanted.iter().map(|(name, path)| field(name, path)).collect();
    let found = lines(&home.run(&pod(&format!("    env:\n{env}")), &[]));
    let pod = home.pod("p");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let ips: Vec<String> =
        pod["status"]["podIPs"].as_array().unwrap().iter().map(|one| text(&one["ip"])).collect();
    assert_eq!(ips.len(), 2, "{pod:#}");
    let values = [
        text(&pod["status"]["hostIP"]),
        text(&pod["status"]["hostIP"]),
        text(&pod["status"]["podIP"]),
        ips.join(","),
        text(&pod["spec"]["nodeName"]),
        text(&pod["metadata"]["uid"]),
    ];
    assert!(values.iter().all(|value| !value.is_empty()), "{pod:#}");
    let wanted: Vec<String> =
        wanted.iter().zip(values).map(|((name, _), value)| format!("V_{name}={value}")).collect();
    assert_eq!(found, wanted);
}

#[test]
fn r_env_1_resources_are_those_of_the_named_container_and_without_a_limit_the_machines() {
    let home = Home::new();
    let resource = |name: &str, rest: &str| {
        format!("    - {{name: V_{name}, valueFrom: {{resourceFieldRef: {{{rest}}}}}}}\n")
    };
    let env = [
        resource("1", "resource: limits.cpu"),
        resource("2", "resource: limits.memory, divisor: 1Ki"),
        resource("3", "resource: requests.cpu, divisor: 1m"),
        resource("4", "resource: requests.memory"),
        resource("5", "containerName: other, resource: limits.cpu, divisor: 1m"),
        resource("6", "containerName: other, resource: limits.memory, divisor: 1Mi"),
        resource("7", "containerName: other, resource: requests.cpu, divisor: 1m"),
        resource("8", "containerName: other, resource: requests.ephemeral-storage, divisor: 1Ki"),
        resource("9", "containerName: other, resource: requests.memory, divisor: 1Gi"),
    ];
    let other = "  - name: other
    image: busybox:1.36
    command: [\"true\"]
    resources:
      limits: {cpu: 300m, memory: 33Mi, ephemeral-storage: 2Mi}
      requests: {cpu: 200m, ephemeral-storage: 1Mi}
";
    let found = lines(&home.run(&pod(&format!("    env:\n{}{other}", env.concat())), &[]));
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let memory = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap();
    let values = [
        std::thread::available_parallelism().unwrap().to_string(),
        memory.trim().trim_end_matches(" kB").to_owned(),
        "0".into(),
        "0".into(),
        "300".into(),
        "33".into(),
        "200".into(),
        "1024".into(),
        "1".into(),
    ];
    let wanted: Vec<String> =
        values.iter().enumerate().map(|(i, value)| format!("V_{}={value}", i + 1)).collect();
    assert_eq!(found, wanted);
}

#[test]
fn r_env_1_what_is_optional_may_be_missing_and_later_sources_win() {
    let home = Home::new();
    let objects = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {A: one, B: one, C: one}
---
apiVersion: v1
kind: Secret
metadata: {name: two}
stringData: {B: two, C: two}
";
    let env = "    envFrom:
    - {prefix: V_, configMapRef: {name: one}}
    - {prefix: V_, secretRef: {name: two}}
    - {configMapRef: {name: none, optional: true}}
    - {secretRef: {name: none, optional: true}}
    env:
    - {name: V_C, value: three}
    - {name: V_D, valueFrom: {configMapKeyRef: {name: one, key: A}}}
    - {name: V_E, valueFrom: {secretKeyRef: {name: two, key: B, optional: false}}}
    - {name: V_F, valueFrom: {configMapKeyRef: {name: one, key: none, optional: true}}}
    - {name: V_G, valueFrom: {configMapKeyRef: {name: none, key: A, optional: true}}}
    - {name: V_H, valueFrom: {secretKeyRef: {name: two, key: none, optional: true}}}
    - {name: V_I, valueFrom: {secretKeyRef: {name: none, key: A, optional: true}}}
    - {name: V_J}
";
    let found = lines(&home.run(&(pod(env) + objects), &[]));
    assert_eq!(found, ["V_A=one", "V_B=two", "V_C=three", "V_D=one", "V_E=two", "V_J="]);

    let env = "    env: [{name: V_A, valueFrom: {configMapKeyRef: {name: one, key: none}}}]\n";
    let output = home.run(&(pod(env) + objects), &[]);
    assert!(
        stderr(&output).contains("couldn't find key none in ConfigMap default/one"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn command_and_args_replace_the_images_and_a_missing_working_directory_is_made() {
    let home = Home::new();
    let text = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  initContainers:
  - {name: both, image: 'busybox:1.36', command: [echo, a], args: [b, $(HOSTNAME)], workingDir: /none}
  - {name: args, image: 'busybox:1.36', args: [sh, -c, 'pwd; echo $0', c], workingDir: /made/here}
  - {name: climbs, image: 'busybox:1.36', args: [pwd], workingDir: /../../made/./new}
  containers:
  - {name: dollar, image: 'busybox:1.36', command: [echo, $$(X), $(X)], env: [{name: X, value: x}]}
";
    assert_eq!(lines(&home.run(text, &[])), ["a b $(HOSTNAME)", "/made/here", "c", "/made/new", "$(X) x"]);
}

#[test]
fn r_app_4_the_termination_message_is_at_the_path_that_is_asked_for() {
    let home = Home::new();
    let script = "    command: [sh, -c, 'echo -n said > /tmp/last; exit 3']\n    terminationMessagePath: /tmp/last\n    terminationMessagePolicy: File\n";
    let text = pod("").replace("    command: [sh, -c, env | grep ^V_ | sort]\n", script);
    home.run(&text, &["-d", "--wait", "none"]);
    let ended = || home.pod("p")["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    until("the container has ended", || ended()["exitCode"] == 3);
    assert_eq!(ended()["message"], "said");
}

#[test]
fn r_env_1_services_of_the_namespace_are_among_the_variables_unless_links_are_off() {
    let home = Home::new();
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: web-front}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}]}
";
    let show = "env | grep ^WEB_FRONT | sort; echo $LINK";
    let text = |links: bool| {
        let own = pod("    env: [{name: LINK, value: at-$(WEB_FRONT_SERVICE_HOST)}]\n");
        let own = own.replace("metadata: {name: p}", "metadata: {name: p, labels: {app: web}}");
        let own = own.replace("spec:\n", &format!("spec:\n  enableServiceLinks: {links}\n"));
        own.replace("env | grep ^V_ | sort", &format!("'{show}'")) + service
    };
    let found = lines(&home.run(&text(true), &[]));
    let value = |name: &str| {
        let of = |line: &String| line.strip_prefix(&format!("{name}=")).map(str::to_owned);
        found.iter().find_map(of).unwrap_or_else(|| panic!("no {name} among {found:#?}"))
    };
    let address = value("WEB_FRONT_SERVICE_HOST");
    assert!(address.parse::<std::net::IpAddr>().is_ok(), "{found:#?}");
    assert_eq!(value("WEB_FRONT_SERVICE_PORT"), "80");
    assert_eq!(value("WEB_FRONT_SERVICE_PORT_DNS"), "53");
    assert_eq!(value("WEB_FRONT_PORT"), format!("tcp://{address}:80"));
    assert_eq!(value("WEB_FRONT_PORT_53_UDP"), format!("udp://{address}:53"));
    assert_eq!(value("WEB_FRONT_PORT_80_TCP_ADDR"), address);
    assert_eq!(found.last().unwrap(), &format!("at-{address}"));
    let home = Home::new();
    let found = lines(&home.run(&text(false), &[]));
    assert_eq!(found, ["at-$(WEB_FRONT_SERVICE_HOST)"]);
}

#[test]
fn r_env_1_variables_come_from_a_file_that_an_init_container_writes() {
    let home = Home::new();
    let from = |name: &str, key: &str, optional: bool| {
        format!(
            "    - {{name: V_{name}, valueFrom: {{fileKeyRef: {{volumeName: v, path: env, key: {key}, optional: {optional}}}}}}}\n"
        )
    };
    let text = |env: &str| {
        let init = "  initContainers:
  - name: i
    image: busybox:1.36
    command: [sh, -c, \"printf \\\"# own\\\\nA='x y'\\\\nB='two'\\\\n\\\" >/v/env\"]
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, emptyDir: {}}]
";
        pod(env).replace("  containers:\n", &format!("{init}  containers:\n"))
    };
    let env = format!("    env:\n{}{}{}", from("A", "A", false), from("B", "B", false), from("C", "C", true));
    assert_eq!(lines(&home.run(&text(&env), &[])), ["V_A=x y", "V_B=two"]);
    let refused = Home::new().run(&text(&format!("    env:\n{}", from("C", "C", false))), &[]);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("environment variable key \"C\" not found"), "{}", stderr(&refused));
}

#[test]
fn r_env_1_a_container_finds_the_services_that_there_are_when_it_starts() {
    let home = Home::new();
    let service = "apiVersion: v1
kind: Service
metadata: {name: later}
spec: {selector: {app: web}, ports: [{port: 80}]}
";
    let line = "'env | grep -c ^LATER_SERVICE_HOST; until [ -e /tmp/end ]; do sleep 0.1; done; exit 1'";
    let text = pod("").replace("env | grep ^V_ | sort", line).replace("Policy: Never", "Policy: Always");
    home.start(&text, &["--backoff-initial=0.1", "--backoff-max=0.1"]);
    let begun_anew_with = |count: &str| {
        // Until it was told of the change: which is soon, but not before the command that made it ends.
        let _ = home.podctl(&["exec", "p", "--", "touch", "/tmp/end"]);
        stdout(&home.podctl(&["logs", "p"])) == format!("{count}\n")
    };
    until("the first container has looked", || stdout(&home.podctl(&["logs", "p"])) == "0\n");
    home.said(&["apply", "-f", &home.file("service.yaml", service)]);
    until("the next one finds the Service", || begun_anew_with("1"));
    home.said(&["delete", "service", "later"]);
    until("and the one after it is without", || begun_anew_with("0"));
}
