"""Antiphon as `bench.cache` serves it: one engine, one model, and what the server itself tells of both."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from bench import subject
from bench.cache_parts.asking import Antiphon, Texts, antiphon
from bench.load import Server, Unmeasurable, children_of, exchange

SEATS = 4
_METRICS = b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
_READY = b"GET /health/ready HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
_RESTARTS = "antiphon_engine_restarts"
_RESTART_SECONDS = 180.0
_CHILD = b"antiphon.engine.children"


class Counted(msgspec.Struct, frozen=True):
    """A metric, all its series together. `known`: the server has such a metric; `estimated`: a series says that it
    was not measured."""

    value: float
    known: bool
    estimated: bool


class Watched:
    """A server, and one client for each of its workspaces."""

    def __init__(self, server: Server, clients: Sequence[Antiphon]) -> None:
        self.server = server
        self.clients = clients

    @property
    def client(self) -> Antiphon:
        """The only workspace's."""
        (client,) = self.clients
        return client

    def counted(self, name: str, label: str = "") -> Counted:
        """A metric, when all that was answered is in it. See `read_metric`."""
        self.server.settle()
        return read_metric(self._metrics(), name, label)

    def children(self) -> list[int]:
        """The processes that the libraries run in."""
        found = []
        for pid in children_of(self.server.pid):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if _CHILD in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def kill_engine(self) -> float:
        """Kill the library's process, and wait until another one answers. Returns the seconds that this took."""
        before, children = read_metric(self._metrics(), _RESTARTS).value, self.children()
        if len(children) != 1:
            raise Unmeasurable(f"the server has {len(children)} engines, not one")
        began = time.monotonic()
        os.kill(children[0], signal.SIGKILL)
        while read_metric(self._metrics(), _RESTARTS).value == before or exchange(self.server.port, _READY)[0] != 200:
            self.server.check()
            if time.monotonic() - began > _RESTART_SECONDS:
                raise Unmeasurable(f"the engine was not back after {_RESTART_SECONDS:.0f} s")
            time.sleep(0.05)
        return time.monotonic() - began

    def _metrics(self) -> bytes:
        return exchange(self.server.port, _METRICS)[1]


@contextmanager
def watched(folder: Path, engine: str, texts: Texts, workspaces: Sequence[str] = ()) -> Iterator[Watched]:
    """Antiphon's defaults with this engine and the texts' model, in a data folder of its own, for these workspaces: the
    default one where none is named."""
    folder.mkdir()
    (folder / "models").symlink_to(folder.parent / "models")
    configure(folder, engine, texts.model)
    keys = [
        subject.command("keys", "create", "--quiet", *named, "--home", str(folder))
        for named in ([["--workspace", name] for name in workspaces] or [[]])
    ]
    with ExitStack() as stack:
        server = stack.enter_context(subject.served_as_set(folder))
        clients = [stack.enter_context(antiphon(server.port, key, texts)) for key in keys]
        yield Watched(server, clients)


def configure(folder: Path, engine: str, model: str) -> None:
    """The settings of a data folder."""
    text = f'engine = "{engine}"\nmodels = ["{model}"]\nseats = {SEATS}\n'
    (folder / "antiphon.toml").write_text(text, "utf-8")


def read_metric(exposition: bytes, name: str, label: str = "") -> Counted:
    """What Prometheus' text format tells of a counter or gauge; of its series those alone with this label, written as
    it is there."""
    stem = re.escape(name.encode()) + rb"(?:_total)?"
    rows = re.findall(rb"^%s(\{[^\n]*\})? (\S+)" % stem, exposition, re.MULTILINE)
    rows = [(labels, value) for labels, value in rows if label.encode() in labels]
    known = re.search(rb"^# TYPE %s " % stem, exposition, re.MULTILINE) is not None
    return Counted(
        sum(float(value) for _, value in rows), known, any(b"estimated" in labels.lower() for labels, _ in rows)
    )
