"""Structured outputs through the official SDK, on the scripted engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import jsonschema_rs
import pytest
from pydantic import BaseModel

from running import Running, text_of

ASK: Any = [{"role": "user", "content": "Describe it."}]
MODEL: Any = "claude-opus-5-5"
Start = Callable[..., Running]

SCHEMA: Any = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "size": {"enum": ["small", "large"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "size"],
    "additionalProperties": False,
}
FORMAT: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}


class Address(BaseModel):
    street: str
    number: int


class Person(BaseModel):
    name: str
    address: Address
    nick: str | None


@pytest.mark.parametrize("streamed", [False, True])
def test_the_answer_fits_whatever_the_model_says(scripted: Start, streamed: bool) -> None:
    client = scripted("rules: [{text: Certainly! Here it is.}]").client()
    asked: Any = {"model": MODEL, "max_tokens": 200, "messages": ASK, "output_config": FORMAT}
    if streamed:
        with client.messages.stream(**asked) as stream:
            message: Any = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    assert message.stop_reason == "end_turn"
    assert [block.type for block in message.content] == ["text"]
    jsonschema_rs.validate(SCHEMA, json.loads(text_of(message)))


def test_an_answer_that_fits_is_the_models_own(scripted: Start) -> None:
    said = '{"name":"box","size":"large","tags":["a","b"]}'
    client = scripted(f"rules: [{{text: '{said}'}}]").client()
    message = client.messages.create(model=MODEL, max_tokens=200, messages=ASK, output_config=FORMAT)
    assert text_of(message) == said


def test_the_old_place_of_the_format_is_read_too(scripted: Start) -> None:
    client = scripted("rules: [{text: Hm.}]").client()
    message = client.messages.create(
        model=MODEL, max_tokens=200, messages=ASK, extra_body={"output_format": FORMAT["format"]},
        extra_headers={"anthropic-beta": "structured-outputs-2025-11-13"},
    )  # fmt: skip
    jsonschema_rs.validate(SCHEMA, json.loads(text_of(message)))


def test_the_sdks_parse_with_nested_models(scripted: Start) -> None:
    said = '{"name":"Ann","address":{"street":"Elm","number":3},"nick":null}'
    client = scripted(f"rules: [{{text: '{said}'}}]").client()
    parsed = client.messages.parse(model=MODEL, max_tokens=200, messages=ASK, output_format=Person)
    assert parsed.parsed_output == Person(name="Ann", address=Address(street="Elm", number=3), nick=None)


def test_it_is_cut_by_max_tokens(scripted: Start) -> None:
    said = '{"name":"a b c d e f","size":"large"}'
    client = scripted(f"rules: [{{text: '{said}'}}]").client()
    message = client.messages.create(model=MODEL, max_tokens=3, messages=ASK, output_config=FORMAT)
    assert message.stop_reason == "max_tokens"
    assert said.startswith(text_of(message))


def test_with_tools_the_schema_binds_the_answer_and_not_the_call(scripted: Start) -> None:
    script = """
rules:
  - {match: "it is small", text: Well then.}
  - {calls: [{name: measure, input: {}}]}
"""
    tool: Any = {"name": "measure", "input_schema": {"type": "object", "properties": {}}}
    client = scripted(script).client()
    asked: Any = {"model": MODEL, "max_tokens": 200, "output_config": FORMAT, "tools": [tool]}
    first: Any = client.messages.create(messages=ASK, **asked)
    assert (first.stop_reason, first.content[0].type) == ("tool_use", "tool_use")
    result: Any = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "it is small"}
    said: Any = [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    last = client.messages.create(messages=[*ASK, *said], **asked)
    jsonschema_rs.validate(SCHEMA, json.loads(text_of(last)))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"additionalProperties": True}, "additionalProperties"),
        ({"properties": {"name": {"type": "string", "minLength": 3}}, "required": []}, "minLength"),
        ({"properties": {"name": {"$ref": "#"}}, "required": []}, "ecursive"),
        ({"properties": {"name": {"$ref": "https://example.com/x"}}, "required": []}, "ref"),
    ],
)
def test_what_is_outside_the_subset_is_refused(scripted: Start, change: Any, where: str) -> None:
    client = scripted("rules: []").client()
    with pytest.raises(anthropic.BadRequestError, match=r"output_config\.format\.schema") as refused:
        client.messages.create(
            model=MODEL, max_tokens=9, messages=ASK,
            output_config={"format": {"type": "json_schema", "schema": SCHEMA | change}},
        )  # fmt: skip
    assert where in str(refused.value)


def test_the_schema_is_part_of_the_prompt_and_counted(scripted: Start) -> None:
    client = scripted("rules: []").client()
    bare = client.messages.count_tokens(model=MODEL, messages=ASK)
    bound = client.messages.count_tokens(model=MODEL, messages=ASK, output_config=FORMAT)
    assert bound.input_tokens > bare.input_tokens
    billed = client.messages.create(model=MODEL, max_tokens=50, messages=ASK, output_config=FORMAT)
    assert billed.usage.input_tokens == bound.input_tokens
