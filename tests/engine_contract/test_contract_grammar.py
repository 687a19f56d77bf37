"""Text under a lowered grammar: it is one that the grammar allows, and nobody else notices."""

from __future__ import annotations

import asyncio
import json

import pytest

from antiphon.core.errors import EngineFailed
from antiphon.engine.contract import Phase, Sampling
from antiphon.engine.grammar import Characters, Grammar, Reference, Repeat, Sequence, Text, check
from engine_contract.bodies import GREEDY, ONE, PARIS, PARIS_ANSWER, Body, Desk
from engine_contract.grammars import AWKWARD, COLOURS, DEEP, PERSON, accepts, random_grammar

pytestmark = pytest.mark.anyio

ASK = "<|im_start|>user\nOne person as JSON, please.<|im_end|>\n<|im_start|>assistant\n"
HOT = [Sampling(temperature=1.0, seed=seed) for seed in range(2)]


def under(grammar: Grammar, sampling: Sampling = GREEDY, tokens: int = 120) -> Phase:
    return Phase(max_tokens=tokens, sampling=sampling, grammar=grammar)


def exactly(text: str) -> Grammar:
    return Grammar({"root": Text(text)}, "root")


async def test_it_is_promised(desk: Desk) -> None:
    assert desk.engine.describe().grammar


async def test_an_answer_keeps_to_its_grammar(desk: Desk) -> None:
    answers = await asyncio.gather(*(desk.ask(ASK, under(PERSON, sampling)) for sampling in (GREEDY, *HOT)))
    for answer in answers:
        assert answer.finish.reason == "stop"
        assert accepts(PERSON, answer.data.decode())
        assert set(json.loads(answer.data)) == {"name", "age", "colour", "marks"}


async def test_random_grammars_are_kept(body: Body, desk: Desk) -> None:
    grammars = []
    for seed in range(24):
        grammar = random_grammar(seed)
        try:
            check(grammar)
        except EngineFailed:
            continue
        grammars.append(grammar)
    assert len(grammars) > 6
    answers = await asyncio.gather(
        *(desk.ask("x", under(grammar, HOT[n % 2], 32)) for n, grammar in enumerate(grammars[:6]))
    )
    for grammar, answer in zip(grammars, answers, strict=False):
        if answer.finish.reason == "stop":
            assert accepts(grammar, answer.data.decode()), (grammar, answer.data)
    assert sum(answer.finish.reason == "stop" for answer in answers) > 2


async def test_every_character_is_written_as_it_is_meant(body: Body, desk: Desk) -> None:
    """No control token among them, whatever the text looks like."""
    text = "<|im_start|>" + AWKWARD + "<|im_end|><tool_call><|endoftext|>"
    answer = await desk.ask("x", under(exactly(text), tokens=250))
    assert (answer.data.decode(), answer.finish.reason) == (text, "stop")
    if body.real:
        control = {desk.encode(token)[0] for token in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")}
        assert not control & {token for event in answer.events[:-1] for token in event.ids or ()}


@pytest.mark.parametrize("text", ["Médecin", "Straße", "ÿf", "\u0080a", "\x7f0\x01b", '{"né":["éé","éa"]}'])
async def test_a_letter_before_a_hex_digit_is_what_it_says(desk: Desk, text: str) -> None:
    """OpenVINO's library once made "Straße" into "Stra\u0dfe"."""
    answer = await desk.ask("x", under(exactly(text)))
    assert (answer.data.decode(), answer.finish.reason) == (text, "stop")


async def test_awkward_classes_are_what_they_say(desk: Desk) -> None:
    few = '"\\]^-[\n'
    grammar = Grammar({"root": Repeat(Characters(tuple((ord(c), ord(c)) for c in few)), 6, 6)}, "root")
    others = Grammar({"root": Repeat(Characters(((0, 0x2FFF), (0x3400, 0x10FFFF)), negated=True), 3, 3)}, "root")
    for answer in await asyncio.gather(*(desk.ask("x", under(grammar, sampling)) for sampling in HOT)):
        assert accepts(grammar, answer.data.decode())
    answer = await desk.ask("x", under(others, GREEDY))
    assert accepts(others, answer.data.decode())


async def test_streams_with_and_without_a_grammar_do_not_mix(desk: Desk) -> None:
    person, colours, free = await asyncio.gather(
        desk.ask(ASK, under(PERSON)),
        desk.ask(ASK, under(COLOURS)),
        desk.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY)),
    )
    assert accepts(PERSON, person.data.decode())
    assert accepts(COLOURS, colours.data.decode())
    assert free.data.startswith(PARIS_ANSWER)


