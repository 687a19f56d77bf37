"""Tools through the official SDK, on the scripted engine: what it says is a model's own text; calls, names and inputs go
the whole way through phases and grammars."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from anthropic import beta_async_tool, beta_tool

from running import Running, text_of

WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
CLOCK: Any = {"name": "tell_time", "input_schema": {"type": "object", "properties": {}}}
ASK: Any = [{"role": "user", "content": "How is it?"}]
MODEL: Any = "claude-opus-5-5"

Start = Callable[..., Running]

CALLS = """
rules:
  - match: How is it
    text: I will look.
    calls:
      - {name: get_weather, input: {city: Paris, days: 2}}
      - {name: tell_time, input: {}}
"""


def calls_of(message: Any) -> list[tuple[str, Any]]:
    return [(block.name, block.input) for block in message.content if block.type == "tool_use"]


@pytest.mark.parametrize("streamed", [False, True])
def test_text_and_parallel_calls(scripted: Start, streamed: bool) -> None:
    client = scripted(CALLS).client()
    asked: Any = {"model": MODEL, "max_tokens": 200, "messages": ASK, "tools": [WEATHER, CLOCK]}
    if streamed:
        with client.messages.stream(**asked) as stream:
            message: Any = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
    assert message.content[0].text == "I will look."
    assert calls_of(message) == [("get_weather", {"city": "Paris", "days": 2}), ("tell_time", {})]
    assert message.stop_reason == "tool_use"
    ids = [block.id for block in message.content[1:]]
    assert all(each.startswith("toolu_") for each in ids)
    assert len(set(ids)) == 2
    assert message.content[1].caller.type == "direct"
    results = [{"type": "tool_result", "tool_use_id": each, "content": "fine"} for each in ids]
    again = client.messages.create(
        **asked
        | {"messages": [*ASK, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]}
    )
    assert again.usage.input_tokens > message.usage.input_tokens


def test_the_next_prompt_begins_with_what_was_generated(scripted: Start) -> None:
    """Counted in tokens: the history is exactly as long as prompt and answer were, but for what ends the turn."""
    client = scripted(CALLS).client()
    tools = [WEATHER, CLOCK]
    before = client.messages.count_tokens(model=MODEL, messages=ASK, tools=tools).input_tokens
    message = client.messages.create(model=MODEL, max_tokens=200, messages=ASK, tools=tools)
    assistant: Any = {"role": "assistant", "content": message.content}
    results: Any = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "x"}
        for block in message.content[1:]
        if block.type == "tool_use"
    ]
    after = client.messages.count_tokens(
        model=MODEL, messages=[*ASK, assistant, {"role": "user", "content": results}], tools=tools
    )
    assert after.input_tokens > before


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        ({"type": "auto"}, 2),
        ({"type": "auto", "disable_parallel_tool_use": True}, 1),
        ({"type": "any"}, 2),
        ({"type": "any", "disable_parallel_tool_use": True}, 1),
        ({"type": "tool", "name": "tell_time"}, 1),
        ({"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}, 1),
        ({"type": "none"}, 0),
    ],
)
def test_tool_choice(scripted: Start, choice: Any, calls: int) -> None:
    client = scripted(CALLS).client()
    message = client.messages.create(
        model=MODEL, max_tokens=200, messages=ASK, tools=[WEATHER, CLOCK], tool_choice=choice
    )
    made = calls_of(message)
    assert len(made) == calls if choice["type"] != "tool" else made[0][0] == choice["name"]
    assert message.stop_reason == ("tool_use" if calls else "end_turn")
    assert (message.content[0].type == "text") == (choice["type"] in ("auto", "none"))


def test_a_forced_tool_gets_an_input_that_fits_whatever_the_model_says(scripted: Start) -> None:
    client = scripted("rules: [{text: I would rather not.}]").client()
    message = client.messages.create(
        model=MODEL, max_tokens=200, messages=ASK, tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"}
    )
    assert calls_of(message) == [("get_weather", {"city": ""})]


def test_the_events_of_a_call(scripted: Start) -> None:
    client = scripted(CALLS.replace("text:", "delay_ms: 1\n    text:")).client()  # a step for each token
    asked: Any = {"model": MODEL, "max_tokens": 200, "messages": ASK, "tools": [WEATHER], "stream": True}
    events = [event for event in client.messages.create(**asked) if event.type != "message_start"]
    started = next(event for event in events if event.type == "content_block_start" and event.index == 1)
    assert (started.content_block.name, started.content_block.input) == ("get_weather", {})
    pieces = [event.delta.partial_json for event in events if event.type == "content_block_delta" and event.index == 1]
    assert json.loads("".join(pieces)) == {"city": "Paris", "days": 2}
    # A member at a time, each whole.
    assert pieces == ['{"city": "Paris"', ', "days": 2}']
    assert events[-2].delta.stop_reason == "tool_use"


def test_an_eager_input_comes_raw_and_is_cut_raw(scripted: Start) -> None:
    client = scripted(CALLS).client()

    def pieces(tool: Any, tokens: int) -> tuple[str, Any]:
        asked: Any = {"model": MODEL, "max_tokens": tokens, "messages": ASK, "tools": [tool], "stream": True}
        events = list(client.messages.create(**asked))
        got = [e.delta.partial_json for e in events if e.type == "content_block_delta" and e.index == 1]
        return "".join(got), next(e.delta.stop_reason for e in events if e.type == "message_delta")

    whole, _ = pieces(WEATHER, 200)
    assert json.loads(whole) == {"city": "Paris", "days": 2}
    for tokens in range(20, 80):
        eager, reason = pieces(WEATHER | {"eager_input_streaming": True}, tokens)
        kept, _ = pieces(WEATHER, tokens)
        assert whole.startswith(eager)
        if kept:
            assert json.loads(kept).items() <= {"city": "Paris", "days": 2}.items()
        if reason == "max_tokens" and eager and eager != whole:
            break
    else:
        raise AssertionError("the call was never cut")


FENCED = """
rules:
  - match: How is it
    text: "```json\\n{\\"name\\": \\"get_weather\\", \\"arguments\\": {\\"city\\": \\"Paris\\"}}\\n```"
