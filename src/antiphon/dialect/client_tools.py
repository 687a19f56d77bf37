"""The functions a request lets the model call: the client's own tools, and those the API defines and the client runs.

Claude knows `bash`, the text editor, `memory` and the computer from training, so their definitions carry no schema
(contract `client-surface.md` 2.4). Other models do not, so the documented schema and a short description stand in here;
the members of toolsets are in `toolsets`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.dialect.toolsets import KEYS, SCROLLING, TOOLSETS, family_of, inputs, number, numbers, text
from antiphon.wire.blocks import JsonObject, ToolReferenceBlock, ToolResultBlock
from antiphon.wire.request import InputMessage
from antiphon.wire.tools import (
    CallableTool,
    ComputerTool,
    CustomTool,
    MemberConfig,
    Tool,
    Toolset,
    TypedTool,
    ZoomingComputerTool,
)


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """One function the model can call.

    `name` and `toolset` are what the call carries to the client; `shown` is the name the model reads and writes.
    `schema` is that of the input; `path` the dotted path of the entry it comes from; `eager` asks for its input raw.
    `deferred` functions are told to the model where a result refers to them, not with the others.
    """

    name: str
    description: str | None
    schema: JsonObject
    strict: bool = False
    toolset: str | None = None
    path: str
    eager: bool = False
    deferred: bool = False

    @property
    def shown(self) -> str:
        return shown_name(self.name, self.toolset)

    @property
    def referred(self) -> str:
        """By which name a `tool_reference` brings it: a set comes whole."""
        return self.toolset or self.name

    @property
    def bare(self) -> bool:
        """Whether there is nothing that an input could say."""
        return not self.schema.get("properties") and self.schema.get("additionalProperties") in (None, False)

    def described(self) -> JsonObject:
        """What a model reads: `name`, `description` where there is one, and `parameters` (a JSON Schema)."""
        told = {} if self.description is None else {"description": self.description}
        return {"name": self.shown, **told, "parameters": self.schema}


def shown_name(name: str, toolset: str | None) -> str:
    """A member goes by its set and its name: both sets can `screenshot`, and a tool of the client's own may be called
    so too, but no such name can hold a dot."""
    return name if toolset is None else f"{toolset}.{name}"


def functions(tools: Sequence[Tool], path: str = "tools", *, messages: Sequence[InputMessage] = ()) -> list[Function]:
    """All functions that the model can call by itself, in the order of their definitions.

    Left out are members that are switched off, tools that only code may call, and deferred tools that no
    `tool_reference` in a result of `messages` has brought (contract `messages-and-inference.md` 5.6).

    Raises:
        InvalidRequest: a tool the API defines that no model here is told about; names its path.
    """
    found = frozenset(_references(messages))
    made: list[Function] = []
    for index, tool in enumerate(tools):
        made += [each for each in _functions(tool, f"{path}.{index}") if not each.deferred or each.referred in found]
    return made


def _references(messages: Sequence[InputMessage]) -> Iterator[str]:
    for message in messages:
        for block in () if isinstance(message.content, str) else message.content:
            if isinstance(block, ToolResultBlock) and isinstance(block.content, tuple):
                yield from (part.tool_name for part in block.content if isinstance(part, ToolReferenceBlock))


def _functions(tool: Tool, path: str) -> list[Function]:
    if isinstance(tool, Toolset):
        return _members(tool, path)
    if isinstance(tool, CallableTool) and tool.allowed_callers is not None and "direct" not in tool.allowed_callers:
        return []
    if isinstance(tool, CustomTool):
        return [_function(tool, tool.name, tool.description, tool.input_schema, path)]
    if isinstance(tool, TypedTool):
        return [_function(tool, tool.name, *_documented(tool, path), path)]
    raise _unknown(type(tool).__name__, path)


def _function(tool: CallableTool, name: str, description: str | None, schema: JsonObject, path: str) -> Function:
    return Function(
        name=name,
        description=description,
        schema=schema,
        strict=bool(tool.strict),
        path=path,
        eager=isinstance(tool, CustomTool) and bool(tool.eager_input_streaming),
        deferred=bool(tool.defer_loading),
    )


def _members(tool: Toolset, path: str) -> list[Function]:
    family = family_of(tool.type)
    if family is None:
        raise _unknown(tool.type, path)
    configs = tool.configs or {}
    made: list[Function] = []
    for name, member in TOOLSETS[family].items():
        config = configs.get(name, MemberConfig())
        if member.enabled if config.enabled is None else config.enabled:
            deferred = bool(config.defer_loading)
            made.append(
                Function(
                    name=name,
                    description=member.description,
                    schema=member.schema,
                    toolset=family,
                    path=path,
                    deferred=deferred,
                )
            )
    return made


def _documented(tool: TypedTool, path: str) -> tuple[str, JsonObject]:
    """What the API's own models know of a tool without being told."""
    if tool.type.startswith("bash_"):
        return _BASH, _bash_schema()
    if tool.type.startswith("text_editor_"):
        # The first two versions could also undo.
        return _EDITOR, _editor_schema(undo=tool.type in ("text_editor_20241022", "text_editor_20250124"))
    if tool.type.startswith("memory_"):
        return _MEMORY, _memory_schema()
    if isinstance(tool, ComputerTool):
        size = f"The screen is {tool.display_width_px} pixels wide and {tool.display_height_px} high."
        return f"{_COMPUTER} {size}", _computer_schema(tool)
    raise _unknown(tool.type, path)


