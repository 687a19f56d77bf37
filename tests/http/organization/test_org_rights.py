"""Who may what: every kind of key at every route, against the table of rights (contract platform-and-tools 7.1, 7.2)."""

from __future__ import annotations

from typing import Any, get_args

import anthropic
import pytest

from antiphon.core.records import DEFAULT_ORGANIZATION, Role, Scope
from antiphon.gate.rights import RIGHTS, Access, Resource
from office import Office, told

_ORG = "/v1/organizations"
_ROLES: tuple[Role, ...] = get_args(Role)
#: A request of each kind: whose right it takes, and what comes where there is the right.
_REQUESTS: list[tuple[str, str, Any, Resource, Access, int]] = [
    ("GET", "/me", None, "organization", "read", 200),
    ("GET", "/users", None, "users", "read", 200),
    ("GET", "/users/user_1", None, "users", "read", 404),
    ("POST", "/users/user_1", {"role": "user"}, "users", "write", 404),
    ("DELETE", "/users/user_1", None, "users", "write", 404),
    ("GET", "/invites", None, "invites", "read", 200),
    ("GET", "/invites/invite_1", None, "invites", "read", 404),
    ("POST", "/invites", {"email": "x"}, "invites", "write", 400),
    ("POST", "/invites/invite_1/accept", {"name": "x"}, "invites", "write", 404),
    ("DELETE", "/invites/invite_1", None, "invites", "write", 404),
    ("GET", "/workspaces", None, "workspaces", "read", 200),
    ("GET", "/workspaces/wrkspc_default", None, "workspaces", "read", 200),
    ("POST", "/workspaces", {}, "workspaces", "write", 400),
    ("POST", "/workspaces/wrkspc_default", {"name": "x"}, "workspaces", "write", 400),
    ("POST", "/workspaces/wrkspc_default/archive", None, "workspaces", "write", 400),
    ("GET", "/workspaces/wrkspc_default/members", None, "workspace members", "read", 200),
    ("GET", "/workspaces/wrkspc_default/members/user_1", None, "workspace members", "read", 404),
    ("POST", "/workspaces/wrkspc_default/members", {}, "workspace members", "write", 400),
    ("POST", "/workspaces/wrkspc_default/members/user_1", {}, "workspace members", "write", 400),
    ("DELETE", "/workspaces/wrkspc_default/members/user_1", None, "workspace members", "write", 404),
    ("GET", "/api_keys", None, "API keys", "read", 200),
    ("GET", "/api_keys/apikey_1", None, "API keys", "read", 404),
    ("POST", "/api_keys", {}, "API keys", "write", 400),
    ("POST", "/api_keys/apikey_1", {"name": "x"}, "API keys", "write", 404),
    ("GET", "/rate_limits", None, "rate limits", "read", 200),
    ("POST", "/rate_limits/rlg_1", {}, "rate limits", "write", 400),
    ("GET", "/workspaces/wrkspc_default/rate_limits", None, "rate limits", "read", 200),
    ("POST", "/workspaces/wrkspc_default/rate_limits/rlg_1", {}, "rate limits", "write", 400),
    ("GET", "/spend_limits", None, "spend limits", "read", 400),
    ("POST", "/spend_limits", {}, "spend limits", "write", 400),
    ("GET", "/spend_limits/effective", None, "spend limits", "read", 200),
    ("GET", "/spend_limits/spl_1", None, "spend limits", "read", 404),
    ("DELETE", "/spend_limits/spl_1", None, "spend limits", "write", 404),
    ("GET", "/usage_report/messages", None, "usage reports", "read", 400),
    ("GET", "/analytics/usage", None, "usage reports", "read", 400),
    ("GET", "/analytics/usage_report", None, "usage reports", "read", 400),
    ("GET", "/cost_report", None, "cost reports", "read", 400),
    ("GET", "/analytics/cost", None, "cost reports", "read", 400),
    ("GET", "/analytics/cost_report", None, "cost reports", "read", 400),
]


