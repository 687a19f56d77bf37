"""What is noted of a turn while it runs, and the one usage record that it becomes."""

from __future__ import annotations

from antiphon.core.clock import Clock
from antiphon.core.records import Attempt, Caller, Usage, UsageRecord


class Account:
    """One turn's account, opened with the turn. So far a turn has one attempt."""

    def __init__(self, clock: Clock, caller: Caller, request_id: str, message_id: str) -> None:
        self._clock = clock
        self._caller = caller
        self._request_id = request_id
        self._message_id = message_id
        self._created_ms = clock.now_ms()
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
        self,
        outcome: str,
        usage: Usage,
        *,
        requested_model: str,
        served_model: str,
        engine: str,
        streamed: bool,
        geography: str | None,
        user_id: str | None,
    ) -> UsageRecord | None:
        """The record; None where nothing was computed and nobody was promised anything."""
        if self._seated is None and not self._promised:
            return None
        now = self._clock.monotonic()
        seated = now if self._seated is None else self._seated
        if self._seated is None:
            usage = Usage()
        attempt = Attempt(
            model=served_model,
            engine=engine,
            outcome=outcome,
            usage=usage,
            started_ms=self._created_ms,
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
            requested_model=requested_model,
            served_model=served_model,
            outcome=outcome,
            usage=usage,
            attempts=(attempt,),
            created_ms=self._created_ms,
            duration_us=_micros(now - self._began),
            message_id=self._message_id,
            streamed=streamed,
            geography=geography,
            user_id=user_id,
        )


def _micros(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
