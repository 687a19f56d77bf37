"""Token buckets: never more than capacity and refill, in every order of taking, settling, failing and waiting."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from antiphon.gate.limits.buckets import UNITS, Bucket, Demand, Hold, Refused, Taken, wait_of
from antiphon.gate.limits.memory import MemoryBuckets

pytestmark = pytest.mark.anyio

_REQUESTS = Bucket.of("org", None, "opus_5", "requests_per_minute", 50)
_INPUT = Bucket.of("org", None, "opus_5", "input_tokens_per_minute", 7_000)
_INPUT_OF_WORKSPACE = Bucket.of("org", "wrkspc_a", "opus_5", "input_tokens_per_minute", 3_001)
_OUTPUT = Bucket.of("org", None, "opus_5", "output_tokens_per_minute", 400)
_ALL = (_REQUESTS, _INPUT, _INPUT_OF_WORKSPACE, _OUTPUT)


class _Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        # Half a tick further, so that no rounding of the division moves a tick.
        return (self.ms + 0.5) / 1000


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


async def _taken(buckets: MemoryBuckets, *demands: Demand) -> Taken:
    answer = await buckets.take(demands)
    assert isinstance(answer, Taken), answer
    return answer


async def _refused(buckets: MemoryBuckets, *demands: Demand) -> Refused:
    answer = await buckets.take(demands)
    assert isinstance(answer, Refused), answer
    return answer


class _Admitted:
    """A hold that was given out, and what of it was really used: all of it, until it is settled for less."""

    def __init__(self, hold: Hold, at_ms: int) -> None:
        self.hold = hold
        self.at_ms = at_ms
        self.used = hold.amount
        self.settled = False


class _Orders(RuleBasedStateMachine):
    """Any order of the operations, on a clock that the machine moves."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = _Clock()
        self.buckets = MemoryBuckets(self.clock)
        self.admitted: list[_Admitted] = []

    @rule(ms=st.one_of(st.integers(0, 2_000), st.integers(0, 90_000)))
    def wait(self, ms: int) -> None:
        self.clock.ms += ms

    @rule(requests=st.integers(0, 30), tokens=st.integers(0, 3_100))
    def take(self, requests: int, tokens: int) -> None:
        demands = [
            Demand(_REQUESTS, requests),
            Demand(_INPUT, tokens),
            Demand(_INPUT_OF_WORKSPACE, tokens),
            Demand(_OUTPUT, 0, 1),
        ]
        answer = self._take(demands)
        if isinstance(answer, Taken):
            self._note(answer)
            return
        before = asyncio.run(self.buckets.look(_ALL))
        if answer.wait_ms is None:
            assert any(max(demand.amount, demand.needs) > demand.bucket.limit for demand in demands)
            return
        # Nothing was taken; a tick before the time told it does not fit yet, and at that time it does.
        assert before == answer.levels
        assert answer.wait_ms > 0
        self.clock.ms += answer.wait_ms - 1
        assert isinstance(self._take(demands), Refused)
        self.clock.ms += 1
        last = self._take(demands)
        assert isinstance(last, Taken)
        self._note(last)

    @precondition(lambda self: any(not one.settled for one in self.admitted))
    @rule(which=st.randoms(use_true_random=False), part=st.floats(0, 1))
    def settle_for_less(self, which: object, part: float) -> None:
        one = which.choice([one for one in self.admitted if not one.settled])  # type: ignore[attr-defined]
        one.settled, one.used = True, int(one.hold.amount * part)
        asyncio.run(self.buckets.settle([(one.hold, one.used)]))

    @precondition(lambda self: any(not one.settled for one in self.admitted))
    @rule(over=st.integers(0, 9_000))
    def settle_for_more(self, over: int) -> None:
        one = next(one for one in self.admitted if not one.settled)
        one.settled = True
        asyncio.run(self.buckets.settle([(one.hold, one.hold.amount + over)]))

    @rule(tokens=st.integers(0, 900))
    def produce(self, tokens: int) -> None:
        asyncio.run(self.buckets.spend([(_OUTPUT, tokens)]))

    @invariant()
    def never_more_than_there_is(self) -> None:
        for bucket in _ALL:
            uses = [(one.at_ms, one.used) for one in self.admitted if one.hold.bucket == bucket]
            totals = [0, *itertools.accumulate(used for _, used in uses)]
            for first, (begins_ms, _) in enumerate(uses):
                for last in range(first, len(uses)):
                    used = totals[last + 1] - totals[first]
                    there_was = bucket.limit * UNITS + bucket.limit * (uses[last][0] - begins_ms)
                    assert used * UNITS <= there_was, (bucket.kind, used, begins_ms, uses[last][0])

    def _take(self, demands: list[Demand]) -> Taken | Refused:
        return asyncio.run(self.buckets.take(demands))

    def _note(self, taken: Taken) -> None:
        self.admitted += [_Admitted(hold, self.clock.ms) for hold in taken.holds]


