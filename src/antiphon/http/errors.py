"""The one place where an error becomes a status and the API's envelope (contract messages-and-inference 2.1, 2.2)."""

from __future__ import annotations

from antiphon.core import errors
from antiphon.wire.errors import ErrorBody

_WIRE: dict[type[errors.AntiphonError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.PromptTooLong: (400, "invalid_request_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.PermissionDenied: (403, "permission_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.MethodNotAllowed: (405, "invalid_request_error"),
    errors.ReceiptTimeout: (408, "invalid_request_error"),
    errors.RequestTooLarge: (413, "request_too_large"),
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
    details = error.details if isinstance(error, errors.InvalidRequest) else None
    return ErrorBody(known[1], error.message, details)


def _wire(error: errors.AntiphonError) -> tuple[int, str] | None:
    """By the error's class or the nearest of its ancestors."""
    return next((_WIRE[kind] for kind in type(error).__mro__ if kind in _WIRE), None)
