"""The API's rules about toolsets and deferred tools, and what of tools' results is served."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from antiphon.core.errors import InvalidRequest
from antiphon.dialect.toolsets import TOOLSETS
from antiphon.plan.promises import refuse_unkept
from antiphon.plan.rules import check
from antiphon.wire.parse import parse_messages
from antiphon.wire.request import Conversation
from conftest import StartScripted

LOOK: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}
BROWSER: dict[str, Any] = {"type": "browser_toolset_20260801"}
COMPUTER: dict[str, Any] = {"type": "computer_toolset_20260801"}
SCREEN: dict[str, Any] = {"name": "computer", "display_width_px": 1, "display_height_px": 1}
STATE: dict[str, Any] = {"type": "browser_state", "tabs": []}
TEXT: dict[str, Any] = {"type": "text", "text": "x"}


def asked(tools: list[Any], messages: list[Any] | None = None, **fields: Any) -> Conversation:
    body = {"model": "m", "max_tokens": 1, "tools": tools, **fields}
    body["messages"] = messages or [{"role": "user", "content": "hi"}]
    return parse_messages(json.dumps(body).encode()).request


def exchange(result: dict[str, Any], **call: Any) -> list[Any]:
    used = {"type": "tool_use", "id": "t", "name": "look", "input": {}, **call}
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [used]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", **result}]},
    ]


def every(family: str, **config: Any) -> dict[str, Any]:
    return {name: config for name, member in TOOLSETS[family].items() if member.enabled}


@pytest.mark.parametrize(
    ("tools", "told"),
    [
        (
            [LOOK, BROWSER | {"configs": {"fly": {}}}],
            r"^tools\.1\.browser_toolset_20260801\.configs\.fly: `fly` is not a member of this toolset$",
        ),
        ([COMPUTER | {"configs": {"navigate": {"enabled": False}}}], r"configs\.navigate: `navigate` is not a member"),
        ([BROWSER, LOOK, BROWSER], r"^tools\.2: `browser_toolset_20260801` may be given only once$"),
        ([LOOK | {"name": "browser"}, BROWSER], r"^tools\.0: a tool may not be named `browser` beside that toolset$"),
        ([COMPUTER, {"type": "computer_20250124", **SCREEN}], r"^tools\.1: a tool may not be named `computer` beside"),
        (
            [BROWSER | {"configs": {"find": {"defer_loading": True}}}],
            r"\.configs: `defer_loading` must be the same for every enabled member$",
        ),
        (
            [COMPUTER | {"configs": every("computer", defer_loading=True)}],
            r"^tools: At least one tool must have defer_loading=false\.$",
        ),
        ([LOOK | {"defer_loading": True}], r"^tools: At least one tool must have defer_loading=false\.$"),
        (
            [LOOK, LOOK | {"name": "dig", "defer_loading": True, "cache_control": {"type": "ephemeral"}}],
            r"^tools\.1: a tool with `defer_loading` may not have `cache_control`$",
        ),
    ],
)
def test_definitions_that_break_a_rule_are_refused_by_path(tools: list[Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        check(asked(tools))


@pytest.mark.parametrize(
    "tools",
    [
        [BROWSER, COMPUTER],
        [BROWSER | {"configs": None}, LOOK | {"name": "computer"}],
        [COMPUTER | {"configs": {"zoom": {"enabled": False, "defer_loading": True}}}],
        [LOOK, BROWSER | {"configs": every("browser", defer_loading=True)}],
        [LOOK | {"name": "screenshot"}, BROWSER | {"cache_control": {"type": "ephemeral"}}],
        [{"type": "computer_20250124", **SCREEN}, BROWSER],
    ],
)
def test_definitions_that_break_none_are_served(tools: list[Any]) -> None:
    check(asked(tools))
    refuse_unkept(asked(tools))


@pytest.mark.parametrize("name", ["browser", "navigate", "browser.navigate"])
def test_a_toolset_cannot_be_chosen(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^tool_choice: Tool '{name}' not found in provided tools$"):
        check(asked([LOOK, BROWSER], tool_choice={"type": "tool", "name": name}))


@pytest.mark.behaviour("client-surface-2.4-common-callers")
def test_what_only_code_may_call_cannot_be_chosen() -> None:
    choice = {"type": "tool", "name": "look"}
    with pytest.raises(InvalidRequest, match=r"^tool_choice: Tool 'look' cannot be chosen"):
        check(asked([LOOK | {"allowed_callers": ["code_execution_20260120"]}], tool_choice=choice))
    check(asked([LOOK | {"allowed_callers": ["code_execution_20260120", "direct"]}], tool_choice=choice))


@pytest.mark.parametrize(
    ("call", "result", "told"),
    [
        (
            {"toolset_name": "browser"},
            {},
            r"2\.content\.0\.toolset_name: must be that of the `tool_use` block: 'browser'$",
        ),
        ({"toolset_name": "browser"}, {"toolset_name": "computer"}, "must be that of the `tool_use` block: 'browser'$"),
        ({}, {"toolset_name": "browser"}, "must be that of the `tool_use` block: none$"),
        ({}, {"content": [STATE]}, r"content\.0\.content\.0: `browser_state` belongs to a browser"),
        (
            {"toolset_name": "browser"},
            {"toolset_name": "browser", "content": [TEXT, STATE], "is_error": True},
            r"content\.0\.content\.1: `browser_state` belongs to a browser",
        ),
        (
            {"toolset_name": "browser"},
            {"toolset_name": "browser", "content": [STATE, TEXT, STATE]},
            r"content\.0\.content\.2: at most one `browser_state`",
        ),
    ],
)
def test_results_that_do_not_belong_to_their_calls_are_refused(
    call: dict[str, Any], result: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidRequest, match=told):
        check(asked([LOOK, BROWSER], exchange(result, **call)))


@pytest.mark.behaviour("client-surface-2.3-browser-state")
def test_a_members_result_echoes_its_set() -> None:
    result = {"toolset_name": "browser", "content": [TEXT, STATE]}
    request = asked([BROWSER], exchange(result, name="navigate", toolset_name="browser"))
    check(request)
    refuse_unkept(request)


@pytest.mark.behaviour("client-surface-2.4-common-deferred")
def test_a_deferred_toolset_is_referred_to_by_its_name() -> None:
    tools = [LOOK, BROWSER | {"configs": every("browser", defer_loading=True)}]
    check(asked(tools, exchange({"content": [{"type": "tool_reference", "tool_name": "browser"}]})))
    with pytest.raises(InvalidRequest, match="Tool reference 'computer' not found"):
        check(asked(tools, exchange({"content": [{"type": "tool_reference", "tool_name": "computer"}]})))


FOUND: dict[str, Any] = {"type": "search_result", "source": "s", "title": "t", "content": [TEXT]}
PLAIN: dict[str, Any] = {"type": "text", "data": "x", "media_type": "text/plain"}
IMAGE: dict[str, Any] = {"type": "image", "source": {"type": "url", "url": "x"}}


@pytest.mark.parametrize(
    "part",
    [
        FOUND,
        FOUND | {"citations": {"enabled": False}},
        {"type": "document", "source": PLAIN, "title": "t"},
        {"type": "document", "source": {"type": "content", "content": "x"}},
        {"type": "document", "source": {"type": "content", "content": [TEXT]}},
    ],
)
def test_results_of_text_are_served(part: dict[str, Any]) -> None:
    refuse_unkept(asked([LOOK], exchange({"content": [part]})))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (IMAGE, r"^messages\.2\.content\.0\.content\.0: `image` blocks are not supported"),
        (FOUND | {"citations": {"enabled": True}}, r"content\.0\.citations\.enabled: citing is not supported"),
        ({"type": "document", "source": PLAIN, "citations": {"enabled": True}}, r"content\.0\.citations\.enabled: "),
        (
            {"type": "document", "source": {"type": "url", "url": "x"}},
            r"content\.0\.source: documents that are no text",
        ),
        (
            {"type": "document", "source": {"type": "content", "content": [TEXT, IMAGE]}},
            r"content\.0\.source\.content\.1: `image` blocks are not supported",
        ),
    ],
)
def test_results_that_promise_more_are_refused_by_path(part: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        refuse_unkept(asked([LOOK], exchange({"content": [part]})))


def test_toolsets_are_shown_to_the_model_and_their_rules_kept_over_http(scripted: StartScripted) -> None:
    client = scripted().client()
    asking: Any = {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "hi"}]}
    sets: list[Any] = [[LOOK], [LOOK, BROWSER | {"configs": every("browser", enabled=False)}], [LOOK, BROWSER]]
    lengths = [client.messages.count_tokens(**asking, tools=tools).input_tokens for tools in sets]
    assert lengths[0] == lengths[1] < lengths[2] - 1000
    asking["tools"] = [BROWSER, BROWSER]
    with pytest.raises(anthropic.BadRequestError, match=r"tools\.1: `browser_toolset_20260801` may be given only once"):
        client.messages.count_tokens(**asking)
