"""API keys, as they are shown and asked for (contract `client-surface.md` 5, `platform-and-tools.md` 7.4)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec

KeyName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")]
Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
KeyStatus: TypeAlias = Literal["active", "archived", "expired", "inactive"]


class Maker(msgspec.Struct, frozen=True):
    """Who made a key."""

    id: str
    type: Literal["user"] = "user"


class UserPrincipal(msgspec.Struct, frozen=True):
    """The person as whom a key acts."""

    user_id: str
    type: Literal["user_actor"] = "user_actor"


class OrganizationScope(msgspec.Struct, frozen=True, tag="organization", tag_field="type"):
    """A key that is bound to no workspace."""


class WorkspaceScope(msgspec.Struct, frozen=True, tag="workspace", tag_field="type"):
    """A key of one workspace; the default one too is named here."""

    workspace_id: str


class APIKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key; of its text so much as tells keys apart. Times are RFC 3339, in UTC.

    `workspace_id` is what clients from before `scope` read: null for the default workspace.
    """

    id: str
    type: Literal["api_key"] = "api_key"
    name: str
    status: KeyStatus
    created_at: str
    expires_at: str | None
    created_by: Maker | None
    partial_key_hint: str
    principal: UserPrincipal | None
    scope: OrganizationScope | WorkspaceScope
    workspace_id: str | None


class MadeKey(APIKey, frozen=True, kw_only=True):
    """A key that was just made, with the one answer that shows it."""

    key: str


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key to be made: of a workspace (the default one unless another is named), or unscoped (`user_id` says for whom,
    where not for the maker), or an admin key."""

    name: KeyName
    workspace_id: str | None = None
    unscoped: bool = False
    user_id: str | None = None
    admin: bool = False
    expires_at: Moment | None = None


class KeyUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What can be changed of a key. A key does not become `expired` by being told so.

    `expires_at` is an addition of Antiphon's; null there: never.
    """

    name: KeyName | None = None
    status: Literal["active", "archived", "inactive"] | None = None
    expires_at: Moment | msgspec.UnsetType | None = msgspec.UNSET
