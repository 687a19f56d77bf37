"""What server tools cost beside their tokens (contract messages-and-inference 14.4, platform-and-tools 3.1-3.3)."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

import msgspec

from antiphon.routing.prices import Dollars

_Count = Annotated[int, msgspec.Meta(ge=0)]
_NANO = 10**9
_HOUR_MS = 3_600_000


class ToolCharges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The book's charges. Amounts in dollars, as decimal strings."""

    web_search_per_thousand: Dollars
    """Searches that succeed; failed ones are free."""
    web_fetch_per_thousand: Dollars
    code_execution_per_hour: Dollars
    """Of a container's life, past the free hours; nothing beside web_search or web_fetch from 20260209 on, which is
    the caller's to know."""
    code_execution_least_seconds: _Count
    code_execution_free_hours: _Count
    """Of an organization and month, all containers together."""

    def web_search_nano(self, searches: int) -> int:
        """What this many successful searches cost, in nano-dollars."""
        return _half_up(Fraction(self.web_search_per_thousand) * searches * _NANO / 1000)

    def web_fetch_nano(self, fetches: int) -> int:
        """What this many fetches cost, in nano-dollars."""
        return _half_up(Fraction(self.web_fetch_per_thousand) * fetches * _NANO / 1000)

    def container_ms(self, lived_ms: int) -> int:
        """The time that counts of a container that lived so long, in milliseconds."""
        return max(lived_ms, self.code_execution_least_seconds * 1000)

    def container_nano(self, counted_ms: int, before_ms: int) -> int:
        """What the counted time of a container costs, in nano-dollars, when `before_ms` of the organization's month
        have been counted already."""
        free = max(0, self.code_execution_free_hours * _HOUR_MS - before_ms)
        return _half_up(Fraction(self.code_execution_per_hour) * max(0, counted_ms - free) * _NANO / _HOUR_MS)


def _half_up(exact: Fraction) -> int:
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)
