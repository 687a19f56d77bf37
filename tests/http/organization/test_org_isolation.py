"""Ids of another organization, asked of every route that takes one: the same answer as for an id that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import anthropic
import pytest

from antiphon.admin.acts import Acts
from antiphon.gate.limits import tiers
from antiphon.http.organization.routes import Organization
from antiphon.http.routes import Route
from antiphon.routing.catalogue import SCRIPTED
from antiphon.routing.resolve import Router
from office import OTHER, Office

_STEP = re.compile(r"\{(\w+)\}")
#: What a write sends, so that only its ids are wrong. A route that is missing here fails the test.
_BODIES: Mapping[str, Any] = {
    "POST /v1/organizations/users/{user_id}": {"role": "user"},
    "POST /v1/organizations/invites/{invite_id}/accept": {"name": "Eve"},
    "POST /v1/organizations/workspaces/{workspace_id}": {"display_color": "#123456"},
    "POST /v1/organizations/workspaces/{workspace_id}/archive": None,
    "POST /v1/organizations/workspaces/{workspace_id}/members": {"user_id": "", "workspace_role": "workspace_user"},
    "POST /v1/organizations/workspaces/{workspace_id}/members/{user_id}": {"workspace_role": "workspace_admin"},
    "POST /v1/organizations/api_keys/{api_key_id}": {"name": "mine now"},
    "POST /v1/organizations/workspaces/{workspace_id}/rate_limits/{rate_limit_id}": {
        "limits": [{"type": "requests_per_minute", "value": 5}]
    },
}
_MISSING = {
    "user_id": "user_01nobody",
    "invite_id": "invite_01none",
    "workspace_id": "wrkspc_01none",
    "api_key_id": "apikey_01none",
    "spend_limit_id": "spl_01none",
}
#: What no id is.
_MALFORMED = ("%00", "a.b", "no%20such", "x" * 300, "%F0%9F%98%80", "'%20OR%201=1")


def _table() -> list[Route]:
    nothing: Any = None
    return Organization(
        Acts(nothing, nothing, nothing), nothing, book=tiers.load(), tier="machine", router=Router([SCRIPTED])
    ).routes()


def _cases() -> Iterator[tuple[str, str, str]]:
    """Every method of every route that takes an id, and each of its ids."""
    for route in _table():
        for method in route.methods:
            for name in _STEP.findall(route.path):
                if name == "rate_limit_id":  # of the price list, the same for every organization
                    continue
                yield method, route.path, name


@pytest.fixture(scope="module")
def ours(office: Office) -> dict[str, str]:
    """Ids of this organization."""
    client = office.client()
    workspace = client.organization.workspaces.create(name="Ours").id
    user = office.user("developer").id
    client.organization.workspaces.members.add(workspace, user_id=user, workspace_role="workspace_user")
    invite = client.organization.invites.create(email="ours@example.org", role="user").id
    key = office.ask("POST", "/v1/organizations/api_keys", {"name": "ours", "workspace_id": workspace}).json()["id"]
    limit = client.organization.rate_limits.list(group_type="model_group").data[0].id
    return {
        "workspace_id": workspace,
        "user_id": user,
        "invite_id": invite,
        "api_key_id": key,
        "rate_limit_id": limit,
        "spend_limit_id": _spend_limit(office, office.admin),
    }


def _spend_limit(office: Office, key: str) -> str:
    made = office.ask(
        "POST", "/v1/organizations/spend_limits", {"amount": "100", "scope": {"type": "organization"}}, key=key
    )
    found: str = made.json()["id"]
    return found


@pytest.fixture(scope="module")
def theirs(office: Office) -> dict[str, str]:
    """Ids of another organization."""
    invite = office.client(office.foreign_admin).organization.invites.create(email="them@example.org", role="user")
    return {**office.foreign, "invite_id": invite.id, "spend_limit_id": _spend_limit(office, office.foreign_admin)}


def test_the_table_has_cases_of_every_kind() -> None:
    cases = list(_cases())
    assert {method for method, _, _ in cases} == {"GET", "HEAD", "POST", "DELETE"}
    assert {name for _, _, name in cases} == set(_MISSING)
    written = {f"{method} {path}" for method, path, _ in cases if method == "POST"}
    assert written == set(_BODIES)


@pytest.mark.parametrize(("method", "path", "name"), list(_cases()))
def test_an_id_of_another_organization_is_one_that_there_is_not(
    office: Office, ours: dict[str, str], theirs: dict[str, str], method: str, path: str, name: str
) -> None:
    body = _BODIES.get(f"{method} {path}")
    if body is not None and "user_id" in body:
        body = body | {"user_id": office.user().id}

    def answer(wrong: str) -> tuple[int, Any]:
        ids = ours | {name: wrong}
        reply = office.ask(method, _STEP.sub(lambda step: ids[step[1]], path), body)
        shown = reply.json() if method != "HEAD" else {}
        shown.pop("request_id", None)
        return reply.status_code, shown

    before = len(office.acts())
    missing = answer(_MISSING[name])
    assert missing[0] == 404
    if method != "HEAD":
        assert missing[1]["error"]["type"] == "not_found_error"
    assert answer(theirs[name]) == missing
    for malformed in _MALFORMED:
        assert answer(malformed) == missing
    refused = office.acts()[: len(office.acts()) - before]
    if method in ("POST", "DELETE"):
        assert len(refused) == 2 + len(_MALFORMED)
        assert all(act.refused is not None for act in refused)
    else:
        assert refused == []


def test_nothing_of_the_other_organization_was_touched(
    office: Office, admin: anthropic.Anthropic, theirs: dict[str, str]
) -> None:
    them = office.client(office.foreign_admin).organization
    assert them.invites.retrieve(theirs["invite_id"]).status == "pending"
    assert them.api_keys.retrieve(theirs["api_key_id"]).name == "theirs"
    assert them.workspaces.retrieve(theirs["workspace_id"]).archived_at is None
    assert them.users.retrieve(theirs["user_id"]).email == "theirs@example.org"
    assert {act.type for act in office.acts(OTHER)} == {"org_user_invite_sent", "platform_spend_limit_updated"}
    mine = admin.organization
    for listed in (mine.users.list(), mine.invites.list(), mine.api_keys.list(), mine.workspaces.list()):
        assert not {item.id for item in listed} & set(theirs.values())


@pytest.mark.parametrize("resource", ["users", "invites", "workspaces", "api_keys"])
def test_a_list_does_not_go_on_from_another_organization_s_id(
    office: Office, theirs: dict[str, str], resource: str
) -> None:
    name = {"users": "user_id", "invites": "invite_id", "workspaces": "workspace_id", "api_keys": "api_key_id"}[
        resource
    ]
    for cursor in ("after_id", "before_id"):
        texts = []
        for wrong in (_MISSING[name], theirs[name]):
            reply = office.ask("GET", f"/v1/organizations/{resource}?{cursor}={wrong}")
            assert reply.status_code == 400
            texts.append(reply.json()["error"]["message"].replace(wrong, "X"))
        assert texts[0] == texts[1] == f"{cursor}: nothing here has the id `X`"
