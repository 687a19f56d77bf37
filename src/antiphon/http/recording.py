"""Hands what a client sends and gets to the log of requests, where the workspace has this switched on."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from antiphon.http.exchange import Exchange
from antiphon.ledger.requestlog import Keeper


def record(exchange: Exchange, keeper: Keeper, body: bytes) -> None:
    """Keep this exchange: its body, and from here on what is sent, refusals too. For other workspaces this does
    nothing. Called once, when the body has been read.

    The entry is closed with the last byte of the answer, or, where that never comes, with the task that serves it.
    """
    caller = exchange.caller
    if caller is None or not caller.logs_requests:
        return
    entry = keeper.begin(caller.scope, exchange.request_id, body)
    if entry is None:
        exchange.note["log"] = "dropped"
        return
    send = exchange.send

    async def recorded(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            entry.add(message.get("body", b""))
            if not message.get("more_body", False):
                entry.close()
        await send(message)

    exchange.send = recorded
    serving = asyncio.current_task()
    if serving is not None:
        serving.add_done_callback(lambda _: entry.close())
