"""The row of images: a pull into an empty store, and one that has nothing to do."""
import os

from .commands import timed

# What a shell can do: every layer fetched, hashed, inflated and unpacked, all at once.
PIPE = r"""
manifest=$(curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$1/v2/$2/manifests/$3")
for digest in $(python3 -c 'import json, sys; [print(l["digest"]) for l in json.loads(sys.argv[1])["layers"]]' "$manifest"); do
    mkdir "${digest#sha256:}"
    curl -sf "http://$1/v2/$2/blobs/$digest" | tee >(sha256sum >"$digest.sum") | gzip -d | tar --no-same-owner -C "${digest#sha256:}" -xf - &
done
wait
"""


def measure_pull(bench):
    registry = os.environ["PODCTL_TEST_REGISTRY"]
    sides = {"podctl": [], "podman": [], "pipe": []}
    again = [], []
    # The stores are removed at the end: a file system that is still freeing one is slow to fill the next.
    for at in range(max(3, bench.rounds // 3)):
        store = {"PODCTL_DATA_DIR": bench.scratch()}
        pulls = {
            "podctl": lambda: timed(bench.podctl, "pull", "layers:1", env=store),
            "podman": lambda: timed(*bench.podman_at(f"pull-{at}"), "pull", "-q", "docker.io/library/layers:1"),
        }
        for side, second in zip(pulls, again):
            sides[side].append(pulls[side]())
            second.append(pulls[side]()[0])
        sides["pipe"].append(timed("bash", "-c", PIPE, "pipe", registry, "library/layers", "1", cwd=bench.scratch()))
    column = lambda side, at: [run[at] for run in sides[side]]
    row = "pull and unpack, 3 layers"
    bench.table.add(row, column("podctl", 0), "podman pull", column("podman", 0), unit="s", goal="≤ 0.5")
    bench.table.add(row, column("podctl", 0), "curl, sha256sum, gzip, tar", column("pipe", 0), unit="s", goal="≤ 1.3")
    bench.table.add(row + ": CPU", column("podctl", 1), "podman pull", column("podman", 1), unit="s")
    bench.table.add(row + ": peak memory", column("podctl", 2), "podman pull", column("podman", 2), unit="MiB")
    bench.table.add("second pull", *(again[0], "podman pull", again[1]))
