"""The documented string formats as patterns (contract messages-and-inference 6).

Months, days, hours and octets have their real ranges. Each says no more than its standard allows, so that what is
written passes a validator; some say less: no leap seconds, host names without punycode, no address in brackets in an
e-mail.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from antiphon.engine.grammar import Node
from antiphon.plan.schema.regex import read
from antiphon.plan.schema.strings import spelled, string

_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
_LEAP = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DAYS = (
    r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    r"|02-(?:0[1-9]|1\d|2[0-8]))"
)
_DATE = rf"(?:{_YEAR}-{_DAYS}|{_LEAP}-02-29)"
_HOUR = r"(?:[01]\d|2[0-3])"
_TIME = rf"{_HOUR}:[0-5]\d:[0-5]\d(?:\.\d{{1,9}})?(?:Z|[+-]{_HOUR}:[0-5]\d)"

_CLOCK = r"T(?:\d{1,9}H(?:\d{1,9}M(?:\d{1,9}S)?)?|\d{1,9}M(?:\d{1,9}S)?|\d{1,9}S)"
_DURATION = (
    rf"P(?:\d{{1,9}}W|{_CLOCK}"
    rf"|(?:\d{{1,9}}Y(?:\d{{1,9}}M(?:\d{{1,9}}D)?)?|\d{{1,9}}M(?:\d{{1,9}}D)?|\d{{1,9}}D)(?:{_CLOCK})?)"
)

#: A label of letters and digits with single hyphens between them: of 61 and of 35 characters at most. With four of the
#: first kind, or one and five of the second, a name stays under 253.
_LABEL = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,30}"
_SHORTER = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,17}"
_TOP = r"\.[A-Za-z](?:-?[A-Za-z0-9]){0,17}"
_HOST = rf"(?:{_LABEL}(?:(?:\.{_LABEL}){{0,2}}{_TOP})?|{_LABEL}(?:\.{_SHORTER}){{0,4}}{_TOP})"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}"
_EMAIL = rf"{_ATOM}(?:\.{_ATOM}){{0,2}}@{_HOST}"

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}"
_GROUP = "[0-9A-Fa-f]{1,4}"


def _ipv6() -> str:
    """Eight groups, or fewer around one `::` that stands for at least one; the last two may be an IPv4 address."""
    last = rf"(?:{_GROUP}:{_GROUP}|{_IPV4})"
    forms = [rf"(?:{_GROUP}:){{6}}{last}"]
    for after in range(6):  # groups between `::` and the last two
        before = 5 - after
        front = rf"(?:{_GROUP}(?::{_GROUP}){{0,{before - 1}}})?" if before else ""
        forms.append(rf"{front}::(?:{_GROUP}:){{{after}}}{last}")
    forms.append(rf"(?:{_GROUP}(?::{_GROUP}){{0,5}})?::{_GROUP}")
    forms.append(rf"(?:{_GROUP}(?::{_GROUP}){{0,6}})?::")
    return f"(?:{'|'.join(forms)})"


_PERCENT = "%[0-9A-Fa-f]{2}"
_PATH = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{_PERCENT})"
_QUERY = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|{_PERCENT})*"
_USER = rf"(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|{_PERCENT})*@)?"
_NAME = rf"(?:[A-Za-z0-9._~-]|{_PERCENT})+"
_PORT = r"(?::(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}))?"
_URI = (
    r"[A-Za-z][A-Za-z0-9+.-]{0,30}:"
    rf"(?://{_USER}(?:{_NAME}|\[{_ipv6()}\]){_PORT}(?:/{_PATH}*)*|//(?:/{_PATH}*)+|/?{_PATH}+(?:/{_PATH}*)*|/)"
    rf"(?:\?{_QUERY})?(?:#{_QUERY})?"
)

_PATTERNS: Mapping[str, str] = {
    "date-time": f"{_DATE}T{_TIME}",
    "time": _TIME,
    "date": _DATE,
    "duration": _DURATION,
    "email": _EMAIL,
    "hostname": _HOST,
    "uri": _URI,
    "ipv4": _IPV4,
    "ipv6": _ipv6(),
    "uuid": "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
}
FORMATS = tuple(_PATTERNS)


@cache
def format_node(name: str) -> Node:
    """All texts of one of `FORMATS`."""
    return read(f"^(?:{_PATTERNS[name]})$")


@cache
def format_string(name: str) -> Node:
    """Them as JSON strings."""
    return string(spelled(format_node(name)))
