"""One request's way through the budgets, in process: never more spent than the amount and one bound, whatever the order
of reserving, settling and failing; and what happens when periods end, limits change and the ledger is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.core.errors import InvalidRequest
from antiphon.core.records import Scope
from antiphon.gate.limits import tiers
from antiphon.gate.spend.budgets import NANO_OF_DOLLAR, Account, Budgets, TierCapReached, span
from antiphon.gate.spend.memory import MemoryAccounts
from antiphon.gate.spend.spending import Reservation, Spending
from antiphon.store.database import StoreUnavailable
from antiphon.store.limits import Period, SpendLimit

pytestmark = pytest.mark.anyio

_A, _B = Scope("org", "wrkspc_a"), Scope("org", "wrkspc_b")
_DAY_MS = 86_400_000
#: 2026-11-23T00:00:00Z, a Monday.
_MONDAY_MS = 1_795_392_000_000


class _Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = _MONDAY_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class _Ledger:
    """What was spent before, by the budget's id; and what each request cost, as the journal would have it."""

    def __init__(self) -> None:
        self.before: dict[str, int] = {}
        self.asked: list[str] = []
        self.away = False
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, accounts: Sequence[Account]) -> Sequence[int]:
        self.reading.set()
        await asyncio.sleep(0)
        await self.go_on.wait()
        if self.away:
            raise StoreUnavailable("away")
        self.asked += [account.budget.id for account in accounts]
        return [self.before.get(account.budget.id, 0) for account in accounts]


def _limit(id: str, amount: int | None, period: Period = "daily", workspace: str | None = None) -> SpendLimit:
    return SpendLimit(id, workspace, period, amount, 0, 0)


class _Stage:
    def __init__(self, *limits: SpendLimit, tier: str = "machine") -> None:
        self.clock = _Clock()
        self.ledger = _Ledger()
        self.tier = tiers.load().tier(tier)
        self.book = MemoryAccounts()
        self.spending = Spending(self.budgets(*limits), self.book, self.ledger, self.clock)

    def budgets(self, *limits: SpendLimit) -> Budgets:
        return Budgets("org", limits, self.tier)


async def _admitted(spending: Spending, bound: int, scope: Scope = _A) -> Reservation | None:
    try:
        return await spending.reserve(scope, bound)
    except (InvalidRequest, TierCapReached):
        return None


async def test_without_limits_nothing_is_asked_and_nothing_kept() -> None:
    stage = _Stage()
    reservation = await stage.spending.reserve(_A, 10**12)
    await reservation.settle(10**12)
    assert stage.ledger.asked == []
    assert len(stage.book) == 0


async def test_two_hundred_at_once_against_a_budget_for_ten() -> None:
    stage = _Stage(_limit("o", 1_000))
    answers = await asyncio.gather(*(_admitted(stage.spending, 100) for _ in range(200)))
    admitted = [answer for answer in answers if answer is not None]
    assert len(admitted) == 10
    # Two hundred found the account unknown, and the ledger was asked once.
    assert stage.ledger.asked == ["o"]
    # Failures give all back, and others take their places.
    for reservation in admitted[:3]:
        await reservation.settle()
    again = await asyncio.gather(*(_admitted(stage.spending, 100) for _ in range(50)))
    assert sum(answer is not None for answer in again) == 3


async def test_what_was_not_spent_comes_back_once() -> None:
    stage = _Stage(_limit("o", 100))
    reservation = await stage.spending.reserve(_A, 100)
    await reservation.settle(30)
    await reservation.settle(0)
    await reservation.settle(100)
    assert await _admitted(stage.spending, 71) is not None  # alone: nothing else is reserved
    assert await _admitted(stage.spending, 1) is None


async def test_one_alone_may_end_over_the_budget_and_is_then_the_last() -> None:
    stage = _Stage(_limit("o", 100))
    first = await stage.spending.reserve(_A, 90)
    assert await _admitted(stage.spending, 500) is None
    await first.settle(90)
    second = await stage.spending.reserve(_A, 500)
    assert await _admitted(stage.spending, 1) is None
    await second.settle(500)
    with pytest.raises(
        InvalidRequest, match=r"specified API usage limits\. You will regain access on 2026-11-24 at 00"
    ):
        await stage.spending.reserve(_A, 1)


