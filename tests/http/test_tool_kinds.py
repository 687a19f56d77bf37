"""Every kind of client tool is called by the model and answered, through the official SDK (contract client-surface 2.4)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import jsonschema_rs
import pytest

from running import Running, text_of

Start = Callable[..., Running]

ASK: Any = [{"role": "user", "content": "Please do it."}]
MODEL: Any = "claude-opus-5-5"
SCREEN: Any = {"name": "computer", "display_width_px": 800, "display_height_px": 600}
CUSTOM: Any = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
EDITING: Any = {"command": "view", "path": "/a.txt", "view_range": [1, 2]}
CLICK: Any = {"action": "left_click", "coordinate": [3, 4]}


def script(name: str, made: Any) -> str:
    """The model calls a tool, and once it has the result it is done."""
    return f"""
rules:
  - {{match: "all went well", text: I am done.}}
  - {{text: I will., calls: [{{name: {json.dumps(name)}, input: {json.dumps(made)}}}]}}
"""


def conversation(client: anthropic.Anthropic, tool: Any) -> tuple[Any, Any]:
    """The message with the call, and the one after its result."""
    asked: Any = {"model": MODEL, "max_tokens": 400, "tools": [tool]}
    first: Any = client.beta.messages.create(messages=ASK, **asked)
    call = first.content[-1]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "all went well"}
    if getattr(call, "toolset_name", None):
        result["toolset_name"] = call.toolset_name
    said: Any = [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    return first, client.beta.messages.create(messages=[*ASK, *said], **asked)


@pytest.mark.behaviour("client-surface-2.3-answer-tool-use")
@pytest.mark.parametrize(
    ("tool", "made"),
    [
        pytest.param(CUSTOM, {"at": "it"}, marks=pytest.mark.behaviour("client-surface-2.4-custom-used")),
        pytest.param(CUSTOM | {"type": "custom"}, {"at": "it"}, marks=pytest.mark.behaviour("client-surface-2.4-custom-used")),
        pytest.param(CUSTOM | {"type": None}, {}, marks=pytest.mark.behaviour("client-surface-2.4-custom-used")),
        pytest.param({"type": "bash_20250124", "name": "bash"}, {"command": "ls -l"}, marks=pytest.mark.behaviour("client-surface-2.4-bash-used")),
        pytest.param({"type": "bash_20250124", "name": "bash"}, {"restart": True}, marks=pytest.mark.behaviour("client-surface-2.4-bash-used")),
        pytest.param({"type": "text_editor_20250124", "name": "str_replace_editor"}, {"command": "undo_edit", "path": "/a.txt"}, marks=pytest.mark.behaviour("client-surface-2.4-text-editor-20250124-used")),
        pytest.param({"type": "text_editor_20250429", "name": "str_replace_based_edit_tool"}, EDITING, marks=pytest.mark.behaviour("client-surface-2.4-text-editor-20250429-used")),
        pytest.param({"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 9}, EDITING, marks=pytest.mark.behaviour("client-surface-2.4-text-editor-20250728-used")),
        pytest.param({"type": "memory_20250818", "name": "memory"}, {"command": "rename", "old_path": "/memories/a", "new_path": "/memories/b"}, marks=pytest.mark.behaviour("client-surface-2.4-memory-used")),
        pytest.param({"type": "bash_20241022", "name": "bash"}, {"command": "ls"}, marks=pytest.mark.behaviour("client-surface-2.4-older-bash-and-editor-used")),
        pytest.param({"type": "text_editor_20241022", "name": "str_replace_editor"}, EDITING, marks=pytest.mark.behaviour("client-surface-2.4-older-bash-and-editor-used")),
        pytest.param({"type": "computer_20241022", **SCREEN}, CLICK, marks=pytest.mark.behaviour("client-surface-2.4-computer-used")),
        pytest.param({"type": "computer_20250124", **SCREEN}, CLICK, marks=pytest.mark.behaviour("client-surface-2.4-computer-used")),
        pytest.param({"type": "computer_20251124", **SCREEN, "enable_zoom": True}, {"action": "zoom", "region": [0, 0, 9, 9]}, marks=pytest.mark.behaviour("client-surface-2.4-computer-used")),
    ],
)  # fmt: skip
def test_a_tool_is_called_and_its_result_read(scripted: Start, tool: Any, made: Any) -> None:
    first, last = conversation(scripted(script(tool["name"], made)).client(), tool)
    text, call = first.content
    assert (text.text, call.type, call.name, call.input) == ("I will.", "tool_use", tool["name"], made)
    assert call.caller is None or call.caller.type == "direct"
    assert (first.stop_reason, last.stop_reason) == ("tool_use", "end_turn")
    assert text_of(last) == "I am done."


@pytest.mark.behaviour("client-surface-2.3-answer-toolset")
@pytest.mark.parametrize(
    ("family", "member", "made"),
    [
        pytest.param("browser", "navigate", {"url": "https://a.example"}, marks=pytest.mark.behaviour("client-surface-2.4-browser-toolset-used")),
        pytest.param("browser", "left_click", {"target": {"type": "ref", "ref": "r1"}, "tab_id": "t2"}, marks=pytest.mark.behaviour("client-surface-2.4-browser-toolset-used")),
        pytest.param("computer", "left_click_drag", {"start_coordinate": [1, 2], "coordinate": [3, 4]}, marks=pytest.mark.behaviour("client-surface-2.4-computer-toolset-used")),
        pytest.param("computer", "screenshot", {}, marks=pytest.mark.behaviour("client-surface-2.4-computer-toolset-used")),
    ],
)  # fmt: skip
def test_a_member_is_called_by_its_own_name_and_its_sets(scripted: Start, family: str, member: str, made: Any) -> None:
    tool = {"type": f"{family}_toolset_20260801"}
    first, last = conversation(scripted(script(f"{family}.{member}", made)).client(), tool)
    call = first.content[-1]
    assert (call.type, call.name, call.toolset_name, call.input) == ("tool_use", member, family, made)
    assert (first.stop_reason, text_of(last)) == ("tool_use", "I am done.")


def test_a_member_that_is_switched_off_cannot_be_called(scripted: Start) -> None:
    client = scripted(script("computer.screenshot", {})).client()
    off: Any = {"type": "computer_toolset_20260801", "configs": {"screenshot": {"enabled": False}}}
    message: Any = client.messages.create(
        model=MODEL, max_tokens=400, messages=ASK, tools=[off], tool_choice={"type": "any"}
    )
    assert message.content[0].name != "screenshot"


SIX: Any = ["view", "create", "str_replace", "insert", "delete", "rename"]


@pytest.mark.parametrize(
    ("tool", "schema"),
    [
        ({"type": "memory_20250818", "name": "memory"}, {"required": ["command"], "properties": {"command": {"enum": SIX}}}),
        ({"type": "computer_20250124", **SCREEN}, {"required": ["action"], "properties": {"coordinate": {"minItems": 2}}}),
        ({"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}, {"required": ["command", "path"]}),
    ],
)  # fmt: skip
def test_a_forced_one_gets_an_input_of_its_own_form_whatever_is_said(scripted: Start, tool: Any, schema: Any) -> None:
    message: Any = (
        scripted("rules: [{text: I would rather not.}]")
        .client()
        .beta.messages.create(
            model=MODEL, max_tokens=400, messages=ASK, tools=[tool], tool_choice={"type": "tool", "name": tool["name"]}
        )
    )
    (call,) = message.content
    jsonschema_rs.validate({"type": "object"} | schema, call.input)
