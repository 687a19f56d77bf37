"""An activity of the audit in the documented shape (contract platform-and-tools 7.13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from antiphon.store.activities import Activity
from antiphon.wire import compliance
from antiphon.wire.compliance import ActivityActor, moment, uuid_of

#: Which field names the object that was acted on, by the prefix of its id.
_SUBJECTS = {
    "apikey": "api_key_id",
    "invite": "invite_id",
    "req": "request_id",
    "spl": "spend_limit_id",
    "user": "user_id",
    "wrkspc": "workspace_id",
}
#: A type whose details are fields of its own.
_ACCESSED = "compliance_api_accessed"


def shown(activity: Activity) -> compliance.Activity:
    """As the feed tells it."""
    fields: dict[str, Any] = {}
    if activity.workspace is not None:
        fields["workspace_id"] = activity.workspace
    if activity.subject is not None:
        fields[_subject_field(activity)] = activity.subject
    details, old, new = _details(activity)
    return compliance.Activity(
        id=activity.id,
        created_at=moment(activity.created_ms),
        organization_id=activity.organization,
        organization_uuid=uuid_of(activity.organization),
        actor=_actor(activity),
        type=activity.type,
        old=old,
        new=new,
        refused=UNSET if activity.refused is None else activity.refused,
        **fields,
        **details,
    )


def _subject_field(activity: Activity) -> str:
    name = _SUBJECTS.get((activity.subject or "").partition("_")[0], "subject_id")
    if name == "api_key_id" and activity.type.startswith("admin_api_key_"):
        return "admin_api_key_id"
    return name


_Values = Mapping[str, Any] | UnsetType


def _details(activity: Activity) -> tuple[Mapping[str, Any], _Values, _Values]:
    old: _Values = UNSET if activity.old is None else activity.old
    new: _Values = UNSET if activity.new is None else activity.new
    if activity.type == _ACCESSED and not isinstance(new, UnsetType):
        return {name: new[name] for name in ("url", "request_method", "status_code") if name in new}, UNSET, UNSET
    return {}, old, new


def _actor(activity: Activity) -> ActivityActor:
    actor = activity.actor
    place: dict[str, Any] = {"ip_address": actor.address, "user_agent": actor.user_agent}
    match actor.type:
        case "user_actor":
            return compliance.UserActor(user_id=actor.id or "", **place)
        case "api_actor":
            return compliance.ApiActor(api_key_id=actor.id or "", **place)
        case "admin_api_key_actor":
            return compliance.AdminApiKeyActor(admin_api_key_id=actor.id or "", **place)
        case "unauthenticated_user_actor":
            return compliance.UnauthenticatedUserActor(**place)
        case "system_actor":
            return compliance.SystemActor(service=actor.id)
