"""The profile: under it a Claude id refuses what it refuses at the API, and without it nothing."""

from __future__ import annotations

from typing import Any

import anthropic
import msgspec
import pytest

from antiphon.core.errors import InvalidRequest
from antiphon.routing.profile import check, claude_rules
from antiphon.routing.resolve import claude_models
from antiphon.wire.parse import parse_messages
from conftest import StartScripted

RULES = claude_rules()
USER = {"role": "user", "content": "Hi"}
PREFILL = [USER, {"role": "assistant", "content": "So"}]
AMID = [USER, {"role": "system", "content": "Be brief."}]
TOOL = {"name": "a", "input_schema": {"type": "object"}}


def refused(model: str, **change: Any) -> str | None:
    body = {"model": model, "max_tokens": 5, "messages": [USER]} | change
    try:
        check(RULES[model], parse_messages(msgspec.json.encode(body)).request)
    except InvalidRequest as error:
        return error.message
    return None


def test_every_known_id_has_its_row_and_every_row_its_id() -> None:
    assert set(RULES) == {model.id for model in claude_models()}


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        ("claude-opus-5-5", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, 'thinking: "thinking.type.enabled" is not supported'),
        ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, 'thinking: "thinking.type.disabled" is not supported'),
        ("claude-opus-4-5-20251101", {"thinking": {"type": "adaptive"}}, "thinking: adaptive thinking is not supported on this model"),
        ("claude-opus-5", {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, "thinking.type: "),
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
        ("claude-opus-5", {"messages": AMID, "thinking": {"type": "disabled"}}),
        ("claude-opus-4-6", {"temperature": 0.2, "top_p": 0.5, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
    ],
)
def test_what_an_id_accepts(model: str, change: dict[str, Any]) -> None:
    assert refused(model, **change) is None


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
