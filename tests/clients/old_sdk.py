"""What the last `anthropic` 0.x is asked to do; run by an interpreter that has it, and prints what came of it as JSON.

The base URL and the key are in the environment, where that SDK looks for them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import anthropic

# Checked against the SDK of these tests, which is another version; so its types are not used.
Client = Any
MODEL = "claude-opus-4-1"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def version(_: Client) -> Any:
    return anthropic.__version__


def create(client: Client) -> Any:
    message = client.messages.create(model=MODEL, max_tokens=20, messages=HELLO, system="Be brief.")
    return {"message": message.to_dict(), "text": message.content[0].text, "request_id": message._request_id}


def temperature(client: Client) -> Any:
    message = client.messages.create(model=MODEL, max_tokens=20, messages=HELLO, temperature=0.0, top_k=5)
    return message.content[0].text


def stream(client: Client) -> Any:
    with client.messages.stream(model=MODEL, max_tokens=20, messages=HELLO, system="Be brief.") as answer:
        events = [event.type for event in answer]
        final = answer.get_final_message()
    with client.messages.stream(model=MODEL, max_tokens=20, messages=HELLO) as answer:
        texts = list(answer.text_stream)
    raw = client.messages.create(model=MODEL, max_tokens=20, messages=HELLO, stream=True)
    return {"events": events, "final": final.to_dict(), "texts": texts, "raw": [event.type for event in raw]}


def from_async(_: Client) -> Any:
    async def ask() -> str:
        client: Client = anthropic.AsyncAnthropic(max_retries=0)
        async with client, client.messages.stream(model=MODEL, max_tokens=20, messages=HELLO) as answer:
            return str(await answer.get_final_text())

    return asyncio.run(ask())


def count(client: Client) -> Any:
    asked = {"model": MODEL, "messages": HELLO, "system": "Be brief."}
    billed = client.messages.create(**asked, tools=[TOOL], max_tokens=1).usage.input_tokens
    return {
        "plain": client.messages.count_tokens(**asked).input_tokens,
        "with_tool": client.messages.count_tokens(**asked, tools=[TOOL]).input_tokens,
        "beta": client.beta.messages.count_tokens(**asked, tools=[TOOL]).input_tokens,
        "billed": billed,
    }


def tools(client: Client) -> Any:
    """Definitions, and a call and its result in what went before."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Sunny."}]}
    turns = [*HELLO, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    message = client.messages.create(model=MODEL, max_tokens=20, messages=turns, tools=[TOOL], tool_choice=choice)
    return {"text": message.content[0].text, "stop_reason": message.stop_reason}


def loop(client: Client) -> Any:
    """A loop by hand: streamed calls, parallel in the second step, and one result that is an error."""
    turns: list[Any] = [{"role": "user", "content": "How is it everywhere?"}]
    steps: list[Any] = []
    while len(steps) < 4:
        with client.messages.stream(model=MODEL, max_tokens=200, messages=turns, tools=[TOOL]) as answer:
            pieces = [(event.partial_json, event.snapshot) for event in answer if event.type == "input_json"]
            final = answer.get_final_message()
        calls = [block for block in final.content if block.type == "tool_use"]
        steps.append({"message": final.to_dict(), "pieces": pieces})
        if final.stop_reason != "tool_use":
            break
        turns += [{"role": "assistant", "content": final.content}, {"role": "user", "content": _results(calls)}]
    return steps


def _results(calls: list[Any]) -> list[Any]:
    results = []
    for call in calls:
        city = call.input["city"]
        told = {"is_error": True, "content": "no such city"} if city == "Utopia" else {"content": f"sunny in {city}"}
        results.append({"type": "tool_result", "tool_use_id": call.id, **told})
    return results


def beta(client: Client) -> Any:
    message = client.beta.messages.create(
        model=MODEL,
        max_tokens=20,
        messages=HELLO,
        betas=["context-management-2025-06-27", "made-up-2025-01-01"],
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
    )
    return {"text": message.content[0].text, "type": type(message).__name__}


def models(client: Client) -> Any:
    return {
        "all": [model.id for model in client.models.list(limit=3)],
        "page": client.models.list(limit=3).to_dict(mode="json"),
        "one": client.models.retrieve("claude-opus-5-5").to_dict(mode="json"),
    }


def errors(client: Client) -> Any:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
    tries: dict[str, Callable[[], Any]] = {
        "key": lambda: client.with_options(api_key="sk-ant-api03-wrong").messages.create(**asked),
        "model": lambda: client.messages.create(**asked | {"model": "gpt-4"}),
        "messages": lambda: client.messages.create(**asked | {"messages": []}),
        "temperature": lambda: client.messages.create(**asked, temperature=1.5),
        "large": lambda: client.messages.create(**asked | {"system": "x" * 60_000}),
        "streamed": lambda: client.messages.create(**asked | {"messages": []}, stream=True),
    }
    return {name: _refusal(attempt) for name, attempt in tries.items()}


def _refusal(attempt: Callable[[], Any]) -> Any:
    try:
        attempt()
    except anthropic.APIStatusError as error:
        kind = type(error).__name__
        return {"class": kind, "status": error.status_code, "body": error.body, "request_id": error.request_id}
    return None


CASES = (version, create, temperature, stream, from_async, count, tools, loop, beta, models, errors)

if __name__ == "__main__":
    with anthropic.Anthropic(max_retries=0) as official:
        print(json.dumps({case.__name__: case(official) for case in CASES}))
