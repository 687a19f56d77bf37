"""An engine elsewhere: any llama.cpp server, by its address.

Which slot a prompt goes to and what of its cache it may use are our choice here too, so the server should answer nobody
else. What it cannot be asked for is tried out: whether it reads text as we do, and whether it keeps a cache behind its
slots (`--cache-ram`, on by default), which would hand one workspace's prompts to another. Where it does, no cache is
used at all. A server that goes away is looked for until it comes back; all of this is asked again then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import aiohttp
import msgspec
import structlog

from antiphon.core.clock import Clock
from antiphon.core.errors import EngineFailed, Overloaded, invariant
from antiphon.core.ids import secret
from antiphon.core.records import Scope
from antiphon.engine import agreement
from antiphon.engine.contract import (
    Description,
    EngineEvent,
    Health,
    Phase,
    Priority,
    Prompt,
    Remembered,
    Step,
)
from antiphon.engine.grammar import check
from antiphon.engine.llama_http import Away, Call, LlamaHttp, Props
from antiphon.engine.llama_stream import GREEDY, Heard, Wanted, in_blocks
from antiphon.engine.seats import Lease, SeatQueue
from antiphon.engine.slots import SlotCaches, SlotSeat, made_ids, prompt_ids
from antiphon.engine.tokenizer import Tokenizer

_log = structlog.get_logger()

#: After so many failed looks in a row new requests are refused at once instead of waiting for the next.
_PATIENCE = 3
#: So many new tokens are computed in one go, as good as at once.
_CHUNK = 128
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0
#: So many looks in a row without an answer, and without any stream's progress, and the server is gone.
_MISSED = 2

#: What the server's own command line may have set otherwise. A request is to mean the same on every body.
_PLAIN: dict[str, object] = {
    "samplers": ["top_k", "top_p", "min_p", "temperature"],
    "min_keep": 0,
    "dynatemp_range": 0.0,
    "mirostat": 0,
    "grammar": "",
    "stop": [],
    "ignore_eos": False,
    "n_cache_reuse": 0,
    # The last event repeats the whole prompt as text otherwise.
    "response_fields": [
        *("content", "tokens", "stop", "stop_type", "tokens_predicted", "timings"),
        "completion_probabilities",
    ],
}


class LlamaServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one model of a server elsewhere is used. `window` and `pool_tokens` (what all seats together may come to
    hold) are in tokens, times in seconds; `look_seconds` is how often its health is asked for, `answer_seconds` how
    long the answer may take. `markup_tokens`: see `frames.Load`."""

    address: str
    model: str
    window: int
    pool_tokens: int
    seats: int
    cold_prompts: int
    queue: int
    queue_seconds: float
    stall_seconds: float
    start_seconds: float
    look_seconds: float = 2.0
    answer_seconds: float = 5.0
    markup_tokens: tuple[int, ...] = ()


