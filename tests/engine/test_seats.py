"""The queue before an engine: bounded, in order, and every seat given back once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seating import ONE, THREE, TWO, Holder, Told, queue, turns

from antiphon.core.errors import Overloaded
from antiphon.core.records import Scope
from antiphon.engine.contract import Priority
from antiphon.engine.seats import NOTHING_KNOWN, Seating, SeatQueue


@pytest.mark.anyio
async def test_seats_are_given_in_the_order_of_arrival() -> None:
    seats = queue(seats=1)
    first, second, third = Holder(seats), Holder(seats), Holder(seats)
    await turns()
    assert first.seated()
    assert not second.seated()
    await first.release()
    await turns()
    assert second.seated()
    assert not third.seated()
    await second.release()
    await third.release()
    assert (seats.taken, seats.waiting, seats.cold) == (0, 0, 0)


@pytest.mark.anyio
async def test_a_cold_prompt_waits_although_a_seat_is_free_until_one_is_warm() -> None:
    seats = queue(seats=4, cold_prompts=1)
    first, second = Holder(seats), Holder(seats)
    await turns()
    assert not second.seated()
    assert first.lease is not None
    first.lease.warm()
    first.lease.warm()
    await turns()
    assert second.seated()
    await first.release()
    await second.release()
    assert seats.cold == 0


@pytest.mark.anyio
async def test_memory_is_reserved_and_one_alone_may_always_go() -> None:
    seats = queue(seats=4, cold_prompts=4, pool_tokens=100)
    large, small = Holder(seats, 90), Holder(seats, 20)
    await turns()
    assert large.seated()
    assert not small.seated()
    await large.release()
    await turns()
    assert small.seated()
    await small.release()


@pytest.mark.anyio
async def test_a_full_queue_refuses_at_once_and_a_long_wait_ends() -> None:
    seats = queue(seats=1, bound=1, wait_seconds=0.05)
    held, waiting = Holder(seats), Holder(seats)
    await turns()
    with pytest.raises(Overloaded):
        async with seats.lease(ONE, 1):
            pass
    with pytest.raises(Overloaded):
        await waiting.task
    assert seats.waiting == 0
    await held.release()


@pytest.mark.anyio
async def test_a_seat_granted_to_one_who_just_gave_up_is_given_on() -> None:
    seats = queue(seats=1)
    held, leaver, stayer = Holder(seats), Holder(seats), Holder(seats)
    await turns()
    held._release.set()
    await asyncio.sleep(0)  # held gives back; leaver is granted, and has not run yet
    leaver.task.cancel()
    await turns()
    assert stayer.seated()
    await stayer.release()
    assert (seats.taken, seats.waiting) == (0, 0)


@pytest.mark.anyio
async def test_a_closed_queue_grants_nothing_and_keeps_those_who_wait() -> None:
    seats = queue()
    seats.close()
    waiting = Holder(seats)
    await turns()
    assert not waiting.seated()
    seats.open()
    await turns()
    assert waiting.seated()
    await waiting.release()


actions = st.lists(
    st.tuples(st.sampled_from(["take", "take", "cancel", "release", "warm", "close", "open"]), st.integers(0, 17)),
    max_size=60,
)


@settings(deadline=None)
@given(actions, st.integers(1, 3), st.integers(1, 3), st.integers(20, 60))
def test_whatever_happens_nothing_is_lost_and_nothing_is_given_twice(
    script: list[tuple[str, int]], count: int, cold: int, pool: int
) -> None:
    async def play() -> None:
        seats = queue(seats=count, cold_prompts=cold, pool_tokens=pool, bound=5)
        holders: list[Holder] = []
        for action, which in script:
            holder = holders[which % len(holders)] if holders else None
            if action == "take":
                batch: Priority = "batch" if which % 5 == 0 else "interactive"
                scope = (ONE, TWO, THREE)[which % 3]
                holders.append(Holder(seats, 1 + which * 3, scope, cold=which % 4 > 0, priority=batch))
            elif action == "close":
                seats.close()
            elif action == "open":
                seats.open()
            elif holder is not None and action == "cancel":
                holder.task.cancel()
            elif holder is not None and action == "release":
                holder._release.set()
            elif holder is not None and holder.lease is not None and not holder.task.done():
                holder.lease.warm()
            await turns()
            held = [h.lease for h in holders if h.lease is not None and not h.task.done()]
            assert len({lease.number for lease in held}) == len(held) == seats.taken <= count
            assert seats.cold <= cold
            assert seats.waiting <= 2 * 5
            assert seats.waiting == sum(h.lease is None and not h.task.done() for h in holders)
            assert len(held) <= 1 or sum(lease.tokens for lease in held) <= pool
        seats.open()
        for holder in holders:
            holder._release.set()
        ends = await asyncio.gather(*(h.task for h in holders), return_exceptions=True)
        assert all(end is None or isinstance(end, Overloaded | asyncio.CancelledError) for end in ends)
        assert (seats.taken, seats.waiting, seats.cold) == (0, 0, 0)

    asyncio.run(play())


@pytest.mark.anyio
async def test_a_prompt_that_is_remembered_needs_no_cold_place() -> None:
    seats = queue(seats=3, cold_prompts=1)
    async with seats.lease(ONE, 1), seats.lease(ONE, 1, Told(cold=False)) as warm:
        assert (seats.cold, seats.taken) == (1, 2)
        waiting = asyncio.create_task(_hold(seats))
        await turns()
        assert seats.waiting == 1
        warm.warm()
        assert seats.cold == 1  # it never had a place that it could give back
        waiting.cancel()
        await turns()
    assert (seats.cold, seats.taken, seats.waiting) == (0, 0, 0)


@pytest.mark.anyio
async def test_one_who_follows_waits_although_all_is_free_and_goes_once_the_other_is_warm() -> None:
    seats = queue(seats=3, cold_prompts=3)
    computing: set[int] = set()
    async with seats.lease(ONE, 1, Told(seated=computing.add, left=computing.discard)) as first:
        second = asyncio.create_task(_hold(seats, Told(follows=lambda: bool(computing))))
        third = asyncio.create_task(_hold(seats, scope=Scope("org", "two")))
        await turns()
        assert (seats.taken, seats.waiting) == (2, 1)  # another workspace's goes past
        computing.clear()
        first.warm()
        await turns()
        assert (seats.taken, seats.waiting) == (3, 0)
        for task in (second, third):
            task.cancel()
        await turns()


@pytest.mark.anyio
async def test_whoever_gets_a_seat_and_is_gone_by_then_has_left_it() -> None:
    seats = queue(seats=1, cold_prompts=1)
    told: list[str] = []
    async with seats.lease(ONE, 1):
        gone = asyncio.create_task(
            _hold(seats, Told(seated=lambda _: told.append("seated"), left=lambda _: told.append("left")))
        )
        await turns()
    gone.cancel()
    await turns()
    assert told in ([], ["seated", "left"])
    assert seats.taken == 0


async def _hold(seats: SeatQueue, seating: Seating = NOTHING_KNOWN, scope: Scope = ONE) -> None:
    async with seats.lease(scope, 1, seating):
        await asyncio.sleep(60)