async def test_a_budget_of_nothing_lets_nothing_in() -> None:
    stage = _Stage(_limit("a", 0, "monthly", "wrkspc_a"))
    with pytest.raises(InvalidRequest, match=r"workspace API usage limits\. You will regain access on 2026-12-01"):
        await stage.spending.reserve(_A, 1)
    assert await _admitted(stage.spending, 1, _B) is not None


async def test_a_refusal_takes_from_no_budget() -> None:
    stage = _Stage(_limit("o", 1_000), _limit("a", 100, workspace="wrkspc_a"))
    await (await stage.spending.reserve(_A, 100)).settle(100)
    for _ in range(20):
        assert await _admitted(stage.spending, 100) is None
    answers = [await _admitted(stage.spending, 100, _B) for _ in range(20)]
    assert sum(answer is not None for answer in answers) == 9


async def test_the_tiers_cap_counts_what_the_ledger_has() -> None:
    stage = _Stage(tier="start")
    stage.ledger.before["tier"] = 500 * NANO_OF_DOLLAR - 10
    await (await stage.spending.reserve(_A, 10)).settle(10)
    with pytest.raises(TierCapReached) as refusal:
        await stage.spending.reserve(_B, 1)
    assert (refusal.value.retry_after_s, refusal.value.retry_helps) == (None, False)


async def test_a_new_period_begins_anew_and_an_old_request_counts_in_its_own() -> None:
    stage = _Stage(_limit("o", 100), _limit("w", 150, "weekly"))
    late = await stage.spending.reserve(_A, 100)
    stage.clock.ms += _DAY_MS
    today = await _admitted(stage.spending, 50)
    assert today is not None
    await late.settle(100)
    # The day's budget knows nothing of yesterday's cost; the week's is full with both.
    await today.settle(50)
    assert await _admitted(stage.spending, 1) is None
    stage.clock.ms += 6 * _DAY_MS
    assert await _admitted(stage.spending, 100) is not None


async def test_the_ledger_is_asked_when_a_period_begins_and_refuses_while_it_is_away() -> None:
    stage = _Stage(_limit("o", 100))
    stage.ledger.away = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await stage.spending.reserve(_A, 1)
    stage.ledger.away = False
    stage.ledger.before["o"] = 100
    assert await _admitted(stage.spending, 1) is None
    stage.ledger.before["o"] = 0
    stage.clock.ms += _DAY_MS
    assert await _admitted(stage.spending, 1) is not None
    assert stage.ledger.asked == ["o", "o"]


async def test_a_raised_limit_counts_at_once_and_what_was_spent_stays() -> None:
    stage = _Stage(_limit("o", 100))
    await (await stage.spending.reserve(_A, 100)).settle(100)
    assert await _admitted(stage.spending, 10) is None
    stage.spending.budgets = stage.budgets(_limit("o", 120))
    held = await _admitted(stage.spending, 20)
    assert held is not None
    assert await _admitted(stage.spending, 1) is None
    # Without a number it goes on counting, so that a number that comes back means what it says.
    stage.spending.budgets = stage.budgets(_limit("o", None))
    await (await stage.spending.reserve(_A, 5_000)).settle(5_000)
    stage.spending.budgets = stage.budgets(_limit("o", 1_000))
    assert await _admitted(stage.spending, 1) is None


async def test_a_limit_that_comes_while_a_request_runs_counts_its_cost() -> None:
    stage = _Stage()
    running = await stage.spending.reserve(_A, 100)
    stage.spending.budgets = stage.budgets(_limit("o", 100))
    first = await stage.spending.reserve(_A, 10)
    await running.settle(95)
    await first.settle(1)
    assert await _admitted(stage.spending, 4) is not None
    assert await _admitted(stage.spending, 1) is None


