"""What `bench.cache` works out of what it has seen: shares, and whether two samples look alike."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

#: Further terms of the series are nothing in double precision, wherever it is summed at all.
_TERMS = 101
#: Below this the series converges slowly, and its sum is 1 to twelve digits.
_SURELY_ALIKE = 0.2


def share(parts: Iterable[tuple[float, float]]) -> float:
    """Percent that was had of what there was, over all pairs of both. More than there was counts as all of it, so that
    one pair's surplus does not hide another's want. Nothing of nothing is 0: it shows nothing."""
    had = there = 0.0
    for part, whole in parts:
        had += min(part, whole)
        there += whole
    return 100 * had / there if there else 0.0


def largest_gap(one: Sequence[float], other: Sequence[float]) -> float:
    """The Kolmogorov-Smirnov statistic of two samples: how far their distribution functions lie apart at most."""
    first, second = sorted(one), sorted(other)
    return max(
        abs(bisect_right(first, value) / len(first) - bisect_right(second, value) / len(second))
        for value in (*first, *second)
    )


def chance_of_gap(one: Sequence[float], other: Sequence[float]) -> float:
    """How likely two samples of one distribution lie at least this far apart: the p-value of the two-sample test, by
    the asymptotic formula with Stephens' correction for small samples."""
    size = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    return tail((size + 0.12 + 0.11 / size) * largest_gap(one, other))


def tail(value: float) -> float:
    """How likely a variable of Kolmogorov's distribution is over the value."""
    if value < _SURELY_ALIKE:
        return 1.0
    terms = (math.exp(-2 * (term * value) ** 2) for term in range(1, _TERMS))
    series = math.fsum(each if number % 2 == 0 else -each for number, each in enumerate(terms))
    return min(1.0, max(0.0, 2 * series))
