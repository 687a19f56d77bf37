"""Users, invites and members of workspaces, as they are shown and asked for (contract `client-surface.md` 5).

Times are RFC 3339, in UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from antiphon.core.records import Role, WorkspaceRole

#: Roles that can be given: admins are not made through the API, and `managed` is for organizations of another kind.
GivenRole: TypeAlias = Literal["user", "developer", "billing", "claude_code_user"]
#: Roles that a list can be narrowed to.
ListedRole: TypeAlias = Literal["user", "developer", "billing", "admin", "claude_code_user"]
ListedStatus: TypeAlias = Literal["accepted", "expired", "pending"]
#: Roles that a new member can have.
NewMemberRole: TypeAlias = Literal[
    "workspace_admin", "workspace_developer", "workspace_restricted_developer", "workspace_user"
]
Email: TypeAlias = Annotated[str, msgspec.Meta(max_length=254, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$")]
PersonName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]


class Organization(msgspec.Struct, frozen=True):
    """The organization that a key belongs to."""

    id: str
    name: str
    type: Literal["organization"] = "organization"


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person of the organization."""

    id: str
    type: Literal["user"] = "user"
    email: str
    name: str
    role: Role
    added_at: str


class UserUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed of a user."""

    role: GivenRole


class UserDeleted(msgspec.Struct, frozen=True):
    """A user that is gone."""

    id: str
    type: Literal["user_deleted"] = "user_deleted"


class Invite(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation."""

    id: str
    type: Literal["invite"] = "invite"
    email: str
    role: Role
    status: Literal["accepted", "deleted", "expired", "pending"]
    invited_at: str
    expires_at: str
    accepted_at: str | None
    rbac_group_ids: tuple[str, ...] = ()


class NewInvite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to invite, and as what."""

    email: Email
    role: GivenRole
    rbac_group_ids: tuple[str, ...] | None = None


class InviteAccepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is still to be known of who accepts."""

    name: PersonName


class InviteDeleted(msgspec.Struct, frozen=True):
    """An invitation that was taken back."""

    id: str
    type: Literal["invite_deleted"] = "invite_deleted"


class WorkspaceMember(msgspec.Struct, frozen=True):
    """A person in a workspace."""

    user_id: str
    workspace_id: str
    workspace_role: WorkspaceRole
    type: Literal["workspace_member"] = "workspace_member"


class NewMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to add to a workspace, and as what."""

    user_id: str
    workspace_role: NewMemberRole


class MemberUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed of a member."""

    workspace_role: WorkspaceRole


class MemberDeleted(msgspec.Struct, frozen=True):
    """A member that is gone from a workspace."""

    user_id: str
    workspace_id: str
    type: Literal["workspace_member_deleted"] = "workspace_member_deleted"
