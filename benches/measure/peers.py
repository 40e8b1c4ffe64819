"""The peers and how they come here."""
import os, subprocess, sys, time
from pathlib import Path

PACKAGES = "e2fsprogs podman crun conmon catatonit netavark aardvark-dns slirp4netns fuse-overlayfs iptables protobuf-compiler wrk util-linux".split()
# podman's helpers, of which crates.io has newer ones than Debian. (youki starts an ordinary user's containers by systemd alone.)
CRATES = ["netavark", "aardvark-dns"]


def build_newer():
    """Builds the peers that come as crates, once; gives those that could be built. It takes some minutes."""
    root = Path("target/peers").resolve()
    for crate in CRATES:
        program = root / "bin" / crate
        command = ["cargo", "install", "--quiet", "--locked", "--root", root, crate]
        if not program.exists():
            subprocess.run(list(map(str, command)), env={**os.environ, "CARGO_TARGET_DIR": str(root / "build")})
        if program.exists():
            yield program
        else:
            print(f"bench: {crate} cannot be built here, and is left out", file=sys.stderr)


def busy_share():
    """The part of the processors' time that is taken now, while nothing is measured."""
    def read():
        times = list(map(int, open("/proc/stat").readline().split()[1:9]))
        return sum(times), times[3] + times[4]

    (all_before, idle_before), _, (all_after, idle_after) = read(), time.sleep(3), read()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)
