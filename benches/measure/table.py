"""The table of a run, and the history of all runs."""
import csv, html, json, math, os, platform, statistics, time
from pathlib import Path

from .commands import output


class Table:
    """What was measured: a row, one figure of each of two sides, and the goal for their ratio."""

    def __init__(self):
        self.rows, self.figures = [], []

    def add(self, row, ours, peer, theirs, unit="ms", goal=""):
        a, b = statistics.median(ours), statistics.median(theirs)
        # A difference may be nothing, or less in a noisy moment.
        ratio = "–" if min(a, b) <= 0 else f"{a / b:.2f}" if a / b >= 0.1 else f"1/{b / a:.1f}"
        scale = {"ms": 1000, "s": 1, "MiB": 1, "MB": 1, "MB/s": 1, "/s": 1, "": 1}[unit]
        scaled = lambda all: [v * scale for v in (min(all), statistics.median(all), max(all))]
        self.figures.append([row, unit, *scaled(ours), peer, *scaled(theirs)])
        number = lambda v: f"{v * scale:.{2 if v * scale < 100 else 0}f}"
        shown = [f"{number(statistics.median(all))} {unit} ({number(min(all))}–{number(max(all))})" for all in (ours, theirs)]
        self.rows.append((row, shown[0], peer, shown[1], ratio, goal))
        print(f"{row:44} podctl {shown[0]:>26}   {peer:24} {shown[1]:>26}   ratio {ratio:>8}   {goal}", flush=True)

    def markdown(self):
        lines = ["| work | podctl (least–most) | peer | peer's (least–most) | ratio | goal |", "|---|---|---|---|---|---|"]
        return "\n".join(lines + [f"| {' | '.join(row)} |" for row in self.rows]) + "\n"


def write_results(stage):
    cpu = next((l.split(": ")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    programs = ["podman", "crun", "conmon", *(stage / "peers").iterdir()]
    versions = ", ".join(output(program, "--version").splitlines()[0] for program in programs)
    commit = output("git", "describe", "--always", "--dirty").strip()
    head = f"""# Measured against the peers

By `scripts/bench` in one run; medians; a ratio is podctl's over the peer's. podctl {commit}, {versions};
Linux {platform.release()}, {os.cpu_count()} × {cpu}. podman has its overlay driver, netavark and aardvark-dns;
the pods say restartPolicy Never and imagePullPolicy IfNotPresent, without which podman 4.3 restarts
init containers for 20 s and asks the registry at each start. That slows neither side.

"""
    Path("benches/results.md").write_text(head + (stage / "out/table.md").read_text())
    keep_history(Path("benches/history.csv"), commit, json.loads((stage / "out/figures.json").read_text()))


HISTORY = "date,commit,work,unit,least,median,most,peer,peer_least,peer_median,peer_most".split(",")


def keep_history(path, commit, figures):
    """Adds a run to those before it, and draws of each row how podctl's part of its peer's figure went."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        if new:
            out.writerow(HISTORY)
        today = time.strftime("%Y-%m-%d", time.gmtime())
        for row in figures:
            out.writerow([today, commit, *(f"{v:.6g}" if isinstance(v, float) else v for v in row)])
    with path.open(newline="") as file:
        path.with_suffix(".svg").write_text(draw(list(csv.DictReader(file))))


def draw(history):
    """A line a row: its ratio in each run, 1 at the middle, a tenth and ten at the edges."""
    runs = list(dict.fromkeys((entry["date"], entry["commit"]) for entry in history))
    lines = {}
    for entry in history:
        ours, theirs = float(entry["median"]), float(entry["peer_median"])
        if ours > 0 and theirs > 0:
            at = runs.index((entry["date"], entry["commit"]))
            lines.setdefault((entry["work"], entry["peer"]), {})[at] = ours / theirs
    wide, high = 300, 18
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide + 640}" height="{(len(lines) + 2) * high}" font-family="sans-serif" font-size="11">',
             f'<text x="4" y="12">podctl over its peer, run by run: {runs[0][0]} {runs[0][1]} to {runs[-1][0]} {runs[-1][1]}</text>']
    for number, ((work, peer), ratios) in enumerate(lines.items()):
        top = (number + 1.5) * high
        x = lambda at: 4 + (wide - 8) * (at / max(1, len(runs) - 1))
        y = lambda ratio: top + high / 2 - max(-1, min(1, math.log10(ratio))) * (high / 2 - 2)
        points = " ".join(f"{x(at):.1f},{y(ratio):.1f}" for at, ratio in ratios.items())
        last = list(ratios.values())[-1]
        parts.append(f'<path d="M4 {y(1):.1f}H{wide - 4}" stroke="#ccc"/><polyline points="{points}" fill="none" stroke="#06c"/>'
                     + "".join(f'<circle cx="{x(at):.1f}" cy="{y(ratio):.1f}" r="1.5" fill="#06c"/>' for at, ratio in ratios.items())
                     + f'<text x="{wide + 4}" y="{top + 13:.1f}">{last:.2f} {html.escape(work)}: {html.escape(peer)}</text>')
    return "\n".join(parts + ["</svg>", ""])


