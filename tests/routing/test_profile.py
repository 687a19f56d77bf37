"""The profile: under it a Claude id refuses what it refuses at the API, and without it nothing."""

from __future__ import annotations

from typing import Any

import anthropic
import msgspec
import pytest

from antiphon.core.errors import InvalidRequest
from antiphon.routing.known import claude_models
from antiphon.routing.profile import ClaudeRules, check, claude_rules
from antiphon.wire.parse import parse_messages
from conftest import StartScripted

RULES = claude_rules()
USER = {"role": "user", "content": "Hi"}
PREFILL = [USER, {"role": "assistant", "content": "So"}]
AMID = [USER, {"role": "system", "content": "Be brief."}]
MANUAL = {"type": "enabled", "budget_tokens": 1024}
TOOL = {"name": "a", "input_schema": {"type": "object"}}


def refused(model: str, **change: Any) -> str | None:
    body = {"model": model, "max_tokens": 5, "messages": [USER]} | change
    try:
        check(RULES[model], parse_messages(msgspec.json.encode(body)).request)
    except InvalidRequest as error:
        return error.message
    return None


@pytest.mark.behaviour("messages-and-inference-14.1-whole-table")
def test_every_id_that_can_be_asked_for_has_its_row_and_every_row_its_id() -> None:
    assert set(RULES) == {model.id for model in claude_models() if model.lifecycle != "retired"}


@pytest.mark.parametrize(
    "change",
    [
        {"window": 0},
        {"max_output": 2_000_000},
        {"thinking": ["adaptive", "sometimes"]},
        {"thinking_to_high": ["between_tools"]},
        {"thinking_default": "always"},
        {"default_effort": "ultra"},
        {"default_effort": None},
        {"effort": []},
        {"prices": [{"input": "5", "output": "25"}]},
        {"wat": 1},
    ],
)
def test_a_row_that_does_not_hold_together_is_not_read(change: dict[str, Any]) -> None:
    row = msgspec.to_builtins(RULES["claude-opus-5"])
    assert msgspec.convert(row, ClaudeRules) == RULES["claude-opus-5"]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(row | change, ClaudeRules)


