"""One request's way through the limits, what the client is told, and what comes back when it fails."""

from __future__ import annotations

import pytest

from antiphon.core.errors import RateLimited
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope
from antiphon.gate.limits import tiers
from antiphon.gate.limits.buckets import Bucket, Demand, Level, LimitsUnavailable, Refused
from antiphon.gate.limits.headers import lines_of, message_of, retry_after_s
from antiphon.gate.limits.limiter import Grant, Limiter
from antiphon.gate.limits.memory import MemoryBuckets
from antiphon.gate.limits.policy import OwnLimits, Policy
from antiphon.gate.limits.shared import SharedBuckets

pytestmark = pytest.mark.anyio


async def _produced(grant: Grant, tokens: int) -> None:
    """As a turn does after each step of the engine."""
    if grant.produced(tokens):
        await grant.write()


_SCOPE = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)
_A = Scope(DEFAULT_ORGANIZATION, "wrkspc_a")
_SMALL: OwnLimits = {
    "opus_5": {"requests_per_minute": 5, "input_tokens_per_minute": 30_000, "output_tokens_per_minute": 6_000}
}
#: 2026-11-23T02:00:00Z.
_NOW_MS = 1_795_399_200_000


class _Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = _NOW_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return (self.ms - _NOW_MS + 0.5) / 1000


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def limiter(clock: _Clock) -> Limiter:
    return Limiter(Policy(tiers.load(), "start", _SMALL), MemoryBuckets(clock), clock)


async def _admit(limiter: Limiter, scope: Scope = _SCOPE) -> Grant:
    return await limiter.admit(scope, "opus_5", "claude-opus-5")


def _told(lines: object) -> dict[str, str]:
    assert isinstance(lines, list | tuple)
    told = {name.decode().removeprefix("anthropic-ratelimit-"): value.decode() for name, value in lines}
    assert len(told) == len(lines)
    return told


async def _left(limiter: Limiter, scope: Scope = _SCOPE) -> list[int]:
    return [level.remaining for level in await limiter.look(scope, "opus_5")]


@pytest.mark.behaviour(
    "messages-and-inference-13-headers",
    "messages-and-inference-13-reset",
    "messages-and-inference-13-tightest",
)
async def test_every_header_in_the_documented_form(limiter: Limiter) -> None:
    grant = await _admit(limiter)
    await grant.input(12_400)
    assert _told(grant.headers) == {
        "requests-limit": "5",
        "requests-remaining": "4",
        "requests-reset": "2026-11-23T02:00:12Z",
        "tokens-limit": "36000",
        "tokens-remaining": "24000",
        "tokens-reset": "2026-11-23T02:00:25Z",
        "input-tokens-limit": "30000",
        "input-tokens-remaining": "18000",
        "input-tokens-reset": "2026-11-23T02:00:25Z",
        "output-tokens-limit": "6000",
        "output-tokens-remaining": "6000",
        "output-tokens-reset": "2026-11-23T02:00:00Z",
    }


@pytest.mark.behaviour("messages-and-inference-13-tightest")
async def test_the_workspaces_tighter_limit_is_the_one_told(clock: _Clock) -> None:
    own: OwnLimits = {"opus_5": {"requests_per_minute": 2, "output_tokens_per_minute": 3_000}}
    limiter = Limiter(Policy(tiers.load(), "start", _SMALL, {"wrkspc_a": own}), MemoryBuckets(clock), clock)
    grant = await _admit(limiter, _A)
    await grant.input(1_000)
    told = _told(grant.headers)
    assert (told["requests-limit"], told["requests-remaining"]) == ("2", "1")
    assert (told["tokens-limit"], told["output-tokens-limit"], told["input-tokens-limit"]) == ("3000", "3000", "30000")
    # Another workspace has used up the organization's: then that is the tighter one.
    for _ in range(4):
        await _admit(limiter)
    with pytest.raises(RateLimited) as refusal:
        await _admit(limiter, _A)
    assert "your organization's rate limit of 5 requests per minute" in refusal.value.message
    assert _told(refusal.value.headers)["requests-limit"] == "5"


@pytest.mark.behaviour(
    "messages-and-inference-13-token-bucket",
    "messages-and-inference-13-requests",
    "messages-and-inference-13-retry-after",
)
async def test_the_sixth_request_is_told_when_to_come_again(limiter: Limiter, clock: _Clock) -> None:
    for _ in range(5):
        await _admit(limiter)
    clock.ms += 500
    with pytest.raises(RateLimited) as refusal:
        await _admit(limiter)
    error = refusal.value
    assert error.message == (
        "This request would exceed your organization's rate limit of 5 requests per minute (org: org_default, model: "
        "claude-opus-5). You can see the response headers for current usage. Please try again in 12 seconds."
    )
    assert (error.retry_after_s, error.retry_helps) == (12, True)
    told = _told(error.headers)
    assert len(told) == 12
    assert (told["requests-remaining"], told["requests-reset"]) == ("0", "2026-11-23T02:01:00Z")
    # 11.5 s are left: the last tick before is too early, the header's whole seconds are enough.
    clock.ms += 11_499
    with pytest.raises(RateLimited):
        await _admit(limiter)
    clock.ms += 1
    await _admit(limiter)


async def test_a_prompt_that_does_not_fit_now_gives_its_request_back(limiter: Limiter) -> None:
    first = await _admit(limiter)
    await first.input(20_000)
    second = await _admit(limiter)
    with pytest.raises(RateLimited, match="30,000 input tokens per minute") as refusal:
        await second.input(10_001)
    assert refusal.value.retry_after_s == 1
    assert len(_told(refusal.value.headers)) == 12
    assert await _left(limiter) == [4, 10_000, 6_000]
    await second.settle()
    assert await _left(limiter) == [4, 10_000, 6_000]


