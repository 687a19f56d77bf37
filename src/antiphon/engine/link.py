"""The connection to an engine child.

Frames are read where the loop hands their bytes over. A task that waited for them would be one more to wake for every
token, on the cores that the child works on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from antiphon.core.errors import EngineFailed
from antiphon.engine.frames import Command, Report, pack, reports_of


class Link(asyncio.Protocol):
    """One connection, from its making on.

    Attributes:
        first: the child's first report.
        lost: done when there will be no further one; says why.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[Report] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._rest = bytearray()
        self._early: list[Report] = []
        self._heard: Callable[[Report], None] = self._early.append

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        try:
            for report in reports_of(self._rest):
                if self.first.done():
                    self._heard(report)
                else:
                    self.first.set_result(report)
        except EngineFailed as error:
            self._end(error.reason)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._end("the engine's process ended")

    def follow(self, heard: Callable[[Report], None]) -> None:
        """Have each report behind the first one told."""
        early, self._early, self._heard = self._early, [], heard
        for report in early:
            heard(report)

    def send(self, command: Command) -> None:
        """Raises EngineFailed where the command is too large. What a child that is gone is told, nobody hears."""
        if self._transport is not None:
            self._transport.write(pack(command))

    def close(self) -> None:
        """End the connection, whatever is still on its way."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        if not self.first.done():
            self.first.cancel()
