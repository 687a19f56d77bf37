"""Query strings: names that come once or several times, pages, and refusals that name what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar, cast
from urllib.parse import parse_qs

from antiphon.core.errors import InvalidRequest
from antiphon.store.pages import Page, Walk
from antiphon.wire.organization.page import ListPage
from antiphon.wire.organization.reading import one_of

T = TypeVar("T")
W = TypeVar("W")
S = TypeVar("S", bound=str)

PAGE = 20
_LARGEST_PAGE = 1000
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
#: What ids consist of. What does not cannot be one, and is not looked up.
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_NO_ID = "-"
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def sound_id(text: str) -> str:
    """An id that came from outside. What cannot be one becomes one that there is not, so that it is answered alike."""
    return text if _ID.fullmatch(text) else _NO_ID


class Query:
    """A request's query. Names that mean nothing here are let be, and so are empty values."""

    def __init__(self, query: bytes) -> None:
        self._values = parse_qs(query.decode("latin-1"))

    def one(self, name: str) -> str | None:
        """The value of a name; the last one where it comes several times.

        Raises:
            InvalidRequest: it holds characters that no value has.
        """
        values = self._values.get(name)
        return None if values is None else _clean(values[-1], name)

    def several(self, name: str) -> tuple[str, ...]:
        """The values of a name that may come several times: repeated, with brackets, or with numbered ones.

        Raises:
            InvalidRequest: one holds characters that no value has.
        """
        form = re.compile(re.escape(name) + r"(\[[0-9]{0,3}\])?", re.ASCII)
        return tuple(
            _clean(value, name) for given, values in self._values.items() if form.fullmatch(given) for value in values
        )

    def choice(self, name: str, choices: Sequence[S]) -> S | None:
        """The value of a name that has only these.

        Raises:
            InvalidRequest: it is another.
        """
        value = self.one(name)
        return None if value is None else _chosen(value, choices, name)

    def choices(self, name: str, choices: Sequence[S]) -> tuple[S, ...]:
        """The values of a name that may come several times and has only these.

        Raises:
            InvalidRequest: one is another.
        """
        return tuple(_chosen(value, choices, f"{name}.{position}") for position, value in enumerate(self.several(name)))

    def flag(self, name: str) -> bool:
        """Whether a name is set to true.

        Raises:
            InvalidRequest: it is neither true nor false.
        """
        value = (self.one(name) or "false").lower()
        if value not in _FLAGS:
            raise InvalidRequest("Input should be a valid boolean, unable to interpret input", path=name)
        return _FLAGS[value]

    def walk(self) -> Walk:
        """Which page is asked for.

        Raises:
            InvalidRequest: the limit is no number, or out of bounds.
        """
        after, before = self.one("after_id"), self.one("before_id")
        return Walk(self._limit(), None if after is None else sound_id(after), before and sound_id(before))

    def _limit(self) -> int:
        text = self.one("limit") or str(PAGE)
        if not _INTEGER.fullmatch(text):
            raise InvalidRequest("Input should be a valid integer, unable to parse string as an integer", path="limit")
        limit = int(text)
        if limit < 1:
            raise InvalidRequest("Input should be greater than or equal to 1", path="limit")
        if limit > _LARGEST_PAGE:
            raise InvalidRequest(f"Input should be less than or equal to {_LARGEST_PAGE}", path="limit")
        return limit


def listed(page: Page[T], make: Callable[[T], W], id_of: Callable[[T], str]) -> ListPage[W]:
    """A page of rows as it is answered."""
    ids = [id_of(item) for item in page.items]
    return ListPage(tuple(map(make, page.items)), page.more, ids[0] if ids else None, ids[-1] if ids else None)


def _clean(value: str, name: str) -> str:
    if "\0" in value:
        raise InvalidRequest("Input should not contain null characters", path=name)
    return value


def _chosen(value: str, choices: Sequence[S], path: str) -> S:
    if value not in choices:
        raise InvalidRequest(one_of(tuple(choices)), path=path)
    return cast(S, value)
