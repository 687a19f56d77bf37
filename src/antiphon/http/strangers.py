"""How often the log speaks of callers that nobody knows."""

from __future__ import annotations

from antiphon.core.clock import Clock

_LINES_PER_SECOND = 20


class Strangers:
    """Bounds the log lines of requests that were refused before their caller was known: whoever sends wrong keys as
    fast as a network can would fill the disk otherwise (faults B12). The metrics count all of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._lines = 0
        self._left_out = 0

    def line(self) -> int | None:
        """Take a line of this second: how many were left out since the last one, or None where none is left."""
        second = int(self._clock.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= _LINES_PER_SECOND:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
