"""The contract of a dialect, and the shape of a conversation that all families share.

The chat template of a model only ever sees roles and texts: what the API writes as blocks is turned here into
turns of *pieces*. A piece is either trusted, written by the dialect itself, and may hold control tokens such
as `<tool_call>`, or it is content, the client's text, which never may.

Rules of the shape (contract `messages-and-inference.md` 3.1, 3.2, 3.4 and `platform-and-tools.md` 12):

* Tools come first, then system, as one system turn: the API's prefix order is tools, system, messages.
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
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.wire.blocks import (
    CompactionBlock,
    ContentBlock,
    FallbackBlock,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
    block_type,
)
from antiphon.wire.request import Conversation, InputMessage, Role
from antiphon.wire.tools import Tool

ATTRIBUTION_PREFIX = "x-anthropic-billing-header:"


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


class _Part(msgspec.Struct, frozen=True, gc=False):
    """A block's pieces, with what must be known to put it beside others."""

    pieces: tuple[Piece, ...]
    is_text: bool


class Dialect(ABC):
    """One model family. Stateless."""

    name: ClassVar[str]
    #: Between a call or result and what stands beside it.
    gap: ClassVar[str] = "\n"

    def turns(self, conversation: Conversation) -> list[Turn]:
        """All of a conversation that the model is to read, in the API's order.

        Raises:
            InvalidRequest: a block or a tool has no form in this family; names its path.
        """
        spoken: list[tuple[Role, list[_Part]]] = []
        opening = [*self._tools(conversation.tools), *_system(conversation)]
        if opening:
            spoken.append(("system", opening))
        for number, message in enumerate(conversation.messages):
            parts = self._message(message, f"messages.{number}.content")
            if not parts:
                continue
            if spoken and spoken[-1][0] == message.role:
                spoken[-1][1].extend(parts)
            else:
                spoken.append((message.role, parts))
        return [Turn(role, self._join(role, parts)) for role, parts in spoken]

    @abstractmethod
    def tools(self, tools: Sequence[Tool]) -> tuple[Piece, ...]:
        """How the tools are described. Each definition is one content piece of the path `tools.N`.

        Raises:
            InvalidRequest: a tool cannot be offered to this family.
        """

    @abstractmethod
    def call(self, block: ToolUseBlock, path: str) -> tuple[Piece, ...]:
        """How a past call is written, inside the assistant's turn."""

    @abstractmethod
    def result(self, content: tuple[Piece, ...], path: str, *, is_error: bool) -> tuple[Piece, ...]:
        """How a call's result is written around its content, inside the user's turn."""

    def _tools(self, tools: Sequence[Tool]) -> list[_Part]:
        return [_Part(self.tools(tools), is_text=True)] if tools else []

    def _message(self, message: InputMessage, path: str) -> list[_Part]:
        if isinstance(message.content, str):
            return [_text(message.content, f"{path}.0")] if message.content else []
        parts: list[_Part] = []
        for position, block in enumerate(message.content):
            part = self._block(block, f"{path}.{position}")
            if part is not None:
                parts.append(part)
        return parts

    def _block(self, block: ContentBlock, path: str) -> _Part | None:
        match block:
            case TextBlock():
                return _text(block.text, path) if block.text else None
            case ToolUseBlock():
                return _Part(self.call(block, path), is_text=False)
            case ToolResultBlock():
                content = _result_content(block, path)
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
            gap = between_texts if before.is_text and part.is_text else self.gap
            if gap:
                pieces.append(Piece(gap, trusted=True))
            pieces.extend(part.pieces)
        return tuple(pieces)


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


def _result_content(block: ToolResultBlock, path: str) -> tuple[Piece, ...]:
    """What a tool returned, as pieces of the result's own path: a result is cached and counted as one
    block."""
    if block.content is None or isinstance(block.content, str):
        return (Piece(block.content, path),) if block.content else ()
    pieces: list[Piece] = []
    for position, part in enumerate(block.content):
        if pieces:
            pieces.append(Piece("\n\n", path, trusted=True))
        match part:
            case TextBlock():
                pieces.append(Piece(part.text, path))
            case ToolReferenceBlock():
                pieces.append(Piece(f"The tool {part.tool_name} can be used.", path))
            case _:
                raise _unsupported(block_type(part), f"{path}.content.{position}")
    return tuple(pieces)


def _unsupported(kind: str, path: str) -> InvalidRequest:
    return InvalidRequest(f"`{kind}` blocks are not supported by this model", path=path)
