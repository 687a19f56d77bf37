"""The price book's figures: decimal strings, one price for each day and length of prompt, and those of the contract."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.errors import InvariantBroken
from antiphon.core.records import Usage
from antiphon.routing import book
from antiphon.routing.known import claude_models
from antiphon.routing.prices import Factors, Price, PriceBand, Terms, check_bands
from antiphon.routing.profile import claude_rules

#: 2026-11-22, in milliseconds.
NOW_MS = 1_795_305_600_000
PUBLISHED = book.load()
IDS = list(claude_rules())
#: What a cache read costs of the input, where it is not a tenth (contract messages-and-inference 7.6).
READS = {
    "claude-fable-5-1": "0.025",
    "claude-fable-5-2": "0.025",
    "claude-mythos-5-1": "0.025",
    "claude-mythos-5-2": "0.025",
    "claude-opus-5-5": "0.05",
    "claude-sonnet-5-5": "0.05",
}
MILLION = 1_000_000
#: A dollar, in nano-dollars.
DOLLAR = 10**9


def priced(id_: str) -> Price:
    price = PUBLISHED.of(id_)
    assert price is not None
    return price


def band(up_to: int | None, price: str = "1", since: date | None = None) -> PriceBand:
    return PriceBand(input=price, output="5", up_to=up_to, valid_from=since)


@pytest.mark.behaviour("messages-and-inference-14.1-multipliers")
@pytest.mark.parametrize("id_", IDS)
def test_every_price_stands_in_its_relation_to_the_input(id_: str) -> None:
    assert priced(id_).id == id_
    for prices in priced(id_).bands(NOW_MS):
        assert prices.cache_write_5m is not None
        assert prices.cache_write_1h is not None
        assert prices.cache_read is not None
        base = Decimal(prices.input)
        assert Decimal(prices.output) == base * 5
        assert Decimal(prices.cache_write_5m) == base * Decimal("1.25")
        assert Decimal(prices.cache_write_1h) == base * 2
        assert Decimal(prices.cache_read) == base * Decimal(READS.get(id_, "0.1"))


@pytest.mark.parametrize(
    ("id_", "figures"),
    [
        ("claude-fable-5-2", [8, 40]),
        ("claude-mythos-5-1", [10, 50]),
        ("claude-opus-5-5", [4, 20]),
        ("claude-opus-4-5-20251101", [5, 25]),
        ("claude-sonnet-5-5", [2, 10]),
        ("claude-sonnet-4-6", [3, 15]),
        ("claude-haiku-4-5-20251001", [1, 5]),
    ],
)
def test_a_million_tokens_cost_the_dollars_of_the_contract(id_: str, figures: list[int]) -> None:
    cost = priced(id_).cost(Usage(input_tokens=MILLION, output_tokens=MILLION), NOW_MS)
    assert [cost.input_nano, cost.output_nano] == [figure * DOLLAR for figure in figures]
    assert cost.total_nano == sum(figures) * DOLLAR


def test_what_is_not_told_of_the_cache_costs_its_documented_part_of_the_input() -> None:
    price = Price("x", [PriceBand(input="3", output="15")], Factors())
    cost = price.cost(
        Usage(cache_write_5m_tokens=MILLION, cache_write_1h_tokens=MILLION, cache_read_tokens=MILLION), NOW_MS
    )
    assert (cost.cache_write_5m_nano, cost.cache_write_1h_nano) == (3_750_000_000, 6_000_000_000)
    assert (cost.cache_read_nano, cost.input_nano, cost.output_nano) == (300_000_000, 0, 0)


@pytest.mark.behaviour("messages-and-inference-14.1-haiku-5-5-long")
@pytest.mark.parametrize(("tokens", "price"), [(0, "0.10"), (100_000, "0.10"), (100_001, "0.50"), (1_000_000, "0.50")])
def test_a_long_prompt_costs_more_for_the_whole_request(tokens: int, price: str) -> None:
    cost = priced("claude-haiku-5-5").cost(Usage(input_tokens=tokens, output_tokens=MILLION), NOW_MS)
    assert cost.input_nano == tokens * Decimal(price) * 1000
    assert cost.output_nano == Decimal(price) * 5 * DOLLAR


@pytest.mark.parametrize(
    "kind", ["input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens"]
)
@pytest.mark.behaviour("messages-and-inference-14.1-prompt-length")
def test_the_length_that_chooses_the_price_is_input_writes_and_reads(kind: str) -> None:
    haiku = priced("claude-haiku-5-5")
    short = Usage(25_000, 25_000, 25_000, 25_000, output_tokens=MILLION)
    long = msgspec.structs.replace(short, **{kind: 25_001})
    assert haiku.cost(short, NOW_MS).output_nano == 500_000_000
    assert haiku.cost(long, NOW_MS).output_nano == 2_500_000_000


@given(ends=st.sets(st.integers(1, 1000), max_size=5).map(sorted), tokens=st.integers(0, 1100))
def test_every_length_has_the_first_band_with_room_for_it(ends: list[int], tokens: int) -> None:
    bands = [*(band(end, str(end)) for end in ends), band(None, "0")]
    check_bands(bands)
    first = next((end for end in ends if tokens <= end), 0)
    assert Price("x", bands, Factors()).cost(Usage(input_tokens=tokens), NOW_MS).input_nano == tokens * first * 1000


DAY, LATER = date(2026, 10, 7), date(2026, 11, 1)


@pytest.mark.parametrize(
    ("bands", "complaint"),
    [
        ([], "at least one"),
        ([band(5)], "every band but the last"),
        ([band(None), band(None)], "every band but the last"),
        ([band(None), band(5)], "every band but the last"),
        ([band(9), band(5), band(None)], "must rise"),
        ([band(5), band(5), band(None)], "must rise"),
        ([band(None, since=DAY)], "the first ones have no `from`"),
        ([band(5), band(None, since=DAY)], "every band but the last"),
        ([band(None), band(5, since=DAY)], "every band but the last"),
        ([band(None), band(None, since=DAY), band(None)], "the first ones have no `from`"),
        ([band(None), band(None, since=LATER), band(None, since=DAY)], "the days of `from` must rise"),
        ([band(None), band(None, since=DAY), band(None, since=LATER), band(None, since=DAY)], "the days of `from` must rise"),
    ],
)  # fmt: skip
def test_bands_that_leave_a_day_or_a_length_without_one_price_are_refused(
    bands: list[PriceBand], complaint: str
) -> None:
    with pytest.raises(ValueError, match=rf"^prices: .*{complaint}"):
        check_bands(bands)


def test_no_price_is_not_a_price_of_nothing() -> None:
    with pytest.raises(InvariantBroken):
        Price("x", [], Factors())


@pytest.mark.parametrize("value", [1, 0.5, "-1", "1e3", "1,5", "", "0.1 ", "٣", "1."])
def test_a_price_is_a_plain_decimal_string(value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"input": value, "output": "1"}, PriceBand)


def test_the_newest_haiku_has_two_bands_and_every_other_id_one_price_for_any_length() -> None:
    lengths = {id_: len(priced(id_).bands(NOW_MS)) for id_ in IDS}
    assert {id_ for id_, bands in lengths.items() if bands > 1} == {"claude-haiku-5-5"}


@pytest.mark.parametrize("model", claude_models(), ids=lambda model: model.id)
@pytest.mark.behaviour("messages-and-inference-14.4-geography")
def test_us_costs_a_tenth_more_from_4_6_on(model: Any) -> None:
    """Ids before refuse it; those that are retired cost what the newest of their line does, in this as well."""
    price = priced(model.id)
    rules = claude_rules().get(price.id)
    assert rules is not None
    assert price.factor(Terms(geography="us")) == (Decimal("1.1") if rules.geography else 1)
    assert price.factor(Terms(geography="global")) == price.factor(Terms()) == 1
    assert price.factor(Terms(batch=True)) == Decimal("0.5")


@pytest.mark.behaviour("messages-and-inference-14.4-fast-prices")
def test_fast_mode_costs_double_where_its_price_is_known() -> None:
    assert {id_: int(priced(id_).factor(Terms(speed="fast"))) for id_ in IDS if claude_rules()[id_].fast_mode} == {
        "claude-fable-5-2": 1,
        "claude-mythos-5-2": 1,
        "claude-opus-5-5": 1,
        "claude-opus-5": 2,
        "claude-opus-4-8": 2,
        "claude-opus-4-6": 1,
    }
    cost = priced("claude-opus-5").cost(Usage(input_tokens=MILLION, output_tokens=MILLION), NOW_MS, Terms(speed="fast"))
    assert (cost.input_nano, cost.output_nano) == (10 * DOLLAR, 50 * DOLLAR)
