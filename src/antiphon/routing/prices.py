"""What tokens cost: from dollars per million, as decimal strings, to exact nano-dollars. Money is never a float.

A `Price` is made once, when the book is loaded (`book.py`), and asked after every request, so all that can be computed
beforehand is: a cost is five multiplications and divisions of integers. Each class of tokens is rounded once, half up
(contract messages-and-inference 14; `docs/billing.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from fractions import Fraction
from itertools import groupby, pairwise, product
from math import lcm
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from antiphon.core.errors import invariant
from antiphon.core.records import Cost, Usage

Dollars: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?\Z")]
_Factor: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,9})?\Z")]
_Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_Geography: TypeAlias = Literal["global", "us"]
_Speed: TypeAlias = Literal["standard", "fast"]
#: Those of the usage report but `batch`, which is a factor of its own (contract platform-and-tools 7.6).
_ServiceTier: TypeAlias = Literal["standard", "priority", "priority_on_demand", "flex", "flex_discount"]

#: What writing to and reading from the cache costs of the input, where an entry does not say (contract 7.6).
_OF_INPUT = {"cache_write_5m": Fraction("1.25"), "cache_write_1h": Fraction(2), "cache_read": Fraction("0.1")}
#: The classes of tokens, in the order of `core.records.Cost`.
_CLASSES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
#: A dollar per million tokens is this many nano-dollars per token.
_NANO_PER_TOKEN = 1000
#: The speed and the service tier of a request that names none, or one that no factor is for.
_USUAL = "standard"
_EPOCH = date(1970, 1, 1)
_DAY_MS = 86_400_000


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens of each class."""

    input: Dollars
    output: Dollars
    cache_write_5m: Dollars | None = None
    cache_write_1h: Dollars | None = None
    cache_read: Dollars | None = None

    def of(self, kind: str) -> Fraction:
        """The price of one class, exactly; what is not told of the cache by its documented part of the input."""
        told: str | None = getattr(self, kind)
        return Fraction(self.input) * _OF_INPUT[kind] if told is None else Fraction(told)


