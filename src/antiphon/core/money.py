"""Amounts of money as text. They are integers of nano-dollars everywhere else; no float, nothing rounded."""

from __future__ import annotations

#: Decimal places between nano-dollars and the unit that is shown.
CENTS, DOLLARS = 7, 9


def decimal(nano: int, unit: int, *, least: int = 0) -> str:
    """An amount in `unit` (`CENTS` or `DOLLARS`) with as many decimal places as it needs, and `least` of them anyway.

    >>> decimal(12_340_000, CENTS), decimal(5_000_000_000, DOLLARS, least=2)
    ('1.234', '5.00')
    """
    whole, rest = divmod(abs(nano), 10**unit)
    places = f"{rest:0{unit}d}".rstrip("0").ljust(least, "0")
    return f"{'-' * (nano < 0)}{whole}{'.' * bool(places)}{places}"
