"""Rows of one pod at a time: its start, an exec, its end, what it keeps in memory, and the start of podctl itself."""
import json, re
from pathlib import Path

from .commands import cpu, output, timed, wall
from .sides import ONE, POD, processes


def measure_program(bench):
    """What the start of podctl itself takes."""
    bench.images("busybox:1.36")
    timed(bench.podctl, "run", "-d", "--network", "none", bench.file("pod.yaml", POD.replace("NAME", "bench")))
    works = {"version": [], "get pods": []}
    nothing = []
    for _ in range(bench.rounds * 5):
        nothing.append(cpu("/usr/bin/true"))
        for work, taken in works.items():
            taken.append(cpu(bench.podctl, *work.split()))
    for work, taken in works.items():
        bench.table.add(f"podctl {work}: CPU", taken, "true", nothing, goal="≤ 1.5")
    size = bench.podctl.stat().st_size / 1e6
    bench.table.add("the program", [size], "10 MB", [10.0], unit="MB", goal="≤ 1")
    timed(bench.podctl, "delete", "bench", "--now")


def measure_container(bench):
    bench.images("busybox:1.36")
    one = [bench.podctl, "run", "--replace", "--network", "none", bench.file("one.yaml", ONE)]
    ours, lingering, theirs, floor = [], [], [], []
    for at in range(bench.rounds + 1):
        ours.append(wall(*one))
        theirs.append(wall("crun", "run", "-b", bench.rootfs.parent, f"one-{at}"))
        floor.append(wall(bench.floor, "container", bench.rootfs, bench.scratch()))
        lingering.append(wall(*one, env={"PODCTL_LINGER": "30"}))
    row = "container, create to exit"
    bench.table.add(row, ours[1:], "crun run", theirs[1:], goal="≤ 0.7")
    bench.table.add(row, ours[1:], "kernel's floor", floor[1:])
    bench.table.add(row + ", PODCTL_LINGER", lingering[1:], "crun run", theirs[1:])


def measure_pod(bench):
    bench.images("busybox:1.36")
    file = bench.file("pod.yaml", POD.replace("NAME", "bench"))
    another = bench.file("another.yaml", POD.replace("NAME", "another"))
    ours = lambda file, *options: (bench.podctl, "run", "-d", *options, file)
    theirs = lambda file, *options: (*bench.podman, "kube", "play", *options, file)
    alone = {"default network": [], "loopback only": ["--network", "none"], "host's network": ["--network", "host"]}
    # As on a machine where pods are about: ids are mapped, and there is a network.
    beside = {"default network": [], "loopback only": ["--network", "none"]}
    deletes, floor = ([], []), []
    for networks, where in (alone, ""), (beside, ", beside another"):
        if where:
            timed(*ours(another))
            timed(*theirs(another))
        ups = {network: ([], []) for network in networks}
        for at in range(bench.rounds + 1):
            for network, options in networks.items():
                ups[network][0].append(wall(*ours(file, *options)))
                deletes[0].append(wall(bench.podctl, "delete", "bench"))
                ups[network][1].append(wall(*theirs(file, *options)))
                deletes[1].append(wall(*bench.podman, "pod", "rm", "-f", "-t", "0", "bench"))
            floor.append(int(output(bench.floor, "pod", bench.rootfs, bench.scratch())) / 1e6)
        if where:
            timed(bench.podctl, "delete", "another")
            timed(*bench.podman, "pod", "rm", "-f", "-t", "0", "another")
        # The first of each found nothing in the machine's caches.
        ups = {network: [side[1:] for side in sides] for network, sides in ups.items()}
        for network, (mine, peers) in ups.items():
            row = f"pod of 1 init + 2 containers up, {network}{where}"
            bench.table.add(row, mine, "podman kube play", peers, goal="≤ 1/40" if network == "default network" else "")
            if network == "loopback only":
                bench.table.add(row, mine, "kernel's floor", floor[1:], goal="≤ 2")
        with_network, without = ups["default network"], ups["loopback only"]
        bench.table.add(f"pod of 1 init + 2 containers up, default network{where}", with_network[0], "podctl, loopback only", without[0], goal="≤ 1.3")
        cost = [[a - b for a, b in zip(*pair)] for pair in zip(with_network, without)]
        bench.table.add(f"start cost of the default network{where}", cost[0], "podman kube play", cost[1])
    bench.table.add("the same pod deleted", deletes[0], "podman pod rm", deletes[1])


