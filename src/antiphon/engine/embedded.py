"""An engine in a child process: the API's side of it.

Decides which seat a prompt goes to, what of the seat's cache it may use, and brings the child's reports back to the
turns they belong to. The library's own choices in both are switched off: it would share a prefix across workspaces.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.errors import EngineFailed, Overloaded, invariant
from antiphon.core.records import Scope
from antiphon.engine.contract import (
    Description,
    EngineEvent,
    Finish,
    Health,
    Phase,
    Prompt,
    Step,
    TokenSpan,
)
from antiphon.engine.frames import (
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    Made,
    Progress,
    Report,
    Tokenize,
    Tokenized,
)
from antiphon.engine.seats import Lease, SeatQueue
from antiphon.engine.supervisor import Supervisor

#: After so many failed lives in a row new requests are refused at once instead of waiting for the next.
_PATIENCE = 3
#: A seat's reports that nobody has taken yet. Beyond it the reader is stuck and the generation is given up.
_BACKLOG = 4096


class EmbeddedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one embedded model is run. `window` and `pool_tokens` are in tokens, times in seconds."""

    module: str
    engine: str
    model: str
    model_path: str
    window: int
    pool_tokens: int
    seats: int
    threads: int
    cold_prompts: int
    queue: int
    queue_seconds: float
    stall_seconds: float
    start_seconds: float


class _Cached:
    """What a seat's cache holds, and whose it is."""

    def __init__(self) -> None:
        self.scope: Scope | None = None
        self.ids: list[int] = []
        self.used = 0.0


