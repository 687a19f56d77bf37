"""What of `tool_choice` is kept and what is refused (contract messages-and-inference 5.3, 7.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from running import Running, scripted_settings

USER: Any = [{"role": "user", "content": "Hello"}]
CLOSED: Any = {"type": "object", "properties": {}, "additionalProperties": False}
LOOK: Any = {"name": "look", "input_schema": CLOSED}
FIND: Any = {"name": "find", "input_schema": CLOSED}
BY_CODE: Any = LOOK | {"allowed_callers": ["code_execution_20260120"]}
SCRIPT = "rules: [{text: Well., calls: [{name: look}, {name: find}]}]"
FORCES: Any = [{"type": "any"}, {"type": "tool", "name": "look"}]
REFUSE = [
    "claude-mythos-preview", "claude-fable-5-1", "claude-fable-5-2", "claude-mythos-5-1", "claude-mythos-5-2",
    "claude-opus-5-5", "claude-sonnet-5-5",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("choices"), SCRIPT))
    yield running
    running.close()


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Where each id refuses what the API refuses for it."""
    running = Running(scripted_settings(tmp_path_factory.mktemp("bound"), SCRIPT, profile="claude"))
    yield running
    running.close()


def ask(running: Running, model: Any = "claude-haiku-5-5", /, **change: Any) -> Any:
    asked: Any = {"max_tokens": 200, "messages": USER, "tools": [LOOK, FIND]} | change
    return running.client().messages.create(model=model, **asked)


def called(message: Any) -> list[str]:
    return [block.name for block in message.content if block.type == "tool_use"]


@pytest.mark.behaviour("client-surface-2.1-tool-choice-forced")
@pytest.mark.parametrize("choice", FORCES)
def test_a_forced_choice_is_a_call_without_text(server: Running, choice: Any) -> None:
    message = ask(server, tool_choice=choice)
    assert called(message)[0] == "look"
    assert message.content[0].type == "tool_use"
    assert message.stop_reason == "tool_use"


@pytest.mark.behaviour("client-surface-2.1-tool-choice-forced")
def test_none_is_kept_with_tools_and_taken_without(server: Running) -> None:
    changes: list[Any] = [{}, {"tools": []}]
    for change in changes:
        message = ask(server, tool_choice={"type": "none"}, **change)
        assert (called(message), message.stop_reason) == ([], "end_turn")


@pytest.mark.behaviour("client-surface-2.1-tool-choice-parallel")
@pytest.mark.parametrize("choice", [{"type": "auto"}, *FORCES])
@pytest.mark.parametrize("disabled", [True, False, None])
def test_parallel_calls_are_turned_off_and_on(server: Running, choice: Any, disabled: bool | None) -> None:
    message = ask(server, tool_choice=choice | {"disable_parallel_tool_use": disabled})
    assert len(called(message)) == (1 if disabled else 2)
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize("disabled", ["yes", 1])
def test_it_is_turned_off_by_true_and_false_only(server: Running, disabled: Any) -> None:
    with pytest.raises(anthropic.BadRequestError, match="disable_parallel_tool_use"):
        ask(server, tool_choice={"type": "auto", "disable_parallel_tool_use": disabled})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tools": [], "tool_choice": {"type": "any"}}, "tool_choice: tool use can only be forced with tools that can be called"),
        ({"tools": [BY_CODE], "tool_choice": {"type": "any"}}, "tool_choice: tool use can only be forced with tools that can be called"),
        ({"tools": [BY_CODE, FIND], "tool_choice": {"type": "tool", "name": "look"}}, "tool_choice: Tool 'look' cannot be chosen: its `allowed_callers` do not include 'direct'"),
        ({"tools": [FIND, LOOK | {"defer_loading": True}], "tool_choice": {"type": "tool", "name": "look"}}, "tool_choice: Tool 'look' cannot be called here"),
        ({"tool_choice": {"type": "tool", "name": "gone"}}, "tool_choice: Tool 'gone' not found in provided tools"),
        ({"tools": [{"type": "computer_toolset_20260801"}], "tool_choice": {"type": "tool", "name": "computer"}}, "tool_choice: Tool 'computer' not found in provided tools"),
        ({"tools": [BY_CODE | {"strict": True}]}, "tools.0: a tool that code may call cannot be `strict`"),
        ({"tools": [FIND, BY_CODE], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, "tool_choice: `disable_parallel_tool_use` is not supported with tools that code may call"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_refused_and_not_counted(server: Running, change: Any, told: str) -> None:
    asked: Any = {"model": "claude-haiku-5-5", "messages": USER, "tools": [LOOK, FIND]} | change
    for ask_for in (lambda: server.client().messages.count_tokens(**asked), lambda: ask(server, **change)):
        with pytest.raises(anthropic.BadRequestError) as refused:
            ask_for()
        assert refused.value.api_message == told


NODE: Any = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
TREE: Any = {"type": "object", "properties": {"first": {"$ref": "#/$defs/node"}}, "$defs": {"node": NODE}}


@pytest.mark.behaviour("messages-and-inference-2.7-circular-schema")
@pytest.mark.parametrize("schema", [TREE, {"type": "object", "properties": {"again": {"$ref": "#"}}}])
def test_what_code_may_call_refers_not_to_itself(server: Running, schema: Any) -> None:
    """Others may: their inputs are held to it as deep as they go."""
    flat = TREE | {"$defs": {"node": {"type": "object"}, "unused": {"$ref": "#/$defs/unused"}}}
    for callers in (["code_execution_20260120"], ["direct", "code_execution_20250825"]):
        tool = LOOK | {"allowed_callers": callers}
        with pytest.raises(anthropic.BadRequestError, match=r"tools\.1\.custom\.input_schema: Circular \$ref detected"):
            ask(server, tools=[FIND, tool | {"input_schema": schema}])
        assert ask(server, tools=[FIND, tool | {"input_schema": flat}]).stop_reason == "tool_use"
    assert called(ask(server, tools=[LOOK | {"input_schema": schema}], tool_choice={"type": "any"})) == ["look", "look"]


@pytest.mark.parametrize("choice", FORCES)
def test_a_prompt_that_is_only_read_forces_nothing(server: Running, choice: Any) -> None:
    with pytest.raises(anthropic.BadRequestError, match="max_tokens must be at least 1 when tool use is forced"):
        ask(server, tool_choice=choice, max_tokens=0)
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with pytest.raises(anthropic.BadRequestError, match="max_tokens must be at least 1 when thinking is enabled"):
        ask(server, thinking=thinking, max_tokens=0)


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("model", REFUSE)
def test_ids_that_cannot_be_forced_say_so_where_their_rules_bind(server: Running, bound: Running, model: str) -> None:
    for choice in FORCES:
        assert called(ask(server, model, tool_choice=choice))
        with pytest.raises(anthropic.BadRequestError, match="tool_choice: forced tool use is not supported"):
            ask(bound, model, tool_choice=choice)
    assert called(ask(bound, model, tool_choice={"type": "auto"}))


def test_an_id_that_can_be_forced_is(bound: Running) -> None:
    for model in ("claude-haiku-5-5", "claude-opus-5", "claude-haiku-4-5"):
        assert called(ask(bound, model, tool_choice={"type": "any"}))


@pytest.mark.parametrize("tokens", [1, 3, 5])
def test_a_forced_call_without_room_for_its_opening_used_what_there_was(server: Running, tokens: int) -> None:
    message = server.client().messages.create(
        model="claude-opus-4-5", max_tokens=tokens, messages=USER, tools=[LOOK, FIND], tool_choice={"type": "any"}
    )
    assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "max_tokens", tokens)
