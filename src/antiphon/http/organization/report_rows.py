"""From sums to the rows of a report, as each of the routes writes them (contract platform-and-tools 7.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from antiphon.core.money import CENTS, decimal
from antiphon.core.records import DEFAULT_WORKSPACE
from antiphon.store.reports import Dimension, Question, Sums
from antiphon.wire.organization.reports import (
    ApiActor,
    BucketedCost,
    BucketedUsage,
    CacheCreation,
    CostGroup,
    CostMetrics,
    MessagesUsage,
    OrganizationCost,
    TokenType,
    UsageGroup,
    UsageMetrics,
)

#: What a report may be grouped by, and the dimension it is read from; None: nothing here has it.
OURS: Mapping[str, Dimension] = {"served_model": "served_model", "user_id": "user_id", "workflow": "workflow"}
_COMMON: Mapping[str, Dimension | None] = {
    "context_window": "context_window",
    "inference_geo": "geography",
    "model": "requested_model",
    "speed": "speed",
}
_CHAT: Mapping[str, Dimension | None] = {
    "claude_tag_category": None,
    "claude_tag_user_id": None,
    "product": "product",
    "rbac_group_id": None,
    "slack_channel_id": None,
}
#: Of which a row has several, one for each kind of cost.
FANNED: Mapping[str, Dimension | None] = {"cost_type": None, "token_type": None}
MESSAGES_GROUPS: Mapping[str, Dimension | None] = {
    "account_id": None,
    "api_key_id": "key_id",
    **_COMMON,
    "service_account_id": None,
    "service_tier": "service_tier",
    "workspace_id": "workspace",
    **OURS,
}
COST_GROUPS: Mapping[str, Dimension | None] = {"workspace_id": "workspace", "description": None, **OURS}
ANALYTICS_GROUPS: Mapping[str, Dimension | None] = {
    "actor": "key_id",
    "actor_type": None,
    "agent_id": None,
    "api_key_id": "key_id",
    **_COMMON,
    **_CHAT,
    "deployment_id": None,
    "environment_id": None,
    "organization_id": None,
    "service_tier": "service_tier",
    "session_id": None,
    "user_profile_id": None,
    "workspace_id": "workspace",
    **OURS,
}
BUCKETED_GROUPS: Mapping[str, Dimension | None] = {**_COMMON, **_CHAT, **OURS}
#: What makes one line of a bill: `description` of the older cost report.
DESCRIBED: tuple[Dimension, ...] = ("requested_model", "service_tier", "context_window", "geography")

_TOKEN_NAMES: Mapping[TokenType, str] = {
    "uncached_input_tokens": "Input Tokens",
    "cache_creation.ephemeral_5m_input_tokens": "Input Tokens, Cache Write (5m)",
    "cache_creation.ephemeral_1h_input_tokens": "Input Tokens, Cache Write (1h)",
    "cache_read_input_tokens": "Input Tokens, Cache Hit",
    "output_tokens": "Output Tokens",
}


class Group:
    """The values of one row's dimensions, under the names that they were asked by."""

    def __init__(self, names: Sequence[str], groups: Mapping[str, Dimension | None], question: Question) -> None:
        self._names = [(name, dimension) for name in names if (dimension := groups.get(name)) is not None]
        self._place = {dimension: place for place, dimension in enumerate(question.by)}

    def values(self, sums: Sums) -> dict[str, Any]:
        """Null is what a request did not have."""
        return {name: sums.group[self._place[dimension]] or None for name, dimension in self._names}

    def value(self, sums: Sums, dimension: Dimension) -> str:
        return sums.group[self._place[dimension]]


def messages_usage(sums: Sums, group: Group) -> MessagesUsage:
    """A result of the older usage report. The default workspace is null, and a geography never is."""
    values = _older(group.values(sums))
    return MessagesUsage(**values, **_tokens(sums))