async def test_a_prompt_larger_than_the_limit_is_told_that_waiting_does_not_help(limiter: Limiter) -> None:
    grant = await _admit(limiter)
    with pytest.raises(RateLimited, match="please reduce the prompt length") as refusal:
        await grant.input(30_001)
    assert (refusal.value.retry_after_s, refusal.value.retry_helps) == (None, False)


@pytest.mark.behaviour("messages-and-inference-13-output-tokens")
async def test_output_goes_on_past_the_limit_and_the_next_request_waits(limiter: Limiter, clock: _Clock) -> None:
    grant = await _admit(limiter)
    await grant.input(10)
    for _ in range(70):
        await _produced(grant, 100)
    await grant.settle()
    assert await _left(limiter) == [4, 29_990, -1_000]
    with pytest.raises(RateLimited, match="6,000 output tokens per minute") as refusal:
        await _admit(limiter)
    # From -1,000 to the first token that is there, at 100 a second.
    assert refusal.value.retry_after_s == 11
    assert _told(refusal.value.headers)["output-tokens-remaining"] == "0"
    clock.ms += 10_010
    await _admit(limiter)


@pytest.mark.behaviour("messages-and-inference-13-input-tokens")
async def test_what_was_taken_is_settled(limiter: Limiter) -> None:
    less = await _admit(limiter)
    await less.input(10_000)
    await less.settle(4_000)
    assert await _left(limiter) == [4, 26_000, 6_000]
    more = await _admit(limiter)
    await more.input(1_000)
    await more.settle(2_500)
    assert await _left(limiter) == [3, 23_500, 6_000]
    unforeseen = await _admit(limiter)
    await unforeseen.input(0)
    await unforeseen.settle(500)
    assert await _left(limiter) == [2, 23_000, 6_000]
    failed = await _admit(limiter)
    await failed.input(9_000)
    await failed.settle(0, counted=False)
    assert await _left(limiter) == [2, 23_000, 6_000]


async def test_further_attempts_are_settled_together_and_once(limiter: Limiter) -> None:
    grant = await _admit(limiter)
    await grant.input(5_000)
    await grant.input(6_000)
    assert await _left(limiter) == [4, 19_000, 6_000]
    await grant.settle(7_000)
    assert await _left(limiter) == [4, 23_000, 6_000]
    await grant.settle(0, counted=False)
    assert await _left(limiter) == [4, 23_000, 6_000]


async def test_output_may_be_written_only_now_and_then(limiter: Limiter, clock: _Clock) -> None:
    limiter.write_every_s = 0.25
    grant = await _admit(limiter)
    await _produced(grant, 10)
    assert (await _left(limiter))[2] == 6_000
    clock.ms += 250
    await _produced(grant, 10)
    assert (await _left(limiter))[2] == 5_980
    await _produced(grant, 10)
    await grant.settle()
    assert (await _left(limiter))[2] == 5_970


async def test_a_new_policy_counts_at_once(limiter: Limiter) -> None:
    for _ in range(4):
        await _admit(limiter)
    limiter.policy = Policy(tiers.load(), "start", {"opus_5": {"requests_per_minute": 10}})
    assert (await _left(limiter))[0] == 2


async def test_other_groups_are_told_only_of_their_requests(limiter: Limiter) -> None:
    grant = await limiter.admit(_SCOPE, "token_count", "claude-opus-5")
    assert _told(grant.headers) == {
        "requests-limit": "2000",
        "requests-remaining": "1999",
        "requests-reset": "2026-11-23T02:00:01Z",
    }


async def test_while_the_buckets_are_away_nobody_is_let_in_and_answers_go_on(clock: _Clock, limiter: Limiter) -> None:
    grant = await _admit(limiter)
    away = SharedBuckets("unix:///nowhere/limits.sock", clock)
    limiter.buckets = away
    with pytest.raises(LimitsUnavailable):
        await _admit(limiter)
    with pytest.raises(LimitsUnavailable):
        await grant.input(1)
    await _produced(grant, 40)
    await grant.settle(0, counted=False)
    assert away.figures().owed == 40
    await away.close()


@pytest.mark.behaviour("messages-and-inference-13-remaining")
@pytest.mark.parametrize(
    ("remaining", "limit", "shown"),
    [
        (1_499, 30_000, b"1000"),
        (1_500, 30_000, b"2000"),
        (499, 30_000, b"0"),
        (-5_000, 30_000, b"0"),
        (600, 600, b"600"),
        (30_000, 30_000, b"30000"),
    ],
)
def test_tokens_are_told_in_thousands(remaining: int, limit: int, shown: bytes) -> None:
    entered = Level(Bucket.of("o", None, "g", "input_tokens_per_minute", limit), remaining, 0)
    produced = Level(Bucket.of("o", None, "g", "output_tokens_per_minute", 1), 0, 0)
    assert dict(lines_of([entered, produced], 0))[b"anthropic-ratelimit-input-tokens-remaining"] == shown


@pytest.mark.parametrize(("wait_ms", "seconds"), [(1, 1), (1_000, 1), (1_001, 2), (None, None)])
def test_retry_after_is_rounded_up(wait_ms: int | None, seconds: int | None) -> None:
    refused = Refused(Bucket.of("o", None, "g", "requests_per_minute", 5), wait_ms, ())
    assert retry_after_s(refused) == seconds


def test_a_limit_of_nothing_is_told_as_such() -> None:
    bucket = Bucket.of("o", "w", "g", "requests_per_minute", 0)
    message = message_of(Refused(Demand(bucket, 1).bucket, None, ()), organization="o", model="m")
    assert "your workspace's rate limit of 0 requests per minute" in message
    assert message.endswith("Nothing of this kind is allowed.")