@pytest.mark.behaviour("client-surface-2.1-messages-prefill-refused")
@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        ("claude-opus-5-5", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, 'thinking: "thinking.type.enabled" is not supported'),
        ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, 'thinking: "thinking.type.disabled" is not supported'),
        ("claude-opus-4-5-20251101", {"thinking": {"type": "adaptive"}}, "thinking: adaptive thinking is not supported on this model"),
        ("claude-opus-5", {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, 'thinking: "thinking.type.disabled" is not supported for this model at effort max'),
        ("claude-haiku-5-5", {"thinking": {"type": "disabled"}, "output_config": {"effort": "xhigh"}}, "thinking: "),
        ("claude-sonnet-5-5", {"thinking": {"type": "between_tools"}, "output_config": {"effort": "xhigh"}}, "thinking: "),
        ("claude-opus-5-5", {"thinking": {"type": "between_tools"}}, "thinking: "),
        ("claude-mythos-preview", {"thinking": {"type": "disabled"}}, "thinking: "),
        ("claude-mythos-preview", {"tools": [TOOL], "tool_choice": {"type": "any"}}, "tool_choice: forced tool use is not"),
        ("claude-mythos-preview", {"top_k": 5}, "top_k: "),
        ("claude-opus-4-6", {"thinking": MANUAL, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "a"}}, "tool_choice: Thinking may not be enabled"),
        ("claude-opus-4-6", {"thinking": MANUAL, "temperature": 0.5}, "temperature: "),
        ("claude-opus-4-6", {"thinking": {"type": "adaptive"}, "top_p": 0.94}, "top_p: "),
        ("claude-haiku-4-5-20251001", {"thinking": MANUAL, "top_k": 5}, "top_k: "),
        ("claude-haiku-4-5-20251001", {"thinking": MANUAL, "messages": PREFILL}, "assistant message prefill is not supported when thinking"),
        ("claude-sonnet-4-5-20250929", {"inference_geo": "global"}, "inference_geo: "),
        ("claude-opus-4-7", {"speed": "fast"}, "speed: "),
        ("claude-opus-4-8", {"temperature": 0.5}, "temperature: "),
        ("claude-sonnet-4-5-20250929", {"temperature": 0.5, "top_p": 0.5}, "`temperature` and `top_p` cannot both be specified"),
        ("claude-opus-4-6", {"messages": PREFILL}, "This model does not support assistant message prefill"),
        ("claude-sonnet-5", {"messages": AMID}, "messages.1.role: "),
        ("claude-haiku-4-5-20251001", {"max_tokens": 64001}, "max_tokens: 64001 > 64000, which is the maximum allowed"),
        ("claude-haiku-4-5-20251001", {"output_config": {"effort": "low"}}, "output_config.effort: "),
        ("claude-opus-4-6", {"output_config": {"effort": "xhigh"}}, "output_config.effort: "),
        ("claude-sonnet-5-5", {"tools": [TOOL], "tool_choice": {"type": "any"}}, "tool_choice: "),
    ],
)  # fmt: skip
def test_what_an_id_refuses(model: str, change: dict[str, Any], message: str) -> None:
    told = refused(model, **change)
    assert told is not None
    assert told.startswith(message)


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("claude-opus-4-5-20251101", {"messages": PREFILL, "temperature": 0.2, "max_tokens": 64000}),
        ("claude-opus-5-5", {"thinking": {"type": "adaptive"}, "temperature": 1, "output_config": {"effort": "max"}}),
        ("claude-sonnet-5-5", {"thinking": {"type": "between_tools"}}),
        ("claude-sonnet-5-5", {"thinking": {"type": "between_tools"}, "output_config": {"effort": "high"}}),
        ("claude-opus-5", {"messages": AMID, "thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}),
        ("claude-opus-4-8", {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}),
        ("claude-haiku-5-5", {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}),
        ("claude-haiku-5-5", {"output_config": {"effort": "xhigh"}, "tools": [TOOL], "tool_choice": {"type": "any"}}),
        ("claude-mythos-preview", {"thinking": MANUAL, "temperature": 1}),
        ("claude-opus-4-6", {"temperature": 0.2, "top_p": 0.5, "top_k": 4}),
        ("claude-opus-4-6", {"temperature": 1, "top_p": 0.95, "top_k": 0, "thinking": MANUAL}),
        ("claude-opus-4-6", {"thinking": {"type": "adaptive"}, "tools": [TOOL], "tool_choice": {"type": "any"}, "inference_geo": "us"}),
        ("claude-opus-4-6", {"speed": "fast"}),
        ("claude-opus-4-7", {"speed": "standard"}),
        ("claude-opus-4-6", {"messages": PREFILL, "fallback_credit_token": "credit"}),
        ("claude-haiku-4-5-20251001", {"thinking": {"type": "disabled"}, "messages": PREFILL, "inference_geo": None}),
    ],
)  # fmt: skip
def test_what_an_id_accepts(model: str, change: dict[str, Any]) -> None:
    assert refused(model, **change) is None


def test_an_effort_amid_the_conversation_is_the_id_s_affair_too() -> None:
    """Opus 4.5 has no such messages; a row that had them would be asked for the level."""
    rules = msgspec.structs.replace(RULES["claude-opus-4-5-20251101"], system_messages=True)
    for effort, told in (("high", None), ("max", r"^messages\.1\.output_config\.effort: 'max' is not supported")):
        amid = [USER, {"role": "system", "content": "Go.", "output_config": {"effort": effort}}]
        request = parse_messages(msgspec.json.encode({"model": "m", "max_tokens": 5, "messages": amid})).request
        if told is None:
            check(rules, request)
            continue
        with pytest.raises(InvalidRequest, match=told):
            check(rules, request)


def test_the_profile_binds_only_where_it_is_set(scripted: StartScripted) -> None:
    asked: dict[str, Any] = {"model": "claude-opus-4-6", "max_tokens": 200_000, "messages": [USER]}
    bound = scripted(profile="claude").client(timeout=60)
    with pytest.raises(anthropic.BadRequestError, match="maximum allowed number of output tokens for claude-opus-4-6"):
        bound.messages.create(**asked)
    with pytest.raises(anthropic.BadRequestError, match="prefill"):
        bound.messages.count_tokens(model="claude-opus-4-6", messages=PREFILL)  # type: ignore[arg-type]
    assert bound.messages.create(**(asked | {"max_tokens": 3})).usage.output_tokens == 3
    assert bound.messages.create(**(asked | {"model": "claude-opus-9", "max_tokens": 3})).usage.output_tokens == 3
    assert bound.models.retrieve("claude-haiku-4-5").max_tokens == 64_000
    free = scripted().client(timeout=60)
    assert free.messages.create(**(asked | {"messages": PREFILL, "max_tokens": 3})).usage.output_tokens == 3
