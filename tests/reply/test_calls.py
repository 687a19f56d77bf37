"""A call's input, however it is cut into tokens and wherever the answer ends: what is shown is always a JSON object."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.errors import EngineFailed
from antiphon.core.records import Usage
from antiphon.dialect.stretch import Answer, Between, Document, Input, Name, Stretch
from antiphon.engine.contract import EngineEvent, Finish, Step
from antiphon.reply.assemble import Assembler, gather
from antiphon.wire.events import ContentBlockDelta, Event, InputJsonDelta, TextDelta
from antiphon.wire.response import OutputText, OutputToolUse

OPENER = 7
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


def written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def cut(text: str, places: list[int]) -> list[str]:
    at = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in itertools.pairwise(at)]


def assembler(*, by_token: bool = True, stops: tuple[str, ...] = ()) -> Assembler:
    return Assembler("msg_1", "m", Usage(input_tokens=1), stops, by_token=by_token, call_ids=lambda: "toolu_1")


def step(*texts: str, ids: tuple[int, ...] | None = None) -> Step:
    return Step(tuple(EngineEvent(text.encode(), 1, ids) for text in texts))


def shown(events: list[Event]) -> list[str]:
    return [
        event.delta.text if isinstance(event.delta, TextDelta) else event.delta.partial_json
        for event in events
        if isinstance(event, ContentBlockDelta)
    ]


def call(*, eager: bool = False, whole: bool = False) -> Input:
    return Input(name="f", eager=eager, whole=whole, leading=" ", closing="}\n")


@pytest.mark.parametrize(("eager", "whole"), [(False, False), (True, False), (False, True)])
@given(value=OBJECTS, places=st.lists(st.integers(0, 500), max_size=12))
def test_an_input_is_shown_whole_and_ends_by_itself(
    value: dict[str, object], places: list[int], eager: bool, whole: bool
) -> None:
    answer = assembler()
    events = answer.begin(call(eager=eager, whole=whole))
    for part in cut(f" {written(value)}}}\n", places):
        assert answer.ending is None
        events += answer.feed(step(part))
    assert answer.ending is not None
    assert answer.ending.how == "end"
    assert "".join(shown(events)) == written(value)
    if whole:
        assert len(shown(events)) == 1


@given(value=OBJECTS, at=st.integers(0, 500), places=st.lists(st.integers(0, 500), max_size=6), whole=st.booleans())
def test_an_input_that_is_cut_keeps_its_complete_members(
    value: dict[str, object], at: int, places: list[int], whole: bool
) -> None:
    text = f" {written(value)}"
    answer = assembler()
    events = answer.begin(call(whole=whole))
    for part in cut(text[: at % len(text)], places):
        events += answer.feed(step(part))
    events += answer.feed(Step((), Finish("length")))
    assert answer.ending is not None
    assert answer.ending.how == "length"
    left = json.loads("".join(shown(events)))
    assert list(left.items()) == list(value.items())[: len(left)]


@given(value=OBJECTS, at=st.integers(0, 500))
def test_an_eager_input_is_shown_to_the_last_character(value: dict[str, object], at: int) -> None:
    text = f" {written(value)}"
    text = text[: at % len(text)]
    answer = assembler()
    events = answer.begin(call(eager=True)) + answer.feed(step(text)) + answer.feed(Step((), Finish("length")))
    assert "".join(shown(events)) == text[1:]


def test_only_a_reader_who_reads_along_gets_raw_fragments() -> None:
    answer = assembler(by_token=False)
    events = [
        *answer.begin(call(eager=True)),
        *answer.feed(step(' {"a": 1, "b')),
        *answer.feed(Step((), Finish("length"))),
    ]
    assert json.loads("".join(shown(events))) == {"a": 1}


def test_members_are_shown_one_at_a_time() -> None:
    answer = assembler()
    events = answer.begin(call())
    for letter in ' {"a": {"x": [1, 2]}, "b": "},"}}\n':
        events += answer.feed(step(letter))
    assert shown(events) == ['{"a": {"x": [1, 2]}', ', "b": "},"}']


def told(answer: Assembler, stretch: Stretch, *steps: Step) -> list[Event]:
    events = answer.begin(stretch)
    for each in steps:
        events += answer.feed(each)
    return events


def test_a_name_is_read_up_to_what_closes_it() -> None:
    answer = assembler()
    assert told(answer, Name('", "arguments":'), step("get_", 'weather", "argu', 'ments":')) == []
    assert answer.ending is not None
    assert (answer.ending.how, answer.ending.name, answer.ending.used) == ("end", "get_weather", 3)


@pytest.mark.parametrize(
    ("texts", "how"),
    [(["\n", "\n"], None), (["\n", "So"], "end"), (["\nTool", " call", ":"], "call"), (["Tool box"], "end")],
)
def test_behind_a_call_a_marker_in_text_decides(texts: list[str], how: str | None) -> None:
    answer = assembler()
    told(answer, Between(marker="Tool call: "), *(step(text) for text in texts))
    assert (answer.ending and answer.ending.how) == how


@pytest.mark.parametrize("between", [Between(OPENER), Between(marker="Tool call: ")])
def test_behind_a_call_a_bare_object_is_the_start_of_another(between: Between) -> None:
    answer = assembler()
    assert told(answer, between, step("\n", '{"'), step("name")) == []
    assert answer.ending is not None
    assert answer.ending.how == "spotted"


def test_behind_a_call_a_control_token_decides() -> None:
    answer = assembler()
    told(answer, Between(OPENER), step("\n"), step("", ids=(OPENER,)))
    assert answer.ending is not None
    assert answer.ending.how == "call"


def test_blanks_between_a_text_and_a_call_are_not_the_texts() -> None:
    answer = assembler()
    events = told(answer, Answer(opener=OPENER), step("Let", " me", " see.", " \n"), step("", ids=(OPENER,)))
    assert "".join(shown(events)) == "Let me see."
    answer = assembler()
    events = told(answer, Answer(opener=OPENER), step("Done.", "\n"), Step((), Finish("stop")))
    assert "".join(shown(events)) == "Done.\n"


def test_a_call_in_another_form_is_never_shown() -> None:
    answer = assembler()
    form = ["```", "json\n", '{"name":', ' "f"', ', "arguments"', ": {", '"a"']
    events = told(answer, Answer(opener=OPENER, names=frozenset("f")), *(step(text) for text in form[:6]))
    assert events == []
    assert answer.ending is not None
    assert (answer.ending.how, answer.ending.name, answer.ending.made) == ("spotted", "f", 6)
    events = answer.begin(call(), written=5, instead=True)
    assert answer.output_tokens == 5
    assert events[0].content_block == OutputToolUse(id="toolu_1", name="f", input={})  # type: ignore[union-attr]


def test_what_only_looks_like_a_call_is_shown_once_that_is_known() -> None:
    answer = assembler()
    texts = ["```", "json\n", '{"name":', ' "Ann"', "}\n```"]
    events = told(answer, Answer(opener=OPENER, names=frozenset("f")), *(step(text) for text in texts))
    events += answer.feed(Step((), Finish("stop")))
    assert "".join(shown(events)) == "".join(texts)


def test_a_marker_in_text_is_found_at_the_start_of_a_line_and_what_was_said_is_kept() -> None:
    answer = assembler()
    stretch = Answer(marker="\nTool call: {", names=frozenset("f"))
    events = told(answer, stretch, step("My Tool", " call: {} is", " this.", "\n", "Tool", " call:", ' {"'))
    assert "".join(shown(events)) == "My Tool call: {} is this."
    assert answer.ending is not None
    assert (answer.ending.how, answer.ending.kept) == ("call", "My Tool call: {} is this.")


def test_a_hidden_answer_shows_nothing_and_tells_that_it_is_no_call() -> None:
    answer = assembler()
    stretch = Answer(opener=OPENER, names=frozenset("f"), hidden=True)
    assert told(answer, stretch, step("Sure", ", here")) == []
    assert answer.ending is not None
    assert (answer.ending.how, answer.ending.made) == ("no_call", 1)
    answer = assembler()
    assert told(answer, stretch, step(" ", "\n"), Step((EngineEvent(b"", 1),), Finish("stop"))) == []
    assert answer.ending is not None
    assert answer.ending.how == "no_call"


def test_text_and_calls_are_blocks_in_a_row_and_a_plain_answer_is_the_same() -> None:
    answer = assembler()
    events = told(answer, Answer(opener=OPENER, names=frozenset("f")), step("Hm", "."), step("", ids=(OPENER,)))
    for _ in range(2):
        events += told(answer, call(), step(' {"a": 1.5}', "}\n"))
    events += answer.end("tool_use")
    message = gather(answer.start(), events)
    calls = OutputToolUse(id="toolu_1", name="f", input={"a": 1.5})
    assert message.content == (OutputText("Hm."), calls, calls)
    assert message.stop_reason == "tool_use"
    indexes = [event.index for event in events if hasattr(event, "index")]
    assert indexes == sorted(indexes)
    assert indexes[-1] == 2
    assert all(
        isinstance(event.delta, InputJsonDelta) == (event.index > 0)
        for event in events
        if isinstance(event, ContentBlockDelta)
    )


def test_a_document_is_shown_as_text() -> None:
    answer = assembler()
    events = told(answer, Document(), step('{"a"', ":1}"), Step((EngineEvent(b"", 1),), Finish("stop")))
    assert "".join(shown(events)) == '{"a":1}'
    assert answer.ending is not None
    assert answer.ending.how == "end"


def test_a_stop_sequence_ends_the_text_before_a_call_and_not_the_call() -> None:
    answer = assembler(stops=("STOP", "}"))
    events = told(answer, Answer(opener=OPENER), step("a ST"), step("", ids=(OPENER,)))
    assert "".join(shown(events)) == "a ST"
    events = told(answer, call(), step(' {"a": 1}', "}\n"))
    assert "".join(shown(events)) == '{"a": 1}'


@pytest.mark.parametrize("stretch", [Document(), call(), call(eager=True), call(whole=True)])
@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize("stops", [(), ("STOP",)])
def test_an_engine_that_leaves_its_grammar_has_failed(stretch: Stretch, by_token: bool, stops: tuple[str, ...]) -> None:
    """Libraries end a turn, or let all through, where no token is allowed."""
    answer = assembler(by_token=by_token, stops=stops)
    answer.begin(stretch)
    answer.feed(step(' {"a', '":"'))
    with pytest.raises(EngineFailed):
        answer.feed(Step((), Finish("stop")))


@given(value=OBJECTS, places=st.lists(st.integers(0, 500), max_size=12))
def test_a_document_that_is_json_ends(value: dict[str, object], places: list[int]) -> None:
    answer = assembler()
    events = answer.begin(Document())
    for part in cut(written(value), places):
        events += answer.feed(step(part))
    events += answer.feed(Step((), Finish("stop")))
    assert answer.ending is not None
    assert answer.ending.how == "end"
    assert "".join(shown(events)) == written(value)
