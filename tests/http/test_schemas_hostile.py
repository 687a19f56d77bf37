"""Schemas and patterns made to be expensive, sent to a server while it streams to somebody else (faults B5, B6)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from running import Running

Start = Callable[..., Running]

SCRIPT = """
rules:
  - match: Count
    text: one two three four five six seven eight nine ten and on
    delay_ms: 20
  - text: Done.
"""
STRING: Any = {"type": "string"}


def closed(**properties: Any) -> Any:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False
    }  # fmt: skip


def pattern(text: str) -> Any:
    return closed(a={"type": "string", "pattern": text})


def nested(levels: int, link: Callable[[Any], Any]) -> str:
    """As text: the writers of JSON give up before the server does."""
    mark = '"here"'
    before, after = json.dumps(link("here")).split(mark)
    return before * levels + '{"type":"string"}' + after * levels


def chain(count: int, link: Callable[[Any], Any]) -> Any:
    links = {f"d{number}": link({"$ref": f"#/$defs/d{number + 1}"}) for number in range(count)}
    return {**closed(a={"$ref": "#/$defs/d0"}), "$defs": {**links, f"d{count}": STRING}}


#: As JSON, and the status where the schema has to be kept to; a tool that is not strict may have anything of the kind.
BOMBS: dict[str, tuple[str, int]] = {
    "10,000 nested": (nested(10_000, lambda inner: closed(a=inner)), 400),
    "60 nested": (nested(60, lambda inner: closed(a=inner)), 200),
    "recursive": (json.dumps(closed(a={"$ref": "#"})), 400),
    "doubling references": (json.dumps(chain(40, lambda ref: closed(a=ref, b=ref))), 400),
    "a million in an enum": (json.dumps(closed(a={"enum": list(range(10**6))})), 400),
    "a product of options": (
        json.dumps(closed(x={"allOf": [{"anyOf": [closed(**{f"a{i}{j}": STRING}) for j in range(9)]} for i in range(9)]})),
        400,
    ),
    "many parts": (json.dumps(closed(x={"allOf": [{"anyOf": [STRING]} for _ in range(6_000)]})), 400),
    "a reference elsewhere": (json.dumps(closed(a={"$ref": "http://127.0.0.1:9/schema"})), 400),
    "a pattern for backtrackers": (json.dumps(pattern("^(a+)+$")), 200),
    "repeats of repeats": (json.dumps(pattern("^(a{1000}){1000}$")), 400),
    "optional letters": (json.dumps(pattern("^" + "[a-z ]?" * 200 + "$")), 400),
    "loops in loops": (json.dumps(pattern("^" + "(a?" * 13 + ")*" * 13 + "$")), 400),
    "look-around": (json.dumps(pattern("^(?=(a+)+$)")), 400),
}  # fmt: skip
KINDS = ("format", "strict", "loose", "examples")


def body(kind: str, schema: str) -> str:
    asked: dict[str, Any] = {
        "model": "claude-opus-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Do it."}]
    }  # fmt: skip
    if kind == "format":
        asked["output_config"] = {"format": {"type": "json_schema", "schema": "SCHEMA"}}
    else:
        tool: dict[str, Any] = {"name": "do", "input_schema": "SCHEMA"}
        tool |= {"strict": True} if kind == "strict" else {}
        tool |= {"input_examples": [{"a": "a" * 3_000 + "!"}]} if kind == "examples" else {}
        asked["tools"] = [tool]
    return json.dumps(asked).replace('"SCHEMA"', schema)


class Streaming(threading.Thread):
    """Reads one long answer after the other until it is told to end."""

    def __init__(self, running: Running) -> None:
        super().__init__(daemon=True)
        self._client = running.client()
        self.over = threading.Event()
        self.whole = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.is_set():
                with self._client.messages.stream(
                    model="claude-opus-5-5", max_tokens=50, messages=[{"role": "user", "content": "Count"}]
                ) as stream:
                    said = stream.get_final_message().content[0]
                assert said.type == "text"
                assert said.text.endswith("and on")
                self.whole += 1
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.failure = error


def test_each_is_refused_or_taken_and_a_stream_beside_it_goes_on(scripted: Start) -> None:
    running = scripted(SCRIPT)
    streaming = Streaming(running)
    streaming.start()
    headers = {"x-api-key": running.key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    wrong: list[str] = []
    with httpx2.Client(base_url=running.base_url, headers=headers, timeout=120) as client:
        for name, (schema, strict_status) in BOMBS.items():
            for kind in KINDS:
                reply = client.post("/v1/messages", content=body(kind, schema))
                wanted = {"loose": {200}, "examples": {200, 400}}.get(kind, {strict_status})
                if name in ("10,000 nested", "a million in an enum"):
                    wanted = {400}  # for the body as a whole, and for the prompt
                if reply.status_code not in wanted:
                    wrong.append(f"{name}, {kind}: {reply.status_code} {reply.text[:200]}")
                elif reply.status_code == 400:
                    assert reply.json()["error"]["type"] == "invalid_request_error"
    streaming.over.set()
    streaming.join(60)
    assert wrong == []
    assert streaming.failure is None
    assert streaming.whole >= 1


def test_many_at_once_are_all_answered(scripted: Start) -> None:
    """More than there are threads to wait in."""
    running = scripted(SCRIPT)
    headers = {"x-api-key": running.key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    statuses: list[int] = []

    def ask(number: int) -> None:
        parts = [{"anyOf": [STRING, {"const": number}]} for _ in range(40)]
        schema = json.dumps(closed(a={"allOf": parts}))
        sent = httpx2.post(
            f"{running.base_url}/v1/messages", content=body("strict", schema), headers=headers, timeout=120
        )
        statuses.append(sent.status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [400] * 24


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_two_hundred_tools_in_a_small_body(scripted: Start, path: str) -> None:
    """Each takes 20 ms, and all of them fit into a body that is planned on the event loop."""
    running = scripted(SCRIPT)
    slow = "^" + "(a?" * 13 + ")*" * 13 + "{}$"
    tools = [
        {"name": f"t{number}", "input_schema": {"properties": {"a": {"pattern": slow.replace("{}", str(number))}}, "type": "object"}}
        for number in range(150)
    ]  # fmt: skip
    asked: dict[str, Any] = {
        "model": "claude-opus-5-5",
        "messages": [{"role": "user", "content": "Do it."}],
        "tools": tools,
    }
    asked |= {"max_tokens": 20} if path == "/v1/messages" else {}
    headers = {"x-api-key": running.key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    assert len(json.dumps(asked)) < 32_000
    reply = httpx2.post(f"{running.base_url}{path}", json=asked, headers=headers, timeout=120)
    assert reply.status_code == 200
