"""Requests of `POST /v1/messages` and `POST /v1/messages/count_tokens` (contract `client-surface.md` 2.1 and 4.1)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from antiphon.wire.blocks import CacheControl, ContentBlock, TextBlock
from antiphon.wire.options import (
    BillingPolicy,
    Compaction,
    ContainerParams,
    ContextManagement,
    DiagnosticsParams,
    EffortConfig,
    Fallback,
    FallbackCredit,
    McpServer,
    Metadata,
    OutputConfig,
    OutputFormat,
    Thinking,
    Thread,
)
from antiphon.wire.tools import Tool, ToolChoice

Role: TypeAlias = Literal["user", "assistant", "system"]


class _Absent(tuple[ContentBlock, ...]):
    """No content at all, which is not the same as an empty list."""


#: The content of a message that has none; told by identity.
ABSENT: tuple[ContentBlock, ...] = _Absent()

#: Fields of an answer, which clients pass back whole as the next request's assistant message (contract 2.3).
ECHOED = frozenset(
    [
        "id",
        "type",
        "model",
        "stop_reason",
        "stop_sequence",
        "stop_details",
        "container",
        "usage",
        "diagnostics",
        "context_management",
        "input_transformations",
    ]
)


class InputMessage(msgspec.Struct, frozen=True):
    """One entry of `messages`. A plain string stands for one text block. The last two are a system message's."""

    role: Role
    content: str | tuple[ContentBlock, ...] = ABSENT
    clear_at: Literal["never", "next_user_message"] | None = None
    output_config: EffortConfig | None = None


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
    context_management: ContextManagement | None = None
    compaction: Compaction | None = None
    mcp_servers: tuple[McpServer, ...] | None = None
    billing_policy: BillingPolicy | None = None
    thread: Thread | None = None


class MessagesRequest(Conversation, frozen=True, kw_only=True):
    """A request for an answer. `max_tokens` 0 means: process the prompt, answer nothing (contract 3.3)."""

    max_tokens: Annotated[int, msgspec.Meta(ge=0)]
    stream: bool | None = None
    stop_sequences: tuple[str, ...] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: Literal["global", "us"] | None = None
    container: str | ContainerParams | None = None
    diagnostics: DiagnosticsParams | None = None
    fallbacks: Literal["default"] | tuple[Fallback, ...] | None = None
    fallback_credit_token: str | FallbackCredit | None = None

    @property
    def streamed(self) -> bool:
        """Whether the answer is to come as a stream; null is no."""
        return self.stream is True


class CountTokensRequest(Conversation, frozen=True, kw_only=True):
    """A request for the prompt's length alone."""
