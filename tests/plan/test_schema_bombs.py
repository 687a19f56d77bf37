"""Schemas made to be expensive: refused, or lowered to something small, after a bounded amount of counted work."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.core.errors import InvalidRequest
from antiphon.engine.grammar import Grammar
from antiphon.engine.grammar import check as check_grammar
from antiphon.plan.schema import lowering
from antiphon.plan.schema.documented import check
from antiphon.plan.schema.examples import check_examples
from antiphon.plan.schema.lowering import MAX_SIZE, any_object, lower
from antiphon.plan.schema.members import size
from antiphon.plan.schema.merging import Budget
from random_schemas import TEMPLATE


def closed(**properties: Any) -> Any:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def chain(count: int, link: Any, last: Any) -> Any:
    """Definitions that each refer to the next, by whatever `link` makes of a reference to it."""
    links = {f"d{number}": link({"$ref": f"#/$defs/d{number + 1}"}) for number in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{count}": last}}


def nested(levels: int, link: Any) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = link(schema)
    return schema


STRING = {"type": "string"}
#: Name, and whether a strict tool may have it all the same.
BOMBS: dict[str, tuple[Any, bool]] = {
    "doubling properties": (chain(40, lambda ref: closed(a=ref, b=ref), STRING), False),
    "doubling options": (chain(40, lambda ref: {"anyOf": [ref, closed(a=ref)]}, STRING), False),
    "doubling parts": (chain(40, lambda ref: {"allOf": [ref, ref]}, STRING), False),
    "combinations": ({"allOf": [{"anyOf": [closed(**{f"a{i}{j}": STRING}) for j in range(9)]} for i in range(9)]}, False),
    "many parts": ({"allOf": [closed(**{f"p{i}": STRING}) for i in range(3_000)]}, False),
    "many options in parts": ({"allOf": [{"anyOf": [STRING]} for _ in range(6_000)]}, False),
    "a long chain": (chain(5_000, lambda ref: {"type": "array", "items": ref}, STRING), False),
    "a long plain chain": (chain(5_000, lambda ref: ref, STRING), False),
    "deep arrays": (nested(10**5, lambda schema: {"type": "array", "items": schema}), False),
    "deep objects": (nested(10**5, lambda schema: closed(a=schema)), False),
    "deep choices": (nested(10**5, lambda schema: {"anyOf": [schema]}), False),
    "a deep value": ({"const": nested(10**5, lambda value: [value])}, False),
    "a large enum": ({"enum": list(range(10**6))}, False),
    "a long text": ({"enum": ["x" * 10**7]}, False),
    "many properties": ({**closed(), "properties": {str(number): STRING for number in range(10**6)}}, False),
    "many required": ({**closed(a=STRING), "required": ["a"] * 10**6}, False),
    "a huge repeat": ({"type": "string", "pattern": "^(a{1000}){1000}$"}, False),
    "a long pattern": ({"type": "string", "pattern": "(a|b)*" * 10**5}, False),
    "deep groups": ({"type": "string", "pattern": "(" * 10**5}, False),
    "much that may be empty": ({"type": "string", "pattern": "(" + "(a?b?c?)*" * 150 + ")*"}, False),
    "many large patterns": (closed(**{f"p{i}": {"type": "string", "pattern": "(a{40}|b){25}" * 60 + str(i)} for i in range(99)}), False),
    "a slow pattern": ({"type": "string", "pattern": "^(a+)+$"}, True),
    "a slow match": ({"enum": ["a" * 5_000], "pattern": "(a*)*(a*)*(a*)*b"}, False),
    "itself": ({"$ref": "#"}, False),
    "itself as a part": ({"allOf": [{"$ref": "#"}]}, False),
    "itself as an option": ({"anyOf": [{"$ref": "#"}, STRING]}, False),
    "itself for ever": (closed(a={"$ref": "#"}), False),
    "each other": ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}, False),
    "a reference outside": ({"$ref": "http://127.0.0.1:9/schema"}, False),
    "a file": ({"$ref": "file:///etc/passwd"}, False),
}  # fmt: skip
SMALL = 1_000


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """All work that is counted while lowering."""
    counted: list[int] = []

    class Counting(Budget):
        def spend(self, work: int = 1) -> None:
            counted.append(work)
            super().spend(work)

    monkeypatch.setattr(lowering, "Budget", Counting)
    return counted


@pytest.mark.parametrize("name", BOMBS)
def test_a_strict_tool_may_not_have_it(name: str, spent: list[int]) -> None:
    schema, taken = BOMBS[name]
    if taken:
        check(schema, "schema")
        assert lower(schema, TEMPLATE, strict=True).rules
    else:
        with pytest.raises(InvalidRequest):
            check(schema, "schema")
            lower(schema, TEMPLATE, strict=True, path="schema")
    assert len(spent) <= 20_001


@pytest.mark.parametrize("name", BOMBS)
def test_another_tool_gets_a_grammar_of_bounded_size(name: str, spent: list[int]) -> None:
    lowered = lower(BOMBS[name][0], TEMPLATE, strict=False)
    assert sum(map(size, lowered.rules.values())) <= MAX_SIZE
    check_grammar(Grammar(lowered.rules, lowered.root))
    assert len(spent) <= 20_001


@pytest.mark.parametrize("name", BOMBS)
def test_examples_under_it_are_checked_or_refused(name: str) -> None:
    deep: Any = nested(60, lambda value: {"a": value, "b": value})
    try:
        check_examples(BOMBS[name][0], [deep, "aaaa" * 100 + "!"], "tools.0.custom")
    except InvalidRequest as refusal:
        assert str(refusal.path).startswith("tools.0.custom.input_")


def test_only_the_expensive_pattern_is_left_out() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a{1000}){1000}$"}, "b": {}}}
    assert lower(schema, TEMPLATE, strict=False).rules != any_object(TEMPLATE).rules
