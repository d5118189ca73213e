"""Measures requests to the bucket, and the time of the last step of a push."""

import hashlib
import hmac
import time
import urllib.error
import urllib.request

from images import Client
from measure import guarded, median
from report import at_most, count, milliseconds, size as show_size, speed
from servers import BUCKET_SECRET, BUCKET_USER, REGION, Counter, Minio

MIB = 1 << 20
REPO = "bench/app"
# Longer than a registry may answer for a tag without asking the bucket (simple-registry's `cache_ttl` is 2 s by default).
CACHE_SECONDS = 2.5


def create_bucket(addr, bucket):
    """Makes a bucket by one request with an AWS signature, version 4. Repeats the request while minio is not ready."""
    begun = time.monotonic()
    while True:
        try:
            return urllib.request.urlopen(bucket_request(addr, bucket), timeout=30).close()
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() - begun > 60:
                raise
            time.sleep(0.1)


def bucket_request(addr, bucket):
    now = time.gmtime()
    day, stamp = time.strftime("%Y%m%d", now), time.strftime("%Y%m%dT%H%M%SZ", now)
    nothing = hashlib.sha256(b"").hexdigest()
    headers = {"host": addr, "x-amz-content-sha256": nothing, "x-amz-date": stamp}
    names = ";".join(headers)
    canonical = "\n".join(["PUT", f"/{bucket}", "", *(f"{key}:{value}" for key, value in headers.items()), "", names, nothing])
    scope = f"{day}/{REGION}/s3/aws4_request"
    key = ("AWS4" + BUCKET_SECRET).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
    authorization = f"AWS4-HMAC-SHA256 Credential={BUCKET_USER}/{scope}, SignedHeaders={names}, Signature={signature}"
    return urllib.request.Request(f"http://{addr}/{bucket}", method="PUT", headers={**headers, "authorization": authorization})


def measure(run):
    table = run.table(
        "On S3",
        "Both on one minio on this machine, each in its bucket and behind a proxy that counts. *Bytes written* are those sent to the bucket and those it was told to copy.",
    )
    minio = Minio(run.minio(), run.work / "minio")
    minio.start()
    proxies = [Counter(run.tools, run.work / f"count-{bucket}", minio, bucket) for bucket in ("ours", "theirs")]
    for proxy in proxies:
        proxy.start()
        create_bucket(minio.addr, proxy.bucket)
    both = [run.make_candidate("s3-ours", proxies[0]), run.make_distribution("s3-theirs", proxies[1])]
    for server in both:
        server.start()
    guarded(table, "bytes written", lambda: written(run, table, both))
    guarded(table, "an image", lambda: image(table, both))
    guarded(table, "final PUT", lambda: final_put(run, table, both))
    guarded(table, "memory", lambda: memory(run, table, both))
    for server in (*both, *proxies, minio):
        server.stop()
        server.wipe()


def written(run, table, both):
    for size, mode in ((100, "stream"), (100, "mono")):
        found = []
        for server in both:
            server.s3.take()
            run.tool("push", addr=server.addr, repo=REPO, size=size * MIB, mode=mode)
            counts = server.s3.take()
            found.append((counts["received"] + counts["copied"]) / (size * MIB))
            if counts["unknown_copies"]:
                table.notes.append(f"{server.name}: {counts['unknown_copies']} copies of objects of unknown size are not in the bytes written.")
        # Records and sessions of a push are far below a hundredth of its bytes.
        goal = at_most(round(found[0], 2), 1.0, "1.00")
        table.compare(f"bytes written per byte pushed, {size} MiB, {'streamed' if mode == 'stream' else 'monolithic'}", *found, lambda v: f"{v:.2f}", less=True, goals=[goal])


