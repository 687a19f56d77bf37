"""What is wrong with a request is said by the name of what is wrong (contract messages-and-inference 2)."""

from __future__ import annotations

from typing import Any

import pytest

from office import Office, told

_ORG = "/v1/organizations"
_LISTS = ("users", "invites", "workspaces", "api_keys", "workspaces/wrkspc_default/members")


@pytest.mark.parametrize("resource", _LISTS)
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "limit: Input should be greater than or equal to 1"),
        ("limit=-5", "limit: Input should be greater than or equal to 1"),
        ("limit=1001", "limit: Input should be less than or equal to 1000"),
        ("limit=ten", "limit: Input should be a valid integer, unable to parse string as an integer"),
        ("limit=1.5", "limit: Input should be a valid integer, unable to parse string as an integer"),
        ("limit=%00", "limit: Input should not contain null characters"),
        ("after_id=nothing", "after_id: nothing here has the id `nothing`"),
        ("before_id=nothing", "before_id: nothing here has the id `nothing`"),
        ("before_id=%F0%9F%98%80", "before_id: nothing here has the id `-`"),
        ("after_id=a&before_id=b", "before_id: only one of `after_id` and `before_id` may be given"),
    ],
)
def test_pages_that_there_are_not(office: Office, resource: str, query: str, message: str) -> None:
    assert told(office.ask("GET", f"{_ORG}/{resource}?{query}"), 400) == message


@pytest.mark.parametrize("resource", _LISTS)
@pytest.mark.parametrize("query", ["limit=1", "limit=1000", "limit=", "after_id=", "something=else", "", "%00=1"])
def test_pages_that_there_are(office: Office, resource: str, query: str) -> None:
    reply = office.ask("GET", f"{_ORG}/{resource}?{query}")
    assert reply.status_code == 200
    assert set(reply.json()) == {"data", "has_more", "first_id", "last_id"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("users?roles[]=user&roles[]=boss", "roles.1: Input should be 'user', 'developer', 'billing', 'admin' or"),
        ("users?roles=owner", "roles.0: Input should be 'user'"),
        ("users?email=%00", "email: Input should not contain null characters"),
        ("invites?statuses[]=deleted", "statuses.0: Input should be 'accepted', 'expired' or 'pending'"),
        ("invites?roles[0]=managed", "roles.0: Input should be 'user'"),
        ("api_keys?status=gone", "status: Input should be 'active', 'archived', 'expired' or 'inactive'"),
        ("workspaces?include_archived=perhaps", "include_archived: Input should be a valid boolean"),
        ("workspaces?include_default=2", "include_default: Input should be a valid boolean"),
    ],
)
def test_filters_that_there_are_not(office: Office, path: str, message: str) -> None:
    assert told(office.ask("GET", f"{_ORG}/{path}"), 400).startswith(message)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("invites", {"email": "x@y.z"}, "role: Field required"),
        ("invites", {"email": "x", "role": "user"}, "email: String should match pattern"),
        ("invites", {"email": "a b@c.d", "role": "user"}, "email: String should match pattern"),
        ("invites", {"email": "a\0@c.d", "role": "user"}, "email: String should match pattern"),
        ("invites", {"email": "x" * 251 + "@y.z", "role": "user"}, "email: String should have at most 254"),
        ("invites", {"email": None, "role": "user"}, "email: Input should be a valid string"),
        ("invites", {"email": "x@y.z", "role": "managed"}, "role: Input should be 'billing'"),
        ("invites", {"email": "x@y.z", "role": 1}, "role: Input should be"),
        ("invites", {"email": "x@y.z", "role": "user", "who": 1}, "who: Extra inputs are not permitted"),
        ("invites", {"email": "x@y.z", "role": "user", "rbac_group_ids": ["g"]}, "rbac_group_ids: This organization"),
        ("invites", {"email": "x@y.z", "role": "user", "rbac_group_ids": 1}, "rbac_group_ids: Input should be a valid"),
        ("users/user_1", {"role": "owner"}, "role: Input should be"),
        ("users/user_1", {"role": "user", "name": "x"}, "name: Extra inputs are not permitted"),
        ("invites/invite_1/accept", {"name": ""}, "name: String should have at least 1 character"),
        (
            "workspaces/w/members",
            {"user_id": 1, "workspace_role": "workspace_user"},
            "user_id: Input should be a valid",
        ),
        ("workspaces/w/members/u", {"workspace_role": "admin"}, "workspace_role: Input should be 'workspace_admin'"),
        ("api_keys/k", {"status": "gone"}, "status: Input should be 'active', 'archived' or 'inactive'"),
        ("api_keys/k", {"key": "sk"}, "key: Extra inputs are not permitted"),
        ("api_keys/k", [], "The request body is not a JSON object"),
        ("api_keys/k", 7, "The request body is not a JSON object"),
    ],
)
def test_bodies_that_there_are_not(office: Office, path: str, body: Any, message: str) -> None:
    before = len(office.acts())
    assert told(office.ask("POST", f"{_ORG}/{path}", body), 400).startswith(message)
    assert len(office.acts()) == before + 1
    assert office.last_act().refused is not None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request body is empty; a JSON object is expected"),
        (b"{", "The request body is not valid JSON"),
        (b'{"name": "\xff"}', "The request body is not valid JSON"),
        (b'{"name": "x"} more', "The request body is not valid JSON"),
        (b"[" * 100_000, "The request body is"),
        (b'{"x": ' + b'{"a":' * 40_000, "x: Extra inputs are not permitted"),
        (b'{"tags": {"a": {"b": 1}}}', "tags.*: Input should be a valid string"),
    ],
)
def test_what_is_not_json(office: Office, body: bytes, message: str) -> None:
    assert told(office.ask("POST", f"{_ORG}/workspaces", content=body), 400).startswith(message)


def test_a_body_that_is_too_large(office: Office) -> None:
    body = b'{"name": "' + b"x" * 300_000 + b'"}'
    assert office.ask("POST", f"{_ORG}/workspaces", content=body).status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/me", "GET, HEAD"),
        ("POST", "/users", "GET, HEAD"),
        ("PUT", "/users/user_1", "GET, HEAD, POST, DELETE"),
        ("DELETE", "/workspaces/wrkspc_1", "GET, HEAD, POST"),
        ("DELETE", "/api_keys/apikey_1", "GET, HEAD, POST"),
        ("GET", "/workspaces/wrkspc_1/archive", "POST"),
        ("PATCH", "/api_keys", "GET, HEAD, POST"),
    ],
)
def test_methods_that_a_path_does_not_answer(office: Office, method: str, path: str, allow: str) -> None:
    reply = office.ask(method, _ORG + path)
    assert reply.status_code == 405
    assert reply.headers["allow"] == allow


@pytest.mark.parametrize(
    "path",
    ["", "/", "/service_accounts", "/federation_issuers", "/rbac_groups", "/external_keys", "/users/", "/webhooks"],
)
def test_paths_that_there_are_not(office: Office, path: str) -> None:
    reply = office.ask("GET", _ORG + path)
    assert reply.status_code == 404
    assert reply.json()["error"] == {"type": "not_found_error", "message": "Not Found"} | {
        name: value for name, value in reply.json()["error"].items() if name == "details"
    }


def test_reading_with_head(office: Office) -> None:
    for path in ("/me", "/users", "/workspaces/wrkspc_default"):
        reply = office.ask("HEAD", _ORG + path)
        assert (reply.status_code, reply.content) == (200, b"")
        assert int(reply.headers["content-length"]) > 2
