"""A llama.cpp server's HTTP interface, as far as the body `llama_server` needs it.

Nothing here follows a redirect, uses a proxy or keeps a connection: the server closes kept ones as it likes, also while
the next request is on its way. What the server says of an error is for the log; `Unfit` and `Away` are in our words.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec

from antiphon.core.errors import EngineFailed
from antiphon.engine.llama_stream import CompletionReader, Heard

_CONNECT_SECONDS = 10.0
#: `/props` holds the chat template; nothing else is longer.
_MOST_ANSWER = 4 * 1024 * 1024
#: What is read of an answer that is an error.
_MOST_ERROR = 300
_NOT_OFFERED = frozenset({404, 405, 501})

T = TypeVar("T")


class Away(EngineFailed):
    """The server does not answer, or is not ready. `sure` where there is no doubt: one more look says nothing new."""

    def __init__(self, reason: str, *, sure: bool) -> None:
        super().__init__(reason)
        self.sure = sure


class Unfit(EngineFailed):
    """The server answers, and cannot serve as it is set up."""


class Props(msgspec.Struct, frozen=True):
    """What the server tells of itself; None where it does not. `window` is what one slot holds, in tokens. The rest
    names the process: another answer is another server."""

    window: int | None
    slots: int | None
    process: tuple[str, str, str] = ("", "", "")


class _Defaults(msgspec.Struct, frozen=True):
    n_ctx: int | None = None


class _PropsReply(msgspec.Struct):
    default_generation_settings: _Defaults = _Defaults()
    total_slots: int | None = None
    model_path: str = ""
    build_info: str = ""
    media_marker: str = ""


class _SlotReply(msgspec.Struct):
    n_ctx: int | None = None


class _TokenizeReply(msgspec.Struct):
    tokens: list[int]


class LlamaHttp:
    """One server. `open` before use, `close` at the end.

    Args:
        address: `http://` or `https://`, host, port, and a path where the server has a prefix.
        key: sent as a bearer token; empty for none.
        answer_seconds: what any question other than a completion may take.
    """

    def __init__(self, address: str, key: str, answer_seconds: float) -> None:
        self._answer_seconds = answer_seconds
        self._address = address.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Needs a running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2**20,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, method: str, path: str, body: Mapping[str, object] | None = None) -> aiohttp.ClientResponse:
        """Ask, and wait for the head of the answer; closing that ends the server's work on it.

        Raises:
            Away: nobody listens, or the connection broke.
        """
        if self._session is None:
            raise Away("the body has been stopped", sure=True)
        data = None if body is None else msgspec.json.encode(body)
        try:
            return await self._session.request(
                method, self._address + path, data=data, headers=self._headers, allow_redirects=False
            )
        except aiohttp.ClientConnectorError as error:
            raise Away(f"nobody listens at the server's address ({type(error).__name__})", sure=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # the last for a host or port that cannot be
            raise Away(f"the connection to the server broke ({type(error).__name__})", sure=False) from None

    async def look(self) -> None:
        """See that the server is there and has its model.

        Raises:
            Away: it is not, or has not.
        """
        status, _ = await self._ask("GET", "/health")
        if status == 503:
            raise Away("the server is loading its model", sure=True)
        if status != 200:
            raise Away(f"the server answers {status} when asked for its health", sure=True)

    async def props(self) -> Props:
        """What the server tells of itself.

        Raises:
            Away, Unfit: it does not answer, or not to this key.
        """
        status, text = await self._ask("GET", "/props")
        if status == 200:
            found = _decoded(text, _PropsReply)
            process = (found.model_path, found.build_info, found.media_marker)
            if found.total_slots is not None or found.default_generation_settings.n_ctx is not None:
                return Props(found.default_generation_settings.n_ctx, found.total_slots, process)
        elif status not in _NOT_OFFERED:
            raise _refusal(status, "/props")
        status, text = await self._ask("GET", "/slots")
        if status == 200:
            slots = _decoded(text, list[_SlotReply])
            return Props(min((s.n_ctx for s in slots if s.n_ctx is not None), default=None), len(slots))
        if status not in _NOT_OFFERED:
            raise _refusal(status, "/slots")
        return Props(None, None)

    async def tokenize(self, text: str) -> list[int]:
        """The server's own ids for a text, control tokens in it recognised.

        Raises:
            Away, Unfit: it does not answer, or not to this key.
        """
        body = {"content": text, "parse_special": True, "add_special": False}
        status, answer = await self._ask("POST", "/tokenize", body)
        if status != 200:
            raise _refusal(status, "/tokenize")
        return _decoded(answer, _TokenizeReply).tokens

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._answer_seconds):
                reply = await self.send(method, path, body)
                try:
                    return reply.status, await bounded(reply, _MOST_ANSWER)
                finally:
                    reply.close()
        except TimeoutError:
            raise Away(f"the server does not answer {path} within {self._answer_seconds:.0f} s", sure=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Away(f"the connection to the server broke ({type(error).__name__})", sure=False) from None


async def bounded(reply: aiohttp.ClientResponse, most: int = _MOST_ERROR) -> bytes:
    """The answer's body, or as much of it as is wanted."""
    found = b""
    async for data in reply.content.iter_any():
        found += data
        if len(found) >= most:
            break
    return found[:most]


