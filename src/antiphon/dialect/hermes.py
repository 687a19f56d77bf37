"""The Hermes family (Qwen 2.5, Qwen 3 and others): calls are JSON between `<tool_call>` and `</tool_call>`.

Wording and spacing are those of the Qwen 2.5 chat template, which these models were trained on, with one
difference: the tools stand before the system text instead of behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from antiphon.dialect.base import Dialect, Piece
from antiphon.dialect.client_tools import define
from antiphon.dialect.json_text import json_text
from antiphon.wire.blocks import ToolUseBlock
from antiphon.wire.tools import Tool

_BEFORE_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_AFTER_TOOLS = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
_ERROR = "Error: "


class Hermes(Dialect):
    """Tools between `<tools>`, calls between `<tool_call>`, results between `<tool_response>`."""

    name: ClassVar[str] = "hermes"

    def tools(self, tools: Sequence[Tool]) -> tuple[Piece, ...]:
        pieces = [Piece(_BEFORE_TOOLS, trusted=True)]
        for index, tool in enumerate(tools):
            if index:
                pieces.append(Piece("\n", trusted=True))
            path = f"tools.{index}"
            pieces.append(Piece(json_text({"type": "function", "function": define(tool, path)}), path))
        pieces.append(Piece(_AFTER_TOOLS, trusted=True))
        return tuple(pieces)

    def call(self, block: ToolUseBlock, path: str) -> tuple[Piece, ...]:
        body = json_text({"name": block.name, "arguments": block.input})
        return (
            Piece("<tool_call>\n", path, trusted=True),
            Piece(body, path),
            Piece("\n</tool_call>", path, trusted=True),
        )

    def result(self, content: tuple[Piece, ...], path: str, *, is_error: bool) -> tuple[Piece, ...]:
        before = "<tool_response>\n" + (_ERROR if is_error else "")
        return (
            Piece(before, path, trusted=True),
            *content,
            Piece("\n</tool_response>", path, trusted=True),
        )
