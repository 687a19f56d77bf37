"""Workspaces through the official SDK (contract platform-and-tools 7.3, 7.11)."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from antiphon.core.records import DEFAULT_ORGANIZATION, Scope
from office import Office, told

DEFAULT = "wrkspc_default"


def _name(office: Office) -> str:
    return office.ids.make("name")


def test_a_workspace_with_nothing_but_a_name(admin: anthropic.Anthropic, office: Office) -> None:
    name = _name(office)
    made = admin.organization.workspaces.create(name=name)
    assert made.id.startswith("wrkspc_")
    assert (made.type, made.name, made.archived_at, made.tags) == ("workspace", name, None, {})
    assert made.data_residency.workspace_geo == "us"
    assert made.data_residency.allowed_inference_geos == "unrestricted"
    assert made.data_residency.default_inference_geo == "global"
    assert made.compartment_id == made.id.replace("wrkspc", "cmprt")
    assert made.display_color.startswith("#")
    assert (made.external_key_id, made.user_profile_id) == (None, None)
    assert admin.organization.workspaces.retrieve(made.id) == made
    act = office.last_act()
    assert (act.type, act.subject, act.workspace, act.refused) == (
        "platform_workspace_created",
        made.id,
        made.id,
        None,
    )
    assert act.new is not None
    assert act.new["name"] == name


@pytest.mark.behaviour("messages-and-inference-3.3-geography-of-a-workspace")
def test_a_workspace_with_everything_reaches_its_callers(admin: anthropic.Anthropic, office: Office) -> None:
    made = admin.organization.workspaces.create(
        name=_name(office),
        display_color="#12aBcD",
        tags={"team": "search", "cost center": "17"},
        data_residency={"workspace_geo": "us", "allowed_inference_geos": ["us"], "default_inference_geo": "us"},
        extra_body={"logs_requests": True},
    )
    assert (made.display_color, made.tags) == ("#12aBcD", {"team": "search", "cost center": "17"})
    assert made.data_residency.allowed_inference_geos == ["us"]
    assert made.data_residency.default_inference_geo == "us"
    key = office.key(Scope(DEFAULT_ORGANIZATION, made.id))
    caller = office.inside(office.gate.identify(None, key.encode()))
    assert (caller.allowed_geographies, caller.default_geography, caller.logs_requests) == (("us",), "us", True)


@pytest.mark.behaviour("client-surface-0-updates-by-post")
def test_a_workspace_is_changed(admin: anthropic.Anthropic, office: Office) -> None:
    workspaces = admin.organization.workspaces
    made = workspaces.create(name=_name(office), tags={"a": "1", "b": "2"})
    changed = workspaces.update(
        made.id,
        name=made.name + " two",
        display_color="#000000",
        tags={"b": None, "c": "3"},
        data_residency={"allowed_inference_geos": ["us", "global"], "default_inference_geo": "us"},
    )
    assert (changed.name, changed.display_color, changed.tags) == (made.name + " two", "#000000", {"a": "1", "c": "3"})
    assert changed.data_residency.allowed_inference_geos == ["us", "global"]
    assert changed.data_residency.default_inference_geo == "us"
    act = office.last_act()
    assert (act.type, act.subject) == ("platform_workspace_updated", made.id)
    assert act.old is not None
    assert act.new is not None
    assert (act.old["name"], act.new["name"]) == (made.name, changed.name)
    assert "logs_requests" not in act.new
    same = workspaces.update(made.id, name=changed.name, tags=None)
    assert same == changed
    free = workspaces.update(made.id, data_residency={"allowed_inference_geos": "unrestricted"})
    assert free.data_residency.allowed_inference_geos == "unrestricted"
    assert free.data_residency.default_inference_geo == "us"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": ""}, "name: String should have at least 1 character"),
        ({"name": 7}, "name: Input should be a valid string"),
        ({"name": "x" * 201}, "name: String should have at most 200 characters"),
        ({"name": "a\0b"}, "name: String should match pattern"),
        ({"name": "x", "colour": "#123456"}, "colour: Extra inputs are not permitted"),
        ({"name": "x", "display_color": "red"}, "display_color: String should match pattern"),
        ({"name": "x", "tags": {"anthropic_x": "1"}}, "tags: Keys may not begin with 'anthropic'"),
        ({"name": "x", "tags": {"Anthropic": "1"}}, "tags: Keys may not begin with 'anthropic'"),
        ({"name": "x", "tags": {"": "1"}}, "tags: Keys should have 1 to 128 characters"),
        ({"name": "x", "tags": {"a": "1" * 257}}, "tags: Values should have at most 256 characters"),
        ({"name": "x", "tags": {str(n): "" for n in range(65)}}, "tags: A workspace may have at most 64 tags"),
        ({"name": "x", "tags": []}, "tags: Input should be an object"),
        ({"name": "x", "external_key_id": "k"}, "external_key_id: Customer-managed keys are not enabled"),
        ({"name": "x", "user_profile_id": "p"}, "user_profile_id: User profiles are not enabled"),
        (
            {"name": "x", "data_residency": {"allowed_inference_geos": ["eu"]}},
            "data_residency.allowed_inference_geos.0: Input should be 'global' or 'us'",
        ),
        (
            {"name": "x", "data_residency": {"allowed_inference_geos": []}},
            "data_residency.allowed_inference_geos: List should have at least 1 item",
        ),
        (
            {"name": "x", "data_residency": {"allowed_inference_geos": "all"}},
            "data_residency.allowed_inference_geos: Input should be 'unrestricted'",
        ),
        (
            {"name": "x", "data_residency": {"default_inference_geo": "eu"}},
            "data_residency.default_inference_geo: Input should be 'global' or 'us'",
        ),
        (
            {"name": "x", "data_residency": {"allowed_inference_geos": ["us"]}},
            "data_residency.default_inference_geo: 'global' is not among the allowed_inference_geos",
        ),
        (
            {"name": "x", "data_residency": {"workspace_geo": "eu"}},
            "data_residency.workspace_geo: Input should be 'us'",
        ),
        ({}, "name: Field required"),
        ([], "The request body is not a JSON object"),
    ],
)
def test_what_a_workspace_cannot_be(office: Office, body: Any, message: str) -> None:
    assert told(office.ask("POST", "/v1/organizations/workspaces", body), 400).startswith(message)
    act = office.last_act()
    assert act.type == "platform_workspace_created"
    assert act.refused is not None
    assert act.refused.startswith(message[:40].replace("\0", " "))


def test_where_data_lies_is_not_changed(admin: anthropic.Anthropic, office: Office) -> None:
    made = admin.organization.workspaces.create(name=_name(office))
    body = {"data_residency": {"workspace_geo": "us"}}
    text = told(office.ask("POST", f"/v1/organizations/workspaces/{made.id}", body), 400)
    assert text == "data_residency.workspace_geo: Extra inputs are not permitted"


@pytest.mark.behaviour("client-surface-1.4-permanent-conflict", "messages-and-inference-2.1-409")
def test_a_name_is_taken(admin: anthropic.Anthropic, office: Office) -> None:
    workspaces = admin.organization.workspaces
    one, two = workspaces.create(name=_name(office)), workspaces.create(name=_name(office))
    with pytest.raises(anthropic.ConflictError, match="name: A workspace of this name already exists") as refusal:
        workspaces.create(name=one.name)
    assert (refusal.value.status_code, refusal.value.type) == (409, "conflict_error")
    assert refusal.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(anthropic.ConflictError, match="already exists"):
        workspaces.update(two.id, name=one.name)


def test_the_default_workspace(admin: anthropic.Anthropic, office: Office) -> None:
    workspaces = admin.organization.workspaces
    found = workspaces.retrieve(DEFAULT)
    assert (found.id, found.name, found.archived_at) == (DEFAULT, "Default", None)
    assert DEFAULT not in {w.id for w in workspaces.list(include_archived=True, limit=1000)}
    assert DEFAULT in {w.id for w in workspaces.list(include_default=True, limit=1000)}
    assert [w.id for w in workspaces.list(ids=[DEFAULT])] == []
    assert [w.id for w in workspaces.list(ids=[DEFAULT], include_default=True)] == [DEFAULT]
    with pytest.raises(anthropic.BadRequestError, match="cannot be renamed"):
        workspaces.update(DEFAULT, name="Mine")
    with pytest.raises(anthropic.BadRequestError, match="cannot be archived"):
        workspaces.archive(DEFAULT)
    assert office.last_act().refused == "The default workspace cannot be archived"
    assert workspaces.update(DEFAULT, tags={"a": "b"}, name="Default").tags == {"a": "b"}


def test_archiving_ends_keys_at_once(admin: anthropic.Anthropic, office: Office) -> None:
    workspaces = admin.organization.workspaces
    made = workspaces.create(name=_name(office))
    key = office.key(Scope(DEFAULT_ORGANIZATION, made.id))
    assert office.ask("GET", "/v1/organizations/me", key=key).status_code == 403
    gone = workspaces.archive(made.id)
    assert gone.archived_at is not None
    assert office.ask("GET", "/v1/organizations/me", key=key).status_code == 401
    act = office.last_act()
    assert (act.type, act.subject) == ("platform_workspace_archived", made.id)
    assert {k.status for k in admin.organization.api_keys.list(workspace_id=made.id)} == {"archived"}
    assert made.id not in {w.id for w in workspaces.list(limit=1000)}
    assert made.id in {w.id for w in workspaces.list(limit=1000, include_archived=True)}
    assert workspaces.archive(made.id) == gone
    with pytest.raises(anthropic.BadRequestError, match="archived workspace cannot be changed"):
        workspaces.update(made.id, name="back")
    with pytest.raises(anthropic.BadRequestError, match="archived workspace cannot be changed"):
        workspaces.members.add(made.id, user_id=office.user().id, workspace_role="workspace_user")


def test_some_by_their_ids(admin: anthropic.Anthropic, office: Office) -> None:
    workspaces = admin.organization.workspaces
    some = [workspaces.create(name=_name(office)).id for _ in range(3)]
    found = workspaces.list(ids=[*some, "wrkspc_none", office.foreign["workspace_id"], "?"])
    assert {w.id for w in found} == set(some)
    with pytest.raises(anthropic.BadRequestError, match="ids: List should have at most 100 items"):
        workspaces.list(ids=["wrkspc_1"] * 101)


@pytest.mark.behaviour("client-surface-1.7-page-of-administration")
def test_at_most_a_hundred_live_ones(own_office: Office) -> None:
    workspaces = own_office.client().organization.workspaces
    made = [workspaces.create(name=f"w{n}").id for n in range(99)]
    with pytest.raises(anthropic.BadRequestError, match="at most 100"):
        workspaces.create(name="one more")
    assert [w.id for w in workspaces.list(limit=7)] == [w.id for w in workspaces.list(limit=1000)]
    workspaces.archive(made[0])
    workspaces.create(name="one more")