"""


def test_a_call_in_fenced_json_is_a_call(scripted: Start) -> None:
    message = (
        scripted(FENCED).client().messages.create(model=MODEL, max_tokens=200, messages=ASK, tools=[WEATHER, CLOCK])
    )
    assert [block.type for block in message.content] == ["tool_use"]
    assert calls_of(message) == [("get_weather", {"city": "Paris"})]


def test_the_same_without_tools_is_text(scripted: Start) -> None:
    message = scripted(FENCED).client().messages.create(model=MODEL, max_tokens=200, messages=ASK)
    assert message.content[0].type == "text"
    assert text_of(message).startswith("```json")


@pytest.mark.behaviour("client-surface-2.4-common-strict")
def test_a_strict_tool_is_checked_and_its_input_fits(scripted: Start) -> None:
    client = scripted("rules: [{text: Nothing.}]").client()
    schema: Any = WEATHER["input_schema"] | {"additionalProperties": False, "required": ["city", "days"]}
    strict: Any = WEATHER | {"strict": True, "input_schema": schema}
    message = client.messages.create(
        model=MODEL, max_tokens=200, messages=ASK, tools=[strict], tool_choice={"type": "any"}
    )
    ((_, made),) = calls_of(message)
    assert set(made) == {"city", "days"}
    loose: Any = WEATHER | {"strict": True}
    with pytest.raises(anthropic.BadRequestError, match=r"tools\.0\.custom\.input_schema.*additionalProperties"):
        client.messages.create(model=MODEL, max_tokens=20, messages=ASK, tools=[loose])


def test_an_example_that_does_not_fit_is_refused(scripted: Start) -> None:
    client = scripted("rules: []").client()
    wrong: Any = WEATHER | {"input_examples": [{"city": "Rome"}, {"city": 5}]}
    with pytest.raises(anthropic.BadRequestError, match=r"tools\.0\.custom\.input_examples\.1"):
        client.messages.create(model=MODEL, max_tokens=20, messages=ASK, tools=[wrong])


STEPS = """
rules:
  - {match: "step 3 done", text: All three are done.}
  - {match: "step 2 done", calls: [{name: do_step, input: {number: 3}}]}
  - {match: "step 1 done", calls: [{name: do_step, input: {number: 2}}]}
  - {text: I begin., calls: [{name: do_step, input: {number: 1}}]}
"""


def test_the_sdks_runner_goes_through_three_steps(scripted: Start) -> None:
    done: list[int] = []

    @beta_tool
    def do_step(number: int) -> str:
        """Do one step."""
        done.append(number)
        return f"step {number} done"

    client = scripted(STEPS).client()
    final: Any = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=200, messages=ASK, tools=[do_step]
    ).until_done()
    assert done == [1, 2, 3]
    assert text_of(final) == "All three are done."


def test_the_sdks_streaming_runner_goes_through_three_steps(scripted: Start) -> None:
    done: list[int] = []

    @beta_tool
    def do_step(number: int) -> str:
        """Do one step."""
        done.append(number)
        return f"step {number} done"

    client = scripted(STEPS).client()
    runner = client.beta.messages.tool_runner(model=MODEL, max_tokens=200, messages=ASK, tools=[do_step], stream=True)
    messages: list[Any] = []
    for stream in runner:
        messages.append(stream.get_final_message())
        stream.close()
    assert done == [1, 2, 3]
    assert text_of(messages[-1]) == "All three are done."


@pytest.mark.anyio
async def test_the_sdks_async_runner_goes_through_three_steps(scripted: Start) -> None:
    done: list[int] = []

    @beta_async_tool
    async def do_step(number: int) -> str:
        """Do one step."""
        done.append(number)
        return f"step {number} done"

    async with scripted(STEPS).async_client() as client:
        runner = client.beta.messages.tool_runner(model=MODEL, max_tokens=200, messages=ASK, tools=[do_step])
        final: Any = await runner.until_done()
    assert done == [1, 2, 3]
    assert text_of(final) == "All three are done."


def test_a_tool_that_fails_is_told(scripted: Start) -> None:
    @beta_tool
    def do_step(number: int) -> str:
        """Do one step."""
        raise RuntimeError(f"no step {number}")

    script = 'rules: [{match: "no step 1", text: It failed.}, {calls: [{name: do_step, input: {number: 1}}]}]'
    client = scripted(script).client()
    final: Any = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=200, messages=ASK, tools=[do_step]
    ).until_done()
    assert text_of(final) == "It failed."
