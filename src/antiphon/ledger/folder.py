"""The journal's folder: segments, the checkpoint, the lock. Blocking calls, made from threads.

    00000000000000000007.log    a segment: header and frames; the last one is appended to
    posted                      how far posting has come (a segment's number and an offset)
    rejected                    frames that the database will never take, for a person to look at
    *.damaged                   a segment with damage in its middle, kept

Numbers only go up, so a checkpoint can never point into a newer segment than the one it meant.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Lock

import msgspec

from antiphon.core.errors import SettingsError
from antiphon.ledger.framing import HEADER, LARGEST, OVERHEAD, framed, frames
from antiphon.store.database import private_folder

_START = len(HEADER)
#: Bytes read at once; at least one whole frame is in them.
_CHUNK = 2 * (LARGEST + OVERHEAD)


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the journal: all before it has been dealt with."""

    segment: int
    offset: int


class Batch(msgspec.Struct, frozen=True):
    """Payloads in the order they were written, and the position behind them."""

    payloads: tuple[bytes, ...]
    end: Position


class Leftover(msgspec.Struct, frozen=True):
    """What an earlier process left: where posting goes on, how many records wait, how much was cut off."""

    posted: Position
    pending: int
    next_segment: int
    cut_bytes: int


class JournalFolder:
    """One process's journal on disk. Only the checkpoint needs a lock: a cancelled drain may still be moving it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._checkpoint = Lock()
        self._posted = Position(0, 0)
        self.damaged = 0

    def open(self) -> Leftover:
        """Take the folder, cut a torn tail, and see what is left to post.

        Raises:
            SettingsError: another process owns the folder, or it cannot be used.
        """
        try:
            private_folder(self.path)
            self._lock = os.open(self.path, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._posted = self._read_checkpoint()
            self.discard_before(self._posted.segment)
            return self._look_over()
        except (OSError, SettingsError) as error:
            self.close()
            if isinstance(error, BlockingIOError):
                raise SettingsError(f"Another server writes the journal {self.path}") from None
            raise SettingsError(f"The journal {self.path} cannot be used: {error}") from None

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def segment(self, number: int) -> Path:
        return self.path / f"{number:020d}.log"

    def read(self, start: Position, end: Position, most: int) -> Batch:
        """At most `most` payloads between two positions. Empty and `end` reached: there is nothing more.

        Raises:
            OSError: the disk does not answer.
        """
        while start < end:
            data, sealed = self._chunk(start, end)
            found = list(islice(frames(data), most))
            if found:
                reached = max(start.offset, _START) + found[-1][1]
                return Batch(tuple(payload for payload, _ in found), Position(start.segment, reached))
            if not sealed:
                break
            if data:
                self._put_aside(start.segment)
            start = self._following(start.segment, end)
        return Batch((), start)

    def mark(self, posted: Position) -> None:
        """Remember durably how far posting has come, and drop what lies wholly before. Never moves back.

        The files go first: on a full disk that may be what makes room for the checkpoint. A checkpoint that
        lags costs only time, because posting is idempotent.

        Raises:
            OSError: the disk is full or does not answer.
        """
        with self._checkpoint:
            if posted <= self._posted:
                return
            self.discard_before(posted.segment)
            fresh = self.path / "posted.new"
            write_durably(fresh, framed(msgspec.msgpack.encode(posted)), os.O_TRUNC)
            fresh.replace(self.path / "posted")
            sync_folder(self.path)
            self._posted = posted

    def reject(self, payload: bytes) -> None:
        """Keep a payload that cannot be posted.

        Raises:
            OSError: the disk is full or does not answer.
        """
        write_durably(self.path / "rejected", framed(payload), os.O_APPEND)

    def discard_before(self, segment: int) -> None:
        for number in self._numbers():
            if number < segment:
                self.segment(number).unlink(missing_ok=True)

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self.path.glob("*.log") if path.stem.isdecimal())

    def _look_over(self) -> Leftover:
        numbers = self._numbers()
        pending = cut = 0
        for number in numbers:
            data = self.segment(number).read_bytes()
            ends = self._ends(number, data)
            if number == numbers[-1]:
                cut = max(0, len(data) - (ends[-1] if ends else _START))
                if cut:
                    self._cut(number, len(data) - cut)
            past = self._posted.offset if number == self._posted.segment else 0
            pending += sum(1 for end in ends if end > past)
        following = max([*numbers, self._posted.segment]) + 1
        return Leftover(self._posted, pending, following, cut)

    def _ends(self, number: int, data: bytes) -> list[int]:
        """Where a segment's whole frames end."""
        if data.startswith(HEADER):
            return [end for _, end in frames(data, _START)]
        if HEADER.startswith(data) or not data.strip(b"\0"):
            return []  # the process died while it made the file
        # Another version's journal must not be mistaken for a torn tail and cut.
        raise SettingsError(f"{self.segment(number).name} was not written by this version")

    def _cut(self, number: int, size: int) -> None:
        """Drop the torn tail of the segment that was being written when the process died. Nobody was told
        that it is durable."""
        with _opened(self.segment(number), os.O_WRONLY) as descriptor:
            os.ftruncate(descriptor, size)
            _sync(descriptor)

    def _read_checkpoint(self) -> Position:
        try:
            data = (self.path / "posted").read_bytes()
        except FileNotFoundError:
            return Position(0, 0)
        for payload, _ in frames(data):
            with suppress(msgspec.DecodeError):
                return msgspec.msgpack.decode(payload, type=Position)
        return Position(0, 0)  # post all of it again, which changes nothing

    def _chunk(self, start: Position, end: Position) -> tuple[bytes, bool]:
        """Bytes from `start` on, and whether no more will ever come to this segment."""
        sealed = start.segment < end.segment
        offset = max(start.offset, _START)
        size = _CHUNK if sealed else min(_CHUNK, end.offset - offset)
        try:
            with _opened(self.segment(start.segment), os.O_RDONLY) as descriptor:
                return os.pread(descriptor, max(size, 0), offset), sealed
        except FileNotFoundError:
            return b"", sealed

    def _following(self, segment: int, end: Position) -> Position:
        later = [number for number in self._numbers() if segment < number <= end.segment]
        return Position(later[0] if later else end.segment, 0)

    def _put_aside(self, number: int) -> None:
        path = self.segment(number)
        path.rename(path.with_suffix(".damaged"))
        self.damaged += 1


