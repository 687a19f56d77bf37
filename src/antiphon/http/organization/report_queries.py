"""What a report is asked for in its query: times, limits, groups, filters and page tokens (contract
platform-and-tools 7.6, client-surface 1.7).

A parameter that is not known is let be, as everywhere; a filter on something that does not exist here (sessions, Slack
channels) is known, and nothing matches it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import parse_qs

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.store.reports import BATCHES, DAY_MS, HOUR_MS, MESSAGES, MINUTE_MS, Dimension, Position

T = TypeVar("T")

WIDTHS: Mapping[str, int] = {"1d": DAY_MS, "1h": HOUR_MS, "1m": MINUTE_MS}

_MOST_PARAMETERS = 2000
#: Values of one filter: each is a parameter of a statement, whose number a database bounds.
_MOST_VALUES = 500
_MANY = re.compile(r"(.+?)\[[0-9]{0,4}\]", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
#: A plus sign that nobody escaped has become a space.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:[Zz]|[+\- ]\d\d:\d\d)", re.ASCII)
_GEOGRAPHY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
#: The year 9000: later times, rounded up, may be none any more.
_LATEST_MS = 221_845_392_000_000
_PAGE = "page_"
_LONGEST_PAGE = 8192

#: Filters on what requests here never have: given at all, nothing matches.
_STRANGE = (
    "account_ids", "service_account_ids", "agent_ids", "claude_tag_categories", "claude_tag_user_ids",
    "deployment_ids", "environment_ids", "rbac_group_ids", "session_ids", "slack_channel_ids", "user_profile_ids",
)  # fmt: skip
#: Filters by any text.
_BY_TEXT: Mapping[str, Dimension] = {
    "api_key_ids": "key_id",
    "workspace_ids": "workspace",
    "models": "requested_model",
    "served_models": "served_model",
    "user_ids": "user_id",
    "workflows": "workflow",
}
_TIERS = ("batch", "flex", "flex_discount", "priority", "priority_on_demand", "standard")
_SPEEDS = ("fast", "standard")
_WINDOWS = ("0-200k", "200k-1M")
_BY_CHOICE: Mapping[str, tuple[Dimension, tuple[str, ...]]] = {
    "service_tiers": ("service_tier", _TIERS),
    "speeds": ("speed", _SPEEDS),
    "context_window": ("context_window", _WINDOWS),
    "context_windows": ("context_window", _WINDOWS),
}
_PRODUCTS = (
    "chat", "chat_cowork_unified", "claude_code", "claude_console", "claude_design", "claude_in_chrome", "claude_tag",
    "claude-tag", "cowork", "managed_agents_api", BATCHES, MESSAGES, "office_agent",
)  # fmt: skip
_ACTORS = ("api_actor", "federated_actor", "service_account_actor", "user_actor")


class Token(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where the next page begins: the end of the span, the first bucket, and the row that it goes on behind."""

    asked: bytes
    until_ms: int
    from_ms: int
    position: Position | None


