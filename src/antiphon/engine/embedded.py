"""An engine in a child process: the API's side of it.

Decides which seat a prompt goes to, what of the seat's cache it may use, and brings the child's reports back to the
turns they belong to. The library's own choices in both are switched off: it would share a prefix across workspaces.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog

from antiphon.core.clock import Clock
from antiphon.core.errors import EngineFailed, Overloaded, invariant
from antiphon.core.records import Scope
from antiphon.engine.contract import (
    Description,
    EngineEvent,
    Finish,
    Health,
    Phase,
    Priority,
    Prompt,
    Remembered,
    Step,
)
from antiphon.engine.frames import (
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    Made,
    Progress,
    Renewed,
    Report,
    Restored,
    Saved,
    Tokenize,
    Tokenized,
    Tokens,
)
from antiphon.engine.grammar import check
from antiphon.engine.saved_prefixes import SavedPrefixes
from antiphon.engine.seats import Lease, SeatQueue
from antiphon.engine.shared_prefixes import SharedPrefixes
from antiphon.engine.slots import Remembers, SlotCaches, SlotSeat, made_ids, prompt_ids
from antiphon.engine.supervisor import Supervisor

_log = structlog.get_logger()

#: Prompt tokens that a library computes in one go, where it is not told.
_CHUNK = 128
#: After so many failed lives in a row new requests are refused at once instead of waiting for the next.
_PATIENCE = 3


class EmbeddedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one embedded model is run. `window` and `pool_tokens` are in tokens, times in seconds. `backlog` is how many
    reports of one seat may lie untaken: beyond it the reader is stuck, and the generation is given up. `saved_bytes`
    is room for prompts that are kept beside the seats, where the library can; a token takes `token_bytes` of it."""

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
    prepared_path: str = ""
    end_tokens: tuple[int, ...] = ()
    chunk_tokens: int = 0
    properties: dict[str, str] = {}
    markup_tokens: tuple[int, ...] = ()
    backlog: int = 4096
    saved_bytes: int = 0
    token_bytes: int = 0

    @property
    def estimates_reuse(self) -> bool:
        """Whether the library does not say what of a prompt it had, so that the account of it is told instead."""
        return self.engine == "openvino"


