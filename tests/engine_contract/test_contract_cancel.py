"""Whoever leaves early gives everything back, and the others notice nothing."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.engine.contract import EngineEvent, Phase
from engine_contract import direct
from engine_contract.bodies import ENDLESS, GREEDY, ONE, PARIS, PARIS_ANSWER, Answer, Body, Desk

pytestmark = pytest.mark.anyio

#: Enough to be still at it while others come and go.
LASTING_TOKENS = 40
LASTING = Phase(max_tokens=LASTING_TOKENS, sampling=GREEDY)
SHORT = Phase(max_tokens=24, sampling=GREEDY)
#: A prompt that would be read for a long time.
MANY_BATCHES = 30


class Going:
    """An answer that is being given."""

    def __init__(self, desk: Desk) -> None:
        self.heard: list[EngineEvent] = []
        begun = asyncio.Event()
        self.begun = begun.wait
        self.task = asyncio.create_task(desk.ask(ENDLESS, LASTING, begun=begun.set, heard=self.heard))

    @property
    def tokens(self) -> int:
        """How many have come: one for each step that the engine has made with it inside."""
        return sum(event.tokens for event in self.heard)


async def begin(desk: Desk, count: int) -> list[Going]:
    going = []
    for _ in range(count):
        going.append(Going(desk))
        await going[-1].begun()
    return going


async def see_to_the_end(others: list[Going]) -> None:
    """They have noticed nothing."""
    async with asyncio.timeout(90):
        for answer in await asyncio.gather(*(other.task for other in others)):
            assert (answer.tokens, answer.finish.reason) == (LASTING_TOKENS, "length")


async def fill_with_paris(desk: Desk) -> None:
    """The seat that was left serves the next one, with nothing of the old in it."""
    async with asyncio.timeout(90):
        answers = await asyncio.gather(*(desk.ask(PARIS, SHORT) for _ in range(desk.limits.seats)))
    assert all(answer.data.startswith(PARIS_ANSWER) for answer in answers)


async def cancel(desk: Desk, victim: asyncio.Task[Answer], others: list[Going]) -> None:
    """Everything is given back before whoever cancels goes on."""
    assert not any(other.task.done() for other in others)
    victim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await victim
    assert (desk.engine.health().waiting, desk.engine.health().seats_taken) == (0, len(others))


@pytest.mark.parametrize("where", ["queue", "answer"])
async def test_a_cancel_gives_the_seat_back_and_the_others_go_on(desk: Desk, where: str) -> None:
    others = await begin(desk, desk.limits.seats if where == "queue" else 1)
    seated, begun = asyncio.Event(), asyncio.Event()
    victim = asyncio.create_task(desk.ask(ENDLESS, LASTING, seated=seated.set, begun=begun.set))
    if where == "queue":
        await desk.until(lambda: desk.engine.health().waiting == 1)
    else:
        await begun.wait()
    assert (seated.is_set(), begun.is_set()) == ((False, False) if where == "queue" else (True, True))
    await cancel(desk, victim, others)
    await see_to_the_end(others)
    await fill_with_paris(desk)


async def test_a_cancelled_prompt_is_left_at_its_next_batch(body: Body, desk: Desk) -> None:
    """What comes next need not wait for the rest of it. Each batch is a step, in which the other answer gets a token; so
    these tokens count how many batches came between."""
    (other,) = await begin(desk, 1)
    seated, begun = asyncio.Event(), asyncio.Event()
    prompt = desk.long("slow, cancelled", MANY_BATCHES * direct.BATCH_TOKENS)
    victim = asyncio.create_task(desk.ask(prompt, LASTING, seated=seated.set, begun=begun.set))
    await seated.wait()
    before = other.tokens
    await desk.until(lambda: other.tokens >= before + 2)  # the library has it, and is at it
    assert not begun.is_set()
    await cancel(desk, victim, [other])
    left = other.tokens
    at_its_first: list[int] = []
    answer = await desk.ask(PARIS, SHORT, begun=lambda: at_its_first.append(other.tokens))
    assert answer.data.startswith(PARIS_ANSWER)
    if body.real:
        assert not other.task.done()
        # The batch at work, and those of the new prompt; the rest is room for messages on their way.
        assert at_its_first[0] - left < MANY_BATCHES // 2
    await see_to_the_end([other])
    await fill_with_paris(desk)


async def test_a_phase_closed_early_leaves_its_seat_for_the_next_phase(desk: Desk) -> None:
    async with desk.engine.seat(ONE, desk.prompt(ENDLESS), 250) as seat:
        stream = seat.generate(LASTING)
        async for step in stream:
            if step.events:
                break
        await stream.aclose()
        async with asyncio.timeout(60):
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
    async with asyncio.timeout(60):
        assert (await desk.ask(PARIS, SHORT)).data.startswith(PARIS_ANSWER)
