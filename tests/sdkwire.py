"""The official SDK with a listener on its connection: what it sent, and what it got."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
from anthropic import Anthropic

from running import Running

ANSWER = "Good day to you."
ASKED: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "Hello"}],
}
COUNTED: dict[str, Any] = {name: value for name, value in ASKED.items() if name != "max_tokens"}


class Wire:
    """An SDK client and the answers it got, each with its request."""

    def __init__(self, server: Running, **options: Any) -> None:
        self.seen: list[httpx2.Response] = []
        hooks: Any = {"response": [self.seen.append]}
        self.client: Anthropic = server.client(http_client=httpx2.Client(event_hooks=hooks), **options)

    @property
    def sent(self) -> httpx2.Headers:
        """The last request's headers."""
        return self.seen[-1].request.headers

    @property
    def got(self) -> httpx2.Headers:
        """The last answer's headers."""
        return self.seen[-1].headers

    def body(self, index: int) -> dict[str, Any]:
        """The body of one request."""
        return dict(msgspec.json.decode(self.seen[index].request.content))
