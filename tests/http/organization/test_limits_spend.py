"""Spend limits of the organization and its workspaces, read and set through the official SDK and by raw HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from limits_office import archive, with_limits, workspace

from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Cost, Usage, UsageRecord
from antiphon.gate.spend.budgets import span
from antiphon.store import limits, usage
from office import OTHER, Office, told

_ALL = "/v1/organizations/spend_limits"
_ORGANIZATION: Any = {"type": "organization"}


@pytest.fixture(scope="module")
def place(office: Office) -> Office:
    return with_limits(office, "start")


@pytest.fixture
def sdk(place: Office) -> Iterator[anthropic.Anthropic]:
    yield place.client()

    async def clear() -> None:
        async with place.database.transaction() as connection:
            for limit in await limits.all_spend_limits(DEFAULT_ORGANIZATION, connection):
                await limits.delete_spend_limit(DEFAULT_ORGANIZATION, connection, limit.id)

    place.inside(clear())


def _of(workspace: str) -> Any:
    return {"type": "workspace", "workspace_id": workspace}


def _ids(found: Any) -> list[str]:
    return [limit.id for limit in found]


def test_the_tiers_cap_stands_in_the_list_and_cannot_be_removed(place: Office, sdk: anthropic.Anthropic) -> None:
    (cap,) = sdk.beta.organization.spend_limits.list().data
    assert (cap.type, cap.scope.type, cap.period) == ("spend_limit", "usage_tier", "monthly")
    assert (cap.amount, cap.currency, cap.is_enabled) == ("50000", "USD", True)
    assert sdk.beta.organization.spend_limits.retrieve(cap.id) == cap
    with pytest.raises(anthropic.BadRequestError, match="usage tier"):
        sdk.beta.organization.spend_limits.delete(cap.id)
    with pytest.raises(anthropic.BadRequestError, match="usage tier"):
        sdk.beta.organization.spend_limits.set(amount="50001", scope=_ORGANIZATION)
    assert place.last_act().refused is not None


def test_the_list_is_a_beta(place: Office) -> None:
    assert "spend-limit-reads-2026-09-26" in told(place.ask("GET", _ALL), 400)


def test_set_again_get_and_delete(place: Office, sdk: anthropic.Anthropic) -> None:
    spends = sdk.beta.organization.spend_limits
    made = spends.set(amount="1250", scope=_ORGANIZATION, period="weekly")
    assert made.id.startswith("spl_01")
    assert (made.amount, made.period, made.scope.type) == ("1250", "weekly", "organization")
    act = place.last_act()
    assert (act.type, act.subject, act.old) == ("platform_spend_limit_updated", made.id, None)
    place.clock.ahead_ms += 2_000
    again = spends.set(amount="99", scope=_ORGANIZATION, period="weekly")
    assert (again.id, again.amount, again.created_at) == (made.id, "99", made.created_at)
    assert again.updated_at > made.updated_at
    act = place.last_act()
    assert (act.old, act.new) == (
        {"period": "weekly", "amount": "1250"},
        {"period": "weekly", "amount": "99"},
    )
    monthly = spends.set(amount="40000", scope=_ORGANIZATION)
    assert (monthly.period, monthly.id != made.id) == ("monthly", True)
    assert spends.retrieve(made.id) == again
    gone = spends.delete(made.id)
    assert (gone.id, gone.type) == (made.id, "spend_limit_deleted")
    assert place.last_act().type == "platform_spend_limit_deleted"
    for _ in range(2):
        with pytest.raises(anthropic.NotFoundError, match="Spend limit not found"):
            spends.delete(made.id)
    with pytest.raises(anthropic.NotFoundError, match="Spend limit not found"):
        spends.retrieve(made.id)


def test_no_limit_is_not_nothing(sdk: anthropic.Anthropic) -> None:
    spends = sdk.beta.organization.spend_limits
    assert spends.set(amount=None, scope=_ORGANIZATION, period="daily").amount is None
    nothing = spends.set(amount="0", scope=_ORGANIZATION, period="daily")
    assert (nothing.amount, nothing.is_enabled) == ("0", True)


def test_lists_are_newest_first_and_filtered(place: Office, sdk: anthropic.Anthropic) -> None:
    spends = sdk.beta.organization.spend_limits
    mine, yours = workspace(place, "Mine"), workspace(place, "Yours")
    made = []
    for scope in (_ORGANIZATION, _of(mine), _of(yours)):
        place.clock.ahead_ms += 10
        made.append(spends.set(amount="7", scope=scope, period="daily").id)
    whole = _ids(spends.list().data)
    assert whole[:3] == made[::-1]
    assert len(whole) == 4
    assert _ids(spends.list(limit=1)) == whole
    assert _ids(spends.list(scope_type=["workspace"]).data) == [made[2], made[1]]
    assert _ids(spends.list(scope_type=["organization", "usage_tier"]).data) == [made[0], whole[3]]
    assert _ids(spends.list(workspace_id=mine).data) == [made[1]]
    with pytest.raises(anthropic.BadRequestError, match=r"scope_type\.0"):
        spends.list(scope_type=["seat_tier"])
    for wanted in (place.foreign["workspace_id"], "wrkspc_01nothing"):
        with pytest.raises(anthropic.NotFoundError, match="Workspace not found"):
            spends.list(workspace_id=wanted)
    act = place.last_act()
    assert (act.type, act.workspace) == ("workspace_spend_limit_updated", yours)
    spends.delete(made[2])
    act = place.last_act()
    assert (act.type, act.workspace) == ("workspace_spend_limit_deleted", yours)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"scope": _ORGANIZATION}, "amount: Field required"),
        ({"amount": "5"}, "scope: Field required"),
        ({"amount": 5, "scope": _ORGANIZATION}, "amount"),
        ({"amount": "-5", "scope": _ORGANIZATION}, "amount"),
        ({"amount": "5.5", "scope": _ORGANIZATION}, "amount"),
        ({"amount": "", "scope": _ORGANIZATION}, "amount"),
        ({"amount": "1" * 30, "scope": _ORGANIZATION}, "amount"),
        ({"amount": "400000001", "scope": _of("wrkspc_01nothing")}, "amount"),
        ({"amount": "5", "scope": {"type": "user", "user_id": "user_1"}}, "scope"),
        ({"amount": "5", "scope": {"type": "usage_tier"}}, "scope.type"),
        ({"amount": "5", "scope": {"type": "workspace"}}, "scope.workspace_id: Field required"),
        ({"amount": "5", "scope": {"type": "organization", "workspace_id": "wrkspc_1"}}, "scope.workspace_id"),
        ({"amount": "5", "scope": _of(DEFAULT_WORKSPACE)}, "scope.workspace_id: Limits cannot be set on the default"),
        ({"amount": "5", "scope": _ORGANIZATION, "period": "yearly"}, "period"),
    ],
)
def test_what_cannot_be_set(place: Office, body: Any, says: str) -> None:
    assert told(place.ask("POST", _ALL, body), 400).startswith(says)
    assert place.last_act().refused is not None


def test_workspaces_that_are_not_there(place: Office, sdk: anthropic.Anthropic) -> None:
    spends = sdk.beta.organization.spend_limits
    for wanted in (place.foreign["workspace_id"], "wrkspc_01nothing", "a b\0"):
        with pytest.raises(anthropic.NotFoundError, match="Workspace not found"):
            spends.set(amount="5", scope=_of(wanted))
    gone = workspace(place, "Archived")
    archive(place, gone)
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        spends.set(amount="5", scope=_of(gone))
    theirs = place.client(place.foreign_admin).beta.organization.spend_limits
    mine = spends.set(amount="5", scope=_ORGANIZATION)
    with pytest.raises(anthropic.NotFoundError):
        theirs.delete(mine.id)
    with pytest.raises(anthropic.NotFoundError):
        theirs.retrieve(mine.id)
    assert all(act.refused for act in place.acts(OTHER))


def _record(id: str, workspace: str, at_ms: int, nano: int) -> UsageRecord:
    return UsageRecord(
        request_id=id,
        organization=DEFAULT_ORGANIZATION,
        workspace=workspace,
        key_id="apikey_1",
        endpoint="/v1/messages",
        requested_model="m",
        served_model="m",
        outcome="end_turn",
        usage=Usage(),
        attempts=(),
        created_ms=at_ms,
        duration_us=1,
        cost=Cost(input_nano=1, output_nano=nano - 1),
    )


def test_what_is_in_force_and_what_was_spent(place: Office, sdk: anthropic.Anthropic) -> None:
    mine = workspace(place, "Spender")
    now_ms = place.clock.now_ms()
    today, _ = span("daily", now_ms)

    async def post() -> None:
        async with place.database.transaction() as connection:
            records = [
                _record("req_1", mine, now_ms, 12_345_678_900),
                _record("req_2", DEFAULT_WORKSPACE, now_ms, 1),
                _record("req_3", mine, today - 1, 5_000_000_000_000),
                _record("req_4", mine, span("monthly", now_ms)[0] - 1, 7_000_000_000_000),
            ]
            await usage.post(connection, records)

    place.inside(post())
    spends = sdk.beta.organization.spend_limits
    day = spends.set(amount="30000", scope=_ORGANIZATION, period="daily")
    own = spends.set(amount="20000", scope=_of(mine), period="monthly")
    spends.set(amount="30001", scope=_of(mine), period="daily")
    rows = list(sdk.organization.spend_limits.effective.list())
    cap = next(limit.id for limit in spends.list().data if limit.scope.type == "usage_tier")

    def row(of: str | None, period: str) -> Any:
        (found,) = [r for r in rows if r.period == period and getattr(r.scope, "workspace_id", None) == of]
        return found

    daily = row(mine, "daily")
    assert (daily.amount, daily.source.type, daily.spend_limit_id) == ("30000", "organization", day.id)
    assert daily.period_to_date_spend == "1234.56789"
    assert daily.actor.type == "scoped_api_key_actor"
    assert daily.currency == "USD"
    assert row(None, "daily").period_to_date_spend == "1234.5678901"
    monthly = row(mine, "monthly")
    assert (monthly.amount, monthly.source.type, monthly.spend_limit_id) == ("20000", "workspace", own.id)
    # Yesterday is of this month, unless the test runs on the first.
    before = 500_000 if span("monthly", now_ms)[0] < today else 0
    assert float(monthly.period_to_date_spend) == pytest.approx(1234.56789 + before)
    whole = row(None, "monthly")
    assert (whole.amount, whole.source.type, whole.spend_limit_id) == ("50000", "usage_tier", cap)
    assert row(DEFAULT_WORKSPACE, "monthly").period_to_date_spend == "0.0000001"
    assert not [r for r in rows if r.period == "weekly"]
    # Filters, and pages whose rows of one scope stay together.
    only = list(sdk.organization.spend_limits.effective.list(period=["daily"]))
    assert {r.period for r in only} == {"daily"}
    first = sdk.organization.spend_limits.effective.list(limit=1)
    assert len(first.data) == 2
    assert [r.model_dump() for r in sdk.organization.spend_limits.effective.list(limit=1)] == [
        r.model_dump() for r in rows
    ]
    assert sdk.organization.spend_limits.effective.list(user_ids=["user_1"]).data == []


def test_who_may(place: Office, sdk: anthropic.Anthropic) -> None:
    body = {"amount": "5", "scope": _ORGANIZATION}
    assert place.ask("POST", _ALL, body, key=place.key()).status_code == 403
    assert place.last_act().refused is not None
    billing = place.client(place.key(user=place.user("billing").id)).beta.organization.spend_limits
    assert billing.set(amount="5", scope=_ORGANIZATION).amount == "5"
    developer = place.key(user=place.user("developer").id)
    assert place.ask("GET", f"{_ALL}/effective", key=developer).status_code == 403
