"""The contract of a dialect, and the shape of a conversation that all families share.

The chat template of a model only ever sees roles and texts: what the API writes as blocks is turned here into
turns of *pieces*. A piece is either trusted, written by the dialect itself, and may hold control tokens such
as `<tool_call>`, or it is content, the client's text, which never may.

Rules of the shape (contract `messages-and-inference.md` 3.1, 3.2, 3.4 and `platform-and-tools.md` 12):

* Tools come first, then system, then the format that the answer must have, as one system turn: the API's prefix
  order is tools, system, messages, and another format leaves what stands before it as it was.
* Neighbours of the same role are one turn. A trailing assistant turn is *prefill*: the renderer leaves it
  open.
* Thinking of earlier turns and the `fallback` mark are not shown to the model.
* The attribution block that Claude Code puts first into `system` is dropped, because it changes per session.
* Text blocks of a user or system turn stand as paragraphs ("\\n\\n" between them): they are separate things
  someone put side by side, and run together they would read as one word. Those of an assistant turn are
  joined with nothing between them, since they are cuts through one answer (an answer with citations comes as
  many blocks).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, TypeAlias

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.dialect.client_tools import Function, functions, shown_name
from antiphon.dialect.json_text import json_text
from antiphon.dialect.results import result_texts
from antiphon.wire.blocks import (
    CompactionBlock,
    ContentBlock,
    FallbackBlock,
    JsonObject,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    block_type,
)
from antiphon.wire.request import Conversation, InputMessage, Role

ATTRIBUTION_PREFIX = "x-anthropic-billing-header:"
#: What the model is still to be told of a deferred tool when it is found, by the name that a reference gives.
_Deferred: TypeAlias = dict[str, list[str]]
_BEFORE_SCHEMA = "# Answer format\n\nYour answer must be one JSON value that fits this JSON Schema:\n"
_AFTER_SCHEMA = "\nWrite only that JSON value: no other text before or after it, and no code fence around it."


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a turn's text. `path` is the dotted path of the block it belongs to, empty for glue
    between blocks."""

    text: str
    path: str = ""
    trusted: bool = False


class Turn(msgspec.Struct, frozen=True):
    """What one role says before another one does. Never empty."""

    role: Role
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return "".join([piece.text for piece in self.pieces])


class CallForm(msgspec.Struct, frozen=True):
    """How a family writes a call: `marker`, `before_name`, the name, `before_input`, the input as JSON, `after_input`,
    `end`.

    `marker` and `end` are trusted and may hold control tokens. `stop` is the text of the one control token by which
    the model itself begins a call, empty where the family has none. `gap` stands between two calls, and between a
    text and a call.
    """

    marker: str
    stop: str
    before_name: str
    before_input: str
    after_input: str
    end: str
    gap: str = "\n"

    def body(self, block: ToolUseBlock) -> str:
        """What stands between the markers, for a call that was made before."""
        return self._between(shown_name(block.name, block.toolset_name), block.input)

    def written(self, name: str, given: JsonObject) -> str:
        """A call, whole."""
        return self.marker + self._between(name, given) + self.end

    def _between(self, name: str, given: JsonObject) -> str:
        # A past call's name is the client's and may hold anything.
        spelled = json_text(name)[1:-1]
        return f"{self.before_name}{spelled}{self.before_input}{json_text(given)}{self.after_input}"


class _Part(msgspec.Struct, frozen=True, gc=False):
    """A block's pieces, with what must be known to put it beside others."""

    pieces: tuple[Piece, ...]
    is_text: bool


