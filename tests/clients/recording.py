"""A reverse proxy that stands between a client and the server and keeps what each sent to the other.

It passes bytes on as they arrive, so that a stream stays one, and drops the server's connection when the client's is
gone. Credentials are not kept.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import msgspec

_SECRET = frozenset(["authorization", "x-api-key"])
#: What belongs to one connection and is not passed on (RFC 9110, 7.6.1).
_HOP = frozenset(["connection", "keep-alive", "transfer-encoding", "host", "content-length"])


class Seen(msgspec.Struct):
    """One request and what came of it. Header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    reply_headers: dict[str, str] = {}
    reply: bytes = b""

    def json(self) -> Any:
        """The request's body."""
        return msgspec.json.decode(self.body)

    def reply_json(self) -> Any:
        """The answer's body, where it is one document."""
        return msgspec.json.decode(self.reply)

    def events(self) -> list[Any]:
        """The answer's events, where it is a stream."""
        lines = self.reply.decode().splitlines()
        return [msgspec.json.decode(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


class Recorder:
    """What was seen, in the order in which requests arrived."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.seen: list[Seen] = []

    def of(self, path: str) -> list[Seen]:
        """The requests to one path, whatever their query."""
        return [seen for seen in self.seen if seen.path == path]


@contextmanager
def recording(upstream: str) -> Iterator[Recorder]:
    """A proxy in front of a server, as long as the block lasts."""
    target = urlsplit(upstream)

    class Handler(_Handler):
        upstream = (str(target.hostname), target.port or 80)

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # A client may keep idle connections open; their threads end with the process.
    proxy.daemon_threads = True
    proxy.block_on_close = False
    Handler.recorder = Recorder(f"http://127.0.0.1:{proxy.server_port}")
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield Handler.recorder
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: tuple[str, int]
    recorder: Recorder

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        sent = {name.lower(): value for name, value in self.headers.items()}
        target = urlsplit(self.path)
        shown = {name: "(not kept)" if name in _SECRET else value for name, value in sent.items()}
        seen = Seen(self.command, target.path, target.query, shown, body)
        self.recorder.seen.append(seen)
        server = http.client.HTTPConnection(*self.upstream, timeout=60)
        try:
            headers = {name: value for name, value in sent.items() if name not in _HOP}
            server.request(self.command, self.path, body or None, headers)
            self._answer(seen, server.getresponse())
        except ConnectionError:
            self.close_connection = True
        finally:
            server.close()

    def _answer(self, seen: Seen, reply: http.client.HTTPResponse) -> None:
        seen.status = reply.status
        seen.reply_headers = {name.lower(): value for name, value in reply.getheaders()}
        self.send_response_only(reply.status)
        for name, value in seen.reply_headers.items():
            if name not in _HOP:
                self.send_header(name, value)
        whole = "content-length" in seen.reply_headers
        self.send_header(
            "content-length" if whole else "transfer-encoding", seen.reply_headers.get("content-length", "chunked")
        )
        self.end_headers()
        while part := reply.read1(65536):
            seen.reply += part
            self.wfile.write(part if whole else b"%x\r\n%b\r\n" % (len(part), part))
        if not whole and self.command != "HEAD":
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, format: str, *args: Any) -> None:
        """The recorder is the log."""
