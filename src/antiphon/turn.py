"""The life of one request, from top to bottom.

    admit    may this caller begin a turn now?                       gate      → Pass
    route    which model answers for the id that was asked?          routing   → Route
    request  is there a request left of this minute's?               gate
    plan     the prompt in tokens, the limits, the phases            plan      → Plan
    cache    what of the prompt was sent before, what is new         plan      → Found
    reserve  are there tokens left for it, and money?                gate
    seat     a place in the model's engine, waited for in order      engine    → Seat
    phases   tokens become blocks, blocks become events              reply     → events
    settle   one usage record, on disk before the last event leaves  ledger    → UsageRecord

Streams and plain answers are this same turn with another sink. Whatever ends a turn early (the client goes away or
stalls, the engine fails) comes through here too: the engine is stopped within one step, and what was made is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Protocol

import msgspec

from antiphon.core.errors import AntiphonError, EngineFailed, Overloaded, RequestError
from antiphon.core.records import Caller, Cost, Usage, UsageRecord
from antiphon.dialect.stretch import Ending
from antiphon.engine.contract import Seat
from antiphon.gate import residency
from antiphon.gate.entrance import Pass
from antiphon.ledger.account import OURS, Account, Asked
from antiphon.parts import INLINE_BYTES, Parts, ServedModel, caching_for
from antiphon.plan.caching.index import Found
from antiphon.plan.phases import Done, Part
from antiphon.plan.plan import Plan
from antiphon.plan.schema.effort import TakesLonger
from antiphon.reply.assemble import Assembler, Conditions
from antiphon.routing.prices import Terms
from antiphon.routing.resolve import Route
from antiphon.wire.events import Event, MessageStart
from antiphon.wire.parse import Parsed
from antiphon.wire.request import MessagesRequest
from antiphon.wire.response import CacheMiss, StopReason


class Sink(Protocol):
    """Where a turn's events go: a stream's buffer, or a list for a plain answer."""

    def granted(self) -> None:
        """The seat is taken: from here on the answer is being made."""
        ...

    async def put(self, events: Sequence[Event]) -> None:
        """The events of one engine step. Waits while the reader lags."""
        ...


class Turn:
    """One request for an answer. `open` it, then `run` it once, then `close` it."""

    def __init__(
        self,
        parts: Parts,
        caller: Caller,
        parsed: Parsed[MessagesRequest],
        request_id: str,
        *,
        workflow: str | None = None,
    ) -> None:
        """`workflow`: the piece of work that the client says this request belongs to, for reports."""
        self._parts = parts
        self._caller = caller
        self._request = parsed.request
        self._size = len(parsed.raw)
        self._workflow = workflow
        self._message_id = parts.ids.make("msg")
        self._account = Account(parts.clock, caller, request_id, self._message_id)
        self._pass: Pass
        self._route: Route
        self._geography: str
        self._model: ServedModel
        self._plan: Plan
        self._cached: Found
        self._begun = False
        self._answer: Assembler

    async def open(self) -> None:
        """Admit, route, plan, reserve: every refusal that needs no engine.

        Raises:
            RequestError: the request cannot be served as it stands, or is over a limit.
            Overloaded: the server is full.
        """
        parts, request, step = self._parts, self._request, self._parts.tracing.step
        with step("antiphon.admit"):
            self._pass = parts.entrance.admit(self._caller)
        try:
            with step("antiphon.route"):
                self._route, self._geography = self._routed()
                self._model = parts.models[self._route.model.name]
            await self._pass.request(parts.entrance.group_of(self._route.meant), request.model)
            parts.tracing.chat(request.model, request.max_tokens, request.streamed)
            with step("antiphon.plan"):
                self._plan = plan = await self._planned()
            self._cached = parts.cache.look_up(plan.tokens, plan.cacheable, self._epoch)
            await self._pass.prompt(self._cached.usage, self._bound)
            parts.cache.read(self._cached)
        except BaseException as error:
            if isinstance(error, RequestError):  # a request that its caller spoilt counts as one
                await self._pass.settle(0, Usage())
            await self.close()
            raise
        self._answer = Assembler(
            self._message_id,
            request.model,
            self._cached.usage,
            plan.stop_sequences,
            by_token=request.streamed,
            conditions=Conditions.of(request, self._geography, self._missed()),
            call_ids=lambda: parts.ids.make("toolu"),
        )

    async def close(self) -> None:
        """Give the place back."""
        await self._pass.close()

    @property
    def served_model(self) -> str:
        """The catalogue name of the model that answers."""
        return self._model.name

    @property
    def limit_headers(self) -> list[tuple[bytes, bytes]]:
        """The lines that tell how the limits stand; none before the turn was let in."""
        return self._pass.headers

    def start(self) -> MessageStart:
        """The answer's first event, true before the first token. The client has been promised an end from here on."""
        self._account.promised()
        return self._answer.start()

    async def run(self, sink: Sink) -> None:
        """Take a seat, generate, settle. Cancel it when the reader is gone: `task.cancel("client_closed")`.

        Raises:
            Overloaded: no seat came free in time.
            EngineFailed: the engine failed; what was delivered stands.
        """
        step = self._parts.tracing.step
        engine, plan = self._model.engine, self._plan
        prompt = msgspec.structs.replace(plan.prompt, keep_seconds=self._cached.keep_seconds)
        outcome = "internal_error"
        try:
            async with AsyncExitStack() as held:
                with step("antiphon.seat"):
                    seat = await held.enter_async_context(engine.seat(self._caller.scope, prompt, plan.max_tokens))
                self._account.seated()
                sink.granted()
                with step("antiphon.generate"):
                    outcome = stop_reason = await self._generate(seat, sink)
        except asyncio.CancelledError as cancelled:
            outcome = str(cancelled.args[0]) if cancelled.args else "client_closed"
            raise
        except AntiphonError as error:
            outcome = "overloaded" if isinstance(error, Overloaded) else "engine_failed"
            raise
        finally:
            await self._settle(outcome)
        await sink.put(self._answer.end(stop_reason))

    def _routed(self) -> tuple[Route, str]:
        """The route, and the geography that usage tells."""
        caller, asked = self._caller, self._request.inference_geo
        within = residency.wanted(asked, allowed=caller.allowed_geographies, default=caller.default_geography)
        route = self._parts.route(caller, self._request, within)
        knows = route.rules is None or route.rules.geography
        return route, residency.served(within, model=route.model.geography or within, asked=asked, knows=knows)

    async def _planned(self) -> Plan:
        window = self._route.rules.window if self._route.rules is not None else None
        caching = caching_for(self._caller.scope, self._parts.cache.secret, self._route)
        if self._size <= INLINE_BYTES:
            with suppress(TakesLonger):
                return self._model.planner.plan(self._request, window, caching, waits=False)
        return await asyncio.to_thread(self._model.planner.plan, self._request, window, caching)

    @property
    def _epoch(self) -> int:
        """Which life of the engine's memory it is: what was cached in an earlier one is lost."""
        return self._model.engine.epoch(self._caller.scope)

    def _missed(self) -> CacheMiss | None:
        asked, plan = self._request.diagnostics, self._plan
        return self._parts.diagnoses.missed(self._caller.scope, self._message_id, asked, plan.prefixes, plan.tokens)

    async def _generate(self, seat: Seat, sink: Sink) -> StopReason:
        part = self._plan.course.first()
        while not isinstance(part, Done):
            part = self._plan.course.next(part, await self._phase(seat, part, sink))
        self._begin()  # also an answer that the platform wrote alone
        if part.used is not None:
            self._answer.output_tokens = part.used
        return part.stop_reason

    async def _phase(self, seat: Seat, part: Part, sink: Sink) -> Ending:
        answer, phase = self._answer, part.phase
        events = answer.begin(part.stretch, written=len(phase.appended), instead=phase.instead)
        async with aclosing(seat.generate(phase)) as steps:
            async for step in steps:
                self._begin()
                if self._pass.produced(sum([event.tokens for event in step.events])):
                    await self._pass.write()
                events += answer.feed(step)
                if step.finish is not None:
                    self._account.reused(step.finish.reused_tokens)
                if events:
                    await sink.put(events)
                if answer.ending is not None:
                    return answer.ending
                events = []
        raise EngineFailed("the engine ended a phase without saying so")

    def _begin(self) -> None:
        """The engine gave something: what the prompt wrote to the cache can be read from here on."""
        self._account.stepped()
        if not self._begun:
            self._begun = True
            self._parts.cache.write(self._cached, self._epoch)

    async def _settle(self, outcome: str) -> None:
        """Write the one record of this turn, shielded: what was made is recorded even when the client is gone."""
        request = self._request
        asked = Asked(
            request.model,
            self._model.name,
            self._model.engine.describe().engine,
            request.streamed,
            self._geography,
            request.metadata.user_id if request.metadata else None,
            self._workflow,
        )
        record = self._account.closed(outcome, self._answer.usage, self._cost, asked)
        # A task of its own, which goes on when this one is cancelled, and also when the turn has been closed meanwhile.
        self._pass.keep()
        await asyncio.shield(self._keep(record, counted=outcome not in OURS))

    async def _keep(self, record: UsageRecord | None, *, counted: bool) -> None:
        """First the record, then what the limits and budgets are told: one that is read anew meanwhile has it twice at
        worst, and never not at all."""
        if record is None:
            await self._pass.settle(0, Usage(), counted=counted)
            return
        self._parts.tracing.answered(record)
        try:
            with self._parts.tracing.step("antiphon.settle"):
                await self._parts.journal.append(record)
        finally:
            await self._pass.settle(record.cost.total_nano, record.usage, counted=counted)
        self._parts.metrics.turn(record, estimated=self._model.engine.describe().reuse_estimated)

    def _cost(self, usage: Usage, at_ms: int) -> Cost:
        return self._route.price.cost(usage, at_ms, Terms(geography=self._geography))

    def _bound(self) -> int:
        """What the answer can cost at most, in nano-dollars."""
        most = msgspec.structs.replace(self._cached.usage, output_tokens=self._plan.max_tokens)
        return self._cost(most, self._account.created_ms).total_nano
