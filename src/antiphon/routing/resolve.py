"""From the id a client asks for to the model that answers, and the list of ids that can be asked for.

A served model answers to its own name. Every Claude id is an alias, by pattern and not by list, so that an id
which appears tomorrow works unchanged. What can be routed can be looked up, and the other way round.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

import msgspec

from antiphon.core.errors import InvalidRequest, NotFound, invariant
from antiphon.routing.catalogue import ModelCard, Tier
from antiphon.routing.profile import ClaudeRules
from antiphon.wire.models import Model, ModelPage

Line: TypeAlias = Literal["haiku", "sonnet", "opus", "fable", "mythos"]

#: First match wins. Fable and Mythos stand above Opus, and the opus tier is the highest there is here.
_TIERS: tuple[tuple[str, Tier], ...] = (
    ("claude-fable-*", "opus"),
    ("claude-mythos-*", "opus"),
    ("claude-*opus*", "opus"),
    ("claude-*sonnet*", "sonnet"),
    ("claude-*haiku*", "haiku"),
)
_ANY_CLAUDE = "claude-*"
_LINES: tuple[tuple[str, Line], ...] = (
    ("claude-fable-*", "fable"),
    ("claude-mythos-*", "mythos"),
    *_TIERS[2:],
)
#: Bounds of a page (contract client-surface 4.2).
_LARGEST_PAGE = 1000
_PAGE = 20
#: An id comes from the client, and is repeated in the error only so far.
_LONGEST_SHOWN_ID = 256


class ClaudeModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An id that clients know, as `claude.toml` has it."""

    id: str
    display_name: str
    line: Line
    created: date
    also: tuple[str, ...] = ()
    lifecycle: Literal["active", "deprecated", "retired"] = "active"
    retires: date | None = None


class Route(msgspec.Struct, frozen=True):
    """Which model answers a request, at which attempt (1 is the first)."""

    requested: str
    model: ModelCard
    attempt: int = 1
    rules: ClaudeRules | None = None
    """What the asked-for id itself refuses, under `profile = "claude"`."""

    @property
    def by_alias(self) -> bool:
        """Whether the client asked for something else than the model that answers."""
        return self.requested != self.model.name


def claude_models() -> tuple[ClaudeModel, ...]:
    """The Claude ids this release knows by name."""
    text = importlib.resources.files(__package__).joinpath("claude.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text)["models"], tuple[ClaudeModel, ...])


class Router:
    """Knows what is served. The first model is the default; a tier goes to the first that serves it."""

    def __init__(
        self,
        served: Sequence[ModelCard],
        known: Sequence[ClaudeModel] | None = None,
        rules: Mapping[str, ClaudeRules] | None = None,
    ) -> None:
        """`known` is for tests; without it, the ids of this release. `rules`: the ids' own, where they bind."""
        invariant(bool(served), "a router without a model")
        self._rules = rules or {}
        self._by_name = {entry.name: entry for entry in served}
        self._default = served[0]
        self._by_tier: dict[Tier, ModelCard] = {}
        for entry in served:
            for tier in entry.tiers:
                self._by_tier.setdefault(tier, entry)
        aliases = claude_models() if known is None else known
        self._undated = {undated: alias.id for alias in aliases for undated in alias.also}
        models = [self._running(entry) for entry in served] + [self._alias(alias) for alias in aliases]
        # Newest first; ids of one day in the order of the alphabet, so that pages are stable.
        models.sort(key=lambda model: model.id)
        models.sort(key=lambda model: model.created_at, reverse=True)
        self._models = tuple(models)
        self._place = {model.id: place for place, model in enumerate(models)}

    def resolve(self, requested_id: str, *, attempt: int = 1) -> Route:
        """Choose the model.

        Raises:
            NotFound: no served model has this name and it is no Claude id; in the API's words.
        """
        if entry := self._by_name.get(requested_id):
            return Route(requested_id, entry, attempt)
        rules = self._rules.get(self._undated.get(requested_id, requested_id))
        for pattern, tier in _TIERS:
            if fnmatchcase(requested_id, pattern):
                return Route(requested_id, self._by_tier.get(tier, self._default), attempt, rules)
        if fnmatchcase(requested_id, _ANY_CLAUDE):
            return Route(requested_id, self._default, attempt, rules)
        raise NotFound(f"model: {requested_id[:_LONGEST_SHOWN_ID]}")

    def get(self, model_id: str) -> Model:
        """One model. An undated id gives the dated one it means (contract messages-and-inference 14.2).

        Raises:
            NotFound: requests for this id would not be served either.
        """
        place = self._place.get(self._undated.get(model_id, model_id))
        if place is not None:
            return self._models[place]
        entry = self.resolve(model_id).model
        line = next((line for pattern, line in _LINES if fnmatchcase(model_id, pattern)), None)
        return msgspec.structs.replace(self._running(entry), id=model_id, display_name=model_id, line=line)

    def page(self, *, after_id: str | None = None, before_id: str | None = None, limit: int = _PAGE) -> ModelPage:
        """A page of what can be asked for, newest first; with `before_id`, the page that ends just before it.

        `has_more` tells whether there is more in the direction of the walk (contract client-surface 1.7).

        Raises:
            InvalidRequest: the limit is out of bounds, an id is unknown, or both ids are given.
        """
        if not 1 <= limit <= _LARGEST_PAGE:
            raise InvalidRequest(f"must be between 1 and {_LARGEST_PAGE}", path="limit")
        if after_id is not None and before_id is not None:
            raise InvalidRequest("only one of `after_id` and `before_id` may be given", path="before_id")
        if before_id is not None:
            last = self._place_of(before_id, "before_id")
            first = max(0, last - limit)
            has_more = first > 0
        else:
            first = 0 if after_id is None else self._place_of(after_id, "after_id") + 1
            last = first + limit
            has_more = last < len(self._models)
        data = self._models[first:last]
        return ModelPage(data, has_more, data[0].id if data else None, data[-1].id if data else None)

    def _place_of(self, model_id: str, path: str) -> int:
        place = self._place.get(self._undated.get(model_id, model_id))
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
        )

    def _alias(self, alias: ClaudeModel) -> Model:
        """Its name and dates are the alias's; its limits are those of the model that will answer, or, where its own
        rules bind, no more than its own."""
        route = self.resolve(alias.id)
        entry, rules = route.model, route.rules
        return Model(
            id=alias.id,
            display_name=alias.display_name,
            created_at=_midnight(alias.created),
            lifecycle=alias.lifecycle,
            line=alias.line,
            max_input_tokens=min(entry.window, rules.window) if rules else entry.window,
            max_tokens=min(entry.max_output, rules.max_output) if rules else entry.max_output,
            retires_at=_midnight(alias.retires) if alias.retires else None,
        )


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
