"""A page of a list (contract `client-surface.md` 1.7, class Page)."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class ListPage(msgspec.Struct, Generic[T], frozen=True):
    """Some of a list. `has_more`: there is more in the direction of the walk."""

    data: tuple[T, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None
