"""Characters for which a model has no tokens: grammars of JSON spell them in escapes, and mean the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.clock import SystemClock
from antiphon.engine.grammar import Characters, Choice, Grammar, Node, Repeat, Sequence, Text, check, matches, shortest
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import builtin_vocabulary, byte_alphabet
from antiphon.plan.schema.cache import LoweredCache
from antiphon.plan.schema.effort import Effort
from antiphon.plan.schema.lowering import Lowered, lower
from antiphon.plan.schema.outside import Outside
from antiphon.plan.schema.writable import unwritable, writable
from random_schemas import COMPACT

#: SmolLM2's.
MISSING = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)}
PLANES = unwritable(MISSING)


def one(node: Node) -> Lowered:
    return Lowered({"root": node}, "root")


def root(lowered: Lowered) -> Node:
    return lowered.rules[lowered.root]


def without(*bytes_: int) -> frozenset[int]:
    letters = [byte_alphabet()[byte] for byte in bytes_]
    plain = builtin_vocabulary()
    tokens = tuple(token if token not in letters else f"unused{at}" for at, token in enumerate(plain.tokens))
    return Tokenizer(msgspec.structs.replace(plain, tokens=tokens)).missing_bytes


def test_a_tokenizer_knows_its_missing_bytes() -> None:
    assert Tokenizer(builtin_vocabulary()).missing_bytes == frozenset()
    assert without(0x04, 0xF1, 0xF2) == {0x04, 0xF1, 0xF2}


@pytest.mark.parametrize("byte", [0x7F, *range(0xC2, 0xF5)])
def test_the_characters_of_a_byte_are_all_of_those_that_begin_with_it(byte: int) -> None:
    ((low, high),) = unwritable({byte})
    for code in (low, high, (low + high) // 2):
        assert 0xD800 <= code <= 0xDFFF or chr(code).encode()[0] == byte
    for code in {low - 1, high + 1} - {0x110000}:
        assert 0xD800 <= code <= 0xDFFF or chr(code).encode()[0] != byte


def test_a_byte_inside_of_characters_takes_all_of_them() -> None:
    assert unwritable({0x9F, 0xF1}) == ((0x80, 0x10FFFF),)


def test_bytes_that_json_never_needs_cost_nothing() -> None:
    assert unwritable({0x04, 0x1D, 0xC0, 0xC1, 0xFF}) == ()
    lowered = one(Text('"\U00040000"'))
    assert writable(lowered, ()) is lowered


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.integers(0x3FFF0, 0xC0010).map(chr)))
def test_a_text_means_the_same_and_needs_no_missing_byte(text: str) -> None:
    value = {text: [text]}
    written = shortest(_grammar(writable(one(Text(msgspec.json.encode(value).decode())), PLANES)))
    assert msgspec.json.decode(written) == value
    assert not MISSING & set(written.encode())
    if not any(0x40000 <= ord(letter) <= 0xBFFFF for letter in text):
        assert written == msgspec.json.encode(value).decode()


def test_a_class_of_nothing_else_becomes_escapes() -> None:
    letters = Characters(((0x7FFFF, 0x80003),))
    grammar = _grammar(writable(one(Sequence((Text('"'), Repeat(letters, 2, 2), Text('"')))), PLANES))
    assert matches(grammar, '"\\ud9bf\\udfff\\ud9c0\\udc03"')
    assert not matches(grammar, '"\\ud9bf\\udfff\U00080003"')
    huge = root(writable(one(Characters(((0x40000, 0xBFFFF),))), PLANES))
    assert isinstance(huge, Choice)
    assert len(huge.options) == 16


@pytest.mark.parametrize("ranges", [((0x20, 0x10FFFF),), ((0x61, 0x61), (0x40000, 0x40010)), ((0x40000, 0xC0000),)])
def test_other_classes_stay(ranges: tuple[tuple[int, int], ...]) -> None:
    assert root(writable(one(Characters(ranges)), PLANES)) == Characters(ranges)


def test_schemas_are_lowered_for_a_model() -> None:
    name, value = "\U00040000é", "\U000b1234\U0001f600"
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: {"const": value}, "p": {"type": "string", "pattern": "^[\U00050000]{3}$"}},
        "required": [name, "p"],
        "additionalProperties": False,
    }
    cache, outside = LoweredCache(SystemClock()), Outside()
    efforts = [Effort(cache, outside, waits=False, unwritable=each) for each in (PLANES, (), PLANES)]
    one, other, again = (each.lower(schema, COMPACT, strict=True) for each in efforts)
    assert again is one
    assert other == lower(schema, COMPACT, strict=True)
    text = shortest(_grammar(one))
    assert text == '{"\\ud8c0\\udc00é":"\\uda84\\ude34\U0001f600","p":"' + "\\ud900\\udc00" * 3 + '"}'
    assert msgspec.json.decode(text) == msgspec.json.decode(shortest(_grammar(other)))


def _grammar(lowered: Lowered) -> Grammar:
    grammar = Grammar(lowered.rules, lowered.root)
    check(grammar)
    return grammar