async def test_a_cost_that_falls_between_the_ledger_and_the_account_is_not_lost() -> None:
    """The ledger has been read and does not have it yet; the account is not filled yet."""
    stage = _Stage()
    running = await stage.spending.reserve(_A, 100)
    stage.spending.budgets = stage.budgets(_limit("o", 100))
    stage.ledger.go_on.clear()
    asking = asyncio.create_task(_admitted(stage.spending, 10))
    await stage.ledger.reading.wait()
    await running.settle(95)
    stage.ledger.go_on.set()
    first = await asking
    assert first is not None  # alone
    assert await _admitted(stage.spending, 1) is None
    await first.settle(0)
    assert await _admitted(stage.spending, 5) is not None
    assert await _admitted(stage.spending, 1) is None


async def test_a_recount_only_ever_raises() -> None:
    stage = _Stage(_limit("o", 100))
    await (await stage.spending.reserve(_A, 10)).settle(10)
    stage.ledger.before["o"] = 5
    await stage.spending.recount()
    assert await _admitted(stage.spending, 91) is not None  # alone, or it would not fit
    assert await _admitted(stage.spending, 1) is None
    stage.ledger.before["o"] = 100
    await stage.spending.recount()
    stage.spending.budgets = stage.budgets(_limit("o", 110))
    assert await _admitted(stage.spending, 1) is None


async def test_accounts_of_old_periods_are_forgotten() -> None:
    stage = _Stage(_limit("o", 100))
    for _ in range(10):
        assert await _admitted(stage.spending, 1) is not None
        stage.clock.ms += _DAY_MS
    assert len(stage.book) <= 4


_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 60), st.sampled_from([_A, _B])),
        st.tuples(st.just("settle"), st.integers(0, 1_000), st.integers(0, 100)),
        st.tuples(st.just("fail"), st.integers(0, 1_000), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, _DAY_MS), st.just(0)),
    ),
    max_size=80,
)
_AMOUNTS = st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(0, 100))


@given(_OPERATIONS, _AMOUNTS, st.integers(0, 120))
@settings(max_examples=300, deadline=None)
async def test_never_more_than_the_amount_and_one_bound(
    operations: list[tuple[Any, ...]], amounts: tuple[int, int, int], before: int
) -> None:
    """In every order of reserving, settling (by any part of the bound), failing and waiting, of every budget: what was
    spent in a period is below its amount plus the largest bound, and with what is reserved too."""
    limits = [
        _limit("o", amounts[0], "daily"),
        _limit("w", amounts[1], "weekly"),
        _limit("a", amounts[2], "daily", "wrkspc_a"),
    ]
    stage = _Stage(*limits)
    stage.ledger.before = {"w": before}
    spent: dict[tuple[str, int], int] = {}
    open_: list[tuple[Reservation, Scope, int, int]] = []

    def accounts(scope: Scope, at_ms: int) -> list[tuple[SpendLimit, tuple[str, int]]]:
        mine = [limit for limit in limits if limit.workspace in (None, scope.workspace)]
        return [(limit, (limit.id, span(limit.period, at_ms)[0])) for limit in mine]

    for name, first, second in operations:
        if name == "wait":
            stage.clock.ms += first
        elif name == "reserve":
            now_ms, key_of = stage.clock.ms, accounts(second, stage.clock.ms)
            reservation = await _admitted(stage.spending, first, second)
            fits = True
            for limit, key in key_of:
                used = spent.setdefault(key, before if limit.id == "w" else 0)
                held = sum(b for _, s, at, b in open_ if key in [k for _, k in accounts(s, at)])
                amount = limit.amount_nano or 0
                fits &= used + held + first <= amount or (held == 0 and used < amount)
            assert (reservation is not None) == fits
            if reservation is not None:
                open_.append((reservation, second, now_ms, first))
        elif open_:
            reservation, scope, at_ms, bound = open_.pop(first % len(open_))
            cost = bound * second // 100
            await reservation.settle(cost)
            for _, key in accounts(scope, at_ms):
                spent[key] += cost
        for limit in limits:
            for (id, begin), used in spent.items():
                if id == limit.id:
                    held = sum(b for _, s, at, b in open_ if (id, begin) in [k for _, k in accounts(s, at)])
                    most = max(limit.amount_nano or 0, before if id == "w" else 0)
                    assert used + held < most + 60 or used + held <= most
