"""What programs ask for that show a cluster and work in it, as k9s, Lens, Headlamp and Tilt do: all there is, by every road; then its
changes, logs, a shell, and what their users press keys for."""

import gzip
import http.client
import json
import os
import ssl
import threading
import time
import urllib.parse

import websocket
from kubernetes import client, config

config.load_kube_config()
configuration = client.Configuration.get_default_copy()
host, port = configuration.host.removeprefix("https://").split(":")
token = configuration.auth_settings()["BearerToken"]["value"]
context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
context.set_alpn_protocols(["h2", "http/1.1"])
# Each wait below ends with an error after so many seconds.
PATIENCE = 60
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf,application/json"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
PODS = "/api/v1/namespaces/default/pods"


class Connection:
    """One connection, which is kept as Go's is."""

    def __init__(self):
        self.http = http.client.HTTPSConnection(host, int(port), context=context, timeout=PATIENCE)

    def send(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Authorization": token, "Accept-Encoding": "gzip", "User-Agent": "viewer/1.0", **headers}
        self.http.request(method, path, body if body is None or isinstance(body, (bytes, str)) else json.dumps(body), headers)
        return self.http.getresponse()

    def ask(self, method, path, body=None, code=200, **headers):
        answer = self.send(method, path, body, **headers)
        said = answer.read()
        if answer.headers.get("Content-Encoding") == "gzip":
            said = gzip.decompress(said)
        assert answer.status == code, (method, path, answer.status, said[:500])
        self.headers = answer.headers
        if code == 304 or not answer.headers.get("Content-Type", "").startswith("application/json"):
            return said
        said = json.loads(said)
        if code >= 400:
            assert said["kind"] == "Status" and said["status"] == "Failure" and said["code"] == code and said["reason"], said
        return said

    def get(self, path, code=200, **headers):
        return self.ask("GET", path, code=code, **headers)


ask = Connection()


class Watch:
    """A watch that is read in a thread of its own."""

    def __init__(self, path, **headers):
        self.answer = Connection().send("GET", path, **headers)
        assert self.answer.status == 200, (path, self.answer.status, self.answer.read())
        self.events, self.news = [], threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.answer:
            with self.news:
                self.events.append(json.loads(line))
                self.news.notify_all()
        with self.news:
            self.events.append({"type": "END"})
            self.news.notify_all()

    def wait(self, wanted, what):
        deadline = time.monotonic() + PATIENCE
        with self.news:
            while not (found := [event for event in self.events if wanted(event)]):
                assert self.news.wait(deadline - time.monotonic()), (what, self.events[-3:])
        return found[0]


# The beginning: versions, and whether it may do what it will do.
assert ask.get("/version")["major"] == "1"
ask.get("/livez"), ask.get("/readyz?verbose=1"), ask.get("/healthz")
groups = ask.get("/apis", Accept=AGGREGATED)
assert ask.headers["Content-Type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
core = ask.get("/api", Accept=AGGREGATED)
kinds = []
for group in groups["items"] + core["items"]:
    name = group["metadata"].get("name", "")
    for version in group["versions"]:
        base = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
        plain = ask.get(base)
        assert plain["kind"] == "APIResourceList"
        assert {r["name"] for r in plain["resources"] if "/" not in r["name"]} == {r["resource"] for r in version["resources"]}
        kinds += [(base, resource) for resource in version["resources"] if "list" in resource["verbs"]]
assert len(kinds) > 25, kinds
for attributes in [{"verb": "list", "resource": "pods"}, {"verb": "*", "group": "*", "resource": "*"}, {"verb": "get", "resource": "nodes"},
                   {"verb": "create", "resource": "pods", "subresource": "exec", "namespace": "default"}]:
    review = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {"resourceAttributes": attributes}}
    assert ask.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, 201)["status"]["allowed"]
rules = {"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1", "spec": {"namespace": "default"}}
assert ask.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", rules, 201)["status"]["resourceRules"]

# What describes the kinds is fetched once: its address has a hash, and who comes with it has the rest from a cache.
index = ask.get("/openapi/v3")["paths"]
for place in index.values():
    document = ask.get(place["serverRelativeURL"])
    assert document["openapi"].startswith("3.") and "immutable" in ask.headers["Cache-Control"], ask.headers
    ask.ask("GET", place["serverRelativeURL"], code=304, If_None_Match=ask.headers["ETag"])
