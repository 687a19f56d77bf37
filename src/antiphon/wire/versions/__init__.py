"""Versions of the API: the header, and what each version changed (contract messages-and-inference 1).

The code speaks the newest shape. What a version changed is one small module with a `check`; a request of an older
version never meets it, so old clients go on as before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from antiphon.core.errors import InvalidRequest
from antiphon.wire.request import Conversation
from antiphon.wire.versions import v2026_10_21

OLDEST = "2023-06-01"
NEWEST = "2026-10-21"

#: Versions from old to new, and what each of them began to refuse.
_CHANGES: Mapping[str, Callable[[Conversation, Collection[str]], None] | None] = {
    OLDEST: None,
    NEWEST: v2026_10_21.check,
}


def version_of(header: bytes | None) -> str:
    """The version that a request is of. Without the header it is the oldest: that is what such clients were written
    for.

    Raises:
        InvalidRequest: there is no such version.
    """
    if header is None:
        return OLDEST
    version = header.decode("ascii", "replace").strip()
    if version not in _CHANGES:
        raise InvalidRequest(f'"{version[:40]}" is not a valid version', path="anthropic-version")
    return version


def check(version: str, request: Conversation, unknown: Collection[str] = ()) -> None:
    """Check a request against all that was changed up to its version. `unknown`: its fields that have no effect.

    Raises:
        InvalidRequest: it uses what its version took away.
    """
    for name, change in _CHANGES.items():
        if change is not None and name <= version:
            change(request, unknown)
