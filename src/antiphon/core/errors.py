"""The one tree of errors.

    AntiphonError
    ├── RequestError              the caller can mend it (4xx)
    │   ├── InvalidRequest        400, names the dotted path of what is wrong
    │   │   └── PromptTooLong     400, in the words that make clients compact
    │   ├── Unauthenticated       401
    │   ├── PermissionDenied      403
    │   ├── NotFound              404
    │   ├── MethodNotAllowed      405
    │   ├── ReceiptTimeout        400, the body did not arrive in time; the same again may
    │   ├── RateLimited           429, over a limit of requests or tokens per minute
    │   └── RequestTooLarge       413
    ├── ServiceError              the server's side (5xx), safe to retry
    │   ├── Overloaded            529, refused early rather than late
    │   │   └── StoreUnavailable  529, the database is away (`store.database`)
    │   ├── EngineFailed          500, the model's process crashed, hung or refused
    │   └── Internal              500, a defect of ours
    │       └── JournalFailed     500, the record is not on the disk (`ledger.journal`)
    ├── SettingsError             a start that must not go on; never reaches a client
    └── WeightsError              a model that cannot be fetched or does not check out

Only `http/errors.py` knows status codes and the API's error types. A message may be shown to a client, so it never
holds a path of this machine, a secret, or a library's own text.
"""

from __future__ import annotations

from collections.abc import Sequence


class AntiphonError(Exception):
    """Root of everything Antiphon raises on purpose.

    `retry_helps` says whether the same request may succeed later; None leaves that to what clients conclude from the
    status (contract client-surface 1.4).
    """

    retry_helps: bool | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(AntiphonError):
    """The request cannot be served as it stands. `details` is for machines, e.g. an `error_code` (contract
    messages-and-inference 2.4)."""

    def __init__(self, message: str, *, details: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.details = details


class InvalidRequest(RequestError):
    """The request is malformed, or asks for what cannot be had.

    `path` is the dotted path of the offending value (contract `messages-and-inference.md` 2.2), e.g.
    `messages.0.content.1.text`; it is put in front of the message.
    """

    def __init__(self, message: str, *, path: str | None = None, details: dict[str, str] | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message, details=details)
        self.path = path


class PromptTooLong(InvalidRequest):
    """The prompt does not fit the window (contract `platform-and-tools.md` 12: clients match this wording)."""

    def __init__(self, tokens: int, maximum: int) -> None:
        super().__init__(f"prompt is too long: {tokens} tokens > {maximum} maximum")
        self.tokens = tokens
        self.maximum = maximum


class Unauthenticated(RequestError):
    """No credential, or one that is not valid."""

    retry_helps = False


class PermissionDenied(RequestError):
    """The credential is valid and may not do this."""


class NotFound(RequestError):
    """No such route, model or object for this caller."""


class Conflict(RequestError):
    """It does not go with what there is, such as a name that is taken. Clients retry its status, which does not help
    (contract client-surface 1.4)."""

    retry_helps = False


class MethodNotAllowed(RequestError):
    """The route exists and does not answer this method."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"Method Not Allowed. This route answers {', '.join(allowed)}.")
        self.allowed = allowed


class ReceiptTimeout(RequestError):
    """The sender was too slow. Its status is one that clients do not retry, and trying again is right all the same."""

    retry_helps = True

    def __init__(self) -> None:
        super().__init__("The request body did not arrive in time", details={"error_code": "request_body_timeout"})


class RequestTooLarge(RequestError):
    """The body is over the endpoint's limit."""


class RateLimited(RequestError):
    """More requests or tokens than the limits per minute allow (contract messages-and-inference 2.1, 13).

    `retry_after_s` is when the same request fits, whole seconds; None: it is larger than what a whole minute allows, so
    it never will. `headers` are the lines that tell how the limits stand.
    """

    def __init__(
        self, message: str, *, retry_after_s: int | None = None, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.retry_helps = retry_after_s is not None
        self.headers = tuple(headers)


class ServiceError(AntiphonError):
    """The server could not do its part; the same request may succeed later."""


class Overloaded(ServiceError):
    """More work than there are seats and queue for.

    `retry_after_s` is when trying again makes sense, seconds: answers end all the time, so soon. None where nobody
    knows; clients then wait longer each time.
    """

    def __init__(self, message: str = "Overloaded", *, retry_after_s: int | None = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineFailed(ServiceError):
    """The model's process crashed, hung or refused. The reason is for the log; the client gets `message` alone.

    `retry_helps=False` where this request fails every time, and not the process.
    """

    def __init__(self, reason: str, *, retry_helps: bool | None = None) -> None:
        super().__init__("Internal server error: the model stopped before its answer was complete")
        self.reason = reason
        self.retry_helps = retry_helps


class Internal(ServiceError):
    """A defect of ours. The reason is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__("Internal server error")
        self.reason = reason


class SettingsError(AntiphonError):
    """A setting is unknown, malformed or unsafe."""


class WeightsError(AntiphonError):
    """Weights could not be fetched, or are not what the catalogue promised."""


class InvariantBroken(AntiphonError):
    """Something that cannot be, is."""


def invariant(holds: bool, message: str) -> None:
    """Stop where a promise between our own parts is broken. Never a check of input; `-O` cannot remove it."""
    if not holds:
        raise InvariantBroken(message)
