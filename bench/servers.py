"""The contestants and their helpers as processes: started on a free port of 127.0.0.1, asked until they answer, stopped."""

import atexit
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from images import ACCEPT

RUNNING = []
START_LIMIT = 60
REGION, BUCKET_USER, BUCKET_SECRET = "us-east-1", "benchuser", "benchsecret"


def free_port():
    """Returns a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One process with an address; `dir` is its own folder, wiped by `fresh`."""

    def __init__(self, name, folder, health="/v2/"):
        self.name, self.health = name, health
        self.dir = Path(folder)
        self.port = free_port()
        self.addr = f"127.0.0.1:{self.port}"
        self.process = None
        self.context = None  # of the `ssl` module, where the server speaks TLS

    def command(self):
        """The command line; called at each start, so it may write configuration files first."""
        raise NotImplementedError

    def environment(self):
        return {}

    def start(self, wait=True):
        """Starts the process and waits until it answers; returns the seconds from one to the other."""
        self.dir.mkdir(parents=True, exist_ok=True)
        command = self.command()
        log = open(self.dir.parent / f"{self.dir.name}.log", "ab")
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir, env={**os.environ, **self.environment()}
        )
        log.close()
        RUNNING.append(self)
        return self.await_answer(self.health, begun) if wait else 0

    def await_answer(self, path, begun):
        """Asks for `path` until the answer is 200; the seconds since `begun`."""
        while True:
            try:
                client = self.connect()
                client.request("GET", path, headers={"Accept": ACCEPT})
                status = client.getresponse().status
                client.close()
                if status == 200:
                    return time.perf_counter() - begun
                problem = f"status {status}"
            except OSError as error:
                problem = str(error)
            if problem.startswith("status 4") or self.process.poll() is not None or time.perf_counter() - begun > START_LIMIT:
                raise RuntimeError(f"{self.name} does not answer on {path}: {problem}; its log ends: {self.log_end()}")
            time.sleep(0.0005)

    def connect(self):
        """Opens a connection to the server, over TLS if the server speaks TLS."""
        if self.context:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=START_LIMIT, context=self.context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_LIMIT)

    def log_end(self):
        """Returns the end of the process's output."""
        return (self.dir.parent / f"{self.dir.name}.log").read_text(errors="replace")[-600:].strip()

    def stop(self):
        """Ends the process: asked first, after ten seconds killed."""
        if self in RUNNING:
            RUNNING.remove(self)
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def fresh(self):
        """Starts over with nothing stored."""
        self.stop()
        self.wipe()
        self.start()

    def wipe(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def memory(self, field):
        """`VmRSS` (now) or `VmHWM` (the peak) of the process, in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"{self.name}: no {field} in its status")

    def processor_seconds(self):
        """Returns the processor time of the process, in user and kernel mode."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Distribution(Server):
    """CNCF distribution: logs off, deletes on, the in-memory descriptor cache on, no tracing, no purging in between.

    `cache_of`: the address of a registry whose cache it is. `logs`: with a line for each request.
    """

    def __init__(self, binary, folder, s3=None, name="distribution", cache_of=None, logs=False):
        super().__init__(name, folder)
        self.binary, self.s3, self.cache_of, self.logs = binary, s3, cache_of, logs

    def command(self):
        storage = f"  filesystem:\n    rootdirectory: {self.dir}/store\n"
        if self.s3:
            storage = (
                f"  s3:\n    accesskey: {BUCKET_USER}\n    secretkey: {BUCKET_SECRET}\n    region: {REGION}\n"
                f"    regionendpoint: http://{self.s3.addr}\n    bucket: {self.s3.bucket}\n    forcepathstyle: true\n    secure: false\n"
            )
        text = (
            f"version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: {str(not self.logs).lower()}\n"
            "storage:\n  delete:\n    enabled: true\n  cache:\n    blobdescriptor: inmemory\n"
            "  maintenance:\n    uploadpurging:\n      enabled: false\n" + storage +
            f"http:\n  addr: {self.addr}\n  secret: bench\n  headers:\n    X-Content-Type-Options: [nosniff]\n"
        )
        if self.cache_of:
            text += f"proxy:\n  remoteurl: http://{self.cache_of}\n"
        (self.dir / "config.yml").write_text(text)
        return [self.binary, "serve", str(self.dir / "config.yml")]

    def environment(self):
        return {"OTEL_TRACES_EXPORTER": "none"}

    def blob_file(self, digest):
        """Where a blob's bytes lie, below `dir`: nginx serves this very file."""
        algorithm, hexadecimal = digest.split(":")
        return f"store/docker/registry/v2/blobs/{algorithm}/{hexadecimal[:2]}/{hexadecimal}/data"

    def sent(self):
        """Returns method, path and bytes of each answer so far, by the log of requests."""
        text = (self.dir.parent / f"{self.dir.name}.log").read_text(errors="replace")
        lines = re.findall(r'"(GET|HEAD) (/v2/\S+) HTTP/[\d.]+" \d+ (\d+)', text)
        return [(method, path, int(size)) for method, path, size in lines]


class Candidate(Server):
    """simple-registry, open to everyone, logs at error and no line per request."""

    def __init__(self, binary, folder, s3=None, name="simple-registry"):
        super().__init__(name, folder, health="/healthz")
        self.binary, self.s3 = binary, s3
        self.store = self.dir / "store"
        # Tables at the end of the configuration.
        self.tables = ""
        # Access policies of the configuration; keys of the root come first.
        self.access = '[access_policy]\ndefault_allow = true\n\n[repository."*".access_policy]\ndefault_allow = true\n\n'

    def command(self):
        self.store.mkdir(exist_ok=True)
        storage = f'[storage.fs]\nroot_dir = "{self.store}"\n'
        if self.s3:
            storage = (
                f'[storage.s3]\naccess_key_id = "{BUCKET_USER}"\nsecret_key = "{BUCKET_SECRET}"\nregion = "{REGION}"\n'
                f'endpoint = "http://{self.s3.addr}"\nbucket = "{self.s3.bucket}"\nkey_prefix = "bench"\n'
            )
        text = (
            f'{self.access}[server]\nbind_address = "127.0.0.1"\nport = {self.port}\n\n{storage}\n'
            '[observability.logs]\nlevel = "error"\nrequests = false\n'
            f"{self.tables}"
        )
        (self.dir / "config.toml").write_text(text)
        return [self.binary, "-c", str(self.dir / "config.toml"), "server"]


class Nginx(Server):
    """nginx as a plain file server, as fast as its manual makes it; over TLS where it gets certificates.

    Over TLS `sendfile` would change nothing where the kernel does not encrypt: nginx then reads, encrypts and writes.
    """

    def __init__(self, binary, folder, root, certificates=None):
        super().__init__("nginx", folder, health="/alive")
        self.binary, self.root, self.certificates = binary, root, certificates
        self.context = certificates.context if certificates else None

    def tls(self):
        """Returns the configuration for TLS 1.3 with client certificates, as the registry beside it has."""
        if not self.certificates:
            return ""
        return (
            f"ssl_certificate {self.certificates.cert}; ssl_certificate_key {self.certificates.key}; ssl_protocols TLSv1.3;\n"
            f"  ssl_client_certificate {self.certificates.ca}; ssl_verify_client optional; ssl_conf_command Options KTLS; output_buffers 2 128k;\n"
        )

    def command(self):
        user = "user root;" if os.geteuid() == 0 else ""
        (self.dir / "nginx.conf").write_text(
            f"{user} daemon off; worker_processes {os.cpu_count()}; pid {self.dir}/pid; error_log stderr error;\n"
            "events { worker_connections 1024; }\n"
            "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n"
            f"  client_body_temp_path {self.dir}/a; proxy_temp_path {self.dir}/b; fastcgi_temp_path {self.dir}/c;\n"
            f"  uwsgi_temp_path {self.dir}/d; scgi_temp_path {self.dir}/e;\n"
            f"  {self.tls()} server {{ listen {self.addr}{' ssl' * bool(self.certificates)}; location = /alive {{ return 200; }} location / {{ root {self.root}; }} }} }}\n"
        )
        return [self.binary, "-c", str(self.dir / "nginx.conf"), "-p", str(self.dir)]


class Responder(Server):
    """Runs a bare hyper responder with one fixed answer: the limit of any hyper server on this machine."""

    def __init__(self, tools, folder, body, headers):
        super().__init__("hyper responder", folder, health="/")
        self.tools, self.body, self.headers = tools, body, headers

    def command(self):
        (self.dir / "body").write_bytes(self.body)
        command = [self.tools, "respond", "--listen", self.addr, "--body", str(self.dir / "body")]
        return command + [word for key, value in self.headers for word in ("--header", f"{key}: {value}")]


class Minio(Server):
    """An S3 server on a directory."""

    def __init__(self, binary, folder):
        super().__init__("minio", folder, health="/minio/health/ready")
        self.binary = binary

    def command(self):
        (self.dir / "data").mkdir(exist_ok=True)
        return [self.binary, "server", str(self.dir / "data"), "--quiet", "--address", self.addr, "--console-address", f"127.0.0.1:{free_port()}"]

    def environment(self):
        return {"MINIO_ROOT_USER": BUCKET_USER, "MINIO_ROOT_PASSWORD": BUCKET_SECRET, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}


class Counter(Server):
    """The counting proxy in front of minio, one for each contestant, with the contestant's bucket."""

    def __init__(self, tools, folder, minio, bucket):
        super().__init__(f"counter of {bucket}", folder, health="/minio/health/live")
        self.tools, self.minio, self.bucket = tools, minio, bucket
        self.control = free_port()

    def command(self):
        return [self.tools, "count", "--listen", self.addr, "--to", self.minio.addr, "--control", f"127.0.0.1:{self.control}"]

    def take(self):
        """The counts since the last call."""
        import json

        client = http.client.HTTPConnection("127.0.0.1", self.control, timeout=10)
        client.request("GET", "/")
        counts = json.loads(client.getresponse().read())
        client.close()
        return counts


def stop_all():
    """Stops all running servers, last started first."""
    for server in reversed(list(RUNNING)):
        server.stop()


def stop_at_exit():
    """Leaves no process behind, however the run ends short of a SIGKILL."""
    atexit.register(stop_all)
    signal.signal(signal.SIGTERM, lambda *_: raise_exit())


def raise_exit():
    raise SystemExit("bench: ended by SIGTERM")
