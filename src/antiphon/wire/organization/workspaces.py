"""Workspaces, as they are shown and asked for (contract `client-surface.md` 5, `platform-and-tools.md` 7.3, 7.11)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

WorkspaceName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Color: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^#[0-9A-Fa-f]{6}$")]


class DataResidency(msgspec.Struct, frozen=True, kw_only=True):
    """Where a workspace's requests may be answered. `workspace_geo` says nothing here: the API knows no value but `us`,
    and data lies where the operator's machine stands."""

    workspace_geo: Literal["us"] = "us"
    allowed_inference_geos: tuple[str, ...] | Literal["unrestricted"]
    default_inference_geo: str


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace. Times are RFC 3339, in UTC. `logs_requests`, here and below, is an addition of Antiphon's: whether
    what is asked and answered is kept."""

    id: str
    type: Literal["workspace"] = "workspace"
    name: str
    compartment_id: str
    created_at: str
    archived_at: str | None
    display_color: str
    data_residency: DataResidency
    tags: dict[str, str]
    external_key_id: str | None = None
    user_profile_id: str | None = None
    logs_requests: bool = False


class NewDataResidency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Residency of a new workspace."""

    workspace_geo: Literal["us"] | None = None
    allowed_inference_geos: list[str] | Literal["unrestricted"] | None = None
    default_inference_geo: str | None = None


class DataResidencyUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of the residency can be changed; where the data lies cannot."""

    allowed_inference_geos: list[str] | Literal["unrestricted"] | None = None
    default_inference_geo: str | None = None


class NewWorkspace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A workspace to be made."""

    name: WorkspaceName
    data_residency: NewDataResidency | None = None
    display_color: Color | None = None
    tags: dict[str, str] | None = None
    external_key_id: str | None = None
    user_profile_id: str | None = None
    logs_requests: bool | None = None


class WorkspaceUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What can be changed of a workspace; null and what is absent stay as they are. A tag that is null is removed."""

    name: WorkspaceName | None = None
    data_residency: DataResidencyUpdate | None = None
    display_color: Color | None = None
    tags: dict[str, str | None] | None = None
    external_key_id: str | None = None
    user_profile_id: str | None = None
    logs_requests: bool | None = None
