"""`profile = "claude"`: what the asked-for Claude id refuses, and its limits, so that applications can be tested on it.

Without it the model that runs decides, and the id is a name only (architecture, "Whose rules"). The table is
`profile.toml`; ids that are not in it, coming ones among them, are not refused anything.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Mapping
from typing import Literal

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.wire.request import Conversation, MessagesRequest, ThinkingDisabled
from antiphon.wire.tools import AnyChoice, NamedChoice


class ClaudeRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One id's row; see the head of `profile.toml`."""

    window: int
    max_output: int
    thinking: tuple[Literal["adaptive", "enabled", "disabled", "between_tools"], ...]
    sampling: Literal["any", "one", "default"]
    prefill: bool
    effort: tuple[str, ...]
    forced_tools: bool
    system_messages: bool
    cache_minimum: int | None = None


def claude_rules() -> Mapping[str, ClaudeRules]:
    """All rows, by id."""
    text = importlib.resources.files(__package__).joinpath("profile.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, ClaudeRules])


def check(rules: ClaudeRules, request: Conversation) -> None:
    """Refuse what the id refuses, in the API's words where they are known.

    Raises:
        InvalidRequest: the first thing that this id does not accept.
    """
    if isinstance(request, MessagesRequest):
        if request.max_tokens > rules.max_output:
            raise InvalidRequest(
                f"{request.max_tokens} > {rules.max_output}, which is the maximum allowed number of output tokens for "
                f"{request.model}",
                path="max_tokens",
            )
        _check_sampling(rules, request)
    _check_thinking(rules, request)
    _check_effort(rules, request)
    if not rules.forced_tools and isinstance(request.tool_choice, AnyChoice | NamedChoice):
        raise InvalidRequest("forced tool use is not supported for this model", path="tool_choice")
    if request.messages and request.messages[-1].role == "assistant" and not rules.prefill:
        raise InvalidRequest(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    for number, message in enumerate(request.messages):
        if message.role == "system" and not rules.system_messages:
            raise InvalidRequest("role 'system' is not supported on this model", path=f"messages.{number}.role")


def _check_sampling(rules: ClaudeRules, request: MessagesRequest) -> None:
    if rules.sampling == "one" and request.temperature is not None and request.top_p is not None:
        raise InvalidRequest("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    if rules.sampling == "default":
        for name, default in (("temperature", 1), ("top_p", 1), ("top_k", 0)):
            if getattr(request, name) not in (None, default):
                raise InvalidRequest(f"`{name}` may only have its default value for this model", path=name)


def _check_thinking(rules: ClaudeRules, request: Conversation) -> None:
    if request.thinking is None:
        return
    kind = type(request.thinking).__struct_config__.tag
    if kind in rules.thinking:
        high = request.output_config is not None and request.output_config.effort in ("xhigh", "max")
        if isinstance(request.thinking, ThinkingDisabled) and "adaptive" in rules.thinking and high:
            raise InvalidRequest("thinking cannot be disabled at this effort", path="thinking.type")
        return
    if kind == "adaptive":
        raise InvalidRequest("adaptive thinking is not supported on this model", path="thinking")
    raise InvalidRequest(f'"thinking.type.{kind}" is not supported for this model', path="thinking")


def _check_effort(rules: ClaudeRules, request: Conversation) -> None:
    effort = request.output_config.effort if request.output_config is not None else None
    if effort is not None and effort not in rules.effort:
        known = f"; it knows {', '.join(rules.effort)}" if rules.effort else ""
        raise InvalidRequest(f"'{effort}' is not supported on this model{known}", path="output_config.effort")