def image(table, both):
    rows = {"push": [], "tag": [], "later": [], "digest": [], "pull": []}
    for server in both:
        client, take = Client(server.addr), server.s3.take
        client.push_image(REPO, "warm-up", [1 * MIB])
        take()
        pushes = []
        for number in range(5):
            manifest, blobs = client.push_image(REPO, f"v{number}", [1 * MIB])
            pushes.append(take())
        pushes.sort(key=lambda counts: counts["requests"])
        middle = pushes[len(pushes) // 2]
        rows["push"].append(middle["requests"])
        operations = ", ".join(f"{name} {n}" for name, n in sorted(middle["operations"].items()))
        table.notes.append(f"{server.name}, push of an image: {operations}.")
        answer, _ = client.get_manifest(REPO, "v4")
        digest = answer.getheader("Docker-Content-Digest")
        rows["tag"].append(per_request(take, lambda: client.get_manifest(REPO, "v4")))
        rows["later"].append(per_request(take, lambda: client.get_manifest(REPO, "v4"), repeats=3, pause=CACHE_SECONDS))
        rows["digest"].append(per_request(take, lambda: client.get_manifest(REPO, digest)))

        def pull():
            client.get_manifest(REPO, "v4")
            for blob in blobs:
                answer, _ = client.ask("GET", f"/v2/{REPO}/blobs/{blob}", expect=(200, 307))
                # Where a registry sends its client to the bucket, that request counts too.
                if answer.status == 307:
                    urllib.request.urlopen(answer.getheader("Location"), timeout=60).read()

        rows["pull"].append(per_request(take, pull))
    add = lambda name, key, goals=(): table.compare(name, *rows[key], count, less=True, goals=list(goals))
    add("requests per push of an image of two blobs", "push", [at_most(rows["push"][0], 30, "30 or fewer")])
    add("requests per manifest by tag, warm", "tag", [at_most(rows["tag"][0], 1, "1")])
    add(f"requests per manifest by tag, {CACHE_SECONDS:g} s after the last", "later", [at_most(rows["later"][0], 1, "1")])
    add("requests per manifest by digest, warm", "digest", [at_most(rows["digest"][0], 1, "none or 1")])
    add("requests per pull of that image (tag and two blobs), warm", "pull")


def per_request(take, act, repeats=10, pause=0):
    """S3 requests for one `act`: once unseen to be warm, then the mean of `repeats`, `pause` seconds before each."""
    act()
    take()
    for _ in range(repeats):
        time.sleep(pause)
        act()
    return take()["requests"] / repeats


def final_put(run, table, both):
    medians = {}
    sizes = run.pick([1, 10, 100], [1, 100, 1024])
    for size in sizes:
        def push(server):
            return lambda: run.tool("push", addr=server.addr, repo=REPO, size=size * MIB, mode="stream", count=4 if size < 100 else 1)

        results = run.turns({"ours": push(both[0]), "theirs": push(both[1])})
        medians[size] = [median(results[who], "final_put_ms") for who in ("ours", "theirs")]
        table.compare(f"final PUT of a streamed push, {size:,} MiB", *medians[size], milliseconds, less=True)
        table.compare("… the whole push", *(median(results[who], "bytes_per_second") for who in ("ours", "theirs")), speed)
    small, large = medians[sizes[0]], medians[sizes[-1]]
    growth = [large[n] / small[n] for n in (0, 1)]
    goal = at_most(growth[0], 1.5, "the same (at most 1.5)")
    table.compare(f"final PUT, {sizes[-1]:,} MiB over {sizes[0]} MiB", *growth, lambda v: f"{v:.1f}", less=True, goals=[goal])


def memory(run, table, both):
    size = run.pick(20, 100)
    per_upload = []
    for server in both:
        server.restart()
        before = server.memory("VmRSS")
        run.tool("push", addr=server.addr, repo=REPO, size=size * MIB, mode="stream", clients=16)
        per_upload.append((server.memory("VmHWM") - before) / 16)
    goal = at_most(per_upload[0], 16 * MIB, "16 MiB or less")
    table.compare(f"memory for each of 16 uploads of {size} MiB at once", *per_upload, show_size, less=True, goals=[goal])
