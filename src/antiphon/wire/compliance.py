"""What `GET /v1/compliance/activities` answers (contract `platform-and-tools.md` 7.13).

What an activity says beyond the common fields depends on its type, and a field that has no meaning for it is absent.
`old`, `new`, `refused` and `subject_id` are Antiphon's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import NAMESPACE_URL, uuid5

import msgspec
from msgspec import UNSET, UnsetType

_Text: TypeAlias = str | UnsetType


class UserActor(msgspec.Struct, frozen=True, kw_only=True, tag="user_actor", tag_field="type"):
    """A person who has signed in."""

    email_address: str | None = None
    user_id: str
    ip_address: str | None
    user_agent: str | None


class ApiActor(msgspec.Struct, frozen=True, kw_only=True, tag="api_actor", tag_field="type"):
    """A key that called the API, or, whatever kind of key, this route."""

    api_key_id: str
    ip_address: str | None
    user_agent: str | None


class AdminApiKeyActor(msgspec.Struct, frozen=True, kw_only=True, tag="admin_api_key_actor", tag_field="type"):
    """A key that administers the organization."""

    admin_api_key_id: str
    ip_address: str | None
    user_agent: str | None


class UnauthenticatedUserActor(
    msgspec.Struct, frozen=True, kw_only=True, tag="unauthenticated_user_actor", tag_field="type"
):
    """Somebody who has not signed in."""

    unauthenticated_email_address: str | None = None
    ip_address: str | None
    user_agent: str | None


class SystemActor(msgspec.Struct, frozen=True, kw_only=True, tag="system_actor", tag_field="type"):
    """This machine's own: the command line, with the name of the system's user that ran it."""

    service: str | None


ActivityActor: TypeAlias = UserActor | ApiActor | AdminApiKeyActor | UnauthenticatedUserActor | SystemActor


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One act. Clients are told to expect types that they do not know."""

    id: str
    created_at: str
    organization_id: str | None
    organization_uuid: str | None
    actor: ActivityActor
    type: str
    workspace_id: _Text = UNSET
    api_key_id: _Text = UNSET
    admin_api_key_id: _Text = UNSET
    user_id: _Text = UNSET
    invite_id: _Text = UNSET
    spend_limit_id: _Text = UNSET
    request_id: _Text = UNSET
    url: _Text = UNSET
    request_method: _Text = UNSET
    status_code: int | UnsetType = UNSET
    subject_id: _Text = UNSET
    """What was acted on, where none of the fields above is for it."""
    old: Mapping[str, Any] | UnsetType = UNSET
    new: Mapping[str, Any] | UnsetType = UNSET
    refused: _Text = UNSET
    """Why it was not done."""


class ActivityPage(msgspec.Struct, frozen=True):
    """A page of activities, newest first. The next older ones are asked for with `after_id=last_id`."""

    data: tuple[Activity, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None


def uuid_of(organization: str) -> str:
    """The UUID that stands for an organization: always the same one, made from its id."""
    return str(uuid5(NAMESPACE_URL, f"urn:antiphon:organization:{organization}"))


def moment(ms: int) -> str:
    """Milliseconds since the epoch, told to the millisecond, so that the last one seen can be asked on from."""
    return datetime.fromtimestamp(ms // 1000, tz=UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{ms % 1000:03d}Z")
