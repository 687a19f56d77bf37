"""Aligning a rendering with its skeleton never guesses."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.dialect.json_text import json_text
from antiphon.dialect.template import ChatTemplate
from antiphon.plan.skeleton import Form, Placeholders, Skeleton, align, reform
from antiphon.wire.request import Role


class StillClock:
    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return time.monotonic()


def skeleton(source: str, *roles: Role) -> Skeleton | None:
    return Placeholders(ChatTemplate(source, StillClock())).skeleton(roles, False)


SOLID = Skeleton(("<s>", "</s>\n<u>", "</u>\n<a>"), solid=True)
LOOSE = Skeleton(("<s>", "\n\n", "<a>"), solid=False)
HARD = st.text(st.sampled_from(' \n\t"\\<u>/sa'), max_size=8)
FORMS: list[Form] = ["raw", "strip", "lstrip", "rstrip", "json"]


def test_a_skeleton_is_what_stands_between_the_contents() -> None:
    found = skeleton("{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}!", "system", "user")
    assert found == Skeleton(("<system>", "</><user>", "</>!"), solid=True)


def test_blanks_alone_between_two_contents_are_not_solid() -> None:
    found = skeleton("{{ messages[0].content }}\n\n{{ messages[1].content }}", "system", "user")
    assert found is not None and not found.solid


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[0].content }}",
        "{{ messages[1].content }}{{ messages[0].content }}",
        "{{ messages[0].content }}{{ messages[1].content }}{{ messages[1].content }}",
        "{{ messages[0].content | upper }}{{ messages[1].content }}",
    ],
)
def test_a_template_that_refuses_drops_repeats_or_reorders_has_none(source: str) -> None:
    assert skeleton(source, "user", "assistant") is None


@given(HARD, HARD, st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_every_form_is_found_and_explains_the_text(one: str, two: str, first: Form, second: Form) -> None:
    text = SOLID.filled([reform([one], first)[0], reform([two], second)[0]])
    forms = align(text, SOLID, [one, two])
    if forms is not None:  # a content that holds the template's own text may not be followed, and then must not be
        assert SOLID.filled([reform([t], f)[0] for t, f in zip([one, two], forms, strict=True)]) == text


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_mixed_forms_are_found(first: Form, second: Form) -> None:
    contents = [' a "b"\n', "\tc\\d "]
    text = SOLID.filled([reform([contents[0]], first)[0], reform([contents[1]], second)[0]])
    assert align(text, SOLID, contents) == [first, second]


def test_where_blanks_could_be_read_two_ways_forms_are_not_mixed() -> None:
    assert align("<s>x\n\ny<a>", LOOSE, ["x", "y"]) == ["raw", "raw"]
    assert align("<s>x\n\ny<a>", LOOSE, [" x ", " y "]) == ["strip", "strip"]
    assert align("<s>x\n\n y<a>", LOOSE, [" x ", " y"]) is None


def test_what_is_not_explained_is_not_aligned() -> None:
    for text in (
        "",
        "<s>A</s>\n<u>b</u>\n<a>",
        "<s>a</s>\n<u>b</u>\n<a> ",
        " <s>a</s>\n<u>b</u>\n<a>",
        "<s>a</s>\n<u>b",
    ):
        assert align(text, SOLID, ["a", "b"]) is None


@given(st.lists(st.text(st.sampled_from(' \n"\\ab'), max_size=5), max_size=4), st.sampled_from(FORMS))
def test_pieces_take_their_contents_form(texts: list[str], form: Form) -> None:
    whole = "".join(texts)
    expected = {
        "raw": whole,
        "strip": whole.strip(),
        "lstrip": whole.lstrip(),
        "rstrip": whole.rstrip(),
        "json": json_text(whole)[1:-1],
    }[form]
    assert "".join(reform(texts, form)) == expected
    assert len(reform(texts, form)) == len(texts)
