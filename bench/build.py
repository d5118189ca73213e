"""Gets the programs of a run: the two registries, minio and the load tools, each built once into target/bench."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "target" / "bench"
GO_TOOLS = {
    "registry": "github.com/distribution/distribution/v3/cmd/registry@v3.1.2",
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
}
DEBIAN = {"wrk": "wrk", "nginx": "nginx-light", "openssl": "openssl", "go": "golang", "cargo": "rustup"}


def need(program):
    """Returns the path of an installed program. If it is missing, the error names its package."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if not found:
        raise SystemExit(f"bench: {program} is needed: install it (Debian: {DEBIAN[program]})")
    return found


def go_tool(name):
    """The path of a pinned Go program, installed on first use."""
    path = KEPT / "bin" / name
    if not path.exists():
        say(f"installing {GO_TOOLS[name]}")
        path.parent.mkdir(parents=True, exist_ok=True)
        run([need("go"), "install", GO_TOOLS[name]], env={**os.environ, "GOBIN": str(path.parent)})
    return str(path)


def load_tools():
    """The path of the load tools, built by cargo (which does nothing where nothing changed)."""
    target = KEPT / "cargo"
    run([need("cargo"), "build", "--quiet", "--release", "--locked"], cwd=ROOT / "bench" / "tools", env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    return str(target / "release" / "bench-tools")


def candidate(binary):
    """Returns the path of simple-registry: the named binary, or a release build of this tree."""
    if binary:
        return str(Path(binary).resolve())
    run([need("cargo"), "build", "--quiet", "--release", "--locked", "--bin", "simple-registry"], cwd=ROOT)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "simple-registry")


def run(command, **options):
    """Runs a build step to its end; its failure ends the run."""
    if subprocess.run(command, **options).returncode != 0:
        raise SystemExit(f"bench: failed: {' '.join(map(str, command))}")


def say(text):
    """One line of progress, on standard error: standard output is for the table."""
    import sys

    print(f"bench: {text}", file=sys.stderr, flush=True)
