"""What is noted of a turn while it runs, and the one usage record that it becomes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.records import Attempt, Caller, Cost, Usage, UsageRecord

#: Endings that are our fault: what was made stays on record, and is not billed (`docs/billing.md`).
OURS = frozenset(("engine_failed", "internal_error", "overloaded"))


class Asked(msgspec.Struct, frozen=True):
    """What a turn was asked, and what answered it; `workflow` is the piece of work that the client said it is of."""

    requested_model: str
    served_model: str
    engine: str
    streamed: bool
    geography: str | None
    user_id: str | None
    workflow: str | None


class Account:
    """One turn's account, opened with the turn. So far a turn has one attempt.

    Attributes:
        created_ms: when it began, milliseconds since the epoch; the prices of that moment hold.
    """

    def __init__(self, clock: Clock, caller: Caller, request_id: str, message_id: str) -> None:
        self._clock = clock
        self._caller = caller
        self._request_id = request_id
        self._message_id = message_id
        self.created_ms = clock.now_ms()
        self._began = clock.monotonic()
        self._seated: float | None = None
        self._first_token: float | None = None
        self._reused: int | None = None
        self._promised = False

    def promised(self) -> None:
        """The client has been told that an answer comes: whatever happens now, there will be a record."""
        self._promised = True

    def seated(self) -> None:
        """The engine has begun: from here on something is computed."""
        self._seated = self._clock.monotonic()

    def stepped(self) -> None:
        """The engine gave something."""
        if self._first_token is None:
            self._first_token = self._clock.monotonic()

    def reused(self, tokens: int | None) -> None:
        """How much of the prompt the engine did not compute again; of several phases the first counts."""
        if self._reused is None:
            self._reused = tokens

    def closed(
        self, outcome: str, usage: Usage, price: Callable[[Usage, int], Cost], asked: Asked
    ) -> UsageRecord | None:
        """The record; None where nothing was computed and nobody was promised anything. `price` says what tokens cost
        a request that began then (milliseconds since the epoch)."""
        if self._seated is None and not self._promised:
            return None
        now = self._clock.monotonic()
        seated = now if self._seated is None else self._seated
        if self._seated is None:
            usage = Usage()
        attempt = Attempt(
            model=asked.served_model,
            engine=asked.engine,
            outcome=outcome,
            usage=usage,
            started_ms=self.created_ms,
            queue_us=_micros(seated - self._began),
            first_token_us=None if self._first_token is None else _micros(self._first_token - seated),
            duration_us=_micros(now - seated),
            reused_tokens=self._reused,
        )
        return UsageRecord(
            request_id=self._request_id,
            organization=self._caller.scope.organization,
            workspace=self._caller.scope.workspace,
            key_id=self._caller.key_id,
            endpoint="/v1/messages",
            requested_model=asked.requested_model,
            served_model=asked.served_model,
            outcome=outcome,
            usage=usage,
            attempts=(attempt,),
            created_ms=self.created_ms,
            duration_us=_micros(now - self._began),
            message_id=self._message_id,
            streamed=asked.streamed,
            geography=asked.geography,
            user_id=asked.user_id,
            cost=Cost() if outcome in OURS else price(usage, self.created_ms),
            workflow=asked.workflow,
        )


def _micros(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
