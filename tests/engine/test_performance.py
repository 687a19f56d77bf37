"""What a script plays over the phases of an answer: its text in order, and under a grammar what of it is allowed."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine.contract import EngineEvent
from antiphon.engine.grammar import Choice, Grammar, Sequence, Text
from antiphon.engine.performance import Performance, Score, cut_words
from antiphon.plan.schema.lowering import Spacing, lower
from random_schemas import COMPACT, TEMPLATE

CALL = '<call>{"name": "look", "arguments": {"city": "Oslo", "days": 2}}</call>'
STOPS = {"<call>": 7}
NAMES = Grammar({"name": Sequence((Choice((Text("look"), Text("find"))), Text('"')))}, "name")


def said(events: tuple[EngineEvent, ...]) -> str:
    return b"".join(event.data for event in events).decode()


def playing(text: str) -> Performance:
    return Performance(Score(cut_words(text)))


def grammar(schema: Any, spacing: Spacing = TEMPLATE) -> Grammar:
    lowered = lower(schema, spacing, strict=True)
    return Grammar(lowered.rules, lowered.root)


PLACE: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


def test_a_text_is_played_up_to_a_stop_that_is_told_by_its_token() -> None:
    performance = playing(f"I look. {CALL} Done.")
    events, stopped = performance.free(STOPS, 100)
    assert stopped
    assert said(events[:-1]) == "I look. "
    assert (events[-1].data, events[-1].ids) == (b"", (7,))
    events, stopped = performance.free(STOPS, 100)
    assert (said(events).endswith(" Done."), stopped) == (True, False)


def test_without_a_stop_all_of_it_is_played_in_its_own_tokens() -> None:
    events, stopped = playing("one two three").free({}, 100)
    assert ([event.data for event in events], stopped) == ([b"one", b" two", b" three"], False)


def test_the_phases_of_a_call_go_on_where_the_last_one_ended() -> None:
    performance = playing(f"I look. {CALL}\n{CALL.replace('look', 'find')} Done.")
    performance.free(STOPS, 100)
    for name in ("look", "find"):
        performance.pass_over('<call>{"name": "', instead=False)
        assert said(performance.under(NAMES)) == f'{name}"'
        performance.pass_over(', "arguments": ', instead=False)
        assert said(performance.under(grammar(PLACE))) == '{"city": "Oslo", "days": 2}'
        performance.pass_over("}</call>", instead=False)
        events, stopped = performance.free(STOPS, 100)
        assert stopped is (name == "look")
    assert said(events) == " Done."


def test_what_is_written_in_the_place_of_a_phase_is_found_from_its_beginning() -> None:
    performance = playing('{"name": "look", "arguments": {"city": "Oslo", "days": 2}}')
    events, _ = performance.free({}, 100)
    assert said(events).startswith('{"name"')
    performance.pass_over('{"name": "look", "arguments": ', instead=True)
    assert said(performance.under(grammar(PLACE))) == '{"city": "Oslo", "days": 2}'


@pytest.mark.parametrize("order", [*permutations([("days", 2), ("city", "Oslo")])])
@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("spacing", [TEMPLATE, COMPACT])
def test_an_object_in_other_blanks_and_another_order_is_the_same(order: Any, indent: int | None, spacing: Any) -> None:
    performance = playing(f"Here: {json.dumps(dict(order), indent=indent)} That is all.")
    events = performance.under(grammar(PLACE, spacing))
    assert said(events) == spacing.item.join(f'"{key}"{spacing.key}{value}' for key, value in [
        ("city", '"Oslo"'), ("days", "2")
    ]).join("{}")  # fmt: skip
    assert said(performance.free({}, 100)[0]) == " That is all."


def test_where_the_text_holds_nothing_that_is_allowed_the_shortest_is_played() -> None:
    assert said(playing("Nothing of the kind.").under(NAMES)) in ('look"', 'find"')
    assert said(playing('{"city": 1}').under(grammar(PLACE))) == '{"city": "", "days": 0}'


def test_an_endless_script_counts() -> None:
    events, stopped = Performance(None).free({"<call>": 7}, 3)
    assert (len(events), stopped) == (3, False)


@given(st.text(st.sampled_from('ab {}"\\<call>:,\n'), max_size=60))
def test_whatever_the_text_is_the_grammar_is_kept_to(text: str) -> None:
    value = json.loads(said(playing(text).under(grammar(PLACE))))
    assert value.keys() == {"city", "days"}
