"""What holds for every request: a stream is the plain answer, and a count is the bill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from running import Running, scripted_settings

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
#: What a rule's tokens may be: pieces of words, blanks, characters of several bytes.
PIECES = ["a", "b", " ", "\n", "ab", "ST", "OP", "STOP", "é", "🙂", "日本", "x" * 50]

words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(lambda t: t.strip())
names = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(words, values, max_size=3)


def texts() -> st.SearchStrategy[Any]:
    return words | st.lists(words.map(lambda t: {"type": "text", "text": t}), min_size=1, max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    """A conversation of any documented shape that is served: tools, calls, results, system messages, prefill."""
    tools: list[str] = draw(st.lists(names, max_size=3, unique=True))
    messages: list[dict[str, Any]] = [{"role": "user", "content": draw(texts())}]
    for turn in range(draw(st.integers(0, 3))):
        called: bool = draw(st.booleans())
        if tools and called:
            calls = draw(st.lists(st.tuples(st.sampled_from(tools), objects), min_size=1, max_size=2))
            used = [
                {"type": "tool_use", "id": f"t{turn}-{i}", "name": name, "input": given}
                for i, (name, given) in enumerate(calls)
            ]
            messages.append({"role": "assistant", "content": [{"type": "text", "text": draw(words)}, *used]})
            results = [
                {"type": "tool_result", "tool_use_id": call["id"], "content": draw(texts() | st.none())}
                for call in used
            ]
            messages.append({"role": "user", "content": results})
        else:
            messages.append({"role": "assistant", "content": draw(texts())})
            messages.append({"role": "user", "content": draw(texts())})
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(texts())})
    request: dict[str, Any] = {"model": "claude-sonnet-5-5", "messages": messages}
    if tools:
        request["tools"] = [
            {"name": name, "description": draw(words), "input_schema": {"type": "object", "properties": draw(objects)}}
            for name in tools
        ]
    if draw(st.booleans()):
        request["system"] = draw(texts())
    return request


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    rules = [
        {"match": f"play {first} {second} {third}!", "tokens": [PIECES[first], PIECES[second], PIECES[third]]}
        for first in range(len(PIECES))
        for second in range(len(PIECES))
        for third in (0, 5, 9)
    ]
    script = msgspec.json.encode({"rules": rules}).decode()  # JSON is YAML
    running = Running(scripted_settings(tmp_path_factory.mktemp("properties"), script))
    yield running
    running.close()


def ask(server: Running, path: str, request: dict[str, Any]) -> httpx2.Response:
    reply = httpx2.post(f"{server.base_url}{path}", json=request, headers={"x-api-key": server.key})
    assert reply.status_code == 200, reply.text
    return reply


def streamed(server: Running, request: dict[str, Any]) -> dict[str, Any]:
    """The message that the events of a stream amount to."""
    with server.client().messages.stream(**request) as stream:
        message: dict[str, Any] = stream.get_final_message().to_dict()
    message["content"] = [{"type": "text", "text": block["text"], "citations": None} for block in message["content"]]
    return message


@pytest.mark.behaviour("messages-and-inference-4-order")
@pytest.mark.behaviour("client-surface-3-indexes", "client-surface-3-text-concatenates")
@SETTINGS
@given(
    st.tuples(st.integers(0, len(PIECES) - 1), st.integers(0, len(PIECES) - 1), st.sampled_from([0, 5, 9])),
    st.integers(1, 5),
    st.lists(st.sampled_from(["STOP", "ab", "\n\na", "é🙂", "ba", "OPST"]), max_size=3),
)
def test_a_stream_amounts_to_the_plain_answer(
    server: Running, played: tuple[int, int, int], max_tokens: int, stops: list[str]
) -> None:
    request: dict[str, Any] = {
        "model": "claude-sonnet-5-5",
        "max_tokens": max_tokens,
        "stop_sequences": stops,
        "messages": [{"role": "user", "content": "play {} {} {}!".format(*played)}],
    }
    plain = ask(server, "/v1/messages", request).json()
    stream = streamed(server, request)
    same = ("content", "stop_reason", "stop_sequence", "role", "model", "type")
    assert {name: stream.get(name) for name in same} == {name: plain[name] for name in same}
    assert stream["usage"]["output_tokens"] == plain["usage"]["output_tokens"]


@pytest.mark.behaviour("messages-and-inference-3.5-total-input", "messages-and-inference-8-the-bill")
@pytest.mark.behaviour("client-surface-2.3-tool-use-written", "client-surface-4.1-answer")
@SETTINGS
@given(conversations())
def test_a_count_is_what_the_same_request_is_billed(server: Running, request_body: dict[str, Any]) -> None:
    counted = ask(server, "/v1/messages/count_tokens", request_body).json()["input_tokens"]
    usage = ask(server, "/v1/messages", request_body | {"max_tokens": 1}).json()["usage"]
    assert usage["input_tokens"] == counted
    assert usage["cache_creation_input_tokens"] == usage["cache_read_input_tokens"] == 0
