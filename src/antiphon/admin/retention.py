"""Removes what is past its time: acts of the audit after six years, kept requests after some days."""

from __future__ import annotations

import asyncio

import msgspec
import structlog
from sqlalchemy.exc import IntegrityError

from antiphon.core.clock import Clock
from antiphon.store import activities, request_logs
from antiphon.store.activities import KEPT_MS
from antiphon.store.database import Database, StoreUnavailable

_log = structlog.get_logger()

DAY_MS = 24 * 3600 * 1000
#: A day more than the database insists on, so that its clock and ours need not agree.
_ACTIVITIES_MS = KEPT_MS + DAY_MS
_PAUSE_SECONDS = 3600.0
#: Requests that are removed in one transaction, and the breath after it: they are large, and others write too.
_MOST = 200
_BREATH_SECONDS = 0.05


class Removed(msgspec.Struct, frozen=True):
    """How much there was to remove."""

    activities: int
    requests: int


class Retention:
    """Looks once an hour. `run` it beside the server; several servers may."""

    def __init__(self, database: Database, clock: Clock, *, request_days: int) -> None:
        """`request_days`: how long requests and answers are kept where they are kept at all, days from 1."""
        self._database = database
        self._clock = clock
        self._request_days = request_days

    async def run(self) -> None:
        """Until cancelled. What fails is tried again an hour later."""
        while True:
            try:
                await self.prune()
            except StoreUnavailable as error:
                _log.warning("retention.failed", reason=error.reason)
            except IntegrityError:
                _log.warning("retention.failed", reason="the database's clock is behind ours by more than a day")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def prune(self) -> Removed:
        """Remove what is past its time now.

        Raises:
            StoreUnavailable: the database does not answer.
            IntegrityError: the clocks differ too much; nothing of the audit is removed then.
        """
        now_ms = self._clock.now_ms()
        requests = await self._requests(now_ms - self._request_days * DAY_MS)
        async with self._database.transaction() as connection:
            acts = await activities.prune(connection, now_ms - _ACTIVITIES_MS)
        if requests or acts:
            _log.info("retention.removed", requests=requests, activities=acts)
        return Removed(acts, requests)

    async def _requests(self, before_ms: int) -> int:
        removed = 0
        while True:
            async with self._database.transaction() as connection:
                count = await request_logs.prune(connection, before_ms, _MOST)
            removed += count
            if count < _MOST:
                return removed
            await asyncio.sleep(_BREATH_SECONDS)
