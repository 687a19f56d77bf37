"""The Hermes family (Qwen 2.5, Qwen 3 and others): calls are JSON between `<tool_call>` and `</tool_call>`.

Wording and spacing are those of the Qwen 2.5 chat template, which these models were trained on, with two
differences: the tools stand before the system text instead of behind it, and sentences are added about when to call,
how often, and when not to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from antiphon.dialect.base import CallForm, Dialect, Piece
from antiphon.dialect.client_tools import Function
from antiphon.dialect.json_text import json_text

_BEFORE_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_CALL = '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
_AFTER_TOOLS = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags. "
    # Not of the template. Without the two calls Qwen2.5 Coder never makes a second one.
    "A request for several things needs several calls, one behind the other. Two calls:\n"
    f"{_CALL}\n{_CALL}"
    # Not of the template. Without the first sentence small models explain a call instead of making it; without the
    # second they call what does not fit, with values of their own making, and so they do if it is the first.
    "\n\nWhere a function fits, begin with the call itself and write nothing else. Where no function is needed to "
    "answer, or none does what is asked, do not call any and do not make up values: answer in plain words."
)
_ERROR = "Error: "


class Hermes(Dialect):
    """Tools between `<tools>`, calls between `<tool_call>`, results between `<tool_response>`."""

    name: ClassVar[str] = "hermes"
    form: ClassVar[CallForm] = CallForm(
        marker="<tool_call>\n",
        stop="<tool_call>",
        before_name='{"name": "',
        before_input='", "arguments": ',
        after_input="}\n",
        end="</tool_call>",
    )

    # Not of the template. Without it Qwen2.5 Coder makes the same call again: 7 of 8 times, and never with it.
    after_results: ClassVar[str] = (
        "\n\nAnswer my question with this, or call another function only if something is still missing."
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
        return json_text({"type": "function", "function": tool.described()})

    def result(self, content: tuple[Piece, ...], path: str, *, is_error: bool) -> tuple[Piece, ...]:
        before = "<tool_response>\n" + (_ERROR if is_error else "")
        return (
            Piece(before, path, trusted=True),
            *content,
            Piece("\n</tool_response>", path, trusted=True),
        )
