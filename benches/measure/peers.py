"""The peers and how they come here."""
import os, subprocess, sys
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
