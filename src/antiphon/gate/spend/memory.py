"""Accounts in this process. No call waits, so each is atomic on the event loop; not for several threads."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.gate.spend.accounts import Refused, Reserved, Unknown
from antiphon.gate.spend.budgets import Account

#: How long an account is kept after its period, for requests that began in it.
_KEPT_MS = 2 * 86_400_000


class _State:
    __slots__ = ("held", "known", "reserved", "spent", "until_ms")

    def __init__(self, until_ms: int) -> None:
        self.held: dict[str, int] = {}
        self.known = False
        self.reserved = 0
        self.spent = 0
        self.until_ms = until_ms


class MemoryAccounts:
    """Accounts that only this process counts in."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def __len__(self) -> int:
        return len(self._states)

    async def reserve(self, id: str, accounts: Sequence[Account], bound_nano: int) -> Reserved | Refused | Unknown:
        """See `Accounts.reserve`."""
        states = [self._states.get(account.name) for account in accounts]
        found = [state for state in states if state is not None and state.known]
        if len(found) < len(states):
            pairs = zip(accounts, states, strict=True)
            return Unknown(tuple(account for account, state in pairs if state is None or not state.known))
        pairs_known = zip(accounts, found, strict=True)
        short = tuple(account for account, state in pairs_known if not _fits(state, account, bound_nano))
        if short:
            return Refused(short)
        for state in found:
            state.held[id] = bound_nano
            state.reserved += bound_nano
        return Reserved()

    async def settle(
        self, id: str, held: Sequence[Account], bound_nano: int, cost_nano: int, others: Sequence[Account] = ()
    ) -> None:
        """See `Accounts.settle`; always answers."""
        for account in (*held, *others):
            state = self._states.get(account.name)
            if state is not None:
                state.reserved -= state.held.pop(id, 0)
                state.spent += cost_nano

    async def open(self, accounts: Sequence[Account], now_ms: int) -> None:
        """See `Accounts.open`; always answers. Those of periods long past are forgotten."""
        for name in [name for name, state in self._states.items() if state.until_ms + _KEPT_MS <= now_ms]:
            del self._states[name]
        for account in accounts:
            if account.name not in self._states:
                self._states[account.name] = _State(account.until_ms)

    async def fill(self, spent: Sequence[tuple[Account, int]]) -> None:
        """See `Accounts.fill`; always answers."""
        for account, nano in spent:
            state = self._states.get(account.name)
            if state is None:
                continue
            state.spent = max(state.spent, nano) if state.known else state.spent + nano
            state.known = True


def _fits(state: _State, account: Account, bound_nano: int) -> bool:
    amount = account.budget.amount_nano
    if amount is None:
        return True
    return state.spent + state.reserved + bound_nano <= amount or (not state.reserved and state.spent < amount)
