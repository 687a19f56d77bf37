"""The one place where an error becomes a status, the API's envelope (contract messages-and-inference 2.1, 2.2) and
what a client is told about trying again (contract client-surface 1.4).

A body that does not come in time is a 400, because the official SDKs know the code `request_body_timeout` by that
status (contract client-surface 1.6); since they do not retry a 400, they are told to.
"""

from __future__ import annotations

from antiphon.core import errors
from antiphon.wire.errors import ErrorBody

_WIRE: dict[type[errors.AntiphonError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.PromptTooLong: (400, "invalid_request_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.PermissionDenied: (403, "permission_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.Conflict: (409, "conflict_error"),
    errors.MethodNotAllowed: (405, "invalid_request_error"),
    errors.ReceiptTimeout: (400, "invalid_request_error"),
    errors.RequestTooLarge: (413, "request_too_large"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.Overloaded: (529, "overloaded_error"),
    errors.EngineFailed: (500, "api_error"),
    errors.Internal: (500, "api_error"),
}


def status_of(error: errors.AntiphonError) -> int:
    """The HTTP status an error is answered with; 500 for those that are not meant for clients."""
    known = _wire(error)
    return known[0] if known else 500


def body_of(error: errors.AntiphonError) -> ErrorBody:
    """The envelope's inner part. Errors that are not meant for clients show nothing of themselves."""
    known = _wire(error)
    if known is None:
        return ErrorBody("api_error", "Internal server error")
    details = error.details if isinstance(error, errors.RequestError) else None
    return ErrorBody(known[1], error.message, details)


def headers_of(error: errors.AntiphonError) -> list[tuple[bytes, bytes]]:
    """What an error's answer says besides its body: whether and when to try again, where the status alone would have
    clients conclude something else; and what a path answers instead."""
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_helps is not None and error.retry_helps != _retried(status_of(error)):
        headers.append((b"x-should-retry", b"true" if error.retry_helps else b"false"))
    if isinstance(error, errors.RateLimited):
        headers += error.headers
    if isinstance(error, errors.Overloaded | errors.RateLimited) and error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if isinstance(error, errors.MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    return headers


def _retried(status: int) -> bool:
    """What clients conclude from a status: the SDKs, and of a 401 Claude Code, which would ask ten times more."""
    return status in (401, 408, 409, 429) or status >= 500


def _wire(error: errors.AntiphonError) -> tuple[int, str] | None:
    """By the error's class or the nearest of its ancestors."""
    return next((_WIRE[kind] for kind in type(error).__mro__ if kind in _WIRE), None)