for path, accept in [("/openapi/v3", "application/json"), ("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"),
                     ("/apis", AGGREGATED), ("/api", AGGREGATED)]:
    ask.get(path, Accept=accept)
    tag = ask.headers["ETag"]
    assert ask.get(path, 304, Accept=accept, If_None_Match=tag) == b""
    ask.get(path, Accept=accept, If_None_Match='"other"')
assert "/api/v1" in ask.get("/")["paths"]

# Every kind by every road: as it is, as rows, as metadata, page by page, as a watch from its list and as one that begins with it.
watches = []
for base, resource in kinds:
    path = f"{base}/{resource['resource']}"
    whole = ask.get(path, Accept=PROTOBUF)
    assert whole["kind"] == resource["responseKind"]["kind"] + "List", whole
    version = whole["metadata"]["resourceVersion"]
    for include in ["None", "Metadata", "Object"]:
        table = ask.get(f"{path}?includeObject={include}&limit=500", Accept=TABLE)
        assert table["kind"] == "Table" and len(table["rows"]) == len(whole["items"]), path
        assert all(len(row["cells"]) == len(table["columnDefinitions"]) for row in table["rows"]), path
    partial = ask.get(path, Accept="application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json")
    assert partial["kind"] == "PartialObjectMetadataList", partial
    ask.get(f"{path}?resourceVersion=0"), ask.get(f"{path}?resourceVersion={version}&resourceVersionMatch=NotOlderThan")
    for item in whole["items"]:
        inside = f"/namespaces/{item['metadata']['namespace']}" if resource["scope"] == "Namespaced" else ""
        one = ask.get(f"{base}{inside}/{resource['resource']}/{item['metadata']['name']}")
        assert one["kind"] == resource["responseKind"]["kind"] and one["apiVersion"] in base, one
        if inside:
            ask.get(f"{base}{inside}/{resource['resource']}")
    if "watch" in resource["verbs"]:
        watches.append((path, Watch(f"{path}?watch=1&resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=300", Accept=PROTOBUF)))
        listing = f"{path}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=300"
        begun = Watch(listing, Accept=TABLE)
        mark = begun.wait(lambda event: event["type"] == "BOOKMARK", path)["object"]
        meta = mark["rows"][0]["object"]["metadata"] if mark["kind"] == "Table" else mark["metadata"]
        assert meta["annotations"]["k8s.io/initial-events-end"] == "true" and int(meta["resourceVersion"]), mark
        watches.append((path, begun))

# What contradicts itself is refused as on a cluster, and what is too old is to be listed anew.
for query, code in [("resourceVersionMatch=Exact", 422), ("resourceVersion=0&resourceVersionMatch=Exact", 422),
                    ("resourceVersion=1&resourceVersionMatch=Nearly", 422), ("sendInitialEvents=true", 422),
                    ("watch=true&sendInitialEvents=true&allowWatchBookmarks=true", 422), ("watch=true&resourceVersion=abc", 400),
                    ("watch=true&resourceVersionMatch=NotOlderThan&resourceVersion=1", 422), ("limit=abc", 400),
                    ("resourceVersion=1&resourceVersionMatch=Exact", 410), ("continue=6161", 400), ("timeoutSeconds=x", 400),
                    ("labelSelector=a%3D%3D%3D", 400), ("fieldSelector=spec.none%3Da", 400)]:
    ask.get(f"/api/v1/pods?{query}", code)
old = Watch("/api/v1/pods?watch=true&resourceVersion=5").wait(lambda event: event["type"] != "END", "410")
assert old["type"] == "ERROR" and old["object"]["code"] == 410 and old["object"]["reason"] == "Expired", old
brief = Watch("/api/v1/pods?watch=true&resourceVersion=0&timeoutSeconds=1")
brief.wait(lambda event: event["type"] == "END", "a watch of one second ends")

# Pods come, and every watch hears of them.
pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "p"}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
    {"name": "a", "image": "busybox:1.36", "command": ["sh", "-c", "while true; do echo line from a; sleep 0.1; done"]},
    {"name": "b", "image": "busybox:1.36", "command": ["sh", "-c", "echo line from b; exec httpd -f -p 8080 -h /etc"]}]}}
