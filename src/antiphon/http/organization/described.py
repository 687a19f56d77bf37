"""What the routes of `/v1/organizations` do, for the OpenAPI document; the reports' stand in `described_reports`."""

from __future__ import annotations

from typing import Any, get_args

from antiphon.http.described import LIST, STRING, Json, Operation, Operations, limit, one_of, query, several, walk
from antiphon.wire.organization import api_keys, limits, people, workspaces
from antiphon.wire.organization.page import ListPage

_ROOT = "/v1/organizations"
_USER = _ROOT + "/users/{user_id}"
_INVITE = _ROOT + "/invites/{invite_id}"
_WORKSPACES = _ROOT + "/workspaces"
_WORKSPACE = _WORKSPACES + "/{workspace_id}"
_MEMBERS = _WORKSPACE + "/members"
_KEYS = _ROOT + "/api_keys"
_RATES = _ROOT + "/rate_limits"
_SPENDS = _ROOT + "/spend_limits"

_FLAG: Json = {"type": "boolean", "default": False}
_EMAIL = query("email", "Only the one with this address.", STRING)
_ROLES = several("roles", "Only those with these roles.", *get_args(people.ListedRole))
_PAGE = query("page", "The `next_page` of the answer before.", STRING)
_RATE_LISTS = (
    one_of("group_type", "Only groups of this type.", "batch", "files", "model_group", "skills", "token_count",
           "web_search"),
    query("model", "Only the group of this model.", STRING),
    limit("Groups", 1000, None),
    _PAGE,
)  # fmt: skip


def _made(tag: str) -> Any:
    """Operations of a kind."""

    def make(name: str, summary: str, answer: Any, body: Any = None, **more: Any) -> Operation:
        return Operation(name, tag, summary, answer, body, **more)

    return make


_people, _workspaces, _keys, _limits = map(_made, ("people", "workspaces", "API keys", "limits"))

PEOPLE: Operations = {
    ("GET", _ROOT + "/me"): _people("organization", "The organization of the key", people.Organization),
    ("GET", _ROOT + "/users"): _people(
        "users", "A page of users", ListPage[people.User], parameters=(*walk("Users"), _EMAIL, _ROLES)
    ),
    ("GET", _USER): _people("user", "One user", people.User),
    ("POST", _USER): _people("user_update", "Give a user another role", people.User, people.UserUpdate),
    ("DELETE", _USER): _people("user_remove", "Remove a user and end the user's keys", people.UserDeleted),
    ("GET", _ROOT + "/invites"): _people(
        "invites",
        "A page of invitations that were not taken back",
        ListPage[people.Invite],
        parameters=(
            *walk("Invitations"),
            _EMAIL,
            _ROLES,
            several("statuses", "Only those in these states.", *get_args(people.ListedStatus)),
        ),
    ),
    ("POST", _ROOT + "/invites"): _people("invite_create", "Invite somebody", people.Invite, people.NewInvite),
    ("GET", _INVITE): _people("invite", "One invitation, whatever has become of it", people.Invite),
    ("DELETE", _INVITE): _people("invite_withdraw", "Take a pending invitation back", people.InviteDeleted),
    ("POST", _INVITE + "/accept"): _people(
        "invite_accept", "Make a pending invitation a user (Antiphon's own)", people.User, people.InviteAccepted
    ),
}

WORKSPACES: Operations = {
    ("GET", _WORKSPACES): _workspaces(
        "workspaces",
        "A page of workspaces",
        ListPage[workspaces.Workspace],
        parameters=(
            *walk("Workspaces"),
            query("include_archived", "List archived ones too.", _FLAG),
            query("include_default", "List the default one too.", _FLAG),
            query("ids[]", "Only these.", LIST | {"maxItems": 100}),
        ),
    ),
    ("POST", _WORKSPACES): _workspaces(
        "workspace_create", "Make a workspace", workspaces.Workspace, workspaces.NewWorkspace, refusals=(409,)
    ),
    ("GET", _WORKSPACE): _workspaces("workspace", "One workspace, archived or not", workspaces.Workspace),
    ("POST", _WORKSPACE): _workspaces(
        "workspace_update", "Change a workspace", workspaces.Workspace, workspaces.WorkspaceUpdate, refusals=(409,)
    ),
    ("POST", _WORKSPACE + "/archive"): _workspaces(
        "workspace_archive", "End a workspace, and its keys with it, for good", workspaces.Workspace
    ),
    ("GET", _MEMBERS): _workspaces(
        "members", "A page of a workspace's members", ListPage[people.WorkspaceMember], parameters=walk("Members")
    ),
    ("POST", _MEMBERS): _workspaces(
        "member_add", "Add a user to a workspace", people.WorkspaceMember, people.NewMember
    ),
    ("GET", _MEMBERS + "/{user_id}"): _workspaces("member", "One member of a workspace", people.WorkspaceMember),
    ("POST", _MEMBERS + "/{user_id}"): _workspaces(
        "member_update", "Give a member another role", people.WorkspaceMember, people.MemberUpdate
    ),
    ("DELETE", _MEMBERS + "/{user_id}"): _workspaces(
        "member_remove", "Remove a member from a workspace", people.MemberDeleted
    ),
}

