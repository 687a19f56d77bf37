"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from antiphon.core.errors import InvalidRequest, PermissionDenied
from antiphon.core.records import Caller
from antiphon.counting import count
from antiphon.http.exchange import ClientGone, Exchange, Headers
from antiphon.http.recording import record
from antiphon.http.streaming import Stream, StreamLimits
from antiphon.ledger.requestlog import Keeper
from antiphon.parts import INLINE_BYTES, Parts
from antiphon.reply.assemble import gather
from antiphon.turn import Turn
from antiphon.wire import fine_grained
from antiphon.wire.betas import KNOWN
from antiphon.wire.events import Event
from antiphon.wire.parse import Parsed, parse_count_tokens, parse_messages
from antiphon.wire.request import Conversation
from antiphon.wire.response import TokenCount
from antiphon.wire.versions import check

R = TypeVar("R", bound=Conversation)
_LONGEST_WORKFLOW = 200


class _Gathered:
    """The sink of a plain answer."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def granted(self) -> None:
        """A plain answer has nothing to send yet."""

    async def put(self, events: Sequence[Event]) -> None:
        self.events += events


class Messages:
    """The two endpoints that read a conversation."""

    def __init__(self, parts: Parts, limits: StreamLimits, keeper: Keeper) -> None:
        """`keeper` takes what workspaces want kept of their requests."""
        self._parts = parts
        self._limits = limits
        self._keeper = keeper

    async def create(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Answer a conversation, streamed or whole."""
        caller = inference(exchange)
        parsed = await self._parsed(exchange, parse_messages)
        request = parsed.request
        exchange.note |= {"model": request.model, "stream": request.streamed}
        turn = Turn(self._parts, caller, parsed, exchange.request_id, workflow=workflow_of(exchange))
        await turn.open()
        try:
            headers: Headers = [(b"antiphon-model", turn.served_model.encode()), *turn.limit_headers]
            if request.streamed:
                await Stream(exchange, turn, self._limits).write(headers)
            else:
                await self._whole(exchange, turn, headers)
        finally:
            await turn.close()

    async def count_tokens(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Count a conversation's prompt."""
        caller = inference(exchange)
        parsed = await self._parsed(exchange, parse_count_tokens)
        exchange.note["model"] = parsed.request.model
        counted = await count(self._parts, caller, parsed)
        await exchange.json(200, TokenCount(counted.tokens), counted.headers)

    async def _parsed(self, exchange: Exchange, parse: Callable[[bytes], Parsed[R]]) -> Parsed[R]:
        """The body, read and checked against its version; what of it has no effect is named in the answer."""
        body = await exchange.json_body()
        record(exchange, self._keeper, body)
        parsed = parse(body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(parse, body)
        check(exchange.version, parsed.request, parsed.ignored)
        if fine_grained.NAME in exchange.betas and parsed.request.tools:
            parsed = msgspec.structs.replace(parsed, request=fine_grained.applied(parsed.request))
        if ignored := (*(beta for beta in exchange.betas if beta not in KNOWN), *parsed.ignored):
            exchange.extra.append((b"antiphon-ignored", ignored_header(ignored)))
            exchange.note["ignored"] = len(ignored)
        return parsed

    async def _whole(self, exchange: Exchange, turn: Turn, headers: Headers) -> None:
        """A plain answer. While it is made, somebody watches whether the client still waits."""
        sink = _Gathered()
        waiting = asyncio.current_task()
        gone = False

        def leave() -> None:
            nonlocal gone
            gone = True
            if waiting is not None:
                waiting.cancel("client_closed")

        try:
            with exchange.watched(leave):
                await turn.run(sink)
        except asyncio.CancelledError:
            if gone and waiting is not None:
                waiting.uncancel()
                raise ClientGone from None
            raise
        await exchange.json(200, gather(turn.start(), sink.events), headers)


def ignored_header(names: Sequence[str]) -> bytes:
    """Names of fields that had no effect, fit for a header: plain characters, a bounded number."""
    shown = ["".join(c if c.isascii() and c.isprintable() and c not in ',"' else "?" for c in n[:64]) for n in names]
    return ",".join(shown[:20]).encode()


def workflow_of(exchange: Exchange) -> str | None:
    """The piece of work that a client says its request belongs to (header `antiphon-workflow`, Antiphon's own), for
    reports.

    Raises:
        InvalidRequest: it is no plain text of at most 200 characters.
    """
    named = exchange.header(b"antiphon-workflow")
    if not named:
        return None
    text = named.decode("latin-1").strip()
    if len(text) > _LONGEST_WORKFLOW or not text.isascii() or not text.isprintable():
        raise InvalidRequest("antiphon-workflow: must be up to 200 printable ASCII characters")
    return text or None


def inference(exchange: Exchange) -> Caller:
    """The caller, if its key is for inference and it is known in which workspace.

    Raises:
        PermissionDenied: it is for administration.
        InvalidRequest: it reaches several workspaces, and the request names none (contract platform-and-tools 1).
    """
    caller = exchange.caller
    if caller is None or caller.admin:
        raise PermissionDenied("This key cannot be used for inference; use a workspace's API key")
    if caller.unscoped and exchange.header(b"anthropic-workspace-id") is None:
        raise InvalidRequest("This key reaches several workspaces: name one in the header anthropic-workspace-id")
    return caller
