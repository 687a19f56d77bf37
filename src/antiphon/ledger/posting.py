"""Posts the journal's records to the database: in batches, again after a failure, each one once.

Once, because the database refuses a second record of one request id; so it does no harm that a crash between
a commit and the checkpoint posts a batch twice. While the database is away the journal grows on the local
disk and requests go on (case A4). What is not posted when the server stops is posted by the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from sqlalchemy import exc

from antiphon.core.errors import AntiphonError
from antiphon.core.records import UsageRecord
from antiphon.ledger.folder import Position
from antiphon.ledger.journal import Journal
from antiphon.store import usage
from antiphon.store.database import Database, StoreUnavailable

_LONGEST_PAUSE_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.1
#: Between two batches of a backlog, so that catching up does not crowd out requests.
_BREATH_SECONDS = 0.01


class Unpostable(AntiphonError):
    """The database will never take one of these records, however often it is asked."""


#: Writes records, idempotently, and returns how many were new. Raises `StoreUnavailable` or `Unpostable`.
Post = Callable[[Sequence[UsageRecord]], Awaitable[int]]


class PostingFigures(msgspec.Struct, frozen=True):
    """For the metrics. `pending` records are on the disk and not in the database yet."""

    posted: int
    rejected: int
    pending: int
    batches: int
    failures: int
    last_error: str | None


class Posting:
    """Carries one journal to the database. `run` beside the server, once the journal is open; `drain` before it is
    closed."""

    def __init__(self, journal: Journal, post: Post, *, linger_s: float = 0.2, most: int = 200) -> None:
        """`linger_s`: how long records gather before they are posted, seconds. `most`: records in one batch,
        small enough that building its statement does not hold up the event loop."""
        self._journal = journal
        self._post = post
        self._linger_s = linger_s
        self._most = most
        self._moved: Position | None = None
        self._decoder = msgspec.msgpack.Decoder(UsageRecord)
        self._turn = asyncio.Lock()
        self._full = False
        self._posted = self._rejected = self._batches = self._failures = 0
        self._last_error: str | None = None

    @property
    def _position(self) -> Position:
        """Up to where the journal is in the database: at first, where the last process got to."""
        return self._journal.posted if self._moved is None else self._moved

    async def caught_up(self) -> None:
        """Post what is on the disk now, whoever wrote it.

        Raises:
            StoreUnavailable: the database does not answer. OSError: the journal cannot be read.
        """
        goal = self._journal.durable
        while self._position < goal and await self.step():
            pass

    async def run(self) -> None:
        """Post what there is and what comes. Until cancelled."""
        pause_s = 0.0
        while True:
            self._journal.grown.clear()
            try:
                await self._catch_up()
                pause_s = 0.0
            except (StoreUnavailable, OSError) as error:
                self._note(error)
                pause_s = min(max(pause_s * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            if pause_s:
                await asyncio.sleep(pause_s)
            else:
                await self._journal.grown.wait()
                await asyncio.sleep(self._linger_s)

    async def drain(self, seconds: float) -> bool:
        """Post what is left, for at most this long. True if nothing is left; what is waits for the next start."""
        try:
            async with asyncio.timeout(seconds):
                while await self.step():
                    pass
        except (TimeoutError, StoreUnavailable, OSError) as error:
            self._note(error)
            return False
        return self._position >= self._journal.durable

    async def step(self) -> bool:
        """Post one batch; False if there was none.

        Raises:
            StoreUnavailable: the database does not answer; nothing is lost.
            OSError: the journal's disk cannot be read, or cannot take a record that has to be set aside.
        """
        async with self._turn:
            if self._position >= self._journal.durable:
                return False
            batch = await self._journal.read(self._position, self._most)
            self._full = len(batch.payloads) == self._most
            if batch.payloads:
                await self._post_all(batch.payloads)
            moved = batch.end > self._position
            self._moved = batch.end
            if moved:
                await self._mark(batch.end)
            return moved

    def figures(self) -> PostingFigures:
        journal = self._journal.figures()
        done = self._posted + self._rejected
        return PostingFigures(
            posted=self._posted,
            rejected=self._rejected,
            pending=journal.leftover + journal.appended - done,
            batches=self._batches,
            failures=self._failures,
            last_error=self._last_error,
        )

    async def _mark(self, posted: Position) -> None:
        try:
            await asyncio.to_thread(self._journal.folder.mark, posted)
        except OSError as error:
            # The records are in the database: on a full disk the checkpoint may lag, the posting goes on.
            self._note(error)

    async def _catch_up(self) -> None:
        """Batch by batch. Not close together unless they are full: a small one costs nearly as much."""
        while True:
            if not await self.step():
                return
            await asyncio.sleep(_BREATH_SECONDS if self._full else self._linger_s)

    async def _post_all(self, payloads: Sequence[bytes]) -> None:
        try:
            await self._post([self._decoder.decode(payload) for payload in payloads])
            self._posted += len(payloads)
        except (Unpostable, msgspec.DecodeError):
            # One bad record must not keep the others, and all that come after, from being posted.
            for payload in payloads:
                await self._post_one(payload)
        self._batches += 1
        self._last_error = None

    async def _post_one(self, payload: bytes) -> None:
        try:
            await self._post([self._decoder.decode(payload)])
            self._posted += 1
        except (Unpostable, msgspec.DecodeError) as error:
            await asyncio.to_thread(self._journal.folder.reject, payload)
            self._rejected += 1
            self._last_error = f"a record was set aside: {error}"

    def _note(self, error: Exception) -> None:
        self._failures += 1
        self._last_error = error.reason if isinstance(error, StoreUnavailable) else str(error)


def into(database: Database) -> Post:
    """Posting into the tables of `store.usage`."""

    async def post(records: Sequence[UsageRecord]) -> int:
        try:
            async with database.transaction() as connection:
                return await usage.post(connection, records)
        except (OverflowError, UnicodeError) as error:
            raise Unpostable(type(error).__name__) from error
        except exc.DBAPIError as error:
            if _refuses_the_data(error):
                raise Unpostable(type(error).__name__) from error
            # Anything else, a missing table for one, is the database's state and not the records' fault.
            raise StoreUnavailable(str(error.args[0])) from error

    return post


def _refuses_the_data(error: exc.DBAPIError) -> bool:
    """Whether the fault lies in what was to be written: SQL state class 22, where the driver tells it."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, exc.DataError | exc.IntegrityError) or state.startswith("22")
