"""A key for every prefix of a request: equal keys mean equal content, down to the order of keys in JSON.

A key covers all that stands before it, and the parameters of its level and of those before (contract
messages-and-inference 7.5). What a change invalidates follows from where it enters:

    root      workspace, model, speed
    tools     the definitions; those of tools that the platform runs only from the next level on
    system    web search, web fetch and citations, on or off; the texts
    messages  tool_choice, images, thinking, effort, format; roles and blocks

The keys are keyed hashes: they cannot be made for another workspace, nor outside of this process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.core.records import Scope
from antiphon.plan.caching.positions import Level, Position
from antiphon.wire.blocks import (
    Block,
    BlocksSource,
    DocumentBlock,
    ImageBlock,
    MarkableBlock,
    SearchResultBlock,
    ToolResultBlock,
)
from antiphon.wire.options import ThinkingEnabled
from antiphon.wire.request import Conversation
from antiphon.wire.tools import TOOL_TYPES, AnyChoice, AutoChoice, NamedChoice, Tool, Toolset, TypedTool

KEY_BYTES = 16
_encode = msgspec.json.Encoder(order=None).encode


class Caching(msgspec.Struct, frozen=True, kw_only=True):
    """Under which rules a request is cached. `scope`, `model` (the id that was asked for, in its one spelling) and
    `served` keep prefixes apart, and `secret` this server's from any other's. `minimum`: shorter ones are not cached,
    in tokens (contract 7.3). `effort`, `thinking`: what holds where the request does not say; saying that is the same
    as saying nothing."""

    scope: Scope
    secret: bytes
    model: str
    served: str
    minimum: int
    effort: str | None = "high"
    thinking: str = "disabled"


class Prefixes(msgspec.Struct, frozen=True):
    """The positions' paths, levels, keys and sizes, side by side; `sizes` are in bytes, from the beginning. `root` is
    the key of nothing at all."""

    root: bytes
    paths: tuple[str, ...]
    levels: tuple[Level, ...]
    keys: tuple[bytes, ...]
    sizes: tuple[int, ...]


def prefixes(request: Conversation, found: Sequence[Position], caching: Caching) -> Prefixes:
    """The keys of every prefix of a request, whose positions were `found`."""
    state = hashlib.blake2b(key=caching.secret, digest_size=KEY_BYTES)
    scope = caching.scope
    _add(state, [scope.organization, scope.workspace, caching.model, caching.served, request.speed or "standard"])
    root = state.digest()
    keys: list[bytes] = []
    sizes: list[int] = []
    level: Level = "tools"
    size = 0
    for position in found:
        if position.level != level:
            _enter(state, request, caching, found, level, position.level)
            level = position.level
        if position.message is not None:
            message = position.message
            _add(state, [message.role, message.clear_at, message.output_config])
        if not run_by_platform(position.block):
            size += _add(state, plain(position.block))
        keys.append(state.copy().digest())
        sizes.append(size)
    return Prefixes(
        root,
        tuple([position.path for position in found]),
        tuple([position.level for position in found]),
        tuple(keys),
        tuple(sizes),
    )


def _enter(
    state: hashlib.blake2b,
    request: Conversation,
    caching: Caching,
    found: Sequence[Position],
    before: Level,
    level: Level,
) -> None:
    """The parameters of the levels that begin here: two where there is no system text."""
    if before == "tools":
        platform = [plain(position.block) for position in found if run_by_platform(position.block)]
        _add(state, ["system", platform, cites(found)])
    if level == "messages":
        _add(state, ["messages", *for_messages(request, caching, found)])


def for_messages(request: Conversation, caching: Caching, found: Sequence[Position]) -> list[Any]:
    choice = request.tool_choice
    if isinstance(choice, AutoChoice | AnyChoice | NamedChoice) and not choice.disable_parallel_tool_use:
        # What is said by saying nothing: to choose freely, and several tools at once.
        auto = isinstance(choice, AutoChoice)
        choice = None if auto else msgspec.structs.replace(choice, disable_parallel_tool_use=None)
    thinking = request.thinking
    kind = caching.thinking if thinking is None else str(type(thinking).__struct_config__.tag)
    budget = thinking.budget_tokens if isinstance(thinking, ThinkingEnabled) else None
    config = request.output_config
    effort = (config.effort if config is not None else None) or caching.effort
    form = (config.format if config is not None else None) or request.output_format
    return [choice, any(_has_image(position.block) for position in found), kind, budget, effort, form]


def plain(block: Block | Tool) -> Block | Tool:
    """A block without its marks: where a prefix ends is no part of what it is."""
    if isinstance(block, ToolResultBlock) and any(_is_marked(part) for part in _inside(block)):
        parts = tuple([plain(part) for part in _inside(block)])
        block = msgspec.structs.replace(block, content=parts)
    if isinstance(block, SearchResultBlock) and any(_is_marked(part) for part in block.content):
        block = msgspec.structs.replace(block, content=tuple([plain(part) for part in block.content]))
    if isinstance(block, DocumentBlock) and isinstance(block.source, BlocksSource):
        source = block.source
        if not isinstance(source.content, str) and any(_is_marked(part) for part in source.content):
            parts = tuple([plain(part) for part in source.content])
            block = msgspec.structs.replace(block, source=msgspec.structs.replace(source, content=parts))
    if isinstance(block, MarkableBlock | Tool) and block.cache_control is not None:
        return msgspec.structs.replace(block, cache_control=None)
    return block


def run_by_platform(block: Block | Tool) -> bool:
    """Web search and its like, whose coming and going leaves the tools' own prefix as it was (contract 7.5)."""
    return isinstance(block, TypedTool | Toolset) and TOOL_TYPES[block.type].runs == "server"


def cites(found: Sequence[Position]) -> bool:
    return any(_is_cited(part) for position in found for part in _parts(position.block))


def _is_cited(block: Block | Tool) -> bool:
    return (
        isinstance(block, DocumentBlock | SearchResultBlock)
        and block.citations is not None
        and bool(block.citations.enabled)
    )


def _has_image(block: Block | Tool) -> bool:
    return any(isinstance(part, ImageBlock) or _holds_image(part) for part in _parts(block))


def _holds_image(block: Block | Tool) -> bool:
    source = block.source if isinstance(block, DocumentBlock) else None
    return isinstance(source, BlocksSource) and any(isinstance(part, ImageBlock) for part in source.content)


def _parts(block: Block | Tool) -> Sequence[Block | Tool]:
    """A block, and what a tool returned in blocks."""
    return (block, *_inside(block))


def _inside(block: Block | Tool) -> Sequence[Block]:
    return block.content if isinstance(block, ToolResultBlock) and isinstance(block.content, tuple) else ()


def _is_marked(block: Block) -> bool:
    return isinstance(block, MarkableBlock) and block.cache_control is not None


def _add(state: hashlib.blake2b, content: object) -> int:
    """With its length before it, so that no two rows of contents read the same. Returns the length, in bytes."""
    data = _encode(content)
    state.update(len(data).to_bytes(8, "big"))
    state.update(data)
    return len(data)
