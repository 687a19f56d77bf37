"""The price book: decimal strings, one price for each length of prompt, and the figures of the contract."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.errors import InvariantBroken
from antiphon.routing.prices import PriceBand, band_of, check_bands
from antiphon.routing.profile import claude_rules

BOOK = {id_: rules.prices for id_, rules in claude_rules().items()}
#: What a cache read costs of the input, where it is not a tenth (contract messages-and-inference 7.6).
READS = {
    "claude-fable-5-1": "0.025",
    "claude-fable-5-2": "0.025",
    "claude-mythos-5-1": "0.025",
    "claude-mythos-5-2": "0.025",
    "claude-opus-5-5": "0.05",
    "claude-sonnet-5-5": "0.05",
}


def band(up_to: int | None, price: str = "1") -> PriceBand:
    return PriceBand(input=price, output="5", up_to=up_to)


@pytest.mark.behaviour("messages-and-inference-14.1-multipliers")
@pytest.mark.parametrize("id_", BOOK)
def test_every_price_stands_in_its_relation_to_the_input(id_: str) -> None:
    assert BOOK[id_]
    for prices in BOOK[id_]:
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
        ("claude-fable-5-2", ["8", "40"]),
        ("claude-mythos-5-1", ["10", "50"]),
        ("claude-opus-5-5", ["4", "20"]),
        ("claude-opus-4-5-20251101", ["5", "25"]),
        ("claude-sonnet-5-5", ["2", "10"]),
        ("claude-sonnet-4-6", ["3", "15"]),
        ("claude-haiku-4-5-20251001", ["1", "5"]),
    ],
)
def test_figures_of_the_contract(id_: str, figures: list[str]) -> None:
    (prices,) = BOOK[id_]
    assert [prices.input, prices.output] == figures


@pytest.mark.behaviour("messages-and-inference-14.1-haiku-5-5-long")
@pytest.mark.parametrize(("tokens", "price"), [(0, "0.10"), (100_000, "0.10"), (100_001, "0.50"), (1_000_000, "0.50")])
def test_a_long_prompt_costs_more_for_the_whole_request(tokens: int, price: str) -> None:
    assert band_of(BOOK["claude-haiku-5-5"], tokens).input == price


@given(ends=st.sets(st.integers(1, 1000), max_size=5).map(sorted), tokens=st.integers(0, 1100))
def test_every_length_has_the_first_band_with_room_for_it(ends: list[int], tokens: int) -> None:
    bands = [*(band(end, str(end)) for end in ends), band(None, "0")]
    check_bands(bands)
    assert band_of(bands, tokens).input == str(next((end for end in ends if tokens <= end), 0))


@pytest.mark.parametrize(
    "bands",
    [[band(5)], [band(None), band(None)], [band(None), band(5)], [band(9), band(5), band(None)], [band(5), band(5), band(None)]],
)  # fmt: skip
def test_bands_that_leave_a_length_without_one_price_are_refused(bands: list[PriceBand]) -> None:
    with pytest.raises(ValueError, match=r"^prices: "):
        check_bands(bands)


def test_no_price_is_not_a_price_of_nothing() -> None:
    check_bands([])
    with pytest.raises(InvariantBroken):
        band_of([], 5)


@pytest.mark.parametrize("value", [1, 0.5, "-1", "1e3", "1,5", "", "0.1 ", "٣", "1."])
def test_a_price_is_a_plain_decimal_string(value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"input": value, "output": "1"}, PriceBand)
