"""Which embedded models are in memory: loaded on demand within a budget, and those longest unused go first.

    use      a request for a model that is not here has it brought, and waits for it (its client gets pings), or is
             refused at once where the operator wants that
    bring    one at a time, in order of asking; room is made by ending models that nobody uses, and, where all are in
             use, by letting one run out: whoever comes for it meanwhile waits for its next turn
    stay     a model that was just brought keeps its place for a while, so that two that do not fit together take
             turns and do not chase each other

Who is loaded is decided here; how one is kept alive once it is, by its own supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import structlog

from antiphon.core.clock import Clock
from antiphon.core.errors import EngineFailed, Overloaded
from antiphon.core.records import Scope
from antiphon.engine.contract import Description, Engine, Health, Priority, Prompt, Remembered, Seat, TellsRemembered

_log = structlog.get_logger()

#: How long a model that was just brought is left in peace by others that need its room, in seconds.
_STAY_SECONDS = 20.0
#: How often is looked for models that have been idle for too long, in seconds.
_LOOK_SECONDS = 1.0
#: What a client that is refused while a model loads is told to wait, in seconds.
_RETRY_SECONDS = 5
#: The longest time between two tries to load a model that cannot be loaded, in seconds.
_LONGEST_PAUSE = 30.0


class OnDemand(msgspec.Struct, frozen=True, kw_only=True):
    """How models are brought and let go. `budget` in bytes, times in seconds; `idle_seconds` 0 is for ever."""

    budget: int
    waiting: int
    wait_seconds: float
    refuse: bool = False
    idle_seconds: float = 0.0
    stay_seconds: float = _STAY_SECONDS


class Residents:
    """The models that share one budget."""

    def __init__(self, rules: OnDemand, clock: Clock) -> None:
        self.rules = rules
        self._clock = clock
        self._all: list[ResidentEngine] = []
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def add(self, resident: ResidentEngine) -> None:
        self._all.append(resident)

    @property
    def taken(self) -> int:
        """Bytes of the budget that are spoken for."""
        return sum(resident.need for resident in self._all if resident.here)

    def fits(self, need: int) -> bool:
        return self.taken + need <= self.rules.budget

    def start(self) -> None:
        """Begin to let go of models that nobody uses, where that is asked for."""
        if self.rules.idle_seconds and self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
            self._looking = None

    def changed(self) -> None:
        """Somebody stopped using a model: who waits for room looks again."""
        self._changed.set()

    async def bring(self, wanted: ResidentEngine) -> None:
        """Load a model, making room for it first.

        Raises:
            EngineFailed: it cannot be loaded.
        """
        async with self._one_at_a_time:
            if wanted.here:
                return
            try:
                await self._make_room(wanted)
            finally:
                for resident in self._all:
                    resident.leaving = False
            await wanted.load()

    async def _make_room(self, wanted: ResidentEngine) -> None:
        while not self.fits(wanted.need):
            here = sorted((resident for resident in self._all if resident.here), key=lambda one: one.used)
            idle = next((resident for resident in here if not resident.users), None)
            if idle is not None:
                await self._let_go(idle, f"room for {wanted.name}")
                continue
            self._changed.clear()
            now = self._clock.monotonic()
            stayed = [resident for resident in here if now - resident.since >= self.rules.stay_seconds]
            if stayed and not any(resident.leaving for resident in here):
                stayed[0].leaving = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK_SECONDS)

    async def _let_go(self, resident: ResidentEngine, why: str) -> None:
        _log.info("engine.evicted", model=resident.name, why=why)
        await resident.unload()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            async with self._one_at_a_time:
                for resident in self._all:
                    unused = self._clock.monotonic() - resident.used
                    if resident.here and not resident.users and unused >= self.rules.idle_seconds:
                        await self._let_go(resident, f"unused for {unused:.0f} s")


class ResidentEngine:
    """An engine that is in memory while it is needed. Implements `contract.Engine` around another.

    Args:
        name: the model's, for the log.
        need: bytes that it takes while it is loaded.
        check: what has to hold each time it has been loaded. Raises EngineFailed where it does not.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        need: int,
        residents: Residents,
        clock: Clock,
        check: Callable[[], Awaitable[None]],
    ) -> None:
        self.name = name
        self.need = need
        self.here = False
        self.leaving = False
        self.users = 0
        self.used = 0.0
        self.since = 0.0
        self.engine = engine
        self._residents = residents
        self._clock = clock
        self._check = check
        self._coming: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._trouble = ""
        self._failures = 0
        self._again_at = 0.0
        residents.add(self)

    def describe(self) -> Description:
        return self.engine.describe()

    def epoch(self, scope: Scope) -> int:
        """See `contract.Engine.epoch`."""
        return self.engine.epoch(scope)

    def remembered(self) -> Remembered:
        """See `contract.TellsRemembered`."""
        return self.engine.remembered() if isinstance(self.engine, TellsRemembered) else Remembered()

    def health(self) -> Health:
        """Of an engine that is not loaded: ready, since it would be, unless the last try failed."""
        inner = self.engine.health()
        if self.here and self._coming is None:
            return inner
        return msgspec.structs.replace(
            inner,
            ready=not self._trouble,
            reason=self._trouble or ("loading" if self._coming is not None else "not loaded"),
            waiting=inner.waiting + len(self._waiters),
            loaded=False,
        )

    async def start(self) -> None:
        """Load it if there is room beside those that are; else it comes when it is asked for."""
        self._residents.start()
        if self._residents.fits(self.need):
            await self._residents.bring(self)

    async def stop(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._coming
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(EngineFailed("the server is stopping"))
        await self._residents.stop()
        self.here = False
        await self.engine.stop()

    async def load(self) -> None:
        """For `Residents` alone, as is `unload`."""
        began = self._clock.monotonic()
        self.here = True  # its memory is taken from here on
        try:
            await self.engine.start()
            await self._check()
        except EngineFailed as error:
            self._trouble = error.reason
            self._again_at = self._clock.monotonic() + min(2.0**self._failures, _LONGEST_PAUSE)
            self._failures += 1
            await self.unload()
            raise
        except BaseException:
            await self.unload()
            raise
        self._trouble, self._failures = "", 0
        self.since = self.used = self._clock.monotonic()
        _log.info("engine.loaded", model=self.name, seconds=round(self.since - began, 1))

    async def unload(self) -> None:
        self.here = self.leaving = False
        await self.engine.stop()

    def seat(
        self, scope: Scope, prompt: Prompt, max_tokens: int, priority: Priority = "interactive"
    ) -> AbstractAsyncContextManager[Seat]:
        """See `contract.Engine.seat`. Waits for the model first, if it is not in memory."""
        return self._seat(scope, prompt, max_tokens, priority)

    @asynccontextmanager
    async def _seat(self, scope: Scope, prompt: Prompt, max_tokens: int, priority: Priority) -> AsyncIterator[Seat]:
        if self.here and not self.leaving and self._coming is None:
            self.users += 1
        else:
            await self._come()
        try:
            async with self.engine.seat(scope, prompt, max_tokens, priority) as seat:
                yield seat
        finally:
            self._leave()

    def _leave(self) -> None:
        self.users -= 1
        self.used = self._clock.monotonic()
        self._residents.changed()

    async def _come(self) -> None:
        """Wait until it is loaded and in use by the caller, having it brought if nobody has yet.

        Raises:
            Overloaded: it took too long, too many wait, or nobody is to wait.
            EngineFailed: it cannot be loaded.
        """
        rules = self._residents.rules
        if len(self._waiters) >= rules.waiting:
            raise Overloaded
        loop = asyncio.get_running_loop()
        if self._coming is None:
            if self._clock.monotonic() < self._again_at:
                raise Overloaded("The model is not available at the moment", retry_after_s=_RETRY_SECONDS)
            self._coming = loop.create_task(self._bring())
        if rules.refuse:
            raise Overloaded("The model is being loaded", retry_after_s=_RETRY_SECONDS)
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(rules.wait_seconds):
                await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                self._leave()
            if isinstance(error, TimeoutError):
                raise Overloaded("The model could not be loaded in time", retry_after_s=_RETRY_SECONDS) from None
            raise

    async def _bring(self) -> None:
        """Have it brought; whoever waits by then uses it, before anybody else can have its place."""
        failure: EngineFailed | None = None
        try:
            await self._residents.bring(self)
        except EngineFailed as error:
            failure = error
            _log.warning("engine.load_failed", model=self.name, reason=error.reason)
        finally:
            self._coming = None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if failure is None:
                self.users += 1
                waiter.set_result(None)
            else:
                waiter.set_exception(failure)
