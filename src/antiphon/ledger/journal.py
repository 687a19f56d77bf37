"""The journal: `append` returns when the record is on the disk (architecture, rule 5).

One thread writes. The event loop collects records while the thread is busy with a group, and hands all of
them over as the next group when it comes back: one write, one `fdatasync` and one wake-up of the loop for as
many records as there are. All state but the file belongs to the loop, so there is nothing to lock.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from pathlib import Path

import msgspec

from antiphon.core.errors import Internal
from antiphon.core.records import UsageRecord
from antiphon.ledger.folder import Appender, Batch, JournalFolder, Leftover, Position
from antiphon.ledger.framing import framed

_SEGMENT_BYTES = 16 * 1024 * 1024
_QUEUE_BYTES = 64 * 1024 * 1024
_STOPPED = "the writer stopped"


class JournalFailed(Internal):
    """The record is not on the disk: the disk is full or broken, or the journal is closed."""


class JournalFigures(msgspec.Struct, frozen=True):
    """For the metrics. `leftover` records and `cut_bytes` come from before the start."""

    appended: int
    groups: int
    failed: int
    bytes: int
    queued: int
    leftover: int
    cut_bytes: int
    damaged: int
    last_error: str | None


class _Group(msgspec.Struct, frozen=True):
    data: bytes
    waiters: list[asyncio.Future[None]]


class Journal:
    """One process's journal, in a folder of its own. `open` before use, `close` after."""

    def __init__(self, path: Path, *, segment_bytes: int = _SEGMENT_BYTES, queue_bytes: int = _QUEUE_BYTES) -> None:
        """`path`: e.g. `<home>/journal/<server's name>`. `queue_bytes`: what may wait for the disk; more is refused."""
        self.folder = JournalFolder(path)
        #: Set when something was appended; posting clears it.
        self.grown = asyncio.Event()
        self._segment_bytes = segment_bytes
        self._queue_bytes = queue_bytes
        self._encoder = msgspec.msgpack.Encoder()
        self._left = Leftover(Position(0, 0), 0, 1, 0)
        self._durable = Position(0, 0)
        self._frames: list[bytes] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._queued_bytes = 0
        self._handed: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._open = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._appended = self._groups = self._failed = self._bytes = 0
        self._last_error: str | None = None

    async def open(self) -> None:
        """Take the folder, cut a torn tail, start the writer.

        Raises:
            SettingsError: another process owns the folder, or it cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._left = await asyncio.to_thread(self.folder.open)
        self._durable = Position(self._left.next_segment, 0)
        appender = Appender(self.folder, self._left.next_segment, self._segment_bytes)
        self._thread = threading.Thread(target=self._write, args=(appender,), name="antiphon-journal", daemon=True)
        self._thread.start()
        self._open = True

    async def close(self) -> None:
        """Write what is queued and let go of the folder. Records that come after are refused."""
        if self._open:
            self._open = False
            await self._quiet.wait()
        if self._thread is not None:
            self._handed.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self.folder.close()

    async def append(self, record: UsageRecord) -> None:
        """Return when the record is on the disk. A caller that is cancelled while it waits takes nothing back.

        Raises:
            JournalFailed: it does not count as written, and is cut off again (by the next start at the latest, but for
                the whole records of a group that a crash of the process leaves half-written).
        """
        if not self._open:
            raise JournalFailed("the journal is closed")
        frame = framed(self._encoder.encode(record))
        if self._queued_bytes + len(frame) > self._queue_bytes:
            self._failed += 1
            raise JournalFailed("the disk is too slow: the journal's queue is full")
        waiter = self._loop.create_future()
        if not self._frames and not self._busy:
            # Not at once: whatever else this turn of the loop appends comes along.
            self._loop.call_soon(self._hand_over)
        self._frames.append(frame)
        self._waiters.append(waiter)
        self._queued_bytes += len(frame)
        self._quiet.clear()
        await waiter

    @property
    def posted(self) -> Position:
        """How far posting had come when the journal was opened."""
        return self._left.posted

    @property
    def durable(self) -> Position:
        """The end of what is on the disk."""
        return self._durable

    async def read(self, start: Position, most: int) -> Batch:
        """At most `most` payloads from `start` on.

        Raises:
            OSError: the disk does not answer.
        """
        return await asyncio.to_thread(self.folder.read, start, self._durable, most)

    def figures(self) -> JournalFigures:
        return JournalFigures(
            appended=self._appended,
            groups=self._groups,
            failed=self._failed,
            bytes=self._bytes,
            queued=len(self._frames),
            leftover=self._left.pending,
            cut_bytes=self._left.cut_bytes,
            damaged=self.folder.damaged,
            last_error=self._last_error,
        )

    def _hand_over(self) -> None:
        if self._busy or not self._frames:
            return
        group = _Group(b"".join(self._frames), self._waiters)
        self._frames, self._waiters, self._queued_bytes = [], [], 0
        self._busy = True
        self._handed.put(group)

    def _write(self, appender: Appender) -> None:
        """The writer thread. Whatever happens, those who wait hear of it."""
        try:
            while (group := self._handed.get()) is not None:
                outcome: Position | str = _STOPPED
                try:
                    outcome = appender.append(group.data)
                except OSError as error:
                    outcome = error.strerror or str(error)
                finally:
                    self._loop.call_soon_threadsafe(self._written, group, outcome)
        finally:
            appender.close()
            self._loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        """The writer is gone: in the course of things, or because of a defect; then nobody may wait for it."""
        self._open = False
        while not self._handed.empty():
            if (group := self._handed.get_nowait()) is not None:
                _settle(group, _STOPPED)
        rest = _Group(b"", self._waiters)
        self._frames, self._waiters, self._queued_bytes = [], [], 0
        _settle(rest, _STOPPED)
        self._quiet.set()

    def _written(self, group: _Group, outcome: Position | str) -> None:
        self._busy = False
        if isinstance(outcome, Position):
            self._durable = outcome
            self._appended += len(group.waiters)
            self._groups += 1
            self._bytes += len(group.data)
            self._last_error = None
            self.grown.set()
            _settle(group, None)
        else:
            self._failed += len(group.waiters)
            self._last_error = outcome
            _settle(group, outcome)
        if self._frames:
            self._hand_over()
        else:
            self._quiet.set()


def _settle(group: _Group, failure: str | None) -> None:
    for waiter in group.waiters:
        if waiter.done():  # its request went away meanwhile
            continue
        if failure is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(JournalFailed(f"the journal cannot be written: {failure}"))
