"""Options of a request that have a shape of their own (contract `client-surface.md` 2.1 and 2.5)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from antiphon.wire.blocks import JsonObject

Effort: TypeAlias = Literal["low", "medium", "high", "xhigh", "max"]
Display: TypeAlias = Literal["summarized", "omitted", "updates"]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class BlockBinding(msgspec.Struct, frozen=True):
    """What becomes of a thinking block that does not belong where it stands (contract messages-and-inference 12.2)."""

    prefix_mismatch_behavior: Literal["error", "drop_block"] | None = None


class ThinkingEnabled(msgspec.Struct, frozen=True, tag="enabled", tag_field="type", kw_only=True):
    budget_tokens: Annotated[int, msgspec.Meta(ge=1024)]
    display: Display | None = None
    block_binding: BlockBinding | None = None


class ThinkingAdaptive(msgspec.Struct, frozen=True, tag="adaptive", tag_field="type", kw_only=True):
    display: Display | None = None
    block_binding: BlockBinding | None = None


class ThinkingBetweenTools(msgspec.Struct, frozen=True, tag="between_tools", tag_field="type"):
    display: Display | None = None


class ThinkingDisabled(msgspec.Struct, frozen=True, tag="disabled", tag_field="type"):
    """`display` is refused by a rule: there is nothing to show."""

    display: Display | None = None


Thinking: TypeAlias = ThinkingEnabled | ThinkingAdaptive | ThinkingBetweenTools | ThinkingDisabled


class OutputFormat(msgspec.Struct, frozen=True):
    type: Literal["json_schema"]
    schema: JsonObject


class TaskBudget(msgspec.Struct, frozen=True):
    """How many tokens the whole task may take; advice to the model."""

    type: Literal["tokens"]
    total: _Count
    remaining: _Count | None = None


class OutputConfig(msgspec.Struct, frozen=True):
    effort: Effort | None = None
    format: OutputFormat | None = None
    task_budget: TaskBudget | None = None


class EffortConfig(msgspec.Struct, frozen=True):
    """What a system message amid the conversation may change."""

    effort: Effort | None = None


class Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["anthropic", "custom"]
    skill_id: str
    version: str | None = None


class ContainerParams(msgspec.Struct, frozen=True):
    id: str | None = None
    skills: tuple[Skill, ...] | None = None


class DiagnosticsParams(msgspec.Struct, frozen=True):
    """Asks why the cache was missed since that answer (contract messages-and-inference 7.9)."""

    previous_message_id: str | None = None


class Threshold(msgspec.Struct, frozen=True):
    type: str
    value: _Count


class ClearToolUses(msgspec.Struct, frozen=True, tag="clear_tool_uses_20250919", tag_field="type", kw_only=True):
    trigger: Threshold | None = None
    keep: Threshold | None = None
    clear_at_least: Threshold | None = None
    clear_tool_inputs: bool | tuple[str, ...] | None = None
    exclude_tools: tuple[str, ...] | None = None


class ThinkingTurns(msgspec.Struct, frozen=True, tag="thinking_turns", tag_field="type"):
    value: Annotated[int, msgspec.Meta(ge=1)]


class AllTurns(msgspec.Struct, frozen=True, tag="all", tag_field="type"):
    pass


class ClearThinking(msgspec.Struct, frozen=True, tag="clear_thinking_20251015", tag_field="type", kw_only=True):
    keep: ThinkingTurns | AllTurns | Literal["all"] | None = None


class Compact(msgspec.Struct, frozen=True, tag="compact_20260112", tag_field="type", kw_only=True):
    trigger: Threshold | None = None
    pause_after_compaction: bool | None = None
    instructions: str | None = None


class ContextManagement(msgspec.Struct, frozen=True):
    edits: tuple[ClearToolUses | ClearThinking | Compact, ...] | None = None


class Compaction(msgspec.Struct, frozen=True, tag="summarize", tag_field="type"):
    """Asks for one compaction block instead of an answer (contract messages-and-inference 12.6)."""

    instructions: str | None = None


class McpToolConfiguration(msgspec.Struct, frozen=True):
    enabled: bool | None = None
    allowed_tools: tuple[str, ...] | None = None


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["url"]
    name: str
    url: str
    authorization_token: str | None = None
    tool_configuration: McpToolConfiguration | None = None


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """A model to ask when the first one refuses (contract messages-and-inference 3.6)."""

    model: str
    max_tokens: _Count | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    speed: Literal["standard", "fast"] | None = None


class FallbackCredit(msgspec.Struct, frozen=True):
    token: str
    mode: Literal["strict", "best_effort"] | None = None


class BillingPolicy(msgspec.Struct, frozen=True, tag="billing_policy", tag_field="type"):
    bill_to: Literal["self", "user_profile"] | None = None


class ThreadCreate(msgspec.Struct, frozen=True, tag="create", tag_field="type"):
    pass


class ThreadContinue(msgspec.Struct, frozen=True, tag="continue", tag_field="type"):
    previous_message_id: str


Thread: TypeAlias = ThreadCreate | ThreadContinue
