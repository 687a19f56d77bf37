"""Reports of usage and cost, both generations (contract platform-and-tools 7.6, client-surface 5).

A name whose value is left out where nobody asked for it is Antiphon's own: `served_model`, `user_id`, `workflow`.
"""

from __future__ import annotations

from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

T = TypeVar("T")

TokenType: TypeAlias = Literal[
    "uncached_input_tokens",
    "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
]
CostType: TypeAlias = Literal["tokens"]


class CacheCreation(msgspec.Struct, frozen=True):
    ephemeral_1h_input_tokens: int
    ephemeral_5m_input_tokens: int


class ServerToolUse(msgspec.Struct, frozen=True):
    web_search_requests: int = 0


class ApiActor(msgspec.Struct, frozen=True, tag="api_actor"):
    api_key_id: str


class Ours(msgspec.Struct, frozen=True, kw_only=True):
    """What the documented reports do not have; left out unless it was asked for. Null: a request had none."""

    served_model: str | UnsetType | None = UNSET
    user_id: str | UnsetType | None = UNSET
    workflow: str | UnsetType | None = UNSET


class MessagesUsage(Ours, frozen=True, kw_only=True):
    """A result of `usage_report/messages`. What it is not grouped by is null."""

    uncached_input_tokens: int
    cache_creation: CacheCreation
    cache_read_input_tokens: int
    output_tokens: int
    server_tool_use: ServerToolUse = ServerToolUse()
    account_id: str | None = None
    api_key_id: str | None = None
    context_window: str | None = None
    inference_geo: str | None = None
    model: str | None = None
    service_account_id: str | None = None
    service_tier: str | None = None
    speed: str | UnsetType | None = UNSET
    workspace_id: str | None = None


class OrganizationCost(Ours, frozen=True, kw_only=True):
    """A result of `cost_report`. `amount` is in cents."""

    amount: str
    currency: str = "USD"
    context_window: str | None = None
    cost_type: CostType | None = None
    description: str | None = None
    inference_geo: str | None = None
    model: str | None = None
    service_tier: str | None = None
    token_type: TokenType | None = None
    workspace_id: str | None = None


class UsageGroup(Ours, frozen=True, kw_only=True):
    """What a row of `analytics/usage` is grouped by. Of what does not exist here there are nulls."""

    actor: ApiActor | None = None
    actor_type: str | None = None
    agent_id: str | None = None
    api_key_id: str | None = None
    claude_tag_category: str | None = None
    claude_tag_user_id: str | None = None
    context_window: str | None = None
    deployment_id: str | None = None
    environment_id: str | None = None
    inference_geo: str | None = None
    model: str | None = None
    organization_id: str | None = None
    product: str | None = None
    rbac_group_id: str | None = None
    service_tier: str | None = None
    session_id: str | None = None
    slack_channel_id: str | None = None
    speed: str | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None


class CostGroup(UsageGroup, frozen=True, kw_only=True):
    cost_type: CostType | None = None
    token_type: TokenType | None = None


class UsageMetrics(msgspec.Struct, frozen=True, kw_only=True):
    uncached_input_tokens: int
    cache_creation: CacheCreation
    cache_read_input_tokens: int
    output_tokens: int
    total_tokens: int
    requests: int | None
    server_tool_use: ServerToolUse = ServerToolUse()


class CostMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts in cents. There are no discounts, so the list's amount is the amount."""

    amount: str
    list_amount: str
    requests: int | None
    currency: str = "USD"


class UsageItem(msgspec.Struct, frozen=True):
    starting_at: str
    ending_at: str
    group: UsageGroup
    usage: UsageMetrics


class CostItem(msgspec.Struct, frozen=True):
    starting_at: str
    ending_at: str
    group: CostGroup
    cost: CostMetrics


class Bucketed(Ours, frozen=True, kw_only=True):
    """What the results of `analytics/usage_report` and `analytics/cost_report` are grouped by."""

    claude_tag_category: str | None = None
    claude_tag_user_id: str | None = None
    context_window: str | None = None
    inference_geo: str | None = None
    model: str | None = None
    product: str | None = None
    rbac_group_id: str | None = None
    slack_channel_id: str | None = None
    speed: str | None = None
    requests: int | None = None


class BucketedUsage(Bucketed, frozen=True, kw_only=True):
    uncached_input_tokens: int
    cache_creation: CacheCreation
    cache_read_input_tokens: int
    output_tokens: int
    server_tool_use: ServerToolUse = ServerToolUse()


class BucketedCost(Bucketed, frozen=True, kw_only=True):
    amount: str
    list_amount: str
    currency: str = "USD"
    cost_type: CostType | None = None
    token_type: TokenType | None = None


class Bucket(msgspec.Struct, Generic[T], frozen=True):
    """A stretch of time, and what was used in it."""

    starting_at: str
    ending_at: str
    results: list[T]


class ReportPage(msgspec.Struct, Generic[T], frozen=True):
    """Some of a report."""

    data: list[T]
    has_more: bool
    next_page: str | None
    data_refreshed_at: str | UnsetType = UNSET
