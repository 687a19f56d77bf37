"""Models whose template knows no tools (SmolLM2): tools are described in plain words, calls and results read
like notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from antiphon.dialect.base import CallForm, Dialect, Piece
from antiphon.dialect.client_tools import Function
from antiphon.dialect.json_text import json_text

_BEFORE_TOOLS = "You can use these tools. Each line describes one of them as JSON:\n"
_CALL = "Tool call: "
_AFTER_TOOLS = (
    "\nTo use a tool, write one line like this, with the tool's own name and arguments, and then stop:\n"
    f'{_CALL}{{"name": "tool_name", "arguments": {{"argument": "value"}}}}\n'
    "The result comes back in the next message."
)
_RESULT, _ERROR = "Tool result: ", "Tool error: "


class Plain(Dialect):
    """No markers of the model's own; nothing here is a control token."""

    name: ClassVar[str] = "plain"
    form: ClassVar[CallForm] = CallForm(
        marker=_CALL, stop="", before_name='{"name": "', before_input='", "arguments": ', after_input="}", end=""
    )

    def tools(self, tools: Sequence[Function]) -> tuple[Piece, ...]:
        pieces = [Piece(_BEFORE_TOOLS, trusted=True)]
        for index, tool in enumerate(tools):
            if index:
                pieces.append(Piece("\n", trusted=True))
            pieces.append(Piece(self.definition(tool), tool.path))
        pieces.append(Piece(_AFTER_TOOLS, trusted=True))
        return tuple(pieces)

    def definition(self, tool: Function) -> str:
        return json_text(tool.described())

    def result(self, content: tuple[Piece, ...], path: str, *, is_error: bool) -> tuple[Piece, ...]:
        return (Piece(_ERROR if is_error else _RESULT, path, trusted=True), *content)
