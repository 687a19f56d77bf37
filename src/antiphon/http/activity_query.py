"""What a query of the activity feed asks for (contract platform-and-tools 7.13)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.http.organization.query import Query
from antiphon.store.activities import Wanted
from antiphon.store.pages import Walk

_PAGE = 100
_LARGEST_PAGE = 5000
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
#: RFC 3339, with what it allows besides: small letters, and a blank between day and time.
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,30}))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Asked(msgspec.Struct, frozen=True):
    """One page: which activities, of which organizations (none: of all), and from where on."""

    wanted: Wanted
    organizations: Sequence[str]
    walk: Walk


def read_query(query: bytes) -> Asked:
    """Read a query string. Names that mean nothing here are let be, and so are empty values.

    Raises:
        InvalidRequest: a value is malformed or out of bounds, or two of them exclude each other.
    """
    given = Query(query)
    types, without = given.several("activity_types"), given.several("exclude_activity_types")
    if types and without:
        raise InvalidRequest(
            "only one of `activity_types` and `exclude_activity_types` may be given", path="exclude_activity_types"
        )
    from_ms, until_ms = _span(given)
    return Asked(
        Wanted(
            types=types,
            without_types=without,
            actors=given.several("actor_ids"),
            from_ms=from_ms,
            until_ms=until_ms,
        ),
        given.several("organization_ids"),
        Walk(_limit(given.one("limit")), given.one("after_id"), given.one("before_id")),
    )


def _limit(text: str | None) -> int:
    if text is None:
        return _PAGE
    if not _INTEGER.fullmatch(text):
        raise InvalidRequest("Input should be a valid integer, unable to parse string as an integer", path="limit")
    limit = int(text)
    if limit < 1:
        raise InvalidRequest("Input should be greater than or equal to 1", path="limit")
    if limit > _LARGEST_PAGE:
        raise InvalidRequest(f"Input should be less than or equal to {_LARGEST_PAGE}", path="limit")
    return limit


def _span(given: Query) -> tuple[int | None, int | None]:
    """From (included) and until (not included), milliseconds; of several bounds the tightest counts."""
    begins: list[int] = []
    ends: list[int] = []
    for bound in ("gte", "gt", "lte", "lt"):
        path = f"created_at.{bound}"
        text = given.one(path)
        if text is None:
            continue
        floor, exact = _moment(text, path)
        # Activities stand at whole milliseconds: the first one at or behind the moment, or the first one behind it.
        at = floor if exact and bound in ("gte", "lt") else floor + 1
        (begins if bound in ("gte", "gt") else ends).append(at)
    return max(begins, default=None), min(ends, default=None)


def _moment(text: str, path: str) -> tuple[int, bool]:
    """A time in milliseconds, rounded down, and whether it was a whole one.

    Raises:
        InvalidRequest: it is not RFC 3339, or there is no such time.
    """
    wrong = InvalidRequest("Input should be a valid RFC 3339 datetime, such as 2026-11-23T08:00:00Z", path=path)
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise wrong
    day, clock, fraction, offset = match.groups()
    fraction = (fraction or "").ljust(3, "0")
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if offset in 'Zz' else offset}")
    except ValueError:
        raise wrong from None
    return (at - _EPOCH) // _MILLISECOND + int(fraction[:3]), not fraction[3:].strip("0")