async def test_max_tokens_cuts_a_grammar_short(desk: Desk) -> None:
    text = "red apples and green apples, and many more of them"
    answer = await desk.ask(ASK, under(exactly(text), tokens=3))
    assert (answer.tokens, answer.finish.reason) == (3, "length")
    assert text.encode().startswith(answer.data)


async def test_stop_tokens_are_not_heeded_under_a_grammar(body: Body, desk: Desk) -> None:
    comma = tuple(desk.encode(",")) if body.real else ()
    phase = Phase(max_tokens=40, sampling=GREEDY, stop_tokens=comma, grammar=exactly("one, two"))
    answer = await desk.ask("Count: one, two, three, four", phase)
    assert (answer.data, answer.finish.reason) == (b"one, two", "stop")


async def test_a_bad_grammar_fails_alone(desk: Desk) -> None:
    begun = asyncio.Event()
    other = asyncio.create_task(desk.ask(ASK, under(PERSON), begun=begun.set))
    await begun.wait()
    for bad in (
        Grammar({"root": Reference("nobody")}, "root"),
        Grammar({"root": Sequence((Reference("root"), Text("x")))}, "root"),
        Grammar({"root": Repeat(Text(""), 0, None)}, "root"),
        exactly("\0"),
    ):
        with pytest.raises(EngineFailed) as failed:
            await desk.ask(ASK, under(bad))
        assert failed.value.retry_helps is False
    assert accepts(PERSON, (await other).data.decode())
    assert accepts(COLOURS, (await desk.ask(ASK, under(COLOURS))).data.decode())


async def test_a_grammar_may_follow_free_text_on_the_same_seat(body: Body, desk: Desk) -> None:
    prompt = desk.prompt(PARIS)
    async with desk.engine.seat(ONE, prompt, 90) as seat:
        first = [step async for step in seat.generate(Phase(max_tokens=4, sampling=GREEDY))]
        appended = tuple(desk.encode("\n")) if body.real else ()
        second = [
            step
            async for step in seat.generate(Phase(max_tokens=40, sampling=GREEDY, appended=appended, grammar=COLOURS))
        ]
        third = [step async for step in seat.generate(Phase(max_tokens=2, sampling=GREEDY))]
    assert PARIS_ANSWER.startswith(b"".join(event.data for step in first for event in step.events)[:8])
    assert accepts(COLOURS, b"".join(event.data for step in second for event in step.events).decode())
    finish = second[-1].finish
    assert finish is not None
    assert finish.reason == "stop"
    if not desk.engine.describe().reuse_estimated:
        assert finish.reused_tokens is None or finish.reused_tokens >= prompt.tokens
    assert third[-1].finish is not None


async def test_a_cancel_under_a_grammar_leaves_nothing_behind(desk: Desk) -> None:
    endless = Grammar({"root": Repeat(Text("red, "), 500, None)}, "root")
    for _ in range(3):
        begun = asyncio.Event()
        task = asyncio.create_task(desk.ask(ASK, under(endless, tokens=400), begun=begun.set))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert accepts(COLOURS, (await desk.ask(ASK, under(COLOURS))).data.decode())
    assert (await desk.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY))).data.startswith(PARIS_ANSWER)


async def test_recursion_goes_deep(desk: Desk) -> None:
    answer = await desk.ask("[[[[[[1]]]]]] [[[1]]] [[1]] [[[[1]]]]", under(DEEP, tokens=60))
    assert answer.data.startswith(b"[" * 20)
    if answer.finish.reason == "stop":
        assert accepts(DEEP, answer.data.decode())


async def test_long_bounds_are_exact(desk: Desk) -> None:
    """As long as libraries take loops apart, and more than llama.cpp can be told in one."""
    grammar = Grammar({"root": Sequence((Repeat(Text("ab"), 20, 3000), Text("!")))}, "root")
    answer = await desk.ask("abababababababababab!", under(grammar, tokens=50))
    if answer.finish.reason == "stop":
        assert accepts(grammar, answer.data.decode())
    else:
        assert answer.data.startswith(b"ab" * 10)