class EmbeddedEngine:
    """One model in one supervised child. Implements `contract.Engine`."""

    def __init__(
        self,
        settings: EmbeddedSettings,
        encode: Callable[[str], list[int]],
        clock: Clock,
        decode: Callable[[int], bytes] = lambda _: b"",
        make_ready: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        """`encode` and `decode` are the model's tokenizer: text to ids, and what one made token adds to the text.
        `make_ready` is waited for before each start, and tells the `prepared_path` of it."""
        self._settings = settings
        self._encode = encode
        self._decode = decode
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, asyncio.Queue[Report]] = {}
        self._remembers = _remembers(settings, clock)
        self._make_ready = make_ready
        self._epoch = 0
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
            Load(
                settings.model_path,
                settings.pool_tokens,
                settings.seats,
                settings.threads,
                settings.prepared_path,
                settings.end_tokens,
                settings.chunk_tokens,
                settings.properties,
                settings.markup_tokens,
            ),
            self,
            clock,
            stall_seconds=settings.stall_seconds,
            start_seconds=settings.start_seconds,
        )

    @property
    def load(self) -> Load:
        """What each child is told first."""
        return self.supervisor.load

    def describe(self) -> Description:
        s = self._settings
        return Description(
            engine=s.engine,
            model=s.model,
            window=s.window,
            seats=s.seats,
            reports_reuse=True,
            reports_ids=True,
            grammar=True,
            logprobs=True,
            reuse_estimated=s.estimates_reuse,
        )

    def health(self) -> Health:
        return Health(
            ready=self.supervisor.ready,
            reason=self.supervisor.reason,
            seats_taken=self._seats.taken,
            waiting=self._seats.waiting,
            restarts=self.supervisor.restarts,
        )

    def epoch(self, scope: Scope) -> int:
        """See `contract.Engine.epoch`."""
        return self._epoch

    def remembered(self) -> Remembered:
        """See `contract.TellsRemembered`."""
        return self._remembers.held()

    async def start(self) -> None:
        self._seats.close()
        if self._make_ready is not None:
            self.supervisor.load = msgspec.structs.replace(self.load, prepared_path=await self._make_ready())
        await self.supervisor.start()

    async def stop(self) -> None:
        await self.supervisor.stop()
        self.lost("the server is stopping")

    @asynccontextmanager
    async def seat(
        self, scope: Scope, prompt: Prompt, max_tokens: int, priority: Priority = "interactive"
    ) -> AsyncIterator[SlotSeat]:
        """See `contract.Engine.seat`."""
        if not self.supervisor.ready and self.supervisor.failures >= _PATIENCE:
            raise Overloaded("The model is not available at the moment", retry_after_s=5)
        ids = prompt_ids(prompt)
        needed = len(ids) + max(1, max_tokens)
        invariant(needed <= self._settings.pool_tokens, "a plan fits the engine's memory")
        seating = self._remembers.seating(scope, ids, self._settings.chunk_tokens or _CHUNK)
        async with self._seats.lease(scope, needed, seating, priority) as lease:
            yield SlotSeat(self, lease, scope, ids, prompt.keep_seconds)

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
        self, lease: Lease, scope: Scope, ids: list[int], phase: Phase, keep_seconds: float
    ) -> AsyncGenerator[Step, None]:
        """Generate on the seat that is held; keeps the account of what the library remembers."""
        if phase.grammar is not None:
            check(phase.grammar)
        placed = self._remembers.place(lease.number, scope, ids, keep_seconds)
        request, inbox = self._open()
        finished = False
        try:
            for command in placed.before:
                self.supervisor.send(command)
            self.supervisor.send(
                Generate(
                    request,
                    lease.number,
                    ids,
                    phase.max_tokens,
                    phase.sampling,
                    phase.stop_tokens,
                    placed.reuse,
                    phase.grammar,
                    phase.logprobs,
                    placed.salt,
                    placed.known,
                )
            )
            self.supervisor.worked()
            while not finished:
                report = await inbox.get()
                self._remembers.heard(lease.number, report)
                if isinstance(report, Done) and self._settings.estimates_reuse:
                    report = msgspec.structs.replace(report, reused=placed.known)
                step = self._step(report)
                if step is None:
                    continue
                lease.warm()
                finished = step.finish is not None
                yield step
        except EngineFailed:
            finished = True  # nothing left to cancel
            raise
        finally:
            self._close(request)
            self._remembers.ended(lease.number)
            if not finished and self.supervisor.ready:
                self.supervisor.send(Cancel(request))

    def _step(self, report: Report) -> Step | None:
        if isinstance(report, Tokens):
            likely: list[tuple[float, ...] | None] = [(value,) for value in report.logprobs]
            *made, last = [
                EngineEvent(self._decode(token), 1, (token,), logprobs)
                for token, logprobs in zip(report.ids, likely or [None] * len(report.ids), strict=True)
            ]
            return Step((*made, msgspec.structs.replace(last, data=b"") if report.stopped else last))
        return _step(report)

    def ids_of(self, event: EngineEvent) -> Sequence[int]:
        """See `slots.made_ids`."""
        return made_ids(event, self._encode)

    def _open(self) -> tuple[int, asyncio.Queue[Report]]:
        request = next(self._numbers)
        inbox: asyncio.Queue[Report] = asyncio.Queue(self._settings.backlog)
        self._inboxes[request] = inbox
        return request, inbox

    def _close(self, request: int) -> None:
        self._inboxes.pop(request, None)

    def busy(self) -> bool:
        """See `supervisor.Served`; so are the next three."""
        return bool(self._inboxes)

    def reported(self, report: Report) -> None:
        if isinstance(report, Renewed):
            self._forget()
        if isinstance(report, Saved | Restored):
            for command in self._remembers.heard(None, report):
                if self.supervisor.ready:
                    self.supervisor.send(command)
        inbox = self._inboxes.get(getattr(report, "request", 0))
        if inbox is None:
            return  # cancelled meanwhile
        if inbox.full():
            while not inbox.empty():
                inbox.get_nowait()
            # The child is told now, not when the reader comes: it would work on for nobody, and in a slot given anew.
            self._give_up(getattr(report, "request", 0))
            report = Failed(0, "nobody took what the engine made")
        inbox.put_nowait(report)

    def _give_up(self, request: int) -> None:
        self._close(request)
        if self.supervisor.ready:
            self.supervisor.send(Cancel(request))

    def ready(self) -> None:
        if not self.supervisor.remembers:
            _log.warning("engine.forgetful", model=self._settings.model, why="no salt keeps its prompts apart")
        self._forget()
        self._seats.open()

    def _forget(self) -> None:
        self._epoch += 1
        self._remembers.resize(self._settings.pool_tokens if self.supervisor.remembers else 0)

    def lost(self, reason: str) -> None:
        self._forget()
        self._seats.close()
        for request in list(self._inboxes):
            self.reported(Failed(request, reason))


def _remembers(settings: EmbeddedSettings, clock: Clock) -> Remembers:
    """The account of what this library remembers."""
    match settings.engine:
        case "llama_cpp":
            room, each, pool = settings.saved_bytes, settings.token_bytes, settings.pool_tokens
            return SavedPrefixes(settings.seats, clock, room=room, token_bytes=each, pool_tokens=pool)
        case "openvino":
            return SharedPrefixes()
    return SlotCaches(settings.seats, clock)


def _step(report: Report) -> Step | None:
    match report:
        case Made(_, events):
            return Step(tuple(EngineEvent(*event) for event in events))
        case Done(_, reason, reused):
            return Step((), Finish("length" if reason == "length" else "stop", reused))
        case Progress():
            return None
        case Failed(_, reason, fault):
            raise EngineFailed(reason, retry_helps=False if fault else None)
    raise EngineFailed("an unexpected report")
