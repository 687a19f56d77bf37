"""The last `anthropic` 0.x: other headers, other parameters and the older URLs of the same API."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from installs import HERE, python_with
from recording import Recorder, recording
from running import Running, scripted_settings

#: The first run on a machine downloads the SDK.
pytestmark = pytest.mark.timeout(600)
ANSWER = "Good day to you."
SCRIPT = f"""
rules:
  - {{match: Hello, text: '{ANSWER}'}}
  - {{match: no such city, text: It is sunny in two of them.}}
  - match: sunny in Paris
    delay_ms: 1
    calls: [{{name: get_weather, input: {{city: Rome}}}}, {{name: get_weather, input: {{city: Utopia}}}}]
  - {{match: How is it, delay_ms: 1, text: I will look., calls: [{{name: get_weather, input: {{city: Paris}}}}]}}
"""


class Outcome(msgspec.Struct):
    """What the SDK printed, and what went over the wire for it."""

    told: dict[str, Any]
    wire: Recorder
    ledger: list[Any]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    python = python_with("old_sdk.txt")
    server = Running(scripted_settings(tmp_path_factory.mktemp("old"), SCRIPT, body_bytes=50_000))
    with recording(server.base_url) as wire:
        told = _run(python, {"ANTHROPIC_BASE_URL": wire.base_url, "ANTHROPIC_API_KEY": server.key})
    yield Outcome(told, wire, server.records())


def _run(python: Path, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-W", "error", HERE / "old_sdk.py"],
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return dict(msgspec.json.decode(done.stdout))


@pytest.mark.behaviour("client-surface-0-key-as-x-api-key", "client-surface-0-older-version")
def test_it_is_the_last_of_its_line_and_sends_its_key_as_x_api_key(outcome: Outcome) -> None:
    assert outcome.told["version"] == "0.125.0"
    assert outcome.wire.seen
    for seen in outcome.wire.seen:
        assert "x-api-key" in seen.headers
        assert "authorization" not in seen.headers
        assert seen.headers["anthropic-version"] == "2023-06-01"


def test_create_and_stream_give_the_same_message(outcome: Outcome) -> None:
    created = outcome.told["create"]
    assert created["text"] == outcome.told["from_async"] == ANSWER
    assert created["request_id"].startswith("req_")
    message, streamed = created["message"], outcome.told["stream"]["final"]
    assert message["usage"]["input_tokens"] > 0
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("end_turn", 5)
    assert [block["text"] for block in streamed["content"]] == [ANSWER]
    assert [streamed["usage"][name] for name in ("input_tokens", "output_tokens")] == [
        message["usage"][name] for name in ("input_tokens", "output_tokens")
    ]
    assert streamed["id"] != message["id"]


@pytest.mark.behaviour("client-surface-3-helper-events")
def test_a_stream_is_read_as_events_as_text_and_raw(outcome: Outcome) -> None:
    stream = outcome.told["stream"]
    assert stream["texts"] == ["Good", " day", " to", " you."]
    assert stream["raw"][0] == "message_start"
    assert stream["raw"][-2:] == ["message_delta", "message_stop"]
    assert stream["raw"].count("content_block_delta") == 4
    # The SDK adds an event of its own to each delta and to the end of the block.
    assert [kind for kind in stream["events"] if kind == "text"] == ["text"] * 4
    assert stream["events"][-1] == "message_stop"


@pytest.mark.behaviour("client-surface-0-sampling-from-old-clients")
def test_temperature_is_a_parameter_there(outcome: Outcome) -> None:
    assert outcome.told["temperature"] == ANSWER
    (asked,) = [seen for seen in outcome.wire.of("/v1/messages") if seen.json().get("temperature") == 0.0]
    assert asked.json()["top_k"] == 5
    assert asked.status == 200
    assert "antiphon-ignored" not in asked.reply_headers


def test_a_count_is_what_the_same_request_is_billed(outcome: Outcome) -> None:
    count = outcome.told["count"]
    assert count["with_tool"] == count["beta"] == count["billed"] > count["plain"] > 0


def test_tools_may_be_defined_called_and_answered(outcome: Outcome) -> None:
    assert outcome.told["tools"] == {"text": ANSWER, "stop_reason": "end_turn"}


def test_a_loop_by_hand_goes_on_until_no_tool_is_called(outcome: Outcome) -> None:
    steps = outcome.told["loop"]
    messages = [step["message"] for step in steps]
    assert [message["stop_reason"] for message in messages] == ["tool_use", "tool_use", "end_turn"]
    assert [[block["type"] for block in message["content"]] for message in messages] == [
        ["text", "tool_use"],
        ["tool_use", "tool_use"],
        ["text"],
    ]
    calls = [block for message in messages for block in message["content"] if block["type"] == "tool_use"]
    assert [call["input"]["city"] for call in calls] == ["Paris", "Rome", "Utopia"]
    assert len({call["id"] for call in calls}) == 3
    assert messages[2]["content"][0]["text"] == "It is sunny in two of them."
    # It reads what has come so far of an input after each piece.
    assert steps[0]["pieces"][-1][1] == {"city": "Paris"}
    assert "".join(piece for piece, _ in steps[0]["pieces"]) == '{"city": "Paris"}'
    billed = [message["usage"]["input_tokens"] for message in messages]
    assert billed == sorted(set(billed))


@pytest.mark.behaviour("client-surface-0-beta-query-is-let-be")
def test_beta_calls_go_to_the_older_url_and_unknown_betas_are_named(outcome: Outcome) -> None:
    assert outcome.told["beta"] == {"text": ANSWER, "type": "BetaMessage"}
    (asked,) = [seen for seen in outcome.wire.of("/v1/messages") if seen.query]
    assert asked.query == "beta=true"
    assert asked.headers["anthropic-beta"] == "context-management-2025-06-27,made-up-2025-01-01"
    assert asked.reply_headers["antiphon-ignored"] == "made-up-2025-01-01"
    (counted,) = [seen for seen in outcome.wire.of("/v1/messages/count_tokens") if seen.query]
    assert (counted.query, counted.status) == ("beta=true", 200)


def test_models_are_paged_to_the_end(outcome: Outcome) -> None:
    models = outcome.told["models"]
    assert len(set(models["all"])) == len(models["all"]) > 10
    assert models["page"]["has_more"] is True
    assert [model["id"] for model in models["page"]["data"]] == models["all"][:3]
    assert models["one"]["id"] == "claude-opus-5-5"
    assert {seen.query.split("after_id=")[-1] for seen in outcome.wire.of("/v1/models")} >= set(models["all"][2:-1:3])


@pytest.mark.parametrize(
    ("attempt", "kind", "status", "error", "message"),
    [
        ("key", "AuthenticationError", 401, "authentication_error", "invalid x-api-key"),
        ("model", "NotFoundError", 404, "not_found_error", "model: gpt-4"),
        ("messages", "BadRequestError", 400, "invalid_request_error", "messages: at least one message is required"),
        ("temperature", "BadRequestError", 400, "invalid_request_error", "temperature: Input should be less than or equal to 1"),
        ("large", "RequestTooLargeError", 413, "request_too_large", "Request exceeds the maximum allowed number of bytes. The maximum request size is 50000 bytes."),
        ("streamed", "BadRequestError", 400, "invalid_request_error", "messages: at least one message is required"),
    ],
)  # fmt: skip
def test_each_refusal_is_its_own_class_of_error(
    outcome: Outcome, attempt: str, kind: str, status: int, error: str, message: str
) -> None:
    told = outcome.told["errors"][attempt]
    assert (told["class"], told["status"]) == (kind, status)
    assert told["request_id"].startswith("req_")
    assert told["body"] == {
        "type": "error",
        "error": {"type": error, "message": message},
        "request_id": told["request_id"],
    }


def test_what_was_answered_was_recorded_and_nothing_else(outcome: Outcome) -> None:
    answered = [seen for seen in outcome.wire.of("/v1/messages") if seen.status == 200]
    assert len(outcome.ledger) == len(answered)
    assert {record.outcome for record in outcome.ledger} == {"end_turn", "max_tokens", "tool_use"}
