"""The samples that the other tests read back are complete: every type and field that the official SDK can send is in
one (contract client-surface 2.1, 2.3 to 2.5 and 4.1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from anthropic.types import beta
from anthropic.types.beta.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.beta.message_create_params import MessageCreateParamsBase
from typing_extensions import get_type_hints, is_typeddict

import samples

#: They travel in headers.
HEADERS = {"betas", "user_profile_id", "workspace_id"}
#: What a client writes as it likes, which is read whole.
OPAQUE = {"browser_state", "tool_definition", "object"}


def typed(hint: Any, seen: set[Any]) -> Iterator[tuple[str, set[str]]]:
    """Every dictionary with a `type` that can be reached from a hint: that type and its fields."""
    if is_typeddict(hint):
        if hint in seen:
            return
        seen.add(hint)
        hints = get_type_hints(hint)
        kind = hints.get("type")
        for name in get_args(kind) if get_origin(kind) is Literal else ():
            if name in OPAQUE:
                return
            yield name, set(hints)
        for inner in hints.values():
            yield from typed(inner, seen)
    elif get_origin(hint) is not Literal:
        for inner in get_args(hint):
            yield from typed(inner, seen)


def sampled(value: Any) -> Iterator[tuple[str, set[str]]]:
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value["type"], set(value)
        for inner in value.values():
            yield from sampled(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from sampled(inner)


def gathered(pairs: Iterator[tuple[str, set[str]]]) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, fields in pairs:
        found[name] |= fields
    return dict(found)


SAMPLED = gathered(
    sampled(
        [
            samples.USER_BLOCKS,
            samples.ASSISTANT_BLOCKS,
            samples.SYSTEM_BLOCKS,
            samples.TOOLS,
            *samples.COUNTED_OPTIONS.values(),
            *samples.ANSWER_OPTIONS.values(),
        ]
    )
)
BLOCKS = gathered(typed(beta.BetaContentBlockParam, set()))
TOOLS = gathered(typed(beta.BetaToolUnionParam, set()))


@pytest.mark.behaviour("client-surface-2.3-complete")
@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_of_the_sdk_is_sampled_with_every_field(name: str) -> None:
    assert SAMPLED.get(name, set()) >= BLOCKS[name]


@pytest.mark.behaviour("client-surface-2.4-complete")
@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_of_the_sdk_is_sampled_with_every_field(name: str) -> None:
    assert SAMPLED.get(name, set()) >= TOOLS[name]


@pytest.mark.behaviour("client-surface-2.1-complete", "client-surface-4.1-parameters")
def test_every_option_of_the_sdk_is_sampled() -> None:
    counted = {"model", "messages", "tools", *samples.COUNTED_OPTIONS}
    assert set(MessageCountTokensParams.__annotations__) - HEADERS <= counted
    assert set(MessageCreateParamsBase.__annotations__) - HEADERS <= counted | set(samples.ANSWER_OPTIONS)


OPTIONS = gathered(
    pair
    for name, hint in get_type_hints(MessageCreateParamsBase).items()
    if name not in ("messages", "tools")
    for pair in typed(hint, set())
)


@pytest.mark.behaviour("client-surface-2.1-complete")
@pytest.mark.parametrize("name", OPTIONS)
def test_every_kind_of_option_of_the_sdk_is_sampled_with_every_field(name: str) -> None:
    assert SAMPLED.get(name, set()) >= OPTIONS[name]
