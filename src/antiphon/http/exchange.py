"""One HTTP exchange: reading a request within its limits, and answering it once.

Every answer carries `request-id`, and the organization and workspace once they are known (contract
messages-and-inference 1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec

from antiphon.core.errors import AntiphonError, InvalidRequest, ReceiptTimeout, RequestTooLarge
from antiphon.core.records import Caller
from antiphon.http.errors import body_of, status_of
from antiphon.wire.errors import ErrorEnvelope
from antiphon.wire.versions import OLDEST

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

_json = msgspec.json.Encoder()


class ClientGone(Exception):
    """The client closed the connection before it had sent its request."""


class Exchange:
    """A request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self.receive = receive
        self.send = send
        self.request_id = request_id
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.raw_headers: Headers = scope["headers"]
        self._headers = dict(self.raw_headers)
        self.caller: Caller | None = None
        self.version = OLDEST
        self.betas: tuple[str, ...] = ()
        self.status = 0
        self.extra: Headers = []
        self.note: dict[str, object] = {}
        """Named facts for the log line; never content."""
        self.error: str | None = None
        """The kind of the error that was answered, or that cut a stream short."""

    def header(self, name: bytes) -> bytes | None:
        """A header's value; the last one where a client sent several."""
        return self._headers.get(name)

    def all_headers(self, name: bytes) -> list[bytes]:
        """A header's values where a client may repeat it."""
        return [value for given, value in self.raw_headers if given == name]

    async def body(self, limit: int, seconds: float) -> bytes:
        """The whole body.

        Raises:
            RequestTooLarge: over `limit` bytes, by its announcement or by its length.
            ReceiptTimeout: not all here after `seconds`.
            InvalidRequest: encoded in a way that is not understood.
            ClientGone: the client went away.
        """
        encoding = self.header(b"content-encoding")
        if encoding not in (None, b"", b"identity"):
            raise InvalidRequest(
                "compressed request bodies are not supported",
                details={"error_code": "request_body_encoding_unsupported"},
            )
        announced = self.header(b"content-length")
        if announced is not None and announced.isdigit() and int(announced) > limit:
            raise RequestTooLarge(_too_large(limit))
        try:
            async with asyncio.timeout(seconds):
                return await self._whole_body(limit)
        except TimeoutError:
            raise ReceiptTimeout("The request body did not arrive in time") from None

    async def _whole_body(self, limit: int) -> bytes:
        parts: list[bytes] = []
        room, more = limit, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            room -= len(parts[-1])
            if room < 0:
                raise RequestTooLarge(_too_large(limit))
            more = message.get("more_body", False)
        return b"".join(parts)

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        self.status = status
        identity: Headers = [(b"request-id", self.request_id.encode())]
        if self.caller is not None:
            identity.append((b"anthropic-organization-id", self.caller.scope.organization.encode()))
            identity.append((b"anthropic-workspace-id", self.caller.scope.workspace.encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": identity + self.extra + headers})

    async def answer(self, status: int, body: bytes, content_type: bytes, headers: Headers | None = None) -> None:
        """Send a whole answer."""
        length = (b"content-length", b"%d" % len(body))
        await self.start(status, [(b"content-type", content_type), length, *(headers or [])])
        await self.send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    async def json(self, status: int, payload: object, headers: Headers | None = None) -> None:
        """Send a whole answer of JSON."""
        await self.answer(status, _json.encode(payload), b"application/json", headers)

    def failed(self, error: AntiphonError) -> None:
        """Note an error for the log line: its kind and, where the server is at fault, the reason."""
        self.note["error"] = self.error = type(error).__name__
        reason = getattr(error, "reason", None)
        if reason is not None:
            self.note["reason"] = reason

    async def refuse(self, error: AntiphonError, headers: Headers | None = None) -> None:
        """Answer with an error, if nothing has been sent yet."""
        if self.status:
            return
        envelope = ErrorEnvelope(body_of(error), self.request_id)
        status = status_of(error)
        # What has not been read of the body would be taken for the next request.
        closing: Headers = [(b"connection", b"close")] if status in (408, 413) else []
        await self.json(status, envelope, [*closing, *(headers or [])])


def _too_large(limit: int) -> str:
    return f"Request exceeds the maximum allowed number of bytes. The maximum request size is {limit} bytes."
