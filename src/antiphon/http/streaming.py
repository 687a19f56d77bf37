"""The stream writer: a turn's events as server-sent events, with pings, and an end for every way a stream can end.

The status leaves when the seat is granted, or after a short wait in the queue; every refusal before that is a real HTTP
status, everything after it an `error` event (contract messages-and-inference 2.5). A client that goes away, or takes
nothing for too long, ends its turn within one engine step.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from antiphon.core.errors import AntiphonError, Internal, Overloaded
from antiphon.http.errors import body_of
from antiphon.http.exchange import ClientGone, Exchange, Headers
from antiphon.http.pipe import Pipe
from antiphon.observe.logs import whereabouts
from antiphon.turn import Turn
from antiphon.wire.events import Ping, StreamError, frame, frames

_HEADERS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class StreamLimits(msgspec.Struct, frozen=True):
    """Seconds: in the queue before the status leaves, of silence before a ping, of a reader taking nothing."""

    early_start: float
    ping: float
    stall: float


class Stream:
    """One streamed answer."""

    def __init__(self, exchange: Exchange, turn: Turn, limits: StreamLimits) -> None:
        self._exchange = exchange
        self._turn = turn
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._pipe = Pipe()
        self._producer = self._loop.create_task(turn.run(self._pipe))
        self._producer.add_done_callback(lambda _: self._pipe.end())
        self._sent = self._loop.time()
        self._sending_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[object] | None = None
        self._stalled = False

    async def write(self, headers: Headers) -> None:
        """Send the whole stream.

        Raises:
            AntiphonError: the turn was refused before the status had left.
        """
        reader = self._loop.create_task(self._until_gone())
        self._writer = asyncio.current_task()
        try:
            await self._begin(headers)
            while events := await self._pipe.take():
                await self._send(frames(events))
            await self._finish()
        except asyncio.CancelledError:
            if self._stalled and self._writer is not None:
                self._writer.uncancel()
                return
            await self._end_producer("shutdown")
            await self._fail(Overloaded("The server is stopping"))
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            reader.cancel()
            await self._end_producer("client_closed")

    async def _begin(self, headers: Headers) -> None:
        """Wait for the seat, but not for long; then promise an answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.early_start):
                await self._pipe.wait_granted()
        if self._producer.done():
            if self._producer.cancelled():
                raise ClientGone
            self._producer.result()  # raises what refused the turn: there is still time for a status
        await self._exchange.start(200, [*_HEADERS, *headers])
        await self._send(frames((self._turn.start(), Ping())))
        self._schedule()

    async def _end_producer(self, why: str) -> None:
        """See the turn through to its record."""
        if not self._producer.done():
            self._producer.cancel(why)
        await asyncio.wait([self._producer])

    async def _finish(self) -> None:
        """The turn has ended: well, with an error the client must hear of, or because the client is gone."""
        await asyncio.wait([self._producer])
        if self._producer.cancelled():
            self._exchange.note["ended"] = "early"
        elif (error := self._producer.exception()) is not None:
            await self._fail(error if isinstance(error, AntiphonError) else Internal(whereabouts(error)))
            return
        await self._exchange.send({"type": "http.response.body", "body": b""})

    async def _fail(self, error: AntiphonError) -> None:
        """End the stream with an `error` event; before the status has left, that is somebody else's to answer."""
        self._exchange.note["ended"] = "failed"
        self._exchange.failed(error)
        if self._exchange.status:
            event = frame(StreamError(body_of(error), self._exchange.request_id))
            await self._exchange.send({"type": "http.response.body", "body": event})

    async def _send(self, data: bytes) -> None:
        self._sending_since = self._loop.time()
        await self._exchange.send({"type": "http.response.body", "body": data, "more_body": True})
        self._sending_since = None
        self._sent = self._loop.time()

    def _schedule(self) -> None:
        """Look again when the next ping, or the end of patience with a stalled reader, may be due."""
        due = self._sent + self._limits.ping
        if self._sending_since is not None:
            due = self._sending_since + self._limits.stall
        now = self._loop.time()
        self._timer = self._loop.call_at(min(max(due, now + 0.01), now + self._limits.stall), self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        if self._sending_since is not None:
            if now - self._sending_since >= self._limits.stall and self._writer is not None:
                self._stalled = True
                self._exchange.note["ended"] = "stalled"
                self._producer.cancel("stalled")
                self._writer.cancel()
                return
        elif now - self._sent >= self._limits.ping:
            self._pipe.add(Ping())
        self._schedule()

    async def _until_gone(self) -> None:
        while True:
            message = await self._exchange.receive()
            if message["type"] == "http.disconnect":
                self._producer.cancel("client_closed")
                return
