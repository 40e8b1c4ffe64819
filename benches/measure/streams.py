"""Rows of what flows: logs, and bytes and connections between pods and the host."""
import re, shutil, subprocess, time
from contextlib import contextmanager
from pathlib import Path

from .commands import Failed, free_port, output, timed, wall

LINES = 512 << 20
LOGS = """apiVersion: v1
kind: Pod
metadata: {name: logs}
spec:
  restartPolicy: Never
  containers:
  - {name: a, image: "docker.io/library/busybox:1.36", imagePullPolicy: IfNotPresent, command: [sh, -c, 'SCRIPT']}
"""
# The first is busy itself; the second only copies, so that its log is all there is to wait for.
WRITERS = {
    "makes lines": f"yes $(printf %099d 7) | head -c {LINES}",
    "copies a file of lines": f"yes $(printf %099d 7) | head -c {LINES >> 4} >/dev/shm/lines; for i in $(seq 16); do cat /dev/shm/lines; done",
}
# Bytes of each of ten that flood.
FLOODED = 32 << 20
FLOOD = """apiVersion: v1
kind: Pod
metadata: {name: flood}
spec:
  restartPolicy: Never
  containers:
"""
FLOODING = f"""  - {{name: NAME, image: "docker.io/library/busybox:1.36", imagePullPolicy: IfNotPresent, command: [sh, -c, 'yes $(printf %099d 7) | head -c {FLOODED}']}}
"""
SERVICE = """apiVersion: v1
kind: Service
metadata: {name: pages}
spec: {selector: {app: server}, ports: [{port: 80}]}
"""
# Pages of one pod, fetched by another and from the host.
PEERS_OF_POD = """apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: a
    image: docker.io/library/nginx:1.21
    imagePullPolicy: IfNotPresent
    command: [nginx, -g, "daemon off;"]
    ports: [{containerPort: 80, hostPort: PORT}]
    volumeMounts: [{name: pages, mountPath: /var/www/html}, {name: tools, mountPath: /tools}]
  volumes: [{name: pages, hostPath: {path: PAGES}}, {name: tools, hostPath: {path: TOOLS}}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: a
    image: docker.io/library/busybox:1.36
    imagePullPolicy: IfNotPresent
    command: [sleep, "1000"]
    volumeMounts: [{name: tools, mountPath: /tools}]
  volumes: [{name: tools, hostPath: {path: TOOLS}}]
"""


