"""The model behind the peer of `bench.peers`: the Messages API as fast as Python serves it.

It has no key, no parsing, no log. Whatever is asked, the answer is at once the bytes that were captured from Antiphon:
a whole JSON message, or a stream if the request asks for one, with 16 events in a `send`, as Antiphon joins them.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.bare import FOLDER_VARIABLE, App, Message, Receive, Send, events_of

_BATCH = 16
_JSON = (b"content-type", b"application/json")
_EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
#: How clients write it; each of them writes JSON in one of these two ways.
_ASKS_FOR_STREAM = (b'"stream":true', b'"stream": true')


def app() -> App:
    """Made by uvicorn (`--factory`)."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    plain = (folder / "plain").read_bytes()
    plain_headers = [_JSON, (b"content-length", b"%d" % len(plain))]
    events = events_of((folder / "stream").read_bytes())
    batches = [b"".join(events[start : start + _BATCH]) for start in range(0, len(events), _BATCH)]

    async def answer(_: Message, receive: Receive, send: Send) -> None:
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        if not any(asking in body for asking in _ASKS_FOR_STREAM):
            await send({"type": "http.response.start", "status": 200, "headers": plain_headers})
            await send({"type": "http.response.body", "body": plain})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [_EVENT_STREAM]})
        for batch in batches:
            await send({"type": "http.response.body", "body": batch, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return answer
