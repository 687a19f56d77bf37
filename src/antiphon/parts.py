"""What a turn needs of the server, made once by the composition root."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.ids import Ids
from antiphon.core.records import Caller, Scope
from antiphon.engine.contract import Engine
from antiphon.engine.tokenizer import Tokenizer
from antiphon.gate.entrance import Entrance
from antiphon.ledger.journal import Journal
from antiphon.observe.metrics import Metrics
from antiphon.observe.traces import Tracing
from antiphon.plan.caching.diagnosis import Diagnoses
from antiphon.plan.caching.index import CacheIndex
from antiphon.plan.caching.prefixes import Caching
from antiphon.plan.plan import Planner
from antiphon.routing import profile
from antiphon.routing.resolve import Geography, Route, Router
from antiphon.wire.request import Conversation

#: Bodies above this many bytes are parsed and planned in a thread, so that no other stream waits for them.
INLINE_BYTES = 32 * 1024


class ServedModel(msgspec.Struct, frozen=True):
    """One model that runs: how it is planned for, and what generates."""

    name: str
    planner: Planner
    engine: Engine
    tokenizer: Tokenizer


class Parts(msgspec.Struct, frozen=True):
    """The parts of the server that turns go through."""

    entrance: Entrance
    router: Router
    models: Mapping[str, ServedModel]
    journal: Journal
    metrics: Metrics
    tracing: Tracing
    clock: Clock
    ids: Ids
    cache: CacheIndex
    diagnoses: Diagnoses

    def route(self, caller: Caller, request: Conversation, within: Geography = "global") -> Route:
        """The route for the id that was asked, after what the id itself refuses (only under `profile = "claude"`).
        `within`: where it is to be served.

        Raises:
            NotFound: no such model. InvalidRequest: the id does not take what is asked.
        """
        route = self.router.resolve(request.model, profile=caller.profile, within=within)
        if route.rules is not None:
            profile.check(route.rules, request)
        return route


def caching_for(scope: Scope, secret: bytes, route: Route) -> Caching:
    """The rules by which a request is cached: the running model's, or those of the id that was asked for. `secret` is
    the cache's own."""
    rules = route.rules
    minimum = rules.cache_minimum if rules is not None else None
    return Caching(
        scope=scope,
        secret=secret,
        model=route.meant or route.requested,
        served=route.model.name,
        minimum=minimum or route.model.cache_minimum_tokens,
        effort="high" if rules is None else rules.default_effort,
        thinking="disabled" if rules is None or rules.thinking_default == "off" else "adaptive",
    )
