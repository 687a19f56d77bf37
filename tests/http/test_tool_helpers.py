"""The SDK's helpers that run tools: its runner, memory and toolsets (contract client-surface 7)."""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from anthropic import BadRequestError, beta_tool
from anthropic.lib.tools._beta_builtin_memory_tool import BetaLocalFilesystemMemoryTool
from anthropic.tools import (
    BetaAbstractBrowserToolset20260801,
    BetaAbstractComputerToolset20260801,
    BetaBrowserNavigateResult,
    BetaBrowserState,
    BetaComputerCursorPositionResult,
    ToolError,
)
from pydantic import BaseModel

from running import Running, text_of
from sdkwire import Wire

Start = Callable[..., Running]

ASKED: Any = {"model": "claude-opus-5-5", "max_tokens": 400, "messages": [{"role": "user", "content": "Please do it."}]}


def script(*steps: tuple[str, str, Any]) -> str:
    """Each step is the text of the result that it follows, and the call it makes; "" is for the first one."""
    rules = [
        f"  - {{match: {json.dumps(seen) if seen else '.'}, calls: [{{name: {name}, input: {json.dumps(made)}}}]}}"
        for seen, name, made in reversed(steps)
    ]
    return "\n".join(["rules:", "  - {match: all went well, text: I am done.}", *rules])


def results(wire: Wire) -> list[Any]:
    """The results that the last request carries."""
    return [
        block
        for message in wire.body(-1)["messages"]
        for block in (message["content"] if isinstance(message["content"], list) else [])
        if block["type"] == "tool_result"
    ]


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Loose(BaseModel):
    name: str


class Item(BaseModel, extra="forbid"):
    name: str
    size: Size
    tags: list[str] = []
    kind: Literal["box", "bag"] | None = None


@pytest.mark.behaviour("client-surface-7-runner-loop")
@pytest.mark.parametrize("strict", [None, True])
def test_a_tool_typed_with_models_gets_what_its_function_takes(scripted: Start, strict: bool | None) -> None:
    """The call is not as the schema has it in the script: the grammar makes it so."""
    seen: list[tuple[Item, int]] = []

    def pack(item: Item, count: int) -> str:
        """Pack it."""
        seen.append((item, count))
        return "all went well"

    tool: Any = beta_tool(pack) if strict is None else beta_tool(strict=strict)(pack)
    running = scripted(script(("", "pack", {"item": "a box", "many": 3})))
    final = running.client().beta.messages.tool_runner(**ASKED, tools=[tool], tool_choice={"type": "auto"})
    assert text_of(final.until_done()) == "I am done."
    ((item, count),) = seen
    assert isinstance(item, Item)
    assert isinstance(count, int)


def test_a_strict_tool_whose_models_take_more_is_refused_by_path(scripted: Start) -> None:
    """The SDK closes only the outermost object; every one has to be."""

    @beta_tool(strict=True)
    def pack(item: Loose) -> str:
        """Pack it."""
        return item.name

    runner = scripted("rules: []").client().beta.messages.tool_runner(**ASKED, tools=[pack])
    with pytest.raises(BadRequestError, match=r"tools\.0\.custom\.input_schema\.\$defs\..*additionalProperties"):
        runner.until_done()


@pytest.mark.behaviour("client-surface-7-runner-loop")
def test_a_tool_that_tells_its_error_is_told_on(scripted: Start) -> None:
    @beta_tool
    def pack(count: int) -> str:
        """Pack so many."""
        if count > 1:
            raise ToolError([{"type": "text", "text": "only one fits"}])
        return "all went well"

    wire = Wire(scripted(script(("", "pack", {"count": 3}), ("only one fits", "pack", {"count": 1}))))
    final = wire.client.beta.messages.tool_runner(**ASKED, tools=[pack]).until_done()
    assert text_of(final) == "I am done."
    assert [bool(result.get("is_error")) for result in results(wire)] == [True, False]


