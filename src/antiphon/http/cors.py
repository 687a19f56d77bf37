"""Requests from web pages: refused unless the page's origin is on the operator's list.

A page that holds a key shows it to whoever opens the page, so the API wants two things said out loud: the operator
names the origin (setting `cors_origins`), and the client sends `anthropic-dangerous-direct-browser-access: true`
(contract client-surface 1.3, messages-and-inference 2.1). No credentials of the browser are ever allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.core.errors import Unauthenticated
from antiphon.http.exchange import Exchange, Headers

_ACKNOWLEDGED = b"anthropic-dangerous-direct-browser-access"
_PREFLIGHT_SECONDS = b"600"
#: What a page may read of an answer besides its body.
_EXPOSED = (
    b"request-id, retry-after, x-should-retry, anthropic-organization-id, anthropic-workspace-id, "
    b"antiphon-model, antiphon-ignored"
)


class Cors:
    """Decides about requests that carry an `origin`."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode("latin-1") for origin in origins)

    def admit(self, exchange: Exchange) -> None:
        """Let a request pass, and the page read its answer.

        Raises:
            Unauthenticated: the origin is not on the list, or the client did not say that it knows the danger.
        """
        origin = exchange.header(b"origin")
        if origin is None:
            return
        if origin not in self._origins:
            raise Unauthenticated("CORS requests are not allowed for this Organization from this origin.")
        exchange.extra += [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"origin"),
        ]
        if exchange.header(_ACKNOWLEDGED) != b"true":
            raise Unauthenticated("CORS requests must set 'anthropic-dangerous-direct-browser-access' header")

    def preflight(self, exchange: Exchange) -> Headers | None:
        """What a browser wants to know before it sends a request; None where this is no such question."""
        if exchange.method != "OPTIONS" or exchange.header(b"access-control-request-method") is None:
            return None
        origin = exchange.header(b"origin")
        if origin not in self._origins or origin is None:
            raise Unauthenticated("CORS requests are not allowed for this Organization from this origin.")
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"access-control-allow-headers", exchange.header(b"access-control-request-headers") or b""),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
            (b"vary", b"origin"),
        ]
