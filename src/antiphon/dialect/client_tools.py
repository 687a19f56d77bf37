"""Tool definitions as a model reads them: the client's own, and those the API defines and the client runs.

Claude knows `bash`, the text editor and `memory` from training, so their definitions carry no schema
(contract `client-surface.md` 2.4). Other models do not, so the documented schema and a short description
stand in here.
"""

from __future__ import annotations

from typing import Any

from antiphon.core.errors import InvalidRequest
from antiphon.wire.blocks import JsonObject
from antiphon.wire.tools import CustomTool, Tool, TypedTool


def define(tool: Tool, path: str) -> JsonObject:
    """A definition with `name`, `description` where there is one, and `parameters` (a JSON Schema).

    Raises:
        InvalidRequest: a tool the API defines that no model here is told about; names its path.
    """
    if isinstance(tool, CustomTool):
        described = {} if tool.description is None else {"description": tool.description}
        return {"name": tool.name, **described, "parameters": tool.input_schema}
    kind = tool.type if isinstance(tool, TypedTool) else ""
    name = tool.name if isinstance(tool, TypedTool) else None
    if kind.startswith("bash_"):
        return _function(name or "bash", _BASH, _bash_schema())
    if kind.startswith("text_editor_"):
        # The first two versions could also undo (contract: names differ by version too, the client gives
        # them).
        undo = kind in ("text_editor_20241022", "text_editor_20250124")
        return _function(name or "str_replace_based_edit_tool", _EDITOR, _editor_schema(undo=undo))
    if kind.startswith("memory_"):
        return _function(name or "memory", _MEMORY, _memory_schema())
    raise InvalidRequest(f"the tool `{kind}` is not supported by this model", path=f"{path}.type")


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


def _function(name: str, description: str, schema: JsonObject) -> JsonObject:
    return {"name": name, "description": description, "parameters": schema}


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
