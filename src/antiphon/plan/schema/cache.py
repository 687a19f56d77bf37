"""Lowered schemas, kept for 24 hours from their last use (contract messages-and-inference 6).

Kept by what they say: a title or a description changes nothing. Only schemas are in here and what follows from them,
never a value, so that workspaces may share them. Safe to use from several threads; two that ask for the same new schema
at once both lower it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Any

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.errors import InvalidRequest
from antiphon.plan.schema.lowering import Lowered, Spacing, any_object, lower
from antiphon.plan.schema.members import size as size_of
from antiphon.plan.schema.structure import Unlowerable, structure

KEPT_S = 24 * 3600.0
#: Bytes that one node or character of a grammar takes, from above (measured: 25 in Claude Code's tools).
_BYTES_EACH = 120


#: And what is no grammar, with its key.
_BYTES_LEAST = 400


class _Kept(msgspec.Struct):
    found: Any
    grammar: bool
    size: int
    used: float


class LoweredCache:
    """Bounded by an estimate of its bytes: the one unused longest goes first."""

    def __init__(self, clock: Clock, max_bytes: int = 64 << 20) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """The estimate, in bytes, now."""
        return self._size

    def __len__(self) -> int:
        """How many grammars are kept."""
        return sum(kept.grammar for kept in self._kept.values())

    def lower(
        self, schema: Any, spacing: Spacing, *, strict: bool, prefix: str = "", path: str | None = None
    ) -> Lowered:
        """As `lowering.lower`; what it refuses is not kept.

        Raises:
            InvalidRequest: a strict schema that cannot be lowered.
        """
        try:
            kept = structure(schema)
        except Unlowerable as error:
            if strict:
                raise InvalidRequest(str(error), path=path) from None
            return any_object(spacing, prefix)
        key = key_of((kept, spacing, strict, prefix))
        found: Lowered | None = self.get(key)
        if found is None:
            found = lower(kept, spacing, strict=strict, prefix=prefix, path=path)
            self.put(key, found, found)
        return found

    def get(self, key: bytes) -> Any:
        """What was put there; None where there is nothing any more."""
        with self._lock:
            now = self._clock.monotonic()
            while self._kept and now - next(iter(self._kept.values())).used > KEPT_S:
                self._size -= self._kept.popitem(last=False)[1].size
            kept = self._kept.get(key)
            if kept is None:
                return None
            kept.used = now
            self._kept.move_to_end(key)
            return kept.found

    def put(self, key: bytes, found: Any, lowered: Lowered | None) -> None:
        """Keep something; `lowered` is the grammar that is in it."""
        size = _BYTES_LEAST if lowered is None else _estimate(lowered)
        kept = _Kept(found, lowered is not None, size, 0.0)
        if kept.size > self._max_bytes:
            return
        with self._lock:
            kept.used = self._clock.monotonic()
            before = self._kept.pop(key, None)
            self._size += kept.size - (before.size if before else 0)
            self._kept[key] = kept
            while self._size > self._max_bytes:
                self._size -= self._kept.popitem(last=False)[1].size


def _estimate(lowered: Lowered) -> int:
    return _BYTES_EACH * (len(lowered.rules) + sum(map(size_of, lowered.rules.values())))


def key_of(asked: Any) -> bytes:
    """The key for what is asked, of plain values."""
    # In the order of the schema: the order of its properties is the order in which they are written. `repr` and no
    # JSON, because 1 and 1.0 are written differently, and a whole number may be larger than JSON here can write.
    return hashlib.sha256(repr(asked).encode()).digest()
