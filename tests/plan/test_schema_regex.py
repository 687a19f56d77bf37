"""Patterns of schemas as grammar: the same texts as Python's own expressions, where both mean the same."""

from __future__ import annotations

import re
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.grammar import Grammar, Node, check
from antiphon.plan.schema.regex import MAX_COUNT, MAX_EXPANDED, MAX_PATTERN, UnsupportedPattern, expanded, fits, pattern
from antiphon.plan.schema.strings import inner, spelled
from antiphon.plan.schema.structure import TooComplex
from grammar_reference import accepts, derived

ATOMS = ["a", "b", "-", "\\.", "é", '"', "\\\\", "[ab]", "[^a]", "[a-c-]", "[\\]x]", "\\d", "\\w", "\\n"]
parts = st.recursive(
    st.sampled_from([*ATOMS, "."]),
    lambda inside: (
        st.lists(inside, min_size=1, max_size=3).map("".join)
        | st.lists(inside, min_size=1, max_size=3).map("|".join).map(lambda text: f"({text})")
        | st.tuples(inside, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        )
    ),
    max_leaves=6,
)


def grammar(node: Node) -> dict[str, Node]:
    rules = {"text": spelled(node)}
    check(Grammar(rules, "text"))
    return rules


@given(parts, st.booleans(), st.booleans(), st.text('ab-.é"\\x1_\n ', max_size=6), st.integers(0, 10**6))
@settings(max_examples=300, deadline=None)
def test_a_pattern_means_what_it_means_elsewhere(text: str, start: bool, end: bool, tried: str, seed: int) -> None:
    anchored = f"{'^' if start else ''}(?:{text}){'$' if end else ''}"
    node = pattern(anchored)
    other = re.compile(f"{'^' if start else ''}(?:{text}){chr(92) + 'Z' if end else ''}", re.ASCII)
    assert fits(node, tried) is bool(other.search(tried))
    rules = grammar(node)
    assert accepts(rules, "text", inner(tried)) is bool(other.search(tried))
    said = derived(rules, "text", Random(seed), 20)
    assert other.search(msgspec.json.decode(f'"{said}"'))


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("^a|b$", ["ax", "xb", "a", "b"], ["xa", "bx", ""]),
        ("^(a*)*$", ["", "aaa"], ["b"]),
        ("^(a?|b*){2,3}c$", ["c", "abc", "bbbac"], ["ab"]),
        ("^(?<year>\\d{4})(?P<m>-\\d)?$", ["2024", "2024-1"], ["2024-"]),
        ("^\\u00e9\\x41\\u{1F600}\\t$", ["éA😀\t"], ["eA"]),
        ("^[\\w.-]+$", ["a.b-c"], ["a b"]),
        ("^[\\d-x]$", ["1", "-", "x"], ["a"]),
        ("^\\S\\D\\W$", ["aa "], [" aa", "a1 "]),
        ("^.$", ["é", "😀", "\0"], ["\n", "\u2028", ""]),
        ('^[^"\\\\]$', ["a", "\n"], ['"', "\\"]),
        ("^\\/\\-\\ $", ["/- "], [""]),
        ("^a{0}b$", ["b"], ["ab"]),
        ("^$", [""], ["a"]),
        ("^()*|()$", ["", "anything"], []),
        ("^]}$", ["]}"], ["]"]),
    ],
)
def test_patterns_of_the_subset(text: str, right: list[str], wrong: list[str]) -> None:
    node = pattern(text)
    rules = grammar(node)
    for tried in right:
        assert fits(node, tried)
        assert accepts(rules, "text", inner(tried))
    for tried in wrong:
        assert not fits(node, tried)
        assert not accepts(rules, "text", inner(tried))


@pytest.mark.parametrize(
    "text",
    [
        "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "(?i)a", "(?>a)", "(?P=x)", "(?#c)", "\\1", "(a)\\1", "\\k<x>", "\\bx",
        "\\B", "\\p{L}", "\\Aa\\Z", "\\cA", "a**", "a*+", "a{2}{3}", "*a", "+", "a|*", "?", "(a", "a)", "[a", "[]", "[^]",
        "[b-a]", "[a-\\d]", "[[:alpha:]]", "{", "a{x}", "a{,3}", "a{3,2}", "a{1001}", "a{0,99999999999}", "a^b", "a$b",
        "(^a)", "(a$)b", "^^a", "\\", "\\x4", "\\uD800", "\\u{110000}", "[^\\s\\S]", "(?<1a>b)", "\\01",
        "(" * 15 + ")" * 15, "(a{1000}){1000}", "((a{100}){100}){100}",
    ],
)  # fmt: skip
def test_what_lies_outside_is_refused_in_the_apis_words(text: str) -> None:
    with pytest.raises(UnsupportedPattern, match=r"^Unsupported regex feature in pattern field: ."):
        pattern(text)


def test_patterns_are_bounded() -> None:
    assert expanded(pattern("^" + "a" * (MAX_PATTERN - 1))) < MAX_PATTERN
    assert expanded(pattern(f"^(ab{{{MAX_COUNT}}}){{15}}$")) < MAX_EXPANDED
    with pytest.raises(TooComplex):
        pattern("a" * (MAX_PATTERN + 1))
    with pytest.raises(TooComplex):
        pattern("(" + "(a?b?c?d?)*" * 100 + ")*")
