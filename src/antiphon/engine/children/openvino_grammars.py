"""What OpenVINO's library keeps of grammars: every one it was ever given, compiled, for as long as its tokenizer lives.

It has no setting for that and no way to clear it. So it is watched, and the library is built anew when it grows too
large. Watched is what is allocated and not what is resident: the pages of the cache's pool, which come in one by one
as it is used for the first time, are many times as much (`docs/design/0006-openvino.md`).
"""

from __future__ import annotations

import ctypes
from typing import Any

#: Bytes. Together with the loaded library less than what `engine/memory.py` estimates for the moment of loading.
LIMIT_BYTES = 192 * 2**20
#: So many are taken at least, so that what grows besides them cannot have the library built anew for each.
LEAST = 4
#: Where the C library does not tell what is allocated, a grammar counts for as much as a large one was measured to.
_EACH = 256 * 2**10


class _Allocated(ctypes.Structure):
    """`struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


class KeptGrammars:
    """The account of one life of the library. Make it when the library has been warmed up."""

    def __init__(self) -> None:
        self._told = _teller()
        self._start = self._allocated()
        self._known: set[int] = set()

    def add(self, text: str) -> None:
        """The library is given this one; the same one again costs nothing."""
        self._known.add(hash(text))

    @property
    def count(self) -> int:
        return len(self._known)

    @property
    def held(self) -> int:
        """Bytes by which the process has grown."""
        return self._allocated() - self._start if self._told is not None else self.count * _EACH

    @property
    def full(self) -> bool:
        """Whether the library has to be built anew before it is given more."""
        return self.count >= LEAST and self.held > LIMIT_BYTES

    def _allocated(self) -> int:
        if self._told is None:
            return 0
        told = self._told()
        return int(told.uordblks) + int(told.hblkhd)


def _teller() -> Any:
    """The C library's account of itself: GNU's since 2.33, and no other's."""
    told = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if told is not None:
        told.restype = _Allocated
    return told
