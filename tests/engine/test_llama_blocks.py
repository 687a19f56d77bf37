"""Prompts go to llama.cpp block by block, and are heard of as if they had gone in one."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine.contract import EngineEvent, Finish
from antiphon.engine.llama_stream import Heard, blocks, in_blocks

pytestmark = pytest.mark.anyio


class Watch:
    """A clock that goes on by a given time whenever it is looked at for the second time."""

    def __init__(self, took: list[float]) -> None:
        self._took = list(took)
        self._now = 0.0
        self._running = False

    def __call__(self) -> float:
        if self._running:
            self._now += self._took.pop(0) if self._took else 10.0
        self._running = not self._running
        return self._now


@given(
    tokens=st.integers(1, 20_000),
    known=st.integers(0, 20_000),
    took=st.lists(st.floats(0.001, 5.0), max_size=20),
)
def test_blocks_cover_the_prompt_and_grow_only_where_they_are_quick(tokens: int, known: int, took: list[float]) -> None:
    ends = list(blocks(tokens, min(known, tokens), Watch(took)))
    assert ends[-1] == tokens
    assert ends == sorted(set(ends))
    sizes = [end - start for start, end in zip([min(known, tokens), *ends], ends, strict=False)]
    assert all(size > 0 for size in sizes[:-1])
    bound = 128
    for number, size in enumerate(sizes):
        assert size <= bound
        if number < len(sizes) - 1:
            assert size == bound
        bound *= 2 if number < len(took) and took[number] < 0.5 else 1


def test_on_a_slow_machine_nobody_waits_for_more_than_128_tokens() -> None:
    assert list(blocks(1000, 300, Watch([]))) == [428, 556, 684, 812, 940, 1000]


def test_on_a_fast_one_a_long_prompt_goes_in_a_few_blocks() -> None:
    assert list(blocks(100_000, 0, Watch([0.01] * 99))) == [128 * (2**n - 1) for n in range(1, 10)] + [100_000]


async def test_a_prompt_in_blocks_is_heard_of_as_if_it_had_gone_in_one() -> None:
    asked: list[tuple[int, bool]] = []
    closed: list[int] = []

    async def ask(end: int, goes_on: bool) -> AsyncGenerator[Heard, None]:
        asked.append((end, goes_on))
        try:
            had = asked[-2][0] if goes_on else 20
            yield Heard([], reused=had, computed=had)
            yield Heard([])  # half an event
            yield Heard([], reused=had, computed=end)
            if end == 400:
                yield Heard([EngineEvent(b"yes", 1)])
            yield Heard([], finish=Finish("length", had))
            raise AssertionError("nobody asks for what comes after the end")
        finally:
            closed.append(end)

    heard = [each async for each in in_blocks(400, 100, ask)]
    assert asked[0] == (228, False)
    assert [goes_on for _, goes_on in asked[1:]] == [True] * (len(asked) - 1)
    assert asked[-1][0] == 400
    assert closed == [end for end, _ in asked]
    assert {each.reused for each in heard if each.reused is not None} == {20}
    computed = [each.computed for each in heard if each.reused is not None]
    assert computed == sorted(computed)
    assert [event.data for each in heard for event in each.events] == [b"yes"]
    assert [each.finish for each in heard if each.finish is not None] == [Finish("length", 20)]


async def test_who_leaves_ends_the_block_that_is_being_computed() -> None:
    closed: list[int] = []

    async def ask(end: int, goes_on: bool) -> AsyncGenerator[Heard, None]:
        try:
            yield Heard([], reused=0, computed=1)
            yield Heard([], reused=0, computed=2)
        finally:
            closed.append(end)

    stream = in_blocks(400, 0, ask)
    await anext(stream)
    await stream.aclose()
    assert closed == [128]
