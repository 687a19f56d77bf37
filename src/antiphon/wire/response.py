"""What `POST /v1/messages` answers (contract `client-surface.md` 2.6)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from antiphon.core.records import Usage
from antiphon.wire.blocks import JsonObject

StopReason: TypeAlias = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]


class OutputText(msgspec.Struct, tag="text", tag_field="type"):
    """A text block of an answer; `citations` is null where there are none."""

    text: str
    citations: None = None


class DirectCaller(msgspec.Struct, frozen=True, tag="direct", tag_field="type"):
    """A call that the model makes itself, not a program of its."""


class OutputToolUse(msgspec.Struct, frozen=True, tag="tool_use", tag_field="type", kw_only=True):
    """A call of a client's tool. In a stream it starts with an empty input."""

    id: str
    name: str
    input: JsonObject
    caller: DirectCaller = DirectCaller()
    toolset_name: str | msgspec.UnsetType = msgspec.UNSET
    """The toolset whose member is called; not there for other tools."""


OutputBlock: TypeAlias = OutputText | OutputToolUse


class CacheCreation(msgspec.Struct, frozen=True):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True):
    thinking_tokens: int = 0


class MessageUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Usage as a whole message and `message_start` carry it."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation: CacheCreation = CacheCreation()
    output_tokens: int
    output_tokens_details: OutputTokensDetails | None = None
    server_tool_use: None = None
    service_tier: str = "standard"
    inference_geo: str | None = None
    speed: str | None = None


class CacheMiss(msgspec.Struct, frozen=True):
    """Why the prompt was not read from the cache (contract messages-and-inference 7.9). The tokens are an estimate, and
    told of what has changed alone."""

    type: str
    cache_missed_input_tokens: int | msgspec.UnsetType = msgspec.UNSET


class Diagnostics(msgspec.Struct, frozen=True):
    """What a request that names an earlier answer is told. A null reason is still being looked for."""

    cache_miss_reason: CacheMiss | None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. In `message_start` the content is empty and the stop reason null."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: tuple[OutputBlock, ...]
    stop_reason: StopReason | None
    stop_sequence: str | None = None
    stop_details: None = None
    container: None = None
    usage: MessageUsage
    diagnostics: Diagnostics | msgspec.UnsetType | None = msgspec.UNSET
    """Only there where the request asked for it."""


class TokenCount(msgspec.Struct, frozen=True):
    """The answer of `count_tokens`."""

    input_tokens: int


def message_usage(usage: Usage, *, inference_geo: str | None = None, speed: str | None = None) -> MessageUsage:
    """Our record of usage in the API's fields; the cache fields are two views of the same tokens."""
    return MessageUsage(
        input_tokens=usage.input_tokens,
        cache_creation_input_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        cache_read_input_tokens=usage.cache_read_tokens,
        cache_creation=CacheCreation(usage.cache_write_5m_tokens, usage.cache_write_1h_tokens),
        output_tokens=usage.output_tokens,
        inference_geo=inference_geo,
        speed=speed,
    )
