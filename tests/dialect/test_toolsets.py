"""Which functions a request lets the model call. What the official SDK says of the toolsets is the oracle."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from anthropic.lib.tools._toolsets._registry import BROWSER_DEFAULT_DISABLED_MEMBERS
from anthropic.types import beta
from anthropic.types.beta import BetaBrowserMemberName, BetaComputerMemberName, BetaMemoryTool20250818Command
from pydantic import BaseModel, TypeAdapter

from antiphon.dialect import dialect_named
from antiphon.dialect.client_tools import Function, functions
from antiphon.dialect.toolsets import TOOLSETS
from antiphon.wire.parse import parse_messages
from antiphon.wire.request import Conversation

MEMBERS = [(family, name) for family, members in TOOLSETS.items() for name in members]
SCREEN: dict[str, Any] = {"name": "computer", "display_width_px": 1280, "display_height_px": 800}
LOOK: dict[str, Any] = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {}}}}


def asked(*tools: dict[str, Any], results: list[Any] | None = None) -> Conversation:
    content: Any = [{"type": "tool_result", "tool_use_id": "t", "content": results}] if results else "hi"
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": content}], "tools": tools}
    return parse_messages(json.dumps(body).encode()).request


def offered(*tools: dict[str, Any], results: list[Any] | None = None) -> list[Function]:
    request = asked(*tools, results=results)
    return functions(request.tools, messages=request.messages)


def sdk_input(family: str, name: str) -> type[BaseModel]:
    """The SDK's model of a member's input."""
    words = "".join(word.capitalize() for word in (family, *name.split("_")))
    model: type[BaseModel] = getattr(beta, f"Beta{words}Input")
    return model


def sample(schema: dict[str, Any]) -> Any:
    """A value that fits a schema of ours."""
    if "anyOf" in schema:
        return sample(schema["anyOf"][0])
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema["type"] if isinstance(schema["type"], str) else schema["type"][0]
    if kind == "object":
        return {name: sample(each) for name, each in schema["properties"].items()}
    if kind == "array":
        return [sample(schema["items"])] * schema.get("minItems", 1)
    return {"string": "x", "integer": 1, "number": 1.5, "boolean": True}[kind]


@pytest.mark.behaviour("client-surface-2.4-browser-members", "client-surface-2.4-computer-members")
def test_every_documented_member_is_known() -> None:
    assert set(TOOLSETS["browser"]) == set(get_args(BetaBrowserMemberName)) and len(TOOLSETS["browser"]) == 31
    assert set(TOOLSETS["computer"]) == set(get_args(BetaComputerMemberName)) and len(TOOLSETS["computer"]) == 17
    hidden = {name for name, member in TOOLSETS["browser"].items() if not member.enabled}
    assert hidden == BROWSER_DEFAULT_DISABLED_MEMBERS
    assert all(member.enabled for member in TOOLSETS["computer"].values())


@pytest.mark.behaviour("client-surface-2.4-browser-members", "client-surface-2.4-computer-members")
@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_a_member_takes_what_the_sdk_says(family: str, name: str) -> None:
    ours = TOOLSETS[family][name].schema
    model = sdk_input(family, name)
    theirs = model.model_json_schema(by_alias=True)
    assert set(ours["properties"]) == set(theirs["properties"])
    assert set(ours["required"]) == set(theirs.get("required", []))
    value = sample(ours)
    read = TypeAdapter(model).validate_python(value, strict=True)
    assert read.model_dump(by_alias=True, exclude_none=True) == value


def test_a_target_is_a_point_or_an_element() -> None:
    target = TOOLSETS["browser"]["left_click"].schema["properties"]["target"]
    kinds = [each["properties"]["type"]["const"] for each in target["anyOf"]]
    assert kinds == ["coordinate", "ref"]
    model = sdk_input("browser", "left_click")
    for each in target["anyOf"]:
        TypeAdapter(model).validate_python({"target": sample(each)}, strict=True)


def test_a_set_is_one_function_per_member_that_is_switched_on() -> None:
    configs = {"screenshot": {"enabled": False}, "javascript_exec": {"enabled": True}, "zoom": {"enabled": None}}
    made = offered(LOOK, {"type": "browser_toolset_20260801", "configs": configs})
    names = [each.name for each in made]
    assert names[0] == "look" and len(names) == 1 + 31 - 4
    assert "screenshot" not in names and "read_console" not in names
    assert "javascript_exec" in names and "zoom" in names
    assert {(each.toolset, each.path, each.strict, each.eager) for each in made[1:]} == {
        ("browser", "tools.1", False, False)
    }


def test_members_of_both_sets_and_a_tool_of_ones_own_are_told_apart() -> None:
    own = LOOK | {"name": "screenshot"}
    made = offered(own, {"type": "browser_toolset_20260801"}, {"type": "computer_toolset_20260801"})
    shown = [each.shown for each in made]
    assert len(set(shown)) == len(shown)
    assert {"screenshot", "browser.screenshot", "computer.screenshot"} <= set(shown)


@pytest.mark.parametrize("dialect", ["hermes", "plain"])
@pytest.mark.parametrize("family", ["browser", "computer"])
def test_a_set_is_described_and_its_past_calls_are_written_alike(dialect: str, family: str) -> None:
    body = {
        "model": "m",
        "max_tokens": 1,
        "tools": [{"type": f"{family}_toolset_20260801"}],
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "screenshot", "input": {}, "toolset_name": family}],
            },
        ],
    }
    made = dialect_named(dialect).turns(parse_messages(json.dumps(body).encode()).request)
    members = [each for each in TOOLSETS[family].values() if each.enabled]
    assert sum(piece.path == "tools.0" for piece in made[0].pieces) == len(members)
    assert f'"name": "{family}.screenshot", "description": ' in made[0].text
    assert f'{{"name": "{family}.screenshot", "arguments": {{}}}}' in made[-1].text


def test_a_set_of_which_all_is_switched_off_is_not_spoken_of() -> None:
    configs = {name: {"enabled": False} for name in TOOLSETS["computer"]}
    request = asked({"type": "computer_toolset_20260801", "configs": configs})
    assert [turn.role for turn in dialect_named("hermes").turns(request)] == ["user"]


@pytest.mark.parametrize(
    ("kind", "count"), [("computer_20241022", 10), ("computer_20250124", 16), ("computer_20251124", 16)]
)
def test_the_computer_tool_is_one_function_with_an_action(kind: str, count: int) -> None:
    (made,) = offered({"type": kind, **SCREEN})
    actions = made.schema["properties"]["action"]["enum"]
    assert (made.name, made.toolset, len(actions)) == ("computer", None, count)
    assert set(actions) <= set(TOOLSETS["computer"])
    assert made.description is not None and "1280 pixels wide and 800 high" in made.description
    assert "zoom" not in actions and "region" not in made.schema["properties"]


def test_the_computer_zooms_where_that_is_switched_on() -> None:
    (made,) = offered({"type": "computer_20251124", "enable_zoom": True, **SCREEN})
    assert set(made.schema["properties"]["action"]["enum"]) == set(TOOLSETS["computer"])
    assert "region" in made.schema["properties"]


def test_a_function_carries_what_its_definition_says() -> None:
    made = offered(
        LOOK | {"strict": True, "description": "Looks.", "eager_input_streaming": True},
        {"type": "bash_20250124", "name": "bash"},
        {"name": "now", "input_schema": {"type": "object", "additionalProperties": False}},
    )
    assert made[0] == Function(
        name="look", description="Looks.", schema=LOOK["input_schema"], strict=True, path="tools.0", eager=True
    )
    assert [(each.name, each.path, each.bare) for each in made] == [
        ("look", "tools.0", False),
        ("bash", "tools.1", False),
        ("now", "tools.2", True),
    ]
    assert functions(asked(LOOK).tools, "inline")[0].path == "inline.0"


@pytest.mark.behaviour("client-surface-2.4-common-deferred")
def test_a_deferred_tool_is_shown_only_once_a_result_refers_to_it() -> None:
    tools = [LOOK, LOOK | {"name": "dig", "defer_loading": True}, LOOK | {"name": "fly", "defer_loading": True}]
    assert [each.name for each in offered(*tools)] == ["look"]
    found = [{"type": "tool_reference", "tool_name": "dig"}]
    assert [each.name for each in offered(*tools, results=found)] == ["look", "dig"]
    for results in (None, found):
        system, last = dialect_named("hermes").turns(asked(*tools, results=results))
        assert '"name": "look"' in system.text and "dig" not in system.text and "fly" not in system.text
        assert ('"name": "dig"' in last.text) == bool(results) and "fly" not in last.text


@pytest.mark.behaviour("client-surface-2.4-common-callers")
def test_what_only_code_may_call_is_not_the_models_to_call() -> None:
    tools = [
        LOOK | {"name": name, "allowed_callers": callers}
        for name, callers in (("a", ["direct"]), ("b", ["code_execution_20260120"]), ("c", None))
    ]
    assert [each.name for each in offered(*tools)] == ["a", "c"]


COMMANDS = [pytest.param(model, id=model.__name__) for model in get_args(get_args(BetaMemoryTool20250818Command)[0])]


@pytest.mark.behaviour("client-surface-2.4-memory-commands")
@pytest.mark.parametrize("model", COMMANDS)
def test_the_memory_takes_every_command_of_the_sdk(model: type[BaseModel]) -> None:
    (made,) = offered({"type": "memory_20250818", "name": "memory"})
    theirs = model.model_json_schema(by_alias=True)
    assert set(theirs["properties"]) <= set(made.schema["properties"])
    assert theirs["properties"]["command"]["const"] in made.schema["properties"]["command"]["enum"]
    value = {name: sample(made.schema["properties"][name]) for name in theirs["properties"]}
    TypeAdapter(model).validate_python(value | {"command": theirs["properties"]["command"]["const"]}, strict=True)
