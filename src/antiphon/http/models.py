"""`GET /v1/models` and `GET /v1/models/{model_id}` (contract client-surface 4.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import get_args
from urllib.parse import parse_qs

from antiphon.core.errors import InvalidRequest
from antiphon.core.records import Profile
from antiphon.http.exchange import Exchange
from antiphon.routing import listing
from antiphon.routing.known import Lifecycle
from antiphon.routing.resolve import Router

_STAGES: tuple[Lifecycle, ...] = get_args(Lifecycle)
#: Ways to write a name that may come several times: repeated, with brackets, with numbered brackets.
_LIFECYCLE = re.compile(r"lifecycle(\[[0-9]{0,3}\])?", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


class Models:
    """What can be asked for here, as the caller's workspace has it."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def list(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """A page of models. Names in the query that mean nothing here are let be, and so are empty values."""
        query = parse_qs(exchange.query.decode("latin-1"))
        page = self._router.page(
            profile=_profile(exchange),
            lifecycles=_lifecycles([value for name in query if _LIFECYCLE.fullmatch(name) for value in query[name]]),
            limit=_limit(query.get("limit", [str(listing.PAGE)])[-1]),
            after_id=query.get("after_id", [None])[-1],
            before_id=query.get("before_id", [None])[-1],
        )
        await exchange.json(200, page)

    async def get(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """One model, retired or not."""
        await exchange.json(200, self._router.get(parameters["model_id"], profile=_profile(exchange)))


def _profile(exchange: Exchange) -> Profile | None:
    return exchange.caller.profile if exchange.caller is not None else None


def _limit(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise InvalidRequest("Input should be a valid integer, unable to parse string as an integer", path="limit")
    return int(text)


def _lifecycles(asked: Sequence[str]) -> frozenset[Lifecycle]:
    if not asked:
        return listing.LISTED
    for position, value in enumerate(asked):
        if value not in _STAGES:
            raise InvalidRequest("Input should be 'active', 'deprecated' or 'retired'", path=f"lifecycle.{position}")
    return frozenset(stage for stage in _STAGES if stage in asked)