class LlamaServerEngine:
    """One model in one server. Implements `contract.Engine`; `key` is what the server wants, empty for none."""

    def __init__(self, settings: LlamaServerSettings, key: str, tokenizer: Tokenizer, clock: Clock) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._clock = clock
        self._http = LlamaHttp(settings.address, key, settings.answer_seconds)
        self._caches = SlotCaches(settings.seats, clock)
        self._seats = SeatQueue(
            seats=settings.seats,
            cold_prompts=settings.cold_prompts,
            pool_tokens=settings.pool_tokens,
            bound=settings.queue,
            wait_seconds=settings.queue_seconds,
            clock=clock,
        )
        self._calls: set[Call] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._doubt = asyncio.Event()
        self._ready = False
        self._reason = "starting"
        self._epoch = 0
        self._failures = 0
        self._progress = 0
        self._props = Props(None, None)
        self._private = False

    def describe(self) -> Description:
        s = self._settings
        return Description(
            engine="llama_server", model=s.model, window=s.window, seats=s.seats, reports_reuse=True, reports_ids=True,
            grammar=True, logprobs=True,
        )  # fmt: skip

    def health(self) -> Health:
        return Health(
            ready=self._ready,
            reason=self._reason,
            seats_taken=self._seats.taken,
            waiting=self._seats.waiting,
            restarts=max(0, self._epoch - 1),
        )

    def epoch(self, scope: Scope) -> int:
        """See `contract.Engine.epoch`."""
        return self._epoch

    def remembered(self) -> Remembered:
        """See `contract.TellsRemembered`."""
        return self._caches.held()

    async def start(self) -> None:
        """Wait for the server, and see that it is the right one.

        Raises:
            EngineFailed: it did not become ready in time, or cannot serve this model.
        """
        self._seats.close()
        self._settled.clear()
        self._http.open()
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        await self._settled.wait()
        if not self._ready:
            reason = self._reason
            await self.stop()
            raise EngineFailed(f"{self._settings.model} at {self._settings.address}: {reason}")

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        self._lost("the server is stopping")
        await self._http.close()

    @asynccontextmanager
    async def seat(
        self, scope: Scope, prompt: Prompt, max_tokens: int, priority: Priority = "interactive"
    ) -> AsyncIterator[SlotSeat]:
        """See `contract.Engine.seat`."""
        if not self._ready and self._failures >= _PATIENCE:
            raise Overloaded("The model is not available at the moment", retry_after_s=5)
        ids = prompt_ids(prompt)
        needed = len(ids) + max(1, max_tokens)
        invariant(needed <= self._settings.pool_tokens, "a plan fits the engine's memory")
        async with self._seats.lease(scope, needed, self._caches.seating(scope, ids, _CHUNK), priority) as lease:
            yield SlotSeat(self, lease, scope, ids, prompt.keep_seconds)

    async def tokenize(self, text: str) -> list[int]:
        """See `agreement.ReadsText`."""
        self._check_ready()
        return await self._http.tokenize(text)

    async def run(
        self, lease: Lease, scope: Scope, ids: list[int], phase: Phase, keep_seconds: float
    ) -> AsyncGenerator[Step, None]:
        """Generate on the slot that is held."""
        if phase.grammar is not None:
            check(phase.grammar)
        self._check_ready()
        placed = self._caches.place(lease.number, scope, ids, keep_seconds)
        reuse, known = placed.reuse and self._private, placed.known
        if not self._private:
            known = len(ids)  # a block goes on from the one before it, and here nothing may go on from anything
        async with aclosing(self._complete(lease.number, ids, phase, reuse=reuse, known=known)) as steps:
            async for step in steps:
                lease.warm()
                yield step

    def ids_of(self, event: EngineEvent) -> Sequence[int]:
        return made_ids(event, self._tokenizer.encode)

    def _check_ready(self) -> None:
        if not self._ready:
            raise EngineFailed(f"the engine is down: {self._reason}")

    async def _complete(
        self, slot: int, ids: list[int], phase: Phase, *, reuse: bool, known: int
    ) -> AsyncGenerator[Step, None]:
        """One answer of the server. Closing it early closes the connection, at which the server stops."""
        call = Call(self._http, self._settings.stall_seconds)
        self._calls.add(call)

        wanted = Wanted(
            prompt=ids, max_tokens=phase.max_tokens, sampling=phase.sampling, stop_tokens=phase.stop_tokens, slot=slot,
            reuse=reuse, grammar=phase.grammar, logprobs=phase.logprobs, markup=self._settings.markup_tokens,
        )  # fmt: skip

        def ask(end: int, goes_on: bool) -> AsyncGenerator[Heard, None]:
            request, reader = wanted.block(end, goes_on)
            return call.heard(_PLAIN | request, reader)

        try:
            async with aclosing(in_blocks(len(ids), known, ask)) as stream:
                async for heard in stream:
                    self._progress += 1
                    if heard.events or heard.finish is not None:
                        yield Step(tuple(heard.events), heard.finish)
        except EngineFailed as error:
            if error.retry_helps is not False:  # else it was the request's own fault
                self._doubted()
            raise
        except (aiohttp.ClientError, OSError, msgspec.MsgspecError, UnicodeError) as error:
            self._doubted()
            raise EngineFailed(f"the server's stream broke: {type(error).__name__}: {error}"[:300]) from None
        finally:
            self._calls.discard(call)

    async def _keep(self) -> None:
        """Join the server, watch it, and join it again, for as long as we run."""
        deadline = self._clock.monotonic() + self._settings.start_seconds
        while True:
            try:
                await self._join()
                self._joined()
                reason = await self._until_lost()
                _log.warning("engine.lost", model=self._settings.model, reason=reason, epoch=self._epoch)
            except EngineFailed as error:
                reason = error.reason
                if not isinstance(error, Away) or self._clock.monotonic() >= deadline:
                    self._settled.set()
            self._lost(reason)
            self._failures += 1
            await asyncio.sleep(min(_FIRST_PAUSE * 2 ** (self._failures - 1), _LONGEST_PAUSE))

    async def _join(self) -> None:
        """See that the server can serve this model as it is set up.

        Raises:
            EngineFailed: it cannot, or (`Away`) not yet.
        """
        await self._http.look()
        props = await self._http.props()
        s = self._settings
        if props.window is not None and props.window < s.window:
            raise EngineFailed(
                f"a slot of the server holds {props.window} tokens, and the model's window is {s.window}; "
                "start it with a larger context, or narrow the entry's `window`"
            )
        if props.slots is not None and props.slots < s.seats:
            raise EngineFailed(
                f"the server has {props.slots} slots, and the setting `seats` asks for {s.seats}; "
                "start it with more (`--parallel`), or set fewer seats"
            )
        await agreement.check(s.model, self._http, self._tokenizer)
        self._private = not await self._has_shared_cache()
        if not self._private:
            _log.warning("llama_server.shared_cache", model=s.model, mend="start the server with --cache-ram 0")
        self._props = props

    async def _has_shared_cache(self) -> bool:
        """Whether a slot finds again what another prompt has driven out of it."""
        first, second = self._tokenizer.encode_batch([secret(24), secret(24)])
        await self._computed_again(first)
        await self._computed_again(second)
        return await self._computed_again(first) > len(first) // 2

    async def _computed_again(self, ids: list[int]) -> int:
        """Have a prompt computed. Returns how much of it the server had already."""
        async with aclosing(self._complete(0, ids, Phase(max_tokens=0, sampling=GREEDY), reuse=True, known=0)) as steps:
            async for step in steps:
                if step.finish is not None:
                    return step.finish.reused_tokens or 0
        raise EngineFailed("the server's stream ended without a last event")

    def _joined(self) -> None:
        self._caches.forget()
        self._ready, self._reason = True, ""
        self._epoch += 1
        self._failures = 0
        self._doubt.clear()
        _log.info("engine.ready", model=self._settings.model, epoch=self._epoch, reuse=self._private)
        self._settled.set()
        self._seats.open()

    def _lost(self, reason: str) -> None:
        self._ready, self._reason = False, reason
        self._seats.close()
        for call in self._calls:
            call.end(reason)

    def _doubted(self) -> None:
        """A stream has failed: who waits gets no seat until a look has shown that the server is there."""
        self._seats.close()
        self._doubt.set()

    async def _until_lost(self) -> str:
        """Look again and again, at once after a stream has failed. Returns why the server cannot serve any more."""
        missed = 0
        while True:
            before = self._progress
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.look_seconds):
                    await self._doubt.wait()
            self._doubt.clear()
            try:
                await self._http.look()
                if await self._http.props() != self._props:
                    return "another server listens at the address now"
            except EngineFailed as error:
                sure = not isinstance(error, Away) or error.sure
                missed = missed + 1 if self._progress == before else 0
                if sure or missed >= _MISSED:
                    return error.reason
            else:
                missed = 0
                self._seats.open()
