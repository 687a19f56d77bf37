"""Workspaces take turns at an engine, and none is kept out by another (docs/design/0012)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seating import ONE, THREE, TWO, Holder, queue, turns

from antiphon.core.errors import Overloaded
from antiphon.core.records import Scope
from antiphon.engine.fair import FairLine, Waits
from antiphon.engine.seats import BATCH_TURN, LET_PAST

pytestmark = pytest.mark.anyio


async def serve(order: list[Holder], most: int = 10_000) -> list[Holder]:
    """Let one after the other go, until nobody is seated or so many went. Returns them in the order of their seats."""
    went: list[Holder] = []
    await turns()
    while len(went) < most and (seated := next((each for each in order if not each.task.done()), None)):
        await seated.release()
        went.append(seated)
        await turns()
    return went


def names(holders: Sequence[Holder]) -> str:
    return "".join({ONE: "1", TWO: "2", THREE: "3"}[holder.scope] for holder in holders)


async def end(*holders: Holder) -> None:
    for holder in holders:
        holder.task.cancel()
    await asyncio.gather(*(holder.task for holder in holders), return_exceptions=True)


async def test_a_workspace_with_a_thousand_waiting_and_one_with_a_few_take_turns() -> None:
    seats, order = queue(seats=1, bound=2000), list[Holder]()
    many = [Holder(seats, 10, ONE, order=order) for _ in range(1000)]
    await turns()
    few = [Holder(seats, 10, TWO, order=order) for _ in range(3)]
    served = await serve(order, 10)
    assert names(served) == "1212121111"
    assert [holder for holder in served if holder.scope == TWO] == few
    await end(*many)
    assert (seats.taken, seats.waiting) == (0, 0)


async def test_turns_are_by_tokens_and_not_by_requests() -> None:
    seats, order = queue(seats=1, bound=100), list[Holder]()
    large = [Holder(seats, 400, ONE, order=order) for _ in range(5)]
    small = [Holder(seats, 100, TWO, order=order) for _ in range(20)]
    served = await serve(order, 15)
    assert Counter(names(served)) == {"1": 3, "2": 12}
    await end(*large, *small)


async def test_who_was_away_has_saved_nothing_up() -> None:
    seats, order = queue(seats=1, bound=100), list[Holder]()
    busy = [Holder(seats, 10, ONE, order=order) for _ in range(30)]
    await serve(order, 12)
    late = [Holder(seats, 10, TWO, order=order) for _ in range(8)]
    served = await serve(order, 10)
    assert Counter(names(served)) == {"1": 5, "2": 5}
    await end(*busy, *late)


async def test_who_leaves_and_comes_back_owes_what_it_had_ahead() -> None:
    """Else a workspace would be served first each time that it comes with one request alone."""
    seats, order = queue(seats=1, bound=100), list[Holder]()
    steady = [Holder(seats, 10, ONE, order=order) for _ in range(30)]
    await turns()
    waiting = Holder(seats, 100, TWO, order=order)  # ten turns' worth in one
    while not waiting.seated():
        await serve(order, 1)
    await serve(order, 1)
    again = Holder(seats, 100, TWO, order=order)
    assert names(await serve(order, 8)) == "1" * 8
    assert not again.seated()
    assert names(await serve(order, 2)) == "12"
    await end(*steady, again)


async def test_of_one_workspace_the_order_of_arrival_stays() -> None:
    seats, order = queue(seats=1, bound=100), list[Holder]()
    held = Holder(seats, order=order)
    mine: list[Holder] = []
    for number in range(20):
        mine.append(Holder(seats, 1 + number * 7 % 11, ONE, order=order))
        Holder(seats, 5, TWO, order=order)
    served = await serve(order)
    assert [holder for holder in served if holder.scope == ONE] == [held, *mine]


async def test_who_gives_up_owes_nothing() -> None:
    seats, order = queue(seats=1, bound=100), list[Holder]()
    held = Holder(seats, 1, THREE, order=order)
    await turns()
    leavers = [Holder(seats, 1000, ONE, order=order) for _ in range(5)]
    mine, other = Holder(seats, 10, ONE, order=order), [Holder(seats, 10, TWO, order=order) for _ in range(3)]
    await turns()
    await end(*leavers)
    served = await serve(order)
    assert served[:3] == [held, mine, other[0]]


async def test_a_full_queue_makes_room_for_a_workspace_with_less_than_its_share() -> None:
    seats, order = queue(seats=1, bound=6), list[Holder]()
    loud = [Holder(seats, 1, ONE, order=order) for _ in range(9)]  # one seated, six wait, two are refused
    await turns()
    assert [holder.task.done() for holder in loud] == [False] * 7 + [True] * 2
    quiet = [Holder(seats, 1, TWO, order=order) for _ in range(4)]
    await turns()
    # Three places each; the loud one's newest went, the quiet one's fourth has no more right to a place than they.
    assert [holder.task.done() for holder in loud] == [False] * 4 + [True] * 5
    assert [holder.task.done() for holder in quiet] == [False] * 3 + [True]
    third = Holder(seats, 1, THREE, order=order)
    await turns()
    assert (seats.waiting, third.task.done()) == (6, False)
    for refused in (loud[4], loud[8], quiet[3]):
        assert isinstance(refused.task.exception(), Overloaded)
    assert Counter(names(await serve(order))) in ({"1": 3, "2": 3, "3": 1}, {"1": 4, "2": 2, "3": 1})
    assert (seats.taken, seats.waiting) == (0, 0)
    await end(*loud, *quiet)


async def test_one_put_out_and_cancelled_at_once_takes_no_seat() -> None:
    seats = queue(seats=1, bound=2)
    held, stays, leaves = Holder(seats), Holder(seats), Holder(seats)
    await turns()
    other = Holder(seats, 1, TWO)
    await asyncio.sleep(0)
    leaves.task.cancel()
    await turns()
    assert seats.waiting == 2
    assert leaves.task.done()
    for holder in (held, other, stays):  # the other workspace has had nothing yet
        await holder.release()
    assert (seats.taken, seats.waiting) == (0, 0)


async def test_interactive_goes_before_batches_and_batches_get_one_turn_in_so_many() -> None:
    seats, order = queue(seats=1, bound=200), list[Holder]()
    batches = [Holder(seats, 10, ONE, priority="batch", order=order) for _ in range(5)]
    await turns()
    people = [Holder(seats, 10, TWO, order=order) for _ in range(2 * BATCH_TURN)]
    served = await serve(order)
    # The first came when nobody else was there.
    expected = "1" + "2" * BATCH_TURN + "1" + "2" * BATCH_TURN + "111"
    assert names(served) == expected
    await end(*batches, *people)


async def test_each_kind_has_places_of_its_own_to_wait_in() -> None:
    seats = queue(seats=1, bound=3)
    held = Holder(seats)
    batches = [Holder(seats, 1, TWO, priority="batch") for _ in range(5)]
    people = [Holder(seats) for _ in range(5)]
    await turns()
    assert [holder.task.done() for holder in batches] == [False] * 3 + [True] * 2
    assert [holder.task.done() for holder in people] == [False] * 3 + [True] * 2
    assert seats.waiting == 6
    await end(held, *batches, *people)


async def test_one_that_does_not_fit_lets_others_past_but_not_for_ever() -> None:
    seats, order = queue(seats=4, cold_prompts=4, pool_tokens=100, bound=50), list[Holder]()
    stays = Holder(seats, 30, THREE, order=order)
    await turns()
    large = Holder(seats, 90, ONE, order=order)
    behind = Holder(seats, 5, ONE, order=order)  # of the same workspace: it waits for its turn
    await turns()
    small = [Holder(seats, 60, TWO, order=order) for _ in range(LET_PAST + 3)]
    await turns()
    assert small[0].seated()
    for holder in small[:LET_PAST]:
        await holder.release()
        await turns()
    # There would be room for the next of the small ones, but it is the large one's turn now.
    assert [holder.seated() for holder in small] == [True] * LET_PAST + [False] * 3
    assert not behind.seated()
    await stays.release()
    await turns()
    assert large.seated()
    await end(large, behind, *small)
    assert (seats.taken, seats.waiting) == (0, 0)


async def test_a_cold_prompt_keeps_no_warm_one_of_another_workspace_from_a_free_seat() -> None:
    seats = queue(seats=4, cold_prompts=1)
    reading, waiting = Holder(seats), Holder(seats)
    warm = Holder(seats, 1, TWO, cold=False)
    await turns()
    assert (waiting.seated(), warm.seated()) == (False, True)
    await end(reading, warm)
    assert waiting.seated()
    await waiting.release()


async def test_a_batch_goes_past_no_interactive_request_that_does_not_fit() -> None:
    seats = queue(seats=4, cold_prompts=4, pool_tokens=100)
    held, large = Holder(seats, 50), Holder(seats, 90)
    batch = Holder(seats, 10, TWO, priority="batch")
    await turns()
    assert (large.seated(), batch.seated()) == (False, False)
    await held.release()
    await turns()
    assert (large.seated(), batch.seated()) == (True, True)
    await end(large, batch)


class Asks(Waits):
    """One in a line, without an engine."""

    def __init__(self, scope: Scope, work: int, number: int) -> None:
        super().__init__(scope, work)
        self.number = number


SCOPES = [Scope("org", f"workspace {number}") for number in range(5)]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 4), st.integers(1, 50)),
        st.tuples(st.just("add"), st.integers(0, 1), st.integers(1, 50)),
        st.tuples(st.sampled_from(["take", "take", "leave"]), st.integers(0, 100), st.just(0)),
    ),
    max_size=120,
)


@settings(deadline=None, max_examples=300)
@given(steps)
def test_while_two_workspaces_wait_the_served_work_differs_by_at_most_a_request_of_each(
    script: list[tuple[str, int, int]],
) -> None:
    line: FairLine[Asks] = FairLine()
    waiting: dict[Scope, list[Asks]] = {scope: [] for scope in SCOPES}
    #: For each pair, how much more the first was given than the second: each of the values since both have waited.
    leads: dict[tuple[Scope, Scope], list[int]] = {(a, b): [0] for a in SCOPES for b in SCOPES if a != b}
    largest = dict.fromkeys(SCOPES, 0)

    for number, (action, which, work) in enumerate(script):
        everybody = [one for each in waiting.values() for one in each]
        if action == "add":
            asks = Asks(SCOPES[which], work, number)
            largest[asks.scope] = max(largest[asks.scope], work)
            line.add(asks)
            waiting[asks.scope].append(asks)
        elif action == "leave" and everybody:
            asks = everybody[which % len(everybody)]
            assert line.remove(asks)
            assert not line.remove(asks)
            waiting[asks.scope].remove(asks)
        elif action == "take" and everybody:
            heads = list(line.heads())
            assert {head.number for head in heads} == {each[0].number for each in waiting.values() if each}
            asks = heads[0]
            line.take(asks)
            assert waiting[asks.scope].pop(0) is asks
            for (a, b), history in leads.items():
                if asks.scope in (a, b):
                    history.append(history[-1] + (asks.work if asks.scope == a else -asks.work))
        assert len(line) == sum(map(len, waiting.values()))
        for (a, b), history in leads.items():
            assert max(history) - min(history) <= largest[a] + largest[b]
            if not (waiting[a] and waiting[b]):
                leads[a, b] = [0]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=80), st.integers(1, 12))
def test_a_full_line_is_shared_evenly_whoever_came_first(arrivals: list[tuple[int, int]], bound: int) -> None:
    line: FairLine[Asks] = FairLine()
    held: Counter[Scope] = Counter()
    wanted: Counter[Scope] = Counter()
    for number, (which, work) in enumerate(arrivals):
        asks = Asks(SCOPES[which], work, number)
        line.add(asks)
        held[asks.scope] += 1
        wanted[asks.scope] += 1
        if len(line) > bound:
            leaver = line.excess(asks)
            assert line.remove(leaver)
            held[leaver.scope] -= 1
        assert len(line) == sum(held.values()) <= bound
        share = bound // len(wanted)
        assert all(held[scope] >= min(share, wanted[scope]) for scope in wanted)


async def test_what_is_remembered_of_workspaces_that_left_is_bounded() -> None:
    line: FairLine[Asks] = FairLine()
    for number in range(5000):
        asks = Asks(Scope("org", str(number)), 100, number)
        line.add(asks)
        line.take(asks)
    assert len(line._owed) <= 1024
    assert not line._flows
    assert not line._order
    line.forget()
    assert not line._owed


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40), st.booleans(), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(40, 100),
)
def test_under_any_load_all_that_was_let_in_is_served(
    load: list[tuple[int, int, bool, bool]], count: int, cold: int, pool: int
) -> None:
    async def play() -> None:
        seats, order = queue(seats=count, cold_prompts=cold, pool_tokens=pool, bound=100), list[Holder]()
        holders = [
            Holder(seats, work, SCOPES[who], cold=is_cold, priority="batch" if batch else "interactive", order=order)
            for who, work, is_cold, batch in load
        ]
        await turns()
        served = 0
        while served < len(holders):  # one goes after the other: no progress would be an IndexError
            assert seats.taken <= count
            assert seats.cold <= cold
            await order[served].release()
            served += 1
            await turns(4)
        assert {id(holder) for holder in order} == {id(holder) for holder in holders}
        for scope in SCOPES:
            for kind in ("batch", "interactive"):
                mine = [holder for holder in holders if holder.scope == scope and holder.priority == kind]
                assert [holder for holder in order if holder in mine] == mine
        assert (seats.taken, seats.waiting, seats.cold) == (0, 0, 0)

    asyncio.run(play())
