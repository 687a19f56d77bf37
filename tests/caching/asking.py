"""Requests with marks, and the figures of their answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import httpx2

from running import Running, scripted_settings

MODEL = "claude-opus-5"
FIVE: Any = {"type": "ephemeral"}
HOUR: Any = {"type": "ephemeral", "ttl": "1h"}


class Figures(NamedTuple):
    """The input side of usage, in tokens."""

    input: int
    write_5m: int
    write_1h: int
    read: int

    @property
    def all(self) -> int:
        return sum(self)

    @property
    def write(self) -> int:
        return self.write_5m + self.write_1h


def figures(usage: Any) -> Figures:
    """Both generations of fields, which must say the same."""
    made = usage.cache_creation
    assert usage.cache_creation_input_tokens == made.ephemeral_5m_input_tokens + made.ephemeral_1h_input_tokens
    return Figures(
        usage.input_tokens,
        made.ephemeral_5m_input_tokens,
        made.ephemeral_1h_input_tokens,
        usage.cache_read_input_tokens,
    )


def long(name: str, words: int = 1200) -> str:
    """A text that is long enough to be cached, and nobody else's."""
    return f"{name} begins" + " and" * words + " ends"


def block(text: str, mark: Any = None) -> Any:
    """A text block."""
    return {"type": "text", "text": text} | ({} if mark is None else {"cache_control": mark})


def user(*blocks: Any) -> Any:
    """A user's message of blocks, or of one string."""
    return {"role": "user", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def said(*blocks: Any) -> Any:
    return user(*blocks) | {"role": "assistant"}


def tool(name: str, description: str = "Looks.", mark: Any = None, **more: Any) -> Any:
    """A definition."""
    made = {"name": name, "description": description, "input_schema": {"type": "object"}} | more
    return made | ({} if mark is None else {"cache_control": mark})


def ask(client: anthropic.Anthropic, *messages: Any, **options: Any) -> Figures:
    """One plain answer."""
    body: Any = {"model": MODEL, "max_tokens": 4, "messages": list(messages) or [user("Hello")]} | options
    return figures(client.messages.create(**body).usage)


def refusal(server: Running, *messages: Any, **options: Any) -> tuple[int, str]:
    """The status and the text of a refusal, of an answer and of a count alike."""
    body = {"model": MODEL, "messages": list(messages) or [user("Hello")]} | options
    replies = [
        httpx2.post(f"{server.base_url}{path}", json=body | more, headers={"x-api-key": server.key}, timeout=60)
        for path, more in (("/v1/messages", {"max_tokens": 4}), ("/v1/messages/count_tokens", {}))
    ]
    told = {(reply.status_code, reply.json()["error"]["message"]) for reply in replies}
    assert len(told) == 1, told
    return told.pop()


@contextmanager
def serving(folder: Path, script: str = "rules: []", **settings: Any) -> Iterator[Running]:
    """A server for the tests of a module."""
    running = Running(scripted_settings(folder, script, **settings))
    yield running
    running.close()