ask.ask("POST", f"{PODS}?fieldManager=viewer", pod, 201, Content_Type="application/json")
on_pods = [watch for path, watch in watches if path == "/api/v1/pods"]
assert len(on_pods) == 2
on_pods[0].wait(lambda event: event["type"] == "MODIFIED" and [c for c in event["object"]["status"].get("conditions", [])
                if c["type"] == "Ready" and c["status"] == "True"], "p is ready")
on_pods[1].wait(lambda event: event["object"].get("rows") and event["object"]["rows"][0]["cells"][:3] == ["p", "2/2", "Running"], "a row of p")
on_events = next(watch for path, watch in watches if path == "/api/v1/events")
on_events.wait(lambda event: event["type"] == "ADDED" and event["object"]["reason"] == "Started", "an event of p")

# Logs of many at once, followed; what has been, and since when.
readers = [Connection() for _ in range(6)]
streams = [reader.send("GET", f"{PODS}/p/log?container={'ab'[number % 2]}&follow=true&timestamps=true&tailLines=100&sinceSeconds=300")
           for number, reader in enumerate(readers)]
for number, stream in enumerate(streams):
    assert stream.readline().rstrip().endswith(b"line from " + b"ab"[number % 2:][:1]), number
assert ask.get(f"{PODS}/p/log?container=b") == b"line from b\n"
assert ask.get(f"{PODS}/p/log?container=a&limitBytes=4") == b"line"
ask.get(f"{PODS}/p/log", 400), ask.get(f"{PODS}/p/log?container=none", 400), ask.get(f"{PODS}/none/log", 404)
ask.get(f"{PODS}/p/log?container=a&previous=true", 400)
for stream in streams:
    stream.close()

# A shell, whose terminal changes its size.
query = urllib.parse.urlencode([("container", "a"), ("command", "sh"), ("stdin", "true"), ("stdout", "true"), ("tty", "true")])
shell = websocket.create_connection(f"wss://{host}:{port}{PODS}/p/exec?{query}", header=[f"Authorization: {token}"], timeout=PATIENCE,
                                    subprotocols=["v5.channel.k8s.io", "v4.channel.k8s.io"], sslopt={"ca_certs": configuration.ssl_ca_cert})
said, status = b"", None
shell.send_binary(b"\x04" + json.dumps({"Width": 133, "Height": 41}).encode())
shell.send_binary(b"\x00stty size; exit 7\n")
while status is None:
    piece = shell.recv()
    if piece[:1] == b"\x03":
        status = json.loads(piece[1:])
    else:
        said += piece[1:]
assert b"41 133" in said, said
assert status["reason"] == "NonZeroExitCode" and status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}], status

# What it uses, and what of it is asked for by labels and fields.
deadline = time.monotonic() + PATIENCE
used = ask.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/p")
assert {c["name"] for c in used["containers"]} == {"a", "b"} and ask.get("/apis/metrics.k8s.io/v1beta1/nodes")["items"]
node = ask.get("/api/v1/nodes")["items"][0]["metadata"]["name"]
fields = urllib.parse.quote(f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed")
assert [p["metadata"]["name"] for p in ask.get(f"/api/v1/pods?fieldSelector={fields}")["items"]] == ["p"]
of_pod = urllib.parse.quote("involvedObject.kind=Pod,involvedObject.name=p")
assert ask.get(f"/api/v1/namespaces/default/events?fieldSelector={of_pod}&limit=500")["items"]

# Page by page, while something else changes.
for number in range(7):
    ask.ask("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": f"m{number}"}}, 201)
names, more = [], ""
while True:
    page = ask.get(f"/api/v1/namespaces/default/configmaps?limit=3&continue={more}")
    names += [item["metadata"]["name"] for item in page["items"]]
    more = page["metadata"].get("continue")
    if not more:
        break
    assert page["metadata"]["remainingItemCount"] == 7 - len(names)
assert names == [f"m{number}" for number in range(7)], names

