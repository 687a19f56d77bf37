"""Who asks, and in which workspace? One answer for every door, from a snapshot of all keys in memory.

The snapshot is complete: a public id that is not in it belongs to no key, unless a key was made since. So a
wrong key is refused without a look into the database, there is no cache of refusals to fill up, and 10^6
wrong keys leave no trace (case B12). What is looked at, by a task every half second and at most once per
`glance_s` for the sake of unknown ids, is one number that every write of keys and workspaces raises
(`store.changes`); when it has moved, the snapshot is read anew. A key that another process made or revoked
counts within a second (case C3).

Nothing is looked up by less than the whole key: the public id finds the entry, and then the hash of all that
was sent is compared, in constant time (CVE-2026-35030 was a cache keyed by the first 20 characters;
CVE-2025-59425 a comparison that stopped early).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.clock import Clock
from antiphon.core.errors import PermissionDenied, Unauthenticated
from antiphon.core.records import DEFAULT_WORKSPACE, Caller, Scope
from antiphon.gate.keys import Presented, presented, public_id_of
from antiphon.store import changes, keys, members, workspaces
from antiphon.store.database import Database, StoreUnavailable
from antiphon.store.keys import Credential, KeyUse
from antiphon.store.workspaces import Workspace

#: Reads what else requests need a snapshot of, in the transaction that reads the keys.
Reader = Callable[[AsyncConnection], Awaitable[None]]

_POLL_SECONDS = 0.5
_USE_SECONDS = 60.0


class _Entry(msgspec.Struct, frozen=True, gc=False):
    digest: bytes
    caller: Caller
    live: bool
    expires_ms: int | None


class GateFigures(msgspec.Struct, frozen=True):
    """For the metrics. `glances` counts look-ups of the change counter, `loads` readings of all keys."""

    keys: int
    glances: int
    loads: int
    refused: int
    last_error: str | None


class Gate:
    """Checks credentials. `load` before the first request; `run` beside the server."""

    def __init__(self, database: Database, clock: Clock, *, glance_s: float = 0.025, stale_s: float = 5.0) -> None:
        """`glance_s`: how long an unknown id is believed to be unknown, seconds. `stale_s`: how long a
        snapshot counts when the database does not answer; after that nobody is let in, because a key may have
        been revoked."""
        self._database = database
        self._clock = clock
        self._glance_s = glance_s
        self._stale_s = stale_s
        self._entries: dict[bytes, _Entry] = {}
        self._workspaces: dict[bytes, Workspace] = {}
        self._members: frozenset[tuple[str, str]] = frozenset()
        self._readers: list[Reader] = []
        self._version = -1
        self._seen_s = float("-inf")
        self._turn = asyncio.Lock()
        self._failed_s = float("-inf")
        self._used_ms: dict[bytes, int] = {}
        self._noted_s = clock.monotonic()
        self._glances = 0
        self._loads = 0
        self._refused = 0
        self._last_error: str | None = None

    def follow(self, reader: Reader) -> None:
        """Have something else read whenever anything has changed, limits for one. Before the first `load`."""
        self._readers.append(reader)

    async def load(self) -> None:
        """Read the keys for the first time, or see at once what this process has just written.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        async with self._turn:
            await self._glance()

    async def identify(self, authorization: bytes | None, x_api_key: bytes | None) -> Caller:
        """The caller that these two headers' values prove. Waits only for an unknown id or a database that
        was away.

        Raises:
            Unauthenticated: no key, or one that is malformed, unknown, wrong, expired, switched off or
            revoked. StoreUnavailable: whether the key is valid cannot be told now.
        """
        try:
            key = presented(authorization, x_api_key)
            entry = self._entries.get(key.public_id)
            age_s = self._clock.monotonic() - self._seen_s
            if age_s > (self._glance_s if entry is None else self._stale_s):
                await self._catch_up()
                entry = self._entries.get(key.public_id)
            return self._admit(key, entry)
        except Unauthenticated:
            self._refused += 1
            raise

    def in_workspace(self, caller: Caller, named: bytes) -> Caller:
        """The caller in the workspace that its request names (`anthropic-workspace-id`, contract
        messages-and-inference 1): its key's own, or with a key that is not bound to one any that the organization's
        admins, or its user as a member, may enter. The default workspace is everybody's.

        Raises:
            PermissionDenied: the key does not reach it, or there is no such workspace; the same text for both.
        """
        if named == caller.scope.workspace.encode():
            return caller
        found = self._workspaces.get(named)
        if (
            found is None
            or not (caller.unscoped or caller.admin)
            or found.organization != caller.scope.organization
            or not self._may_enter(caller, found.id)
        ):
            raise PermissionDenied("This key does not belong to the workspace that anthropic-workspace-id names")
        return msgspec.structs.replace(
            caller,
            scope=Scope(found.organization, found.id),
            profile=found.profile,
            allowed_geographies=found.allowed_geographies,
            default_geography=found.default_geography,
            logs_requests=found.logs_requests,
        )

    def _may_enter(self, caller: Caller, workspace: str) -> bool:
        everywhere = caller.admin or caller.role == "admin" or workspace == DEFAULT_WORKSPACE
        return everywhere or (caller.user or "", workspace) in self._members

    async def run(self) -> None:
        """Keep the snapshot fresh, and write back when keys were used. Until cancelled."""
        try:
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                await self._tick()
        finally:
            await self._note_last_uses()

    async def _tick(self) -> None:
        try:
            await self.load()
            if self._clock.monotonic() - self._noted_s >= _USE_SECONDS:
                await self.note_uses()
        except StoreUnavailable as error:
            self._last_error = error.reason

    async def note_uses(self) -> None:
        """Write back when keys were last used. For people to see; never on a request's path.

        Raises:
            StoreUnavailable: the database does not answer; the times are kept for the next try.
        """
        self._noted_s = self._clock.monotonic()
        used_ms = self._used_ms.copy()
        async with self._database.transaction() as connection:
            await keys.record_use(connection, self._uses(used_ms))
        for public_id, at_ms in used_ms.items():
            if self._used_ms[public_id] == at_ms:
                del self._used_ms[public_id]

    def figures(self) -> GateFigures:
        return GateFigures(len(self._entries), self._glances, self._loads, self._refused, self._last_error)

    def _admit(self, key: Presented, entry: _Entry | None) -> Caller:
        if entry is None or not hmac.compare_digest(entry.digest, key.digest) or not entry.live:
            raise Unauthenticated(key.refusal)
        now_ms = self._clock.now_ms()
        if entry.expires_ms is not None and entry.expires_ms <= now_ms:
            raise Unauthenticated(key.refusal)
        self._used_ms[key.public_id] = now_ms
        return entry.caller

    async def _catch_up(self) -> None:
        """Glance, unless somebody has while this call waited: many waiters share one look, and one
        failure."""
        since_s = self._clock.monotonic()
        async with self._turn:
            if self._failed_s >= since_s:
                raise StoreUnavailable(self._last_error or "")
            if self._clock.monotonic() - self._seen_s > self._glance_s:
                await self._glance()

    async def _glance(self) -> None:
        try:
            await self._look()
        except StoreUnavailable as error:
            self._failed_s = self._clock.monotonic()
            self._last_error = error.reason
            raise

    async def _look(self) -> None:
        began_s = self._clock.monotonic()
        self._glances += 1
        async with self._database.reading() as connection:
            # The number first: what is written between it and the keys moves it again, and is read again.
            version = await changes.version(connection)
            if version != self._version:
                self._entries = {
                    public_id_of(found.id): _Entry(found.secret_hash, _caller(found), found.live, found.expires_ms)
                    async for portion in keys.credentials(connection)
                    for found in portion
                }
                self._workspaces = {found.id.encode(): found for found in await workspaces.live(connection)}
                self._members = await members.of_key_holders(connection)
                for read in self._readers:
                    await read(connection)
                self._version = version
                self._loads += 1
        self._seen_s = began_s
        self._last_error = None

    def _uses(self, used_ms: dict[bytes, int]) -> list[KeyUse]:
        callers = ((self._entries[public_id].caller, at_ms) for public_id, at_ms in used_ms.items())
        return [KeyUse(caller.scope, caller.key_id, at_ms) for caller, at_ms in callers]

    async def _note_last_uses(self) -> None:
        try:
            await asyncio.shield(self.note_uses())
        except StoreUnavailable as error:
            self._last_error = error.reason


def _caller(found: Credential) -> Caller:
    return Caller(
        found.scope,
        found.id,
        found.admin,
        found.profile,
        found.unscoped,
        found.principal,
        found.role,
        found.allowed_geographies,
        found.default_geography,
        found.logs_requests,
    )
