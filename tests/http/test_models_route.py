"""`GET /v1/models` through the official SDK: pages, stages, capabilities that are true, and whose rules bind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from antiphon.core.records import DEFAULT_ORGANIZATION, Profile, Scope
from antiphon.routing.known import claude_models
from antiphon.store import workspaces
from running import Running, scripted_settings

#: The SDK's own word about old ids, which is not what is asked here.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")

USER: Any = [{"role": "user", "content": "Hello"}]
OLD = {"anthropic-version": "2023-06-01"}
KNOWN = {model.id: model.lifecycle for model in claude_models()}
RETIRED = {id_ for id_, lifecycle in KNOWN.items() if lifecycle == "retired"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("models"), "rules: []"))
    yield running
    running.close()


async def _set(server: Running, name: str, profile: Profile) -> None:
    async with server.app.database.transaction() as connection:
        found = await workspaces.find(DEFAULT_ORGANIZATION, connection, name)
        await workspaces.set_profile(Scope(found.organization, found.id), connection, profile)
    await server.app.gate.load()


@pytest.fixture(scope="module")
def bound(server: Running) -> anthropic.Anthropic:
    """A client of a workspace whose profile is `claude`, on the same server."""
    key = server.make_key(workspace="Bound")
    server.inside(_set(server, "Bound", "claude"))
    return server.client(api_key=key, timeout=60)


@pytest.fixture(scope="module")
def free(server: Running) -> anthropic.Anthropic:
    """A client of a workspace that is as the installation is set."""
    return server.client(timeout=60)


def get(server: Running, query: str, method: str = "GET", path: str = "/v1/models") -> httpx2.Response:
    return httpx2.request(method, f"{server.base_url}{path}?{query}", headers={"x-api-key": server.key})


def told(reply: httpx2.Response) -> str:
    assert reply.status_code == 400
    return str(reply.json()["error"]["message"])


# -- the list


@pytest.mark.behaviour("messages-and-inference-1-models-pages", "messages-and-inference-14.2-lifecycle")
@pytest.mark.behaviour(
    "client-surface-0-page-ends",
    "client-surface-1.7-page",
    "client-surface-1.7-walks-both-ways",
    "client-surface-4.2-after-and-before",
    "client-surface-4.2-lifecycle",
    "client-surface-4.2-fields",
    "client-surface-4.2-dates",
)
@pytest.mark.parametrize(
    ("asked", "stages"),
    [
        (anthropic.omit, {"active", "deprecated"}),
        (["active"], {"active"}),
        (["retired"], {"retired"}),
        (["deprecated", "retired"], {"deprecated", "retired"}),
        (["active", "deprecated", "retired"], {"active", "deprecated", "retired"}),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_the_sdk_pages_through_the_stages_it_asks_for(
    free: anthropic.Anthropic, asked: Any, stages: set[str], limit: int
) -> None:
    found = list(free.models.list(lifecycle=asked, limit=limit))
    expected = {id_ for id_, lifecycle in KNOWN.items() if lifecycle in stages}
    assert {model.id for model in found} == expected | ({"scripted"} if "active" in stages else set())
    assert len({model.id for model in found}) == len(found)
    assert {model.lifecycle for model in found} == stages
    dates = [model.created_at for model in found]
    assert dates == sorted(dates, reverse=True)
    for model in found:
        assert (model.deprecated_at is None) or model.lifecycle != "active"
        assert (model.retires_at is None) == (model.lifecycle == "active")


@pytest.mark.behaviour("messages-and-inference-1-models-pages")
@pytest.mark.behaviour("client-surface-1.7-walks-both-ways", "client-surface-4.2-after-and-before")
def test_walking_back_from_the_end_sees_all_but_the_last(free: anthropic.Anthropic) -> None:
    ids = [model.id for model in free.models.list(limit=1000)]
    assert {model.id for model in free.models.list(before_id=ids[-1], limit=4)} == set(ids[:-1])


@pytest.mark.behaviour("client-surface-0-array-queries", "client-surface-4.2-lifecycle")
@pytest.mark.parametrize(
    "query",
    [
        "lifecycle=retired",
        "lifecycle[]=retired",
        "lifecycle%5B%5D=retired",
        "lifecycle[0]=retired",
        "lifecycle[]=retired&lifecycle[]=retired",
        "lifecycle=retired&lifecycle[]=retired",
    ],
)
def test_every_way_to_write_a_list_in_a_query(server: Running, query: str) -> None:
    assert {model["id"] for model in get(server, query).json()["data"]} == RETIRED


@pytest.mark.behaviour("client-surface-1.7-page-default")
@pytest.mark.parametrize("query", ["", "beta=true&workspace_id=x", "limit=&lifecycle[]=&after_id=", "lifecycles=x", "limit=20", "limit=%2B20"])  # fmt: skip
def test_what_means_nothing_here_is_let_be(server: Running, query: str) -> None:
    assert get(server, query).json() == get(server, "limit=20").json()


@pytest.mark.behaviour("client-surface-1.7-page", "client-surface-4.2-limit")
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=x", "limit: Input should be a valid integer"),
        ("limit=1.5", "limit: Input should be a valid integer"),
        ("limit=%C2%B2", "limit: Input should be a valid integer"),
        ("limit=%D9%A3", "limit: Input should be a valid integer"),
        ("limit=" + "9" * 5000, "limit: Input should be a valid integer"),
        ("limit=0", "limit: Input should be greater than or equal to 1"),
        ("limit=-7", "limit: Input should be greater than or equal to 1"),
        ("limit=1001", "limit: Input should be less than or equal to 1000"),
        ("lifecycle[]=active&lifecycle[]=old", "lifecycle.1: Input should be 'active', 'deprecated' or 'retired'"),
        ("lifecycle=Active", "lifecycle.0: Input should be"),
        ("after_id=nobody", "after_id: no model has the id `nobody`"),
        ("before_id=nobody", "before_id: no model has the id `nobody`"),
        ("after_id=scripted&before_id=scripted", "before_id: only one of"),
    ],
)
def test_what_is_malformed_is_named(server: Running, query: str, message: str) -> None:
    assert told(get(server, query)).startswith(message)


def test_head_answers_like_get_without_a_body(server: Running) -> None:
    got, head = get(server, "limit=2"), get(server, "limit=2", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


# -- one model


@pytest.mark.behaviour("client-surface-4.2-retrieve")
@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
        ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5-20250929"),
        ("claude-3-7-sonnet-latest", "claude-3-7-sonnet-20250219"),
        ("claude-opus-6", "claude-opus-6"),
        ("claude-haiku-6-20270101", "claude-haiku-6-20270101"),
        ("scripted", "scripted"),
    ],
)
def test_one_model_by_any_name_it_is_written_as(free: anthropic.Anthropic, asked: str, meant: str) -> None:
    assert free.models.retrieve(asked).id == meant
    if meant not in RETIRED:
        answer = free.messages.create(model=asked, max_tokens=2, messages=USER)
        assert answer.model == asked


@pytest.mark.behaviour("client-surface-1.6-status-404", "client-surface-4.2-retrieve")
@pytest.mark.parametrize("asked", ["gpt-5", "anthropic/claude-opus-5", "claude", "caf\u00e9", "a%2Fb"])
def test_what_is_nothing_here_is_not_found(free: anthropic.Anthropic, asked: str) -> None:
    with pytest.raises(anthropic.NotFoundError):
        free.models.retrieve(asked)


@pytest.mark.behaviour("messages-and-inference-14.2-model-object")
@pytest.mark.behaviour("client-surface-4.2-fields", "client-surface-4.2-capabilities")
def test_the_whole_object_is_as_the_contract_has_it(server: Running) -> None:
    model = get(server, "", path="/v1/models/claude-opus-5-5").json()
    tree = model.pop("capabilities")
    assert set(model) == {
        "id", "type", "display_name", "created_at", "lifecycle", "line", "max_input_tokens", "max_tokens",
        "deprecated_at", "retires_at",
    }  # fmt: skip
    assert set(tree) == {
        "batch", "citations", "code_execution", "context_management", "effort", "image_input", "pdf_input",
        "server_tools", "structured_outputs", "thinking",
    }  # fmt: skip
    assert set(tree["context_management"]) == {
        "supported", "clear_thinking_20251015", "clear_tool_uses_20250919", "compact_20260112",
    }  # fmt: skip
    assert set(tree["effort"]) == {"supported", "low", "medium", "high", "xhigh", "max"}
    assert set(tree["server_tools"]) == {"supported", "code_execution", "web_search"}
    assert set(tree["thinking"]) == {"supported", "types"}
    assert set(tree["thinking"]["types"]) == {"adaptive", "between_tools", "disabled", "enabled"}


# -- whose rules bind


@pytest.mark.behaviour("client-surface-2.1-messages-prefill-refused")
def test_two_workspaces_of_one_server_with_different_profiles(
    free: anthropic.Anthropic, bound: anthropic.Anthropic
) -> None:
    asked: dict[str, Any] = {"model": "claude-opus-4-6", "max_tokens": 3, "messages": [*USER, {"role": "assistant", "content": "So"}]}  # fmt: skip
    assert free.messages.create(**asked).usage.output_tokens == 3
    with pytest.raises(anthropic.BadRequestError, match="prefill"):
        bound.messages.create(**asked)
    with pytest.raises(anthropic.BadRequestError, match="prefill"):
        bound.messages.count_tokens(model="claude-opus-4-6", messages=asked["messages"])
    assert free.models.retrieve("claude-haiku-4-5").max_tokens == bound.models.retrieve("claude-haiku-4-5").max_tokens
    assert free.models.retrieve("claude-3-opus-latest").max_tokens is not None
    assert bound.models.retrieve("claude-3-opus-latest").max_tokens is None


def test_retired_ids_run_on_and_fail_only_where_their_own_rules_bind(
    free: anthropic.Anthropic, bound: anthropic.Anthropic
) -> None:
    for retired in [*RETIRED, "claude-opus-4-1", "claude-3-5-haiku-latest"]:
        assert free.messages.create(model=retired, max_tokens=1, messages=USER).model == retired
        with pytest.raises(anthropic.NotFoundError) as raised:
            bound.messages.create(model=retired, max_tokens=1, messages=USER)
        assert raised.value.body["error"] == {"type": "not_found_error", "message": f"model: {retired}"}  # type: ignore[index]
        assert bound.models.retrieve(retired).lifecycle == "retired"


# -- what is advertised is true

THINKING: dict[str, dict[str, Any]] = {
    "adaptive": {"thinking": {"type": "adaptive"}},
    "between_tools": {"thinking": {"type": "between_tools"}},
    "disabled": {"thinking": {"type": "disabled"}},
    "enabled": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
}
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
FORMAT: dict[str, Any] = {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
#: Accepted as hints by models that do nothing with them, so a false one need not be refused.
HINTS = {"adaptive", "low", "medium", "high", "xhigh", "max"}


def accepted(client: anthropic.Anthropic, id_: str, change: dict[str, Any]) -> bool:
    """Whether such a request would be answered, told by counting it: that checks all and makes nothing."""
    body = {"model": id_, "messages": USER} | {name: change[name] for name in change if name != "max_tokens"}
    try:
        client.post("/v1/messages/count_tokens", body=body, cast_to=object, options={"headers": OLD})
    except anthropic.BadRequestError:
        return False
    return True


@pytest.mark.behaviour("messages-and-inference-14.2-capabilities")
@pytest.mark.behaviour("client-surface-4.2-capabilities-true")
@pytest.mark.parametrize("whose", ["free", "bound"])
def test_every_listed_id_can_be_asked_and_does_what_it_advertises(request: pytest.FixtureRequest, whose: str) -> None:
    client: anthropic.Anthropic = request.getfixturevalue(whose)
    for model in client.models.list(limit=1000):
        assert accepted(client, model.id, {})
        assert model.capabilities is not None
        types, levels = model.capabilities.thinking.types, model.capabilities.effort
        asked = {name: (getattr(types, name).supported, change) for name, change in THINKING.items()}
        for level in ("low", "medium", "high", "xhigh", "max"):
            asked[level] = (getattr(levels, level).supported, {"output_config": {"effort": level}})
        asked["structured_outputs"] = (model.capabilities.structured_outputs.supported, FORMAT)
        for name, (advertised, change) in asked.items():
            took = accepted(client, model.id, change)
            assert took or not advertised, f"{model.id} advertises {name} and refuses it"
            assert advertised or not took or name in HINTS, f"{model.id} takes {name} and does not advertise it"
