"""Tools and structured outputs on real models: valid whatever the model is like, and called where it can call at all."""

from __future__ import annotations

import json
from typing import Any, Literal

import jsonschema_rs
import pytest
from anthropic import beta_tool
from hypothesis import HealthCheck, given, settings
from pydantic import BaseModel

from random_schemas import objects, schemas
from running import Running, text_of

pytestmark = pytest.mark.real

MODEL: Any = "claude-haiku-5-5"
GREEDY: Any = {"extra_body": {"temperature": 0}, "extra_headers": {"anthropic-version": "2023-06-01"}}


WEATHER: Any = [
    {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]
PAST: Any = [
    {"role": "user", "content": "How warm is it in Rome?"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Rome"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "31 degrees, sunny"}]},
]  # fmt: skip


class Maker(BaseModel):
    name: str
    country: str


class Car(BaseModel):
    maker: Maker
    colour: Literal["red", "green", "blue"]
    doors: int
    nickname: str | None


def test_the_default_model_answers_and_a_tools_past_is_counted_as_billed(qwen: Running) -> None:
    client = qwen.client()
    fact = client.messages.create(
        model="claude-sonnet-5-5",
        max_tokens=20,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        **GREEDY,
    )
    assert "Paris" in text_of(fact)
    assert fact.stop_reason == "end_turn"
    message = client.messages.create(
        model="claude-sonnet-5-5", max_tokens=5, system="Be brief.", tools=WEATHER, messages=PAST
    )
    counted = client.messages.count_tokens(model="claude-sonnet-5-5", messages=PAST, system="Be brief.", tools=WEATHER)
    assert counted.input_tokens == message.usage.input_tokens


def test_the_default_model_goes_once_through_the_runner(qwen: Running) -> None:
    """Both engines call here; of questions, llama.cpp's copy of this model rather speaks."""
    sent: list[tuple[str, str]] = []

    @beta_tool
    def send_message(to: str, text: str) -> str:
        """Send a message."""
        sent.append((to, text))
        return "sent"

    runner = qwen.client(timeout=300).beta.messages.tool_runner(
        model=MODEL, max_tokens=200, tools=[send_message],
        messages=[{"role": "user", "content": "Send Bob the message 'hello'."}], **GREEDY,
    )  # fmt: skip
    final: Any = runner.until_done()
    assert sent == [("Bob", "hello")]
    assert text_of(final)
    assert final.stop_reason == "end_turn"


def test_the_default_model_fills_nested_models(qwen: Running) -> None:
    parsed = qwen.client(timeout=300).messages.parse(
        model=MODEL, max_tokens=200, output_format=Car, **GREEDY,
        messages=[{"role": "user", "content": "Describe a red Toyota with four doors. Toyota is a maker from Japan."}],
    )  # fmt: skip
    assert parsed.parsed_output is not None
    assert parsed.parsed_output.maker.name == "Toyota"
    assert parsed.parsed_output.colour == "red"


@settings(
    max_examples=8, derandomize=True, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(schema=objects(schemas(2)))
def test_the_smallest_model_answers_in_every_schema(smol: Running, schema: dict[str, Any]) -> None:
    message = smol.client(timeout=300).messages.create(
        model=MODEL, max_tokens=120, messages=[{"role": "user", "content": "Make an example."}],
        output_config={"format": {"type": "json_schema", "schema": schema}}, **GREEDY,
    )  # fmt: skip
    text = text_of(message) if message.content else ""
    if message.stop_reason == "max_tokens":
        # It went on in a text of its own making; between members there is nothing that it could go on with.
        assert text
        assert not text.endswith("   ")
        return
    assert message.stop_reason == "end_turn"
    jsonschema_rs.validate(schema, json.loads(text))


def test_the_smallest_model_spells_what_its_vocabulary_cannot(smol: Running) -> None:
    """It has no token for the first byte of U+40000: nothing but an escape gets there."""
    value = {"\U00040000é": "Médecin \U000b1234\U0001f600", "n": "Straße"}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: {"const": each} for name, each in value.items()},
        "required": list(value),
        "additionalProperties": False,
    }
    asked: Any = {"model": MODEL, "max_tokens": 150, "messages": [{"role": "user", "content": "Make it."}], **GREEDY}
    message = smol.client(timeout=300).messages.create(
        output_config={"format": {"type": "json_schema", "schema": schema}}, **asked
    )
    assert message.stop_reason == "end_turn"
    assert json.loads(text_of(message)) == value
    called = smol.client(timeout=300).messages.create(
        tools=[{"name": "make", "input_schema": schema}], tool_choice={"type": "tool", "name": "make"}, **asked
    )
    assert called.stop_reason == "tool_use"
    assert [block.input for block in called.content if block.type == "tool_use"] == [value]
