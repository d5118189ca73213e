"""Writes stores of very many blobs as files, as a long use of the registry would leave them."""

import concurrent.futures
import hashlib
import json
import os
import time
import uuid
from pathlib import Path

from images import MANIFEST_TYPE

# Blobs of one image: a config and its layers.
BLOBS = 10
# Images of one repository.
IMAGES = 100
TOP = 2**64 - 1


def make(root, blobs):
    """Writes a store of tagged images with ten blobs each, and returns the number of blobs. All files are a week old, so no lease protects them."""
    root = Path(root)
    images = blobs // BLOBS
    root.mkdir(parents=True)
    (root / "format").write_text('{"layout":2}\n')
    repositories = range((images + IMAGES - 1) // IMAGES)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(repository, [root] * len(repositories), repositories, [min(IMAGES, images - at * IMAGES) for at in repositories], chunksize=8))
    return images * BLOBS


def repository(root, number, images):
    """One repository of so many images."""
    name = f"r{number:06}"
    at = int(time.time() * 1000) - 7 * 86_400_000
    stamp = json.dumps({"at": at, "by": {"identity": "bench", "request": "bench"}}, separators=(",", ":")).encode()
    week_ago = at / 1000

    def write(key, content):
        path = f"{root}/{key}"
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        if content:
            os.write(file, content)
        os.utime(file, (week_ago, week_ago))
        os.close(file)

    write(f"catalog/{name}!/{number:016x}", stamp)
    for image in range(images):
        attempt = f"{number * IMAGES + image:016x}"
        layers = []
        for blob in range(BLOBS):
            content = f"{name} {image} {blob}".encode()
            digest = hashlib.sha256(content).hexdigest()
            place = str(uuid.UUID(bytes=hashlib.md5(content).digest(), version=4))
            segment = {"offset": 0, "size": len(content), "attempt": attempt}
            fact = {"size": len(content), "segments": [segment], "at": at, "by": {"identity": "bench", "request": "bench"}}
            write(f"data/{place[:2]}/{place}/{0:020}-{attempt}", content)
            write(f"blobs/sha256/{digest[:2]}/{digest}/copy.{place}", json.dumps(fact, separators=(",", ":")).encode())
            layers.append((digest, len(content)))
        manifest = json.dumps({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{layers[0][0]}", "size": layers[0][1]},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{digest}", "size": size} for digest, size in layers[1:]],
        }).encode()
        digest = hashlib.sha256(manifest).hexdigest()
        for blob, _ in layers:
            # its content is for people, and would take a page of memory each
            write(f"blobs/sha256/{blob[:2]}/{blob}/in/{name}!/pin.sha256.{digest}.{attempt}", b"")
        header = json.dumps({"media_type": MANIFEST_TYPE, "at": at, "by": {"identity": "bench", "request": "bench"}}, separators=(",", ":"))
        write(f"repos/{name}!/manifests/sha256/{digest}/{TOP - at:016x}.put.{attempt}", header.encode() + b"\n" + manifest)
        write(f"repos/{name}!/tags/v{image}!/{TOP - at:016x}.is.sha256.{digest}.{at:016x}", stamp)
