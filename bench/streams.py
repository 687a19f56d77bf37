"""Answers in the making, as `bench.engine` measures them: when which tokens came, and what that amounts to.

Times are in seconds since the requests were sent, all at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiohttp
import msgspec

from bench.load import Unmeasurable

_DELTA = b"event: content_block_delta"
_LAST = b"event: message_delta"


class Answer(msgspec.Struct):
    """One answer: the times at which something of it came and how many tokens that was, and how long its prompt was."""

    prompt: int
    heard: list[tuple[float, float]]
    made: int

    @property
    def first(self) -> float:
        return self.heard[0][0]

    @property
    def last(self) -> float:
        return self.heard[-1][0]


class Ask(msgspec.Struct):
    """Prompts in tokens, all asked at once; each answer of this many tokens."""

    prompts: list[list[int]]
    max_tokens: int


def decode_rate(answers: Sequence[Answer]) -> float:
    """Tokens per second of all answers together, while all of them were being made: what is computed of prompts before
    and of stragglers after is no part of it."""
    begin, end = max(answer.first for answer in answers), min(answer.last for answer in answers)
    tokens = sum(count for answer in answers for when, count in answer.heard if begin < when <= end)
    if not tokens:
        raise Unmeasurable("the answers were not made at the same time")
    return tokens / (end - begin)


def whole_rate(answers: Sequence[Answer]) -> float:
    """Tokens per second from the moment the requests were sent to the last token of the last answer."""
    return sum(answer.made for answer in answers) / max(answer.last for answer in answers)


def see_whole(answers: Sequence[Answer], max_tokens: int) -> None:
    """Raises Unmeasurable where an answer is not as long as it was to be."""
    for answer in answers:
        if answer.made != max_tokens or not answer.heard:
            raise Unmeasurable(f"an answer of {max_tokens} tokens ended after {answer.made}")


class Client:
    """Streams over HTTP, read by the fewest instructions that tell one event from another."""

    def __init__(self, port: int, key: str) -> None:
        self._url = f"http://127.0.0.1:{port}/v1/messages"
        self._headers = {
            "x-api-key": key,
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
            "user-agent": "bench",
        }

    def ask(self, bodies: Sequence[bytes]) -> list[Answer]:
        """Send them all at once, each on a connection of its own."""
        return asyncio.run(self._ask(bodies))

    async def _ask(self, bodies: Sequence[bytes]) -> list[Answer]:
        async with aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=600)) as http:
            began = time.perf_counter()
            return await asyncio.gather(*(self._stream(http, body, began) for body in bodies))

    async def _stream(self, http: aiohttp.ClientSession, body: bytes, began: float) -> Answer:
        times: list[float] = []
        rest, ending, used = b"", 0.0, b""
        async with http.post(self._url, data=body) as reply:
            if reply.status != 200:
                raise Unmeasurable(f"Antiphon answered {reply.status}: {(await reply.text())[:300]}")
            async for data in reply.content.iter_any():
                now = time.perf_counter() - began
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event.startswith(_DELTA):
                        times.append(now)
                    elif event.startswith(_LAST):
                        ending, used = now, event
                    elif event.startswith(b"event: error"):
                        raise Unmeasurable(f"an answer broke off: {event.decode()[:300]}")
                    elif event.startswith(b"event: message_start"):
                        start = event
        tokens = _usage(used)["output_tokens"]
        prompt = _usage(start)["input_tokens"]
        # Nearly always one each; where a character spans tokens, they share its event.
        heard = [(when, tokens / len(times)) for when in times] or [(ending, float(tokens))]
        return Answer(prompt, heard, tokens)


def _usage(event: bytes) -> dict[str, int]:
    data = msgspec.json.decode(event.partition(b"\ndata: ")[2])
    usage: dict[str, int] = data.get("usage") or data["message"]["usage"]
    return usage
