"""Keeps what was asked and answered, for workspaces that have this switched on; off for all others.

Nothing here slows a request or fails it. An entry is filled while its answer is sent; what is finished waits in a
queue that is bounded in number and bytes, and a task of its own carries it to the database. What finds no room is
dropped, and counted: this is a log, and not the ledger.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec
from sqlalchemy import exc

from antiphon.core.clock import Clock
from antiphon.core.records import Scope
from antiphon.store import request_logs
from antiphon.store.database import Database, StoreUnavailable
from antiphon.store.request_logs import RequestLog

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
#: Entries in one transaction.
_BATCH = 50
_MEBIBYTE = 1024 * 1024


class Bounds(msgspec.Struct, frozen=True):
    """How much is kept. `entry_bytes`: of one request, and as much of its answer. `bytes` and `entries`: of all that
    are under way or wait to be written."""

    entry_bytes: int = _MEBIBYTE
    bytes: int = 64 * _MEBIBYTE
    entries: int = 2000


class RequestLogFigures(msgspec.Struct, frozen=True):
    """For the metrics. `waiting` are finished and not written yet; `dropped` will never be."""

    written: int
    dropped: int
    waiting: int
    held_bytes: int
    last_error: str | None


class Entry:
    """One request under way: `add` what is sent of its answer, then `close` it."""

    def __init__(self, keeper: Keeper, scope: Scope, request_id: str, created_ms: int, request: bytes) -> None:
        self.scope = scope
        self.request_id = request_id
        self.created_ms = created_ms
        self.request = request
        self.pieces: list[bytes] = []
        self.held = len(request)
        self.answered = 0
        self._keeper = keeper
        self._open = True

    def add(self, piece: bytes) -> None:
        """Something that was sent."""
        if not self._open:
            return
        room = max(0, self._keeper.bounds.entry_bytes - self.answered)
        self.answered += len(piece)
        if kept := piece[:room]:
            if not self._keeper.has_room(len(kept)):
                self._open = False
                self._keeper.drop(self)
                return
            self._keeper.held += len(kept)
            self.held += len(kept)
            self.pieces.append(kept)

    def close(self) -> None:
        """Nothing more will be sent. A second time this does nothing."""
        if self._open:
            self._open = False
            self._keeper.enqueue(self)

    def log(self) -> RequestLog:
        """What is to be written."""
        answer = _marked(b"".join(self.pieces), self.answered)
        return RequestLog(self.request_id, self.scope, self.created_ms, self.request, answer)


class Keeper:
    """Keeps requests. `run` it beside the server, `drain` it when the server stops."""

    def __init__(self, database: Database, clock: Clock, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.held = 0
        self._database = database
        self._clock = clock
        self._waiting: deque[Entry] = deque()
        self._under_way = 0
        self._come = asyncio.Event()
        self._written = self._dropped = 0
        self._last_error: str | None = None

    def begin(self, scope: Scope, request_id: str, request: bytes) -> Entry | None:
        """Begin to keep a request, whose body this is; None where there is no room for it."""
        kept = _marked(request[: self.bounds.entry_bytes], len(request))
        full = self._under_way + len(self._waiting) >= self.bounds.entries
        if full or not self.has_room(len(kept)):
            self._dropped += 1
            return None
        self.held += len(kept)
        self._under_way += 1
        return Entry(self, scope, request_id, self._clock.now_ms(), kept)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes may be held besides."""
        return self.held + size <= self.bounds.bytes

    def enqueue(self, entry: Entry) -> None:
        """An entry is finished."""
        self._under_way -= 1
        self._waiting.append(entry)
        self._come.set()

    def drop(self, entry: Entry) -> None:
        """An entry that is under way has found no room."""
        self._under_way -= 1
        self._let_go(entry)

    def figures(self) -> RequestLogFigures:
        return RequestLogFigures(self._written, self._dropped, len(self._waiting), self.held, self._last_error)

    async def run(self) -> None:
        """Write what is finished, again after a failure. Until cancelled."""
        pause_s = _FIRST_PAUSE_SECONDS
        while True:
            await self._come.wait()
            try:
                await self._write_some()
                pause_s = _FIRST_PAUSE_SECONDS
            except StoreUnavailable as error:
                self._last_error = error.reason
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Write what still waits, for at most this long; the rest is dropped. `run` has been cancelled before."""
        try:
            async with asyncio.timeout(seconds):
                while self._waiting:
                    await self._write_some()
        except (TimeoutError, StoreUnavailable) as error:
            self._last_error = str(getattr(error, "reason", None) or "not written in time")
        while self._waiting:
            self._let_go(self._waiting.popleft())

    async def _write_some(self) -> None:
        batch = [self._waiting[place] for place in range(min(_BATCH, len(self._waiting)))]
        written = await self._write([entry.log() for entry in batch])
        # Only now: what is cancelled meanwhile is written by `drain`, and twice does no harm.
        for entry in batch:
            self._waiting.popleft()
            self.held -= entry.held
        self._written += written
        self._dropped += len(batch) - written
        if not self._waiting:
            self._come.clear()

    async def _write(self, logs: list[RequestLog]) -> int:
        """How many were written: one that the database will never take stops no other."""
        try:
            async with self._database.transaction() as connection:
                await request_logs.put(connection, logs)
        except exc.SQLAlchemyError as error:
            self._last_error = type(error).__name__
            if len(logs) == 1:
                return 0
            return sum([await self._write([log]) for log in logs])
        self._last_error = None
        return len(logs)

    def _let_go(self, entry: Entry) -> None:
        self.held -= entry.held
        self._dropped += 1


def _marked(kept: bytes, size: int) -> bytes:
    """What was kept of so many bytes, with a word at its end where that is not all."""
    return kept if len(kept) == size else kept + b"\n[cut off here: %d bytes in all]" % size
