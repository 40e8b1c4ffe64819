#!/usr/bin/env python3
"""Writes an image as an OCI layout directory.

usage: oci_layout.py LAYOUT NAME CONFIG_JSON LAYER.tar…

LAYOUT/  gets oci-layout, index.json and blobs; each LAYER.tar becomes a gzip layer, in order.
NAME     is put into the index as org.opencontainers.image.ref.name (a full reference such as
         docker.io/library/busybox:1.36); an image of the same name is replaced.
CONFIG_JSON is the image config's `config` object: {"Cmd": [...], "Env": [...], ...}.
The result depends on the input only: times in the config and the gzip header are fixed.
"""
import gzip
import hashlib
import json
import os
import platform
import shutil
import sys

OCI = "application/vnd.oci.image."
REF = "org.opencontainers.image.ref.name"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}


def put_blob(layout, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(layout, "blobs/sha256", digest), "wb") as out:
        out.write(data)
    return "sha256:" + digest, len(data)


def put_json(layout, value, media_type):
    digest, size = put_blob(layout, json.dumps(value).encode())
    return {"mediaType": OCI + media_type, "digest": digest, "size": size}


def put_layer(layout, tar_path):
    """Compresses one layer into a blob; returns its descriptor and its diff id."""
    diff, tmp = hashlib.sha256(), os.path.join(layout, "layer.tmp")
    with open(tar_path, "rb") as tar, open(tmp, "wb") as raw:
        with gzip.GzipFile("", "wb", 1, raw, mtime=0) as out:
            while chunk := tar.read(1 << 20):
                diff.update(chunk)
                out.write(chunk)
    with open(tmp, "rb") as raw:
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
    shutil.move(tmp, os.path.join(layout, "blobs/sha256", digest))
    size = os.path.getsize(os.path.join(layout, "blobs/sha256", digest))
    layer = {"mediaType": OCI + "layer.v1.tar+gzip", "digest": "sha256:" + digest, "size": size}
    return layer, "sha256:" + diff.hexdigest()


def main(layout, name, config, *tars):
    os.makedirs(os.path.join(layout, "blobs/sha256"), exist_ok=True)
    layers, diff_ids = zip(*(put_layer(layout, tar) for tar in tars))
    platform_of = {"architecture": ARCH[platform.machine()], "os": "linux"}
    image = {
        "created": "2024-01-01T00:00:00Z",
        **platform_of,
        "config": json.loads(config),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"layer {n}"} for n in range(len(layers))],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": put_json(layout, image, "config.v1+json"),
        "layers": layers,
    }
    entry = put_json(layout, manifest, "manifest.v1+json")
    entry |= {"platform": platform_of, "annotations": {REF: name}}

    index_path = os.path.join(layout, "index.json")
    index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": []}
    if os.path.exists(index_path):
        with open(index_path) as old:
            index = json.load(old)
    others = [m for m in index["manifests"] if m["annotations"][REF] != name]
    index["manifests"] = others + [entry]
    with open(index_path, "w") as out:
        json.dump(index, out, indent=1)
    with open(os.path.join(layout, "oci-layout"), "w") as out:
        json.dump({"imageLayoutVersion": "1.0.0"}, out)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
