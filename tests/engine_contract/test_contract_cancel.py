"""Whoever leaves early gives everything back, and the others notice nothing."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.engine.contract import Phase
from engine_contract.bodies import ENDLESS, GREEDY, ONE, PARIS, PARIS_ANSWER, Answer, Desk

pytestmark = pytest.mark.anyio

#: Enough to be still at it while others come and go.
LASTING_TOKENS = 80
LASTING = Phase(max_tokens=LASTING_TOKENS, sampling=GREEDY)


async def begin(desk: Desk) -> asyncio.Task[Answer]:
    """An answer that is being given."""
    begun = asyncio.Event()
    task = asyncio.create_task(desk.ask(ENDLESS, LASTING, begun=begun.set))
    await begun.wait()
    return task


@pytest.mark.parametrize("where", ["queue", "prompt", "answer"])
async def test_a_cancel_gives_the_seat_back_and_the_others_go_on(desk: Desk, where: str) -> None:
    others = [await begin(desk) for _ in range(desk.limits.seats if where == "queue" else 1)]
    seated, begun = asyncio.Event(), asyncio.Event()
    prompt = desk.long(f"slow, cancelled in the {where}") if where == "prompt" else desk.prompt(ENDLESS)
    victim = asyncio.create_task(desk.ask(prompt, LASTING, seated=seated.set, begun=begun.set))
    if where == "queue":
        await desk.until(lambda: desk.engine.health().waiting == 1)
    else:
        await (seated if where == "prompt" else begun).wait()
    if where == "prompt":
        await asyncio.sleep(0.1)  # so that the library has it and is at it
    assert (seated.is_set(), begun.is_set()) == {
        "queue": (False, False), "prompt": (True, False), "answer": (True, True),
    }[where]  # fmt: skip
    assert not any(other.done() for other in others)
    victim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await victim
    assert desk.engine.health().waiting == 0
    assert desk.engine.health().seats_taken == len(others)
    async with asyncio.timeout(30):
        for answer in await asyncio.gather(*others):
            assert (answer.tokens, answer.finish.reason) == (LASTING_TOKENS, "length")
        # The seat that was left serves the next one, with nothing of the old in it.
        next_ones = await asyncio.gather(
            *(desk.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY)) for _ in range(desk.limits.seats))
        )
    assert all(answer.data.startswith(PARIS_ANSWER) for answer in next_ones)


async def test_a_phase_closed_early_leaves_its_seat_for_the_next_phase(desk: Desk) -> None:
    async with desk.engine.seat(ONE, desk.prompt(ENDLESS), 250) as seat:
        stream = seat.generate(LASTING)
        async for step in stream:
            if step.events:
                break
        await stream.aclose()
        async with asyncio.timeout(20):
            second = [step async for step in seat.generate(Phase(max_tokens=5, sampling=GREEDY))]
    assert sum(event.tokens for step in second for event in step.events) == 5
    assert [step.finish.reason for step in second if step.finish] == ["length"]


async def test_many_that_leave_at_once_leave_nothing_behind(desk: Desk) -> None:
    """In the queue, in the prompt and in the answer, all in the same moment."""
    tasks = [asyncio.create_task(desk.ask(ENDLESS, LASTING)) for _ in range(30)]
    await desk.until(lambda: desk.engine.health().seats_taken == desk.limits.seats)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert (desk.engine.health().seats_taken, desk.engine.health().waiting) == (0, 0)
    async with asyncio.timeout(20):
        assert (await desk.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY))).data.startswith(PARIS_ANSWER)
