"""The official TypeScript SDK on Node: streams as it gathers them, its own paging, its errors and its aborts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from installs import told_by_node
from recording import Recorder, recording
from running import Running, scripted_settings

#: The first run on a machine downloads the SDK, and Node too where there is none.
pytestmark = pytest.mark.timeout(600)
ANSWER = "Good day to you."
SCRIPT = f"""
seats: 1
rules:
  - {{match: slow, text: "{"word " * 1000}", delay_ms: 50}}
  - {{match: Hello, text: "{ANSWER}"}}
"""


class Outcome(msgspec.Struct):
    """What the SDK printed, and what went over the wire for it."""

    told: dict[str, Any]
    wire: Recorder
    ledger: list[Any]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("node")
    server = Running(scripted_settings(folder, SCRIPT, body_bytes=50_000))
    with recording(server.base_url) as wire:
        told = told_by_node("sdk.mjs", folder, base_url=wire.base_url, key=server.key)
    yield Outcome(told, wire, server.records())


def test_create_gives_the_message_and_its_request_id(outcome: Outcome) -> None:
    assert outcome.told["version"] == "1.12.0"
    created = outcome.told["create"]
    assert [block["text"] for block in created["message"]["content"]] == [ANSWER]
    assert created["message"]["usage"]["output_tokens"] == 5
    assert created["request_id"] == created["header"]
    assert created["request_id"].startswith("req_")


def test_a_stream_is_gathered_into_the_same_message(outcome: Outcome) -> None:
    stream, created = outcome.told["stream"], outcome.told["create"]["message"]
    assert stream["texts"] == ["Good", " day", " to", " you."]
    assert stream["whole"] == ANSWER
    assert stream["events"] == stream["raw"]
    assert stream["events"][0] == "message_start"
    assert stream["events"][-2:] == ["message_delta", "message_stop"]
    assert stream["request_id"].startswith("req_")
    final = stream["final"]
    assert (final["content"], final["stop_reason"]) == (created["content"], created["stop_reason"])
    for name in ("input_tokens", "output_tokens"):
        assert final["usage"][name] == created["usage"][name] > 0


def test_a_count_is_what_the_same_request_is_billed(outcome: Outcome) -> None:
    count = outcome.told["count"]
    assert count["with_tool"] == count["billed"] > count["plain"] > 0


def test_tools_may_be_defined_called_and_answered(outcome: Outcome) -> None:
    assert outcome.told["tools"] == {"text": ANSWER, "stop_reason": "end_turn"}


def test_beta_calls_carry_their_betas(outcome: Outcome) -> None:
    assert outcome.told["beta"] == ANSWER
    (asked,) = [seen for seen in outcome.wire.of("/v1/messages") if "anthropic-beta" in seen.headers]
    assert asked.headers["anthropic-beta"] == "context-management-2025-06-27"
    assert "antiphon-ignored" not in asked.reply_headers


def test_models_are_paged_to_the_end(outcome: Outcome) -> None:
    models = outcome.told["models"]
    assert len(set(models["all"])) == len(models["all"]) > 10
    assert (models["first"], models["more"]) == (models["all"][:3], True)
    assert models["one"] == "claude-opus-5-5"


@pytest.mark.parametrize(
    ("attempt", "kind", "status", "error"),
    [
        ("key", "AuthenticationError", 401, "authentication_error"),
        ("model", "NotFoundError", 404, "not_found_error"),
        ("messages", "BadRequestError", 400, "invalid_request_error"),
        ("large", "ContentTooLargeError", 413, "request_too_large"),
        ("stream", "BadRequestError", 400, "invalid_request_error"),
        ("retrieve", "NotFoundError", 404, "not_found_error"),
    ],
)
def test_each_refusal_is_its_own_class_of_error(
    outcome: Outcome, attempt: str, kind: str, status: int, error: str
) -> None:
    told = outcome.told["errors"][attempt]
    assert (told["class"], told["status"], told["type"]) == (kind, status, error)
    assert told["request_id"].startswith("req_")
    assert told["body"]["request_id"] == told["request_id"]


def test_an_abort_ends_the_answer_and_gives_its_seat_to_the_next(outcome: Outcome) -> None:
    aborted = outcome.told["abort"]
    assert aborted["raised"] is True
    assert aborted["next"] == ANSWER
    (closed,) = [record for record in outcome.ledger if record.outcome == "client_closed"]
    assert aborted["read"] <= closed.usage.output_tokens < 1000


def test_what_was_answered_was_recorded_and_nothing_else(outcome: Outcome) -> None:
    answered = [seen for seen in outcome.wire.of("/v1/messages") if seen.status == 200]
    assert len(outcome.ledger) == len(answered)
    assert {record.outcome for record in outcome.ledger} == {"end_turn", "max_tokens", "client_closed"}
