"""What the reports of usage and cost answer, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from antiphon.http.described import (
    GIVEN_MOMENT,
    MOMENT,
    STRING,
    Json,
    Operation,
    Operations,
    limit,
    one_of,
    query,
    several,
)
from antiphon.http.organization import report_rows as rows
from antiphon.http.organization.report_queries import WIDTHS
from antiphon.wire.organization import reports
from antiphon.wire.organization.reports import Bucket, ReportPage

_ROOT = "/v1/organizations"
_BETA = "analytics-usage-cost-2026-08-24"
_MOST_VALUES = 500

_SPAN = (
    query("starting_at", "Beginning of the report; rounded down to a whole bucket.", GIVEN_MOMENT, required=True),
    query("ending_at", "End of the report; now unless it is given.", MOMENT),
)
_PAGE = query("page", "The `next_page` of the answer before.", STRING)
_FILTERS = (
    *(
        several(name, f"Only requests of these {words}.", most=_MOST_VALUES)
        for name, words in (
            ("api_key_ids", "keys"),
            ("workspace_ids", "workspaces"),
            ("models", "models, as they were asked for"),
            ("served_models", "models, as they answered (Antiphon's own)"),
            ("user_ids", "users, by `metadata.user_id` (Antiphon's own)"),
            ("workflows", "workflows (Antiphon's own)"),
        )
    ),
    several("inference_geos", "Only requests answered in these geographies.", most=_MOST_VALUES),
    several("service_tiers", "Only requests of these tiers.", "batch", "flex", "flex_discount", "priority",
            "priority_on_demand", "standard", most=_MOST_VALUES),
    several("context_window", "Only requests of these sizes.", "0-200k", "200k-1M", most=_MOST_VALUES),
)  # fmt: skip
_SPEEDS = several("speeds", "Only requests of these speeds.", "fast", "standard", most=_MOST_VALUES)
_WIDTH = one_of("bucket_width", "How long a bucket is; a day unless it is given.", *WIDTHS)


def _grouped(groups: Iterable[str], most: int | None = None) -> Json:
    return several("group_by", "What to group by; by nothing unless it is given.", *groups, most=most)


def _report(name: str, summary: str, answer: Any, *parameters: Json, beta: str | None = None) -> Operation:
    return Operation(name, "reports", summary, answer, parameters=(*_SPAN, *parameters, _PAGE), beta=beta)


def _rows(name: str, summary: str, answer: Any, groups: Iterable[str], *orders: str) -> Operation:
    return _report(
        name,
        summary,
        answer,
        one_of("time_bucket_width", "How long a row's time is; all of it unless it is given.", *WIDTHS),
        # The kinds of a cost do not count among the five groups, so that no number can be given here.
        _grouped(groups),
        one_of("order_by", "What rows are ordered by.", *orders),
        one_of("order", "Which come first; the largest unless it is given.", "asc", "desc"),
        limit("Rows", 1000, 20),
        *_FILTERS,
        _SPEEDS,
        beta=_BETA,
    )


REPORTS: Operations = {
    ("GET", _ROOT + "/usage_report/messages"): _report(
        "usage_report_messages",
        "Usage in buckets of time. Speeds need the beta fast-mode-2026-02-01",
        ReportPage[Bucket[reports.MessagesUsage]],
        _WIDTH,
        _grouped(rows.MESSAGES_GROUPS),
        limit("Buckets; at most 31 days, 168 hours or 1440 minutes,", 1440, None),
        *_FILTERS,
        _SPEEDS,
    ),
    ("GET", _ROOT + "/cost_report"): _report(
        "cost_report",
        "Cost by day, in cents",
        ReportPage[Bucket[reports.OrganizationCost]],
        one_of("bucket_width", "How long a bucket is.", "1d"),
        _grouped(rows.COST_GROUPS),
        limit("Days", 31, 7),
        *_FILTERS,
    ),
    ("GET", _ROOT + "/analytics/usage"): _rows(
        "analytics_usage",
        "Usage in rows",
        ReportPage[reports.UsageItem],
        rows.ANALYTICS_GROUPS,
        *("output_tokens", "requests", "time", "total_tokens", "uncached_input_tokens"),
    ),
    ("GET", _ROOT + "/analytics/cost"): _rows(
        "analytics_cost",
        "Cost in rows, in cents",
        ReportPage[reports.CostItem],
        {**rows.ANALYTICS_GROUPS, **rows.FANNED},
        *("amount", "list_amount", "time"),
    ),
    ("GET", _ROOT + "/analytics/usage_report"): _report(
        "analytics_usage_report",
        "Usage in buckets, each with its hundred largest groups",
        ReportPage[Bucket[reports.BucketedUsage]],
        _WIDTH,
        _grouped(rows.BUCKETED_GROUPS),
        limit("Buckets; at most 31 days, 168 hours or 256 minutes,", 256, None),
        *_FILTERS,
        _SPEEDS,
    ),
    ("GET", _ROOT + "/analytics/cost_report"): _report(
        "analytics_cost_report",
        "Cost in buckets, each with its hundred largest groups, in cents",
        ReportPage[Bucket[reports.BucketedCost]],
        _WIDTH,
        _grouped({**rows.BUCKETED_GROUPS, **rows.FANNED}),
        limit("Buckets; at most 31 days, 168 hours or 256 minutes,", 256, None),
        *_FILTERS,
        _SPEEDS,
    ),
}
