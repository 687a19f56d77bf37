"""API keys through the official SDK, and their making, which is an addition (contract platform-and-tools 7.1, 7.4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import pytest

from office import Office, told

KEYS = "/v1/organizations/api_keys"


def _make(office: Office, key: str | None = None, **body: Any) -> dict[str, Any]:
    reply = office.ask("POST", KEYS, {"name": "made"} | body, key=key)
    assert reply.status_code == 200, reply.text
    made: dict[str, Any] = reply.json()
    return made


@pytest.fixture
def workspace(admin: anthropic.Anthropic, office: Office) -> str:
    return admin.organization.workspaces.create(name=office.ids.make("name")).id


def test_a_key_of_a_workspace(admin: anthropic.Anthropic, office: Office, workspace: str) -> None:
    made = _make(office, workspace_id=workspace)
    key = made.pop("key")
    assert key.startswith("sk-ant-api03-")
    caller = office.inside(office.gate.identify(None, key.encode()))
    assert (caller.scope.workspace, caller.admin, caller.unscoped) == (workspace, False, False)
    shown = admin.organization.api_keys.retrieve(made["id"])
    assert shown.type == "api_key"
    assert (shown.name, shown.status, shown.expires_at, shown.created_by, shown.principal) == (
        "made",
        "active",
        None,
        None,
        None,
    )
    assert shown.scope.type == "workspace"
    assert shown.scope.workspace_id == workspace
    hint = shown.partial_key_hint or ""
    beginning, _, end = hint.partition("...")
    assert key.startswith(beginning)
    assert key.endswith(end)
    assert len(hint) < 25
    act = office.last_act()
    assert (act.type, act.subject, act.workspace) == ("platform_api_key_created", made["id"], workspace)
    assert key not in repr(act)
    assert key not in office.ask("GET", f"{KEYS}?limit=1000").text


def test_the_default_workspace_by_its_id_and_as_null(admin: anthropic.Anthropic, office: Office) -> None:
    made = _make(office)
    assert made["scope"] == {"type": "workspace", "workspace_id": "wrkspc_default"}
    assert made["workspace_id"] is None
    assert made["id"] in {k.id for k in admin.organization.api_keys.list(workspace_id="wrkspc_default", limit=1000)}


def test_an_unscoped_key_acts_as_a_user(admin: anthropic.Anthropic, office: Office) -> None:
    user = office.user("developer").id
    made = _make(office, unscoped=True, user_id=user)
    shown = admin.organization.api_keys.retrieve(made["id"])
    assert shown.scope.type == "organization"
    assert shown.principal is not None
    assert shown.principal.type == "user_actor"
    assert shown.principal.user_id == user
    caller = office.inside(office.gate.identify(None, made["key"].encode()))
    assert (caller.unscoped, caller.user, caller.role) == (True, user, "developer")
    own = _make(office, made["key"], unscoped=True)
    assert own["created_by"] == {"id": user, "type": "user"}
    assert own["principal"] == {"type": "user_actor", "user_id": user}
    assert [k.id for k in admin.organization.api_keys.list(created_by_user_id=user)] == [own["id"]]
    assert office.last_act().actor.type == "api_actor"


def test_an_admin_key_is_made_by_an_admin(office: Office) -> None:
    made = _make(office, admin=True)
    assert made["key"].startswith("sk-ant-admin01-")
    assert made["scope"] == {"type": "organization"}
    assert office.ask("GET", "/v1/organizations/me", key=made["key"]).status_code == 200
    assert office.last_act().type == "admin_api_key_created"
    chief = office.key(user=office.user("admin").id)
    assert _make(office, chief, admin=True)["key"].startswith("sk-ant-admin01-")
    office.ask("POST", f"{KEYS}/{made['id']}", {"status": "archived"})
    assert office.last_act().type == "admin_api_key_updated"
    assert office.ask("GET", "/v1/organizations/me", key=made["key"]).status_code == 401


def test_no_key_may_more_than_its_maker(admin: anthropic.Anthropic, office: Office, workspace: str) -> None:
    user = office.user("developer").id
    mine = office.key(user=user)
    before = len(office.acts())
    assert told(office.ask("POST", KEYS, {"name": "x", "admin": True}, key=mine), 403) == (
        "Only an admin may make an admin key"
    )
    body = {"name": "x", "unscoped": True, "user_id": office.user("admin").id}
    assert "other users" in told(office.ask("POST", KEYS, body, key=mine), 403)
    body = {"name": "x", "workspace_id": workspace}
    assert told(office.ask("POST", KEYS, body, key=mine), 404) == "Workspace member not found"
    admin.organization.workspaces.members.add(workspace, user_id=user, workspace_role="workspace_user")
    assert "Your role" in told(office.ask("POST", KEYS, body, key=mine), 403)
    assert [act.refused is not None for act in office.acts()[: len(office.acts()) - before]].count(True) == 4
    admin.organization.workspaces.members.update(user, workspace_id=workspace, workspace_role="workspace_developer")
    made = _make(office, mine, workspace_id=workspace)
    assert office.ask("POST", f"{KEYS}/{made['id']}", {"status": "inactive"}, key=mine).status_code == 200
    assert _make(office, mine)["workspace_id"] is None
    root = _make(office, admin=True)["id"]
    assert told(office.ask("GET", f"{KEYS}/{root}", key=mine), 404) == "API key not found"
    assert told(office.ask("POST", f"{KEYS}/{root}", {"name": "x"}, key=mine), 404) == "API key not found"
    assert root not in {key["id"] for key in office.ask("GET", f"{KEYS}?limit=1000", key=mine).json()["data"]}
    other = _make(office, unscoped=True, user_id=office.user().id)["id"]
    assert "other users" in told(office.ask("POST", f"{KEYS}/{other}", {"status": "archived"}, key=mine), 403)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name: Field required"),
        ({"name": ""}, "name: String should have at least 1 character"),
        ({"name": "x", "scope": "y"}, "scope: Extra inputs are not permitted"),
        ({"name": "x", "unscoped": True}, "user_id: Field required"),
        ({"name": "x", "user_id": "user_1"}, "user_id: Only an unscoped key acts as a user"),
        ({"name": "x", "admin": True, "workspace_id": "w"}, "workspace_id: A key of this kind"),
        ({"name": "x", "unscoped": True, "workspace_id": "w"}, "workspace_id: A key of this kind"),
        ({"name": "x", "admin": True, "unscoped": True}, "unscoped: An admin key acts as no user"),
        ({"name": "x", "admin": "yes"}, "admin: Input should be a valid boolean"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at: Input should be in the future"),
        ({"name": "x", "expires_at": "tomorrow"}, "expires_at: Input should be a valid datetime"),
        ({"name": "x", "expires_at": "2100-01-01T00:00:00"}, "expires_at: Input should have timezone info"),
    ],
)
def test_keys_that_cannot_be_made(office: Office, body: Any, message: str) -> None:
    assert told(office.ask("POST", KEYS, body), 400).startswith(message)
    refused = office.last_act().refused
    assert refused is not None
    assert refused.startswith(message)


def test_keys_for_whom_there_is_not(office: Office) -> None:
    for workspace in ("wrkspc_none", "\0", office.foreign["workspace_id"]):
        assert told(office.ask("POST", KEYS, {"name": "x", "workspace_id": workspace}), 404) == "Workspace not found"
    for user in ("user_none", "\0", office.foreign["user_id"]):
        body = {"name": "x", "unscoped": True, "user_id": user}
        assert told(office.ask("POST", KEYS, body), 404) == "User not found"


@pytest.mark.behaviour("client-surface-0-updates-by-post")
def test_a_key_is_renamed_and_switched(admin: anthropic.Anthropic, office: Office) -> None:
    keys, made = admin.organization.api_keys, _make(office)

    def status() -> int:
        return office.ask("GET", "/v1/organizations/me", key=made["key"]).status_code

    assert keys.update(made["id"], name="other").name == "other"
    act = office.last_act()
    assert (act.type, act.old, act.new) == ("platform_api_key_updated", {"name": "made"}, {"name": "other"})
    assert status() == 403
    assert keys.update(made["id"], status="inactive").status == "inactive"
    assert status() == 401
    assert keys.update(made["id"], status="active").status == "active"
    assert status() == 403
    assert keys.update(made["id"], status="archived").status == "archived"
    assert status() == 401
    with pytest.raises(anthropic.BadRequestError, match="archived API key"):
        keys.update(made["id"], status="active")
    with pytest.raises(anthropic.BadRequestError, match="archived API key"):
        keys.update(made["id"], name="x")
    assert keys.update(made["id"], status="archived").status == "archived"
    expired: Any = "expired"
    with pytest.raises(anthropic.BadRequestError, match="status: Input should be 'active', 'archived' or 'inactive'"):
        keys.update(_make(office)["id"], status=expired)


def test_a_key_expires(own_office: Office) -> None:
    office, keys = own_office, own_office.client().organization.api_keys
    soon = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    made, lasting = _make(office, expires_at=soon), _make(office)
    assert keys.retrieve(made["id"]).expires_at is not None
    office.clock.ahead_ms = 3 * 3600 * 1000 + 60_000
    assert keys.retrieve(made["id"]).status == "expired"
    assert office.ask("GET", "/v1/organizations/me", key=made["key"]).status_code == 401
    assert [k.id for k in keys.list(status="expired")] == [made["id"]]
    active = {k.id for k in keys.list(status="active")}
    assert lasting["id"] in active
    assert made["id"] not in active
    with pytest.raises(anthropic.BadRequestError, match="status: An expired API key can only be archived"):
        keys.update(made["id"], status="active")
    reply = office.ask("POST", f"{KEYS}/{made['id']}", {"expires_at": None})
    assert (reply.json()["status"], reply.json()["expires_at"]) == ("active", None)
    assert keys.update(made["id"], status="archived").status == "archived"
    assert [k.id for k in keys.list(status="archived")] == [made["id"]]


@pytest.mark.behaviour("client-surface-1.7-page-of-administration")
def test_keys_page(admin: anthropic.Anthropic, office: Office) -> None:
    for _ in range(5):
        _make(office)
    whole = [key.id for key in admin.organization.api_keys.list(limit=1000)]
    assert [key.id for key in admin.organization.api_keys.list(limit=2)] == whole
    page = admin.organization.api_keys.list(limit=2, before_id=whole[4])
    assert [key.id for key in page.data] == whole[2:4]


@pytest.mark.anyio
async def test_the_async_sdk_too(office: Office) -> None:
    async with anthropic.AsyncAnthropic(api_key=office.admin, base_url=office.base_url) as client:
        assert (await client.organization.retrieve()).id == "org_default"
        assert {key.type async for key in client.organization.api_keys.list(limit=1)} == {"api_key"}
