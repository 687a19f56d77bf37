"""Costs are exact: what fractions give, rounded half up once for each class of tokens."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.records import Cost, Usage
from antiphon.routing import book
from antiphon.routing.prices import STANDARD, Factors, Price, PriceBand, Terms, check_bands

CLASSES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
NOW_MS = 1_795_305_600_000


def decimals(whole: int, places: int) -> st.SearchStrategy[str]:
    return st.tuples(st.integers(0, whole), st.text("0123456789", max_size=places)).map(
        lambda parts: f"{parts[0]}.{parts[1]}" if parts[1] else str(parts[0])
    )


DOLLARS, FACTOR = decimals(999_999, 9), decimals(9, 9)
COUNT = st.one_of(st.integers(0, 50), st.integers(0, 3_000_000))
USAGES = st.builds(
    Usage,
    input_tokens=COUNT,
    cache_write_5m_tokens=COUNT,
    cache_write_1h_tokens=COUNT,
    cache_read_tokens=COUNT,
    output_tokens=COUNT,
    thinking_tokens=COUNT,
)
FACTORS = st.builds(
    Factors,
    batch=st.none() | FACTOR,
    geography=st.dictionaries(st.sampled_from(["us", "global"]), FACTOR),
    speed=st.dictionaries(st.sampled_from(["standard", "fast"]), FACTOR),
    service_tier=st.dictionaries(st.sampled_from(["standard", "priority", "flex"]), FACTOR),
)
TERMS = st.builds(
    Terms,
    batch=st.booleans(),
    geography=st.sampled_from([None, "us", "global", "mars"]),
    speed=st.sampled_from(["standard", "fast", "warp"]),
    service_tier=st.sampled_from(["standard", "priority", "flex", "batch", "gold"]),
)
BANDS = st.builds(
    PriceBand,
    input=DOLLARS,
    output=DOLLARS,
    cache_write_5m=st.none() | DOLLARS,
    cache_write_1h=st.none() | DOLLARS,
    cache_read=st.none() | DOLLARS,
)


@st.composite
def several(draw: st.DrawFn) -> list[PriceBand]:
    """Bands of one day, each for longer prompts than the one before."""
    ends = sorted(draw(st.sets(st.integers(1, 4_000_000), max_size=3)))
    bands = [msgspec.structs.replace(draw(BANDS), up_to=end) for end in [*ends, None]]
    check_bands(bands)
    return bands


def half_up(exact: Fraction) -> int:
    return int((exact + Fraction(1, 2)) // 1)


def tokens(usage: Usage, kind: str) -> int:
    count = getattr(usage, f"{kind}_tokens")
    assert isinstance(count, int)
    return count


def nano(cost: Cost, kind: str) -> int:
    amount = getattr(cost, f"{kind}_nano")
    assert isinstance(amount, int)
    return amount


def by_fractions(bands: list[PriceBand], factors: Factors, usage: Usage, terms: Terms) -> Cost:
    """The rule as it is written in docs/billing.md, with none of the code's short cuts."""
    prompt = sum(tokens(usage, kind) for kind in CLASSES[:-1])
    band = next(band for band in bands if band.up_to is None or prompt <= band.up_to)
    factor = Fraction(factors.batch) if terms.batch and factors.batch is not None else Fraction(1)
    speeds, tiers = dict(factors.speed), dict(factors.service_tier)
    factor *= Fraction(dict(factors.geography).get(terms.geography or "", "1"))  # type: ignore[call-overload]
    factor *= Fraction(speeds.get(terms.speed, speeds.get("standard", "1")))  # type: ignore[call-overload]
    factor *= Fraction(tiers.get(terms.service_tier, tiers.get("standard", "1")))  # type: ignore[call-overload]
    told = {
        "input": band.input,
        "cache_write_5m": band.cache_write_5m or Fraction(band.input) * Fraction(5, 4),
        "cache_write_1h": band.cache_write_1h or Fraction(band.input) * 2,
        "cache_read": band.cache_read or Fraction(band.input) / 10,
        "output": band.output,
    }
    per_token = {kind: Fraction(dollars) * 10**9 / 10**6 * factor for kind, dollars in told.items()}
    return Cost(**{f"{kind}_nano": half_up(tokens(usage, kind) * each) for kind, each in per_token.items()})


@given(bands=several(), factors=FACTORS, usage=USAGES, terms=TERMS)
def test_a_cost_is_what_fractions_give_rounded_half_up(
    bands: list[PriceBand], factors: Factors, usage: Usage, terms: Terms
) -> None:
    cost = Price("x", bands, factors).cost(usage, NOW_MS, terms)
    assert cost == by_fractions(bands, factors, usage, terms)
    assert all(type(nano(cost, kind)) is int for kind in CLASSES)


@given(band=BANDS, factors=FACTORS, usage=USAGES, terms=TERMS)
def test_a_cost_is_the_sum_of_its_classes_and_never_negative(
    band: PriceBand, factors: Factors, usage: Usage, terms: Terms
) -> None:
    price = Price("x", [band], factors)
    whole = price.cost(usage, NOW_MS, terms)
    alone = [price.cost(Usage(**{f"{kind}_tokens": tokens(usage, kind)}), NOW_MS, terms) for kind in CLASSES]
    assert whole.total_nano == sum(cost.total_nano for cost in alone)
    assert all(nano(cost, kind) == nano(whole, kind) >= 0 for cost, kind in zip(alone, CLASSES, strict=True))