# Changes of each type, refused ones, and ones that are only tried.
merge = {"Content_Type": "application/merge-patch+json"}
label = ask.ask("PATCH", f"{PODS}/p?fieldManager=viewer", {"metadata": {"labels": {"new": "label"}}}, **merge)
assert label["metadata"]["labels"] == {"app": "p", "new": "label"}
ask.ask("PATCH", f"{PODS}/p", [{"op": "remove", "path": "/metadata/labels/new"}], Content_Type="application/json-patch+json")
dry = ask.ask("PATCH", f"{PODS}/p?dryRun=All", {"metadata": {"labels": {"dry": "run"}}}, **merge)
assert "dry" in dry["metadata"]["labels"] and "dry" not in ask.get(f"{PODS}/p")["metadata"]["labels"]
debugger = {"spec": {"ephemeralContainers": [{"name": "d", "image": "busybox:1.36", "command": ["sleep", "1000"]}]}}
strategic = {"Content_Type": "application/strategic-merge-patch+json"}
dry = ask.ask("PATCH", f"{PODS}/p/ephemeralcontainers?dryRun=All", debugger, **strategic)
assert dry["spec"]["ephemeralContainers"][0]["name"] == "d" and "ephemeralContainers" not in ask.get(f"{PODS}/p")["spec"]
ask.ask("PATCH", f"{PODS}/p/ephemeralcontainers", debugger, **strategic)
on_pods[0].wait(lambda event: event["object"]["status"].get("ephemeralContainerStatuses"), "the debugger")
ask.ask("PATCH", f"{PODS}/p", {"spec": {"containers": [{"name": "a", "command": ["other"]}]}}, 422, **strategic)
ask.ask("PATCH", f"{PODS}/p", "{", 400, **merge)
ask.ask("PATCH", f"{PODS}/p", {}, 415, Content_Type="text/plain")
ask.ask("PATCH", "/apis/apps/v1/namespaces/default/deployments/d/scale", {"spec": {"replicas": 2}}, 404, **merge)
ask.ask("POST", PODS, pod, 409)
ask.ask("POST", PODS, {"metadata": {"name": "P"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}, 422)
stale = ask.get("/api/v1/namespaces/default/configmaps/m0")
ask.ask("PUT", "/api/v1/namespaces/default/configmaps/m0", {**stale, "data": {"a": "b"}})
ask.ask("PUT", "/api/v1/namespaces/default/configmaps/m0", {**stale, "data": {"a": "c"}}, 409)
ask.ask("DELETE", "/api/v1/namespaces/default/configmaps/m0", {"preconditions": {"uid": "other"}}, 409)
ask.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n"}}, 405), ask.get("/api/v1/nothing", 404), ask.get("/api/v1/pods", 406, Accept="text/html")
Connection().ask("GET", "/api/v1/pods", code=401, Authorization="Bearer none")
Connection().ask("GET", "/api/v1/pods", code=403, Host="evil.example")

# Jobs, and what goes with them; then all that is there.
job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [
    {"name": "c", "image": "busybox:1.36", "command": ["sleep", "1000"]}]}}}}
ask.ask("POST", "/apis/batch/v1/namespaces/default/jobs", job, 201)
on_pods[0].wait(lambda event: event["type"] != "BOOKMARK" and event["object"]["metadata"].get("ownerReferences"), "a pod of the Job")
ask.ask("DELETE", "/apis/batch/v1/namespaces/default/jobs/j", {"propagationPolicy": "Foreground"})
on_pods[0].wait(lambda event: event["type"] == "DELETED" and event["object"]["metadata"].get("ownerReferences"), "the Job's pod goes with it")
ask.ask("DELETE", f"{PODS}/p?gracePeriodSeconds=0&propagationPolicy=Background")
on_pods[0].wait(lambda event: event["type"] == "DELETED" and event["object"]["metadata"]["name"] == "p", "p is gone")
on_pods[1].wait(lambda event: event["type"] == "DELETED" and event["object"]["rows"][0]["cells"][0] == "p", "p's row is gone")
ask.ask("DELETE", "/api/v1/namespaces/default/configmaps?labelSelector=none%3Dnone")
assert len(ask.get("/api/v1/namespaces/default/configmaps")["items"]) == 7
ask.ask("DELETE", "/api/v1/namespaces/default/configmaps")
assert ask.get("/api/v1/namespaces/default/configmaps")["items"] == []
for path, watch in watches:
    assert not [event for event in watch.events if event["type"] in ("ERROR", "END")], (path, watch.events[-2:])
print("done")