@pytest.mark.behaviour("client-surface-7-memory-and-toolsets")
def test_the_memory_helper_carries_out_all_six_commands(scripted: Start, tmp_path: Path) -> None:
    note = "/memories/note.txt"
    steps: list[Any] = [
        {"command": "create", "path": note, "file_text": "one\n"},
        {"command": "str_replace", "path": note, "old_str": "one", "new_str": "two"},
        {"command": "insert", "path": note, "insert_line": 1, "insert_text": "three\n"},
        {"command": "view", "path": note},
        {"command": "rename", "old_path": note, "new_path": "/memories/kept.txt"},
        {"command": "create", "path": "/memories/gone.txt", "file_text": "x"},
        {"command": "delete", "path": "/memories/gone.txt"},
    ]
    # One message with a call after the other; a rule serves once.
    calls = [f"  - {{times: 1, calls: [{{name: memory, input: {json.dumps(step)}}}]}}" for step in steps]
    wire = Wire(scripted("\n".join(["rules:", *calls, "  - {text: I am done.}"])))
    memory = BetaLocalFilesystemMemoryTool(str(tmp_path))
    final = wire.client.beta.messages.tool_runner(**ASKED, tools=[memory]).until_done()
    assert text_of(final) == "I am done."
    assert wire.body(-1)["tools"] == [{"type": "memory_20250818", "name": "memory"}]
    told = results(wire)
    assert [result.get("is_error") for result in told] == [None] * len(steps), told
    assert "two" in json.dumps(told[3])
    assert {file.name: file.read_text() for file in tmp_path.rglob("*.txt")} == {"kept.txt": "two\nthree\n"}


class Browser(BetaAbstractBrowserToolset20260801):
    def _browser_state(self, context: Any) -> BetaBrowserState:
        return BetaBrowserState(tabs=[{"tab_id": "1", "title": "It", "url": "https://a.example/", "active": True}])

    def navigate(self, context: Any, input: Any) -> BetaBrowserNavigateResult:
        return BetaBrowserNavigateResult(url=input.url, status=200, title="all went well")


@pytest.mark.behaviour("client-surface-7-memory-and-toolsets")
def test_the_browser_helper_answers_with_its_state(scripted: Start) -> None:
    wire = Wire(scripted(script(("", "browser.navigate", {"url": "https://a.example/"}))))
    final = wire.client.beta.messages.tool_runner(**ASKED, tools=[Browser()]).until_done()
    assert text_of(final) == "I am done."
    assert "browser-toolset" in wire.sent["x-stainless-helper"]
    (result,) = results(wire)
    assert result["toolset_name"] == "browser"
    assert [part["type"] for part in result["content"]] == ["text", "browser_state"]


class Computer(BetaAbstractComputerToolset20260801):
    def cursor_position(self, context: Any, input: Any) -> BetaComputerCursorPositionResult:
        return BetaComputerCursorPositionResult(x=3, y=4)

    def left_click(self, context: Any, input: Any) -> str:
        return f"all went well at {input.coordinate}"


@pytest.mark.behaviour("client-surface-7-memory-and-toolsets")
def test_the_computer_helper_goes_through_two_members(scripted: Start) -> None:
    steps = script(("", "computer.cursor_position", {}), ("X=3,Y=4", "computer.left_click", {"coordinate": [3, 4]}))
    wire = Wire(scripted(steps))
    final = wire.client.beta.messages.tool_runner(**ASKED, tools=[Computer()]).until_done()
    assert text_of(final) == "I am done."
    assert "computer-toolset" in wire.sent["x-stainless-helper"]
    assert [result["toolset_name"] for result in results(wire)] == ["computer", "computer"]
    # What the class does not serve is switched off, and cannot be called.
    assert wire.body(-1)["tools"][0]["configs"]["screenshot"] == {"enabled": False}


def test_a_call_of_the_memory_may_be_streamed(scripted: Start, tmp_path: Path) -> None:
    data = base64.b64encode(bytes(range(200))).decode()
    steps = script(("", "memory", {"command": "create", "path": "/memories/a.txt", "file_text": data}))
    runner = scripted(steps.replace("all went well", "successfully")).client().beta.messages.tool_runner(
        **ASKED, tools=[BetaLocalFilesystemMemoryTool(str(tmp_path))], stream=True
    )  # fmt: skip
    messages: list[Any] = []
    for stream in runner:
        messages.append(stream.get_final_message())
        stream.close()
    assert text_of(messages[-1]) == "I am done."
    assert (tmp_path / "memories" / "a.txt").read_text() == data