class Dialect(ABC):
    """One model family. Stateless."""

    name: ClassVar[str]
    form: ClassVar[CallForm]
    #: What is said behind the results of a message that ends with them.
    after_results: ClassVar[str] = ""

    def turns(self, conversation: Conversation) -> list[Turn]:
        """All of a conversation that the model is to read, in the API's order.

        Raises:
            InvalidRequest: a block or a tool has no form in this family; names its path.
        """
        spoken: list[tuple[Role, list[_Part]]] = []
        opening = [*self._tools(functions(conversation.tools)), *_system(conversation), *self._format(conversation)]
        if opening:
            spoken.append(("system", opening))
        deferred = self._deferred(conversation)
        for number, message in enumerate(conversation.messages):
            parts = self._message(message, f"messages.{number}.content", deferred)
            if not parts:
                continue
            if spoken and spoken[-1][0] == message.role:
                spoken[-1][1].extend(parts)
            else:
                spoken.append((message.role, parts))
        return [Turn(role, self._join(role, parts)) for role, parts in spoken]

    @abstractmethod
    def tools(self, tools: Sequence[Function]) -> tuple[Piece, ...]:
        """How the tools are described. Each definition is one content piece of its tool's path."""

    @abstractmethod
    def definition(self, tool: Function) -> str:
        """One tool, as JSON in this family's form."""

    def call(self, block: ToolUseBlock, path: str) -> tuple[Piece, ...]:
        """How a past call is written, inside the assistant's turn."""
        marker, end = Piece(self.form.marker, path, trusted=True), Piece(self.form.end, path, trusted=True)
        body = Piece(self.form.body(block), path)
        return (marker, body, end) if end.text else (marker, body)

    @abstractmethod
    def result(self, content: tuple[Piece, ...], path: str, *, is_error: bool) -> tuple[Piece, ...]:
        """How a call's result is written around its content, inside the user's turn."""

    def _deferred(self, conversation: Conversation) -> _Deferred:
        found: _Deferred = {}
        for each in functions(conversation.tools, messages=conversation.messages):
            if each.deferred:
                found.setdefault(each.referred, []).append(self.definition(each))
        return found

    def format_instruction(self, schema_text: str) -> tuple[Piece, ...]:
        """What tells the model that its answer must be JSON of a schema; the end of the system turn."""
        return (Piece(_BEFORE_SCHEMA, trusted=True), Piece(schema_text), Piece(_AFTER_SCHEMA, trusted=True))

    def _tools(self, tools: Sequence[Function]) -> list[_Part]:
        return [_Part(self.tools(tools), is_text=True)] if tools else []

    def _format(self, conversation: Conversation) -> list[_Part]:
        asked = conversation.output_config.format if conversation.output_config is not None else None
        asked = asked or conversation.output_format
        if asked is None:
            return []
        return [_Part(self.format_instruction(json_text(asked.schema)), is_text=True)]

    def _message(self, message: InputMessage, path: str, deferred: _Deferred) -> list[_Part]:
        if isinstance(message.content, str):
            return [_text(message.content, f"{path}.0")] if message.content else []
        parts: list[_Part] = []
        for position, block in enumerate(message.content):
            part = self._block(block, f"{path}.{position}", deferred)
            if part is not None:
                parts.append(part)
        if message.content and isinstance(message.content[-1], ToolResultBlock) and self.after_results:
            said = Piece(self.after_results, trusted=True)
            parts[-1] = _Part((*parts[-1].pieces, said), is_text=False)
        return parts

    def _block(self, block: ContentBlock, path: str, deferred: _Deferred) -> _Part | None:
        match block:
            case TextBlock():
                return _text(block.text, path) if block.text else None
            case ToolUseBlock():
                return _Part(self.call(block, path), is_text=False)
            case ToolResultBlock():
                content = _result_content(block, path, deferred)
                return _Part(self.result(content, path, is_error=bool(block.is_error)), is_text=False)
            case ThinkingBlock() | RedactedThinkingBlock() | FallbackBlock() | CompactionBlock():
                return None
            case _:
                raise _unsupported(block_type(block), path)

    def _join(self, role: Role, parts: list[_Part]) -> tuple[Piece, ...]:
        if len(parts) == 1:
            return parts[0].pieces
        between_texts = "" if role == "assistant" else "\n\n"
        pieces = list(parts[0].pieces)
        for before, part in pairwise(parts):
            gap = between_texts if before.is_text and part.is_text else self.form.gap
            if gap:
                pieces.append(Piece(gap, trusted=True))
            pieces.extend(part.pieces)
        return tuple(pieces)


def block_paths(conversation: Conversation) -> Iterator[str]:
    """The path of every block of a request, in the prompt's order: also of those that the model is not shown. A text
    without blocks is one block."""
    for index in range(len(conversation.tools)):
        yield f"tools.{index}"
    if conversation.system:
        for index in range(1 if isinstance(conversation.system, str) else len(conversation.system)):
            yield f"system.{index}"
    for number, message in enumerate(conversation.messages):
        for position in range(1 if isinstance(message.content, str) else len(message.content)):
            yield f"messages.{number}.content.{position}"


def _text(text: str, path: str) -> _Part:
    return _Part((Piece(text, path),), is_text=True)


def _system(conversation: Conversation) -> list[_Part]:
    system = conversation.system
    if not system:
        return []
    if isinstance(system, str):
        return [_text(system, "system.0")]
    return [
        _text(block.text, f"system.{index}")
        for index, block in enumerate(system)
        if block.text and not (index == 0 and block.text.startswith(ATTRIBUTION_PREFIX))
    ]


def _result_content(block: ToolResultBlock, path: str, deferred: _Deferred) -> tuple[Piece, ...]:
    """What a tool returned, as pieces of the result's own path: a result is cached and counted as one
    block."""
    pieces: list[Piece] = []
    for text in result_texts(block, path, deferred):
        if pieces:
            pieces.append(Piece("\n\n", path, trusted=True))
        pieces.append(Piece(text, path))
    return tuple(pieces)


def _unsupported(kind: str, path: str) -> InvalidRequest:
    return InvalidRequest(f"`{kind}` blocks are not supported by this model", path=path)
