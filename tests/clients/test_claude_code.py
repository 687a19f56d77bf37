"""Claude Code against a scripted server: its real requests, what it counts, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from claudecode import ClaudeCode, Told, installed
from conftest import StartScripted
from recording import Recorder, Seen, recording
from running import Running, scripted_settings

#: The first run on a machine downloads Claude Code, about 100 MB.
pytestmark = pytest.mark.timeout(600)
TOOLS = {"Agent", "Bash", "Edit", "Read", "Skill", "Workflow", "Write"}
SEARCHED = {"CronCreate", "NotebookEdit", "TaskStop", "WebFetch", "WebSearch"}


class Talk(msgspec.Struct):
    """Two turns of one conversation, and what went over the wire for them."""

    server: Running
    wire: Recorder
    turns: list[Told]

    @property
    def asked(self) -> list[Seen]:
        return self.wire.of("/v1/messages")

    def post(self, path: str, body: bytes) -> Any:
        """Send a body once more, as it was."""
        headers = {"x-api-key": self.server.key, "content-type": "application/json", "anthropic-version": "2023-06-01"}
        reply = httpx2.post(f"{self.server.base_url}{path}", content=body, headers=headers)
        assert reply.status_code == 200, reply.text
        return reply.json()


def prompt_tokens(usage: Any) -> int:
    """All of a prompt's tokens, those written to and read from the cache included."""
    kinds = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(int(usage[kind]) for kind in kinds)


@pytest.fixture(scope="module")
def program() -> Path:
    return installed()