class Asked:
    """A report's query. Every method raises InvalidRequest, with the parameter's name, where a value is wrong."""

    def __init__(self, route: str, organization: str, query: bytes) -> None:
        try:
            given = parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            raise InvalidRequest(f"There are more than {_MOST_PARAMETERS} parameters") from None
        self._values: dict[str, list[str]] = {}
        for name, values in given.items():
            listed = _MANY.fullmatch(name)
            # PostgreSQL's text holds no NUL; what was stored of a client's has become this.
            plain = [value.replace("\0", "\N{REPLACEMENT CHARACTER}") for value in values]
            self._values.setdefault(listed[1] if listed else name, []).extend(plain)
        self._what = _fingerprint(route, organization, self._values)

    def one(self, name: str) -> str | None:
        """A parameter's value, the last one given; None where there is none, or an empty one."""
        return self._values.get(name, [""])[-1] or None

    def many(self, name: str) -> Sequence[str]:
        """All values of a parameter that may be given several times."""
        values = self._values.get(name, ())
        if len(values) > _MOST_VALUES:
            raise InvalidRequest(f"List should have at most {_MOST_VALUES} items", path=name)
        return values

    def choice(self, name: str, allowed: Mapping[str, T]) -> T | None:
        """What one of the allowed values stands for; None where there is none."""
        value = self.one(name)
        if value is None:
            return None
        if value not in allowed:
            raise InvalidRequest(f"Input should be {_listed(allowed)}", path=name)
        return allowed[value]

    def choices(self, name: str, allowed: Collection[str], *, most: int | None = None) -> tuple[str, ...]:
        """Values out of the allowed ones, each once."""
        values = self.many(name)
        for place, value in enumerate(values):
            if value not in allowed:
                raise InvalidRequest(f"Input should be {_listed(allowed)}", path=f"{name}.{place}")
        found = tuple(dict.fromkeys(values))
        if most is not None and len(found) > most:
            raise InvalidRequest(f"List should have at most {most} items after validation", path=name)
        return found

    def limit(self, default: int, most: int) -> int:
        """How much a page holds."""
        text = self.one("limit")
        if text is None:
            return default
        if not _INTEGER.fullmatch(text):
            raise InvalidRequest("Input should be a valid integer, unable to parse string as an integer", path="limit")
        if int(text) < 1:
            raise InvalidRequest("Input should be greater than or equal to 1", path="limit")
        if int(text) > most:
            raise InvalidRequest(f"Input should be less than or equal to {most}", path="limit")
        return int(text)

    def time(self, name: str) -> int | None:
        """A time, milliseconds since the epoch."""
        text = self.one(name)
        if text is None:
            return None
        try:
            if not _TIME.fullmatch(text):
                raise InvalidRequest("Input should be an RFC 3339 timestamp with a timezone", path=name)
            moment = datetime.fromisoformat(f"{text[:10]}T{text[11:].replace(' ', '+').upper()}")
            at_ms = (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
        except (ValueError, OverflowError):
            raise InvalidRequest("Input should be a valid datetime", path=name) from None
        if not 0 <= at_ms < _LATEST_MS:
            raise InvalidRequest("Input should be a datetime between 1970 and 9000", path=name)
        return at_ms

    def starting_at(self) -> int:
        """The beginning of the span, milliseconds since the epoch."""
        at_ms = self.time("starting_at")
        if at_ms is None:
            raise InvalidRequest("Field required", path="starting_at")
        return at_ms

    def filters(self, organization: str) -> Mapping[Dimension, tuple[str, ...]]:
        """The values that dimensions may have."""
        only: dict[Dimension, tuple[str, ...]] = {}

        def also(dimension: Dimension, values: Sequence[str]) -> None:
            known = only.get(dimension)
            only[dimension] = tuple(v for v in dict.fromkeys(values) if known is None or v in known)

        for name, dimension in _BY_TEXT.items():
            if self.many(name):
                also(dimension, [value for value in self.many(name) if value or dimension != "key_id"])
        for name, (dimension, allowed) in _BY_CHOICE.items():
            if self.many(name):
                also(dimension, self.choices(name, allowed))
        if self.many("inference_geos"):
            also("geography", [*self._geographies()])
        if self.many("products"):
            also("product", self.choices("products", _PRODUCTS))
        if self.many("actor_ids"):
            also("key_id", self.many("actor_ids"))
        if self.many("actor_types") and "api_actor" not in self.choices("actor_types", _ACTORS):
            also("key_id", ())
        strange = any(self.many(name) for name in _STRANGE)
        if strange or (self.many("organization_ids") and organization not in self.many("organization_ids")):
            also("key_id", ())
        return only

    def token(self, until_ms: int, from_ms: int, position: Position | None) -> str:
        """The token of the page that begins there."""
        packed = msgspec.msgpack.encode(Token(self._what, until_ms, from_ms, position))
        return _PAGE + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    def page(self) -> Token | None:
        """Where this page begins; None: at the beginning. A token is one of this same question, or refused."""
        text = self.one("page")
        if text is None:
            return None
        body = text.removeprefix(_PAGE)
        if body == text or len(text) > _LONGEST_PAGE:
            raise InvalidRequest("This is not a page token", path="page")
        try:
            packed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            token = msgspec.msgpack.decode(packed, type=Token)
        except (msgspec.DecodeError, binascii.Error, ValueError):
            raise InvalidRequest("This is not a page token", path="page") from None
        if token.asked != self._what:
            raise InvalidRequest("This page token belongs to a request with other parameters", path="page")
        if not 0 <= token.from_ms <= token.until_ms < _LATEST_MS + DAY_MS:
            raise InvalidRequest("This is not a page token", path="page")
        return token

    def _geographies(self) -> Sequence[str]:
        """As the operator has named them. `not_available`: of requests without one."""
        for place, value in enumerate(self.many("inference_geos")):
            if not _GEOGRAPHY.fullmatch(value):
                raise InvalidRequest("Input should be the name of a geography", path=f"inference_geos.{place}")
        return ["" if value == "not_available" else value for value in self.many("inference_geos")]


def floor(at_ms: int, width_ms: int) -> int:
    """The beginning of the bucket that a time lies in."""
    return at_ms // width_ms * width_ms


def ceiling(at_ms: int, width_ms: int) -> int:
    """The end of the last bucket that begins before a time."""
    return -(-at_ms // width_ms) * width_ms


def _fingerprint(route: str, organization: str, values: Mapping[str, Sequence[str]]) -> bytes:
    """What tells one question from another: everything but the page, in whatever order it was given."""
    told = sorted((name, sorted(given)) for name, given in values.items() if name not in ("page", "beta"))
    return hashlib.blake2b(msgspec.json.encode([route, organization, told]), digest_size=12).digest()


def _listed(allowed: Collection[str]) -> str:
    *others, last = (f"'{value}'" for value in allowed)
    return f"{', '.join(others)} or {last}" if others else last
