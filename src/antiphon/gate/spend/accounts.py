"""The contract of the counters: what of a budget's period is spent, and what is reserved by requests under way.

An account is unknown until somebody has said what was spent in its period before (`open`, then `fill`). Between the two
it counts what is settled, so that nothing falls between the sum that is read and the account that it fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from antiphon.gate.spend.budgets import Account


class Reserved(msgspec.Struct, frozen=True):
    """All accounts hold the bound."""


class Refused(msgspec.Struct, frozen=True):
    """Nothing was reserved: these have too little left."""

    accounts: tuple[Account, ...]


class Unknown(msgspec.Struct, frozen=True):
    """Nothing was reserved: of these it is not known what was spent before."""

    accounts: tuple[Account, ...]


class Accounts(Protocol):
    """Where the counters are kept. All accounts of one call are of the same organization."""

    async def reserve(self, id: str, accounts: Sequence[Account], bound_nano: int) -> Reserved | Refused | Unknown:
        """Reserve the bound in all accounts or in none: where spent, reserved and the bound together are not over the
        amount; or nothing is reserved and less than the amount is spent. `id` is this reservation's own.

        Raises:
            LimitsUnavailable: it cannot be told whether it fits.
        """
        ...

    async def settle(
        self, id: str, held: Sequence[Account], bound_nano: int, cost_nano: int, others: Sequence[Account] = ()
    ) -> None:
        """Give the bound back to those that hold it, and count the cost, there and in the others: budgets that came
        while the request was under way. Accounts that are not known any more, or not yet, are let be.

        Raises:
            LimitsUnavailable: it is settled later.
        """
        ...

    async def open(self, accounts: Sequence[Account], now_ms: int) -> None:
        """Begin to count for accounts that may be unknown. `now_ms` says how long they must be kept.

        Raises:
            LimitsUnavailable: they stay unknown.
        """
        ...

    async def fill(self, spent: Sequence[tuple[Account, int]]) -> None:
        """Say what was spent according to the ledger, nano-dollars. An account that is known is only ever raised.

        Raises:
            LimitsUnavailable: they stay as they were.
        """
        ...
