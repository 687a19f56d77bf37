"""`GET|HEAD /`, `/health/live`, `/health/ready` and `/metrics`: for people and machines that look after the server.

Liveness says that the process answers. Readiness says that a message would be answered: it names what is not well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from antiphon.http.exchange import Exchange
from antiphon.observe.metrics import Metrics


class Welcome(msgspec.Struct, frozen=True):
    """What `GET /` answers."""

    name: str
    version: str
    api: str


class Status(msgspec.Struct, frozen=True):
    """`status` is `ok`, or `unavailable` with the parts that are not well and why."""

    status: str
    components: dict[str, str]


class Operations:
    """The endpoints that need no key and hold nothing of anybody's."""

    def __init__(self, version: str, components: Callable[[], Mapping[str, str]], metrics: Metrics) -> None:
        self._welcome = Welcome("antiphon", version, "/v1/messages")
        self._components = components
        self._metrics = metrics

    async def root(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Clients warm their connection up here."""
        await exchange.json(200, self._welcome)

    async def live(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        await exchange.json(200, Status("ok", {}))

    async def ready(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """`components` maps every part to `ok` or to what is wrong with it."""
        components = dict(self._components())
        well = all(state == "ok" for state in components.values())
        await exchange.json(200 if well else 503, Status("ok" if well else "unavailable", components))

    async def metrics(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        await exchange.answer(200, self._metrics.exposition(), b"text/plain; version=0.0.4; charset=utf-8")
