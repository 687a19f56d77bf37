"""A model hub on this machine: it redirects to a storage on another port, as the public one does, and fails on
demand. Bytes are written by hand, so that it can break every promise that HTTP makes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

_PHRASES = {200: "OK", 206: "Partial Content", 302: "Found", 404: "Not Found"}


@dataclass(frozen=True)
class Request:
    """One request as it came. `at` is `hub` or `storage`; header names are in lower case."""

    at: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> int | None:
        """The first byte asked for, where the request says one."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Reply:
    """What goes back. After `cut_after` bytes of the body the connection ends; then, or with `hold`, it stays silent;
    with `drip` each byte takes that many seconds; an `endless` body repeats."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    hold: bool = False
    drip: float = 0.0
    endless: bool = False
    length: int | None = None
    """A Content-Length of one's own; -1 for none."""


Twist: TypeAlias = Callable[[Request, Reply], Reply]


@dataclass
class Published:
    """A file of the hub."""

    content: bytes
    etag: str
    linked: bool = True
    """Large, so that the hub tells its digest and redirects to the storage."""


class HubServer:
    """Start it, `publish`, and `twist` what the storage (or the hub) will answer next."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.token = ""
        """Asked for by the hub when it is set."""
        self._files: dict[str, Published] = {}
        self._twists: dict[str, deque[Twist]] = {"hub": deque(), "storage": deque()}
        self._ports: dict[str, int] = {}
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise AssertionError("the hub did not start")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports['hub']}"

    @property
    def storage(self) -> str:
        return f"http://127.0.0.1:{self._ports['storage']}"

    def publish(self, path: str, content: bytes, *, etag: str | None = None, linked: bool = True) -> None:
        """Put a file at `OWNER/REPOSITORY/FILE` of the revision `main`, or what follows an `@`."""
        name, _, revision = path.partition("@")
        owner, repository, file = name.split("/", 2)
        version = f'"{hashlib.md5(content).hexdigest()}"' if etag is None else etag
        self._files[f"/{owner}/{repository}/resolve/{revision or 'main'}/{file}"] = Published(content, version, linked)

    def twist(self, *twists: Twist, at: str = "storage") -> None:
        """What happens to the next answers there, one each."""
        self._twists[at].extend(twists)

    def asked(self, at: str = "storage") -> list[int | None]:
        """The first byte of each request there."""
        return [request.range for request in self.requests if request.at == at]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        servers = []
        for at in self._ports | self._twists:
            server = self._loop.run_until_complete(asyncio.start_server(self._server_of(at), "127.0.0.1", 0))
            self._ports[at] = server.sockets[0].getsockname()[1]
            servers.append(server)
        self._ready.set()
        self._loop.run_forever()
        for server in servers:
            server.close()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _server_of(self, at: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                lines = (line.partition(":") for line in head[1:] if line)
                request = Request(at, head[0].split(" ")[1], {name.lower(): text.strip() for name, _, text in lines})
                self.requests.append(request)
                reply = self._hub(request) if at == "hub" else self._storage(request)
                if self._twists[at]:
                    reply = self._twists[at].popleft()(request, reply)
                await _write(writer, reply)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

        return serve

    def _hub(self, request: Request) -> Reply:
        found = self._files.get(request.path)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(401, body=b"Invalid username or password.")
        if found is None:
            return Reply(404, body=b"Entry not found")
        if not found.linked:
            return self._storage(request)
        told = {
            "X-Linked-ETag": f'"{hashlib.sha256(found.content).hexdigest()}"',
            "X-Linked-Size": str(len(found.content)),
            "ETag": '"of-the-redirect"',
            "Location": f"{self.storage}{request.path}",
        }
        return Reply(302, told, b"Found. Redirecting")

    def _storage(self, request: Request) -> Reply:
        found = self._files.get(request.path)
        if found is None:
            return Reply(404)
        told = {"ETag": found.etag} if found.etag else {}
        start, whole = request.range, found.content
        if start is None or request.headers.get("if-range", found.etag) != found.etag:
            return Reply(200, told, whole)
        if start >= len(whole):
            return Reply(416, told | {"Content-Range": f"bytes */{len(whole)}"})
        return Reply(206, told | {"Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"}, whole[start:])


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> None:
    length = len(reply.body) if reply.length is None else reply.length
    headers = {"Connection": "close"} | reply.headers
    if length >= 0 and not reply.endless:
        headers["Content-Length"] = str(length)
    lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    writer.write(f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Else')}\r\n{lines}\r\n".encode("latin-1"))
    body = reply.body if reply.cut_after is None else reply.body[: reply.cut_after]
    step = 1 if reply.drip else 1 << 16
    while True:
        for at in range(0, len(body), step):
            writer.write(body[at : at + step])
            await writer.drain()
            if reply.drip:
                await asyncio.sleep(reply.drip)
        if not reply.endless:
            break
    if reply.hold:
        await asyncio.sleep(3600)


# -- twists


def cut(after: int) -> Twist:
    """The connection ends after so many bytes."""
    return lambda request, reply: replace(reply, cut_after=after)


def stall(after: int) -> Twist:
    """Nothing more comes after so many bytes."""
    return lambda request, reply: replace(reply, cut_after=after, hold=True)


def status(code: int, **headers: str) -> Twist:
    """Another answer; `_` in a header's name stands for a hyphen."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return lambda request, reply: Reply(code, named, b"no")


def changed(**fields: object) -> Twist:
    """The same answer with other fields."""
    return lambda request, reply: replace(reply, **fields)  # type: ignore[arg-type]


def headed(**headers: str) -> Twist:
    """The same answer with further headers."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return lambda request, reply: replace(reply, headers=reply.headers | named)


def redirect(location: str) -> Twist:
    return lambda request, reply: Reply(302, reply.headers | {"Location": location})
