"""A plain answer is put together at its end, and is the answer that a stream of the same steps amounts to."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.records import Usage
from antiphon.engine.contract import EngineEvent, Finish, Step
from antiphon.reply.assemble import Assembler, gather
from antiphon.wire.events import ContentBlockDelta, Event
from antiphon.wire.response import Message


def answer(steps: list[Step], stops: list[str], *, by_token: bool) -> tuple[Message, list[Event]]:
    assembler = Assembler("msg_1", "m", Usage(input_tokens=7), stops, by_token=by_token)
    start = assembler.start()
    events: list[Event] = []
    for step in steps:
        events += assembler.feed(step)
        if assembler.ending is not None:
            break
    events += assembler.end("end_turn")
    return gather(start, events), events


def steps_of(data: bytes, cuts: list[int], size: int) -> list[Step]:
    """The bytes cut into tokens anywhere, even amid characters, and so many tokens in a step."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    tokens = [EngineEvent(data[a:b], 1) for a, b in pairwise(places)]
    steps = [Step(tuple(tokens[start : start + size])) for start in range(0, len(tokens), size)]
    return [*steps, Step((EngineEvent(b"", 1),), Finish("stop"))]


@given(
    st.text(max_size=30) | st.binary(max_size=30),
    st.lists(st.integers(0, 200), max_size=20),
    st.integers(1, 5),
    st.lists(st.text(min_size=1, max_size=2), max_size=2),
)
def test_a_plain_answer_equals_its_stream(text: str | bytes, cuts: list[int], size: int, stops: list[str]) -> None:
    steps = steps_of(text.encode() if isinstance(text, str) else text, cuts, size)
    assert answer(steps, stops, by_token=False)[0] == answer(steps, stops, by_token=True)[0]


def test_each_token_of_a_stream_is_an_event_and_a_plain_answer_is_one() -> None:
    steps = steps_of(b"one two three four", [3, 7, 13], 2)
    for by_token, expected in ((True, 4), (False, 1)):
        events = answer(steps, [], by_token=by_token)[1]
        assert sum(isinstance(event, ContentBlockDelta) for event in events) == expected
