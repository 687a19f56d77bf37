"""A Lua script on a Valkey (or Redis) server: asked with one deadline, never twice by itself.

Callers that come together travel together: one round trip at a time, with everything that was waiting, over one
connection. Nobody knows whether a call without an answer ran, so what to do then is the caller's to say. While the
server is away callers are refused at once for the length of a deadline, so that they do not queue up for an answer that
will not come.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import msgspec
from valkey.asyncio import Valkey
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ConnectionError as NoConnection
from valkey.exceptions import NoScriptError, ValkeyError
from valkey.exceptions import TimeoutError as NoAnswer

from antiphon.core.clock import Clock
from antiphon.core.errors import SettingsError
from antiphon.gate.limits.buckets import LimitsUnavailable

#: The server's time in milliseconds, as a script asks for it.
SERVER_CLOCK: Final = "(function() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end)()"

#: The server does nothing else while it runs what came together, so that must stay short (about 20 us a call).
_TOGETHER: Final = 256
#: A deadline is waited for in so many parts. See `_in_time`.
_PARTS: Final = 10


class ScriptFigures(msgspec.Struct, frozen=True):
    """For the metrics and the log."""

    failures: int
    last_error: str | None


class _Call(msgspec.Struct, frozen=True, eq=False):
    """What a caller waits for."""

    keys: Sequence[str]
    args: Sequence[str | int]
    answer: asyncio.Future[Any]


class ServerScript:
    """One script on one server. Close it at the end."""

    def __init__(
        self, url: str, text: str, clock: Clock, *, timeout_s: float = 0.5, server_clock: str = SERVER_CLOCK
    ) -> None:
        """`url` like `valkey://host:6379/0`, `valkeys://` for TLS, `unix://` for a socket. `clock` is only asked how
        long the server has been away. `NOW_MS` in the text becomes `server_clock`, which tests own.

        Raises:
            SettingsError: the address is malformed.
        """
        try:
            self._server = Valkey.from_url(url, retry=Retry(NoBackoff(), 0))
        except ValueError as error:
            raise SettingsError(f"The address of the limits' server cannot be read: {error}") from None
        self._text = text.replace("NOW_MS", server_clock)
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()
        self._clock = clock
        self._timeout_s = timeout_s
        self._away_until_s = float("-inf")
        self._failures = 0
        self._last_error: str | None = None
        self._waiting: list[_Call] = []
        self._sending: asyncio.Task[None] | None = None

    async def __call__(self, keys: Sequence[str], args: Sequence[str | int]) -> object:
        """What the script answers.

        Raises:
            LimitsUnavailable: no answer in time, or an error. The script may have run all the same.
        """
        if self._clock.monotonic() < self._away_until_s:
            raise LimitsUnavailable(self._last_error or "")
        call = _Call(keys, args, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await call.answer

    def figures(self) -> ScriptFigures:
        return ScriptFigures(self._failures, self._last_error)

    async def close(self) -> None:
        """Leave the server. Who still waits is refused."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        self._refuse_all(NoConnection("closed"))
        await self._server.aclose(close_connection_pool=True)

    async def _send(self) -> None:
        """Ask for all that wait, until nobody does."""
        try:
            while self._waiting:
                calls = self._waiting[:_TOGETHER]
                try:
                    answers = await _in_time(self._asked(calls), self._timeout_s)
                except (ValkeyError, OSError) as error:
                    await self._failed(error)
                    self._refuse_all(error)  # what came meanwhile would only wait for the same silence
                else:
                    del self._waiting[: len(calls)]
                    for call, answer in zip(calls, answers, strict=True):
                        _tell(call, answer)
        finally:
            self._sending = None
            self._refuse_all(NoConnection("closed"))  # nobody waits for ever, whatever went wrong

    def _refuse_all(self, error: Exception) -> None:
        refused, self._waiting = self._waiting, []
        for call in refused:
            _tell(call, error)

    async def _asked(self, calls: Sequence[_Call]) -> list[Any]:
        """What the script answers to each, in one round trip; a server that does not know the script has not run it."""
        answers = await self._round_trip(calls)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            await self._server.script_load(self._text)
            again = await self._round_trip([calls[at] for at in unknown])
            for at, answer in zip(unknown, again, strict=True):
                answers[at] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                self._count(answer)
        return answers

    async def _round_trip(self, calls: Sequence[_Call]) -> list[Any]:
        async with self._server.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.evalsha(self._digest, len(call.keys), *call.keys, *call.args)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    def _count(self, error: Exception) -> None:
        self._failures += 1
        self._last_error = f"{type(error).__name__}: {error}"

    async def _failed(self, error: Exception) -> None:
        self._count(error)
        if isinstance(error, NoConnection | NoAnswer | OSError):
            self._away_until_s = self._clock.monotonic() + self._timeout_s
            await self._server.connection_pool.disconnect()


def _tell(call: _Call, answer: object) -> None:
    if call.answer.done():  # its caller went away
        return
    if isinstance(answer, Exception):
        refused = LimitsUnavailable(f"{type(answer).__name__}: {answer}")
        refused.__cause__ = answer
        call.answer.set_exception(refused)
    else:
        call.answer.set_result(answer)


async def _in_time(asked: Coroutine[Any, Any, list[Any]], timeout_s: float) -> list[Any]:
    """What was asked for, if it comes within `timeout_s`.

    The time is waited for in parts, because it is the server's silence that is measured: a loop that was busy for
    longer than the whole of it finds both the answer and the end of the time, and must look at the answer first.

    Raises:
        TimeoutError: it did not come, and is cancelled.
    """
    task = asyncio.ensure_future(asked)
    try:
        for _ in range(_PARTS):
            await asyncio.wait([task], timeout=timeout_s / _PARTS)
            if task.done():
                return task.result()
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
