"""The engine contract: a seat, tokens in, tokens out (architecture, section 2).

A turn takes one seat and keeps it. On the seat it generates one or several *phases*; the prompt of a phase is the
seat's prompt, all that earlier phases made, and the phase's own `appended` tokens. An engine's own error text never
leaves it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from antiphon.core.records import Scope
from antiphon.engine.grammar import Grammar

#: Whether somebody waits for the answer. Interactive requests go first, and batches are not kept out for ever.
Priority: TypeAlias = Literal["interactive", "batch"]


class TokenSpan(msgspec.Struct, frozen=True):
    """Ids of the model's own vocabulary."""

    ids: list[int]


class MediaSpan(msgspec.Struct, frozen=True):
    """An image, by digest, and the tokens it takes. No body serves one yet."""

    digest: str
    tokens: int


Segment: TypeAlias = TokenSpan | MediaSpan


class Prompt(msgspec.Struct, frozen=True):
    """What the model reads before it writes. `keep_seconds`: for how long a reader has been told that its beginning is
    remembered; 0 where nobody was told so. An engine that can choose keeps by that, as far as its memory goes."""

    segments: tuple[Segment, ...]
    keep_seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Length in tokens, media included."""
        return sum(len(s.ids) if isinstance(s, TokenSpan) else s.tokens for s in self.segments)


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is chosen. `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None


class Phase(msgspec.Struct, frozen=True):
    """One stretch of generation under one set of rules.

    `max_tokens` 0 means: process the prompt, generate nothing visible. Tokens of `stop_tokens` end the phase and are
    counted, and their text is left out; the model's own end-of-turn tokens always do.

    Under a `grammar` the text is one that it allows, if the phase ends with `stop`; only the end of the turn ends it,
    so `stop_tokens` are not heeded. With `instead` what the seat's last phase made is taken back first. With `logprobs`
    events tell how likely each of their tokens was.
    """

    max_tokens: int
    sampling: Sampling = Sampling()
    stop_tokens: tuple[int, ...] = ()
    appended: tuple[int, ...] = ()
    instead: bool = False
    grammar: Grammar | None = None
    logprobs: bool = False


class EngineEvent(msgspec.Struct, frozen=True, gc=False):
    """What a model made: whole characters only, and how many tokens they took (none for an end token's text).

    `logprobs` are natural logarithms, one for each token in order, of what the model gave it before temperature and
    grammar; None where they were not asked for, or the library does not tell them.
    """

    data: bytes
    tokens: int
    ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None


class Finish(msgspec.Struct, frozen=True):
    """Why a phase ended. `reused_tokens` is how much of the prompt the engine did not compute again, if it tells."""

    reason: Literal["stop", "length"]
    reused_tokens: int | None = None


class Step(msgspec.Struct, frozen=True, gc=False):
    """What one step of the engine gave to one seat: sent on in one write (architecture, rule 7)."""

    events: tuple[EngineEvent, ...]
    finish: Finish | None = None


class Seat(Protocol):
    """A place in the engine, held by one turn."""

    def generate(self, phase: Phase) -> AsyncGenerator[Step, None]:
        """Run one phase; the last step carries `finish`. Closing the iterator early stops the engine within one step.

        Raises:
            EngineFailed: the engine crashed, hung or refused; with `retry_helps` False where it is the phase's own
                fault (a grammar that cannot be had): nobody else is harmed.
        """
        ...


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a body promises about itself. `reuse_estimated`: the reuse it reports is what it reckons in whole blocks,
    since its library does not tell."""

    engine: str
    model: str
    window: int
    seats: int
    reports_reuse: bool
    reports_ids: bool
    grammar: bool = False
    logprobs: bool = False
    reuse_estimated: bool = False


class Remembered(msgspec.Struct, frozen=True):
    """How much an engine holds of prompts, for metrics: how many, their bytes where they are known, and how many were
    given up for room so far."""

    prompts: int = 0
    bytes: int = 0
    evictions: int = 0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an answer could be generated now; of one that is not `loaded`, whether it would be once it is asked for.
    `reason` is for the operator."""

    ready: bool
    loaded: bool = True
    reason: str = ""
    seats_taken: int = 0
    waiting: int = 0
    restarts: int = 0


class Engine(Protocol):
    """One model, ready to generate."""

    def describe(self) -> Description: ...

    def health(self) -> Health: ...

    def epoch(self, scope: Scope) -> int:
        """Which life of its memory of this workspace's prompts it is: another number whenever all of that was lost."""
        ...

    def seat(
        self, scope: Scope, prompt: Prompt, max_tokens: int, priority: Priority = "interactive"
    ) -> AbstractAsyncContextManager[Seat]:
        """Wait for a seat and hold it. `prompt` plus `max_tokens` is what the seat may come to use, and by that
        workspaces take turns (docs/design/0012).

        Raises:
            Overloaded: the queue is full, the wait was too long, or a workspace with fewer requests needs the place.
            EngineFailed: the engine is down.
        """
        ...

    async def start(self) -> None:
        """Make the engine ready. Raises EngineFailed where it cannot."""
        ...

    async def stop(self) -> None: ...


@runtime_checkable
class TellsRemembered(Protocol):
    """A body that knows how much its library holds of prompts."""

    def remembered(self) -> Remembered: ...
