"""Requests of `POST /v1/messages` and `POST /v1/messages/count_tokens` (contract `client-surface.md` 2.1 and 4.1)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from antiphon.wire.blocks import CacheControl, ContentBlock, JsonObject, TextBlock
from antiphon.wire.tools import Tool, ToolChoice

Role: TypeAlias = Literal["user", "assistant", "system"]


class InputMessage(msgspec.Struct, frozen=True):
    """One entry of `messages`. A plain string stands for one text block."""

    role: Role
    content: str | tuple[ContentBlock, ...]


class ThinkingEnabled(msgspec.Struct, frozen=True, tag="enabled", tag_field="type"):
    budget_tokens: Annotated[int, msgspec.Meta(ge=1024)]
    display: str | None = None


class ThinkingAdaptive(msgspec.Struct, frozen=True, tag="adaptive", tag_field="type"):
    display: str | None = None


class ThinkingBetweenTools(msgspec.Struct, frozen=True, tag="between_tools", tag_field="type"):
    pass


class ThinkingDisabled(msgspec.Struct, frozen=True, tag="disabled", tag_field="type"):
    pass


Thinking: TypeAlias = ThinkingEnabled | ThinkingAdaptive | ThinkingBetweenTools | ThinkingDisabled


class OutputFormat(msgspec.Struct, frozen=True):
    type: Literal["json_schema"]
    schema: JsonObject


class OutputConfig(msgspec.Struct, frozen=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What both endpoints share: all that decides the prompt, and so its token count."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    messages: tuple[InputMessage, ...]
    system: str | tuple[TextBlock, ...] | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    cache_control: CacheControl | None = None
    speed: Literal["standard", "fast"] | None = None
    context_management: JsonObject | None = None
    mcp_servers: tuple[JsonObject, ...] = ()
    thread: JsonObject | None = None


class MessagesRequest(Conversation, frozen=True, kw_only=True):
    """A request for an answer. `max_tokens` 0 means: process the prompt, answer nothing (contract 3.3)."""

    max_tokens: Annotated[int, msgspec.Meta(ge=0)]
    stream: bool = False
    stop_sequences: tuple[str, ...] = ()
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: str | None = None
    container: JsonObject | str | None = None


class CountTokensRequest(Conversation, frozen=True, kw_only=True):
    """A request for the prompt's length alone."""