def _check(office: Office, key: str, request: tuple[str, str, Any, Resource, Access, int], may: bool) -> None:
    method, path, body, _, access, status = request
    before = len(office.acts())
    reply = office.ask(method, _ORG + path, body, key=key)
    assert reply.status_code == (status if may else 403), (request, reply.text)
    if not may:
        assert reply.json()["error"]["type"] == "permission_error"
    # A refused act is written down, whatever it was refused for; nothing is written of reading.
    assert len(office.acts()) - before == (1 if access == "write" else 0), request


def test_every_path_and_method_is_here(office: Office) -> None:
    asked = {(method, path.replace("wrkspc_default", "X").split("_1")[0]) for method, path, *_ in _REQUESTS}
    assert len(asked) == len(_REQUESTS)
    assert len(_REQUESTS) == sum(len([m for m in route.methods if m != "HEAD"]) for route in office.routes)


def test_an_admin_key_may_all(office: Office) -> None:
    for request in _REQUESTS:
        _check(office, office.admin, request, may=True)


@pytest.mark.parametrize("role", _ROLES)
def test_an_unscoped_key_may_what_its_user_s_role_allows(office: Office, role: Role) -> None:
    key = office.key(user=office.user(role).id)
    for request in _REQUESTS:
        _check(office, key, request, may=request[4] in RIGHTS[role].get(request[3], ()))


def test_a_workspace_s_key_may_nothing(office: Office) -> None:
    for request in _REQUESTS:
        _check(office, office.key(), request, may=False)
    text = told(office.ask("GET", _ORG + "/me", key=office.key()), 403)
    assert "an API key of a workspace cannot" in text


def test_a_role_that_changes_counts_at_once(office: Office) -> None:
    user = office.user("user").id
    key = office.key(user=user)
    assert told(office.ask("GET", _ORG + "/users", key=key), 403) == "The organization role user may not read users"
    office.ask("POST", f"{_ORG}/users/{user}", {"role": "developer"})
    assert office.ask("GET", _ORG + "/users", key=key).status_code == 200


def test_a_refusal_comes_before_the_body_is_looked_at(office: Office) -> None:
    for body in (b"", b"{", b'{"name": 1}'):
        reply = office.ask("POST", _ORG + "/workspaces", key=office.key(), content=body)
        assert reply.status_code == 403
    act = office.last_act()
    assert (act.type, act.actor.type) == ("platform_workspace_created", "api_actor")
    assert "cannot" in (act.refused or "")


def test_what_roles_are_for() -> None:
    assert set(RIGHTS) == set(_ROLES)
    assert all(resources == {"read", "write"} for resources in RIGHTS["admin"].values())
    assert set(RIGHTS["admin"]) == set(get_args(Resource))
    writers = {role: {name for name, may in rights.items() if "write" in may} for role, rights in RIGHTS.items()}
    del writers["admin"]
    assert writers == {
        "user": set(),
        "claude_code_user": set(),
        "managed": set(),
        "developer": {"API keys"},
        "billing": {"spend limits"},
    }


def test_another_organization_s_admin_sees_its_own(office: Office) -> None:
    scope = Scope(DEFAULT_ORGANIZATION, "wrkspc_default")
    assert office.inside(office.gate.identify(None, office.admin.encode())).scope == scope
    assert [user.email for user in office.client(office.foreign_admin).organization.users.list()] == [
        "theirs@example.org"
    ]


def test_an_unscoped_key_names_a_workspace(office: Office) -> None:
    workspace = office.client().organization.workspaces.create(name="Named").id
    chief, developer = office.key(user=office.user("admin").id), office.key(user=office.user("developer").id)
    for key, status in ((office.admin, 200), (chief, 200), (developer, 403), (office.key(), 403)):
        client = office.client(key).with_options(default_headers={"anthropic-workspace-id": workspace})
        if status == 200:
            reply = client.organization.with_raw_response.retrieve()
            assert reply.status_code == 200
            assert "anthropic-workspace-id" not in reply.headers  # the call is of no workspace
        else:
            with pytest.raises(anthropic.PermissionDeniedError, match="anthropic-workspace-id"):
                client.organization.retrieve()