@pytest.fixture(scope="module", params=["key", "token"])
def talk(request: pytest.FixtureRequest, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """With an API key, tools listed in part and searched for; with a bearer token, all tools listed."""
    folder = tmp_path_factory.mktemp("talk")
    server = Running(scripted_settings(folder, "rules: [{text: 'Hello yourself.', times: 1}, {text: 'Once more.'}]"))
    own = {"ANTHROPIC_API_KEY": server.key}
    if request.param == "token":
        own = {"ANTHROPIC_AUTH_TOKEN": server.key, "ENABLE_TOOL_SEARCH": "false"}
    with recording(server.base_url) as wire:
        claude = ClaudeCode(program, folder / "claude", wire.base_url, **own)
        first = claude.run("say hello")
        again = ["--continue"] if request.param == "token" else ["--resume", first.result["session_id"]]
        yield Talk(server, wire, [first, claude.run("and again", *again)])
    assert [record.outcome for record in server.records()] == ["end_turn"] * 2
    assert all(server.key.encode() not in seen.body + seen.reply for seen in wire.seen)


def test_both_turns_end_well_and_say_what_the_model_said(talk: Talk) -> None:
    for told, text in zip(talk.turns, ["Hello yourself.", "Once more."], strict=True):
        assert told.code == 0
        assert (told.result["subtype"], told.result["is_error"], told.result["result"]) == ("success", False, text)
        assert told.result["stop_reason"] == "end_turn"
        assert told.result["usage"]["output_tokens"] == 3
    assert talk.turns[0].result["session_id"] == talk.turns[1].result["session_id"]


def test_nothing_but_messages_is_asked_for_and_each_is_answered_in_a_stream(talk: Talk) -> None:
    assert {(seen.method, seen.path, seen.query) for seen in talk.wire.seen} == {("POST", "/v1/messages", "beta=true")}
    assert [seen.status for seen in talk.asked] == [200, 200]
    for seen in talk.asked:
        assert seen.json()["stream"] is True
        assert seen.reply_headers["content-type"].startswith("text/event-stream")
        events = seen.events()
        assert prompt_tokens(events[0]["message"]["usage"]) > 10_000
        assert events[-1]["type"] == "message_stop"


def test_what_it_sends_is_what_claude_code_sends(talk: Talk) -> None:
    for seen in talk.asked:
        body = seen.json()
        assert body["model"].startswith("claude-")
        assert body["thinking"]["type"] == "adaptive"
        assert body["system"][0]["text"].startswith("x-anthropic-billing-header:")
        assert len(body["system"]) > 1
        assert "context_management" in body
        assert "effort" in body["output_config"]
        betas = seen.headers["anthropic-beta"].split(",")
        assert {"claude-code-20250219", "interleaved-thinking-2025-05-14"} <= set(betas)
        names = {tool["name"] for tool in body["tools"]}
        assert names >= TOOLS
        if "authorization" in seen.headers:
            assert names >= SEARCHED
            assert len(names) > 20
        else:
            assert "x-api-key" in seen.headers
            assert "ToolSearch" in names
            assert any(tool.get("defer_loading") for tool in body["tools"])


def test_the_second_turn_carries_the_first_with_a_system_message_within(talk: Talk) -> None:
    first, second = (seen.json()["messages"] for seen in talk.asked)
    assert [message["role"] for message in first] == ["user", "system"]
    assert [message["role"] for message in second] == ["user", "system", "assistant", "user"]
    assert second[2]["content"][0]["text"] == "Hello yourself."
    first_usage, second_usage = (told.result["usage"] for told in talk.turns)
    assert prompt_tokens(second_usage) > prompt_tokens(first_usage)


def test_the_second_turn_reads_tools_and_system_prompt_from_the_cache(talk: Talk) -> None:
    first, second = (seen.events()[0]["message"]["usage"] for seen in talk.asked)
    assert first["cache_read_input_tokens"] == 0
    assert first["cache_creation_input_tokens"] > 10_000
    assert second["cache_read_input_tokens"] >= prompt_tokens(first) - first["input_tokens"] - 1_000
    assert second["cache_read_input_tokens"] > 10_000
    assert prompt_tokens(second) - second["cache_read_input_tokens"] < 1_000
    assert talk.turns[1].result["usage"]["cache_read_input_tokens"] == second["cache_read_input_tokens"]


def test_nothing_of_its_requests_is_named_as_ignored(talk: Talk) -> None:
    for seen in talk.asked:
        assert "antiphon-ignored" not in seen.reply_headers


def test_the_count_of_the_very_same_body_is_what_was_billed(talk: Talk) -> None:
    for seen in talk.asked:
        billed = prompt_tokens(seen.events()[0]["message"]["usage"])
        assert talk.post("/v1/messages/count_tokens", seen.body) == {"input_tokens": billed}


def test_the_attribution_block_costs_nothing(talk: Talk) -> None:
    for seen in talk.asked:
        body = seen.json()
        body["system"] = body["system"][1:]
        billed = prompt_tokens(seen.events()[0]["message"]["usage"])
        assert talk.post("/v1/messages/count_tokens", msgspec.json.encode(body)) == {"input_tokens": billed}


class OneRun(msgspec.Struct):
    """A server, one run of Claude Code against it, and what went over the wire."""

    server: Running
    wire: Recorder
    told: Told


@pytest.fixture
def one_run(program: Path, scripted: StartScripted, tmp_path: Path) -> Callable[..., OneRun]:
    def run(prompt: str, script: str = "rules: []", piped: str = "") -> OneRun:
        server = scripted(script)
        with recording(server.base_url) as wire:
            claude = ClaudeCode(program, tmp_path / "claude", wire.base_url, ANTHROPIC_API_KEY=server.key)
            return OneRun(server, wire, claude.run(prompt, piped=piped))

    return run


def test_its_context_command_is_answered_by_counting(one_run: Callable[..., OneRun]) -> None:
    run = one_run("/context")
    assert (run.told.code, run.told.result["is_error"]) == (0, False)
    assert "Context Usage" in run.told.result["result"]
    counts = run.wire.of("/v1/messages/count_tokens")
    assert len(counts) == len(run.wire.seen) > 10
    for seen in counts:
        assert (seen.status, seen.query) == (200, "beta=true")
        assert seen.reply_json()["input_tokens"] > 0
        assert "antiphon-ignored" not in seen.reply_headers
    assert any(seen.json()["tools"] for seen in counts)
    assert run.server.records() == []


def test_a_prompt_over_the_window_is_told_in_words_it_knows(one_run: Callable[..., OneRun]) -> None:
    run = one_run("what is this?", piped="x" * 180_000)
    (refused,) = run.wire.of("/v1/messages")  # it does not try again
    assert refused.status == 400
    assert refused.reply_json()["error"]["message"].startswith("prompt is too long: 2")
    assert (run.told.code, run.told.result["is_error"]) == (1, True)
    # Its own words, which it has for this error alone.
    assert run.told.result["result"].startswith("Prompt is too long")


def test_an_answer_that_breaks_off_is_asked_for_again_and_both_are_recorded(one_run: Callable[..., OneRun]) -> None:
    run = one_run("say hello", "rules: [{text: 'one two', times: 1, fault: {kind: stop}}, {text: 'Well again.'}]")
    assert (run.told.code, run.told.result["result"]) == (0, "Well again.")
    broken, whole = run.wire.of("/v1/messages")
    assert broken.events()[-1]["type"] == "error"
    assert not whole.json().get("stream")
    assert whole.reply_json()["content"] == [{"type": "text", "text": "Well again.", "citations": None}]
    assert [record.outcome for record in run.server.records()] == ["engine_failed", "end_turn"]


def test_a_wrong_key_is_told_at_once(program: Path, scripted: StartScripted, tmp_path: Path) -> None:
    """By itself it would ask ten times more."""
    with recording(scripted().base_url) as wire:
        claude = ClaudeCode(program, tmp_path / "claude", wire.base_url, ANTHROPIC_API_KEY="sk-ant-api03-wrong")
        told = claude.run("say hello")
    assert told.result["is_error"]
    assert "Invalid API key" in told.result["result"]
    (refused,) = wire.of("/v1/messages")
    assert (refused.status, refused.reply_headers["x-should-retry"]) == (401, "false")