@given(band=BANDS, usage=USAGES, kind=st.sampled_from(CLASSES), more=st.integers(0, 10**7), terms=TERMS)
def test_more_tokens_never_cost_less(band: PriceBand, usage: Usage, kind: str, more: int, terms: Terms) -> None:
    price = Price("x", [band], Factors(batch="0.5", geography={"us": "1.1"}))
    larger = msgspec.structs.replace(usage, **{f"{kind}_tokens": tokens(usage, kind) + more})
    before, after = price.cost(usage, NOW_MS, terms), price.cost(larger, NOW_MS, terms)
    assert all(nano(after, each) >= nano(before, each) for each in CLASSES)


@given(usage=USAGES, kind=st.sampled_from(CLASSES), more=st.integers(0, 10**6))
def test_nor_do_they_with_the_published_bands(usage: Usage, kind: str, more: int) -> None:
    price = book.load().of("claude-haiku-5-5")
    assert price is not None
    larger = msgspec.structs.replace(usage, **{f"{kind}_tokens": tokens(usage, kind) + more})
    assert price.cost(larger, NOW_MS).total_nano >= price.cost(usage, NOW_MS).total_nano


@given(usage=USAGES, batch=FACTOR, us=FACTOR, fast=FACTOR)
def test_factors_multiply_each_other(usage: Usage, batch: str, us: str, fast: str) -> None:
    price = Price("x", [PriceBand(input="3", output="15")], Factors(batch=batch, geography={"us": us}, speed={"fast": fast}))  # fmt: skip
    for terms, factor in [
        (Terms(batch=True), Fraction(batch)),
        (Terms(geography="us"), Fraction(us)),
        (Terms(batch=True, geography="us"), Fraction(batch) * Fraction(us)),
        (Terms(batch=True, geography="us", speed="fast"), Fraction(batch) * Fraction(us) * Fraction(fast)),
    ]:
        assert price.factor(terms) == factor
        cost = price.cost(usage, NOW_MS, terms)
        assert cost.input_nano == half_up(3000 * usage.input_tokens * factor)
        assert cost.output_nano == half_up(15_000 * usage.output_tokens * factor)


@pytest.mark.behaviour("messages-and-inference-14.4-stacked")
def test_a_batch_in_the_us_costs_0_55_of_every_class() -> None:
    price = book.load().of("claude-sonnet-4-6")
    assert price is not None
    million = Usage(10**6, 10**6, 10**6, 10**6, 10**6)
    cost = price.cost(million, NOW_MS, Terms(batch=True, geography="us"))
    assert cost == Cost(1_650_000_000, 2_062_500_000, 3_300_000_000, 165_000_000, 8_250_000_000)
    assert price.cost(million, NOW_MS, STANDARD) == Cost(3 * 10**9, 375 * 10**7, 6 * 10**9, 3 * 10**8, 15 * 10**9)


def test_half_a_nano_dollar_is_one_and_less_is_none() -> None:
    # 0.0005 dollars per million tokens are half a nano-dollar per token.
    price = Price("x", [PriceBand(input="0.0005", output="0.000499999")], Factors())
    for count, nanos in [(1, 1), (2, 1), (3, 2), (1001, 501)]:
        assert price.cost(Usage(input_tokens=count), NOW_MS).input_nano == nanos
    assert price.cost(Usage(output_tokens=1), NOW_MS).output_nano == 0


def test_nothing_costs_nothing_and_thinking_is_part_of_the_output() -> None:
    price = Price("x", [PriceBand(input="3", output="15")], Factors())
    assert price.cost(Usage(), NOW_MS) == Cost()
    assert price.cost(Usage(output_tokens=5, thinking_tokens=4), NOW_MS) == price.cost(Usage(output_tokens=5), NOW_MS)


# -- from which day on


def at(*moment: int) -> int:
    whole = datetime(*moment, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)  # type: ignore[misc,arg-type]
    return whole // (whole.resolution * 1000)


@pytest.mark.parametrize(
    ("at_ms", "read"),
    [
        (at(2026, 9, 28), 200_000_000),
        (at(2026, 10, 7) - 1, 200_000_000),
        (at(2026, 10, 7), 100_000_000),
        (at(2026, 11, 22), 100_000_000),
        (0, 200_000_000),
        (-1, 200_000_000),
    ],
)
def test_sonnet_5_5_s_cache_read_costs_half_from_the_7th_of_october_on(at_ms: int, read: int) -> None:
    price = book.load().of("claude-sonnet-5-5")
    assert price is not None
    cost = price.cost(Usage(cache_read_tokens=10**6, output_tokens=10**6), at_ms)
    assert (cost.cache_read_nano, cost.output_nano) == (read, 10 * 10**9)
    assert price.cost(Usage(cache_read_tokens=10**6), at_ms, Terms(batch=True)).total_nano == read // 2


@given(days=st.sets(st.dates(date(1970, 1, 2), date(2100, 1, 1)), min_size=1, max_size=4).map(sorted), data=st.data())
def test_a_price_holds_from_the_first_millisecond_of_its_day_to_the_last_before_the_next(
    days: list[date], data: st.DataObject
) -> None:
    """With bands of two lengths on each day; the price tells the day."""
    since: list[date | None] = [None, *days]
    rows = [
        PriceBand(input=str(2 * number + long), output="0", up_to=None if long else 10, valid_from=day)
        for number, day in enumerate(since)
        for long in (False, True)
    ]
    check_bands(rows)
    price = Price("x", rows, Factors())
    number = data.draw(st.integers(1, len(days)))
    border = at(days[number - 1].year, days[number - 1].month, days[number - 1].day)
    for moment, holds in [(border - 1, number - 1), (border, number)]:
        assert price.cost(Usage(input_tokens=10), moment).input_nano == 2 * holds * 10_000
        assert price.cost(Usage(input_tokens=11), moment).input_nano == (2 * holds + 1) * 11_000
