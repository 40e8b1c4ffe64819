use serde_json::json;

use super::*;

#[test]
fn a_pod_is_described_as_kubectl_describes_it() {
    let described: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "default", "labels": {"app": "web", "b": "c"}, "annotations": {"a": "1\n2"}},
        "spec": {"nodeName": "laptop", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}],
            "containers": [{"name": "web", "image": "nginx:1.21", "command": ["sh", "-c", "a\nb"],
                "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 443, "hostPort": 8443}],
                "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
                "readinessProbe": {"exec": {"command": ["cat", "/x"]}, "periodSeconds": 5},
                "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}, {"secretRef": {"name": "s", "optional": true}}],
                "env": [{"name": "A", "value": "b"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "L", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                    {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}],
                "volumeMounts": [{"name": "v", "mountPath": "/x", "readOnly": true, "subPath": "sub"}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "podIP": "10.0.0.2", "hostIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.2"}], "qosClass": "Burstable", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "web", "image": "", "imageID": "sha", "containerID": "podctl://x", "ready": true,
                "restartCount": 1, "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}},
                "lastState": {"terminated": {"exitCode": 137, "signal": 9, "reason": "Error", "message": "gone\n"}}}]}}))
    .unwrap();
    let expected = "\
Name:             p
Namespace:        default
Priority:         0
Service Account:  default
Node:             laptop/10.0.0.1
Start Time:       Thu, 01 Jan 2026 00:00:00 +0000
Labels:           app=web
                  b=c
Annotations:      a:
                    1
                    2
Status:           Running
IP:               10.0.0.2
IPs:
  IP:  10.0.0.2
Init Containers:
  side:
    Image:           i
    Port:            <none>
    Host Port:       <none>
    Restart Policy:  Always
    Environment:     <none>
    Mounts:          <none>
Containers:
  web:
    Container ID:  podctl://x
    Image:         nginx:1.21
    Image ID:      sha
    Ports:         80/TCP (http), 443/TCP
    Host Ports:    0/TCP (http), 8443/TCP
    Command:
      sh
      -c
      a
      b
    State:          Running
      Started:      Thu, 01 Jan 2026 00:00:01 +0000
    Last State:     Terminated
      Reason:       Error
      Message:      gone
      Exit Code:    137
      Signal:       9
    Ready:          True
    Restart Count:  1
    Limits:
      cpu:      500m
      memory:   64Mi
    Liveness:   http-get http://:80/ delay=0s timeout=1s period=10s successThreshold=1 failureThreshold=3
    Readiness:  exec [cat /x] delay=0s timeout=1s period=5s successThreshold=1 failureThreshold=3
    Environment Variables from:
      m  ConfigMap with prefix 'P_'  Optional: false
      s  Secret                      Optional: true
    Environment:
      A:  b
      N:  p (v1:metadata.name)
      L:  500 (limits.cpu)
      K:  <set to the key 'k' of config map 'c'>  Optional: false
    Mounts:
      /x from v (ro,path=\"sub\")
Conditions:
  Type    Status
  Ready   True 
Volumes:
  v:
    Type:        EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:      
    SizeLimit:   <unset>
QoS Class:       Burstable
Node-Selectors:  <none>
Tolerations:     k:NoExecute op=Exists for 300s
Events:          <none>
";
    let now = "2026-01-01T00:00:10Z".parse().unwrap();
    let text = pod(&described, Some(&[]), now);
    assert_eq!(text, expected, "\n{text}");
}