def _unknown(kind: str, path: str) -> InvalidRequest:
    return InvalidRequest(f"the tool `{kind}` is not supported by this model", path=f"{path}.type")


_BASH = (
    "Run a command in a persistent bash session and get its output. State such as the working directory and "
    "variables is kept between calls. Use `restart` to start a new session."
)
_EDITOR = (
    "View, create and edit text files. `view` shows a file or lists a directory; `create` writes a new file; "
    "`str_replace` replaces a text that occurs exactly once in the file; `insert` puts text behind a line."
)
_MEMORY = (
    "Keep notes in files under /memories that last between conversations. `view` shows a file or lists a "
    "directory; `create` writes a file; `str_replace` replaces a text; `insert` puts text behind a line; "
    "`delete` and `rename` do so with a file or directory."
)


_COMPUTER = (
    "Use a computer with its screen, mouse and keyboard. `action` says what to do; the other arguments are those that "
    "the action takes. Coordinates are pixels [x, y] from the top left."
)
#: Each version of the computer tool has all actions of those before it.
_ACTIONS_20241022 = (
    "key", "type", "mouse_move", "left_click", "left_click_drag", "right_click", "middle_click", "double_click",
    "screenshot", "cursor_position",
)  # fmt: skip
_ACTIONS_20250124 = ("left_mouse_down", "left_mouse_up", "scroll", "hold_key", "wait", "triple_click")


def _string(description: str) -> JsonObject:
    return {"type": "string", "description": description}


def _object(properties: JsonObject, required: list[str]) -> JsonObject:
    return {"type": "object", "properties": properties, "required": required}


def _bash_schema() -> JsonObject:
    restart = {"type": "boolean", "description": "Start a new session instead of running a command."}
    return _object({"command": _string("The command to run."), "restart": restart}, [])


def _editing(path: str) -> dict[str, Any]:
    """The arguments that the editor and memory share."""
    return {
        "path": _string(path),
        "view_range": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "For `view`: first and last line, counted from 1; -1 is the end.",
        },
        "file_text": _string("For `create`: the content of the file."),
        "old_str": _string("For `str_replace`: the text to replace."),
        "new_str": _string("For `str_replace`: the text to put in its place."),
        "insert_line": {
            "type": "integer",
            "description": "For `insert`: the line to insert behind; 0 is the top.",
        },
        "insert_text": _string("For `insert`: the text to insert."),
    }


def _editor_schema(*, undo: bool) -> JsonObject:
    commands = ["view", "create", "str_replace", "insert", *(["undo_edit"] if undo else [])]
    properties = {"command": {"type": "string", "enum": commands}, **_editing("The file or directory.")}
    return _object(properties, ["command", "path"])


def _memory_schema() -> JsonObject:
    commands = ["view", "create", "str_replace", "insert", "delete", "rename"]
    properties = {
        "command": {"type": "string", "enum": commands},
        **_editing("The file or directory, beginning with /memories."),
        "old_path": _string("For `rename`: what is renamed."),
        "new_path": _string("For `rename`: its new path."),
    }
    return _object(properties, ["command"])


def _computer_schema(tool: ComputerTool) -> JsonObject:
    optional: dict[str, Any] = {
        "coordinate": numbers("The point to move to, click at, scroll at, or drag to.", 2),
        "text": text(f"For `type`: the text. For `key` and `hold_key`: {KEYS[0].lower()}{KEYS[1:]}"),
    }
    actions = list(_ACTIONS_20241022)
    if tool.type != "computer_20241022":
        actions += _ACTIONS_20250124
        optional |= {
            "start_coordinate": numbers("For `left_click_drag`: where it begins.", 2),
            "scroll_direction": text("For `scroll`.", *SCROLLING),
            "scroll_amount": number("For `scroll`: how many notches of the wheel."),
            "duration": number("For `hold_key` and `wait`: seconds.", "number"),
        }
    if isinstance(tool, ZoomingComputerTool) and tool.enable_zoom:
        actions.append("zoom")
        optional["region"] = numbers("For `zoom`: the corners [x0, y0, x1, y1].", 4)
    return inputs({"action": text("What to do.", *actions)}, optional)
