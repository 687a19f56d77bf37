"""What a caller may administer (contract `platform-and-tools.md` 7.1, 7.2).

An admin key may do everything. An unscoped key may do what the role of its user in the organization allows. A key that
is bound to a workspace may administer nothing, whoever made it.

The documented roles say in words what they are for: users and Claude Code users use the models, developers also look
after API keys, billing members after money, admins after everything; a managed user's rights come from groups, of which
there are none here. `RIGHTS` says it in resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from antiphon.core.errors import PermissionDenied
from antiphon.core.records import Caller, Role

Resource: TypeAlias = Literal[
    "organization",
    "users",
    "invites",
    "workspaces",
    "workspace members",
    "API keys",
    "rate limits",
    "spend limits",
    "usage reports",
    "cost reports",
    "activities",
]
Access: TypeAlias = Literal["read", "write"]

_RESOURCES: tuple[Resource, ...] = (
    "organization",
    "users",
    "invites",
    "workspaces",
    "workspace members",
    "API keys",
    "rate limits",
    "spend limits",
    "usage reports",
    "cost reports",
    "activities",
)
_READ: frozenset[Access] = frozenset({"read"})
_WRITE: frozenset[Access] = frozenset({"read", "write"})

#: What each role may; what is not named it may not.
RIGHTS: Mapping[Role, Mapping[Resource, frozenset[Access]]] = {
    "user": {"organization": _READ},
    "claude_code_user": {"organization": _READ},
    "managed": {"organization": _READ},
    "developer": {
        "organization": _READ,
        "users": _READ,
        "workspaces": _READ,
        "workspace members": _READ,
        "API keys": _WRITE,
        "rate limits": _READ,
        "usage reports": _READ,
    },
    "billing": {
        "organization": _READ,
        "users": _READ,
        "workspaces": _READ,
        "workspace members": _READ,
        "rate limits": _READ,
        "spend limits": _WRITE,
        "usage reports": _READ,
        "cost reports": _READ,
    },
    "admin": dict.fromkeys(_RESOURCES, _WRITE),
}


def administers(caller: Caller) -> bool:
    """Whether the caller may do all that there is to do: with an admin key, or as an admin."""
    return caller.admin or (caller.unscoped and caller.role == "admin")


def demand(caller: Caller | None, resource: Resource, access: Access) -> Caller:
    """The caller, if it may read or write what is named.

    Raises:
        PermissionDenied: it may not.
    """
    if caller is None or not (caller.admin or caller.unscoped):
        raise PermissionDenied(
            "The organization is administered with an admin key, or with an unscoped key of a user whose role allows"
            " it; an API key of a workspace cannot"
        )
    if not caller.admin and (caller.role is None or access not in RIGHTS[caller.role].get(resource, frozenset())):
        deed = "read" if access == "read" else "change"
        raise PermissionDenied(f"The organization role {caller.role or 'of this key'} may not {deed} {resource}")
    return caller
