"""`GET /v1/models` and `GET /v1/models/{model_id}`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, unquote

from antiphon.core.errors import InvalidRequest
from antiphon.http.exchange import Exchange
from antiphon.routing.resolve import Router


class Models:
    """What can be asked for here."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def list(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """A page of models (contract client-surface 1.7, class Page)."""
        query = parse_qs(exchange.query.decode("latin-1"))
        limit = query.get("limit", ["20"])[-1]
        if not limit.isdigit():
            raise InvalidRequest("Input should be a valid integer", path="limit")
        page = self._router.page(
            limit=int(limit),
            after_id=query.get("after_id", [None])[-1],
            before_id=query.get("before_id", [None])[-1],
        )
        await exchange.json(200, page)

    async def get(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """One model."""
        await exchange.json(200, self._router.get(unquote(parameters["model_id"])))
