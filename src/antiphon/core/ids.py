"""Identifiers: a prefix that says the kind, then time, then chance, so that ids sort by their making.

48 bits of milliseconds in 9 characters and 76 bits of randomness in 13 (much as in UUIDv7 and ULID), written in base 58
without look-alikes, behind the version mark `01` that the API's own ids carry (`msg_01…`, `req_01…`).
"""

from __future__ import annotations

import os
import secrets
from functools import lru_cache

from antiphon.core.clock import Clock

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_TIME_CHARACTERS = 9
_CHANCE_CHARACTERS = 13
#: The largest multiple of 58 that a byte holds: bytes from it on are left out, so that every character is as likely.
_FAIR = 256 // 58 * 58
_UNFAIR = bytes(range(_FAIR, 256))
_TO_CHARACTER = bytes(ord(_ALPHABET[value % 58]) for value in range(256))
#: Every two characters there are, in their order.
_PAIR = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_PAIRS = len(_PAIR)
#: Asked of the system in one go, in bytes: each asking costs as much as the rest of an id.
_STOCK = 4096


class Ids:
    """Makes ids from an injected clock. One process's own: a copy in a fork would make the same ones."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._chance = ""
        self._used = 0
        self._now_ms = -1
        self._time = ""

    def make(self, prefix: str) -> str:
        """A fresh id such as `msg_01Abc…`. Two ids of one process made in different milliseconds sort by time."""
        now_ms = self._clock.now_ms()
        if now_ms != self._now_ms:
            self._time, self._now_ms = _base58(now_ms), now_ms
        begin, end = self._used, self._used + _CHANCE_CHARACTERS
        if end > len(self._chance):
            self._chance = os.urandom(_STOCK).translate(_TO_CHARACTER, _UNFAIR).decode("ascii")
            begin, end = 0, _CHANCE_CHARACTERS
        self._used = end
        return f"{prefix}_01{self._time}{self._chance[begin:end]}"


def secret(characters: int) -> str:
    """A secret of the given length; each character carries 5.86 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))


def _base58(number: int) -> str:
    """Nine digits: the last four change within three hours, and the five before them are kept meanwhile."""
    number, last = divmod(number, _PAIRS)
    number, pair = divmod(number, _PAIRS)
    return f"{_five(number)}{_PAIR[pair]}{_PAIR[last]}"


@lru_cache(maxsize=4)
def _five(number: int) -> str:
    digits = []
    for _ in range(_TIME_CHARACTERS - 4):
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