class PriceBand(Prices, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request costs whose whole prompt, read from and written to the cache included, has at most `up_to`
    tokens; None: however long it is. The band of the prompt holds for the whole request (contract 14.1)."""

    up_to: _Tokens | None = None
    valid_from: date | None = msgspec.field(name="from", default=None)
    """The first day (UTC) that it holds; None: until the first such day of a later band."""


class Factors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What multiplies every class of tokens, under which condition; what is not there is 1 (contract 14.4)."""

    batch: _Factor | None = None
    geography: dict[_Geography, _Factor] = {}
    speed: dict[_Speed, _Factor] = {}
    service_tier: dict[_ServiceTier, _Factor] = {}

    def over(self, others: Factors) -> Factors:
        """These, and of the others what is not told here."""
        return Factors(
            batch=others.batch if self.batch is None else self.batch,
            geography={**others.geography, **self.geography},
            speed={**others.speed, **self.speed},
            service_tier={**others.service_tier, **self.service_tier},
        )


class Terms(msgspec.Struct, frozen=True):
    """The conditions that a request was answered under, as far as they change its price."""

    batch: bool = False
    geography: str | None = None
    speed: str = _USUAL
    service_tier: str = _USUAL


STANDARD = Terms()


def check_bands(bands: Sequence[PriceBand]) -> None:
    """See that on each day each length of prompt has one price.

    Raises:
        ValueError: there is no band at all, those of a day do not rise or the last of them ends somewhere, or days
            are out of order.
    """
    if not bands:
        raise ValueError("prices: at least one is needed")
    days = [day for day, _ in groupby(band.valid_from for band in bands)]
    if days[0] is not None or None in days[1:]:
        raise ValueError("prices: the first ones have no `from`, and all later ones have")
    if any(earlier >= later for earlier, later in pairwise(day for day in days if day is not None)):
        raise ValueError("prices: the days of `from` must rise")
    for _, group in groupby(bands, lambda band: band.valid_from):
        ends = [band.up_to for band in group]
        if ends[-1] is not None or None in ends[:-1]:
            raise ValueError("prices: every band but the last has `up_to`, and the last has none")
        if any(lower >= upper for lower, upper in pairwise(end for end in ends if end is not None)):
            raise ValueError("prices: the bands' `up_to` must rise")


#: A band under some terms: where it ends (tokens), the divisor, half of it, and a numerator for each class of tokens.
_Rate: TypeAlias = tuple[int | None, int, int, int, int, int, int, int]
_Key: TypeAlias = tuple[bool, str | None, str, str]


class _Period(msgspec.Struct, frozen=True):
    """What holds from a moment (milliseconds) on."""

    start_ms: int
    bands: tuple[PriceBand, ...]
    rates: Mapping[_Key, tuple[_Rate, ...]]


class Price:
    """What requests of one id cost, at any time and under any terms.

    Args:
        id: the row of the book that this is, for people to read.
        bands: its prices, which hold together (`check_bands`).
        factors: what multiplies them.
    """

    __slots__ = ("_factors", "_periods", "id")

    def __init__(self, id: str, bands: Sequence[PriceBand], factors: Factors) -> None:
        invariant(bool(bands), "a price of nothing at all")
        self.id = id
        self._factors = factors
        self._periods = [
            _Period(_midnight_ms(day), tuple(group), _rates(tuple(group), factors))
            for day, group in ((day, list(rows)) for day, rows in groupby(bands, lambda band: band.valid_from))
        ][::-1]

    def cost(self, usage: Usage, at_ms: int, terms: Terms = STANDARD) -> Cost:
        """What these tokens cost a request that began at `at_ms` (milliseconds since the epoch)."""
        new, write_5m, write_1h, read = (
            usage.input_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.cache_read_tokens,
        )
        prompt = new + write_5m + write_1h + read
        for end, divisor, half, of_new, of_5m, of_1h, of_read, of_output in self._rates_at(at_ms, terms):
            if end is None or prompt <= end:
                return Cost(
                    (new * of_new + half) // divisor,
                    (write_5m * of_5m + half) // divisor,
                    (write_1h * of_1h + half) // divisor,
                    (read * of_read + half) // divisor,
                    (usage.output_tokens * of_output + half) // divisor,
                )
        raise AssertionError("the last band has no end")

    def bands(self, at_ms: int) -> tuple[PriceBand, ...]:
        """The prices that hold at a moment (milliseconds since the epoch), before any factor."""
        return self._period(at_ms).bands

    def factor(self, terms: Terms) -> Fraction:
        """What the terms multiply every price by."""
        return _factor(self._factors, self._key(terms))

    def _rates_at(self, at_ms: int, terms: Terms) -> tuple[_Rate, ...]:
        rates = self._period(at_ms).rates
        found = rates.get((terms.batch, terms.geography, terms.speed, terms.service_tier))
        return rates[self._key(terms)] if found is None else found

    def _period(self, at_ms: int) -> _Period:
        for period in self._periods:
            if at_ms >= period.start_ms:
                return period
        return self._periods[-1]

    def _key(self, terms: Terms) -> _Key:
        """The terms without what makes no difference here: clients may name what they like, the table has an end."""
        factors = self._factors
        return (
            terms.batch,
            terms.geography if terms.geography in factors.geography else None,
            terms.speed if terms.speed in factors.speed else _USUAL,
            terms.service_tier if terms.service_tier in factors.service_tier else _USUAL,
        )


def _rates(bands: tuple[PriceBand, ...], factors: Factors) -> dict[_Key, tuple[_Rate, ...]]:
    """The bands' integers, for every combination of terms that makes a difference."""
    keys = product(
        (False, True),
        (None, *factors.geography),
        {_USUAL, *factors.speed},
        {_USUAL, *factors.service_tier},
    )
    return {key: tuple(_rate(band, _factor(factors, key)) for band in bands) for key in keys}


def _factor(factors: Factors, key: _Key) -> Fraction:
    batch, geography, speed, service_tier = key
    whole = Fraction(factors.batch if batch and factors.batch is not None else 1)
    tables: tuple[tuple[Mapping[Any, str], str | None], ...] = (
        (factors.geography, geography),
        (factors.speed, speed),
        (factors.service_tier, service_tier),
    )
    for table, name in tables:
        whole *= Fraction(table.get(name, "1"))
    return whole


def _rate(band: PriceBand, factor: Fraction) -> _Rate:
    """Twice the numerators over twice the divisor, so that a half is an integer and is rounded up exactly."""
    exact = [band.of(kind) * factor * _NANO_PER_TOKEN for kind in _CLASSES]
    divisor = lcm(*(price.denominator for price in exact))
    new, write_5m, write_1h, read, output = (2 * price.numerator * (divisor // price.denominator) for price in exact)
    return band.up_to, 2 * divisor, divisor, new, write_5m, write_1h, read, output


def _midnight_ms(day: date | None) -> int:
    return 0 if day is None else (day - _EPOCH).days * _DAY_MS
