"""The yardstick of `bench.gateway`: a bare ASGI app that does nothing but send the same answers.

It has no key, no parsing, no plan, no journal, no log: it reads the request's body, throws it away and sends bytes that
were captured from Antiphon, as a plain ASGI app writes them: one `send` with the whole JSON answer, or one `send` per
event of a stream. The path says which: `/plain` and `/long`, `/stream`, and `/batched`, which joins 16 events in a
`send`, as Antiphon does with the events of one engine step.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

#: Names the folder with `plain`, `long` and `stream`, the bytes of one answer each.
FOLDER_VARIABLE = "BENCH_ANSWERS"
_BATCH = 16
_JSON = (b"content-type", b"application/json")
_EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


def events_of(stream: bytes) -> list[bytes]:
    """The frames of a captured stream."""
    return [event + b"\n\n" for event in stream.split(b"\n\n") if event]


def app() -> App:
    """Made by uvicorn (`--factory`)."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    plain = {f"/{name}": (folder / name).read_bytes() for name in ("plain", "long")}
    events = events_of((folder / "stream").read_bytes())
    batches = [b"".join(events[start : start + _BATCH]) for start in range(0, len(events), _BATCH)]

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        if body := plain.get(scope["path"]):
            headers = [_JSON, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await _stream(send, batches if scope["path"] == "/batched" else events)

    return answer


async def _stream(send: Send, parts: Sequence[bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [_EVENT_STREAM]})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
