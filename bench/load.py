"""Servers in processes of their own, and the load on them: `wrk`, which is C and never the slower side.

Both sides of a comparison are treated alike: the server on one core, everything that asks on another.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import msgspec
from rich.console import Console

_SCRIPT = Path(__file__).parent / "requests.lua"
_ROOT = Path(__file__).parent.parent
_START_SECONDS = 180.0
_SETTLE_SECONDS = 30.0
#: Idle is who takes less than this of the CPU in so long: one tick of the clock that Linux counts CPU time with.
_IDLE_CPU, _IDLE_SECONDS = 0.011, 0.3
#: Prompts of one run of `wrk` are numbered from a multiple of this.
_NUMBERS = 500_000


class Unmeasurable(Exception):
    """The bench cannot run here, or what it would measure is not what it should be."""


class Load(msgspec.Struct, frozen=True):
    """What one run of `wrk` saw. `refused` are statuses of 400 and above, `broken` are connections that failed."""

    requests: int
    seconds: float
    bytes: int
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class Wrk:
    """Sends raw requests, in turn, on one thread. Each run's prompts are new."""

    def __init__(self) -> None:
        self._runs = 0

    def run(self, port: int, requests: Sequence[Path], connections: int, seconds: int) -> Load:
        """Raises Unmeasurable where a connection broke."""
        self._runs += 1
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        command += ["--latency", "--script", str(_SCRIPT), f"http://127.0.0.1:{port}/", "--"]
        command += [str(self._runs * _NUMBERS), *map(str, requests)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            if line.startswith("RESULT "):
                load = msgspec.json.decode(line.removeprefix("RESULT "), type=Load)
                if load.broken or not load.requests:
                    raise Unmeasurable(f"wrk: {load.broken} connections broke, {load.requests} requests were answered")
                return load
        raise Unmeasurable(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")


class Server:
    """A server under test."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = port

    def check(self) -> None:
        """Raises Unmeasurable when it has ended."""
        if self._process.poll() is not None:
            raise Unmeasurable(f"a server ended:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")

    def wait_ready(self) -> None:
        """Wait until it takes connections."""
        began = time.monotonic()
        while time.monotonic() - began < _START_SECONDS:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise Unmeasurable(f"a server was not ready after {_START_SECONDS:.0f} s")

    @property
    def pid(self) -> int:
        return self._process.pid

    def rss_mb(self) -> float:
        """Memory that it holds."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text("utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise Unmeasurable("no VmRSS in /proc")

    def cpu_seconds(self) -> float:
        """What it has computed so far, all threads, user and system."""
        return _cpu_seconds(self._process.pid)

    def settle(self) -> None:
        """Wait until it has done what it does behind its answers, such as posting the journal to the database: neither
        may it be missing from the count of its CPU, nor be in the way of the next one's turn."""
        began, before = time.monotonic(), -1.0
        while (now := self.cpu_seconds()) - before > _IDLE_CPU:
            if time.monotonic() - began > _SETTLE_SECONDS:
                raise Unmeasurable(f"a server was still busy {_SETTLE_SECONDS:.0f} s after its last answer")
            before = now
            time.sleep(_IDLE_SECONDS)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Processes:
    """Processes that run as long as they are looked at."""

    def __init__(self) -> None:
        self._pids: list[int] = []

    def add(self, *pids: int) -> None:
        self._pids += pids

    def cpu_seconds(self) -> float:
        """What they have computed so far, all together."""
        return sum(_cpu_seconds(pid) for pid in self._pids)


class Bystanders:
    """How much of the machine was taken by what is neither the servers nor the load on them."""

    def __init__(self, *servers: Server | Processes) -> None:
        self._servers = servers
        self.cores = 0.0

    def __enter__(self) -> Bystanders:
        self._began, self._before = time.monotonic(), self._seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.cores = max(0.0, self._seconds() - self._before) / (time.monotonic() - self._began)

    def _seconds(self) -> float:
        # All cores together: user, nice, system, idle, waiting, interrupts (two, mostly of the load), stolen by a host.
        ticks = [int(field) for field in Path("/proc/stat").read_text("utf-8").partition("\n")[0].split()[1:9]]
        ours = sum(os.times()[:4]) + sum(each.cpu_seconds() for each in self._servers)
        return (sum(ticks[:3]) + ticks[7]) / os.sysconf("SC_CLK_TCK") - ours


@contextmanager
def server(
    arguments: Sequence[str], port: int, core: int | None, log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`python -m ARGUMENTS` pinned to a core (None: to none), ready, and ended with the block.

    Variables of Antiphon's own are not handed on: it runs with its defaults.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    mine = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})  # inherited by all of the child's threads
    try:
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdout=sink,
                stderr=sink,
                cwd=_ROOT,
                env=environment | dict(variables or {}),
            )
    finally:
        os.sched_setaffinity(0, mine)
    try:
        started = Server(process, port, log)
        started.wait_ready()
        yield started
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


class Leavers:
    """Clients that go away in the middle: they send a request, read the beginning of what comes, and hang up."""

    def __init__(self, port: int, requests: Sequence[Path], pause_s: float) -> None:
        self._port = port
        self._requests = cycle([path.read_bytes() for path in requests])
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.left = 0

    def __enter__(self) -> Leavers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 5) as connection:
                connection.sendall(next(self._requests))
                connection.settimeout(0.01)
                connection.recv(600)
            self.left += 1


def exchange(port: int, request: bytes) -> tuple[int, bytes]:
    """Status and body of one answer. The request must ask for the connection to be closed."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = _unchunked(body)
    return int(head.split(b" ", 2)[1]), body


def _unchunked(data: bytes) -> bytes:
    parts: list[bytes] = []
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        parts.append(rest[:length])
        data = rest[length + 2 :]
    return b"".join(parts)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that run yet."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if int(stat.read_text("utf-8", "replace").rpartition(")")[2].split()[1]) == pid:
                children.append(int(stat.parent.name))
    return children


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def two_cores() -> tuple[int, int]:
    """The core for servers and the one for load."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unmeasurable("two cores are needed: one for the server, one for the load")
    return cores[0], cores[1]


def need_wrk(out: Console) -> None:
    """Have `wrk`: from Debian's package, installed once, where that can be done without asking.

    Raises:
        Unmeasurable: it is not there and cannot be installed.
    """
    if sys.platform != "linux":
        raise Unmeasurable("this bench pins processes and reads /proc: it runs on Linux")
    if shutil.which("wrk"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unmeasurable("the load generator `wrk` is missing; on Debian and Ubuntu: sudo apt-get install wrk")
    out.print("The load generator `wrk` is missing; installing Debian's package, once.")
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "wrk"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not shutil.which("wrk"):
        raise Unmeasurable(f"`apt-get install wrk` failed: {done.stderr.strip()[-500:]}")
