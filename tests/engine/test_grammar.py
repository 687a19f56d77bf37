"""Lowered grammars: what is refused, the shortest text, and the text that each library reads."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from antiphon.core.errors import EngineFailed
from antiphon.engine import grammar as g
from antiphon.engine.contract import Sampling
from antiphon.engine.frames import Generate, decode_command, pack
from antiphon.engine.grammar import (
    Characters,
    Choice,
    Grammar,
    Node,
    Reference,
    Repeat,
    Sequence,
    Text,
    allowed,
    check,
    longest,
    matches,
    shortest,
)
from antiphon.engine.grammar_text import ebnf, gbnf
from engine_contract.grammars import (
    AWKWARD,
    COLOURS,
    DEEP,
    LETTER,
    PERSON,
    accepts,
    json_object,
    json_string,
    random_grammar,
    random_text,
)
from engine_contract.written_grammar import read

seeds = st.integers(0, 10**6)
writers = pytest.mark.parametrize("write", [gbnf, ebnf])


def one(node: Node, **others: Node) -> Grammar:
    return Grammar({"root": node, **others}, "root")


def chosen(seed: int) -> Grammar:
    """A random grammar that passes."""
    grammar = random_grammar(seed)
    try:
        check(grammar)
    except EngineFailed:
        assume(False)
    return grammar


@pytest.mark.parametrize(
    ("grammar", "why"),
    [
        (Grammar({}, "root"), "root is no rule"),
        (one(Reference("nobody")), "unknown"),
        (one(Reference("root")), "never ends"),
        (one(Sequence((Text("("), Reference("root")))), "never ends"),
        (one(Choice((Sequence((Reference("root"), Text("a"))), Text("b")))), "comes back to itself"),
        (one(Choice((Text("b"), Sequence((Repeat(LETTER, 0, 1), Reference("root")))))), "comes back to itself"),
        (one(Reference("a"), a=Choice((Text("x"), Reference("b"))), b=Reference("a")), "comes back to itself"),
        (one(Repeat(Text(""), 0, None)), "may be empty"),
        (one(Repeat(Repeat(LETTER, 0, 3), 0, 9)), "may be empty"),
        (one(Repeat(LETTER, 3, 2)), "repeats too often"),
        (one(Repeat(LETTER, -1, 2)), "repeats too often"),
        (one(Repeat(LETTER, 0, g.MAX_TIMES + 1)), "repeats too often"),
        (one(Repeat(Repeat(LETTER, 5000, 5000), 5000, 5000)), "too long a text"),
        (one(Choice(())), "choice of nothing"),
        (one(Characters(())), "impossible range"),
        (one(Characters(((5, 3),))), "impossible range"),
        (one(Characters(((0, 0x10FFFF),), negated=True)), "impossible range"),
        (one(Characters(((0xD800, 0xDFFF),))), "impossible range"),
        (one(Text("a\0")), "no text can"),
        (one(Text("\ud800")), "no text can"),
        (one(Sequence(tuple([Text("a")] * g.MAX_SIZE))), "too large"),
    ],
)
def test_what_cannot_be_had_everywhere_is_refused(grammar: Grammar, why: str) -> None:
    with pytest.raises(EngineFailed) as refused:
        check(grammar)
    assert why in refused.value.reason
    assert refused.value.retry_helps is False


def test_nesting_is_bounded() -> None:
    node: Node = LETTER
    for _ in range(g.MAX_DEPTH):
        node = Sequence((node, Text("")))
    check(one(node))
    with pytest.raises(EngineFailed, match="model stopped") as refused:
        check(one(Sequence((node,))))
    assert "nested" in refused.value.reason


def test_what_is_harmless_passes() -> None:
    for grammar in (PERSON, COLOURS, DEEP, one(Text("")), one(Sequence(())), one(Repeat(Text(""), 0, 1))):
        check(grammar)
    many = {f"r{n}": Sequence((Text("a"), Reference(f"r{n + 1}"))) for n in range(5000)}
    check(Grammar({**many, "r5000": Text("b")}, "r0"))


def test_characters_come_to_ranges_of_what_a_text_can_hold() -> None:
    assert allowed(Characters(((98, 99), (97, 97), (99, 104)))) == ((97, 104),)
    assert allowed(Characters(((0, 0x10FFFF),))) == ((1, 0xD7FF), (0xE000, 0x10FFFF))
    assert allowed(Characters(((0, 0x1F), (34, 34)), negated=True)) == ((32, 33), (35, 0xD7FF), (0xE000, 0x10FFFF))


def test_the_shortest_text_is_exact() -> None:
    assert shortest(PERSON) == '{"name": "!", "age": 0, "colour": "red", "marks": [0]}'
    assert shortest(DEEP) == "[" * 20 + "1" + "]" * 20
    assert shortest(one(Choice((Text("long"), Text("no"), Text("so"))))) == "no"
    assert shortest(one(Repeat(Characters(((0x61, 0x7A),), negated=True), 2, None))) == "!!"


@given(seed=seeds)
@settings(deadline=None, max_examples=50)
def test_the_shortest_text_is_the_grammars_own(seed: int) -> None:
    grammar = chosen(seed)
    text = shortest(grammar)
    assume(len(text) < 60)
    assert accepts(grammar, text)
    assert len(text) <= len(random_text(grammar, seed))


@given(seed=seeds, other=seeds, place=seeds, letter=st.sampled_from(AWKWARD + "abc01."))
@settings(deadline=None, max_examples=30)
def test_two_matchers_agree(seed: int, other: int, place: int, letter: str) -> None:
    grammar = chosen(seed)
    text = random_text(grammar, other)
    assume(len(text) < 60)
    assert matches(grammar, text)
    assert accepts(grammar, text)
    at = place % (len(text) + 1)
    for mutated in (text[:at] + letter + text[at:], text[:at] + letter + text[at + 1 :], text[:at] + text[at + 1 :]):
        assert matches(grammar, mutated) == accepts(grammar, mutated)


def test_the_longest_stretch_is_found() -> None:
    grammar = one(Repeat(Choice((Text("a"), Text("bb"))), 1, 3))
    assert longest(grammar, "x abbaab", 2) == 6
    assert longest(grammar, "x abbaab", 1) is None
    assert longest(one(Text("")), "x", 1) == 1


@writers
@given(seed=seeds, other=seeds, place=seeds, letter=st.sampled_from(AWKWARD + "abc01."))
@settings(deadline=None, max_examples=30)
def test_what_is_written_says_the_same(
    write: Callable[[Grammar], str], seed: int, other: int, place: int, letter: str
) -> None:
    grammar = chosen(seed)
    written = read(write(grammar))
    text = random_text(grammar, other)
    assume(len(text) < 60)
    assert matches(written, text)
    at = place % (len(text) + 1)
    for mutated in (text[:at] + letter + text[at:], text[:at] + letter + text[at + 1 :], text[:at] + text[at + 1 :]):
        assert matches(written, mutated) == accepts(grammar, mutated)


@writers
@pytest.mark.parametrize(
    ("least", "most"),
    [(0, 16), (0, 17), (1, 1), (3, 40), (17, 17), (100, 100), (0, 299), (0, 300), (5, 1000), (40, None)],
)
def test_bounds_are_kept_however_they_are_written(
    write: Callable[[Grammar], str], least: int, most: int | None
) -> None:
    written = read(write(one(Sequence((Repeat(Choice((Text("a"), Text("bb"))), least, most), Text("."))))))
    bounds = {0, 1, least - 1, least, least + 1, 100}
    bounds |= set() if most is None else {255, 256, most - 1, most, most + 1}
    for times in bounds - {-1}:
        inside = least <= times and (most is None or times <= most)
        assert matches(written, "a" * times + ".") == inside, times
        assert matches(written, "a" * (times // 2) + "bb" * (times - times // 2) + ".") == inside, times


@writers
def test_no_long_bound_is_written_out(write: Callable[[Grammar], str]) -> None:
    text = write(one(json_object(*((f"p{n}", json_string(0, 10_000)) for n in range(200)))))
    assert len(text) < 40_000
    assert max(int(count) for count in re.findall(r"(\d+)\}", text)) <= 16


@writers
@pytest.mark.parametrize("after", ["d", "F", "0", "z", "é", '"', ""])
def test_all_of_latin_1_is_written_as_it_is_meant(write: Callable[[Grammar], str], after: str) -> None:
    for before in map(chr, range(1, 256)):
        text = f"{before}{after}{before}{after}M{before}"
        for node in (Text(text), Repeat(Text(text), 2, 2), Choice((Text(text), Text(text))), Sequence((Text(text),))):
            times = 2 if isinstance(node, Repeat) else 1
            assert matches(read(write(one(node))), text * times)


@pytest.mark.parametrize("letter", [chr(code) for code in (*range(1, 0x20), *range(0x7F, 0x100))])
def test_nothing_that_is_written_as_hex_digits_stands_before_one(letter: str) -> None:
    """OpenVINO has xgrammar write `\\xE9` for what we wrote, and read all hex digits behind it."""
    code = ord(letter)
    digits = tuple((ord(digit), ord(digit)) for digit in "09afAF")
    nodes: list[Node] = [Text(f"M{letter}{digit}{letter}{digit}z") for digit in "09afAF"]
    nodes += [Characters(((code, code), *digits)), Characters(((1, 4), (0x30, 0x39), (code, 0x10FFFF)))]
    for node in nodes:
        text = ebnf(one(node))
        assert not re.search(r"\\u00(?:[01][0-9A-F]|7F|[8-F][0-9A-F])[0-9A-Fa-f]", text), text
        assert all(matches(read(text), each) for each in _texts(node))


def _texts(node: Node) -> list[str]:
    """What a text or class allows, or some of it."""
    if isinstance(node, Text):
        return [node.text]
    return [chr(end) for bounds in allowed(node) for end in bounds] if isinstance(node, Characters) else []


def test_a_grammar_travels_in_a_frame() -> None:
    command = Generate(1, 0, [1, 2], 5, Sampling(), (), reuse=True, grammar=PERSON, logprobs=True)
    assert decode_command(pack(command)[4:]) == command
    deep: Node = LETTER
    for _ in range(g.MAX_DEPTH):
        deep = Sequence((deep,))
    command = msgspec.structs.replace(command, grammar=one(deep))
    assert decode_command(pack(command)[4:]) == command
