"""Where two requests part: to the block and the character, and never otherwise than their keys say."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from antiphon.core.records import Scope
from antiphon.plan.caching.advice import Measured, advice
from antiphon.plan.caching.explain import Explanation, Parting, Side, difference, explain
from antiphon.plan.caching.positions import marks
from antiphon.plan.caching.prefixes import Caching
from antiphon.wire.parse import parse_messages

CACHING = Caching(scope=Scope("o", "w"), secret=b"s" * 32, model="m", served="m", minimum=1)
EPHEMERAL = {"type": "ephemeral"}
BASE: dict[str, Any] = {
    "model": "m",
    "max_tokens": 1,
    "tools": [
        {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}},
        {"type": "web_search_20250305", "name": "web_search"},
        {"name": "write", "input_schema": {"type": "object"}, "input_examples": [{"n": 1, "list": [1, "two"]}]},
    ],
    "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Today is Monday.\nIt rains."}],
    "messages": [
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "sea", "how": {"far": 1, "long": 2}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "waves"}]},
                {"type": "text", "text": "And now?"},
            ],
        },
    ],
}


def changed(**fields: Any) -> dict[str, Any]:
    return copy.deepcopy(BASE) | fields


def side(body: dict[str, Any], caching: Caching = CACHING) -> Side:
    return Side.of(parse_messages(json.dumps(body).encode()).request, caching)


def compared(a: dict[str, Any], b: dict[str, Any]) -> Explanation:
    return explain(side(a), side(b))


def parting(a: dict[str, Any], b: dict[str, Any]) -> Parting:
    found = compared(a, b).parting
    assert found is not None
    return found


def with_system(text: str) -> dict[str, Any]:
    body = changed()
    body["system"][1]["text"] = text
    return body


def test_equal_requests_do_not_part() -> None:
    found = compared(BASE, changed())
    assert found.parting is None
    assert found.parameters == ()
    assert {row.state for row in found.rows} == {"same"}


def test_marks_and_the_two_ways_of_writing_a_text_are_no_difference() -> None:
    a = changed(system="Be brief.", cache_control=EPHEMERAL)
    b = changed(system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}])
    b["messages"][2]["content"][0]["content"][0]["cache_control"] = EPHEMERAL
    assert compared(a, b).parting is None


def test_a_conversation_that_goes_on_does_not_part() -> None:
    longer = changed()
    longer["messages"] += [{"role": "assistant", "content": "Rain."}, {"role": "user", "content": "Still?"}]
    found = compared(BASE, longer)
    assert found.parting is None
    assert [row.path for row in found.rows if row.state == "only_b"] == ["messages.3.content.0", "messages.4.content.0"]


def first_that_differs(a: str, b: str) -> int:
    both = enumerate(zip(a, b, strict=False))
    return next((place for place, (left, right) in both if left != right), min(len(a), len(b)))


@given(st.text(), st.text(), st.text(), st.text())
def test_the_character_that_is_named_is_the_first_that_differs(before: str, a: str, b: str, behind: str) -> None:
    left, right = before + a + behind, before + b + behind
    assume(left != right)
    found = parting(with_system(left), with_system(right))
    assert (found.level, found.cause, found.path_a) == ("system", "block", "system.1")
    assert found.difference is not None
    assert found.difference.steps == ("text",)
    assert found.difference.character == first_that_differs(left, right)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.0, 1.0, 2.5]) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=8,
)


@given(_json, _json)
def test_values_differ_where_what_is_written_of_them_does(a: Any, b: Any) -> None:
    found = difference(a, b)
    assert (found is None) == (json.dumps(a) == json.dumps(b))
    if found is None:
        return
    for step in found.steps[:-1] if found.kind == "missing" else found.steps:
        a, b = a[step], b[step]
    match found.kind:
        case "text":
            assert (a, b) == (found.a, found.b)
        case "order":
            left, right = next((left, right) for left, right in zip(a, b, strict=False) if left != right)
            assert left in b
            assert right in a
        case "missing":
            assert (found.a is None) != (found.b is None)
        case "value":
            assert json.dumps(a) != json.dumps(b)


#: Edits of a request, by name; any two of them make a pair.
EDITS: dict[str, Any] = {
    "nothing": {},
    "model": {"model": "n"},
    "speed": {"speed": "fast"},
    "choice": {"tool_choice": {"type": "any"}},
    "default choice": {"tool_choice": {"type": "auto"}},
    "effort": {"output_config": {"effort": "low"}},
    "default effort": {"output_config": {"effort": "high"}},
    "thinking": {"thinking": {"type": "adaptive"}},
    "no thinking": {"thinking": {"type": "disabled"}},
    "format": {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    "no tools": {"tools": []},
    "no search": {"tools": [BASE["tools"][0], BASE["tools"][2]]},
    "one tool": {"tools": BASE["tools"][:1]},
    "search first": {"tools": [BASE["tools"][1], BASE["tools"][0], BASE["tools"][2]]},
    "other order": {"tools": BASE["tools"][::-1]},
    "no system": {"system": None},
    "short system": {"system": "Be brief."},
    "other system": {"system": "Be long."},
    "attribution": {"system": [{"type": "text", "text": "x-anthropic-billing-header: x"}, *BASE["system"]]},
    "one message": {"messages": BASE["messages"][:1]},
    "two messages": {"messages": BASE["messages"][:2]},
    "other role": {"messages": [BASE["messages"][0] | {"role": "assistant"}, *BASE["messages"][1:]]},
    "split message": {
        "messages": [
            *BASE["messages"][:2],
            {"role": "user", "content": BASE["messages"][2]["content"][:1]},
            {"role": "user", "content": BASE["messages"][2]["content"][1:]},
        ]
    },
    "image": {
        "messages": [
            *BASE["messages"],
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
                ],
            },
        ]
    },
}


def edited(name: str) -> Side:
    fields = EDITS[name]
    return side(changed(**fields), CACHING if "model" not in fields else _of_model(fields["model"]))


def _of_model(model: str) -> Caching:
    return Caching(scope=CACHING.scope, secret=CACHING.secret, model=model, served="m", minimum=1)


@pytest.mark.parametrize("first", EDITS)
def test_it_says_what_the_keys_say(first: str) -> None:
    a = edited(first)
    for second in EDITS:
        b = edited(second)
        found = explain(a, b)
        keys_a = [a.keyed.keys[place] for place in a.shared]
        keys_b = {b.keyed.keys[place] for place in b.shared}
        common = next((place for place, key in enumerate(keys_a) if key not in keys_b), len(keys_a))
        goes_on = common == min(len(a.shared), len(b.shared)) and a.keyed.root == b.keyed.root
        assert (found.parting is None) == goes_on, (first, second)
        own = [row for row in found.rows if row.place_a in a.shared or row.place_b in b.shared]
        assert sum(row.state == "same" for row in own) == common
        assert sorted(row.place_a for row in found.rows if row.place_a is not None) == list(range(len(a.found)))
        assert sorted(row.place_b for row in found.rows if row.place_b is not None) == list(range(len(b.found)))
        if found.parting is None:
            continue
        assert found.parting.same == common
        if found.parting.cause == "parameters":
            assert found.parting.level in [each.level for each in found.parameters]
        elif found.parting.cause in ("block", "message"):
            assert found.parting.difference is not None


@pytest.mark.parametrize(
    ("edit", "names", "level"),
    [
        ("model", ["model"], None),
        ("speed", ["speed"], None),
        ("choice", ["tool_choice"], "messages"),
        ("effort", ["output_config.effort"], "messages"),
        ("thinking", ["thinking.type"], "messages"),
        ("format", ["output_config.format"], "messages"),
        ("no search", ["server tools"], "system"),
        ("default choice", [], ""),
        ("default effort", [], ""),
        ("no thinking", [], ""),
    ],
)
def test_parameters_are_named_with_what_they_invalidate(edit: str, names: list[str], level: str | None) -> None:
    """Contract messages-and-inference 7.5."""
    found = explain(edited("nothing"), edited(edit))
    assert [each.name for each in found.parameters] == names
    if not names:
        assert found.parting is None
        return
    assert found.parting is not None
    assert (found.parting.cause, found.parting.level) == ("parameters", level)
    assert {each.level for each in found.parameters} == {level}


def test_the_same_fields_in_another_order() -> None:
    other = changed()
    other["messages"][1]["content"][1]["input"] = {"at": "sea", "how": {"long": 2, "far": 1}}
    found = parting(BASE, other)
    assert (found.path_a, found.level) == ("messages.1.content.1", "messages")
    assert found.difference is not None
    assert (found.difference.kind, found.difference.steps) == ("order", ("input", "how"))


def test_a_role_is_named_with_its_message() -> None:
    found = explain(edited("nothing"), edited("other role")).parting
    assert found is not None
    assert (found.cause, found.path_a) == ("message", "messages.0.content.0")
    assert found.difference is not None
    assert found.difference.steps == ("role",)


def measured(body: dict[str, Any], *, each: int = 1000, minimum: int = 1) -> Measured:
    """A request whose every position has so many tokens."""
    caching = Caching(scope=CACHING.scope, secret=CACHING.secret, model="m", served="m", minimum=minimum)
    made = side(body, caching)
    ends = tuple(each * (place + 1) for place in range(len(made.found)))
    return Measured(made, ends, tuple(marks(made.request, made.found)))


def advised(a: Measured, b: Measured) -> str:
    return "\n".join(advice(a, b, explain(a.side, b.side)))


def of_system(text: str, *, mark: bool = True) -> dict[str, Any]:
    body = with_system(text)
    if mark:
        body["system"][1]["cache_control"] = EPHEMERAL
    return body


@pytest.mark.parametrize(
    ("a", "b", "is_time"),
    [
        ("It is Monday.", "It is Tuesday.", True),
        ("At 2026-11-23T08:00:01Z.", "At 2026-11-23T08:02:44Z.", True),
        ("It is 1 May 2026", "It is 2 May 2026", True),
        ("Be kind.", "Be quick.", False),
        ("Mondays are fine", "Mondrian is fine", False),
    ],
)
def test_a_time_in_the_system_prompt_is_recognised(a: str, b: str, is_time: bool) -> None:
    told = advised(measured(of_system(a)), measured(of_system(b)))
    assert ("a date, a time or a counter" in told) is is_time


def test_an_id_in_the_system_prompt_is_recognised() -> None:
    told = advised(measured(of_system("Session 7f3a9c21d0")), measured(of_system("Session 91bb04e7aa")))
    assert "an id that is made anew" in told


def test_a_date_behind_the_last_breakpoint_is_as_it_should_be() -> None:
    a, b = changed(), changed()
    for body, day in ((a, "Monday"), (b, "Tuesday")):
        body["system"][1]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
        body["messages"][2]["content"][1]["text"] = day
    assert advised(measured(a), measured(b)) == (
        "A breakpoint in A at messages.2.content.0 would let B read 9,000 tokens instead of 5,000."
    )


def test_without_a_breakpoint_before_the_divergence_it_says_where_one_would_help() -> None:
    told = advised(measured(of_system("Be kind.")), measured(of_system("Be quick.")))
    assert "No breakpoint stands before the divergence: A's first is at system.1" in told
    assert "Put one at system.0, where 4,000 tokens are the same" in told


def test_without_marks_it_says_that_there_are_none() -> None:
    marked, plain = of_system("x"), of_system("x", mark=False)
    assert "A has no `cache_control`" in advised(measured(plain), measured(marked))
    assert "B has no `cache_control`" in advised(measured(marked), measured(plain))


def test_a_prefix_that_is_too_short_is_told_with_both_numbers() -> None:
    told = advised(measured(of_system("x"), each=10, minimum=1024), measured(of_system("x"), each=10, minimum=1024))
    assert told == "A's prefix up to its last breakpoint, system.1, has 50 tokens; this model caches none under 1,024."


def test_what_is_common_but_too_short_is_told_with_both_numbers() -> None:
    a, b = of_system("Be kind."), of_system("Be quick.")
    told = advised(measured(a, each=500, minimum=2048), measured(b, each=500, minimum=2048))
    assert "Both begin with the same 2,000 tokens (up to system.0); this model caches none under 2,048" in told


@pytest.mark.parametrize(("blocks", "reached"), [(19, True), (20, False)])
def test_an_entry_that_is_too_far_back_is_told(blocks: int, reached: bool) -> None:
    """Contract messages-and-inference 7.2: 20 positions, the breakpoint's own among them."""
    a = of_system("x")
    a["messages"] = [{"role": "user", "content": "Hello"}]
    b = of_system("x", mark=False) | {"cache_control": EPHEMERAL}
    b["messages"] = [{"role": "user", "content": [{"type": "text", "text": "Hello"}] * blocks}]
    told = advised(measured(a), measured(b))
    assert ("positions before B's next breakpoint" in told) is not reached


def test_an_entry_behind_all_breakpoints_is_told() -> None:
    b = of_system("x", mark=False)
    b["system"][0]["cache_control"] = EPHEMERAL
    assert "behind all of B's breakpoints" in advised(measured(of_system("x")), measured(b))


def test_five_minutes_are_told_and_another_ttl_does_not_hinder() -> None:
    hour = of_system("x")
    hour["system"][1]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    told = advised(measured(of_system("x")), measured(hour))
    assert "it is read all the same, and keeps its 5m" in told
    assert "within 5 minutes" in told
    assert advised(measured(hour), measured(hour)) == ""


def test_parameters_that_differ_are_told_first() -> None:
    a = of_system("x") | {"cache_control": EPHEMERAL}
    told = advised(measured(a), measured(a | {"tool_choice": {"type": "any"}}))
    assert told.startswith("tool_choice differs, so messages cannot be read: keep it the same in both requests.")
