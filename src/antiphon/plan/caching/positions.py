"""Where a cached prefix may end, and where a request asks for it (contract messages-and-inference 7.1).

A position is a tool, a block of `system` or a block of a message, in the order tools, system, messages. What the model
is never shown is none: tools that are deferred, and the attribution block that Claude Code puts first. What a tool
returned is one position, however many blocks it has; a mark on one of those marks the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.dialect.base import ATTRIBUTION_PREFIX
from antiphon.wire.blocks import (
    Block,
    CacheControl,
    FallbackBlock,
    MarkableBlock,
    McpToolListingBlock,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
)
from antiphon.wire.request import Conversation, InputMessage
from antiphon.wire.tools import CallableTool, Tool

Level: TypeAlias = Literal["tools", "system", "messages"]
Lifetime: TypeAlias = Literal["5m", "1h"]

#: How long an entry lives after it was last written or read, in seconds (contract 7.4).
SECONDS: dict[Lifetime, int] = {"5m": 300, "1h": 3600}
_MOST_MARKS = 4
#: Inside a prefix they count as blocks; they cannot end one.
_NEVER = (ThinkingBlock, RedactedThinkingBlock, FallbackBlock, McpToolListingBlock)


class Position(msgspec.Struct, frozen=True, gc=False):
    """One place. `message` is the message that it is the first block of, if it is one."""

    level: Level
    path: str
    block: Block | Tool
    control: CacheControl | None
    message: InputMessage | None = None


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A breakpoint: the position's place in the list, and how long what ends there is to live."""

    place: int
    lifetime: Lifetime


def positions(request: Conversation) -> list[Position]:
    """All positions of a request, in the order of its prefix."""
    return [*_tools(request), *_system(request), *_messages(request)]


def marked(request: Conversation) -> bool:
    """Whether a request asks for anything to be cached. Much quicker than to look for where."""
    if request.cache_control is not None:
        return True
    return any(position.control is not None for position in positions(request))


def marks(request: Conversation, found: Sequence[Position]) -> list[Mark]:
    """The breakpoints, in order; the one that `cache_control` at the top of the request sets is among them.

    Raises:
        InvalidRequest: there are too many, or one of an hour stands behind one of five minutes.
    """
    told = [
        (place, position.path, lifetime_of(position.control))
        for place, position in enumerate(found)
        if position.control is not None
    ]
    automatic = _automatic(request, found)
    if automatic is not None:
        told.append(automatic)
    if len(told) > _MOST_MARKS:
        raise InvalidRequest(
            f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided. Found {len(told)}."
        )
    short = False
    for _, path, lifetime in told:
        if short and lifetime == "1h":
            raise InvalidRequest(
                "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks "
                "are processed in the following order: `tools`, `system`, `messages`.",
                path=f"{path}.cache_control.ttl",
            )
        short = short or lifetime == "5m"
    return [Mark(place, lifetime) for place, _, lifetime in told]


def lifetime_of(control: CacheControl) -> Lifetime:
    """Five minutes where nothing is said."""
    return control.ttl or "5m"


def _automatic(request: Conversation, found: Sequence[Position]) -> tuple[int, str, Lifetime] | None:
    """The breakpoint that the top of the request sets: on the last block that can be one. None where that block says
    the same already, or there is none.

    Raises:
        InvalidRequest: the block says something else.
    """
    if request.cache_control is None:
        return None
    lifetime = lifetime_of(request.cache_control)
    last = next((place for place in range(len(found) - 1, -1, -1) if _eligible(found[place].block)), None)
    if last is None:
        return None
    position = found[last]
    if position.control is None:
        return last, position.path, lifetime
    if lifetime_of(position.control) != lifetime:
        raise InvalidRequest(
            f"the last cacheable block, {position.path}, has a `cache_control` with another `ttl`", path="cache_control"
        )
    return None


def _eligible(block: Block | Tool) -> bool:
    return not isinstance(block, _NEVER) and not (isinstance(block, TextBlock) and not block.text)


def _tools(request: Conversation) -> Iterator[Position]:
    for index, tool in enumerate(request.tools):
        if not (isinstance(tool, CallableTool) and tool.defer_loading):
            yield Position("tools", f"tools.{index}", tool, tool.cache_control)


def _system(request: Conversation) -> Iterator[Position]:
    if isinstance(request.system, str):
        if request.system:
            yield Position("system", "system.0", TextBlock(text=request.system), None)
        return
    for index, block in enumerate(request.system or ()):
        if not (index == 0 and block.text.startswith(ATTRIBUTION_PREFIX)):
            yield Position("system", f"system.{index}", block, block.cache_control)


def _messages(request: Conversation) -> Iterator[Position]:
    for number, message in enumerate(request.messages):
        if isinstance(message.content, str):
            block = TextBlock(text=message.content)
            yield Position("messages", f"messages.{number}.content.0", block, None, message)
            continue
        for place, each in enumerate(message.content):
            first = message if place == 0 else None
            yield Position("messages", f"messages.{number}.content.{place}", each, _control(each), first)


def _control(block: Block) -> CacheControl | None:
    """A block's mark, or the last one of those on what a tool returned."""
    control = block.cache_control if isinstance(block, MarkableBlock) else None
    if control is None and isinstance(block, ToolResultBlock) and isinstance(block.content, tuple):
        for part in block.content:
            control = part.cache_control or control
    return control
