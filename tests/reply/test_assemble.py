"""From engine steps to events: whole characters, exact counts, and a stream that amounts to the plain answer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.records import Usage
from antiphon.engine.contract import EngineEvent, Finish, Step
from antiphon.reply.assemble import Assembler, gather
from antiphon.wire.events import ContentBlockDelta, ContentBlockStart, ContentBlockStop, Event, TextDelta
from antiphon.wire.response import Message, OutputText, StopReason


def assembled(
    steps: list[Step], stops: list[str], reason: StopReason = "end_turn"
) -> tuple[list[Event], Message, Assembler]:
    answer = Assembler("msg_1", "m", Usage(input_tokens=7), stops)
    start = answer.start()
    events: list[Event] = []
    for step in steps:
        events += answer.feed(step)
        if answer.ending is not None:
            break
    events += answer.end(reason)
    return events, gather(start, events), answer


def steps_of(data: bytes, cuts: list[int]) -> list[Step]:
    """The bytes cut into tokens of any size, ended by an end token."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    parts = [data[a:b] for a, b in pairwise(places)]
    return [*(Step((EngineEvent(part, 1),)) for part in parts), Step((EngineEvent(b"", 1),), Finish("stop"))]


def said(message: Message) -> str:
    return "".join([block.text for block in message.content if isinstance(block, OutputText)])


@given(st.text(max_size=40), st.lists(st.integers(0, 200), max_size=20))
def test_characters_survive_any_cut(text: str, cuts: list[int]) -> None:
    steps = steps_of(text.encode(), cuts)
    events, message, answer = assembled(steps, [])
    assert said(message) == text
    assert answer.output_tokens == sum(event.tokens for step in steps for event in step.events)
    deltas = [event.delta for event in events if isinstance(event, ContentBlockDelta)]
    texts = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    assert len(texts) == len(deltas)
    assert all(texts)
    assert all("\ufffd" not in part for part in texts) or "\ufffd" in text


@pytest.mark.behaviour("client-surface-0-indexes-contiguous", "client-surface-3-block-stop", "client-surface-3-indexes")
@given(
    st.text(max_size=20),
    st.lists(st.integers(0, 99), max_size=9),
    st.lists(st.text(min_size=1, max_size=3), max_size=3),
)
def test_blocks_open_and_close_once_and_in_order(text: str, cuts: list[int], stops: list[str]) -> None:
    events, message, _ = assembled(steps_of(text.encode(), cuts), stops)
    kinds = [type(event) for event in events]
    opened = kinds.count(ContentBlockStart)
    assert opened == kinds.count(ContentBlockStop) == len(message.content) <= 1
    assert bool(said(message)) == bool(message.content)


def test_tokens_are_counted_up_to_the_one_that_completed_the_stop() -> None:
    steps = [Step((EngineEvent(b"a", 1), EngineEvent(b"ST", 1), EngineEvent(b"OPx", 2), EngineEvent(b"never", 1)))]
    _, message, answer = assembled(steps, ["STOP"], "stop_sequence")
    assert answer.ending is not None
    assert answer.ending.sequence == "STOP"
    assert said(message) == "a"
    assert message.usage.output_tokens == 4


def test_a_character_that_was_never_finished_is_not_invented() -> None:
    _, message, _ = assembled([Step((EngineEvent("é".encode()[:1], 1),), Finish("length"))], [], "max_tokens")
    assert said(message) == "\ufffd"
