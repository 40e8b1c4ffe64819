"""What a program that uses Kubernetes' own client for Python does with a pod."""

import urllib.request

from kubernetes import client, config, dynamic, watch
from kubernetes.client import ApiClient, ApiException
from kubernetes.stream import portforward, stream

config.load_kube_config()
v1 = client.CoreV1Api()

pod = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"app": "p"}},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "c",
            "image": "busybox:1.36",
            "command": ["sh", "-c", "echo logged; exec httpd -f -p 8080 -h /etc"],
        }],
    },
}
v1.create_namespaced_pod("default", pod)
try:
    v1.create_namespaced_pod("default", pod)
    raise AssertionError("a second pod of the same name")
except ApiException as e:
    assert e.status == 409, e

seen = []
for event in watch.Watch().stream(v1.list_namespaced_pod, "default", label_selector="app=p", timeout_seconds=60):
    seen.append(event["type"])
    conditions = event["object"].status.conditions or []
    if any(c.type == "Ready" and c.status == "True" for c in conditions):
        break
assert seen[0] == "ADDED", seen

assert v1.read_namespaced_pod_log("p", "default") == "logged\n"
assert v1.list_namespaced_pod("default", field_selector="status.phase=Running").items[0].metadata.name == "p"

shell = ["sh", "-c", "echo out; echo err >&2; read line; echo got $line; exit 3"]
session = stream(v1.connect_get_namespaced_pod_exec, "p", "default", command=shell, stdin=True, stdout=True,
                 stderr=True, tty=False, _preload_content=False)
session.write_stdin("typed\n")
session.run_forever(timeout=30)
assert session.read_stdout().split() == ["out", "got", "typed"], "standard output"
assert session.returncode == 3, session.returncode

forward = portforward(v1.connect_get_namespaced_pod_portforward, "p", "default", ports="8080")
socket = forward.socket(8080)
socket.setblocking(True)
socket.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
answer = b""
while part := socket.recv(4096):
    answer += part
assert answer.endswith(b"\r\n\r\np\n"), answer

v1.patch_namespaced_pod("p", "default", {"metadata": {"labels": {"new": "label"}}})
assert v1.read_namespaced_pod("p", "default").metadata.labels["new"] == "label"

pods = dynamic.DynamicClient(ApiClient()).resources.get(api_version="v1", kind="Pod")
assert pods.get(namespace="default", name="p").metadata.labels.new == "label"

v1.create_namespaced_config_map("default", {"metadata": {"name": "m"}, "data": {"a": "b"}})
v1.replace_namespaced_config_map("m", "default", {"metadata": {"name": "m"}, "data": {"a": "c"}})
assert v1.read_namespaced_config_map("m", "default").data == {"a": "c"}
v1.delete_collection_namespaced_config_map("default")
assert v1.list_namespaced_config_map("default").items == []

deleted = watch.Watch()
version = v1.list_namespaced_pod("default").metadata.resource_version
v1.delete_namespaced_pod("p", "default", grace_period_seconds=0)
for event in deleted.stream(v1.list_namespaced_pod, "default", resource_version=version, timeout_seconds=60):
    if event["type"] == "DELETED":
        print("done")
        break
