"""Both sides of `bench.cache`: Antiphon behind the official SDK, and a bare llama.cpp server. Both are asked one thing
and tell when the first token came, how long the prompt was, and what of it was not computed, or billed, again.

Prompts are numbers and words drawn anew, so that nothing of one run, or of one prompt, is in the cache for another. The
bare server gets the very tokens that Antiphon's planner makes of a request.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Protocol

import anthropic
import httpx2
import msgspec

from antiphon.engine.slots import prompt_ids
from antiphon.plan.plan import Planner
from antiphon.wire.parse import parse_messages
from bench.load import Unmeasurable, free_port, server

#: An answer that takes longer has failed, in seconds.
SECONDS = 1_800.0
MARK: Any = {"type": "ephemeral"}
_VERSION = {"anthropic-version": "2023-06-01"}
_WORDS = (
    "river stone mill door light paper window garden summer winter letter market train bridge island forest copper "
    "silver engine doctor farmer teacher singer kitchen table morning evening thunder shadow mirror candle basket"
)


class Heard(msgspec.Struct, frozen=True):
    """One answer. `first`: seconds from the request to the first token. Of the prompt: its tokens, and those of them
    that were told as written to the cache and as read from it; a bare server tells none as written."""

    text: str
    first: float
    prompt: int
    written: int
    read: int


class Side(Protocol):
    """Whoever is asked."""

    def ask(self, system: str, messages: list[Any], max_tokens: int) -> Heard: ...


class Texts:
    """Texts that never were, of about so many tokens, and requests as both sides understand them."""

    def __init__(self, model: str, planner: Planner) -> None:
        self.model = model
        self._planner = planner
        self._random = Random()  # seeded by the system: no run's prompts are those of another
        few = self._drawn(400)
        self._per_word = (self._length(few) - self._length("a")) / 400

    def new(self, tokens: int) -> str:
        """It differs from all others from its first token on."""
        start = f"{self._random.randrange(10**9, 10**10)}: "
        return start + self._drawn(max(1, round((tokens - 12) / self._per_word)))

    def body(self, system: str, messages: list[Any], max_tokens: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "max_tokens": max_tokens,
            "messages": messages,
            **({"system": [{"type": "text", "text": system, "cache_control": MARK}]} if system else {}),
        }

    def ids(self, body: dict[str, Any]) -> list[int]:
        """The prompt in tokens."""
        return list(prompt_ids(self._planner.plan(parse_messages(msgspec.json.encode(body)).request).prompt))

    def _drawn(self, words: int) -> str:
        return " ".join(self._random.choices(_WORDS.split(), k=words))

    def _length(self, text: str) -> int:
        return len(self.ids(self.body("", [{"role": "user", "content": text}], 1)))


class Antiphon:
    """A served model, asked by one workspace's key through the official SDK's stream."""

    def __init__(self, client: anthropic.Anthropic, texts: Texts) -> None:
        self._client = client
        self._texts = texts

    def ask(self, system: str, messages: list[Any], max_tokens: int) -> Heard:
        """Raises Unmeasurable where there is no whole answer."""
        body = self._texts.body(system, messages, max_tokens)
        began, first, text, usage, ended = time.perf_counter(), 0.0, "", None, False
        try:
            for event in self._client.messages.create(
                **body, stream=True, extra_body={"temperature": 0}, extra_headers=_VERSION
            ):
                match event.type:
                    case "message_start":
                        usage = event.message.usage
                    case "content_block_delta" | "message_delta":
                        first = first or time.perf_counter() - began
                        text += getattr(getattr(event, "delta", None), "text", None) or ""
                        ended = event.type == "message_delta"
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:  # the SDK hands on what breaks a stream
            raise Unmeasurable(f"Antiphon: {type(error).__name__}: {error}"[:500]) from None
        if usage is None or not ended:
            raise Unmeasurable("Antiphon: a stream ended before its answer did")
        written, read = usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0
        return Heard(text, first, usage.input_tokens + written + read, written, read)


@contextmanager
def antiphon(port: int, key: str, texts: Texts) -> Iterator[Antiphon]:
    """Antiphon at this port, as the owner of this key."""
    url = f"http://127.0.0.1:{port}"
    with anthropic.Anthropic(api_key=key, base_url=url, max_retries=0, timeout=SECONDS) as client:
        yield Antiphon(client, texts)


class Bare:
    """llama.cpp's server, asked for completions of tokens; which slot takes one is its own choice."""

    def __init__(self, port: int, texts: Texts) -> None:
        self._port = port
        self._texts = texts

    def ask(self, system: str, messages: list[Any], max_tokens: int) -> Heard:
        """Raises Unmeasurable where there is no whole answer."""
        prompt = self._texts.ids(self._texts.body(system, messages, max_tokens))
        body = {
            "prompt": prompt, "n_predict": max_tokens, "cache_prompt": True, "stream": True, "temperature": 0.0,
        }  # fmt: skip
        data = msgspec.json.encode(body)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
        began, first, text = time.perf_counter(), 0.0, ""
        try:
            connection.request("POST", "/completion", data, {"content-type": "application/json"})
            reply = connection.getresponse()
            if reply.status != 200:
                raise Unmeasurable(f"llama.cpp alone answered {reply.status}: {reply.read()[:300]!r}")
            while line := reply.readline():
                if not line.startswith(b"data:"):
                    continue
                now = time.perf_counter() - began
                chunk: dict[str, Any] = msgspec.json.decode(line[5:])
                if chunk["tokens_predicted"]:
                    first = first or now
                text += chunk["content"]
                if chunk["stop"]:
                    return Heard(text, first, len(prompt), 0, int(chunk["timings"]["cache_n"]))
        except (OSError, http.client.HTTPException, LookupError, msgspec.DecodeError) as error:
            raise Unmeasurable(f"llama.cpp alone: {type(error).__name__}: {error}") from None
        finally:
            connection.close()
        raise Unmeasurable("llama.cpp alone: a stream ended before its answer did")


@contextmanager
def bare(model: Path, log: Path, texts: Texts, *, seats: int, threads: int) -> Iterator[Bare]:
    """A bare server with this model, ready."""
    port = free_port()
    arguments = ["bench.cache_parts.bare_server", str(model), str(port), str(seats), str(threads)]
    with server(arguments, port, None, log) as started:
        while not _ready(port):
            started.check()
            time.sleep(0.1)
        yield Bare(port, texts)


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
