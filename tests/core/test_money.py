"""Amounts are written exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.money import CENTS, DOLLARS, decimal


@given(nano=st.integers(-(10**24), 10**24), unit=st.sampled_from([CENTS, DOLLARS]), least=st.integers(0, 9))
def test_no_digit_is_lost(nano: int, unit: int, least: int) -> None:
    text = decimal(nano, unit, least=least)
    assert Decimal(text).scaleb(unit) == nano
    assert "e" not in text.lower()
    _, _, places = text.partition(".")
    assert len(places) >= least
    assert len(places) == least or not places.endswith("0")


@pytest.mark.parametrize(
    ("nano", "unit", "least", "text"),
    [
        (0, CENTS, 0, "0"),
        (0, DOLLARS, 2, "0.00"),
        (1, DOLLARS, 2, "0.000000001"),
        (12_340_000, CENTS, 0, "1.234"),
        (10_000_000, CENTS, 0, "1"),
        (-1_500_000_000, DOLLARS, 2, "-1.50"),
        (10**18, DOLLARS, 2, "1000000000.00"),
    ],
)
def test_examples(nano: int, unit: int, least: int, text: str) -> None:
    assert decimal(nano, unit, least=least) == text
