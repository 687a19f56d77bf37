"""Which limits hold for whom: the tier's, the organization's own, and those that workspaces set for themselves.

A workspace's limit may be stored lower or higher than the organization's; the lower one is enforced (contract
platform-and-tools 7.5). A higher one can never be what stops a request, because the organization's bucket loses all
that the workspace's does: it has no bucket of its own. The default workspace has no limits of its own (contract
messages-and-inference 13). A policy does not change; a new one is made when somebody sets a limit, and the buckets
go on from where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.core.records import DEFAULT_WORKSPACE, Scope
from antiphon.gate.limits.buckets import Bucket, Demand
from antiphon.gate.limits.tiers import Book, Kind

#: Limits that somebody set, by group; None (or nothing) inherits.
OwnLimits: TypeAlias = Mapping[str, Mapping[Kind, int | None]]

_NONE: OwnLimits = {}


class Rules(msgspec.Struct, frozen=True):
    """The buckets that a request of one workspace for one group takes from: the organization's first, then, where it
    is lower, the workspace's."""

    group: str
    label: str
    requests: tuple[Bucket, ...]
    input: tuple[Bucket, ...] = ()
    output: tuple[Bucket, ...] = ()
    cache_reads_count: bool = False
    admission: tuple[Demand, ...] = ()
    """What admitting takes: a request, and something left of the output."""


class WorkspaceLimit(msgspec.Struct, frozen=True):
    """A limit as a workspace has it. `value` is what is set, `org_limit` the organization's, `enforced` the lower."""

    kind: Kind
    value: int
    org_limit: int
    enforced: int
    own: bool


class Policy:
    """The limits of one organization."""

    def __init__(
        self, book: Book, tier: str, organization: OwnLimits = _NONE, workspaces: Mapping[str, OwnLimits] | None = None
    ) -> None:
        """`organization` sets single limits over the tier's; `workspaces` are their own limits, by workspace id.

        Raises:
            SettingsError: there is no such tier.
            InvalidRequest: an unknown group or kind, a number out of bounds, or limits on the default workspace.
        """
        self.book = book
        self.tier = tier
        self._tier = book.tier(tier)
        self._workspaces = workspaces or {}
        self._check(organization)
        for workspace, own in self._workspaces.items():
            if workspace == DEFAULT_WORKSPACE:
                raise InvalidRequest("Limits cannot be set on the default workspace")
            self._check(own)
        self._limits = {
            group: {kind: _own(organization, group, kind, value) for kind, value in limits.items()}
            for group, limits in self._tier.limits.items()
        }
        self._rules: dict[tuple[str, str | None, str], Rules] = {}

    def organization_limits(self, group: str) -> Mapping[Kind, int]:
        """What the organization may use of a group."""
        return self._limits[group]

    def workspace_limits(self, workspace: str, group: str) -> tuple[WorkspaceLimit, ...]:
        """What a workspace has of a group, inherited limits included."""
        own = self._workspaces.get(workspace, _NONE)
        return tuple(
            WorkspaceLimit(kind, value, limit, min(value, limit), own=own.get(group, {}).get(kind) is not None)
            for kind, limit in self._limits[group].items()
            for value in (_own(own, group, kind, limit),)
        )

    def rules(self, scope: Scope, group: str) -> Rules:
        """The buckets of a request; the same object every time, so that asking costs next to nothing."""
        workspace = scope.workspace if scope.workspace in self._workspaces else None
        key = (scope.organization, workspace, group)
        known = self._rules.get(key)
        if known is None:
            known = self._rules[key] = self._made(scope.organization, workspace, group)
        return known

    def _made(self, organization: str, workspace: str | None, group: str) -> Rules:
        def buckets(kind: Kind) -> tuple[Bucket, ...]:
            if kind not in self._limits[group]:
                return ()
            limit = self._limits[group][kind]
            found = [Bucket.of(organization, None, group, kind, limit)]
            lower = _own(self._workspaces.get(workspace or "", _NONE), group, kind, limit)
            if lower < limit:
                found.append(Bucket.of(organization, workspace, group, kind, lower))
            return tuple(found)

        described = self.book.groups[group]
        requests, output = buckets("requests_per_minute"), buckets("output_tokens_per_minute")
        admission = (*(Demand(bucket, 1) for bucket in requests), *(Demand(bucket, 0, 1) for bucket in output))
        return Rules(
            group,
            described.display_name,
            requests,
            buckets("input_tokens_per_minute"),
            output,
            described.cache_reads_count,
            admission,
        )

    def _check(self, own: OwnLimits) -> None:
        for group, kinds in own.items():
            try:
                self.book.check(group, kinds)
            except ValueError as error:
                raise InvalidRequest(str(error), path="limits") from None


def _own(own: OwnLimits, group: str, kind: Kind, inherited: int) -> int:
    value = own.get(group, {}).get(kind)
    return inherited if value is None else value
