"""How likely each token was, before temperature and grammar."""

from __future__ import annotations

import math

import pytest

from antiphon.engine.contract import Phase, Sampling
from antiphon.engine.grammar import Grammar, Text
from engine_contract.bodies import ENDLESS, GREEDY, PARIS, Answer, Body, Desk

pytestmark = pytest.mark.anyio


def told(answer: Answer) -> list[float]:
    return [value for event in answer.events for value in event.logprobs or ()]


async def test_they_are_told_where_they_are_asked_for(desk: Desk) -> None:
    assert desk.engine.describe().logprobs
    with_, without = [
        await desk.ask(PARIS, Phase(max_tokens=12, sampling=GREEDY, logprobs=logprobs)) for logprobs in (True, False)
    ]
    assert with_.data == without.data
    assert told(without) == []
    for event in with_.events:
        assert event.logprobs is not None
        assert len(event.logprobs) == event.tokens
        assert all(value <= 0 for value in event.logprobs)


async def test_a_sure_token_is_likely_and_a_forced_one_is_not(body: Body, desk: Desk) -> None:
    if not body.real:
        pytest.skip(f"{body.name} is always certain")
    sure = told(await desk.ask(ENDLESS, Phase(max_tokens=6, sampling=GREEDY, logprobs=True)))
    assert sum(sure) / len(sure) > math.log(0.4)
    grammar = Grammar({"root": Text("zebra")}, "root")
    forced = told(await desk.ask(ENDLESS, Phase(max_tokens=8, sampling=GREEDY, logprobs=True, grammar=grammar)))
    assert forced[0] < math.log(0.05)


async def test_temperature_does_not_change_them(body: Body, desk: Desk) -> None:
    if not body.real:
        pytest.skip(f"{body.name} has no temperature")
    cold, hot = [
        await desk.ask(ENDLESS, Phase(max_tokens=1, sampling=sampling, logprobs=True))
        for sampling in (GREEDY, Sampling(temperature=3.0, top_k=1, seed=1))
    ]
    assert cold.data == hot.data
    assert told(hot) == pytest.approx(told(cold), abs=0.1)
