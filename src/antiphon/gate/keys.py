"""API keys as text: how one is made, read out of a request, and hashed.

    sk-ant-api03-01<22 characters>-<68 characters>AA
                 └── public id ──┘ └── secret ──┘

A key has the outer form of the Claude API's own (`sk-ant-api03-` or `sk-ant-admin01-`, 93 characters, `AA`),
because that is what secret scanners look for: a key that ends up in a repository is found with the tools
people have.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.errors import Unauthenticated
from antiphon.core.ids import Ids, secret
from antiphon.core.records import Scope
from antiphon.store import keys
from antiphon.store.database import Database
from antiphon.store.keys import ApiKey

_ID_PREFIX = "apikey_"
_ENDING = "AA"
#: By whether it is an admin key.
_KINDS = {False: "api03", True: "admin01"}
#: 398 bits. What guessing costs is decided by these alone; the public id is no secret.
_SECRET_CHARACTERS = 68
_FORM = re.compile(rb"sk-ant-(?:api03|admin01)-(01[1-9A-HJ-NP-Za-km-z]{22})-[1-9A-HJ-NP-Za-km-z]{68}AA")

_MISSING = "x-api-key header is required"
_WRONG_KEY = "invalid x-api-key"
_WRONG_BEARER = "Invalid bearer token"
_CONFLICT = "The x-api-key and authorization headers hold different credentials; send one of them"


class Presented(msgspec.Struct, frozen=True):
    """A well-formed key that a caller sent. `refusal` is what to answer if it turns out to be wrong."""

    public_id: bytes
    digest: bytes
    refusal: str


class NewKey(msgspec.Struct, frozen=True):
    """A key that was just made. `key` is the one time that it can be read."""

    key: str
    record: ApiKey


async def create_key(
    scope: Scope,
    database: Database,
    ids: Ids,
    clock: Clock,
    *,
    name: str,
    admin: bool = False,
    expires_ms: int | None = None,
    created_by: str | None = None,
) -> NewKey:
    """Make a key and store its hash. The key itself is in the answer and nowhere else.

    Raises:
        NotFound: there is no such live workspace.
        StoreUnavailable: the database cannot take it.
    """
    made = new_key(scope, ids, clock, name=name, admin=admin, expires_ms=expires_ms, created_by=created_by)
    async with database.transaction() as connection:
        await keys.create(scope, connection, made.record, hash_of(made.key.encode("ascii")))
    return made


def new_key(
    scope: Scope,
    ids: Ids,
    clock: Clock,
    *,
    name: str,
    admin: bool = False,
    expires_ms: int | None = None,
    created_by: str | None = None,
    user: str | None = None,
) -> NewKey:
    """Make a key, to be stored with its hash. `user`: unscoped, and acting as that person."""
    key_id = ids.make("apikey")
    key = f"sk-ant-{_KINDS[admin]}-{key_id.removeprefix(_ID_PREFIX)}-{secret(_SECRET_CHARACTERS)}{_ENDING}"
    record = ApiKey(
        id=key_id,
        scope=scope,
        name=name,
        hint=key[-4:],
        admin=admin,
        status="active",
        created_ms=clock.now_ms(),
        expires_ms=expires_ms,
        created_by=created_by,
        unscoped=user is not None,
        principal=user,
    )
    return NewKey(key, record)


def shown(key: ApiKey) -> str:
    """So much of a key as people may see: its beginning, which is no secret, and its last characters."""
    return f"sk-ant-{_KINDS[key.admin]}-{key.id.removeprefix(_ID_PREFIX)[:3]}...{key.hint}"


def hash_of(key: bytes) -> bytes:
    """What is stored of a key: SHA-256 over all of it, kind and public id included.

    A slow password hash would gain nothing: those make guessing a short secret dear, and 398 bits cannot be
    guessed at any price. It would cost a tenth of a second of each first request instead.
    """
    return hashlib.sha256(key).digest()


def public_id_of(key_id: str) -> bytes:
    """The part of a stored key's id that stands in the key."""
    return key_id.removeprefix(_ID_PREFIX).encode("ascii")


def credential_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes | None, bytes | None]:
    """The `authorization` and `x-api-key` values among a request's headers (lower-case names, as in ASGI).

    Raises:
        Unauthenticated: one of them comes twice with different values.
    """
    authorization: bytes | None = None
    x_api_key: bytes | None = None
    for name, value in headers:
        if name == b"x-api-key":
            if x_api_key is not None and x_api_key != value:
                raise Unauthenticated(_WRONG_KEY)
            x_api_key = value
        elif name == b"authorization":
            if authorization is not None and authorization != value:
                raise Unauthenticated(_WRONG_BEARER)
            authorization = value
    return authorization, x_api_key


def presented(authorization: bytes | None, x_api_key: bytes | None) -> Presented:
    """The one key that a request presents.

    `x-api-key: K` and `Authorization: Bearer K` count alike (contract `platform-and-tools.md` 1). Blanks
    around a value are not part of it (RFC 9110, 5.5). A header without a value presents nothing: clients that
    are told to use one header send the other one empty (`ANTHROPIC_API_KEY=""`).

    Raises:
        Unauthenticated: there is none, it is malformed, or the two headers present different ones.
    """
    key = (x_api_key or b"").strip(b" \t")
    bearer = _bearer(authorization) if authorization is not None else b""
    if not key and not bearer:
        raise Unauthenticated(_WRONG_BEARER if (authorization or b"").strip(b" \t") else _MISSING)
    if key and bearer and key != bearer:
        raise Unauthenticated(_CONFLICT)
    refusal = _WRONG_KEY if key else _WRONG_BEARER
    match = _FORM.fullmatch(key or bearer)
    if match is None:
        raise Unauthenticated(refusal)
    return Presented(match.group(1), hash_of(match.group()), refusal)


def _bearer(authorization: bytes) -> bytes:
    """The token of an `Authorization` header; the scheme's case does not matter (RFC 9110, 11.1)."""
    scheme, _, token = authorization.strip(b" \t").partition(b" ")
    if scheme and scheme.lower() != b"bearer":
        raise Unauthenticated(_WRONG_BEARER)
    return token.strip(b" \t")