def _decoded(text: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError):
        raise Unfit("what is at the address does not answer as a llama.cpp server does") from None


def _refusal(status: int, path: str) -> EngineFailed:
    if status in {401, 403}:
        return Unfit("the server refuses the key")
    if status >= 500:
        return Away(f"the server answers {status} to {path}", sure=True)
    return Unfit(f"the server answers {status} to {path}")


class Call:
    """A completion under way, and what ends it from outside: silence, or the loss of the server."""

    def __init__(self, http: LlamaHttp, stall_seconds: float) -> None:
        self._http = http
        self._stall_seconds = stall_seconds
        self._timer: asyncio.Timeout | None = None
        self._ended = ""

    def end(self, reason: str) -> None:
        """The server is lost: whoever reads hears of it."""
        self._ended = reason
        if self._timer is not None:
            with contextlib.suppress(RuntimeError):  # its time is up at this moment anyway
                self._timer.reschedule(asyncio.get_running_loop().time())

    async def heard(self, request: Mapping[str, object], reader: CompletionReader) -> AsyncGenerator[Heard, None]:
        """What the server does, up to the finish. Leaving early closes the connection, at which the server stops.

        Raises:
            EngineFailed: it refuses, is silent for too long, or is lost.
            aiohttp.ClientError, OSError, msgspec.MsgspecError: the stream broke, or is none.
        """
        deadline = self._deadline()
        reply: aiohttp.ClientResponse | None = None
        try:
            async with self._watched(deadline):
                reply = await self._http.send("POST", "/completion", request)
            if reply.status != 200:
                async with self._watched(deadline):
                    raise _refused(reply.status, await bounded(reply))
            while True:
                async with self._watched(deadline):
                    data = await reply.content.readany()
                if not data:
                    raise EngineFailed("the server's stream ended without a last event")
                heard = reader.feed(data)
                if heard.empty:
                    continue
                yield heard
                if heard.finish is not None:
                    return
                deadline = self._deadline()  # only now: what the reader took its time for is not the server's silence
        finally:
            if reply is not None:
                reply.close()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._stall_seconds

    def _why(self) -> str:
        return self._ended or f"no progress for {self._stall_seconds:.0f} s"

    @asynccontextmanager
    async def _watched(self, deadline: float) -> AsyncIterator[None]:
        if self._ended:
            raise EngineFailed(self._ended)
        try:
            async with asyncio.timeout_at(deadline) as self._timer:
                yield
        except TimeoutError:
            raise EngineFailed(self._why()) from None
        finally:
            self._timer = None


def _refused(status: int, said: bytes) -> EngineFailed:
    """A 400 is about the request itself: it comes to the same every time."""
    reason = f"the server answered {status}: {said.decode(errors='replace')}"
    return EngineFailed(reason, retry_helps=False if status in {400, 413} else None)
