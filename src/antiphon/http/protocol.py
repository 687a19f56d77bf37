"""The connection under the application: bounds on what comes before a request, and refusals in the API's envelope.

uvicorn's own protocol has no deadline for headers and no bound on them, and answers malformed requests in plain text
(faults B1, B3). Bodies have their bounds in `exchange`.
"""

from __future__ import annotations

import asyncio

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon.http.app import HttpApp
from antiphon.http.exchange import PARTING, Parting
from antiphon.wire.errors import ErrorBody, ErrorEnvelope

#: All headers of a request together, in bytes, and how many there may be.
HEADER_BYTES = 64 * 1024
HEADER_LINES = 128
#: From the first byte of a request (or the connection's begin) to the end of its headers.
HEADER_SECONDS = 20.0
#: What is left of a body that was refused unread may still come; nothing of it is kept.
REST_SECONDS = 20.0

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


def uvicorn_config(app: HttpApp, closing_seconds: int) -> uvicorn.Config:
    """uvicorn under our application: quiet, without what we have ourselves or do not want.

    `closing_seconds` is what open answers get once the server closes.
    """
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        proxy_headers=False,  # nothing here believes who a client says it is
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=closing_seconds,
        timeout_keep_alive=75,
    )


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True
    _parting: Parting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._parting = Parting(self.flow.resume_reading)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_came()
        super().connection_lost(exc)
        self._parting.now()

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES and not self._ends_within(data):
                self._refuse(431, "Request headers are too large")
                return
        super().data_received(data)
        # Headers nearly always come whole, and need no timer then.
        if self._in_headers and self._header_bytes and self._deadline is None:
            self._await_headers()

    def on_message_begin(self) -> None:
        self._in_headers = True
        super().on_message_begin()
        self.scope[PARTING] = self._parting  # type: ignore[literal-required]

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > HEADER_LINES and not self.transport.is_closing():
            self._refuse(431, f"A request may have at most {HEADER_LINES} headers")

    def on_headers_complete(self) -> None:
        self._headers_came()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        # The next bytes of a kept connection are the next request's headers; a deadline for the rest of a body is over.
        self._headers_came()
        self._in_headers = True
        self._header_bytes = 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A request that was answered before its body had come: no reader has a deadline for the rest.
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._deadline = self.loop.call_later(REST_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed as HTTP."""
        self._refuse(400, msg)

    def _ends_within(self, data: bytes) -> bool:
        """Whether the headers are whole with this data, and the rest of it is body."""
        end = data.find(b"\r\n\r\n")
        return end >= 0 and self._header_bytes - len(data) + end <= HEADER_BYTES

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._late)

    def _headers_came(self) -> None:
        self._in_headers = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._header_bytes:
            self._refuse(408, "The request headers did not arrive in time")
        else:
            self.transport.close()  # nobody ever spoke

    def _refuse(self, status: int, message: str) -> None:
        """Answer and close; nothing after this belongs to a request."""
        request_id = self.config.loaded_app.request_id()
        body = msgspec.json.encode(ErrorEnvelope(ErrorBody("invalid_request_error", message), request_id))
        head = (
            b"HTTP/1.1 %d %b\r\nrequest-id: %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n"
        )
        self.transport.write(head % (status, _REASONS[status], request_id.encode(), len(body)) + body)
        self.transport.close()