KEYS: Operations = {
    ("GET", _KEYS): _keys(
        "api_keys",
        "A page of API keys",
        ListPage[api_keys.APIKey],
        parameters=(
            *walk("Keys"),
            one_of("status", "Only keys in this state.", *get_args(api_keys.KeyStatus)),
            query("workspace_id", "Only keys of this workspace.", STRING),
            query("created_by_user_id", "Only keys that this user made.", STRING),
        ),
    ),
    ("POST", _KEYS): _keys(
        "api_key_create",
        "Make a key, which only this answer shows (Antiphon's own)",
        api_keys.MadeKey,
        api_keys.NewKey,
        refusals=(404,),
    ),
    ("GET", _KEYS + "/{api_key_id}"): _keys("api_key", "One API key", api_keys.APIKey),
    ("POST", _KEYS + "/{api_key_id}"): _keys(
        "api_key_update", "Change an API key's name, state or end", api_keys.APIKey, api_keys.KeyUpdate
    ),
}

LIMITS: Operations = {
    ("GET", _RATES): _limits(
        "rate_limits",
        "The organization's rate limits",
        limits.CursorPage[limits.OrganizationRateLimit],
        parameters=_RATE_LISTS,
        refusals=(404,),
    ),
    ("POST", _RATES + "/{rate_limit_id}"): _limits(
        "rate_limit_set",
        "Set limits of the organization; null gives the tier's back (Antiphon's own)",
        limits.OrganizationRateLimit,
        limits.RateLimitUpdate,
    ),
    ("GET", _WORKSPACE + "/rate_limits"): _limits(
        "workspace_rate_limits",
        "A workspace's rate limits",
        limits.CursorPage[limits.WorkspaceRateLimit],
        parameters=(query("include_inherited", "List what is inherited too.", _FLAG), *_RATE_LISTS),
    ),
    ("POST", _WORKSPACE + "/rate_limits/{rate_limit_id}"): _limits(
        "workspace_rate_limit_set",
        "Set limits of a workspace; null has it inherit the organization's again",
        limits.WorkspaceRateLimit,
        limits.RateLimitUpdate,
    ),
    ("GET", _SPENDS): _limits(
        "spend_limits",
        "Spend limits, newest first",
        limits.CursorPage[limits.SpendLimit],
        parameters=(
            several("scope_type", "Only limits of these scopes.", "organization", "workspace", "usage_tier"),
            query("workspace_id", "Only limits of this workspace.", STRING),
            limit("Limits", 1000, 20),
            _PAGE,
        ),
        refusals=(404,),
        beta="spend-limit-reads-2026-09-26",
    ),
    ("POST", _SPENDS): _limits(
        "spend_limit_set",
        "Set the spend limit of a scope and period",
        limits.SpendLimit,
        limits.NewSpendLimit,
        refusals=(404,),
    ),
    ("GET", _SPENDS + "/effective"): _limits(
        "spend_limits_effective",
        "Spend limits in force, and what was spent",
        limits.CursorPage[limits.SpendSummary],
        parameters=(
            several("period", "Only these periods.", *get_args(limits.PeriodName)),
            query("user_ids[]", "Only these users, of whom there are no limits here.", LIST | {"maxItems": 100}),
            limit("Scopes", 1000, 20),
            _PAGE,
        ),
    ),
    ("GET", _SPENDS + "/{spend_limit_id}"): _limits("spend_limit", "One spend limit", limits.SpendLimit),
    ("DELETE", _SPENDS + "/{spend_limit_id}"): _limits(
        "spend_limit_delete", "Remove a spend limit", limits.SpendLimitDeleted
    ),
}
