"""The ASGI application: every request comes in at the top of `__call__` and leaves at its bottom.

Plain ASGI from end to end: a middleware that buffers would take back-pressure away from the streams (style, 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import structlog

from antiphon.core.clock import Clock
from antiphon.core.errors import AntiphonError, Internal
from antiphon.core.ids import Ids
from antiphon.core.records import Caller
from antiphon.gate.keys import credential_headers
from antiphon.http.cors import Cors
from antiphon.http.exchange import ClientGone, Exchange, Receive, Scope, Send
from antiphon.http.routes import Route, Routes
from antiphon.http.strangers import Strangers
from antiphon.observe.logs import whereabouts
from antiphon.observe.metrics import Metrics
from antiphon.observe.traces import Tracing
from antiphon.wire.betas import betas_of
from antiphon.wire.versions import version_of

_log = structlog.get_logger()


class Door(Protocol):
    """Who comes in: `gate.identity.Gate`."""

    async def identify(self, authorization: bytes | None, x_api_key: bytes | None) -> Caller:
        """The caller that these headers prove. Raises Unauthenticated."""
        ...

    def in_workspace(self, caller: Caller, named: bytes) -> Caller:
        """The caller in the workspace that is named. Raises PermissionDenied."""
        ...


class HttpApp:
    """Receives, identifies, dispatches, translates errors, logs.

    Args:
        open_paths: routes that need no key.
    """

    def __init__(
        self,
        *,
        table: list[Route],
        open_paths: frozenset[str],
        door: Door,
        cors: Cors,
        metrics: Metrics,
        tracing: Tracing,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._routes = Routes(table)
        self._open_paths = open_paths
        self._door = door
        self._cors = cors
        self._metrics = metrics
        self._tracing = tracing
        self._clock = clock
        self._ids = ids
        self._strangers = Strangers(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(Exchange(scope, receive, send, self.request_id()))
        else:
            await send({"type": "websocket.close", "code": 1000})

    def request_id(self) -> str:
        """A fresh id for an answer."""
        return self._ids.make("req")

    async def _request(self, exchange: Exchange) -> None:
        began = self._clock.monotonic()
        path = "unknown"
        try:
            allowed = self._cors.preflight(exchange)
            if allowed is not None:
                await exchange.start(204, allowed)
                await exchange.send({"type": "http.response.body", "body": b""})
                return
            route, parameters = self._routes.find(exchange.method, exchange.path)
            path = route.path
            if path in self._open_paths:  # scrapes and health checks would drown the traces
                await self._dispatch(exchange, route, parameters)
                return
            with self._tracing.request(exchange.method, path, self._trace_headers(exchange)):
                await self._dispatch(exchange, route, parameters)
                self._tracing.ended(exchange.status or 499, exchange.error)
        except AntiphonError as error:
            await self._refuse(exchange, error)
        finally:
            self._account(exchange, path, began)

    async def _dispatch(self, exchange: Exchange, route: Route, parameters: Mapping[str, str]) -> None:
        """Answer, with an error if need be: the first of these that applies, cheap ones and the client's own first.

            404  no such path                                  (Routes.find)
            405  the path answers other methods                (Routes.find)
            413  the announced size is over the route's limit  (contract messages-and-inference 2.1: at the edge)
            401  the web page that asks is not allowed to      (Cors)
            401  no key, or a wrong one
            403  the key is not for the workspace that is named, or not for this route (Route.permit)
            400  no such version, a malformed list of betas
            400  content-type, content-encoding; 413 too large, also after decoding; 400 too slow   (Exchange.body)
            400  not JSON, not the documented shape            (wire.parse)
            400  what the request's version took away          (wire.versions)
            529  the server is full or stopping                (gate.admission)
            404  no such model; 400 what the model's name refuses   (routing)
            429  the requests of this minute are used up       (gate.limits)
            400  the rules of a conversation; then the prompt is too long   (plan)
            429  the tokens of this minute are used up         (gate.limits)
            400  a spend limit is reached; 429 the tier's      (gate.spend)

        Whatever comes before the body leaves it unread.
        """
        try:
            if route.receipt is not None:
                exchange.expect_body(route.receipt)
            if route.path not in self._open_paths:
                self._cors.admit(exchange)
                caller = await self._door.identify(*credential_headers(exchange.raw_headers))
                exchange.caller = caller
                exchange.caller = self._in_workspace(exchange, caller)
                if route.permit is not None:
                    route.permit(exchange)
                exchange.version = version_of(exchange.header(b"anthropic-version"))
                exchange.betas = betas_of(exchange.all_headers(b"anthropic-beta"))
            await route.endpoint(exchange, parameters)
        except ClientGone:
            exchange.note["ended"] = "client_closed"
        except AntiphonError as error:
            await self._refuse(exchange, error)
        except Exception as error:  # noqa: BLE001 - the one place where a defect becomes a 500
            await self._refuse(exchange, Internal(whereabouts(error)))

    def _in_workspace(self, exchange: Exchange, caller: Caller) -> Caller:
        """The caller in the workspace that its request names, if it names one (contract messages-and-inference 1)."""
        named = exchange.header(b"anthropic-workspace-id")
        return caller if named is None else self._door.in_workspace(caller, named)

    async def _refuse(self, exchange: Exchange, error: AntiphonError) -> None:
        exchange.failed(error)
        await exchange.refuse(error)

    def _account(self, exchange: Exchange, path: str, began: float) -> None:
        seconds = self._clock.monotonic() - began
        status = exchange.status or 499
        self._metrics.request(path, status, seconds)
        if exchange.caller is None and 400 <= status < 500:
            left_out = self._strangers.line()
            if left_out is None:
                return
            if left_out:
                exchange.note["left_out"] = left_out
        log = _log.info if status < 500 and "reason" not in exchange.note else _log.warning
        log(
            "request",
            request_id=exchange.request_id,
            method=exchange.method,
            route=path,
            status=status,
            ms=round(seconds * 1000, 1),
            key=exchange.caller.key_id if exchange.caller else None,
            **exchange.note,
        )

    def _trace_headers(self, exchange: Exchange) -> Mapping[str, str]:
        """The two headers of a caller's trace; nothing else of a request goes near the tracer."""
        if not self._tracing.on:
            return {}
        names = (b"traceparent", b"tracestate")
        return {n.decode(): v.decode("latin-1") for n in names if (v := exchange.header(n)) is not None}