class EmbeddedEngine:
    """One model in one supervised child. Implements `contract.Engine`."""

    def __init__(self, settings: EmbeddedSettings, encode: Callable[[str], list[int]], clock: Clock) -> None:
        self._settings = settings
        self._encode = encode
        self._clock = clock
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, asyncio.Queue[Report]] = {}
        self._cached = [_Cached() for _ in range(settings.seats)]
        self._seats = SeatQueue(
            seats=settings.seats,
            cold_prompts=settings.cold_prompts,
            pool_tokens=settings.pool_tokens,
            bound=settings.queue,
            wait_seconds=settings.queue_seconds,
            clock=clock,
        )
        self.supervisor = Supervisor(
            settings.module,
            Load(settings.model_path, settings.pool_tokens, settings.seats, settings.threads),
            self,
            clock,
            stall_seconds=settings.stall_seconds,
            start_seconds=settings.start_seconds,
        )

    def describe(self) -> Description:
        s = self._settings
        return Description(
            engine=s.engine,
            model=s.model,
            window=s.window,
            seats=s.seats,
            reports_reuse=True,
            reports_ids=True,
        )

    def health(self) -> Health:
        return Health(
            ready=self.supervisor.ready,
            reason=self.supervisor.reason,
            seats_taken=self._seats.taken,
            waiting=self._seats.waiting,
            restarts=max(0, self.supervisor.epoch - 1),
        )

    async def start(self) -> None:
        self._seats.close()
        await self.supervisor.start()

    async def stop(self) -> None:
        await self.supervisor.stop()
        self.lost("the server is stopping")

    @asynccontextmanager
    async def seat(self, scope: Scope, prompt: Prompt, max_tokens: int) -> AsyncIterator[EmbeddedSeat]:
        """See `contract.Engine.seat`."""
        if not self.supervisor.ready and self.supervisor.failures >= _PATIENCE:
            raise Overloaded("The model is not available at the moment", retry_after_s=5)
        ids = _ids(prompt)
        needed = len(ids) + max(1, max_tokens)
        invariant(needed <= self._settings.pool_tokens, "a plan fits the engine's memory")
        async with self._seats.lease(needed, lambda free: self._best(free, scope, ids)) as lease:
            yield EmbeddedSeat(self, lease, scope, ids)

    async def tokenize(self, text: str) -> list[int]:
        """The engine's own ids for `text`, control tokens recognised. For checks, not for prompts.

        Raises:
            EngineFailed: the engine is down, or went down.
        """
        request, inbox = self._open()
        try:
            self.supervisor.send(Tokenize(request, text))
            report = await inbox.get()
        finally:
            self._close(request)
        if isinstance(report, Tokenized):
            return report.ids
        raise EngineFailed(report.reason if isinstance(report, Failed) else "an unexpected report")

    async def run(
        self, seat: int, scope: Scope, ids: list[int], phase: Phase, lease: Lease | None
    ) -> AsyncGenerator[Step, None]:
        """Generate on a seat; keeps the account of what its cache holds."""
        cached = self._cached[seat]
        reuse = cached.scope == scope
        cached.scope, cached.ids, cached.used = scope, ids, self._clock.monotonic()
        request, inbox = self._open()
        finished = False
        try:
            self.supervisor.send(
                Generate(request, seat, ids, phase.max_tokens, phase.sampling, phase.stop_tokens, reuse)
            )
            self.supervisor.worked()
            while not finished:
                step = _step(await inbox.get())
                if step is None:
                    continue
                if lease is not None:
                    lease.warm()
                finished = step.finish is not None
                yield step
        except EngineFailed:
            finished = True  # nothing left to cancel
            raise
        finally:
            self._close(request)
            if not finished and self.supervisor.ready:
                self.supervisor.send(Cancel(request))

    def ids_of(self, event: EngineEvent) -> Sequence[int]:
        """What an event adds to the text so far: nothing for an end token; for a character that spans tokens, whose ids
        the library does not tell, the ids our tokenizer gives its text."""
        if not event.data:
            return ()
        return event.ids if event.ids is not None else self._encode(event.data.decode())

    def _best(self, free: Sequence[int], scope: Scope, ids: list[int]) -> int:
        """The seat whose cache this prompt continues furthest; else the one longest unused."""

        def worth(seat: int) -> tuple[int, float]:
            cached = self._cached[seat]
            shared = shared_prefix(cached.ids, ids) if cached.scope == scope else 0
            return shared, -cached.used

        return max(free, key=worth)

    def _open(self) -> tuple[int, asyncio.Queue[Report]]:
        request = next(self._numbers)
        inbox: asyncio.Queue[Report] = asyncio.Queue(_BACKLOG)
        self._inboxes[request] = inbox
        return request, inbox

    def _close(self, request: int) -> None:
        self._inboxes.pop(request, None)

    def busy(self) -> bool:
        """See `supervisor.Served`; so are the next three."""
        return bool(self._inboxes)

    def reported(self, report: Report) -> None:
        inbox = self._inboxes.get(getattr(report, "request", 0))
        if inbox is None:
            return  # cancelled meanwhile
        if inbox.full():
            while not inbox.empty():
                inbox.get_nowait()
            report = Failed(0, "nobody took what the engine made")
        inbox.put_nowait(report)

    def ready(self) -> None:
        for cached in self._cached:
            cached.scope = None
            cached.ids = []
        self._seats.open()

    def lost(self, reason: str) -> None:
        self._seats.close()
        for request in list(self._inboxes):
            self.reported(Failed(request, reason))


class EmbeddedSeat:
    """Implements `contract.Seat`."""

    def __init__(self, engine: EmbeddedEngine, lease: Lease, scope: Scope, ids: list[int]) -> None:
        self._engine = engine
        self._lease = lease
        self._scope = scope
        self._ids = ids

    async def generate(self, phase: Phase) -> AsyncGenerator[Step, None]:
        """See `contract.Seat.generate`."""
        self._ids = [*self._ids, *phase.appended]
        async for step in self._engine.run(self._lease.number, self._scope, self._ids, phase, self._lease):
            for event in step.events:
                self._ids += self._engine.ids_of(event)
            yield step


def shared_prefix(a: list[int], b: list[int]) -> int:
    """How many tokens two prompts share at their start. Compares by halves: slices are compared in C."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _step(report: Report) -> Step | None:
    match report:
        case Made(_, events):
            return Step(tuple(EngineEvent(data, tokens, ids) for data, tokens, ids in events))
        case Done(_, reason, reused):
            return Step((), Finish("length" if reason == "length" else "stop", reused))
        case Progress():
            return None
        case Failed(_, reason):
            raise EngineFailed(reason)
    raise EngineFailed("an unexpected report")


def _ids(prompt: Prompt) -> list[int]:
    ids: list[int] = []
    for segment in prompt.segments:
        if not isinstance(segment, TokenSpan):
            raise EngineFailed("this body serves no media", retry_helps=False)
        ids += segment.ids
    return ids
