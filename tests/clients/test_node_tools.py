"""Tools and structured outputs through the official TypeScript SDK: its runners, what it gathers of a stream, and its
parsing."""

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
#: Each token is a step of its own, so that streams come in pieces.
SCRIPT = """
rules:
  - {match: "step 3 done", delay_ms: 1, text: All three are done.}
  - {match: "too many", text: It would not.}
  - {match: "step 2 done", delay_ms: 1, calls: [{name: do_step, input: {number: 3}}]}
  - {match: "step 1 done", delay_ms: 1, calls: [{name: do_step, input: {number: 2}}]}
  - match: steps at once
    delay_ms: 1
    calls:
      - {name: do_step, input: {number: 1}}
      - {name: do_step, input: {number: 2}}
      - {name: do_step, input: {number: 3}}
  - {match: Three steps, delay_ms: 1, text: I begin., calls: [{name: do_step, input: {number: 1}}]}
  - match: How is it
    delay_ms: 1
    text: I will look.
    calls:
      - {name: get_weather, input: {city: "Göttingen \\"Nord\\"", days: [1, 2]}}
      - {name: get_weather, input: {city: Rome}}
  - {match: two and two, delay_ms: 1, text: 'So: {"answer": 4, "question": "two and two"}'}
"""
NORTH = {"city": 'Göttingen "Nord"', "days": [1, 2]}


class Outcome(msgspec.Struct):
    """What the SDK printed, and what went over the wire for it."""

    told: dict[str, Any]
    wire: Recorder
    ledger: list[Any]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("nodetools")
    server = Running(scripted_settings(folder, SCRIPT))
    with recording(server.base_url) as wire:
        told = told_by_node("tools.mjs", folder, base_url=wire.base_url, key=server.key)
    yield Outcome(told, wire, server.records())


def test_its_runner_goes_through_three_steps(outcome: Outcome) -> None:
    runner = outcome.told["runner"]
    assert runner["done"] == [1, 2, 3]
    assert runner["reasons"] == ["tool_use"] * 3 + ["end_turn"]
    assert runner["text"] == "All three are done."


def test_its_streaming_runner_goes_through_three_steps(outcome: Outcome) -> None:
    runner = outcome.told["streamed_runner"]
    assert runner["done"] == [1, 2, 3]
    assert runner["texts"] == ["I begin.", None, None, "All three are done."]
    assert [snapshot for piece, snapshot in runner["events"] if piece.endswith("}")] == [
        {"number": number} for number in (1, 2, 3)
    ]


def test_its_eager_runner_runs_parallel_calls_while_the_answer_streams(outcome: Outcome) -> None:
    assert outcome.told["eager_runner"] == {"done": [1, 2, 3], "text": "All three are done."}


def test_an_input_that_its_own_schema_refuses_is_told_to_the_model(outcome: Outcome) -> None:
    runner = outcome.told["checked_runner"]
    assert runner["done"] == [1, 2]
    assert runner["text"] == "It would not."
    (result,) = runner["last"]["content"]
    assert (result["type"], result["is_error"]) == ("tool_result", True)
    assert "too many" in str(result["content"])


def test_a_streamed_call_is_gathered_into_the_same_message(outcome: Outcome) -> None:
    gathered = outcome.told["gathered"]
    final, whole = gathered["final"], gathered["whole"]
    assert [block["type"] for block in final["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in final["content"][1:]] == [NORTH, {"city": "Rome"}]
    assert [block["type"] for block in gathered["blocks"]] == ["text", "tool_use", "tool_use"]
    assert (final["stop_reason"], whole["stop_reason"]) == ("tool_use", "tool_use")
    assert final["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    # Each call has an id of its own, in each answer.
    ids = [block.pop("id") for message in (final, whole) for block in message["content"][1:]]
    assert len(set(ids)) == 4
    assert final["content"] == whole["content"]


def test_what_it_reads_of_an_input_early_is_true_already(outcome: Outcome) -> None:
    gathered = outcome.told["gathered"]
    assert len(gathered["pieces"]) > 2
    assert gathered["early"] == {"city": NORTH["city"]}


def test_a_forced_tool_is_all_of_the_answer(outcome: Outcome) -> None:
    forced = outcome.told["forced"]
    assert forced["content"][0] == {"type": "tool_use", "name": "get_weather", "input": NORTH}
    assert {block["type"] for block in forced["content"]} == {"tool_use"}
    assert forced["reason"] == "tool_use"


@pytest.mark.behaviour("client-surface-7-parse")
def test_parse_gives_what_the_schema_says_in_both_namespaces_and_in_a_stream(outcome: Outcome) -> None:
    parsed = outcome.told["parsed"]
    assert parsed["text"] == '{"question":"two and two","answer":4}'
    assert parsed["parsed"] == parsed["streamed"] == parsed["beta"] == {"question": "two and two", "answer": 4}
    assert parsed["reason"] == "end_turn"
    asked = [seen for seen in outcome.wire.of("/v1/messages") if "output_config" in seen.json()]
    assert len(asked) == 3
    for seen in asked:
        sent = seen.json()["output_config"]["format"]["schema"]
        assert sent["additionalProperties"] is False
        assert "maximum: 10" in sent["properties"]["answer"]["description"]


def test_each_runner_is_told_to_send_everything_and_all_else_is_answered_and_recorded(outcome: Outcome) -> None:
    """A runner begins with a thread that the server would keep."""
    seen = outcome.wire.of("/v1/messages")
    refused = [each for each in seen if each.status != 200]
    assert ["thread" in each.json() for each in seen] == [each in refused for each in seen]
    assert [each.reply_json()["error"]["details"]["error_code"] for each in refused] == [
        "thread_unsupported_request"
    ] * 4
    assert len(outcome.ledger) == len(seen) - len(refused)
    assert {record.outcome for record in outcome.ledger} == {"tool_use", "end_turn"}
    plain = [each for each in seen if "anthropic-beta" not in each.headers]
    assert {each.reply_headers.get("antiphon-ignored") for each in plain} == {None}
