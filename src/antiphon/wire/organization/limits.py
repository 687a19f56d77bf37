"""Rate limits and spend limits as they are shown and asked for (contract `client-surface.md` 5, `platform-and-tools.md`
7.5 and 7.8).

Money is a string in cents. A limit's is a whole number, as the API wants it; what was spent is exact, to a billionth of
a dollar.
"""

from __future__ import annotations

import re
from typing import Annotated, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from antiphon.core.errors import InvalidRequest
from antiphon.core.money import CENTS, decimal

T = TypeVar("T")

PeriodName: TypeAlias = Literal["daily", "weekly", "monthly"]


class CursorPage(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list (contract `client-surface.md` 1.7, class Cur)."""

    data: tuple[T, ...]
    next_page: str | None


class LimitGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What shares one set of limits; groups of models have a name to show."""

    id: str
    type: str
    display_name: str | UnsetType = UNSET


class LimitValue(msgspec.Struct, frozen=True, kw_only=True):
    """One limiter."""

    type: str
    value: int


class OrganizationRateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What the organization may use of a group."""

    id: str
    type: Literal["rate_limit"] = "rate_limit"
    group: LimitGroup
    limits: tuple[LimitValue, ...]
    models: tuple[str, ...] | None


class LimitSource(msgspec.Struct, frozen=True):
    """Where a workspace's value comes from."""

    type: Literal["workspace", "organization"]


class WorkspaceLimitValue(msgspec.Struct, frozen=True, kw_only=True):
    """One limiter of a workspace."""

    type: str
    value: int
    org_limit: int | None
    source: LimitSource


class WorkspaceRateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What a workspace has of a group; the lower of its own and the organization's limit is enforced."""

    type: Literal["workspace_rate_limit"] = "workspace_rate_limit"
    rate_limit_id: str
    workspace_id: str
    group: LimitGroup
    limits: tuple[WorkspaceLimitValue, ...]
    models: tuple[str, ...] | None


class NewLimitValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limiter to set; null clears it."""

    type: str
    value: int | None


class RateLimitUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limiters to set or to clear; those that are not named stay as they are."""

    limits: Annotated[tuple[NewLimitValue, ...], msgspec.Meta(min_length=1, max_length=16)]


class SpendScope(msgspec.Struct, frozen=True, kw_only=True):
    """What a spend limit applies to. `usage_tier` is the installation's own cap, which nobody can set here."""

    type: Literal["organization", "workspace", "usage_tier"]
    workspace_id: str | UnsetType = UNSET


class SpendLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent in each period; an `amount` of null is no limit."""

    id: str
    type: Literal["spend_limit"] = "spend_limit"
    amount: str | None
    currency: Literal["USD"] = "USD"
    period: PeriodName
    is_enabled: bool = True
    scope: SpendScope
    created_at: str
    updated_at: str


class NewSpendScope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a limit is to apply to."""

    type: str
    workspace_id: str | None = None


class NewSpendLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limit to set for a scope and period; it takes the place of the one that is there."""

    amount: str | None
    scope: NewSpendScope
    period: PeriodName = "monthly"


class SpendLimitDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that is no more."""

    id: str
    type: Literal["spend_limit_deleted"] = "spend_limit_deleted"


class SpendActor(msgspec.Struct, frozen=True, kw_only=True):
    """Who a row is for: the key that asked, on behalf of the organization."""

    type: Literal["scoped_api_key_actor"] = "scoped_api_key_actor"
    scoped_api_key_id: str


class SpendSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The limit in force for one scope and period, and what was spent in the period so far."""

    actor: SpendActor
    scope: SpendScope
    source: SpendScope
    spend_limit_id: str
    period: PeriodName
    amount: str | None
    currency: Literal["USD"] = "USD"
    period_to_date_spend: str


def cents_of(nano: int) -> str:
    """Nano-dollars in cents, exactly: no more digits than it needs."""
    return decimal(nano, CENTS)


def nano_of(cents: str, highest_nano: int) -> int:
    """A limit's amount in nano-dollars.

    Raises:
        InvalidRequest: it is not a whole number of cents, or too many.
    """
    if not re.fullmatch(r"[0-9]{1,15}", cents, re.ASCII):
        raise InvalidRequest("Input should be a non-negative integer decimal string, in cents", path="amount")
    nano: int = int(cents) * 10**CENTS
    if nano > highest_nano:
        raise InvalidRequest(f"Input should be at most {cents_of(highest_nano)} cents", path="amount")
    return nano
