"""What a client is told of its limits: the `anthropic-ratelimit-*` headers and `retry-after` (contract
messages-and-inference 13, platform-and-tools 6). Pure functions of how the buckets stand."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from antiphon.core.clock import rfc3339
from antiphon.gate.limits.buckets import Level, Refused
from antiphon.gate.limits.tiers import Kind

_WORDS: dict[Kind, str] = {
    "requests_per_minute": "requests",
    "input_tokens_per_minute": "input tokens",
    "output_tokens_per_minute": "output tokens",
}
Lines: TypeAlias = list[tuple[bytes, bytes]]
_Names: TypeAlias = tuple[bytes, bytes, bytes]
_Line: TypeAlias = tuple[bytes, bytes]
_Triple: TypeAlias = tuple[_Line, _Line, _Line]


def _names(of: bytes) -> _Names:
    prefix = b"anthropic-ratelimit-" + of
    return prefix + b"-limit", prefix + b"-remaining", prefix + b"-reset"


_REQUESTS, _TOKENS, _INPUT, _OUTPUT = map(_names, (b"requests", b"tokens", b"input-tokens", b"output-tokens"))


def lines_of(levels: Iterable[Level], now_ms: int) -> Lines:
    """The header lines for a request whose buckets stand like this; `now_ms` is wall time.

    Of the organization's bucket and the workspace's the one with less left is told. The `tokens` lines tell the
    workspace's tightest token limit where it has one, and else input and output together.
    """
    requests: Level | None = None
    entered: Level | None = None
    produced: Level | None = None
    workspace: Level | None = None
    for level in levels:
        bucket = level.bucket
        kind, remaining = bucket.kind, level.remaining
        if kind == "requests_per_minute":
            if requests is None or remaining < requests.remaining:
                requests = level
            continue
        if kind == "input_tokens_per_minute":
            if entered is None or remaining < entered.remaining:
                entered = level
        elif produced is None or remaining < produced.remaining:
            produced = level
        if bucket.of_workspace and (workspace is None or remaining < workspace.remaining):
            workspace = level
    lines: Lines = []
    if requests is not None:
        left, limit = requests.remaining, requests.bucket.limit
        lines += _triple(_REQUESTS, limit, left if left > 0 else 0, -(-(now_ms + requests.full_ms) // 1000))
    if entered is not None and produced is not None:
        lines += _together(entered, produced, now_ms) if workspace is None else _tokens(_TOKENS, workspace, now_ms)
        lines += _tokens(_INPUT, entered, now_ms)
        lines += _tokens(_OUTPUT, produced, now_ms)
    return lines


def retry_after_s(refused: Refused) -> int | None:
    """Whole seconds until the refused request fits, rounded up; None: it never will."""
    return None if refused.wait_ms is None else max(1, -(-refused.wait_ms // 1000))


def message_of(refused: Refused, *, organization: str, model: str) -> str:
    """What the 429 says: which limit, whose, and what can be done about it."""
    bucket = refused.bucket
    whose = "workspace" if bucket.of_workspace else "organization"
    begins = (
        f"This request would exceed your {whose}'s rate limit of {bucket.limit:,} {_WORDS[bucket.kind]} per minute "
        f"(org: {organization}, model: {model}). You can see the response headers for current usage. "
    )
    if refused.wait_ms is not None:
        return f"{begins}Please try again in {retry_after_s(refused)} seconds."
    if bucket.kind == "input_tokens_per_minute" and bucket.limit:
        return f"{begins}It is larger than what a whole minute allows: please reduce the prompt length."
    return f"{begins}Nothing of this kind is allowed."


def _together(entered: Level, produced: Level, now_ms: int) -> _Triple:
    limit = entered.bucket.limit + produced.bucket.limit
    remaining = max(0, entered.remaining) + max(0, produced.remaining)
    full_ms = now_ms + max(entered.full_ms, produced.full_ms)
    return _seldom(_TOKENS, limit, _rounded(remaining, limit), -(-full_ms // 1000))


def _tokens(names: _Names, level: Level, now_ms: int) -> _Triple:
    limit = level.bucket.limit
    return _seldom(names, limit, _rounded(level.remaining, limit), -(-(now_ms + level.full_ms) // 1000))


def _rounded(remaining: int, limit: int) -> int:
    """To the nearest thousand, as documented; but never more than there can be, nor less than nothing."""
    if remaining <= 0:
        return 0
    rounded = (remaining + 500) // 1000 * 1000
    return limit if rounded > limit else rounded


def _triple(names: _Names, limit: int, remaining: int, full_s: int) -> _Triple:
    return (names[0], b"%d" % limit), (names[1], b"%d" % remaining), (names[2], _moment(full_s))


#: Thousands and seconds change less often than requests come.
_seldom = lru_cache(maxsize=512)(_triple)


@lru_cache(maxsize=256)
def _moment(second: int) -> bytes:
    return rfc3339(second * 1000).encode("ascii")
