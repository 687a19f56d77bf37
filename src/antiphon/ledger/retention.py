"""Retention of usage records: those past their days become sums by hour, in portions, beside the server.

Reports stay exact (`store.reports`); what is lost is the single request. Several processes may do this at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from antiphon.core.clock import Clock
from antiphon.store.database import Database, StoreUnavailable
from antiphon.store.reports import DAY_MS
from antiphon.store.rollups import of_installation, roll_up

#: Records in one transaction: few, because on SQLite it keeps other writers waiting.
_PORTION = 500
#: Between two portions, so that catching up does not crowd out requests.
_BREATH_SECONDS = 0.05


class RetentionFigures(msgspec.Struct, frozen=True):
    """For the metrics."""

    rolled_up: int
    rounds: int
    failures: int
    last_error: str | None


class UsageRetention:
    """Looks after the usage records of a database. `run` beside the server.

    Args:
        days: how long a record stays.
        settled: whether everything in this process's journal has been posted. Nothing is rolled up before: a record
            that was posted just before a crash is posted again after it, and is known by its row (architecture, rule
            5).
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        days: int,
        settled: Callable[[], bool] = lambda: True,
        every_s: float = 600.0,
    ) -> None:
        self._database = database
        self._clock = clock
        self._days = days
        self._settled = settled
        self._every_s = every_s
        self._rolled_up = self._rounds = self._failures = 0
        self._last_error: str | None = None

    async def run(self) -> None:
        """Look after them again and again. Until cancelled."""
        while True:
            try:
                await self.round()
            except StoreUnavailable as error:  # the next round does what this one left
                self._failures += 1
                self._last_error = error.reason
            await asyncio.sleep(self._every_s)

    async def round(self) -> int:
        """Roll up all that is past its days; returns how many records those were.

        Raises:
            StoreUnavailable: the database does not answer. What was done by then is done.
        """
        if not self._settled():
            return 0
        before_ms = self._clock.now_ms() - self._days * DAY_MS
        async with self._database.reading() as connection:
            organizations = await of_installation(connection)
        done = sum([await self._organization(organization, before_ms) for organization in organizations])
        self._rounds += 1
        self._last_error = None
        return done

    def figures(self) -> RetentionFigures:
        return RetentionFigures(self._rolled_up, self._rounds, self._failures, self._last_error)

    async def _organization(self, organization: str, before_ms: int) -> int:
        done, portion = 0, _PORTION
        while portion == _PORTION:
            async with self._database.transaction() as connection:
                portion = await roll_up(organization, connection, before_ms, most=_PORTION)
            done += portion
            self._rolled_up += portion
            if portion == _PORTION:
                await asyncio.sleep(_BREATH_SECONDS)
        return done
