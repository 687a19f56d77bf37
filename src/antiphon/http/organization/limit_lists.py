"""What the lists of limits have in common: their pages and their ids (contract client-surface 1.7, class Cur)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.http.organization.query import Query
from antiphon.wire.organization.limits import CursorPage

T = TypeVar("T")
#: What a list is ordered by, ascending; unique in the list.
Place: TypeAlias = tuple[int | str, ...]

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ID_CHARACTERS = 22


def paged(query: Query, items: Iterable[T], place: Callable[[T], Place], *, default: int | None) -> CursorPage[T]:
    """The page that is asked for; `default` items where no limit is given, None for all.

    Raises:
        InvalidRequest: the limit is out of bounds, or the cursor is none of this list.
    """
    limit = default if query.one("limit") is None else query.walk().limit
    after = _read(query.one("page"))
    try:
        behind = [item for item in sorted(items, key=place) if after is None or place(item) > after]
    except TypeError:
        raise _no_cursor() from None
    data = tuple(behind[:limit])
    more = limit is not None and len(behind) > limit
    return CursorPage(data, _written(place(data[-1])) if more else None)


def stable_id(prefix: str, *parts: str) -> str:
    """An id that says nothing and is always the same for the same parts."""
    number = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:16])
    digits = []
    for _ in range(_ID_CHARACTERS):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return f"{prefix}_01{''.join(digits)}"


def _read(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    text = cursor.removeprefix("page_")
    try:
        return msgspec.json.decode(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True), type=Place)
    except (ValueError, msgspec.MsgspecError):
        raise _no_cursor() from None


def _written(place: Place) -> str:
    return "page_" + base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def _no_cursor() -> InvalidRequest:
    return InvalidRequest("Input should be the `next_page` of an earlier answer", path="page")
