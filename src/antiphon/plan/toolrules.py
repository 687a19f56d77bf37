"""The API's rules on toolsets, deferred tools and who may call (contract messages-and-inference 5.1, 5.3, 5.6, 5.7)."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator
from typing import Any

from antiphon.core.errors import InvalidRequest
from antiphon.dialect.toolsets import TOOLSETS, family_of
from antiphon.wire.blocks import BrowserStateBlock, ToolResultBlock, ToolUseBlock
from antiphon.wire.request import Conversation, InputMessage
from antiphon.wire.tools import CallableTool, CustomTool, NamedChoice, Tool, Toolset, TypedTool

#: What an entry of a set may not say: it has no name, and these belong to single tools.
_NOT_OF_SETS = (
    "name",
    "strict",
    "input_examples",
    "defer_loading",
    "allowed_callers",
    "display_width_px",
    "display_height_px",
    "display_number",
)


def check(request: Conversation) -> frozenset[str]:
    """Check the definitions and what refers to them, and tell by which names references bring toolsets.

    Raises:
        InvalidRequest: the first rule that is broken, with the path.
    """
    families: set[str] = set()
    deferred: list[bool] = []
    for index, tool in enumerate(request.tools):
        path = f"tools.{index}"
        family = family_of(tool.type) if isinstance(tool, Toolset) else None
        if isinstance(tool, Toolset) and family is not None:
            if family in families:
                raise InvalidRequest(f"`{tool.type}` may be given only once", path=path)
            families.add(family)
            deferred.append(_check_set(tool, family, path))
        else:
            if isinstance(tool, CallableTool) and _by_code(tool):
                _check_called_by_code(tool, path)
            deferred.append(isinstance(tool, CallableTool) and bool(tool.defer_loading))
            if deferred[-1] and tool.cache_control is not None:
                raise InvalidRequest("a tool with `defer_loading` may not have `cache_control`", path=path)
    if deferred and all(deferred):
        raise InvalidRequest("At least one tool must have defer_loading=false.", path="tools")
    for index, tool in enumerate(request.tools):
        if _name(tool) in families:
            raise InvalidRequest(f"a tool may not be named `{_name(tool)}` beside that toolset", path=f"tools.{index}")
    _check_choice(request)
    _check_results(request.messages)
    return frozenset(families)


def _check_set(tool: Toolset, family: str, path: str) -> bool:
    """Check one entry, and tell whether its members are deferred."""
    for field in _NOT_OF_SETS:
        given = getattr(tool, field, None)
        if given is not None and not (field == "allowed_callers" and tuple(given) == ("direct",)):
            raise InvalidRequest(f"`{field}` is not allowed for a toolset", path=f"{path}.{tool.type}.{field}")
    members, configs = TOOLSETS[family], tool.configs or {}
    for name in configs:
        if name not in members:
            raise InvalidRequest(f"`{name}` is not a member of this toolset", path=f"{path}.{tool.type}.configs.{name}")
    deferred: set[bool] = set()
    for name, member in members.items():
        config = configs.get(name)
        enabled = member.enabled if config is None or config.enabled is None else config.enabled
        if enabled:
            deferred.add(config is not None and bool(config.defer_loading))
    if len(deferred) > 1:
        raise InvalidRequest(
            "`defer_loading` must be the same for every enabled member", path=f"{path}.{tool.type}.configs"
        )
    return True in deferred


def _check_choice(request: Conversation) -> None:
    """A tool that only code may call cannot be forced, and the calls of code cannot be kept from being several."""
    choice = request.tool_choice
    if getattr(choice, "disable_parallel_tool_use", None) and any(
        isinstance(tool, CallableTool) and _by_code(tool) for tool in request.tools
    ):
        raise InvalidRequest(
            "`disable_parallel_tool_use` is not supported with tools that code may call", path="tool_choice"
        )
    if not isinstance(choice, NamedChoice):
        return
    for tool in request.tools:
        if _name(tool) == choice.name and isinstance(tool, CallableTool) and not _direct(tool):
            raise InvalidRequest(
                f"Tool '{choice.name}' cannot be chosen: its `allowed_callers` do not include 'direct'",
                path="tool_choice",
            )


def _name(tool: Tool) -> str | None:
    return tool.name if isinstance(tool, CustomTool | TypedTool) else None


def _by_code(tool: CallableTool) -> bool:
    return tool.allowed_callers is not None and any(caller != "direct" for caller in tool.allowed_callers)


def _check_called_by_code(tool: CallableTool, path: str) -> None:
    if tool.strict:
        raise InvalidRequest("a tool that code may call cannot be `strict`", path=path)
    if isinstance(tool, CustomTool) and _circular(tool.input_schema):
        raise InvalidRequest("Circular $ref detected", path=f"{path}.custom.input_schema")


def _circular(schema: Any) -> bool:
    """Whether a schema refers to itself within the document; what points elsewhere is not followed."""
    leads: dict[str, set[str]] = {}
    todo = ["#"]
    while todo:
        if (place := todo.pop()) not in leads:
            leads[place] = set(_refs(_at(schema, place)))
            todo += leads[place]
    try:
        graphlib.TopologicalSorter(leads).prepare()
    except graphlib.CycleError:
        return True
    return False


def _refs(node: Any) -> Iterator[str]:
    """The references of a schema but not those of its definitions, which count where they are referred to."""
    todo = [node]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            if isinstance(ref := part.get("$ref"), str):
                yield ref
            todo += [inner for name, inner in part.items() if name not in ("$defs", "definitions")]
        elif isinstance(part, list):
            todo += part


def _at(schema: Any, ref: str) -> Any:
    """What a reference such as `#/$defs/a` points to; None where that is nothing."""
    if ref == "#":
        return schema
    for name in ref.removeprefix("#/").split("/") if ref.startswith("#/") else [""]:
        schema = schema.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(schema, dict) else None
    return schema


def _direct(tool: CallableTool) -> bool:
    return tool.allowed_callers is None or "direct" in tool.allowed_callers


def _check_results(messages: tuple[InputMessage, ...]) -> None:
    """A result names the toolset that its call named, and only the browser's tells of the browser's state."""
    calls: dict[str, str | None] = {}
    for number, message in enumerate(messages):
        for position, block in enumerate(() if isinstance(message.content, str) else message.content):
            path = f"messages.{number}.content.{position}"
            if isinstance(block, ToolUseBlock):
                calls[block.id] = block.toolset_name
            elif isinstance(block, ToolResultBlock):
                called = calls.get(block.tool_use_id)
                if block.tool_use_id in calls and block.toolset_name != called:
                    raise InvalidRequest(
                        f"must be that of the `tool_use` block: {_quoted(called)}", path=f"{path}.toolset_name"
                    )
                _check_state(block, path)


def _check_state(block: ToolResultBlock, path: str) -> None:
    places = list(_states(block))
    if not places:
        return
    where = f"{path}.content.{places[-1]}"
    if len(places) > 1:
        raise InvalidRequest("at most one `browser_state` block is allowed in a result", path=where)
    if block.is_error or block.toolset_name != "browser":
        raise InvalidRequest("`browser_state` belongs to a browser toolset's result that is no error", path=where)


def _states(block: ToolResultBlock) -> Iterator[int]:
    parts = block.content if isinstance(block.content, tuple) else ()
    return (place for place, part in enumerate(parts) if isinstance(part, BrowserStateBlock))


def _quoted(name: str | None) -> str:
    return "none" if name is None else f"'{name}'"
