"""A call is written in one way: what the plan writes while it is made is what the next request's prompt says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.dialect import dialect_named
from antiphon.dialect.base import Turn
from antiphon.dialect.client_tools import shown_name
from antiphon.dialect.json_text import json_text
from antiphon.wire.blocks import ToolUseBlock
from antiphon.wire.parse import parse_messages

DIALECTS = ["hermes", "plain"]
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_NAMES = st.from_regex(r"\A[a-zA-Z0-9_-]{1,128}\Z")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


def turns(dialect: str, *messages: tuple[str, Any], **fields: Any) -> list[Turn]:
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": r, "content": c} for r, c in messages], **fields}
    return dialect_named(dialect).turns(parse_messages(json.dumps(body).encode()).request)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(deadline=None)
@given(name=_NAMES, toolset=st.sampled_from([None, "browser"]), value=st.dictionaries(_TEXT, _JSON, max_size=4))
def test_a_call_in_parts_is_a_call_rendered(
    dialect: str, name: str, toolset: str | None, value: dict[str, Any]
) -> None:
    family = dialect_named(dialect)
    form = family.form
    pieces = family.call(ToolUseBlock(id="t", name=name, input=value, toolset_name=toolset), "messages.1.content.0")
    written = [form.marker, form.before_name, shown_name(name, toolset), form.before_input, json_text(value)]
    assert "".join(piece.text for piece in pieces) == "".join([*written, form.after_input, form.end])
    assert all(piece.path == "messages.1.content.0" for piece in pieces)
    assert [piece.text for piece in pieces if piece.trusted] == [mark for mark in (form.marker, form.end) if mark]
    body = "".join(piece.text for piece in pieces if not piece.trusted)
    assert json.loads(body) == {"name": shown_name(name, toolset), "arguments": value}


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(deadline=None)
@given(_TEXT)
def test_a_past_calls_name_stays_within_its_quotes(dialect: str, name: str) -> None:
    pieces = dialect_named(dialect).call(ToolUseBlock(id="t", name=name, input={}), "p")
    assert json.loads("".join(piece.text for piece in pieces if not piece.trusted))["name"] == name


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_gap_stands_between_a_text_and_a_call_and_between_calls(dialect: str) -> None:
    family = dialect_named(dialect)
    form = family.form
    calls = [{"type": "tool_use", "id": each, "name": "look", "input": {"at": each}} for each in "ab"]
    text = {"type": "text", "text": "I look."}
    answer = turns(dialect, ("user", "hi"), ("assistant", [text, *calls, text]))[-1].text
    first, second = (
        f'{form.marker}{form.before_name}look{form.before_input}{{"at": "{each}"}}{form.after_input}{form.end}'
        for each in "ab"
    )
    assert answer == f"I look.{form.gap}{first}{form.gap}{second}{form.gap}I look."
    assert turns(dialect, ("user", "hi"), ("assistant", calls))[-1].text == f"{first}{form.gap}{second}"


def test_what_begins_a_call_is_a_token_of_the_family() -> None:
    hermes, plain = dialect_named("hermes").form, dialect_named("plain").form
    assert hermes.stop == "<tool_call>" and hermes.marker.startswith(hermes.stop)
    assert plain.stop == "" and plain.end == ""


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"größe": {"type": "integer"}}, "required": ["größe"]}
FORMAT: dict[str, Any] = {"type": "json_schema", "schema": SCHEMA}
LOOK: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fields", [{"output_config": {"format": FORMAT}}, {"output_format": FORMAT}])
def test_the_schema_of_an_answer_ends_the_system_turn(dialect: str, fields: dict[str, Any]) -> None:
    plainly = turns(dialect, ("user", "hi"), system="Be kind.", tools=[LOOK])[0]
    asked = turns(dialect, ("user", "hi"), system="Be kind.", tools=[LOOK], **fields)[0]
    assert asked.role == "system" and asked.text.startswith(plainly.text + "\n\n")
    assert json.dumps(SCHEMA, ensure_ascii=False) in asked.text.removeprefix(plainly.text)
    assert not any(piece.trusted for piece in asked.pieces if "größe" in piece.text)


def test_the_schema_of_an_answer_is_a_system_turn_of_its_own_where_there_is_none() -> None:
    roles = [turn.role for turn in turns("hermes", ("user", "hi"), output_config={"format": FORMAT})]
    assert roles == ["system", "user"]
    assert [turn.role for turn in turns("hermes", ("user", "hi"), output_config={"effort": "low"})] == ["user"]
