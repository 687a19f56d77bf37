"""From the id a client asks for to the model that answers, and the list of ids that can be asked for.

A served model answers to its own name. Every Claude id is an alias, by pattern and not by list, so that an id
which appears tomorrow works unchanged. What can be routed can be looked up, and the other way round; only what is
retired is looked up in vain where the ids' own rules bind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Literal, TypeAlias, get_args

import msgspec

from antiphon.core.errors import InvalidRequest, NotFound, invariant
from antiphon.core.records import Profile
from antiphon.routing import book as price_book
from antiphon.routing import listing
from antiphon.routing.book import PriceBook
from antiphon.routing.catalogue import ModelCard, Tier
from antiphon.routing.known import ClaudeModel, Lifecycle, Line, Spelling, claude_models, line_of
from antiphon.routing.offer import capabilities
from antiphon.routing.prices import Price
from antiphon.routing.profile import ClaudeRules, claude_rules
from antiphon.wire.models import Model, ModelPage

#: Fable and Mythos stand above Opus, and the opus tier is the highest there is here.
_TIERS: Mapping[Line, Tier] = {
    "fable": "opus",
    "mythos": "opus",
    "opus": "opus",
    "sonnet": "sonnet",
    "haiku": "haiku",
}
_ANY_CLAUDE = "claude-"
_PROFILES: tuple[Profile, ...] = ("model", "claude")
#: An id comes from the client, and is repeated in the error only so far.
_LONGEST_SHOWN_ID = 256


#: Where a request wants to be served, and a model stands (contract platform-and-tools 7.11).
Geography: TypeAlias = Literal["global", "us"]
_GEOGRAPHIES: tuple[Geography, ...] = get_args(Geography)


class Route(msgspec.Struct, frozen=True):
    """Which model answers a request, at which attempt (1 is the first)."""

    requested: str
    model: ModelCard
    price: Price
    """What the answer costs, whatever the profile."""
    attempt: int = 1
    rules: ClaudeRules | None = None
    """What the asked-for id itself refuses, under `profile = "claude"`."""
    meant: str = ""
    """The asked-for id in its one spelling, dated where there is a dated one."""

    @property
    def by_alias(self) -> bool:
        """Whether the client asked for something else than the model that answers."""
        return self.requested != self.model.name


class Router:
    """Knows what is served. The first model is the default; a tier goes to the first that serves it."""

    def __init__(
        self,
        served: Sequence[ModelCard],
        known: Sequence[ClaudeModel] | None = None,
        *,
        profile: Profile = "model",
        book: PriceBook | None = None,
    ) -> None:
        """`known` is for tests; without it, the ids of this release. `profile` holds where a call names none. `book`:
        what things cost; without it, as published.

        Raises:
            SettingsError: a model that is served has no price, or has two.
        """
        invariant(bool(served), "a router without a model")
        self._profile = profile
        self._rules = claude_rules()
        self._by_name = {entry.name: entry for entry in served}
        self._book = price_book.load() if book is None else book
        self._prices = {entry.name: self._book.of_model(entry) for entry in served}
        self._every_answer = {entry.name: self._book.of_every_answer(entry) for entry in served}
        self._chosen = {
            (tier, within): _choice(served, tier, within) for tier in (None, *get_args(Tier)) for within in _GEOGRAPHIES
        }
        aliases = claude_models() if known is None else known
        self._spelling = Spelling(aliases)
        self._retired = {alias.id for alias in aliases if alias.lifecycle == "retired"}
        own = [self._running(entry) for entry in served]
        # One list a profile, in the same order: dates and names do not depend on it.
        self._models = {
            each: listing.newest_first(own + [self._alias(alias, each) for alias in aliases]) for each in _PROFILES
        }
        self._place = {model.id: place for place, model in enumerate(self._models[profile])}

    def resolve(
        self, requested_id: str, *, profile: Profile | None = None, attempt: int = 1, within: Geography = "global"
    ) -> Route:
        """Choose the model. `profile` is the workspace's; None: the installation's. Of several that could answer for an
        id, one that stands `within` that geography is chosen, if there is one.

        Raises:
            NotFound: no served model has this name and it is no Claude id, or it is one that is retired and the ids'
                own rules bind; in the API's words.
        """
        if entry := self._by_name.get(requested_id):
            return Route(requested_id, entry, self._prices[entry.name], attempt, meant=requested_id)
        meant = self._spelling.of(requested_id)
        binds = (profile or self._profile) == "claude"
        if not meant.startswith(_ANY_CLAUDE) or (binds and meant in self._retired):
            raise NotFound(f"model: {requested_id[:_LONGEST_SHOWN_ID]}")
        line = line_of(meant)
        entry = self._chosen[None if line is None else _TIERS[line], within]
        # Of an id of no line the book may know nothing: it costs what the model that answers does.
        price = self._every_answer[entry.name] or self._book.of(meant) or self._prices[entry.name]
        return Route(requested_id, entry, price, attempt, self._rules.get(meant) if binds else None, meant)

    def get(self, model_id: str, *, profile: Profile | None = None) -> Model:
        """One model. An undated id gives the dated one it means (contract messages-and-inference 14.2).

        Raises:
            NotFound: nothing of this name is served, nor known.
        """
        meant = self._spelling.of(model_id)
        place = self._place.get(meant)
        if place is not None:
            return self._models[profile or self._profile][place]
        entry = self.resolve(meant, profile=profile).model
        return msgspec.structs.replace(self._running(entry), id=meant, display_name=meant, line=line_of(meant))

    def page(
        self,
        *,
        profile: Profile | None = None,
        lifecycles: Collection[Lifecycle] = listing.LISTED,
        after_id: str | None = None,
        before_id: str | None = None,
        limit: int = listing.PAGE,
    ) -> ModelPage:
        """A page of what can be asked for, newest first; with `before_id`, the page that ends just before it.

        Raises:
            InvalidRequest: the limit is out of bounds, an id is unknown, or both ids are given.
        """
        if after_id is not None and before_id is not None:
            raise InvalidRequest("only one of `after_id` and `before_id` may be given", path="before_id")
        return listing.page(
            self._models[profile or self._profile],
            lifecycles,
            after=None if after_id is None else self._place_of(after_id, "after_id"),
            before=None if before_id is None else self._place_of(before_id, "before_id"),
            limit=limit,
        )

    def _place_of(self, model_id: str, path: str) -> int:
        place = self._place.get(self._spelling.of(model_id))
        if place is None:
            raise InvalidRequest(f"no model has the id `{model_id[:_LONGEST_SHOWN_ID]}`", path=path)
        return place

    def _running(self, entry: ModelCard) -> Model:
        return Model(
            id=entry.name,
            display_name=entry.display_name,
            created_at=_midnight(entry.created),
            max_input_tokens=entry.window,
            max_tokens=entry.max_output,
            capabilities=capabilities(entry),
        )

    def _alias(self, alias: ClaudeModel, profile: Profile) -> Model:
        """Its name and dates are the alias's; limits and capabilities are those of the model that will answer, or,
        where its own rules bind, no more than its own. Where nothing will answer there are none."""
        named = Model(
            id=alias.id,
            display_name=alias.display_name,
            created_at=_midnight(alias.created),
            lifecycle=alias.lifecycle,
            line=alias.line,
            deprecated_at=_midnight(alias.deprecated) if alias.deprecated else None,
            retires_at=_midnight(alias.retires) if alias.retires else None,
        )
        try:
            route = self.resolve(alias.id, profile=profile)
        except NotFound:
            return named
        entry, rules = route.model, route.rules
        return msgspec.structs.replace(
            named,
            max_input_tokens=min(entry.window, rules.window) if rules else entry.window,
            max_tokens=min(entry.max_output, rules.max_output) if rules else entry.max_output,
            capabilities=capabilities(entry, rules),
        )


def _choice(served: Sequence[ModelCard], tier: Tier | None, within: Geography) -> ModelCard:
    """The first that serves the tier, else the first of all; of those that stand within the geography, if there are
    any."""
    found = [*(entry for entry in served if tier in entry.tiers), *served]
    return next((entry for entry in found if within in ("global", entry.geography or within)), found[0])


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
