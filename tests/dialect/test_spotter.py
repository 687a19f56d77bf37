"""Calls in another form than the family's: spotted where they are, and nowhere else."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spotter_texts import BARE, CALLS, NAMES, NO_CALLS, PROSE

from antiphon.dialect.spotter import MOST_TOKENS, CallSpotter, NoCall, Spotted, Undecided, Verdict


def verdict(text: str, cuts: tuple[int, ...] = ()) -> Verdict:
    """What is decided of a whole text, fed in pieces."""
    spotter = CallSpotter(NAMES, BARE)
    decided: Verdict = Undecided()
    for start, end in pairwise(sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})):
        decided = spotter.feed(text[start:end], 0)
    return decided


def test_the_sets_are_as_large_and_as_varied_as_they_should_be() -> None:
    assert len(set(NO_CALLS)) >= 200 and len({text for text, _ in CALLS}) >= 40


@pytest.mark.parametrize("text", NO_CALLS)
def test_an_answer_is_no_call(text: str) -> None:
    assert not isinstance(verdict(text), Spotted)


@pytest.mark.parametrize(("text", "name"), CALLS)
def test_a_call_in_another_form_is_spotted(text: str, name: str) -> None:
    assert verdict(text) == Spotted(name)


@pytest.mark.parametrize(("text", "name"), CALLS)
def test_a_call_is_none_once_something_was_said(text: str, name: str) -> None:
    assert verdict(f"Sure.\n{text}") == NoCall()


@pytest.mark.parametrize(("text", "name"), CALLS)
def test_a_call_of_what_is_not_declared_is_none(text: str, name: str) -> None:
    spotter = CallSpotter([each for each in NAMES if each != name], BARE)
    assert not isinstance(spotter.feed(text, 0), Spotted)


@settings(deadline=None)
@given(st.sampled_from([*NO_CALLS, *(text for text, _ in CALLS)]), st.lists(st.integers(0, 200)))
def test_how_the_text_is_cut_does_not_matter(text: str, cuts: list[int]) -> None:
    assert verdict(text, tuple(cuts)) == verdict(text) == verdict(text, tuple(range(len(text))))


@settings(deadline=None)
@given(st.sampled_from([text for text, _ in CALLS]), st.data())
def test_one_character_changed_never_calls_another_tool(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(exclude_categories=["Cs"])) + text[place + 1 :]
    decided = verdict(changed)
    assert not isinstance(decided, Spotted) or decided.name in changed


@settings(deadline=None)
@given(st.text(alphabet='{}[]":,`<>T \n\\namesearchpi_g', max_size=80), st.lists(st.integers(0, 80)))
def test_anything_at_all_is_decided_alike(text: str, cuts: list[int]) -> None:
    assert verdict(text, tuple(cuts)) == verdict(text)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(alphabet=' \n{"name:', max_size=4), st.integers(0, 9)), min_size=70))
def test_never_more_than_so_many_tokens_are_held_back(steps: list[tuple[str, int]]) -> None:
    spotter, held = CallSpotter(NAMES), 0
    for text, tokens in steps:
        decided = spotter.feed(text, tokens)
        held += tokens
        assert not isinstance(decided, Undecided) or held < MOST_TOKENS


def test_blanks_without_end_are_an_answer() -> None:
    spotter = CallSpotter(NAMES)
    assert [spotter.feed("\n", 1) for _ in range(MOST_TOKENS)][-2:] == [Undecided(), NoCall()]
    assert spotter.feed('{"name": "search", "arguments": {', 1) == NoCall()


def test_what_was_decided_stays_decided() -> None:
    spotter = CallSpotter(NAMES)
    assert spotter.feed('{"name": "search", "arguments": {', 1) == Spotted("search")
    assert spotter.feed("nonsense", 1000) == Spotted("search")


@pytest.mark.parametrize("text", [text for text in PROSE if text.strip()[0] not in '{["<`T'])
def test_prose_is_let_go_at_its_first_character(text: str) -> None:
    blanks = len(text) - len(text.lstrip())
    assert verdict(text[:blanks]) == Undecided()
    assert verdict(text[: blanks + 1]) == NoCall()


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ('{"name": "search", "arguments": {', 33),
        ('{"name": "get_weather"}', 23),
        ('{"name": "Jo', 11),
        ('{"title"', 4),  # `t` could be a tool's
        ("Tool calls", 10),
        ("```py", 4),
        ("<p>", 2),
        ("[1", 2),
    ],
)
def test_the_first_character_that_decides_is_enough(text: str, until: int) -> None:
    assert verdict(text[: until - 1]) == Undecided()
    assert not isinstance(verdict(text[:until]), Undecided)


def test_without_tools_nothing_is_held_back() -> None:
    assert CallSpotter([]).feed("", 0) == NoCall()


def test_many_tools_and_a_long_answer_take_linear_time() -> None:
    """Not timed: a spotter that looked at all it has read again with each character would not come back."""
    names = [f"tool_{number:05}" for number in range(10_000)]
    spotter = CallSpotter(names)
    for _ in range(50_000):
        spotter.feed("\n", 0)
    assert spotter.feed('{"name": "tool_09999", "arguments": {', 1) == Spotted("tool_09999")
