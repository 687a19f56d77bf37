"""What a body answers: the library's own tokens, each to whom it belongs."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import Future

import pytest

from antiphon.core.records import Scope
from antiphon.engine.contract import Phase, Sampling
from engine_contract import direct
from engine_contract.bodies import (
    ENDLESS,
    GREEDY,
    ONE,
    OTHER,
    PARIS,
    PARIS_ANSWER,
    SPOKEN,
    SPOKEN_TOKENS,
    WORDS,
    Answer,
    Body,
    Desk,
    repeated,
)

pytestmark = pytest.mark.anyio

#: Hot enough to say anything, and yet each of these leaves the likeliest token alone.
HOT = 3.0
ONE_CHOICE = {
    "top_k": Sampling(temperature=HOT, top_k=1, seed=1),
    "top_p": Sampling(temperature=HOT, top_p=0.000001, seed=1),
    "min_p": Sampling(temperature=HOT, min_p=1.0, seed=1),
}


def fresh(name: str) -> Scope:
    """A workspace that has asked nothing yet, so that nothing is reused."""
    return Scope("org", name)


async def test_tokens_are_the_librarys_own(truth: Future[list[direct.Answer]], desk: Desk) -> None:
    """One stream, greedy, nothing reused. The first case: the library works on its answers while the engine starts."""
    phase = Phase(max_tokens=SPOKEN_TOKENS, sampling=GREEDY)
    assert len(desk.encode(SPOKEN[-1])) > direct.BATCH_TOKENS
    made = [await desk.ask(text, phase, fresh(f"direct-{number}")) for number, text in enumerate(SPOKEN)]
    true_ones: list[direct.Answer] = await asyncio.wrap_future(truth)
    for answer, true in zip(made, true_ones, strict=True):
        assert answer.data.decode() == true.text
        assert answer.tokens == len(true.ids)
        assert answer.finish.reused_tokens in (None, 0)
        place = 0
        for event in answer.events:
            if event.ids is not None:
                assert list(event.ids) == true.ids[place : place + event.tokens]
            place += event.tokens


async def test_it_answers_counts_the_end_token_and_says_what_it_is(body: Body, desk: Desk) -> None:
    answer = await desk.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY))
    assert answer.data.startswith(PARIS_ANSWER)
    said = len(desk.encode(answer.data.decode()) if body.real else answer.data.split())
    assert (answer.tokens, answer.finish.reason) == (said + 1, "stop")
    told = desk.engine.describe()
    assert told.engine == body.name
    assert (told.seats, told.window) == (desk.limits.seats, desk.limits.pool_tokens)
    assert (told.reports_ids, told.reports_reuse) == (body.real, answer.finish.reused_tokens is not None)


async def test_ids_are_told_as_promised(desk: Desk) -> None:
    answer = await desk.ask(ENDLESS, Phase(max_tokens=12, sampling=GREEDY))
    told = [event for event in answer.events if event.ids is not None]
    assert bool(told) == desk.engine.describe().reports_ids
    assert all(event.ids is not None and len(event.ids) == event.tokens for event in told)
    assert all(event.tokens > 0 or not event.data for event in answer.events)


async def test_streams_at_once_do_not_mix(body: Body, desk: Desk) -> None:
    """Alone and in a batch a model's numbers differ in their last digits, so what is asked of real bodies is that each
    stream goes on with its own words, in full; of the scripted one, that it says the same as alone."""
    phase = Phase(max_tokens=7, sampling=GREEDY)
    alone = [await desk.ask(repeated(word), phase, fresh("alone")) for word in WORDS]
    seats: set[int] = set()
    together = await asyncio.gather(
        *(
            desk.ask(
                repeated(word), phase, fresh(f"mix-{word}"), begun=lambda: seats.add(desk.engine.health().seats_taken)
            )
            for word in WORDS * 2
        )
    )
    assert max(seats) == desk.limits.seats
    for word, single, answer in zip(WORDS * 2, alone * 2, together, strict=True):
        assert set(re.findall(r"\w+", answer.data.decode())) == {word}
        assert (answer.tokens, answer.finish.reason) == (7, "length")
        assert answer.events[0].ids == single.events[0].ids
        if not body.real:
            assert answer == single


async def test_a_stop_token_ends_a_phase_is_counted_and_shows_no_text(body: Body, desk: Desk) -> None:
    if not desk.engine.describe().reports_ids:
        pytest.skip(f"{body.name} has no token ids to stop at")
    (comma,) = desk.encode(",")
    free = await desk.ask(ENDLESS, Phase(max_tokens=12, sampling=GREEDY))
    before = free.data.split(b",")[0]
    answer = await desk.ask(ENDLESS, Phase(max_tokens=50, sampling=GREEDY, stop_tokens=(comma,)))
    assert answer.data == before
    assert answer.finish.reason == "stop"
    shown = [event for event in answer.events if event.data]
    assert answer.tokens == sum(event.tokens for event in shown) + 1
    assert (await desk.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY))).data.startswith(PARIS_ANSWER)


async def test_the_same_prompt_is_reused_and_another_workspaces_is_not(body: Body, desk: Desk) -> None:
    phase = Phase(max_tokens=6, sampling=GREEDY)
    prompt = desk.long("shared", 64)
    first, again, other = [await desk.ask(prompt, phase, scope) for scope in (ONE, ONE, OTHER)]
    assert first.tokens == again.tokens == other.tokens == 6
    reused = [answer.finish.reused_tokens for answer in (first, again, other)]
    if not desk.engine.describe().reports_reuse:
        assert reused == [None, None, None]
        return
    assert reused[0] == reused[2] == 0
    # All of it but the last token, or the last block.
    assert 64 - 32 <= (reused[1] or 0) < 64


async def test_temperature_0_says_the_same_each_time(desk: Desk) -> None:
    phase = Phase(max_tokens=12, sampling=GREEDY)
    answers = [await desk.ask(ENDLESS, phase, fresh(f"greedy-{number}")) for number in range(3)]
    assert len({answer.data for answer in answers}) == 1


async def test_a_seed_repeats_an_answer_and_another_gives_another(body: Body, desk: Desk) -> None:
    if not body.seeded:
        pytest.skip(f"{body.name} leaves nothing to chance")

    async def ask(seed: int, turn: str) -> Answer:
        sampling = Sampling(temperature=1.0, seed=seed)
        return await desk.ask("Once upon a time", Phase(max_tokens=12, sampling=sampling), fresh(f"{turn}-{seed}"))

    first = [(await ask(seed, "first")).data for seed in range(1, 4)]
    again = [(await ask(seed, "again")).data for seed in range(1, 4)]
    assert first == again
    assert len(set(first)) > 1


async def test_what_narrows_the_choice_reaches_the_library(body: Body, desk: Desk) -> None:
    if not body.seeded:
        pytest.skip(f"{body.name} leaves nothing to chance")

    async def ask(name: str, sampling: Sampling) -> bytes:
        return (await desk.ask(ENDLESS, Phase(max_tokens=10, sampling=sampling), fresh(f"choice-{name}"))).data

    # Counting leaves no doubt about the likeliest token; where two are as likely, the rules need not agree.
    greedy = await ask("greedy", GREEDY)
    assert {rule: await ask(rule, narrow) for rule, narrow in ONE_CHOICE.items()} == dict.fromkeys(ONE_CHOICE, greedy)
    assert await ask("free", Sampling(temperature=HOT, seed=1)) != greedy
