"""Pushes and pulls small images. For steps that are not timed, or that are slow enough for Python."""

import hashlib
import http.client
import json
import os
from urllib.parse import urlsplit

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ACCEPT = ", ".join([
    MANIFEST_TYPE,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
])


def digest_of(data):
    """`sha256:<hex>` of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Client:
    """One kept connection to a registry."""

    def __init__(self, addr):
        host, port = addr.split(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def ask(self, method, target, body=None, headers=None, expect=(200,)):
        """One request; its headers and body, or an error where the status is not an expected one."""
        self.connection.request(method, target, body=body, headers=headers or {}, encode_chunked=not isinstance(body, (bytes, type(None))))
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status not in expect:
            raise RuntimeError(f"{method} {target}: {answer.status} {data[:300]!r}")
        return answer, data

    def push_blob(self, repo, data):
        """Pushes a blob as docker does: look, start, one streamed PATCH, and the closing PUT."""
        digest = digest_of(data)
        self.ask("HEAD", f"/v2/{repo}/blobs/{digest}", expect=(404, 200))
        answer, _ = self.ask("POST", f"/v2/{repo}/blobs/uploads/", body=b"", expect=(202,))
        headers = {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
        pieces = (data[at:at + 32768] for at in range(0, len(data), 32768))
        answer, _ = self.ask("PATCH", target_of(answer), body=pieces, headers=headers, expect=(202,))
        target = target_of(answer)
        self.ask("PUT", f"{target}{'&' if '?' in target else '?'}digest={digest}", body=b"", expect=(201,))
        return digest

    def push_image(self, repo, tag, layer_sizes):
        """Pushes an image of a config and new layers of these sizes; its manifest's bytes and its blobs' digests."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "id": os.urandom(8).hex()}).encode()
        layers = [os.urandom(size) for size in layer_sizes]
        blobs = [self.push_blob(repo, data) for data in [config, *layers]]
        manifest = json.dumps({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": blobs[0], "size": len(config)},
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": len(data)}
                for digest, data in zip(blobs[1:], layers)
            ],
        }).encode()
        self.put_manifest(repo, tag, manifest)
        return manifest, blobs

    def put_manifest(self, repo, tag, manifest):
        self.ask("PUT", f"/v2/{repo}/manifests/{tag}", body=manifest, headers={"Content-Type": MANIFEST_TYPE}, expect=(201,))

    def get_manifest(self, repo, reference):
        return self.ask("GET", f"/v2/{repo}/manifests/{reference}", headers={"Accept": ACCEPT})

    def copy_image(self, other, repo, tag, manifest, blobs):
        """Pushes the image of `other` to this registry, so that both serve the same bytes."""
        for digest in blobs:
            self.push_blob(repo, other.ask("GET", f"/v2/{repo}/blobs/{digest}")[1])
        self.put_manifest(repo, tag, manifest)


def target_of(answer):
    """The path and query of an answer's `Location`."""
    parts = urlsplit(answer.getheader("Location"))
    return parts.path + (f"?{parts.query}" if parts.query else "")
