"""One request's way through the limits: admitted, its input taken, its output counted, settled.

grant = await limiter.admit(scope, group, model)   one request, and something left of the output
await grant.input(tokens)                          the exact uncached count, before the seat
grant.produced(tokens), await grant.write()        as the engine makes them; never refused
await grant.settle(...)                            what it used in the end
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from antiphon.core.clock import Clock
from antiphon.core.errors import RateLimited
from antiphon.core.records import Scope, Usage
from antiphon.gate.limits.buckets import Bucket, Buckets, Demand, Hold, Level, LimitsUnavailable, Refused, Taken
from antiphon.gate.limits.headers import lines_of, message_of, retry_after_s
from antiphon.gate.limits.policy import Policy, Rules


class Grant:
    """What one request has taken. Settle it, however it ends."""

    def __init__(self, limiter: Limiter, rules: Rules, scope: Scope, model: str, taken: Taken) -> None:
        self.rules = rules
        self._limiter = limiter
        self._scope = scope
        self._model = model
        self._levels = taken.levels
        self._input_levels: tuple[Level, ...] = ()
        self._requests = taken.holds
        self._inputs: tuple[Hold, ...] = ()
        self._taken = 0
        self._unwritten = 0
        self._written_s = limiter.clock.monotonic()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header lines, as the limits stood when this request took its share of them; whole after `input`."""
        return lines_of((*self._levels, *self._input_levels), self._limiter.clock.now_ms())

    def counted(self, usage: Usage) -> int:
        """What of a prompt counts towards the limits of input: what is read from a cache does not, but for the models
        of one group (contract messages-and-inference 13)."""
        counted = usage.input_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        return counted + usage.cache_read_tokens if self.rules.cache_reads_count else counted

    async def input(self, tokens: int) -> None:
        """Take a prompt's tokens: uncached ones and those written to the cache. A second call takes further ones, for
        another attempt.

        Raises:
            RateLimited: they do not fit. The request itself is given back: it does not count.
            LimitsUnavailable: it cannot be told.
        """
        answer = await self._limiter.buckets.take([Demand(bucket, tokens) for bucket in self.rules.input])
        if isinstance(answer, Refused):
            await self.settle(0, counted=False)
            raise self._limiter.refusal(answer, self._levels, self._scope, self._model)
        self._input_levels = answer.levels
        self._inputs += answer.holds
        self._taken += tokens

    def produced(self, tokens: int) -> bool:
        """Count tokens that were made. Returns whether it is time to `write` them: a few times a second will do."""
        self._unwritten += tokens
        return self._limiter.clock.monotonic() - self._written_s >= self._limiter.write_every_s

    async def write(self) -> None:
        """Take what was produced from the buckets. Never fails."""
        self._written_s = self._limiter.clock.monotonic()
        tokens, self._unwritten = self._unwritten, 0
        if tokens:
            with suppress(LimitsUnavailable):
                await self._limiter.buckets.spend([(bucket, tokens) for bucket in self.rules.output])

    async def settle(self, input_tokens: int | None = None, *, counted: bool = True) -> None:
        """Give back, or take, what differs from what was taken. `input_tokens` is what the request's input came to;
        None: just what was taken. `counted=False`: the failure was ours, so the request does not count. Never fails;
        what is settled is settled once."""
        used: list[tuple[Hold, int]] = []
        if not counted:
            used += [(hold, 0) for hold in self._requests]
        self._requests = ()
        inputs, self._inputs = self._inputs, ()
        if input_tokens is not None and input_tokens != self._taken:
            used += _shared_out(self.rules.input, inputs, input_tokens)
        with suppress(LimitsUnavailable):
            if used:
                await self._limiter.buckets.settle(used)
        await self.write()


class Limiter:
    """Admits requests. `policy` may be replaced at any time; requests under way keep theirs."""

    def __init__(self, policy: Policy, buckets: Buckets, clock: Clock, *, write_every_s: float = 0.0) -> None:
        """`write_every_s`: how long output is collected before it is written, seconds; 0 is after each step."""
        self.policy = policy
        self.buckets = buckets
        self.clock = clock
        self.write_every_s = write_every_s

    async def admit(self, scope: Scope, group: str, model: str) -> Grant:
        """Let a request in; `model` is the id that was asked for, to be named if it is refused.

        Raises:
            RateLimited: the requests of this minute are used up, or more output was produced than the limit allows.
            LimitsUnavailable: it cannot be told.
        """
        rules = self.policy.rules(scope, group)
        answer = await self.buckets.take(rules.admission)
        if isinstance(answer, Refused):
            raise self.refusal(answer, await self.buckets.look(rules.input), scope, model)
        return Grant(self, rules, scope, model, answer)

    def refusal(self, refused: Refused, others: Sequence[Level], scope: Scope, model: str) -> RateLimited:
        """The error for a refusal; `others` are the levels of the request's other buckets."""
        return RateLimited(
            message_of(refused, organization=scope.organization, model=model),
            retry_after_s=retry_after_s(refused),
            headers=lines_of((*refused.levels, *others), self.clock.now_ms()),
        )

    async def look(self, scope: Scope, group: str) -> tuple[Level, ...]:
        """How the buckets of a workspace and group stand, nothing taken.

        Raises:
            LimitsUnavailable: nobody knows.
        """
        rules = self.policy.rules(scope, group)
        return await self.buckets.look((*rules.requests, *rules.input, *rules.output))


def _shared_out(buckets: tuple[Bucket, ...], holds: tuple[Hold, ...], used: int) -> list[tuple[Hold, int]]:
    """What each hold used. Of several on one bucket the earlier attempts are filled first, and the last one takes
    what is over; where nothing was held, all of it is over."""
    shares: list[tuple[Hold, int]] = []
    for bucket in buckets:
        left = used
        *earlier, last = [hold for hold in holds if hold.bucket == bucket] or [Hold(bucket, 0, 0, 0, 0)]
        for hold in earlier:
            shares.append((hold, min(hold.amount, left)))
            left -= shares[-1][1]
        shares.append((last, left))
    return shares
