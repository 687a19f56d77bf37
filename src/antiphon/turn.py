"""The life of one request, from top to bottom.

    admit    may this caller begin a turn now?                       gate      → Ticket
    route    which model answers for the id that was asked?          routing   → Route
    plan     the prompt in tokens, the limits, the phases            plan      → Plan
    seat     a place in the model's engine, waited for in order      engine    → Seat
    phases   tokens become blocks, blocks become events              reply     → events
    settle   one usage record, on disk before the last event leaves  ledger    → UsageRecord

Streams and plain answers are this same turn with another sink. Whatever ends a turn early (the client goes away or
stalls, the engine fails) comes through here too: the engine is stopped within one step, and what was made is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Protocol

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.errors import AntiphonError, EngineFailed, Overloaded
from antiphon.core.ids import Ids
from antiphon.core.records import Caller
from antiphon.dialect.stretch import Ending
from antiphon.engine.contract import Engine, Seat
from antiphon.engine.tokenizer import Tokenizer
from antiphon.gate.admission import Admission, Ticket
from antiphon.ledger.account import Account
from antiphon.ledger.journal import Journal
from antiphon.observe.metrics import Metrics
from antiphon.observe.traces import Tracing
from antiphon.plan.phases import Done, Part
from antiphon.plan.plan import Plan, Planner
from antiphon.plan.schema.effort import TakesLonger
from antiphon.reply.assemble import Assembler, Conditions
from antiphon.routing import profile
from antiphon.routing.resolve import Route, Router
from antiphon.wire.events import Event, MessageStart
from antiphon.wire.parse import Parsed
from antiphon.wire.request import Conversation, CountTokensRequest, MessagesRequest
from antiphon.wire.response import StopReason

#: Bodies above this many bytes are parsed and planned in a thread, so that no other stream waits for them.
INLINE_BYTES = 32 * 1024


class Sink(Protocol):
    """Where a turn's events go: a stream's buffer, or a list for a plain answer."""

    def granted(self) -> None:
        """The seat is taken: from here on the answer is being made."""
        ...

    async def put(self, events: Sequence[Event]) -> None:
        """The events of one engine step. Waits while the reader lags."""
        ...


class ServedModel(msgspec.Struct, frozen=True):
    """One model that runs: how it is planned for, and what generates."""

    name: str
    planner: Planner
    engine: Engine
    tokenizer: Tokenizer


class Parts(msgspec.Struct, frozen=True):
    """What a turn needs of the server."""

    admission: Admission
    router: Router
    models: Mapping[str, ServedModel]
    journal: Journal
    metrics: Metrics
    tracing: Tracing
    clock: Clock
    ids: Ids


async def count(parts: Parts, caller: Caller, parsed: Parsed[CountTokensRequest]) -> int:
    """The turn of `count_tokens`: it ends with the plan. Equals the input tokens of the same request, always.

    Raises:
        RequestError: the request cannot be counted.
        Overloaded: the server is full.
    """
    with parts.admission.admit(caller):
        route = _routed(parts, caller, parsed.request)
        planner = parts.models[route.model.name].planner
        if len(parsed.raw) <= INLINE_BYTES:
            with suppress(TakesLonger):
                return planner.count(parsed.request, waits=False)
        return await asyncio.to_thread(planner.count, parsed.request)


class Turn:
    """One request for an answer. `open` it, then `run` it once, then `close` it."""

    def __init__(self, parts: Parts, caller: Caller, parsed: Parsed[MessagesRequest], request_id: str) -> None:
        self._parts = parts
        self._caller = caller
        self._request = parsed.request
        self._size = len(parsed.raw)
        self._message_id = parts.ids.make("msg")
        self._account = Account(parts.clock, caller, request_id, self._message_id)
        self._ticket: Ticket
        self._route: Route
        self._model: ServedModel
        self._plan: Plan
        self._answer: Assembler

    async def open(self) -> None:
        """Admit, route, plan: every refusal that needs no engine.

        Raises:
            RequestError: the request cannot be served as it stands.
            Overloaded: the server is full.
        """
        tracing = self._parts.tracing
        with tracing.step("antiphon.admit"):
            self._ticket = self._parts.admission.admit(self._caller)
        try:
            with tracing.step("antiphon.route"):
                self._route = _routed(self._parts, self._caller, self._request)
                self._model = self._parts.models[self._route.model.name]
            tracing.chat(self._request.model, self._request.max_tokens, self._request.streamed)
            with tracing.step("antiphon.plan"):
                self._plan = await self._planned()
        except BaseException:
            self.close()
            raise
        self._answer = Assembler(
            self._message_id,
            self._request.model,
            self._plan.input,
            self._plan.stop_sequences,
            by_token=self._request.streamed,
            conditions=Conditions.of(self._request),
            call_ids=lambda: self._parts.ids.make("toolu"),
        )

    def close(self) -> None:
        """Give the ticket back."""
        self._ticket.__exit__(None, None, None)

    @property
    def served_model(self) -> str:
        """The catalogue name of the model that answers."""
        return self._model.name

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
        outcome = "internal_error"
        try:
            async with AsyncExitStack() as held:
                with step("antiphon.seat"):
                    seat = await held.enter_async_context(engine.seat(self._caller.scope, plan.prompt, plan.max_tokens))
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

    async def _planned(self) -> Plan:
        window = self._route.rules.window if self._route.rules is not None else None
        if self._size <= INLINE_BYTES:
            with suppress(TakesLonger):
                return self._model.planner.plan(self._request, window, waits=False)
        return await asyncio.to_thread(self._model.planner.plan, self._request, window)

    async def _generate(self, seat: Seat, sink: Sink) -> StopReason:
        part = self._plan.course.first()
        while not isinstance(part, Done):
            part = self._plan.course.next(part, await self._phase(seat, part, sink))
        if part.used is not None:
            self._answer.output_tokens = part.used
        return part.stop_reason

    async def _phase(self, seat: Seat, part: Part, sink: Sink) -> Ending:
        answer, phase = self._answer, part.phase
        events = answer.begin(part.stretch, written=len(phase.appended), instead=phase.instead)
        async with aclosing(seat.generate(phase)) as steps:
            async for step in steps:
                self._account.stepped()
                events += answer.feed(step)
                if step.finish is not None:
                    self._account.reused(step.finish.reused_tokens)
                if events:
                    await sink.put(events)
                if answer.ending is not None:
                    return answer.ending
                events = []
        raise EngineFailed("the engine ended a phase without saying so")

    async def _settle(self, outcome: str) -> None:
        """Write the one record of this turn, shielded: what was made is recorded even when the client is gone."""
        request = self._request
        record = self._account.closed(
            outcome,
            self._answer.usage,
            requested_model=request.model,
            served_model=self._model.name,
            engine=self._model.engine.describe().engine,
            streamed=request.streamed,
            geography=request.inference_geo,
            user_id=request.metadata.user_id if request.metadata else None,
        )
        if record is None:
            return
        self._parts.tracing.answered(record)
        with self._parts.tracing.step("antiphon.settle"):
            await asyncio.shield(self._parts.journal.append(record))
        self._parts.metrics.turn(record)


def _routed(parts: Parts, caller: Caller, request: Conversation) -> Route:
    """The route for the id that was asked, after what the id itself refuses (only under `profile = "claude"`)."""
    route = parts.router.resolve(request.model, profile=caller.profile)
    if route.rules is not None:
        profile.check(route.rules, request)
    return route
