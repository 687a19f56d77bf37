"""`profile = "claude"`: what the asked-for Claude id refuses, and its limits, so that applications can be tested on it.

Without it the model that runs decides, and the id is a name only (architecture, "Whose rules"). The table is
`profile.toml`; ids that are not in it, coming ones among them, are not refused anything. Rules that hold for every id
are the plan's and not here.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.wire.options import Effort
from antiphon.wire.request import Conversation, MessagesRequest
from antiphon.wire.tools import AnyChoice, NamedChoice

ThinkingType: TypeAlias = Literal["adaptive", "enabled", "disabled", "between_tools"]
_Tokens = Annotated[int, msgspec.Meta(ge=1)]

#: Above what `thinking_to_high` allows.
_BEYOND_HIGH = ("xhigh", "max")
#: The types that make a model think where it would not.
_THINKS = ("adaptive", "enabled")
#: The least `top_p` beside thinking, on ids that take sampling parameters at all (contract 3.3).
_LEAST_TOP_P = 0.95


class ClaudeRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One id's row; see the head of `profile.toml`."""

    window: _Tokens
    max_output: _Tokens
    thinking: tuple[ThinkingType, ...]
    thinking_to_high: tuple[ThinkingType, ...] = ()
    thinking_default: Literal["off", "on", "always"]
    effort: tuple[Effort, ...]
    default_effort: Effort | None = None
    sampling: Literal["any", "one", "default"]
    prefill: bool
    forced_tools: bool
    system_messages: bool
    geography: bool
    fast_mode: bool
    cache_minimum: _Tokens | None = None

    def __post_init__(self) -> None:
        if self.max_output > self.window:
            raise ValueError(f"max_output {self.max_output} is more than the window {self.window}")
        if not set(self.thinking_to_high) <= set(self.thinking):
            raise ValueError("thinking_to_high: only types that `thinking` has")
        if self.thinking_default == "always" and "disabled" in self.thinking:
            raise ValueError("thinking_default: what is always on cannot be disabled")
        if (self.default_effort is None) != (not self.effort) or self.default_effort not in (*self.effort, None):
            raise ValueError("default_effort: one of `effort`, and none where there are none")


def claude_rules() -> Mapping[str, ClaudeRules]:
    """All rows, by id. Whether they hold together is checked as they are read."""
    text = importlib.resources.files(__package__).joinpath("profile.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, ClaudeRules])


def check(rules: ClaudeRules, request: Conversation) -> None:
    """Refuse what the id refuses, in the API's words where they are known.

    Raises:
        InvalidRequest: the first thing that this id does not accept.
    """
    kind = _thinking(request)
    if isinstance(request, MessagesRequest):
        _check_options(rules, request)
        _check_sampling(rules, request, thinks=kind in _THINKS)
    _check_thinking(rules, kind, request)
    _check_effort(rules, request)
    _check_forced_tools(rules, kind, request)
    _check_prefill(rules, kind, request)
    if request.speed == "fast" and not rules.fast_mode:
        raise InvalidRequest("fast mode is not supported for this model", path="speed")
    for number, message in enumerate(request.messages):
        if message.role == "system" and not rules.system_messages:
            raise InvalidRequest("role 'system' is not supported on this model", path=f"messages.{number}.role")


def _thinking(request: Conversation) -> str | None:
    """The type of thinking that is asked for, if any is."""
    return None if request.thinking is None else str(type(request.thinking).__struct_config__.tag)


def _check_options(rules: ClaudeRules, request: MessagesRequest) -> None:
    if request.max_tokens > rules.max_output:
        raise InvalidRequest(
            f"{request.max_tokens} > {rules.max_output}, which is the maximum allowed number of output tokens for "
            f"{request.model}",
            path="max_tokens",
        )
    if request.inference_geo is not None and not rules.geography:
        raise InvalidRequest("this parameter is not supported for this model", path="inference_geo")


def _check_sampling(rules: ClaudeRules, request: MessagesRequest, *, thinks: bool) -> None:
    if rules.sampling == "one" and request.temperature is not None and request.top_p is not None:
        raise InvalidRequest("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    if rules.sampling == "default":
        for name, default in (("temperature", 1), ("top_p", 1), ("top_k", 0)):
            if getattr(request, name) not in (None, default):
                raise InvalidRequest(f"`{name}` may only have its default value for this model", path=name)
    elif thinks:
        if request.temperature not in (None, 1):
            raise InvalidRequest("`temperature` may only be set to 1 when thinking is enabled", path="temperature")
        if request.top_p is not None and request.top_p < _LEAST_TOP_P:
            raise InvalidRequest(
                f"`top_p` must be greater than or equal to {_LEAST_TOP_P} or unset when thinking is enabled",
                path="top_p",
            )
        if request.top_k not in (None, 0):
            raise InvalidRequest("`top_k` must be unset when thinking is enabled", path="top_k")


def _check_thinking(rules: ClaudeRules, kind: str | None, request: Conversation) -> None:
    if kind is None:
        return
    if kind in rules.thinking_to_high and _effort(request) in _BEYOND_HIGH:
        raise InvalidRequest(
            f'"thinking.type.{kind}" is not supported for this model at effort {_effort(request)}', path="thinking"
        )
    if kind in rules.thinking:
        return
    if kind == "adaptive":
        raise InvalidRequest("adaptive thinking is not supported on this model", path="thinking")
    raise InvalidRequest(f'"thinking.type.{kind}" is not supported for this model', path="thinking")


def _effort(request: Conversation) -> str | None:
    return request.output_config.effort if request.output_config is not None else None


def _check_effort(rules: ClaudeRules, request: Conversation) -> None:
    asked = {"output_config.effort": _effort(request)}
    for number, message in enumerate(request.messages):
        if message.output_config is not None:
            asked[f"messages.{number}.output_config.effort"] = message.output_config.effort
    for path, effort in asked.items():
        if effort is not None and effort not in rules.effort:
            known = f"; it knows {', '.join(rules.effort)}" if rules.effort else ""
            raise InvalidRequest(f"'{effort}' is not supported on this model{known}", path=path)


def _check_forced_tools(rules: ClaudeRules, kind: str | None, request: Conversation) -> None:
    if not isinstance(request.tool_choice, AnyChoice | NamedChoice):
        return
    if not rules.forced_tools:
        raise InvalidRequest("forced tool use is not supported for this model", path="tool_choice")
    if kind == "enabled":
        raise InvalidRequest("Thinking may not be enabled when tool_choice forces tool use.", path="tool_choice")


def _check_prefill(rules: ClaudeRules, kind: str | None, request: Conversation) -> None:
    if not request.messages or request.messages[-1].role != "assistant":
        return
    if not rules.prefill:
        if isinstance(request, MessagesRequest) and request.fallback_credit_token is not None:
            return  # such a retry may go on with what a refusal has cut short (contract 3.4)
        raise InvalidRequest(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if kind in _THINKS:
        raise InvalidRequest("assistant message prefill is not supported when thinking is enabled")
