"""What Helm's own library does with a chart of a Pod, a ConfigMap, a Secret and a Service."""

import os
import pathlib

from helm_python import Config
from kubernetes import client, config

chart = pathlib.Path("chart")
(chart / "templates").mkdir(parents=True, exist_ok=True)
(chart / "Chart.yaml").write_text("apiVersion: v2\nname: chart\nversion: 0.1.0\n")
(chart / "values.yaml").write_text("word: one\n")
(chart / "templates" / "all.yaml").write_text("""
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: "{{ .Values.word }}"}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {word: "{{ .Values.word }}"}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1.36
    command: [httpd, -f, -p, "8080"]
    envFrom: [{configMapRef: {name: words}}, {secretRef: {name: key}}]
""")
config.load_kube_config()
v1 = client.CoreV1Api()
word = lambda: v1.read_namespaced_config_map("words", "default").data["word"]

helm = Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace="default")
helm.check_reachable()
helm.install(str(chart), "app", timeout=60)
assert word() == "one"
assert v1.read_namespaced_pod("web", "default").metadata.labels["app.kubernetes.io/managed-by"] == "Helm"
helm.upgrade(str(chart), "app", {"word": "two"}, timeout=60)
assert word() == "two"
helm.rollback("app", version=1, timeout=60)
assert word() == "one"
names = [release["name"] for release in helm.list()]
assert names == ["app"], names
assert len(helm.history("app")) == 3
helm.uninstall("app", timeout=60)
assert v1.list_namespaced_config_map("default").items == []
assert v1.list_namespaced_service("default").items == []
print("done")
