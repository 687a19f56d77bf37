"""Reports over HTTP: the older routes by raw requests, the newer ones by the official SDK; all from one ledger."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx2
import msgspec
import pytest

from antiphon.core.errors import PermissionDenied
from antiphon.core.records import Cost, Usage, UsageRecord
from antiphon.http.exchange import Exchange
from antiphon.http.organization import reports as module
from antiphon.http.organization.reports import Reports
from antiphon.store import usage
from antiphon.store.reports import DAY_MS, HOUR_MS
from antiphon.store.rollups import roll_up
from conftest import StartScripted
from running import SCOPE, Running

#: 2026-10-08T00:00:00Z, and a time in the afternoon of the last day of the records.
_BEGIN = 1_791_417_600_000
_NOW = _BEGIN + 9 * DAY_MS + 15 * HOUR_MS + 1234
_SCRIPT = "rules: [{match: Hi, text: 'Good day to you.'}]"
_BETAS = {"anthropic-beta": "analytics-usage-cost-2026-08-24"}
_START = "2026-10-08T00:00:00Z"
_END = "2026-10-18T00:00:00Z"


class _Clock:
    def now_ms(self) -> int:
        return _NOW

    def monotonic(self) -> float:
        return 1.0


def _record(number: int, **given: Any) -> UsageRecord:
    """Ten days of them, some in every odd combination."""
    values: dict[str, Any] = {
        "request_id": f"req_{number}",
        "organization": SCOPE.organization,
        "workspace": (SCOPE.workspace, "wrkspc_other")[number % 2],
        "key_id": f"apikey_{number % 3}",
        "endpoint": "/v1/messages",
        "requested_model": ("claude-opus-4-6", "claude-haiku-4-5")[number % 2],
        "served_model": "qwen",
        "outcome": "end_turn",
        "usage": Usage(number, 2 * number, 3 * number, 250_000 * (number % 4 == 0), 7 + number, 1),
        "attempts": (),
        "created_ms": _BEGIN + number * DAY_MS // 4,
        "duration_us": 1,
        "geography": (None, "us", "global")[number % 3],
        "speed": ("standard", "fast")[number % 5 == 0],
        "batch_id": "msgbatch_1" if number % 7 == 0 else None,
        "user_id": (None, "anna", "ben")[number % 3],
        "workflow": (None, "nightly")[number % 2],
        "cost": Cost(number * 1_000_000_007, 3, 0, number, 10**7),
    }
    return UsageRecord(**values | given)


#: None on the fourth day.
_RECORDS = [_record(number) for number in range(40) if number // 4 != 3]


def _reports(running: Running) -> Reports:
    def admins(exchange: Exchange) -> None:
        if exchange.caller is None or not exchange.caller.admin:
            raise PermissionDenied("This needs an admin key")

    return Reports(running.app.database, _Clock(), read_usage=admins, read_costs=admins)


@pytest.fixture
def running(scripted: StartScripted) -> Running:
    """A server whose reports have a clock of their own."""
    started: Running = scripted(_SCRIPT)
    for route in _reports(started).routes():
        started.app.http._routes._exact[route.path] = route
    started.key = started.make_key(admin=True)
    return started


def _post(running: Running, records: Sequence[UsageRecord]) -> None:
    async def post() -> None:
        async with running.app.database.transaction() as connection:
            await usage.post(connection, records)

    running.inside(post())


def _get(running: Running, path: str, headers: dict[str, str] | None = None, **query: Any) -> httpx2.Response:
    return httpx2.get(
        f"{running.base_url}/v1/organizations/{path}",
        params={name.replace("__", "[]"): value for name, value in query.items()},
        headers={"x-api-key": running.key, "anthropic-version": "2023-06-01"} | (headers or {}),
        trust_env=False,
    )


def _ok(running: Running, path: str, **query: Any) -> Any:
    answer = _get(running, path, **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _tokens(result: Any) -> tuple[int, int, int, int, int]:
    made = result["cache_creation"]
    return (
        result["uncached_input_tokens"],
        made["ephemeral_5m_input_tokens"],
        made["ephemeral_1h_input_tokens"],
        result["cache_read_input_tokens"],
        result["output_tokens"],
    )


def _summed(results: Sequence[Any]) -> list[int]:
    return [sum(column) for column in zip(*map(_tokens, results), strict=True)]


def _ledger(records: Sequence[UsageRecord] = _RECORDS) -> list[int]:
    rows = [msgspec.structs.astuple(record.usage)[:5] for record in records]
    return [sum(column) for column in zip(*rows, strict=True)]


def _cents(records: Sequence[UsageRecord] = _RECORDS) -> Decimal:
    return Decimal(sum(record.cost.total_nano for record in records)) / 10**7


def test_the_older_usage_report_has_every_bucket_and_the_documented_shape(running: Running) -> None:
    _post(running, _RECORDS)
    page = _ok(running, "usage_report/messages", starting_at="2026-10-08T13:00:00Z")  # snapped to its day
    assert list(page) == ["data", "has_more", "next_page"]
    assert [bucket["starting_at"] for bucket in page["data"]] == [
        f"2026-10-{day:02d}T00:00:00Z" for day in range(8, 15)
    ]
    assert page["data"][0] == {
        "starting_at": "2026-10-08T00:00:00Z",
        "ending_at": "2026-10-09T00:00:00Z",
        "results": [
            {
                "uncached_input_tokens": 6,
                "cache_creation": {"ephemeral_1h_input_tokens": 18, "ephemeral_5m_input_tokens": 12},
                "cache_read_input_tokens": 250_000,
                "output_tokens": 34,
                "server_tool_use": {"web_search_requests": 0},
                "account_id": None,
                "api_key_id": None,
                "context_window": None,
                "inference_geo": None,
                "model": None,
                "service_account_id": None,
                "service_tier": None,
                "workspace_id": None,
            }
        ],
    }
    assert page["data"][3]["results"] == []
    assert page["has_more"] is True
    rest = _ok(running, "usage_report/messages", starting_at="2026-10-08T13:00:00Z", page=page["next_page"])
    assert (rest["has_more"], rest["next_page"]) == (False, None)
    assert rest["data"][-1]["ending_at"] == "2026-10-18T00:00:00Z"  # the present day
    assert _summed([r for b in page["data"] + rest["data"] for r in b["results"]]) == _ledger()


@pytest.mark.parametrize(
    ("group", "values"),
    [
        ("api_key_id", {"apikey_0", "apikey_1", "apikey_2"}),
        ("workspace_id", {None, "wrkspc_other"}),  # the default workspace is null (contract 7.3)
        ("model", {"claude-opus-4-6", "claude-haiku-4-5"}),
        ("service_tier", {"standard", "batch"}),
        ("context_window", {"0-200k", "200k-1M"}),
        ("inference_geo", {"us", "global", "not_available"}),
        ("speed", {"standard", "fast"}),
        ("account_id", {None}),
        ("service_account_id", {None}),
        ("user_id", {None, "anna", "ben"}),
        ("workflow", {None, "nightly"}),
        ("served_model", {"qwen"}),
    ],
)
def test_every_group_of_the_older_usage_report_adds_up(running: Running, group: str, values: set[str | None]) -> None:
    _post(running, _RECORDS)
    span: dict[str, Any] = {"starting_at": _START, "ending_at": _END, "limit": 31}
    headers = {"anthropic-beta": "fast-mode-2026-02-01"}
    page = _ok(running, "usage_report/messages", headers=headers, group_by__=group, **span)
    results = [result for bucket in page["data"] for result in bucket["results"]]
    assert {result[group] for result in results} == values
    assert _summed(results) == _ledger()
    assert len(page["data"]) == 10


def test_filters_take_several_values_and_the_parts_are_the_whole(running: Running) -> None:
    _post(running, _RECORDS)
    span: dict[str, Any] = {"starting_at": _START, "ending_at": _END, "limit": 31, "group_by[]": "api_key_id"}

    def asked(**query: Any) -> list[Any]:
        page = _ok(running, "usage_report/messages", **span, **query)
        return [result for bucket in page["data"] for result in bucket["results"]]

    for name, parts in {
        "api_key_ids__": (["apikey_0", "apikey_2"], ["apikey_1"]),
        "workspace_ids__": ([SCOPE.workspace], ["wrkspc_other", "wrkspc_none"]),
        "models__": (["claude-opus-4-6"], ["claude-haiku-4-5"]),
        "service_tiers__": (["standard", "priority"], ["batch"]),
        "context_window__": (["0-200k"], ["200k-1M"]),
        "inference_geos__": (["us", "not_available"], ["global"]),
        "user_ids__": (["anna", ""], ["ben"]),
        "workflows__": ([""], ["nightly"]),
    }.items():
        first, second = (asked(**{name: part}) for part in parts)
        assert first, name
        assert second, name
        assert [a + b for a, b in zip(_summed(first), _summed(second), strict=True)] == _ledger(), name
    assert {result["api_key_id"] for result in asked(api_key_ids__=["apikey_1"])} == {"apikey_1"}
    assert asked(account_ids__=["user_1"]) == []
    assert asked(api_key_ids__=["none"]) == []
    assert asked(workflows__=["a\0b"]) == []


@pytest.mark.parametrize(
    ("width", "usual", "most", "length"), [("1d", 7, 31, DAY_MS), ("1h", 24, 168, HOUR_MS), ("1m", 60, 1440, 60_000)]
)
def test_a_page_has_as_many_buckets_as_its_width_allows(
    running: Running, width: str, usual: int, most: int, length: int
) -> None:
    asked: dict[str, Any] = {"starting_at": "2026-08-01T00:00:00Z", "bucket_width": width}
    assert len(_ok(running, "usage_report/messages", **asked)["data"]) == usual
    assert len(_ok(running, "usage_report/messages", **asked, limit=most)["data"]) == most
    (one,) = _ok(running, "usage_report/messages", **asked, limit=1)["data"]
    assert one["results"] == []
    refused = _get(running, "usage_report/messages", **asked, limit=most + 1)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == f"limit: Input should be less than or equal to {most}"


def test_pages_of_the_older_report_go_on_where_they_ended(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ROWS", 5)
    _post(running, _RECORDS)
    asked: dict[str, Any] = {
        "starting_at": _START, "ending_at": _END, "limit": 4, "group_by[]": ["api_key_id", "workflow"],
    }  # fmt: skip
    results, buckets, pages, page = [], [], 0, _ok(running, "usage_report/messages", **asked)
    while True:
        pages += 1
        buckets += [bucket["starting_at"] for bucket in page["data"]]
        found = [(b["starting_at"], r) for b in page["data"] for r in b["results"]]
        assert len(found) <= 5  # a page ends within a day here, and the next one begins with that day's rest
        results += found
        if not page["has_more"]:
            break
        page = _ok(running, "usage_report/messages", **asked, page=page["next_page"])
    assert pages > 5
    assert sorted(set(buckets)) == [f"2026-10-{day:02d}T00:00:00Z" for day in range(8, 18)]
    assert buckets == sorted(buckets)
    assert _summed([result for _, result in results]) == _ledger()
    named = [(start, result["api_key_id"], result["workflow"]) for start, result in results]
    assert len(set(named)) == len(named)


def test_a_page_token_is_for_its_own_question_alone(running: Running) -> None:
    _post(running, _RECORDS)
    asked: dict[str, Any] = {"starting_at": _START, "limit": 2}
    token = _ok(running, "usage_report/messages", **asked)["next_page"]
    assert token.startswith("page_")
    assert _ok(running, "usage_report/messages", **asked, page=token)["data"]
    other = "page: This page token belongs to a request with other parameters"
    for path, query in [
        ("usage_report/messages", asked | {"limit": 3}),
        ("usage_report/messages", asked | {"models[]": "x"}),
        ("usage_report/messages", {"starting_at": _START}),
        ("cost_report", asked),
    ]:
        refused = _get(running, path, **query, page=token)
        assert (refused.status_code, refused.json()["error"]["message"]) == (400, other)
    for wrong in ("page_", "page_x", "nothing", token[:-3], token + "A", "page_" + "A" * 9000, "page_gA=="):
        refused = _get(running, "usage_report/messages", **asked, page=wrong)
        assert refused.status_code == 400, wrong
        assert refused.json()["error"]["message"].startswith("page: ")


_ONE_OF_WIDTHS = "Input should be '1d', '1h' or '1m'"


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("usage_report/messages", {}, "starting_at: Field required"),
        ("cost_report", {}, "starting_at: Field required"),
        ("analytics/usage", {}, "starting_at: Field required"),
        ("usage_report/messages", {"starting_at": "yesterday"}, "starting_at: Input should be an RFC 3339 timestamp"),
        ("usage_report/messages", {"starting_at": "2026-10-08T00:00:00"}, "starting_at: Input should be an RFC 3339"),
        ("usage_report/messages", {"starting_at": "2026-13-08T00:00:00Z"}, "starting_at: Input should be a valid"),
        ("usage_report/messages", {"starting_at": "2026-10-08T24:00:01Z"}, "starting_at: Input should be a valid"),
        ("usage_report/messages", {"starting_at": "0001-01-01T00:00:00+14:00"}, "starting_at: Input should be"),
        ("usage_report/messages", {"starting_at": "9999-12-31T23:59:59-14:00"}, "starting_at: Input should be"),
        ("usage_report/messages", {"ending_at": _START}, "ending_at: ending_at must be after starting_at"),
        ("usage_report/messages", {"bucket_width": "2d"}, f"bucket_width: {_ONE_OF_WIDTHS}"),
        ("cost_report", {"bucket_width": "1h"}, "bucket_width: Input should be '1d'"),
        ("usage_report/messages", {"limit": "0"}, "limit: Input should be greater than or equal to 1"),
        ("usage_report/messages", {"limit": "many"}, "limit: Input should be a valid integer"),
        ("cost_report", {"limit": "32"}, "limit: Input should be less than or equal to 31"),
        ("cost_report", {"group_by[]": ["workspace_id", "model"]}, "group_by.1: Input should be 'workspace_id'"),
        ("usage_report/messages", {"group_by[]": "colour"}, "group_by.0: Input should be 'account_id', "),
        ("usage_report/messages", {"group_by[]": "speed"}, "group_by: `speed` needs the beta fast-mode-2026-02-01"),
        ("usage_report/messages", {"speeds[]": "fast"}, "speeds: `speed` needs the beta fast-mode-2026-02-01"),
        ("usage_report/messages", {"service_tiers[]": "gold"}, "service_tiers.0: Input should be 'batch', "),
        ("usage_report/messages", {"context_window[]": "1M"}, "context_window.0: Input should be '0-200k' or"),
        ("usage_report/messages", {"inference_geos[]": "a b"}, "inference_geos.0: Input should be the name"),
        ("usage_report/messages", {"models[]": ["m"] * 501}, "models: List should have at most 500 items"),
        ("analytics/usage", {"starting_at": "2025-12-31T23:59:59Z"}, "starting_at: must be within the last 365 days"),
        ("analytics/usage", {"time_bucket_width": "1d"}, "ending_at: Field required when time_bucket_width is set"),
        ("analytics/usage", {"ending_at": "2026-11-09T00:00:00Z"}, "ending_at: the range may span at most 31 days"),
        (
            "analytics/usage",
            {"ending_at": "2026-10-09T00:01:00Z", "time_bucket_width": "1m"},
            "ending_at: the range may span at most 24 hours",
        ),
        ("analytics/cost", {"order_by": "requests"}, "order_by: Input should be 'amount', 'list_amount' or 'time'"),
        ("analytics/cost", {"order": "up"}, "order: Input should be 'asc' or 'desc'"),
        ("analytics/usage", {"limit": "1001"}, "limit: Input should be less than or equal to 1000"),
        ("analytics/usage", {"group_by[]": "token_type"}, "group_by.0: Input should be 'actor', "),
        (
            "analytics/usage",
            {"group_by[]": ["model", "speed", "product", "workflow", "user_id", "api_key_id"]},
            "group_by: List should have at most 5 items",
        ),
        ("analytics/usage", {"exclude_deleted_users": "true"}, "exclude_deleted_users: It needs `group_by[]=actor`"),
        ("analytics/usage", {"products[]": "toaster"}, "products.0: Input should be 'chat', "),
        ("analytics/usage_report", {"limit": "257", "bucket_width": "1m"}, "limit: Input should be less than or equal"),
        ("analytics/usage_report", {"group_by[]": "api_key_id"}, "group_by.0: Input should be 'context_window', "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(running: Running, path: str, query: dict[str, Any], message: str) -> None:
    asked = {"starting_at": _START} | query if query else {}
    refused = _get(running, path, headers=_BETAS, **asked)
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert refused.json()["error"]["message"].startswith(message)


def test_the_newer_reports_need_their_beta_and_all_of_them_an_admin(running: Running) -> None:
    without = _get(running, "analytics/usage", starting_at=_START)
    assert without.status_code == 400
    assert "analytics-usage-cost-2026-08-24" in without.json()["error"]["message"]
    for path in ("usage_report/messages", "cost_report", "analytics/usage", "analytics/cost_report"):
        refused = _get(running, path, headers=_BETAS | {"x-api-key": running.make_key()}, starting_at=_START)
        assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")


def test_the_older_cost_report_adds_up_to_the_last_digit(running: Running) -> None:
    priority = _record(100, created_ms=_BEGIN, service_tier="priority", batch_id=None)
    _post(running, [*_RECORDS, priority])  # the last one is paid otherwise (contract 7.6)
    span: dict[str, Any] = {"starting_at": _START, "ending_at": _END, "limit": 31}
    (first, *_), *_ = [bucket["results"] for bucket in _ok(running, "cost_report", **span)["data"]]
    assert first == {
        "amount": "604.000006",  # (0+1+2+3) * 1_000_000_007 + 4 * 3 + 6 + 4 * 10**7 nano-dollars, in cents
        "currency": "USD",
        "context_window": None,
        "cost_type": None,
        "description": None,
        "inference_geo": None,
        "model": None,
        "service_tier": None,
        "token_type": None,
        "workspace_id": None,
    }
    for groups in ([], ["workspace_id"], ["description"], ["workspace_id", "description"], ["user_id", "workflow"]):
        page = _ok(running, "cost_report", **span, group_by__=groups)
        results = [result for bucket in page["data"] for result in bucket["results"]]
        assert sum(Decimal(result["amount"]) for result in results) == _cents(), groups
    described = _ok(running, "cost_report", **span, group_by__=["workspace_id", "description"])["data"][0]["results"]
    one = next(r for r in described if r["service_tier"] == "batch" and r["token_type"] == "output_tokens")
    assert one == {
        "amount": "1",
        "currency": "USD",
        "context_window": "200k-1M",
        "cost_type": "tokens",
        "description": "claude-opus-4-6 Usage - Output Tokens, Batch",
        "inference_geo": "not_available",
        "model": "claude-opus-4-6",
        "service_tier": "batch",
        "token_type": "output_tokens",
        "workspace_id": None,
    }


def test_both_generations_and_a_roll_up_tell_the_same(running: Running) -> None:
    _post(running, _RECORDS)
    _post(running, [_record(1000, organization="org_other")])

    def everything() -> list[Any]:
        span: dict[str, Any] = {"starting_at": _START, "ending_at": _END, "limit": 31, "group_by[]": "model"}
        pages = [_ok(running, path, **span) for path in ("usage_report/messages", "cost_report")[:1]]
        pages.append(_ok(running, "cost_report", **span | {"group_by[]": "description"}))
        rows: dict[str, Any] = span | {"time_bucket_width": "1d", "limit": 1000}
        pages += [_ok(running, f"analytics/{path}", headers=_BETAS, **rows) for path in ("usage", "cost")]
        pages += [_ok(running, f"analytics/{path}", **span) for path in ("usage_report", "cost_report")]
        return [page["data"] for page in pages]

    before = everything()
    older, older_cost, rows, cost_rows, buckets, cost_buckets = before
    assert _summed([result for bucket in older for result in bucket["results"]]) == _ledger()
    assert _summed([row["usage"] for row in rows]) == _ledger()
    assert _summed([result for bucket in buckets for result in bucket["results"]]) == _ledger()
    amounts = [
        sum(Decimal(result["amount"]) for bucket in older_cost for result in bucket["results"]),
        sum(Decimal(row["cost"]["amount"]) for row in cost_rows),
        sum(Decimal(result["amount"]) for bucket in cost_buckets for result in bucket["results"]),
    ]
    assert amounts == [_cents()] * 3

    async def roll() -> int:
        async with running.app.database.transaction() as connection:
            return await roll_up(SCOPE.organization, connection, _BEGIN + 5 * DAY_MS + HOUR_MS)

    assert running.inside(roll()) == 17
    assert everything() == before


@pytest.mark.behaviour("client-surface-1.7-report-cursor")
def test_the_sdk_reads_usage_page_by_page(running: Running) -> None:
    _post(running, _RECORDS)
    analytics = running.client().beta.organization.analytics
    asked: Any = {
        "starting_at": _START,
        "ending_at": _END,
        "time_bucket_width": "1d",
        "group_by": ["model", "actor", "actor_type", "workspace_id", "product"],
        "limit": 7,
    }
    first = analytics.usage.list(**asked)
    assert first.data_refreshed_at is not None
    assert first.has_more is True
    rows = list(first)
    assert len(rows) > 14
    assert _summed([row.usage.to_dict() for row in rows]) == _ledger()
    assert sum(row.usage.requests or 0 for row in rows) == len(_RECORDS)
    totals = [row.usage.total_tokens for row in rows]
    assert totals == sorted(totals, reverse=True)
    assert {row.group.product for row in rows} == {"messages_api", "message_batches_api"}
    assert {row.group.workspace_id for row in rows} == {SCOPE.workspace, "wrkspc_other"}  # the default one has its id
    actors = [row.group.actor for row in rows]
    assert {actor.api_key_id for actor in actors if actor and actor.type == "api_actor"} == {
        f"apikey_{number}" for number in range(3)
    }
    assert {row.group.actor_type for row in rows} == {"api_actor"}
    assert all(row.ending_at - row.starting_at == timedelta(days=1) for row in rows)
    by_time = list(analytics.usage.list(**asked | {"order_by": "time", "order": "asc"}))
    assert [row.starting_at for row in by_time] == sorted(row.starting_at for row in rows)
    assert len({row.to_json() for row in by_time}) == len(by_time) == len(rows)
    filtered = analytics.usage.list(
        **asked | {"actor_ids": ["apikey_1"], "api_key_ids": ["apikey_1", "apikey_2"], "group_by": ["api_key_id"]}
    )
    assert {row.group.api_key_id for row in filtered} == {"apikey_1"}
    assert list(analytics.usage.list(**asked | {"session_ids": ["sesn_1"]})) == []
    assert list(analytics.usage.list(**asked | {"actor_types": ["user_actor"]})) == []


def test_without_a_width_a_row_covers_whole_hours(running: Running) -> None:
    _post(running, _RECORDS)
    client = running.client()
    (row,) = client.beta.organization.analytics.usage.list(starting_at="2026-10-08T00:30:00Z")
    assert row.starting_at.isoformat() == "2026-10-08T00:00:00+00:00"
    assert row.ending_at.isoformat() == "2026-10-17T15:00:00+00:00"  # now, down to the hour
    old = [record for record in _RECORDS if record.created_ms < _BEGIN + 9 * DAY_MS + 15 * HOUR_MS]
    assert _summed([row.usage.to_dict()]) == _ledger(old)
    (none,) = client.beta.organization.analytics.usage.list(starting_at=_START, models=["none"])
    assert none.usage.requests == none.usage.total_tokens == 0
    by_flow = client.beta.organization.analytics.usage.list(
        starting_at=_START, ending_at=_END, extra_query={"group_by": ["workflow", "user_id"], "user_ids": ["anna"]}
    )
    flows = {(row.group.to_dict()["workflow"], row.group.to_dict()["user_id"]) for row in by_flow}
    assert flows == {("nightly", "anna"), (None, "anna")}


def test_the_sdk_reads_costs_of_every_kind(running: Running) -> None:
    _post(running, _RECORDS)
    costs = running.client().beta.organization.analytics.cost
    asked: Any = {"starting_at": _START, "ending_at": _END, "limit": 3}
    (whole,) = costs.list(**asked)
    assert Decimal(whole.cost.amount) == Decimal(whole.cost.list_amount) == _cents()
    assert (whole.cost.currency, whole.cost.requests) == ("USD", len(_RECORDS))
    kinds_of_rows: Any = (["model"], ["cost_type"], ["token_type"], ["model", "cost_type", "token_type", "speed"])
    for groups in kinds_of_rows:
        rows = list(costs.list(**asked, group_by=groups))
        assert sum(Decimal(row.cost.amount) for row in rows) == _cents(), groups
        fanned = bool({"cost_type", "token_type"} & set(groups))
        assert {row.group.cost_type for row in rows} == {"tokens" if fanned else None}
        assert any(row.cost.requests is None for row in rows) == fanned
    kinds = {row.group.token_type: Decimal(row.cost.amount) for row in costs.list(**asked, group_by=["token_type"])}
    assert kinds["output_tokens"] == len(_RECORDS)
    assert len(kinds) == 5
    amounts = [Decimal(row.cost.amount) for row in costs.list(**asked, group_by=["model", "speed"], order="asc")]
    assert amounts == sorted(amounts)


def test_the_sdk_reads_buckets(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEST", 1)
    _post(running, _RECORDS)
    analytics = running.client().beta.organization.analytics
    buckets = list(analytics.usage_report.list(starting_at=_START, ending_at=_END, limit=4))
    assert [len(bucket.results) for bucket in buckets] == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1]
    assert _summed([result.to_dict() for bucket in buckets for result in bucket.results]) == _ledger()
    hours = list(analytics.cost_report.list(starting_at=_START, ending_at=_END, bucket_width="1h", limit=100))
    assert len(hours) == 240
    assert sum(Decimal(result.amount) for bucket in hours for result in bucket.results) == _cents()
    by_model = analytics.cost_report.list(starting_at=_START, ending_at=_END, group_by=["model", "token_type"])
    for bucket in by_model:
        assert {result.model for result in bucket.results} <= {"claude-haiku-4-5"}  # each day's dearest
        assert {result.requests for result in bucket.results} <= {None}


def test_what_a_client_did_is_in_the_report(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT)
    clock = running.app.parts.clock
    permitted = Reports(running.app.database, clock, read_usage=lambda _: None, read_costs=lambda _: None)
    for route in permitted.routes():
        running.app.http._routes._exact[route.path] = route
    caller, running.key = running.key, running.make_key(admin=True)
    message = running.client(api_key=caller).messages.create(
        model="claude-opus-4-6", max_tokens=50, messages=[{"role": "user", "content": "Hi"}], metadata={"user_id": "me"}
    )
    day = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(clock.now_ms() / 1000))
    asked: dict[str, Any] = {"starting_at": day, "group_by[]": ["model", "user_id"]}
    end = time.monotonic() + 60
    while not (results := [r for b in _ok(running, "usage_report/messages", **asked)["data"] for r in b["results"]]):
        assert time.monotonic() < end  # what is answered is posted, soon
        time.sleep(0.05)
    (result,) = results
    assert (result["model"], result["user_id"]) == ("claude-opus-4-6", "me")
    assert result["output_tokens"] == message.usage.output_tokens
    assert result["uncached_input_tokens"] == message.usage.input_tokens
