"""The buffer between a turn and the client that reads it: bounded, and lossless.

A client that lags makes the buffer grow; first its text deltas are merged, then the turn waits. So memory per stream is
bounded whatever the client does, and a fast client gets one write per engine step (architecture, rule 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from antiphon.wire.events import ContentBlockDelta, Event, InputJsonDelta, TextDelta

#: Events that may stand before their text deltas are merged.
_MERGE_ABOVE = 64
#: Characters of text that may stand before the turn waits.
_WAIT_ABOVE = 256 * 1024


class Pipe:
    """One stream's buffer. One side puts, the other takes."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._characters = 0
        self._ended = False
        self._granted = False
        self._taker: asyncio.Future[None] | None = None
        self._putter: asyncio.Future[None] | None = None

    def granted(self) -> None:
        """The turn has its seat."""
        self._granted = True
        self._wake_taker()

    async def put(self, events: Sequence[Event]) -> None:
        """Add events; wait while the buffer is full."""
        for event in events:
            if type(event) is ContentBlockDelta:
                delta = event.delta
                self._characters += len(delta.text if isinstance(delta, TextDelta) else delta.partial_json)
        self._events += events
        if len(self._events) > _MERGE_ABOVE:
            self._events = merge(self._events)
        self._wake_taker()
        while self._characters > _WAIT_ABOVE:
            self._putter = asyncio.get_running_loop().create_future()
            await self._putter

    def add(self, event: Event) -> None:
        """Add one small event without waiting, e.g. a ping."""
        self._events.append(event)
        self._wake_taker()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._wake_taker()

    async def wait_granted(self) -> None:
        """Wait until the turn has its seat, has put something, or has ended."""
        while not (self._granted or self._events or self._ended):
            await self._wait()

    async def take(self) -> list[Event]:
        """All that stands in the buffer; empty once the end is reached."""
        while not self._events and not self._ended:
            await self._wait()
        events, self._events, self._characters = self._events, [], 0
        if self._putter is not None and not self._putter.done():
            self._putter.set_result(None)
        return events

    async def _wait(self) -> None:
        self._taker = asyncio.get_running_loop().create_future()
        try:
            await self._taker
        finally:
            self._taker = None

    def _wake_taker(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)


def merge(events: Sequence[Event]) -> list[Event]:
    """The same stream with neighbouring deltas of one kind and block joined into one."""
    out: list[Event] = []
    pieces: list[str] = []
    last: tuple[int, type[TextDelta | InputJsonDelta]] = (0, TextDelta)
    for event in events:
        if not isinstance(event, ContentBlockDelta):
            _join(last, pieces, out)
            out.append(event)
            continue
        delta = event.delta
        this = (event.index, type(delta))
        if this != last:
            _join(last, pieces, out)
            last = this
        pieces.append(delta.text if isinstance(delta, TextDelta) else delta.partial_json)
    _join(last, pieces, out)
    return out


def _join(which: tuple[int, type[TextDelta | InputJsonDelta]], pieces: list[str], out: list[Event]) -> None:
    if pieces:
        index, kind = which
        out.append(ContentBlockDelta(index, kind("".join(pieces))))
        pieces.clear()
