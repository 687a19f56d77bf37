"""Rate limits of the organization and its workspaces, read and set through the official SDK and by raw HTTP."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic.types.organization import OrganizationRateLimit
from limits_office import archive, with_limits, workspace

from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE
from antiphon.gate.governing import policy_of
from antiphon.gate.limits import tiers
from antiphon.store import limits
from office import OTHER, Office, told

_RATES = "/v1/organizations/rate_limits"


@pytest.fixture(scope="module")
def place(office: Office) -> Office:
    return with_limits(office, "start")


@pytest.fixture
def sdk(place: Office) -> anthropic.Anthropic:
    return place.client()


@pytest.fixture(scope="module")
def refusing(place: Office) -> str:
    """A workspace of which nothing is set."""
    return workspace(place, "Refusing")


def _entry(sdk: anthropic.Anthropic, model: str) -> OrganizationRateLimit:
    (found,) = sdk.organization.rate_limits.list(model=model).data
    return found


def _values(entry: Any) -> dict[str, int]:
    return {limit.type: limit.value for limit in entry.limits}


def test_every_group_with_its_limits(sdk: anthropic.Anthropic) -> None:
    page = sdk.organization.rate_limits.list()
    assert page.next_page is None
    assert [entry.type for entry in page.data] == ["rate_limit"] * len(tiers.load().groups)
    kinds = [entry.group.type for entry in page.data]
    assert {kind: kinds.count(kind) for kind in ("batch", "files", "token_count")} == {
        "batch": 1,
        "files": 1,
        "token_count": 1,
    }
    ids = [entry.id for entry in page.data]
    groups = [entry.group.id for entry in page.data]
    assert len({*ids, *groups}) == 2 * len(ids)
    assert all(id.startswith("rlg_01") and len(id) == 28 for id in (*ids, *groups))
    # The beta namespace is the same.
    assert [entry.id for entry in sdk.beta.organization.rate_limits.list().data] == ids


def test_one_models_limits_by_any_of_its_names(sdk: anthropic.Anthropic) -> None:
    entry = _entry(sdk, "claude-opus-5")
    assert _values(entry) == {
        "requests_per_minute": 1_000,
        "input_tokens_per_minute_cache_aware": 2_000_000,
        "output_tokens_per_minute": 400_000,
    }
    assert entry.group.type == "model_group"
    assert entry.group.display_name == "Claude Opus 5"
    assert entry.models == ["claude-opus-5"]
    dated = _entry(sdk, "claude-haiku-4-5-20251001")
    assert dated.models is not None
    assert {"claude-haiku-4-5", "claude-haiku-4-5-20251001"} <= set(dated.models)
    assert _entry(sdk, "claude-haiku-4-5").id == dated.id
    # The old model whose reads from the cache count is told by the limiter's name.
    assert "input_tokens_per_minute" in _values(_entry(sdk, "claude-3-5-haiku-20241022"))
    own = _entry(sdk, "qwen2.5-coder-1.5b-instruct")
    assert own.models is not None
    assert "qwen2.5-coder-1.5b-instruct" in own.models
    assert not {"claude-opus-5", "claude-haiku-4-5"} & set(own.models)


def test_filters_and_what_is_not_there(place: Office, sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: gpt-9"):
        sdk.organization.rate_limits.list(model="gpt-9")
    (batch,) = sdk.organization.rate_limits.list(group_type="batch").data
    assert batch.models is None
    assert _values(batch)["enqueued_batch_requests"] == 200_000
    assert sdk.organization.rate_limits.list(group_type="web_search").data == []
    assert sdk.organization.rate_limits.list(group_type="files", model="claude-opus-5").data == []
    assert "group_type" in told(place.ask("GET", f"{_RATES}?group_type=cars"), 400)


def test_pages(place: Office, sdk: anthropic.Anthropic) -> None:
    whole = [entry.id for entry in sdk.organization.rate_limits.list().data]
    walked = [entry.id for entry in sdk.organization.rate_limits.list(limit=4)]
    assert walked == whole
    first = sdk.organization.rate_limits.list(limit=4)
    assert (len(first.data), first.next_page is None) == (4, False)
    assert sdk.organization.rate_limits.list(limit=1000).next_page is None
    for query in ("limit=0", "limit=1001", "limit=x", "page=x", "page=page_WyJ4Il0", "page=page_e30"):
        assert told(place.ask("GET", f"{_RATES}?{query}"), 400).startswith(query.split("=")[0])


def test_a_workspace_sets_and_clears_its_own(place: Office, sdk: anthropic.Anthropic) -> None:
    mine = workspace(place, "Own")
    rates = sdk.organization.workspaces.rate_limits
    entry = _entry(sdk, "claude-opus-5")
    assert rates.list(mine).data == []
    made = rates.update(
        entry.id,
        workspace_id=mine,
        limits=[
            {"type": "requests_per_minute", "value": 50},
            {"type": "input_tokens_per_minute_cache_aware", "value": 9_000_000},
        ],
    )
    assert (made.type, made.rate_limit_id, made.workspace_id) == ("workspace_rate_limit", entry.id, mine)
    told_ = {limit.type: (limit.value, limit.org_limit, limit.source.type) for limit in made.limits}
    # What is above the organization's limit is stored as it is.
    assert told_ == {
        "requests_per_minute": (50, 1_000, "workspace"),
        "input_tokens_per_minute_cache_aware": (9_000_000, 2_000_000, "workspace"),
    }
    (listed,) = rates.list(mine).data
    assert listed == made
    inherited = rates.list(mine, include_inherited=True).data
    assert len(inherited) == len(tiers.load().groups)
    (same,) = [found for found in inherited if found.rate_limit_id == entry.id]
    assert {limit.type: limit.source.type for limit in same.limits} == {
        "requests_per_minute": "workspace",
        "input_tokens_per_minute_cache_aware": "workspace",
        "output_tokens_per_minute": "organization",
    }
    assert [limit.value for limit in same.limits if limit.source.type == "organization"] == [400_000]
    assert rates.list(mine, group_type="batch").data == []
    # The other one is not touched, and the SDK's other name for the input limit is understood.
    rates.update(entry.id, workspace_id=mine, limits=[{"type": "requests_per_minute", "value": None}])
    left = rates.update(entry.id, workspace_id=mine, limits=[{"type": "input_tokens_per_minute", "value": 7}])
    assert _values(left) == {"input_tokens_per_minute_cache_aware": 7}
    act = place.last_act()
    assert (act.type, act.workspace, act.subject) == ("platform_workspace_rate_limit_updated", mine, entry.id)
    assert act.old == {"group": "opus_5", "limits": {"input_tokens_per_minute": 9_000_000}}
    assert act.new == {"group": "opus_5", "limits": {"input_tokens_per_minute": 7}}
    cleared = rates.update(entry.id, workspace_id=mine, limits=[{"type": "input_tokens_per_minute", "value": None}])
    assert cleared.limits == []
    assert place.last_act().type == "platform_workspace_rate_limit_deleted"
    assert rates.list(mine).data == []


def test_what_is_set_is_what_a_server_enforces(place: Office, sdk: anthropic.Anthropic) -> None:
    mine = workspace(place, "Enforced")
    entry = _entry(sdk, "claude-sonnet-5")
    rates = sdk.organization.workspaces.rate_limits
    rates.update(entry.id, workspace_id=mine, limits=[{"type": "requests_per_minute", "value": 3}])

    async def rows() -> Any:
        async with place.database.reading() as connection:
            return await limits.all_rate_limits(DEFAULT_ORGANIZATION, connection)

    policy = policy_of(tiers.load(), "start", place.inside(rows()))
    found = {limit.kind: (limit.value, limit.enforced) for limit in policy.workspace_limits(mine, "sonnet_5")}
    assert found["requests_per_minute"] == (3, 3)


def test_the_organizations_own_are_set_over_the_tiers(place: Office, sdk: anthropic.Anthropic) -> None:
    entry = _entry(sdk, "claude-sonnet-5-5")
    path = f"{_RATES}/{entry.id}"
    try:
        reply = place.ask("POST", path, {"limits": [{"type": "requests_per_minute", "value": 5}]})
        assert reply.status_code == 200
        assert _values(_entry(sdk, "claude-sonnet-5-5"))["requests_per_minute"] == 5
        act = place.last_act()
        assert (act.type, act.old) == (
            "platform_organization_rate_limit_updated",
            {"group": "sonnet_5_5", "limits": {"requests_per_minute": None}},
        )
    finally:
        place.ask("POST", path, {"limits": [{"type": "requests_per_minute", "value": None}]})
    assert _entry(sdk, "claude-sonnet-5-5") == entry


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"limits": []}, "limits"),
        ({"limits": [{"type": "requests_per_minute", "value": 1}] * 17}, "limits"),
        ({"limits": [{"type": "requests_per_minute", "value": 1}] * 2}, "limits.1.type: This limit is named twice"),
        ({"limits": [{"type": "tokens_per_day", "value": 1}]}, "limits.0.type"),
        ({"limits": [{"type": "enqueued_batch_requests", "value": 1}]}, "limits.0.type"),
        ({"limits": [{"type": "requests_per_minute", "value": -1}]}, "limits.0.value"),
        ({"limits": [{"type": "requests_per_minute", "value": 10**11}]}, "limits.0.value"),
        ({"limits": [{"type": "requests_per_minute", "value": True}]}, "limits.0.value"),
        ({"limits": [{"type": "requests_per_minute"}]}, "limits.0.value: Field required"),
        ({"limit": []}, "limit"),
        ({}, "limits: Field required"),
    ],
)
def test_what_cannot_be_set(place: Office, sdk: anthropic.Anthropic, refusing: str, body: Any, says: str) -> None:
    mine = _entry(sdk, "claude-opus-5").id
    before = len(place.acts())
    reply = place.ask("POST", f"/v1/organizations/workspaces/{refusing}/rate_limits/{mine}", body)
    assert told(reply, 400).startswith(says)
    assert sdk.organization.workspaces.rate_limits.list(refusing).data == []
    # A refused one stands in the audit too.
    act = place.last_act()
    assert len(place.acts()) == before + 1
    assert act.refused is not None
    assert act.type == "platform_workspace_rate_limit_updated"


def test_workspaces_that_have_no_limits(place: Office, sdk: anthropic.Anthropic) -> None:
    rates = sdk.organization.workspaces.rate_limits
    entry = _entry(sdk, "claude-opus-5")
    one: Any = [{"type": "requests_per_minute", "value": 1}]
    with pytest.raises(anthropic.BadRequestError, match="default workspace"):
        rates.update(entry.id, workspace_id=DEFAULT_WORKSPACE, limits=one)
    assert rates.list(DEFAULT_WORKSPACE).data == []
    assert len(rates.list(DEFAULT_WORKSPACE, include_inherited=True).data) == len(tiers.load().groups)
    gone = workspace(place, "Gone")
    archive(place, gone)
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        rates.update(entry.id, workspace_id=gone, limits=one)


def test_ids_of_another_organization_are_ids_that_there_are_not(place: Office, sdk: anthropic.Anthropic) -> None:
    rates = sdk.organization.workspaces.rate_limits
    theirs = place.client(place.foreign_admin)
    entry, foreign = _entry(sdk, "claude-opus-5"), _entry(theirs, "claude-opus-5")
    assert entry.id != foreign.id
    assert entry.group.id == foreign.group.id
    mine = workspace(place, "Ids")
    one: Any = [{"type": "requests_per_minute", "value": 1}]
    answers = []
    for id in (foreign.id, "rlg_01nothing"):
        with pytest.raises(anthropic.NotFoundError) as refusal:
            rates.update(id, workspace_id=mine, limits=one)
        answers.append(refusal.value.message.partition("request_id")[0])
    assert len(set(answers)) == 1
    for wanted in (place.foreign["workspace_id"], "wrkspc_01nothing"):
        with pytest.raises(anthropic.NotFoundError, match="Workspace not found"):
            rates.list(wanted)
        with pytest.raises(anthropic.NotFoundError, match="Workspace not found"):
            rates.update(entry.id, workspace_id=wanted, limits=one)
    assert place.acts(OTHER) == []


def test_who_may(place: Office, sdk: anthropic.Anthropic) -> None:
    path = f"{_RATES}/{_entry(sdk, 'claude-opus-5').id}"
    body = {"limits": [{"type": "requests_per_minute", "value": 1}]}
    assert place.ask("GET", _RATES, key=place.key()).status_code == 403
    developer = place.key(user=place.user("developer").id)
    assert place.ask("GET", _RATES, key=developer).status_code == 200
    assert "may not change rate limits" in told(place.ask("POST", path, body, key=developer), 403)
    assert place.last_act().refused is not None
    assert place.ask("DELETE", path).status_code == 405
