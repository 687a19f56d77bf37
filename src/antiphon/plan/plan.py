"""The plan of one turn: the prompt with its exact length, the limits, and what to generate.

A plan is a prompt and a pure function from how the last phase ended to the next phase or the end (`plan.phases`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from antiphon.core.errors import PromptTooLong
from antiphon.engine.contract import Prompt, Sampling
from antiphon.engine.slots import prompt_ids
from antiphon.plan.caching.bill import Breakpoint
from antiphon.plan.caching.index import Cacheable
from antiphon.plan.caching.positions import Mark, marks, positions
from antiphon.plan.caching.prefixes import Caching, Prefixes, prefixes
from antiphon.plan.constraints import Constraints
from antiphon.plan.phases import Course
from antiphon.plan.promises import refuse_unkept
from antiphon.plan.render import Rendered, Renderer
from antiphon.plan.rules import check
from antiphon.plan.schema.cache import LoweredCache
from antiphon.plan.schema.outside import Outside
from antiphon.wire.request import Conversation, MessagesRequest

#: What an engine's 32 bits hold; more than there are tokens, so it narrows nothing.
_LARGEST_TOP_K = 2**31 - 1


class Limits(msgspec.Struct, frozen=True):
    """What the running model allows, in tokens, and how it samples where the client does not say."""

    window: int
    max_output: int
    sampling: Sampling = Sampling()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn asks of its engine: a prompt of so many tokens, and a course of phases. `max_tokens` is what may be
    generated in all of them, after clamping. `prefixes` are the request's, where it caches anything or asks about it;
    `cacheable` is what of the prompt can be cached."""

    prompt: Prompt
    tokens: int
    max_tokens: int
    stop_sequences: tuple[str, ...]
    course: Course
    prefixes: Prefixes | None = None
    cacheable: Cacheable | None = None


class Planner:
    """Plans turns for one model."""

    def __init__(
        self, renderer: Renderer, limits: Limits, lowered: LoweredCache, outside: Outside | None = None
    ) -> None:
        self._renderer = renderer
        self._limits = limits
        self._outside = outside or Outside()
        self._constraints = Constraints(renderer, lowered, self._outside)

    def plan(
        self,
        request: MessagesRequest,
        window: int | None = None,
        caching: Caching | None = None,
        *,
        waits: bool = True,
    ) -> Plan:
        """From a request to what will be asked of the engine. `window`, in tokens, narrows the model's own. Without
        `caching` nothing is cached.

        A `max_tokens` over the model's maximum is clamped (architecture, "Whose rules"); one that does not fit the
        window behind the prompt is too, and reaching that end is its own stop reason (contract messages-and-inference
        12.3). Not for the event loop, unless `waits` is false.

        Raises:
            TakesLonger: its schemas take more than is done without waiting.
            InvalidRequest: the conversation breaks a rule, or asks for what is not served.
            PromptTooLong: the prompt alone fills the window. Of one that is far too long it tells the least that it can
                have, for counting all of it would take long.
        """
        check(request)
        refuse_unkept(request)
        found = positions(request)
        asked = marks(request, found)
        calling, document = self._constraints.of(request, waits=waits)
        window = min(self._limits.window, window or self._limits.window)
        rendered = self._renderer.render(request, window - 1)
        tokens, room = rendered.tokens, window - rendered.tokens
        if room <= 0:
            # One place is kept: an engine cannot read a prompt without making a token.
            raise PromptTooLong(tokens, tokens + room - 1)
        wanted = min(request.max_tokens, self._limits.max_output)
        keyed = prefixes(request, found, caching) if caching and (asked or request.diagnostics) else None
        return Plan(
            prompt=rendered.prompt,
            tokens=tokens,
            max_tokens=min(wanted, room),
            stop_sequences=request.stop_sequences or (),
            course=Course(
                max_tokens=min(wanted, room),
                clamped=room < wanted,
                sampling=self._sampling(request),
                calling=calling,
                document=document,
            ),
            prefixes=keyed,
            cacheable=_cacheable(rendered, keyed, asked, caching) if keyed and caching else None,
        )

    def count(self, request: Conversation, *, waits: bool = True) -> int:
        """The prompt's length in tokens: what the same request would be billed as input.

        Raises:
            TakesLonger: as `plan`.
            InvalidRequest: the conversation breaks a rule, or asks for what is not served.
        """
        check(request)
        refuse_unkept(request)
        marks(request, positions(request))
        self._constraints.check(request, waits=waits)
        return self._renderer.count(request)

    def ends(self, request: Conversation) -> Mapping[str, int]:
        """Where every block of a request ends in its prompt, in tokens, by path."""
        return {block.path: block.end for block in self._renderer.render(request).blocks}

    def close(self) -> None:
        """End what runs outside of this process. Blocks for a moment."""
        self._outside.close()

    def _sampling(self, request: MessagesRequest) -> Sampling:
        """The client's values where it gives any; where it gives none, what the model's makers recommend."""
        given = {
            name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(request, name)) is not None
        }
        if "top_k" in given:
            given["top_k"] = min(given["top_k"], _LARGEST_TOP_K)
        base = Sampling() if given else self._limits.sampling
        return msgspec.structs.replace(base, **given)


def _cacheable(rendered: Rendered, keyed: Prefixes, asked: Sequence[Mark], caching: Caching) -> Cacheable | None:
    """What of a prompt can be cached: up to each mark, if that is long enough (contract 7.3)."""
    breakpoints = [
        Breakpoint(mark.place, tokens, mark.lifetime)
        for mark in asked
        if (tokens := rendered.end_of(keyed.paths[mark.place])) >= caching.minimum
    ]
    ids = prompt_ids(rendered.prompt)
    return Cacheable(caching.scope, keyed.keys, tuple(breakpoints), ids) if breakpoints else None
