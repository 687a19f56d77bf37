"""Admission: whether a turn may begin now. What is taken here is given back when the turn ends, however it ends.

So far one rule: a bounded number of turns at once, and none while the server drains. Rate limits and budgets are
further rules of the same ticket.
"""

from __future__ import annotations

from types import TracebackType

from antiphon.core.errors import Overloaded
from antiphon.core.records import Caller

#: When another server may stand where this one stops.
_NEXT_SERVER_SECONDS = 5


class Ticket:
    """A turn's permission, to be given back: use it as a context manager."""

    def __init__(self, admission: Admission, caller: Caller) -> None:
        self._admission = admission
        self.caller = caller

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.open_turns -= 1


class Admission:
    """Counts the turns that are under way."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._draining = False
        self.open_turns = 0

    def admit(self, caller: Caller) -> Ticket:
        """Let a turn begin.

        Raises:
            Overloaded: the server is full, or is stopping.
        """
        if self._draining:
            raise Overloaded(retry_after_s=_NEXT_SERVER_SECONDS)
        if self.open_turns >= self._bound:
            raise Overloaded
        self.open_turns += 1
        return Ticket(self, caller)

    @property
    def draining(self) -> bool:
        return self._draining

    def drain(self) -> None:
        """Let nobody in from now on."""
        self._draining = True
