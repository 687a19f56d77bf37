"""One HTTP exchange: reading a request within its limits, and answering it once.

Every answer carries `request-id`, and the organization and workspace once they are known (contract
messages-and-inference 1).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, TypeAlias

import msgspec

from antiphon.core.errors import AntiphonError, InvariantBroken, ReceiptTimeout, RequestTooLarge
from antiphon.core.records import Caller
from antiphon.http.decoding import Decoding, check_type, decoding_of
from antiphon.http.errors import body_of, headers_of, status_of
from antiphon.wire.errors import ErrorEnvelope
from antiphon.wire.versions import OLDEST

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

#: Where our own protocol puts a connection's `Parting`.
PARTING = "antiphon.parting"

_json = msgspec.json.Encoder()
#: How long a client that was refused for its size may go on sending before the connection is closed.
_LINGER_SECONDS = 1.0
#: Calls that are of no workspace (contract platform-and-tools 6).
OF_THE_ORGANIZATION = ("/v1/organizations/", "/v1/compliance/")


class Receipt(msgspec.Struct, frozen=True):
    """How much may be sent to an endpoint, in bytes, and in how many seconds."""

    bytes: int
    seconds: float


class Parting:
    """Who is told when a connection goes. A task for each request that waits for it would cost more than its limits."""

    __slots__ = ("listen", "over", "told")

    def __init__(self, listen: Callable[[], None]) -> None:
        """`listen` has the connection read again: behind a large body it is not, and would not notice."""
        self.listen = listen
        self.over = False
        self.told: list[Callable[[], object]] = []

    def now(self) -> None:
        """The connection has gone."""
        self.over = True
        for tell in tuple(self.told):
            tell()


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
        self.client: str | None = scope["client"][0] if scope.get("client") else None
        self._parting: Parting | None = scope.get(PARTING)
        self.caller: Caller | None = None
        self.version = OLDEST
        self.betas: tuple[str, ...] = ()
        self.status = 0
        self.extra: Headers = []
        self._receipt: Receipt | None = None
        self._reading = False
        self._unread = True
        self.note: dict[str, object] = {}
        """Named facts for the log line; never content."""
        self.error: str | None = None
        """The kind of the error that was answered, or that cut a stream short."""

    @contextlib.contextmanager
    def watched(self, gone: Callable[[], object]) -> Iterator[None]:
        """Do something as soon as the client has gone, if that is within this block; once the body has been read."""
        parting = self._parting
        if parting is None:  # another server's protocol
            task = asyncio.get_running_loop().create_task(self._until_gone(gone))
            try:
                yield
            finally:
                task.cancel()
            return
        parting.told.append(gone)
        try:
            if parting.over:
                gone()
            parting.listen()
            yield
        finally:
            parting.told.remove(gone)

    async def _until_gone(self, gone: Callable[[], object]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        gone()

    def header(self, name: bytes) -> bytes | None:
        """A header's value; the last one where a client sent several."""
        return self._headers.get(name)

    def all_headers(self, name: bytes) -> list[bytes]:
        """A header's values where a client may repeat it."""
        return [value for given, value in self.raw_headers if given == name]

    def expect_body(self, receipt: Receipt) -> None:
        """Say what the body may be, before anything of it is read.

        Raises:
            RequestTooLarge: it is announced to be larger.
        """
        self._receipt = receipt
        announced = self.header(b"content-length")
        if announced is not None and int(announced) > receipt.bytes:
            raise RequestTooLarge(_too_large(receipt.bytes))

    def json_body(self) -> Awaitable[bytes]:
        """The whole body of an endpoint that takes JSON; not parsed yet.

        Raises:
            InvalidRequest: its content-type says that it cannot be JSON in UTF-8. And all that `body` raises.
        """
        content_type = self.header(b"content-type")
        if content_type is not None and content_type != b"application/json":
            check_type(content_type)
        return self.body()

    async def body(self) -> bytes:
        """The whole body, decoded.

        Raises:
            RequestTooLarge: it is over the limit, as it was sent or after decoding.
            ReceiptTimeout: it is not all here in time.
            InvalidRequest: it is encoded in a way that is not understood.
            ClientGone: the client went away.
        """
        receipt = self._receipt
        if receipt is None:
            raise InvariantBroken("an endpoint that reads a body has a receipt in its route")
        decoding: Decoding | None = None
        if self.header(b"content-encoding") is not None:
            decoding = decoding_of(self.all_headers(b"content-encoding"), receipt.bytes)
        self._reading = True
        try:
            async with asyncio.timeout(receipt.seconds):
                return await self._whole_body(receipt.bytes, decoding)
        except TimeoutError:
            raise ReceiptTimeout from None

    async def _whole_body(self, limit: int, decoding: Decoding | None) -> bytes:
        parts: list[bytes] = []
        room, more = limit, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part, more = message.get("body", b""), message.get("more_body", False)
            self._unread = more
            room -= len(part)
            if room < 0:
                raise RequestTooLarge(_too_large(limit))
            if decoding is None:
                parts.append(part)
            else:
                await decoding.feed(part)
        return b"".join(parts) if decoding is None else decoding.finish()

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        self.status = status
        identity: Headers = [(b"request-id", self.request_id.encode())]
        if self.caller is not None:
            identity.append((b"anthropic-organization-id", self.caller.scope.organization.encode()))
            if not self.path.startswith(OF_THE_ORGANIZATION):
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

    async def refuse(self, error: AntiphonError) -> None:
        """Answer with an error, if nothing has been sent yet. A connection whose next bytes nobody wants, or of which
        nobody knows whether they will be a body (RFC 9110, 10.1.1), is closed."""
        if self.status:
            return
        envelope = ErrorEnvelope(body_of(error), self.request_id)
        headers = headers_of(error)
        too_large = isinstance(error, RequestTooLarge)
        unasked = not self._reading and self.header(b"expect") is not None
        if too_large or unasked or isinstance(error, ReceiptTimeout):
            headers.append((b"connection", b"close"))
        still_sending = self._unread and not unasked
        if still_sending and (too_large or self._asked_to_close()):
            await self._answer_and_linger(status_of(error), _json.encode(envelope), headers)
        else:
            await self.json(status_of(error), envelope, headers)

    def _asked_to_close(self) -> bool:
        return (self.header(b"connection") or b"").lower() == b"close"

    async def _answer_and_linger(self, status: int, body: bytes, headers: Headers) -> None:
        """Answer, and let a client that is still sending find the answer before the connection is closed: closing at
        once would reset it, and many systems then throw away what has come and was not read. Nothing sent is kept."""
        length = (b"content-length", b"%d" % len(body))
        await self.start(status, [(b"content-type", b"application/json"), length, *headers])
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                more = True
                while more:
                    message = await self.receive()
                    more = message["type"] == "http.request" and message.get("more_body", False)
        await self.send({"type": "http.response.body", "body": b""})


def _too_large(limit: int) -> str:
    return f"Request exceeds the maximum allowed number of bytes. The maximum request size is {limit} bytes."
