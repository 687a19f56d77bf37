"""Budgets: whose they are, when their periods begin and end, and what is told when one is used up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.errors import InvalidRequest
from antiphon.core.records import Scope
from antiphon.gate.limits import tiers
from antiphon.gate.spend.budgets import NANO_OF_DOLLAR, Account, Budgets, TierCapReached, refusal, span
from antiphon.http.errors import headers_of
from antiphon.store.limits import Period, SpendLimit

_A, _B = Scope("org", "wrkspc_a"), Scope("org", "wrkspc_b")


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def _limit(id: str, period: Period, dollars: int | None, workspace: str | None = None) -> SpendLimit:
    amount = None if dollars is None else dollars * NANO_OF_DOLLAR
    return SpendLimit(id, workspace, period, amount, 0, 0)


@pytest.mark.parametrize(
    ("period", "now", "begin", "end"),
    [
        ("daily", "2026-11-23T04:10:00", "2026-11-23", "2026-11-24"),
        ("weekly", "2026-11-23T00:00:00", "2026-11-23", "2026-11-30"),
        ("weekly", "2026-11-22T23:59:59.999", "2026-11-16", "2026-11-23"),
        ("monthly", "2026-11-23T04:10:00", "2026-11-01", "2026-12-01"),
        ("monthly", "2026-12-31T23:59:59.999", "2026-12-01", "2027-01-01"),
        ("monthly", "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_periods_are_the_calendars(period: Period, now: str, begin: str, end: str) -> None:
    assert span(period, _ms(now)) == (_ms(begin), _ms(end))


@given(st.sampled_from(["daily", "weekly", "monthly"]), st.integers(0, 4_000_000_000_000))
def test_periods_lie_one_behind_the_other(period: Period, now_ms: int) -> None:
    begin, end = span(period, now_ms)
    assert begin <= now_ms < end
    assert span(period, end)[0] == end
    assert span(period, begin - 1)[1] == begin if begin > 0 else True
    first = datetime.fromtimestamp(begin / 1000, tz=UTC)
    assert first.time() == datetime.min.time()
    assert period != "weekly" or first.weekday() == 0
    assert period != "monthly" or first.day == 1
    assert period != "daily" or end - begin == timedelta(days=1) // timedelta(milliseconds=1)


def test_a_request_loads_the_organizations_budgets_and_its_own_workspaces() -> None:
    limits = [_limit("o", "daily", 5), _limit("a", "weekly", 2, "wrkspc_a"), _limit("b", "monthly", 1, "wrkspc_b")]
    budgets = Budgets("org", limits, tiers.load().tier("start"))
    now = _ms("2026-11-23T04:10:00")
    assert [account.budget.id for account in budgets.accounts(_A, now)] == ["o", "tier", "a"]
    assert [account.budget.id for account in budgets.accounts(_B, now)] == ["o", "tier", "b"]
    assert [account.budget.id for account in budgets.accounts(Scope("org", "wrkspc_c"), now)] == ["o", "tier"]
    cap = budgets.accounts(_B, now)[1].budget
    assert (cap.amount_nano, cap.of_tier, cap.period) == (500 * NANO_OF_DOLLAR, True, "monthly")
    assert len(budgets.all_accounts(now)) == 4


def test_accounts_are_the_same_until_a_period_ends() -> None:
    budgets = Budgets("org", [_limit("o", "daily", 5), _limit("m", "monthly", 9)])
    now = _ms("2026-11-30T23:00:00")
    first = budgets.accounts(_A, now)
    assert budgets.accounts(_A, now + 1) is first
    later = budgets.accounts(_A, _ms("2026-12-01"))
    assert not {account.name for account in first} & {account.name for account in later}
    # A clock that is put back finds the old ones again.
    assert budgets.accounts(_A, now) == first


def test_no_limits_and_no_cap_are_no_accounts() -> None:
    assert Budgets("org", [], tiers.load().tier("machine")).accounts(_A, 1) == ()
    assert Budgets("org", [_limit("b", "daily", 1, "wrkspc_b")]).accounts(_A, 1) == ()


def _account(id: str, period: Period, workspace: str | None = None) -> Account:
    (found,) = Budgets("org", [_limit(id, period, 1, workspace)]).all_accounts(_ms("2026-11-23T04:10:00"))
    return found


@pytest.mark.behaviour("messages-and-inference-2.2-own-limit-text")
def test_what_a_self_set_limit_says() -> None:
    error = refusal([_account("o", "monthly")])
    assert isinstance(error, InvalidRequest)
    assert error.message == (
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
    )
    # The one that stays closed for longest is named.
    error = refusal([_account("o", "daily"), _account("a", "weekly", "wrkspc_a")])
    assert error.message == (
        "You have reached your specified workspace API usage limits. You will regain access on 2026-11-30 at 00:00 UTC."
    )


@pytest.mark.behaviour("messages-and-inference-2.2-spend-cap")
def test_what_the_tiers_cap_says() -> None:
    now = _ms("2026-11-23T04:10:00")
    (cap,) = Budgets("org", [], tiers.load().tier("start")).all_accounts(now)
    error = refusal([cap])
    assert isinstance(error, TierCapReached)
    assert error.details == {"error_code": "enforced_spend_limit_reached"}
    assert "2026-12-01 at 00:00 UTC" in error.message
    names = dict(headers_of(error))
    assert b"retry-after" not in names
    # A limit that somebody set and that ends with it is told first: it is the one that they can change.
    assert isinstance(refusal([cap, _account("o", "monthly")]), InvalidRequest)