def measure_logs(bench):
    bench.images("busybox:1.36")
    speed = lambda began: LINES / 1e6 / (time.monotonic() - began)
    tails = []
    for what, script in WRITERS.items():
        file = bench.file("logs.yaml", LOGS.replace("SCRIPT", script))
        ours, theirs = [], []
        for _ in range(3):
            began = time.monotonic()
            timed(bench.podctl, "run", "-d", "--network", "none", file)
            timed(bench.podctl, "wait", "pod/logs", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
            ours.append(speed(began))
            tails += [wall(bench.podctl, "logs", "logs", "--tail", "100") for _ in range(3)]
            timed(bench.podctl, "delete", "logs")
            began = time.monotonic()
            podman = [*bench.podman, "run", "-d", "--name", "logs", "--network", "none", "--log-driver", "k8s-file"]
            timed(*podman, "busybox:1.36", "sh", "-c", script)
            timed(*bench.podman, "wait", "logs")
            theirs.append(speed(began))
            timed(*bench.podman, "rm", "-f", "logs")
        bench.table.add(f"log of a container that {what}", ours, "conmon", theirs, unit="MB/s", goal="≥ 3")
    bench.table.add("logs --tail 100 after 512 MiB", tails, "10 ms", [0.01], goal="≤ 1")
    measure_followed_logs(bench)


def measure_followed_logs(bench):
    """Ten containers that write as fast as they can, with somebody who reads all of it meanwhile, and with nobody."""
    file = bench.file("flood.yaml", FLOOD + "".join(FLOODING.replace("NAME", f"c{at}") for at in range(10)))
    followed, alone, got = [], [], []
    for _ in range(3):
        for taken, reads in (followed, True), (alone, False):
            began = time.monotonic()
            timed(bench.podctl, "run", "-d", "--network", "none", file)
            if reads:
                count = f"{bench.podctl} logs -f flood --all-containers | wc -c"
                got.append(int(output("sh", "-c", count)) / (10 * FLOODED))
            timed(bench.podctl, "wait", "pod/flood", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
            taken.append(10 * FLOODED / 1e6 / (time.monotonic() - began))
            timed(bench.podctl, "delete", "flood")
    bench.table.add("ten flooding containers, followed", followed, "not followed", alone, unit="MB/s")
    bench.table.add("parts of their lines that the follower got", got, "all", [1.0], unit="", goal="= 1")


def measure_published_ports(bench):
    with serving_pages(bench) as (ports, _):
        sides = {side: (["wrk"], f"http://127.0.0.1:{port}") for side, port in ports.items()}
        add_load(bench, "from the host to a published port", sides, "podman (rootlesskit)")


def measure_pods_network(bench):
    with serving_pages(bench) as (_, wrk):
        # Not all images know which port http is.
        sides = {side: (wrk(side, "client"), "http://server:80") for side in ["podctl", "podman"]}
        add_load(bench, "from pod to pod", sides, "podman (bridge)")
        sides = {side: (wrk(side, "server"), "http://127.0.0.1:80") for side in sides}
        add_load(bench, "over a pod's loopback", sides, "podman")
        timed(bench.podctl, "apply", "-f", bench.file("service.yaml", SERVICE))
        through, beside = [], []
        for _ in range(max(3, bench.rounds // 2)):
            through.append(ninety_ninth(*wrk("podctl", "client"), "http://pages:80/page"))
            beside.append(ninety_ninth(*wrk("podctl", "server"), "http://127.0.0.1:80/page"))
        bench.table.add("slowest request of a hundred through a Service (p99)", through, "a pod's loopback", beside)
        timed(bench.podctl, "delete", "service", "pages")


def ninety_ninth(*wrk):
    """Seconds within which 99 of 100 requests are answered that come one after another."""
    report = output(*wrk[:-1], "--latency", "-t1", "-c1", "-d2s", wrk[-1])
    number, unit = re.search(r"99% +([\d.]+)(us|ms|s)", report).groups()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit]


@contextmanager
def serving_pages(bench):
    """Two pods on each side, one that serves pages and its client; gives what is published, and how wrk runs in a pod."""
    bench.images("nginx:1.21", "busybox:1.36")
    place = Path(bench.scratch())
    pages, tools = place / "pages", place / "tools"
    for path in bench.work, place, pages, tools:
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    (pages / "page").write_text("x" * 100)
    with (pages / "big").open("wb") as big:
        big.truncate(1 << 30)
    # With its libraries, so that it runs in any image.
    wrk = shutil.which("wrk")
    for program in [wrk, *re.findall(r"(/\S+) \(0x", output("ldd", wrk))]:
        shutil.copy(program, tools)
    loader = next(tools.glob("ld-*")).name

    def inside(side, pod):
        return [bench.podctl, "exec", pod, "--"] if side == "podctl" else [*bench.podman, "exec", f"{pod}-a"]

    def wrk_in(side, pod):
        return [*inside(side, pod), f"/tools/{loader}", "--library-path", "/tools", "/tools/wrk"]

    play = {"podctl": [bench.podctl, "run", "-d"], "podman": [*bench.podman, "kube", "play"]}
    ports = {side: free_port() for side in play}
    try:
        for side in play:
            text = PEERS_OF_POD.replace("PORT", str(ports[side])).replace("PAGES", str(pages)).replace("TOOLS", str(tools))
            timed(*play[side], bench.file(f"peers-{side}.yaml", text))
            listens = "until wget -q -O /dev/null http://server/page; do sleep 0.1; done"
            timed("timeout", "30", *inside(side, "client"), "sh", "-c", listens)
        yield ports, wrk_in
    finally:
        for pod in "server", "client":
            subprocess.run([bench.podctl, "delete", pod], capture_output=True)
            subprocess.run([*bench.podman, "pod", "rm", "-f", "-t", "0", pod], capture_output=True)


def add_load(bench, way, sides, peer):
    """What wrk gets: bytes over one connection, and requests that have a connection each."""
    speeds, rates = {side: [] for side in sides}, {side: [] for side in sides}
    for _ in range(max(3, bench.rounds // 2)):
        for side, (wrk, url) in sides.items():
            report = output(*wrk, "-t1", "-c1", "-d2s", url + "/big")
            number, unit = re.search(r"Transfer/sec: *([\d.]+)([KMG]?)B", report).groups()
            speeds[side].append(float(number) * 1024 ** " KMG".index(unit or " ") / 1e6)
            report = output(*wrk, "-t2", "-c16", "-d2s", "-H", "Connection: close", url + "/page")
            if "Non-2xx" in report:
                raise Failed(report)
            rates[side].append(float(re.search(r"Requests/sec: *([\d.]+)", report)[1]))
    bench.table.add(f"throughput {way}", speeds["podctl"], peer, speeds["podman"], unit="MB/s")
    bench.table.add(f"connections {way}", rates["podctl"], peer, rates["podman"], unit="/s")
