"""The book of rate limits: groups of models and endpoints, and what each tier allows each of them (`tiers.toml`)."""

from __future__ import annotations

import importlib.resources
import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal, TypeAlias

import msgspec

from antiphon.core.errors import SettingsError

GroupType: TypeAlias = Literal["model_group", "token_count", "batch", "files"]
Kind: TypeAlias = Literal[
    "requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "enqueued_batch_requests"
]

#: The most that a limit may be: below it the arithmetic is exact also in a script whose only numbers are doubles.
HIGHEST = 10_000_000_000
#: The group of every model that no other group names.
OTHER = "other"

Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=HIGHEST)]
Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,40}\Z")]

KINDS: Mapping[GroupType, frozenset[Kind]] = {
    "model_group": frozenset(("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")),
    "token_count": frozenset(("requests_per_minute",)),
    "batch": frozenset(("requests_per_minute", "enqueued_batch_requests")),
    "files": frozenset(("requests_per_minute",)),
}


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shares one set of limits: a class of models, or an endpoint for all of them."""

    type: GroupType
    display_name: str
    models: tuple[str, ...] = ()
    cache_reads_count: bool = False
    """Whether tokens read from the cache count as input (contract messages-and-inference 13: one old model)."""


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an organization may use. `limits` has every group, with every kind of the group's type."""

    display_name: str
    monthly_spend_cap_usd: int | None = None
    limits: dict[Name, dict[Kind, Limit]]


class Book(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """All groups and tiers, by name."""

    groups: dict[Name, Group]
    tiers: dict[Name, Tier]

    def __post_init__(self) -> None:
        named = Counter(model for group in self.groups.values() for model in group.models)
        twice = sorted(model for model, times in named.items() if times > 1)
        if twice:
            raise ValueError(f"in more than one group: {', '.join(twice)}")
        for needed in (OTHER, "token_count", "batch", "files"):
            if needed not in self.groups:
                raise ValueError(f"the group `{needed}` is missing")
        for name, tier in self.tiers.items():
            self._check(name, tier)

    def tier(self, name: str) -> Tier:
        """Raises: SettingsError: there is no such tier."""
        if name not in self.tiers:
            raise SettingsError(f"Unknown tier `{name}`. Known are: {', '.join(self.tiers)}")
        return self.tiers[name]

    def group_of(self, model: str) -> str:
        """The name of the group whose limits a request for this model id falls under."""
        return self._by_model.get(model, OTHER)

    @cached_property
    def _by_model(self) -> Mapping[str, str]:
        return {model: name for name, group in self.groups.items() for model in group.models}

    def check(self, group: str, kinds: Mapping[Kind, int | None]) -> None:
        """See that these limits can be set on this group.

        Raises:
            ValueError: no such group, a kind that it does not have, or a number out of bounds.
        """
        if group not in self.groups:
            raise ValueError(f"there is no group `{group}`; known are: {', '.join(self.groups)}")
        for kind, value in kinds.items():
            if kind not in KINDS[self.groups[group].type]:
                raise ValueError(f"the group `{group}` has no limit `{kind}`")
            if value is not None and not 0 <= value <= HIGHEST:
                raise ValueError(f"`{kind}` of `{group}` must be between 0 and {HIGHEST}")

    def _check(self, name: str, tier: Tier) -> None:
        strange = sorted(tier.limits.keys() - self.groups.keys())
        if strange:
            raise ValueError(f"tier `{name}` limits unknown groups: {', '.join(strange)}")
        for group_name, group in self.groups.items():
            missing = sorted(KINDS[group.type] - tier.limits.get(group_name, {}).keys())
            if missing:
                raise ValueError(f"tier `{name}` does not limit {', '.join(missing)} of `{group_name}`")
            self.check(group_name, tier.limits[group_name])


def book_of(text: str) -> Book:
    """Read a book.

    Raises:
        SettingsError: the text is not TOML, or not a complete book; the message says where.
    """
    try:
        return msgspec.convert(tomllib.loads(text), Book)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"The rate limits cannot be read: {error}") from None


def load() -> Book:
    """The book of this release."""
    return book_of(importlib.resources.files(__package__).joinpath("tiers.toml").read_text("utf-8"))
