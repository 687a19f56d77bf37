"""What happens at the bounds: a wait that is too long, and a reader that takes nothing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from antiphon.core.errors import EngineFailed, Overloaded
from antiphon.engine.contract import EngineEvent, Phase
from engine_contract.bodies import ENDLESS, GREEDY, ONE, OTHER, PARIS, PARIS_ANSWER, Body, Desk

pytestmark = pytest.mark.anyio

SHORT = Phase(max_tokens=24, sampling=GREEDY)
#: The stuck one has more to say than the other, so that it would be the last to end.
UNDISTURBED, STUCK = Phase(max_tokens=75, sampling=GREEDY), Phase(max_tokens=120, sampling=GREEDY)


async def test_who_waits_too_long_is_refused_and_the_others_keep_their_order(body: Body, tight: Desk) -> None:
    order: list[str] = []

    async def wait(name: str) -> None:
        async with tight.engine.seat(ONE, tight.prompt(PARIS), 24):
            order.append(name)

    async with AsyncExitStack() as held:
        for _ in range(tight.limits.seats):
            await held.enter_async_context(tight.engine.seat(OTHER, tight.prompt(PARIS), 24))
        first = asyncio.create_task(wait("first"))
        await asyncio.sleep(tight.limits.queue_seconds / 2)  # so that its time is over before the others' time is
        others = [asyncio.create_task(wait(name)) for name in ("second", "third", "fourth")]
        await tight.until(lambda: tight.engine.health().waiting == 4)
        with pytest.raises(Overloaded):
            await first
        assert tight.engine.health().waiting == 3
        assert not order
    await asyncio.gather(*others)
    assert order == ["second", "third", "fourth"]
    assert (await tight.ask(PARIS, SHORT)).data.startswith(PARIS_ANSWER)


async def test_a_reader_that_takes_nothing_harms_itself_alone(body: Body, tight: Desk) -> None:
    """A body that gives it up ends its generation, in the engine as well; another holds its stream back for it."""
    heard: list[EngineEvent] = []
    begun = asyncio.Event()
    other = asyncio.create_task(tight.ask(ENDLESS, UNDISTURBED, begun=begun.set, heard=heard))
    await begun.wait()
    taken = 0
    async with tight.engine.seat(OTHER, tight.prompt(ENDLESS), STUCK.max_tokens) as seat:
        stream = seat.generate(STUCK)
        step = await anext(stream)
        taken += sum(event.tokens for event in step.events)
        # Each step gives a token to both; a few more, because the first ones had been on their way.
        enough = len(heard) + tight.limits.backlog + 8
        await tight.until(lambda: len(heard) >= enough)
        if body.gives_up:
            with pytest.raises(EngineFailed, match="the model stopped") as raised:
                await anext(stream)
            assert raised.value.reason == "nobody took what the engine made"
        else:
            async for step in stream:
                taken += sum(event.tokens for event in step.events)
            assert taken == STUCK.max_tokens
    if body.gives_up:
        assert not other.done()
        assert tight.engine.health().seats_taken == 1
        # Was it still at work, then this would have to wait for its end, which comes after the other's.
        assert (await tight.ask(PARIS, SHORT)).data.startswith(PARIS_ANSWER)
        assert not other.done()
    answer = await other
    assert (answer.tokens, answer.finish.reason) == (UNDISTURBED.max_tokens, "length")
    assert (await tight.ask(PARIS, SHORT)).data.startswith(PARIS_ANSWER)
