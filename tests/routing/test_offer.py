"""What is advertised: no more than is served, than the model was trained for, and than the id accepts."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest

from antiphon.routing.catalogue import Capabilities, ModelCard
from antiphon.routing.offer import Offer, capabilities
from antiphon.routing.profile import claude_rules

EVERYTHING = Offer(
    batch=True,
    citations=True,
    code_execution=True,
    context_edits=frozenset({"clear_thinking_20251015", "clear_tool_uses_20250919", "compact_20260112"}),
    effort=frozenset({"low", "medium", "high", "xhigh", "max"}),
    images=True,
    pdfs=True,
    server_tools=frozenset({"code_execution", "web_search"}),
    structured_outputs=True,
    thinking=frozenset({"adaptive", "between_tools", "disabled", "enabled"}),
)


def card(**trained: bool) -> ModelCard:
    return ModelCard(
        name="m",
        display_name="M",
        tiers=("opus",),
        window=1000,
        max_output=500,
        created=date(2026, 1, 1),
        capabilities=Capabilities(**trained),
    )


def supported(tree: Any, path: str = "") -> dict[str, bool]:
    """Every leaf and every summary of the tree, by its path."""
    found = {path.strip("."): tree["supported"]} if "supported" in tree else {}
    for name, inner in tree.items():
        if isinstance(inner, dict):
            found |= supported(inner, f"{path}.{name}")
    return found


def shown(offer: Offer, model: ModelCard, id_: str | None = None) -> dict[str, bool]:
    rules = claude_rules()[id_] if id_ is not None else None
    return supported(msgspec.to_builtins(capabilities(model, rules, offer)))


def test_of_all_that_is_offered_a_model_has_what_it_was_trained_for() -> None:
    everything = shown(EVERYTHING, card(thinking=True, images=True))
    assert len(everything) == 24
    assert set(everything.values()) == {True}
    plain = shown(EVERYTHING, card())
    assert {path for path in plain if not plain[path]} == {
        "image_input",
        "thinking",
        "thinking.types.adaptive",
        "thinking.types.between_tools",
        "thinking.types.enabled",
    }


def test_an_id_s_own_refusals_narrow_it() -> None:
    full = card(thinking=True, images=True)
    for id_, rules in claude_rules().items():
        tree = shown(EVERYTHING, full, id_)
        for kind in ("adaptive", "between_tools", "disabled", "enabled"):
            assert tree[f"thinking.types.{kind}"] == (kind in rules.thinking)
        for level in ("low", "medium", "high", "xhigh", "max"):
            assert tree[f"effort.{level}"] == (level in rules.effort)
        assert tree["effort"] == bool(rules.effort)


@pytest.mark.parametrize("trained", [{}, {"thinking": True, "images": True, "tools": True}])
def test_what_is_not_offered_is_advertised_by_no_model(trained: dict[str, bool]) -> None:
    assert set(shown(Offer(), card(**trained)).values()) == {False}
