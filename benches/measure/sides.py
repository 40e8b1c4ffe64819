"""podctl and its peers, each with places of its own, and the pods that both run."""
import json, os, shutil, subprocess, tarfile, tempfile
from pathlib import Path

from .commands import timed
from .table import Table

# All pods below say two things for podman's sake. Its version 4.3 also restarts init containers when a
# pod's restartPolicy is Always, and gives up after 20 s (its issues 15631 and 16343; mended in 4.6);
# for the same reason it may find that a container it has just killed still runs. And it asks the
# registry for each container's image unless the pull policy forbids that.
POD = """apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: init, image: "docker.io/library/busybox:1.36", imagePullPolicy: IfNotPresent, command: ["true"]}
  containers:
  - {name: a, image: "docker.io/library/busybox:1.36", imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}
  - {name: b, image: "docker.io/library/busybox:1.36", imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}
"""
ONE = """apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  restartPolicy: Never
  containers:
  - {name: a, image: "docker.io/library/busybox:1.36", imagePullPolicy: IfNotPresent, command: ["true"]}
"""


class Bench:
    """The rows, as the ordinary user."""

    def __init__(self, stage, rounds):
        self.stage, self.rounds, self.table = Path(stage), rounds, Table()
        self.work = Path(tempfile.mkdtemp(dir=self.stage / "disk"))
        self.podctl, self.floor = self.stage / "podctl", self.stage / "floor"
        self.runtime = Path(tempfile.mkdtemp(prefix="podctl-bench-", dir=os.environ.get("XDG_RUNTIME_DIR")))
        # Both sides keep what they make where nothing else is.
        os.environ.update(PODCTL_DATA_DIR=str(self.work / "podctl"), PODCTL_RUNTIME_DIR=str(self.runtime / "podctl"))
        self.podman = self.podman_at("podman")
        peers = self.stage / "peers"
        if (peers / "netavark").exists():
            config = self.file("containers.conf", f'[engine]\nhelper_binaries_dir = ["{peers}", "/usr/lib/podman", "/usr/libexec/podman"]\n')
            os.environ["CONTAINERS_CONF"] = str(config)
        self.rootfs = self.work / "bundle/rootfs"

    def podman_at(self, store):
        """podman with a store of its own, and the same process for its user namespace."""
        places = {"--root": self.work / store, "--runroot": self.runtime / store, "--tmpdir": self.runtime / "libpod"}
        return ["podman", *(f"{option}={path}" for option, path in places.items()), "--storage-driver=overlay"]

    def bundle(self):
        """busybox for crun and for the floor."""
        layout = self.stage / "registry/images/busybox"
        blob = lambda digest: layout / "blobs" / digest.replace(":", "/")
        index = json.loads((layout / "index.json").read_text())
        manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
        self.rootfs.mkdir(parents=True)
        with tarfile.open(blob(manifest["layers"][0]["digest"])) as layer:
            layer.extractall(self.rootfs)
        subprocess.run(["crun", "spec", "--rootless"], cwd=self.rootfs.parent, check=True)
        path = self.rootfs.parent / "config.json"
        spec = json.loads(path.read_text())
        spec["process"].update(terminal=False, args=["true"])
        path.write_text(json.dumps(spec))

    def file(self, name, text):
        path = self.work / name
        path.write_text(text)
        return path

    def images(self, *names):
        for name in names:
            timed(self.podctl, "pull", name)
            timed(*self.podman, "pull", "-q", f"docker.io/library/{name}")

    def scratch(self):
        return tempfile.mkdtemp(dir=self.work)

    def clear(self):
        for command in (
            [self.podctl, "delete", "--all", "--force"],
            [*self.podman, "pod", "rm", "-af", "-t", "0"],
            [*self.podman, "rm", "-af", "-t", "0"],
            # Ends the process in which podman keeps its user namespace.
            [*self.podman, "system", "migrate"],
            # What belongs to ids of the pods' goes with it.
            ["unshare", "--map-auto", "--map-root-user", "rm", "-rf", self.work, self.runtime],
        ):
            if shutil.which(command[0]):
                subprocess.run(command, capture_output=True)


def processes():
    mine = os.getuid()
    def of(entry):
        try:
            return entry.name.isdigit() and entry.stat().st_uid == mine
        except FileNotFoundError:
            return False  # It has ended meanwhile.

    return {int(entry.name) for entry in Path("/proc").iterdir() if of(entry)}