_Orders.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestEveryOrder = _Orders.TestCase


async def test_all_or_nothing(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    refused = await _refused(buckets, Demand(_REQUESTS, 1), Demand(_INPUT, 3_002), Demand(_INPUT_OF_WORKSPACE, 3_002))
    assert refused.bucket == _INPUT_OF_WORKSPACE
    assert [level.remaining for level in await buckets.look(_ALL)] == [50, 7_000, 3_001, 400]
    await _taken(buckets, Demand(_REQUESTS, 1), Demand(_INPUT, 3_001), Demand(_INPUT_OF_WORKSPACE, 3_001))
    assert [level.remaining for level in await buckets.look(_ALL)] == [49, 3_999, 0, 400]


async def test_the_refusal_names_the_longest_wait(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    await _taken(buckets, Demand(_REQUESTS, 50), Demand(_INPUT, 7_000))
    # 2 of 50 requests in 2.4 s, 700 of 7,000 tokens in 6 s.
    refused = await _refused(buckets, Demand(_REQUESTS, 2), Demand(_INPUT, 700))
    assert (refused.bucket, refused.wait_ms) == (_INPUT, 6_000)
    assert (await _refused(buckets, Demand(_REQUESTS, 2), Demand(_INPUT, 1))).wait_ms == 2_400


async def test_more_than_the_whole_bucket_never_fits(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    refused = await _refused(buckets, Demand(_REQUESTS, 1), Demand(_INPUT, 7_001))
    assert (refused.bucket, refused.wait_ms) == (_INPUT, None)
    nothing = Bucket.of("org", None, "files", "requests_per_minute", 0)
    assert (await _refused(buckets, Demand(nothing, 1))).wait_ms is None


@pytest.mark.behaviour("messages-and-inference-13-token-bucket")
async def test_refill_is_continuous(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    await _taken(buckets, Demand(_REQUESTS, 50))
    for _ in range(100):
        clock.ms += 1_200
        await _taken(buckets, Demand(_REQUESTS, 1))
        assert (await _refused(buckets, Demand(_REQUESTS, 1))).wait_ms == 1_200


async def test_output_is_never_refused_and_the_next_one_waits_for_it(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    await _taken(buckets, Demand(_OUTPUT, 0, 1))
    for _ in range(10):
        await buckets.spend([(_OUTPUT, 100)])
    (level,) = await buckets.look([_OUTPUT])
    assert (level.remaining, level.full_ms) == (-600, 150_000)
    # 601 tokens of 400 a minute, until one is there again.
    assert (await _refused(buckets, Demand(_OUTPUT, 0, 1))).wait_ms == 601 * 150
    clock.ms += 601 * 150
    await _taken(buckets, Demand(_OUTPUT, 0, 1))


async def test_what_fails_at_once_comes_back_whole(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    taken = await _taken(buckets, Demand(_REQUESTS, 50), Demand(_INPUT, 6_000))
    await buckets.settle([(hold, 0) for hold in taken.holds])
    assert [level.remaining for level in await buckets.look(_ALL)] == [50, 7_000, 3_001, 400]


async def test_many_failures_at_once_come_back_whole_in_any_order(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    holds = [(await _taken(buckets, Demand(_REQUESTS, 1))).holds[0] for _ in range(50)]
    for hold in holds[::-2]:
        await buckets.settle([(hold, 0)])
    for hold in holds[::2]:
        await buckets.settle([(hold, 0)])
    assert [level.remaining for level in await buckets.look([_REQUESTS])] == [50]


async def test_under_load_a_late_failure_comes_back_whole(clock: _Clock) -> None:
    """What was taken before it is refilled first: its own tokens have not come back yet by themselves."""
    buckets = MemoryBuckets(clock)
    await _taken(buckets, Demand(_REQUESTS, 40))
    held = await _taken(buckets, Demand(_REQUESTS, 10))
    clock.ms += 48_000
    await _taken(buckets, Demand(_REQUESTS, 40))
    await buckets.settle([(hold, 0) for hold in held.holds])
    assert [level.remaining for level in await buckets.look([_REQUESTS])] == [10]


async def test_what_has_been_refilled_does_not_come_back_a_second_time(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    held = await _taken(buckets, Demand(_REQUESTS, 50))
    clock.ms += 60_000
    await _taken(buckets, Demand(_REQUESTS, 50))
    await buckets.settle([(hold, 0) for hold in held.holds])
    await _refused(buckets, Demand(_REQUESTS, 1))


async def test_a_forgotten_bucket_is_not_given_anything(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    held = await _taken(buckets, Demand(_REQUESTS, 50))
    clock.ms += 60_000
    await _taken(buckets, Demand(_INPUT, 1))
    assert len(buckets) == 1
    await _taken(buckets, Demand(_REQUESTS, 50))
    await buckets.settle([(hold, 0) for hold in held.holds])
    await _refused(buckets, Demand(_REQUESTS, 1))


async def test_a_full_bucket_in_the_same_call_is_not_lost(clock: _Clock) -> None:
    """Making one bucket forgets others that are full; not one that the same call takes from."""
    buckets = MemoryBuckets(clock)
    await _taken(buckets, Demand(_INPUT, 100))
    clock.ms += 60_000
    await _taken(buckets, Demand(_REQUESTS, 1), Demand(_INPUT, 7_000))
    await _refused(buckets, Demand(_INPUT, 1))


async def test_full_buckets_forget_themselves(clock: _Clock) -> None:
    buckets = MemoryBuckets(clock)
    for number in range(20_000):
        clock.ms += 10
        bucket = Bucket.of("org", f"wrkspc_{number}", "opus_5", "requests_per_minute", 60)
        await _taken(buckets, Demand(bucket, 1))
    # Each is full again after a second, when a hundred others have come.
    assert len(buckets) <= 202


@given(st.integers(1, 10**10), st.integers(1, 10**10), st.integers(0, 10**10))
def test_a_changed_limit_leaves_the_time_until_full(old: int, new: int, tokens: int) -> None:
    clock = _Clock()
    buckets = MemoryBuckets(clock)

    async def changed() -> None:
        await buckets.spend([(Bucket.of("org", None, "opus_5", "requests_per_minute", old), tokens)])
        before = await buckets.look([Bucket.of("org", None, "opus_5", "requests_per_minute", old)])
        after = await buckets.look([Bucket.of("org", None, "opus_5", "requests_per_minute", new)])
        assert abs(after[0].full_ms - before[0].full_ms) <= 1

    asyncio.run(changed())


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**12))
def test_the_wait_is_the_shortest_that_suffices(limit: int, wanted: int, deficit: int) -> None:
    wait = wait_of(Demand(Bucket.of("org", None, "opus_5", "requests_per_minute", limit), wanted), deficit)

    def fits(after_ms: int) -> bool:
        return wanted == 0 or max(0, deficit - after_ms * limit) <= (limit - wanted) * UNITS

    if wait is None:
        assert wanted > limit
    else:
        assert fits(wait)
        assert wait == 0 or not fits(wait - 1)