class Appender:
    """Writes groups of frames to the end of the journal. Used by one thread."""

    def __init__(self, folder: JournalFolder, first_segment: int, segment_bytes: int) -> None:
        self._folder = folder
        self._segment = first_segment - 1
        self._segment_bytes = segment_bytes
        self._descriptor = -1
        self._good = 0
        self._torn = False
        self._spent = True

    def append(self, data: bytes) -> Position:
        """Write and sync; the position behind the data, which is durable then.

        After an error nothing of `data` counts: it is cut off again, now or before the next append, so the
        journal heals by itself when there is room again.

        Raises:
            OSError: the disk is full or does not answer.
        """
        if self._torn:
            self._mend()
        if self._spent or self._good + len(data) > self._segment_bytes:
            self._next_segment()
        try:
            _write_all(self._descriptor, data, self._good)
            _sync(self._descriptor)
        except OSError:
            self._torn = True
            with suppress(OSError):
                self._mend()
            raise
        self._good += len(data)
        return Position(self._segment, self._good)

    def close(self) -> None:
        if self._torn:
            with suppress(OSError):
                self._mend()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._spent = True

    def _mend(self) -> None:
        """Cut off what an append left half-written. The segment is not used again: after a failed sync nobody
        knows what of it is on the disk (the lesson of PostgreSQL's fsync errors, 2018)."""
        os.ftruncate(self._descriptor, self._good)
        _sync(self._descriptor)
        self._torn = False
        self._spent = True

    def _next_segment(self) -> None:
        path = self._folder.segment(self._segment + 1)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write_all(descriptor, HEADER, 0)
            _sync(descriptor)
            sync_folder(self._folder.path)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            raise
        self.close()
        self._descriptor = descriptor
        self._segment += 1
        self._good = _START
        self._spent = False


def write_durably(path: Path, data: bytes, flags: int) -> None:
    with _opened(path, os.O_WRONLY | os.O_CREAT | flags) as descriptor:
        _write_all(descriptor, data, os.fstat(descriptor).st_size)
        _sync(descriptor)


def _sync(descriptor: int) -> None:
    """Have the disk keep a file's bytes and its size; not its times, which would cost a second write."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # there, fsync stops at the disk's own cache
    else:
        os.fdatasync(descriptor)


def sync_folder(path: Path) -> None:
    """Make new names in a folder durable."""
    with _opened(path, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        # A disk that fills up takes a part first, and refuses the rest with the next call.
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