def organization_costs(sums: Sums, group: Group, *, described: bool) -> Iterator[OrganizationCost]:
    """The results of the older cost report: one, or one for each kind of tokens."""
    values = _older(group.values(sums))
    if not described:
        yield OrganizationCost(**values, amount=decimal(sums.cost.total_nano, CENTS))
        return
    model = group.value(sums, "requested_model")
    tier = group.value(sums, "service_tier")
    for token_type, nano in _components(sums):
        yield OrganizationCost(
            **values,
            amount=decimal(nano, CENTS),
            cost_type="tokens",
            token_type=token_type,
            description=f"{model} Usage - {_TOKEN_NAMES[token_type]}{', Batch' if tier == 'batch' else ''}",
            model=model,
            service_tier=tier,
            context_window=group.value(sums, "context_window"),
            inference_geo=group.value(sums, "geography") or "not_available",
        )


def usage_group(values: dict[str, Any], names: Sequence[str]) -> UsageGroup:
    return UsageGroup(**_actor(values, names))


def usage_metrics(sums: Sums) -> UsageMetrics:
    used = sums.usage
    total = (
        used.input_tokens
        + used.cache_write_5m_tokens
        + used.cache_write_1h_tokens
        + used.cache_read_tokens
        + used.output_tokens
    )
    return UsageMetrics(**_tokens(sums), total_tokens=total, requests=sums.requests)


def costs(sums: Sums, values: dict[str, Any], names: Sequence[str]) -> Iterator[tuple[CostGroup, CostMetrics]]:
    """What one row of `analytics/cost` becomes."""
    group = _actor(values, names)
    for fanned, nano, requests in _fanned(sums, names):
        amount = decimal(nano, CENTS)
        yield CostGroup(**group, **fanned), CostMetrics(amount=amount, list_amount=amount, requests=requests)


def bucketed_usage(sums: Sums, values: dict[str, Any]) -> BucketedUsage:
    return BucketedUsage(**values, **_tokens(sums), requests=sums.requests)


def bucketed_costs(sums: Sums, values: dict[str, Any], names: Sequence[str]) -> Iterator[BucketedCost]:
    """What one row of `analytics/cost_report` becomes."""
    for fanned, nano, requests in _fanned(sums, names):
        amount = decimal(nano, CENTS)
        yield BucketedCost(**values, **fanned, amount=amount, list_amount=amount, requests=requests)


def _fanned(sums: Sums, names: Sequence[str]) -> Iterator[tuple[dict[str, Any], int, int | None]]:
    """By kind of tokens, by kind of cost (there is one so far), or whole. Requests have no kind."""
    if "token_type" in names:
        for token_type, nano in _components(sums):
            yield {"cost_type": "tokens", "token_type": token_type}, nano, None
    elif "cost_type" in names:
        if sums.requests:
            yield {"cost_type": "tokens"}, sums.cost.total_nano, None
    else:
        yield {}, sums.cost.total_nano, sums.requests


def _components(sums: Sums) -> Iterator[tuple[TokenType, int]]:
    """The kinds of tokens that there were any of, and what they cost, nano-dollars."""
    used, cost = sums.usage, sums.cost
    everything: tuple[tuple[TokenType, int, int], ...] = (
        ("uncached_input_tokens", used.input_tokens, cost.input_nano),
        ("cache_creation.ephemeral_5m_input_tokens", used.cache_write_5m_tokens, cost.cache_write_5m_nano),
        ("cache_creation.ephemeral_1h_input_tokens", used.cache_write_1h_tokens, cost.cache_write_1h_nano),
        ("cache_read_input_tokens", used.cache_read_tokens, cost.cache_read_nano),
        ("output_tokens", used.output_tokens, cost.output_nano),
    )
    for token_type, tokens, nano in everything:
        if tokens or nano:
            yield token_type, nano


def _tokens(sums: Sums) -> dict[str, Any]:
    used = sums.usage
    return {
        "uncached_input_tokens": used.input_tokens,
        "cache_creation": CacheCreation(used.cache_write_1h_tokens, used.cache_write_5m_tokens),
        "cache_read_input_tokens": used.cache_read_tokens,
        "output_tokens": used.output_tokens,
    }


def _older(values: dict[str, Any]) -> dict[str, Any]:
    if values.get("workspace_id") == DEFAULT_WORKSPACE:
        values["workspace_id"] = None
    if "inference_geo" in values:
        values["inference_geo"] = values["inference_geo"] or "not_available"
    return values


def _actor(values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Usage is a key's."""
    if values.get("actor") is not None:
        values["actor"] = ApiActor(values["actor"])
    if "actor_type" in names:
        values["actor_type"] = "api_actor"
    return values
