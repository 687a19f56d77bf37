"""The feed of activities: its shape, its filters, its pages, who may read it, and that its readers stand in it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from antiphon.admin.acts import Acts
from antiphon.core.errors import PermissionDenied, RateLimited
from antiphon.core.records import DEFAULT_ORGANIZATION, Caller
from antiphon.http.compliance import Compliance
from antiphon.http.exchange import Exchange, Headers
from antiphon.http.routes import Routes
from antiphon.store import activities
from antiphon.store.activities import Activity, Actor
from running import Running, scripted_settings

PATH = "/v1/compliance/activities"
#: A Monday in the past, so that what the test writes lies behind what the server writes itself.
MONDAY_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 8 * 3_600_000
BOSS = Actor("admin_api_key_actor", "apikey_boss", "192.0.2.7", "curl/8")
KINDS: list[tuple[str, Actor]] = [
    ("platform_workspace_created", BOSS),
    ("org_user_invite_sent", Actor("user_actor", "user_1", "192.0.2.8", "Firefox")),
    ("platform_workspace_created", Actor("system_actor", "root")),
    ("platform_api_key_updated", BOSS),
    ("admin_api_key_created", BOSS),
    ("sso_login_failed", Actor("unauthenticated_user_actor", None, "192.0.2.9", None)),
]


def written() -> list[Activity]:
    subjects = ["wrkspc_1", "invite_1", "wrkspc_2", "apikey_1", "apikey_2", None]
    return [
        Activity(
            id=f"activity_{number}",
            organization=DEFAULT_ORGANIZATION,
            created_ms=MONDAY_MS + number * 1000,
            type=kind,
            actor=actor,
            subject=subject,
            refused="no such key" if number == 3 else None,
            old={"name": "a"} if number == 2 else None,
            new={"name": "b"} if number == 2 else None,
        )
        for number, ((kind, actor), subject) in enumerate(zip(KINDS, subjects, strict=True))
    ]


class Pool:
    """Lets through as many as it is told to."""

    def __init__(self) -> None:
        self.left = 10**6

    async def admit(self, caller: Caller) -> Headers:
        assert caller.key_id.startswith("apikey_")
        if not self.left:
            raise RateLimited("too many", retry_after_s=3)
        self.left -= 1
        return [(b"anthropic-ratelimit-requests-remaining", b"%d" % self.left)]


def permit(exchange: Exchange) -> None:
    if exchange.caller is None or not exchange.caller.admin:
        raise PermissionDenied("This route needs an admin key")


def actor_of(exchange: Exchange) -> Actor:
    agent = exchange.header(b"user-agent")
    key_id = exchange.caller.key_id if exchange.caller else None
    return Actor("admin_api_key_actor", key_id, "127.0.0.1", agent.decode() if agent else None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("feed"), "rules: []"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def pool(server: Running) -> Pool:
    """The route, put into the server; and the activities of a Monday."""
    pool, app = Pool(), server.app
    acts = Acts(app.database, app.parts.ids, app.parts.clock)
    feed = Compliance(acts, actor_of=actor_of, permit=permit, admit=pool.admit)
    own = [route for route in app.http._routes._exact.values() if route.path != PATH]
    app.http._routes = Routes([*own, *(route for _, route in app.http._routes._patterns), *feed.routes()])

    async def put() -> None:
        async with app.database.transaction() as connection:
            for each in written():
                await activities.record(DEFAULT_ORGANIZATION, connection, each)

    server.inside(put())
    return pool


@pytest.fixture(scope="module")
def admin(server: Running, pool: Pool) -> str:
    return server.make_key(admin=True)


def ask(server: Running, key: str, query: str = "", method: str = "GET") -> httpx2.Response:
    url = f"{server.base_url}{PATH}?{query}"
    return httpx2.request(method, url, headers={"x-api-key": key, "user-agent": "feed/1"}, timeout=30, trust_env=False)


def found(reply: httpx2.Response) -> list[int]:
    """The numbers of the activities of Monday."""
    assert reply.status_code == 200, reply.text
    return [int(each["id"].removeprefix("activity_")) for each in reply.json()["data"] if len(each["id"]) < 12]


MONDAY = "created_at.lt=2026-10-01T00:00:00Z"


def test_the_shape_is_the_documented_one(server: Running, admin: str) -> None:
    page = ask(server, admin, MONDAY).json()
    assert set(page) == {"data", "has_more", "first_id", "last_id"}
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "activity_5", "activity_0")
    by_number = {each["id"][-1]: each for each in page["data"]}
    common = {"id", "created_at", "organization_id", "organization_uuid", "actor", "type"}
    assert set(by_number["0"]) == common | {"workspace_id"}
    first = by_number["0"]
    assert first["organization_id"] == DEFAULT_ORGANIZATION
    assert str(uuid.UUID(first["organization_uuid"])) == first["organization_uuid"]
    assert first["created_at"] == time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(MONDAY_MS / 1000))
    assert first["actor"] == {
        "type": "admin_api_key_actor",
        "admin_api_key_id": "apikey_boss",
        "ip_address": "192.0.2.7",
        "user_agent": "curl/8",
    }
    assert by_number["1"]["actor"]["user_id"] == "user_1"
    assert by_number["1"]["invite_id"] == "invite_1"
    assert by_number["2"]["actor"] == {"type": "system_actor", "service": "root"}
    assert (by_number["2"]["old"], by_number["2"]["new"]) == ({"name": "a"}, {"name": "b"})
    assert (by_number["3"]["api_key_id"], by_number["3"]["refused"]) == ("apikey_1", "no such key")
    assert by_number["4"]["admin_api_key_id"] == "apikey_2"
    assert "api_key_id" not in by_number["4"]
    assert by_number["5"]["actor"]["type"] == "unauthenticated_user_actor"


def test_the_uuid_is_always_the_same(server: Running, admin: str) -> None:
    uuids = {each["organization_uuid"] for _ in range(2) for each in ask(server, admin).json()["data"]}
    assert len(uuids) == 1


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [5, 4, 3, 2, 1, 0]),
        ("limit=2", [5, 4]),
        ("activity_types[]=platform_workspace_created", [2, 0]),
        ("activity_types=platform_workspace_created&activity_types[1]=sso_login_failed", [5, 2, 0]),
        ("activity_types%5B%5D=not_known_yet", []),
        ("exclude_activity_types[]=platform_workspace_created&exclude_activity_types[]=sso_login_failed", [4, 3, 1]),
        ("actor_ids[]=user_1&actor_ids[]=root", [2, 1]),
        ("actor_ids[]=apikey_boss&activity_types[]=admin_api_key_created", [4]),
        (f"organization_ids[]={DEFAULT_ORGANIZATION}&organization_ids[]=org_x", [5, 4, 3, 2, 1, 0]),
        ("organization_ids[]=org_x", []),
        ("after_id=activity_3", [2, 1, 0]),
        ("before_id=activity_3", [5, 4]),
        ("before_id=activity_1&limit=2", [3, 2]),
        ("after_id=activity_4&activity_types[]=platform_workspace_created&limit=1", [2]),
        ("after_id=", [5, 4, 3, 2, 1, 0]),
        ("something=else", [5, 4, 3, 2, 1, 0]),
    ],
)
def test_filters_and_pages(query: str, numbers: list[int], server: Running, admin: str) -> None:
    assert found(ask(server, admin, f"{MONDAY}&{query}")) == numbers


@pytest.mark.parametrize(
    ("bounds", "numbers"),
    [
        ("gte={3}", [5, 4, 3]),
        ("gt={3}", [5, 4]),
        ("lte={3}", [3, 2, 1, 0]),
        ("lt={3}", [2, 1, 0]),
        ("gt={1}&created_at.lte={3}", [3, 2]),
        ("gte={1}&created_at.gt={2}&created_at.lt={5}&created_at.lte={3}", [3]),
        ("gte={3}.000", [5, 4, 3]),
        ("gte={3}.0001", [5, 4]),
        ("gt={3}.0001", [5, 4]),
        ("lt={3}.0001", [3, 2, 1, 0]),
        ("lte={2}.9999999999", [2, 1, 0]),
        ("lt={0}", []),
    ],
)
@pytest.mark.parametrize("offset", ["Z", "z", "+02:00", "-11:30"])
def test_times_bound_what_is_found(bounds: str, numbers: list[int], offset: str, server: Running, admin: str) -> None:
    hours = {"+02:00": 2.0, "-11:30": -11.5}.get(offset, 0.0)

    def moment(second: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(MONDAY_MS / 1000 + second + hours * 3600))

    query = "&".join(
        f"{bound}{offset}" for bound in bounds.format(*(moment(second) for second in range(6))).split("&")
    ).replace("+", "%2B")
    assert found(ask(server, admin, f"{MONDAY}&created_at.{query}")) == numbers


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("activity_types[]=a&exclude_activity_types[]=b", "exclude_activity_types: "),
        ("limit=0", "limit: "),
        ("limit=5001", "limit: "),
        ("limit=ten", "limit: "),
        ("limit=1e3", "limit: "),
        ("after_id=activity_nope", "after_id: "),
        ("before_id=activity_nope", "before_id: "),
        ("before_id=activity_%00", "before_id: "),
        ("actor_ids[]=%00", "actor_ids: "),
        ("after_id=activity_1&before_id=activity_3", "before_id: "),
        *(
            (f"created_at.{bound}={text}", f"created_at.{bound}: ")
            for bound, text in [
                ("gte", "yesterday"),
                ("gt", "2026-11-23"),
                ("lte", "2026-11-23T08:00:00"),
                ("lt", "20261123T080000Z"),
                ("lt", "2026-02-30T08:00:00Z"),
                ("lt", "2026-11-23T08:00:60Z"),
                ("lt", "2026-11-23T24:00:00Z"),
                ("lt", "2026-11-23T08:00:00+0200"),
                ("lt", "2026-11-23T08:00:00%2B24:00"),
                ("lt", "2026-11-23T08:00:00.Z"),
                ("lt", "0000-01-01T00:00:00Z"),
                ("gte", "1790000000"),
            ]
        ),
    ],
)
def test_what_is_malformed_is_refused_by_name(query: str, path: str, server: Running, admin: str) -> None:
    reply = ask(server, admin, query)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert reply.json()["error"]["message"].startswith(path)


def test_pages_of_a_feed_that_grows_meet_every_activity_once(server: Running, admin: str) -> None:
    """Every request for a page adds an activity at the new end, which a walk to the old end never meets."""
    numbers: list[int] = []
    page: Any = ask(server, admin, f"{MONDAY}&limit=2").json()
    while True:
        numbers += [int(each["id"].removeprefix("activity_")) for each in page["data"]]
        if not page["has_more"]:
            break
        page = ask(server, admin, f"{MONDAY}&limit=2&after_id={page['last_id']}").json()
    assert numbers == [5, 4, 3, 2, 1, 0]


def test_who_reads_the_feed_stands_in_it(server: Running, admin: str) -> None:
    reply = ask(server, admin, "limit=7&actor_ids[]=nobody")
    newest = ask(server, admin, "limit=1").json()["data"][0]
    assert newest["type"] == "compliance_api_accessed"
    assert newest["request_id"] == reply.headers["request-id"]
    assert newest["url"] == f"{PATH}?limit=7&actor_ids[]=nobody"
    assert (newest["request_method"], newest["status_code"]) == ("GET", 200)
    assert newest["actor"]["type"] == "api_actor"
    assert newest["actor"]["api_key_id"].startswith("apikey_01")
    assert newest["actor"]["user_agent"] == "feed/1"
    assert "new" not in newest


def test_who_is_refused_stands_in_it_too(server: Running, admin: str) -> None:
    key = server.make_key(workspace=f"Lab {uuid.uuid4()}")
    replies = [ask(server, key), ask(server, admin, "limit=no")]
    assert [reply.status_code for reply in replies] == [403, 400]
    assert replies[0].json()["error"]["type"] == "permission_error"
    refused = ask(server, admin, "limit=2").json()["data"][::-1]
    for reply, line in zip(replies, refused, strict=True):
        assert line["type"] == "compliance_api_accessed"
        assert line["request_id"] == reply.headers["request-id"]
        assert line["refused"] == reply.json()["error"]["message"]
        assert "status_code" not in line


def test_nobody_reads_it_without_a_key(server: Running, admin: str, pool: Pool) -> None:
    before = ask(server, admin, "limit=1").json()["first_id"]
    left = pool.left
    reply = httpx2.get(f"{server.base_url}{PATH}", timeout=30, trust_env=False)
    assert reply.status_code == 401
    assert pool.left == left
    data = ask(server, admin, f"before_id={before}").json()["data"]
    assert len(data) == 1  # the reading of `before` itself


def test_requests_count_against_the_pool_and_refused_keys_too(server: Running, admin: str, pool: Pool) -> None:
    key = server.make_key(workspace=f"Lab {uuid.uuid4()}")
    left = pool.left
    allowed, refused = ask(server, admin, "limit=1"), ask(server, key)
    assert (allowed.status_code, refused.status_code) == (200, 403)
    assert pool.left == left - 2
    for reply in (allowed, refused):
        assert "anthropic-ratelimit-requests-remaining" in reply.headers


def test_a_head_request_is_answered_alike(server: Running, admin: str) -> None:
    reply = ask(server, admin, MONDAY, method="HEAD")
    assert (reply.status_code, reply.content) == (200, b"")
