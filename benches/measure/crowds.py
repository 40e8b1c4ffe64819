"""Rows of many pods and Services."""
import statistics, time

from .commands import output, timed, wall
from .sides import POD

# One of a thousand; the tenth part of them has the same label.
SMALL = """apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {tenth: "GROUP"}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "docker.io/library/busybox:1.36", imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}
"""
SERVED = """apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "docker.io/library/busybox:1.36", imagePullPolicy: IfNotPresent, command: [httpd, -f, -p, "8080", -h, /etc]}
"""
SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {KEY: VALUE}, ports: [{port: 80, targetPort: 8080}]}
"""


def measure_pods(bench):
    """A hundred pods of two containers."""
    bench.images("busybox:1.36")
    each = []
    files = [bench.file(f"pod-{at}.yaml", POD.replace("NAME", f"bench-{at}")) for at in range(100)]
    for file in files:
        each.append(wall(bench.podctl, "run", "-d", "--network", "none", file))
    bench.table.add("the last 10 of 100 pods up", each[90:], "the first 10", each[:10], goal="≤ 1.2")
    timed(bench.podctl, "delete", "--all", "--now")
    began = time.monotonic()
    script = 'printf "%s\\n" "$@" | xargs -P 8 -n 1 "$0" run -d --network none'
    timed("sh", "-c", script, bench.podctl, *files)
    at_once = (time.monotonic() - began) / 100
    bench.table.add("100 pods, 8 at a time: each", [at_once], "one after another", [statistics.mean(each)])
    timed(bench.podctl, "delete", "--all", "--now")


def measure_thousand(bench):
    """A thousand pods of one container on the default network: what is done to one among all, beside one among few."""
    bench.images("busybox:1.36")
    start = lambda at: wall(bench.podctl, "run", "-d", bench.file("small.yaml", SMALL.replace("NAME", f"p{at}").replace("GROUP", str(at % 10))))
    repeated = lambda *command: [wall(bench.podctl, *command) for _ in range(bench.rounds)]
    looks = {
        "get pod NAME": lambda: repeated("get", "pod", "p1"),
        "exec": lambda: repeated("exec", "p1", "--", "true"),
        "a name asked for by exec": lambda: repeated("exec", "p1", "--", "nslookup", "p2"),
    }
    ups = [start(at) for at in range(100)]
    few = {look: act() for look, act in looks.items()}
    ups += [start(at) for at in range(100, 1000)]
    bench.table.add("the last 50 of 1000 pods up", ups[950:], "the first 50", ups[:50], goal="≤ 1.2")
    for look, act in looks.items():
        bench.table.add(f"{look}, among 1000 pods", act(), "among 100", few[look], goal="≤ 1.2")
    listed = repeated("get", "pods")
    tenth = wall(bench.podctl, "delete", "pods", "-l", "tenth=3")
    timed(bench.podctl, "delete", "pods", "-l", "tenth!=4")
    bench.table.add("get pods: a pod, of 1000", [all / 1000 for all in listed], "of 100", [all / 100 for all in repeated("get", "pods")], goal="≤ 1.2")
    bench.table.add("delete -l of a hundred pods, among 1000", [tenth], "among themselves", [wall(bench.podctl, "delete", "pods", "-l", "tenth=4")], goal="≤ 1.2")


def measure_services(bench):
    """A pod becomes the endpoint of one of a hundred Services that have ten endpoints each, and a pod connects through it."""
    bench.images("busybox:1.36")
    services = "".join(SERVICE.replace("NAME", f"s{at}").replace("KEY", "app").replace("VALUE", "web") for at in range(100))
    services += SERVICE.replace("NAME", "spare").replace("KEY", "spare").replace("VALUE", '"yes"')
    timed(bench.podctl, "apply", "-f", bench.file("services.yaml", services))
    for at in range(10):
        timed(bench.podctl, "run", "-d", bench.file("served.yaml", SERVED.replace("NAME", f"w{at}")))
    timed(bench.podctl, "run", "-d", bench.file("small.yaml", SMALL.replace("NAME", "client").replace("GROUP", "0")))
    address = output(bench.podctl, "get", "service", "spare", "-o", "jsonpath={.spec.clusterIP}")
    # By its address, for a name would be asked for as well. Nobody listens there while the Service has no endpoint.
    connects = [bench.podctl, "exec", "client", "--", "sh", "-c", f"until nc -w 1 {address} 80 </dev/null; do :; done"]
    seen = []
    for at in range(bench.rounds):
        pod = f"w{at % 10}"
        seen.append(wall(bench.podctl, "label", "pod", pod, "spare=yes") + wall(*connects))
        timed(bench.podctl, "label", "pod", pod, "spare-")
    bench.table.add("a new endpoint of one of 100 Services: labelled, connected to", seen, "100 ms", [0.1], goal="≤ 1")
    timed(bench.podctl, "delete", "pods", "--all", "--now")
    timed(bench.podctl, "delete", "services", "--all")
