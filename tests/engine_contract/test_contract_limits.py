"""How much a body makes, how much it takes in, and who goes first."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.core.errors import InvariantBroken, Overloaded
from antiphon.engine.contract import Phase
from engine_contract.bodies import ENDLESS, GREEDY, ONE, PARIS, PARIS_ANSWER, Answer, Body, Desk

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("tokens", [1, 2, 16, 33])
async def test_max_tokens_is_exact(desk: Desk, tokens: int) -> None:
    answer = await desk.ask(ENDLESS, Phase(max_tokens=tokens, sampling=GREEDY))
    assert (answer.tokens, answer.finish.reason) == (tokens, "length")
    assert answer.data


async def test_max_tokens_0_shows_nothing_and_yet_reads_the_prompt(desk: Desk) -> None:
    prompt = desk.long("zero", 80)
    answer = await desk.ask(prompt, Phase(max_tokens=0, sampling=GREEDY))
    assert (answer.data, answer.tokens, answer.finish.reason) == (b"", 0, "length")
    after = await desk.ask(prompt, Phase(max_tokens=4, sampling=GREEDY))
    assert after.tokens == 4
    if desk.engine.describe().reports_reuse:
        assert after.finish.reused_tokens


async def test_a_prompt_and_its_answer_may_fill_the_pool_and_not_pass_it(body: Body, tight: Desk) -> None:
    if not body.pooled:
        pytest.skip(f"{body.name} has no memory to fill")
    pool = tight.limits.pool_tokens
    answer = await tight.ask(tight.long("full", pool - 7), Phase(max_tokens=7, sampling=GREEDY))
    assert (answer.tokens, answer.finish.reason) == (7, "length")
    with pytest.raises(InvariantBroken):
        await tight.ask(tight.long("full", pool - 7), Phase(max_tokens=8, sampling=GREEDY))
    assert tight.engine.health().seats_taken == 0
    assert (await tight.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY))).data.startswith(PARIS_ANSWER)


async def test_what_does_not_fit_beside_another_waits_for_it(body: Body, desk: Desk) -> None:
    if not body.pooled:
        pytest.skip(f"{body.name} has no memory to fill")
    half = desk.limits.pool_tokens // 2
    begun = asyncio.Event()
    holder = asyncio.create_task(desk.ask(ENDLESS, Phase(max_tokens=half, sampling=GREEDY), begun=begun.set))
    await begun.wait()
    waiter = asyncio.create_task(desk.ask(PARIS, Phase(max_tokens=half, sampling=GREEDY)))
    await desk.until(lambda: desk.engine.health().waiting == 1)
    assert not holder.done()
    holder.cancel()
    async with asyncio.timeout(60):
        assert (await waiter).data.startswith(PARIS_ANSWER)


async def test_a_hundred_at_once_are_all_answered_or_refused(desk: Desk) -> None:
    outcomes = await asyncio.gather(
        *(desk.ask(f"{number} and", Phase(max_tokens=3, sampling=GREEDY)) for number in range(100)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
    answered = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    assert [outcome for outcome in outcomes if not isinstance(outcome, Answer | Overloaded)] == []
    assert len(answered) == desk.limits.queue + desk.limits.seats
    assert len(refused) == 100 - len(answered)
    assert all(answer.tokens == 3 or answer.finish.reason == "stop" for answer in answered)


async def test_a_seats_next_phase_goes_before_the_cold_prompts_that_wait(desk: Desk) -> None:
    order: list[str] = []
    seated: set[str] = set()
    phase = Phase(max_tokens=1, sampling=GREEDY)
    async with desk.engine.seat(ONE, desk.prompt(PARIS), 60) as seat:
        first = [step async for step in seat.generate(Phase(max_tokens=24, sampling=GREEDY))]
        assert b"".join(event.data for step in first for event in step.events).startswith(PARIS_ANSWER)

        def ask(name: str, tokens: int) -> asyncio.Task[Answer]:
            prompt = desk.long(f"slow {name}", tokens)
            return asyncio.create_task(
                desk.ask(prompt, phase, seated=lambda: seated.add(name), begun=lambda: order.append(name))
            )

        # Each longer than any body's chunk: a shorter prompt is no cold one, and waits for nobody. The first one lasts
        # until it is given up, also on a machine that is slow to pass the seat's phase on.
        cold = [ask(f"cold {number}", 1900 if number == 0 else 160) for number in range(3)]
        await desk.until(lambda: bool(seated))
        assert len(seated) < len(cold)
        assert not order
        appended = tuple(desk.encode(" The capital of Italy is"))
        async for step in seat.generate(Phase(max_tokens=2, sampling=GREEDY, appended=appended)):
            if step.events and "seated" not in order:
                order.append("seated")
            if step.finish is not None and not desk.engine.describe().reuse_estimated:
                assert step.finish.reused_tokens is None or step.finish.reused_tokens >= len(desk.encode(PARIS))
        assert order == ["seated"], "it goes before those that wait, and between two steps of the one that is computed"
    cold[0].cancel()
    await asyncio.gather(*cold[1:])
    assert sorted(order) == ["cold 1", "cold 2", "seated"]


async def test_a_next_phase_goes_on_from_all_that_came_before(body: Body, desk: Desk) -> None:
    if not body.real:
        pytest.skip(f"{body.name} does not read what is appended")
    async with desk.engine.seat(ONE, desk.prompt(PARIS), 60) as seat:
        async for _ in seat.generate(Phase(max_tokens=24, sampling=GREEDY)):
            pass
        appended = tuple(desk.encode(" The capital of Italy is"))
        second = [step async for step in seat.generate(Phase(max_tokens=2, sampling=GREEDY, appended=appended))]
    assert b"".join(event.data for step in second for event in step.events).strip().startswith(b"Rome")
