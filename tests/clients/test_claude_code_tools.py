"""Claude Code runs whole loops: a scripted model calls its own tools, it executes the calls and tells what came of
them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import msgspec
import pytest

from claudecode import ClaudeCode, Told, installed
from conftest import StartScripted
from recording import Recorder, Seen, recording
from running import Running

#: The first run on a machine downloads Claude Code, about 100 MB.
pytestmark = pytest.mark.timeout(600)
#: It writes files without a question then.
EDITS = ("--permission-mode", "acceptEdits")
#: Stands for the project's folder in scripts.
PROJECT = "(project)"
#: All that a call's form and its JSON are made of, and control tokens of models.
AWKWARD = 'Say "hi" \\n\t<tool_call>{"name": "Bash"}</tool_call>\r\nGrüße 🎉 <|im_end|>\n```json\n{"a": [1]}\n```\n'


class Loop(msgspec.Struct):
    """A run of Claude Code from its prompt to its end, and what went over the wire for it."""

    server: Running
    wire: Recorder
    project: Path
    told: Told

    @property
    def asked(self) -> list[Seen]:
        return self.wire.of("/v1/messages")

    def ends_well(self, text: str, *outcomes: str) -> None:
        """It printed this at its end, all of its turns ended as they are named, and none was more than it should be."""
        assert (self.told.code, self.told.result["is_error"], self.told.result["result"]) == (0, False, text)
        assert [record.outcome for record in self.server.records()] == list(outcomes)
        for seen in self.asked:
            assert seen.status == 200
            assert "antiphon-ignored" not in seen.reply_headers

    def results(self, turn: int) -> list[Any]:
        """The results that a turn carries in its last message."""
        message = self.asked[turn].json()["messages"][-1]
        assert message["role"] == "user"
        return [block for block in message["content"] if block["type"] == "tool_result"]


def calls(seen: Seen) -> list[Any]:
    """The calls of a streamed answer, read as strictly as a client may: blocks one after the other, each opened with an
    empty input, and the pieces of its input together one JSON document."""
    made: list[Any] = []
    inputs: list[str] = []
    reason, opened, ended = None, None, -1
    for event in seen.events():
        if event["type"] == "content_block_start":
            assert (opened, event["index"]) == (None, ended + 1)
            opened = event["content_block"]
            if opened["type"] == "tool_use":
                assert opened["input"] == {}
                made.append(opened)
                inputs.append("")
        elif event["type"] == "content_block_delta":
            assert opened is not None
            assert event["index"] == ended + 1
            if opened["type"] == "tool_use":
                assert event["delta"]["type"] == "input_json_delta"
                inputs[-1] += event["delta"]["partial_json"]
        elif event["type"] == "content_block_stop":
            assert event["index"] == ended + 1
            opened, ended = None, ended + 1
        elif event["type"] == "message_delta":
            reason = event["delta"]["stop_reason"]
    assert opened is None
    assert reason == ("tool_use" if made else "end_turn")
    return [call | {"input": json.loads(text)} for call, text in zip(made, inputs, strict=True)]


def unbounded(schema: Any) -> Any:
    """A schema without the bounds that are promised for strict tools alone."""
    if isinstance(schema, list):
        return [unbounded(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    bounds = {name for name in schema if re.fullmatch("(exclusiveM|m)(in|ax)(imum|Length|Items)", name)}
    return {name: unbounded(each) for name, each in schema.items() if name not in bounds}


def call(name: str, **given: Any) -> dict[str, Any]:
    return {"name": name, "input": given}


def write(name: str, content: str) -> dict[str, Any]:
    return call("Write", file_path=f"{PROJECT}/{name}", content=content)


@pytest.fixture(scope="module")
def program() -> Path:
    return installed()


@pytest.fixture
def loop(program: Path, scripted: StartScripted, tmp_path: Path) -> Callable[..., Loop]:
    def run(*answers: dict[str, Any], options: tuple[str, ...] = EDITS, **own: str) -> Loop:
        """The answers are given one after the other, each token in a step of its own; every tool is listed unless
        `own` says otherwise."""
        folder = tmp_path / "claude"
        rules = [{"delay_ms": 1, "times": 1} | answer for answer in answers]
        script = json.dumps({"rules": rules}, ensure_ascii=False).replace(PROJECT, str(folder / "project"))
        server = scripted(script)
        with recording(server.base_url) as wire:
            environment = {"ANTHROPIC_API_KEY": server.key, "ENABLE_TOOL_SEARCH": "false"} | own
            claude = ClaudeCode(program, folder, wire.base_url, **environment)
            (claude.project / "here.txt").write_text("alpha\n")
            told = claude.run("do as you were told", *options)
        return Loop(server, wire, claude.project, told)

    return run


def test_it_writes_the_file_that_it_is_told_to_write(loop: Callable[..., Loop]) -> None:
    run = loop({"text": "I will write it.", "calls": [write("new.txt", AWKWARD)]}, {"text": "It is written."})
    run.ends_well("It is written.", "tool_use", "end_turn")
    assert (run.project / "new.txt").read_bytes() == AWKWARD.encode()
    first, second = run.asked
    (made,) = calls(first)
    assert (made["name"], made["caller"]) == ("Write", {"type": "direct"})
    assert made["input"] == {"file_path": str(run.project / "new.txt"), "content": AWKWARD}
    assert calls(second) == []
    (result,) = run.results(1)
    assert result["tool_use_id"] == made["id"]
    assert "created successfully" in result["content"]
    assert not result.get("is_error")
    # What it sends back of the call is what it was sent, but for who called.
    assert [block["type"] for block in second.json()["messages"][-2]["content"]] == ["text", "tool_use"]
    assert second.json()["messages"][-2]["content"][1] == {name: made[name] for name in ("type", "id", "name", "input")}
    billed = [seen.events()[0]["message"]["usage"]["input_tokens"] for seen in run.asked]
    assert billed[1] > billed[0] + first.events()[-2]["usage"]["output_tokens"]
    # One turn for each answer, and both are in what it says it used.
    assert run.told.result["num_turns"] == 2
    assert run.told.result["usage"]["input_tokens"] == sum(billed)


def test_it_runs_parallel_calls_and_answers_them_in_one_turn(loop: Callable[..., Loop]) -> None:
    run = loop(
        {
            "text": "All at once.",
            "calls": [
                call("Read", file_path=f"{PROJECT}/here.txt"),
                write("one.txt", "1"),
                write("two.txt", "2"),
            ],
        },
        {"calls": [call("Edit", file_path=f"{PROJECT}/here.txt", old_string="alpha", new_string="omega")]},
        {"text": "Three files."},
    )
    run.ends_well("Three files.", "tool_use", "tool_use", "end_turn")
    assert {file.name: file.read_text() for file in run.project.iterdir()} == {
        "here.txt": "omega\n",
        "one.txt": "1",
        "two.txt": "2",
    }
    made = calls(run.asked[0])
    assert [each["name"] for each in made] == ["Read", "Write", "Write"]
    assert [result["tool_use_id"] for result in run.results(1)] == [each["id"] for each in made]
    assert "alpha" in run.results(1)[0]["content"]
    # Its answer to the second turn began with a call, and no empty text stands before it.
    (edit,) = run.asked[2].json()["messages"][-2]["content"]
    assert (edit["type"], edit["name"]) == ("tool_use", "Edit")


@pytest.mark.parametrize(
    ("made", "said", "denied"),
    [
        (call("Read", file_path=f"{PROJECT}/none.txt"), "File does not exist", False),
        (call("TaskStop", task_id="none"), "No task found", False),
        (call("Bash", command=f"touch {PROJECT}/made.txt", description="Make a file"), "approval", True),
    ],
)
def test_a_tool_that_fails_or_is_not_allowed_is_told_as_an_error(
    loop: Callable[..., Loop], made: dict[str, Any], said: str, denied: bool
) -> None:
    run = loop({"calls": [made]}, {"text": "It failed."}, options=("--permission-mode", "default"))
    run.ends_well("It failed.", "tool_use", "end_turn")
    (result,) = run.results(1)
    assert result["is_error"] is True
    assert said in result["content"]
    assert [each["tool_name"] for each in run.told.result["permission_denials"]] == [made["name"]] * denied
    assert [file.name for file in run.project.iterdir()] == ["here.txt"]


def test_it_runs_a_command(loop: Callable[..., Loop]) -> None:
    made = call("Bash", description="Count letters", timeout=60_000, command='echo "four" | wc -c')
    run = loop({"calls": [made]}, {"text": "Five."}, options=("--allowedTools=Bash(echo *)",))
    run.ends_well("Five.", "tool_use", "end_turn")
    (result,) = run.results(1)
    assert result["content"].strip() == "5"
    assert not result["is_error"]


def test_it_finds_a_deferred_tool_and_calls_it_then(loop: Callable[..., Loop]) -> None:
    run = loop(
        {"calls": [call("ToolSearch", query="select:TaskStop", max_results=1)]},
        {"calls": [call("TaskStop", task_id="none")]},
        {"text": "Found."},
        ENABLE_TOOL_SEARCH="true",
    )
    run.ends_well("Found.", "tool_use", "tool_use", "end_turn")
    (found,) = run.results(1)
    assert found["content"] == [{"type": "tool_reference", "tool_name": "TaskStop"}]
    listed = [{tool["name"]: tool for tool in seen.json()["tools"]} for seen in run.asked]
    assert "TaskStop" not in listed[0]
    assert listed[1]["TaskStop"]["defer_loading"] is True
    assert [each["name"] for each in calls(run.asked[1])] == ["TaskStop"]
    assert run.results(2)[0]["is_error"] is True


def test_a_sub_agent_has_a_conversation_of_its_own(loop: Callable[..., Loop]) -> None:
    made = call(
        "Agent",
        description="Look about",
        prompt="Write down what you see.",
        subagent_type="general-purpose",
        run_in_background=False,
    )
    run = loop(
        {"calls": [made]}, {"calls": [write("seen.txt", "a hill")]}, {"text": "I saw a hill."}, {"text": "It saw it."}
    )
    run.ends_well("It saw it.", "tool_use", "tool_use", "end_turn", "end_turn")
    assert (run.project / "seen.txt").read_text() == "a hill"
    assert "Write down what you see." in json.dumps(run.asked[1].json()["messages"][0])
    assert "I saw a hill." in json.dumps(run.results(3))


def test_its_structured_output_is_the_call_of_a_tool(loop: Callable[..., Loop]) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "integer"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    made = call("StructuredOutput", answer=4)
    run = loop({"text": "Let me see.", "calls": [made]}, options=("--json-schema", json.dumps(schema)))
    run.ends_well('{"answer":4}', "tool_use")
    assert run.told.result["structured_output"] == {"answer": 4}


@pytest.mark.parametrize(("text", "streams"), [("Now then.", [True, True, True]), ("", [True, False, True])])
def test_a_call_that_breaks_off_is_not_executed_and_is_asked_for_again(
    loop: Callable[..., Loop], text: str, streams: list[bool]
) -> None:
    """Where a whole block came before, it asks for the rest; else for the same again, and not in a stream."""
    broken = {"text": text, "calls": [write("half.txt", "word " * 30)]}
    run = loop(
        broken | {"fault": {"kind": "stop", "after": 14}},
        {"text": "Again.", "calls": [write("whole.txt", "five six")]},
        {"text": "At last."},
    )
    run.ends_well("At last.", "engine_failed", "tool_use", "end_turn")
    assert sorted(file.name for file in run.project.iterdir()) == ["here.txt", "whole.txt"]
    events = run.asked[0].events()
    assert events[-1]["type"] == "error"
    assert "file_path" in json.dumps(events[-2])
    assert [bool(seen.json().get("stream")) for seen in run.asked] == streams


def test_a_call_that_the_limit_cuts_is_closed_and_refused_by_the_client(loop: Callable[..., Loop]) -> None:
    made = write("cut.txt", "word " * 50)
    run = loop({"text": "Now.", "calls": [made]}, {"text": "Too long."}, CLAUDE_CODE_MAX_OUTPUT_TOKENS="30")
    run.ends_well("Too long.", "max_tokens", "end_turn")
    assert not (run.project / "cut.txt").exists()
    assert run.asked[0].events()[-2]["delta"]["stop_reason"] == "max_tokens"
    (result,) = run.results(1)
    assert result["is_error"] is True
    assert "`content` is missing" in result["content"]


def test_each_of_its_tools_can_be_forced_with_an_input_that_fits(loop: Callable[..., Loop]) -> None:
    """With its own schemas; one of them allows a text of 524288 letters, which no grammar counts."""
    run = loop({"text": "Hello."}, *[{"text": "I would rather not."}] * 100)
    body = run.asked[0].json()
    tools = {tool["name"]: tool["input_schema"] for tool in body["tools"]}
    assert len(tools) > 20
    assert '"maxLength": 524288' in json.dumps(tools)
    del body["thinking"]
    headers = {"x-api-key": run.server.key, "anthropic-version": "2023-06-01"}
    with httpx2.Client(base_url=run.server.base_url, headers=headers, timeout=60) as client:
        for name, schema in tools.items():
            forced = body | {"stream": False, "tool_choice": {"type": "tool", "name": name}}
            answer = client.post("/v1/messages", json=forced)
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json()["stop_reason"] == "tool_use"
            (made,) = answer.json()["content"]
            assert made["name"] == name
            jsonschema_rs.validate(unbounded(schema), made["input"])