def measure_exec(bench):
    bench.images("busybox:1.36")
    timed(bench.podctl, "run", "-d", "--replace", "--network", "none", bench.file("pod.yaml", POD.replace("NAME", "bench")))
    timed(*bench.podman, "run", "-d", "--name", "bench", "--network", "none", "busybox:1.36", "sleep", "1000")
    spec = json.loads((bench.rootfs.parent / "config.json").read_text())
    spec["process"]["args"] = ["sleep", "1000"]
    other = bench.work / "other"
    other.mkdir()
    (other / "rootfs").symlink_to(bench.rootfs)
    (other / "config.json").write_text(json.dumps(spec))
    timed("crun", "run", "-d", "-b", other, "bench")
    try:
        ours, crun, podman = [], [], []
        for _ in range(bench.rounds * 3):
            ours.append(wall(bench.podctl, "exec", "bench", "-c", "a", "--", "true"))
            crun.append(wall("crun", "exec", "bench", "true"))
            podman.append(wall(*bench.podman, "exec", "bench", "true"))
        bench.table.add("exec", ours, "crun exec", crun, goal="≤ 0.4")
        bench.table.add("exec", ours, "podman exec", podman)
    finally:
        timed(bench.podctl, "delete", "bench", "--now")
        timed("crun", "delete", "-f", "bench")
        timed(*bench.podman, "rm", "-f", "-t", "0", "bench")


def measure_memory(bench):
    """Proportional set size of everything a pod of two containers needs beside their own processes."""
    bench.images("busybox:1.36")
    file = bench.file("pod.yaml", POD.replace("NAME", "bench"))
    ours, supervisor, theirs = [], [], []
    for _ in range(3):
        before = processes()
        timed(bench.podctl, "run", "-d", "--replace", file)
        ours.append(helpers_pss(before))
        supervisor.append(helpers_pss(before, only="supervise"))
        timed(bench.podctl, "delete", "bench")
        before = processes()
        timed(*bench.podman, "kube", "play", file)
        theirs.append(helpers_pss(before))
        timed(*bench.podman, "pod", "rm", "-f", "-t", "0", "bench")
    bench.table.add("memory of a pod's helpers (PSS)", ours, "podman", theirs, unit="MiB")
    bench.table.add("memory of its supervisor alone (PSS)", supervisor, "2 MiB", [2.0], unit="MiB", goal="≤ 1")


def measure_before(bench):
    """Another build of podctl, with a store of its own, in turn with this one."""
    place = lambda side: {"PODCTL_DATA_DIR": str(bench.work / side), "PODCTL_RUNTIME_DIR": str(bench.runtime / side)}
    sides = {"podctl": (bench.podctl, {}), "before": (bench.stage / "before", place("before"))}
    podctl = lambda side, *args: wall(sides[side][0], *args, env=sides[side][1])
    for side in sides:
        podctl(side, "pull", "busybox:1.36")
    one, three = bench.file("one.yaml", ONE), bench.file("three.yaml", POD.replace("NAME", "three"))
    stay = bench.file("stay.yaml", POD.replace("NAME", "stay"))
    works = {
        "--version": lambda side: podctl(side, "--version"),
        "get pods": lambda side: podctl(side, "get", "pods"),
        "exec": lambda side: podctl(side, "exec", "stay", "-c", "a", "--", "true"),
        "container, create to exit, host's network": lambda side: podctl(side, "run", "--replace", "--network", "host", one),
        "pod of 1 init + 2 containers up, default network, beside another": lambda side: podctl(side, "run", "-d", three),
        "the same pod deleted": lambda side: podctl(side, "delete", "three"),
    }
    measured = {work: ([], []) for work in works}
    for side in sides:
        podctl(side, "run", "-d", stay)
    for at in range(bench.rounds * 3 + 1):
        for work, act in works.items():
            # Neither is always the second.
            for index in (0, 1) if at % 2 else (1, 0):
                seconds = act(list(sides)[index])
                if at:
                    measured[work][index].append(seconds)
    for work, (ours, theirs) in measured.items():
        bench.table.add(work, ours, "before", theirs, goal="≤ 1.03")
    for side in sides:
        podctl(side, "delete", "--all", "--now")


def helpers_pss(before, only=""):
    """MiB of the new processes that are none of the pod's own."""
    total = 0
    for pid in processes() - before:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if command.startswith("sleep") or only not in command:
                continue
            total += int(re.search(r"Pss: *(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[1])
        except (OSError, TypeError):
            continue
    return total / 1024
