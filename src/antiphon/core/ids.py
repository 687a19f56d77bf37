"""Identifiers: a prefix that says the kind, then time, then chance, so that ids sort by their making.

48 bits of milliseconds and 80 bits of randomness (as in UUIDv7 and ULID), written in base 58 without look-alikes
and padded to 22 characters, behind the version mark `01` that the API's own ids carry (`msg_01…`, `req_01…`).
"""

from __future__ import annotations

import secrets

from antiphon.core.clock import Clock

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_LENGTH = 22


class Ids:
    """Makes ids from an injected clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def make(self, prefix: str) -> str:
        """A fresh id such as `msg_01Abc…`. Two ids of one process made in different milliseconds sort by time."""
        number = (self._clock.now_ms() << 80) | secrets.randbits(80)
        return f"{prefix}_01{_base58(number)}"


def secret(characters: int) -> str:
    """A secret of the given length; each character carries 5.86 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))


def _base58(number: int) -> str:
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
