"""What this platform offers today, whatever model answers: the one place where a capability is switched on.

`GET /v1/models` advertises nothing else: what is offered here, as far as the model that answers was trained for it, and
as far as the asked-for id does not refuse it (contract client-surface 4.2). A part that begins to serve something adds
it to `SERVED` in the same change.
"""

from __future__ import annotations

import msgspec

from antiphon.routing.catalogue import ModelCard
from antiphon.routing.profile import ClaudeRules
from antiphon.wire.models import (
    ContextManagement,
    EffortLevels,
    ModelCapabilities,
    ServerTools,
    Support,
    ThinkingSupport,
    ThinkingTypes,
)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Capabilities that are served: not merely accepted without effect."""

    batch: bool = False
    citations: bool = False
    code_execution: bool = False
    """Tools called from code."""
    context_edits: frozenset[str] = frozenset()
    effort: frozenset[str] = frozenset()
    images: bool = False
    pdfs: bool = False
    server_tools: frozenset[str] = frozenset()
    structured_outputs: bool = False
    thinking: frozenset[str] = frozenset()
    """Values of `thinking.type`. `disabled` is one of them: that a model does not think can be asked of any."""


#: Adaptive thinking, effort and context edits are accepted as hints, without effect so far: not advertised.
SERVED = Offer(structured_outputs=True, thinking=frozenset({"disabled"}))


def capabilities(card: ModelCard, rules: ClaudeRules | None = None, offer: Offer = SERVED) -> ModelCapabilities:
    """What a request for an id may use that `card`'s model answers and whose own `rules`, if any, bind."""
    thinking = offer.thinking if card.capabilities.thinking else offer.thinking & {"disabled"}
    effort = offer.effort
    if rules is not None:
        thinking &= set(rules.thinking)
        effort &= set(rules.effort)
    edits, tools = offer.context_edits, offer.server_tools
    return ModelCapabilities(
        batch=Support(offer.batch),
        citations=Support(offer.citations),
        code_execution=Support(offer.code_execution),
        context_management=ContextManagement(
            supported=bool(edits),
            clear_thinking_20251015=Support("clear_thinking_20251015" in edits),
            clear_tool_uses_20250919=Support("clear_tool_uses_20250919" in edits),
            compact_20260112=Support("compact_20260112" in edits),
        ),
        effort=EffortLevels(
            supported=bool(effort),
            low=Support("low" in effort),
            medium=Support("medium" in effort),
            high=Support("high" in effort),
            xhigh=Support("xhigh" in effort),
            max=Support("max" in effort),
        ),
        image_input=Support(offer.images and card.capabilities.images),
        pdf_input=Support(offer.pdfs),
        server_tools=ServerTools(
            supported=bool(tools),
            code_execution=Support("code_execution" in tools),
            web_search=Support("web_search" in tools),
        ),
        structured_outputs=Support(offer.structured_outputs),
        thinking=ThinkingSupport(
            supported=bool(thinking - {"disabled"}),
            types=ThinkingTypes(
                adaptive=Support("adaptive" in thinking),
                between_tools=Support("between_tools" in thinking),
                disabled=Support("disabled" in thinking),
                enabled=Support("enabled" in thinking),
            ),
        ),
    )
