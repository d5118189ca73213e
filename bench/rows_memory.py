"""Memory: resident when idle, and the peak of large and of many transfers."""

import time

from measure import guarded
from report import at_most, size as show

MIB = 1 << 20
REPO = "bench/memory"
IDLE_SECONDS = 2


def measure(run):
    table = run.table(
        "Memory",
        "Resident memory: idle two seconds after the start (`VmRSS`), and the peak of a process that did this one thing (`VmHWM`). One round.",
    )
    ours, theirs = run.make_candidate("memory-ours"), run.make_distribution("memory-theirs")
    large, many = run.pick(1024, 5 * 1024), run.pick(50, 100)
    steps = [
        (f"push of {large / 1024:g} GiB, streamed", {"mode": "stream", "size": large, "clients": 1}),
        (f"push of {large / 1024:g} GiB, monolithic", {"mode": "mono", "size": large, "clients": 1}),
        (f"16 pushes of {many} MiB at once, streamed", {"mode": "stream", "size": many, "clients": 16}),
        (f"16 pushes of {many} MiB at once, monolithic", {"mode": "mono", "size": many, "clients": 16}),
    ]
    guarded(table, "idle", lambda: idle(run, table, ours, theirs))
    for number, (name, options) in enumerate(steps):
        guarded(table, name, lambda: transfers(run, table, ours, theirs, name, options, pull=number % 2 == 0))
    for server in (ours, theirs):
        server.stop()
        server.wipe()


def idle(run, table, ours, theirs):
    found = []
    for server in (ours, theirs):
        run.check_time()
        server.fresh()
        time.sleep(IDLE_SECONDS)
        found.append(server.memory("VmRSS"))
    table.compare("idle", *found, show, less=True, goals=[at_most(found[0], 16 * MIB, "under 16 MiB")])


def transfers(run, table, ours, theirs, name, options, pull):
    """Adds rows for the peak of a push, of the pull of the same bytes, and for the memory afterwards."""
    pushed, pulled, after = [], [], []
    for server in (ours, theirs):
        run.check_time()
        server.fresh()
        size, clients = options["size"] * MIB, options["clients"]
        done = run.tool("push", addr=server.addr, repo=REPO, size=size, mode=options["mode"], clients=clients)
        pushed.append(server.memory("VmHWM"))
        if pull:
            server.restart()
            path = f"/v2/{REPO}/blobs/{done['digests'][0]}"
            run.tool("pull", addr=server.addr, path=path, size=size, clients=clients, min_requests=clients)
            pulled.append(server.memory("VmHWM"))
        time.sleep(IDLE_SECONDS)
        after.append(server.memory("VmRSS"))
        server.stop()
        server.wipe()

    def row(label, found):
        table.compare(label, *found, show, less=True, goals=[at_most(found[0], 64 * MIB, "under 64 MiB")])

    row(name, pushed)
    if pull:
        row(name.split(",")[0].replace("pushes", "pulls").replace("push", "pull"), pulled)
        table.compare("… idle afterwards", *after, show, less=True)
