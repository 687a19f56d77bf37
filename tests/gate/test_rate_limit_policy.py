"""Limits as data: the documented tiers, what an organization and its workspaces set over them, and what is refused."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import pytest

from antiphon.core.errors import InvalidRequest, SettingsError
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope
from antiphon.gate.limits import tiers
from antiphon.gate.limits.policy import OwnLimits, Policy
from antiphon.routing.known import claude_models

_BOOK = tiers.load()
_A = Scope(DEFAULT_ORGANIZATION, "wrkspc_a")
_DEFAULT = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)


_Figures: TypeAlias = tuple[int, int, int]
_FABLE: dict[str, _Figures] = {
    "start": (1_000, 500_000, 100_000),
    "build": (2_000, 1_500_000, 300_000),
    "scale": (4_000, 4_000_000, 800_000),
}
_USUAL: dict[str, _Figures] = {
    "start": (1_000, 2_000_000, 400_000),
    "build": (5_000, 5_000_000, 1_000_000),
    "scale": (10_000, 10_000_000, 2_000_000),
}
_HAIKU_3_5: dict[str, _Figures] = {
    "start": (1_000, 100_000, 20_000),
    "build": (2_000, 200_000, 40_000),
    "scale": (4_000, 400_000, 80_000),
}


@pytest.mark.parametrize(
    ("models", "figures"),
    [
        pytest.param("fable-5 fable-5-1 fable-5-2", _FABLE, marks=pytest.mark.behaviour("messages-and-inference-13-fable")),
        *(pytest.param(models, _USUAL, marks=pytest.mark.behaviour("messages-and-inference-13-opus-sonnet-haiku")) for models in ("opus-5", "opus-4-8 opus-4-7 opus-4-6 opus-4-5-20251101", "sonnet-5", "sonnet-4-6 sonnet-4-5-20250929", "haiku-4-5-20251001")),
        pytest.param("3-5-haiku-20241022", _HAIKU_3_5, marks=pytest.mark.behaviour("messages-and-inference-13-haiku-3-5")),
    ],
)  # fmt: skip
def test_the_documented_figures(models: str, figures: dict[str, _Figures]) -> None:
    """The models of a row share its limits, and no other model does."""
    (group,) = {_BOOK.group_of(f"claude-{model}") for model in models.split()}
    assert set(_BOOK.groups[group].models) == {f"claude-{model}" for model in models.split()}
    for tier, expected in figures.items():
        limits = Policy(_BOOK, tier).organization_limits(group)
        assert (
            limits["requests_per_minute"],
            limits["input_tokens_per_minute"],
            limits["output_tokens_per_minute"],
        ) == expected


@pytest.mark.behaviour("messages-and-inference-13-newest")
def test_the_newest_have_rows_of_their_own() -> None:
    for line in ("opus", "sonnet", "haiku"):
        assert _BOOK.groups[_BOOK.group_of(f"claude-{line}-5-5")].models == (f"claude-{line}-5-5",)


@pytest.mark.behaviour("messages-and-inference-13-tiers")
def test_the_tiers_and_their_monthly_caps() -> None:
    assert {name: tier.monthly_spend_cap_usd for name, tier in _BOOK.tiers.items()} == {
        "evaluation": None,
        "start": 500,
        "build": 1_000,
        "scale": 200_000,
        "custom": None,
        "machine": None,
    }


@pytest.mark.behaviour("messages-and-inference-8-limits", "messages-and-inference-13-pool-of-counting")
def test_the_endpoints_have_pools_of_their_own() -> None:
    scale = Policy(_BOOK, "scale")
    counting = [Policy(_BOOK, tier).organization_limits("token_count") for tier in ("start", "build", "scale")]
    assert counting == [{"requests_per_minute": requests} for requests in (2_000, 4_000, 8_000)]
    assert scale.organization_limits("batch") == {"requests_per_minute": 4_000, "enqueued_batch_requests": 500_000}
    names = {bucket.name for group in _BOOK.groups for bucket in scale.rules(_DEFAULT, group).requests}
    assert len(names) == len(_BOOK.groups)
    assert scale.rules(_DEFAULT, "batch").input == ()


def test_tiers_rise_and_the_machines_own_is_far_above() -> None:
    order = ("evaluation", "start", "build", "scale", "machine")
    for lower, higher in itertools.pairwise(order):
        for group, limits in _BOOK.tier(lower).limits.items():
            for kind, value in limits.items():
                assert value <= _BOOK.tier(higher).limits[group][kind], (lower, higher, group, kind)
    for limits in _BOOK.tier("machine").limits.values():
        assert limits["requests_per_minute"] >= 10_000_000


def test_every_active_model_has_a_group_and_older_ones_share_one() -> None:
    for model in claude_models():
        if model.lifecycle == "active":
            assert _BOOK.group_of(model.id) != tiers.OTHER, model.id
    assert _BOOK.group_of("claude-opus-4-8") == _BOOK.group_of("claude-opus-4-5-20251101") == "opus_4"
    assert _BOOK.group_of("qwen2.5-coder-1.5b-instruct") == tiers.OTHER
    known = {model.id for model in claude_models()}
    assert {model for group in _BOOK.groups.values() for model in group.models} <= known


@pytest.mark.behaviour("messages-and-inference-13-workspace-limits")
def test_the_lower_of_two_limits_is_enforced() -> None:
    own: OwnLimits = {
        "opus_5": {"requests_per_minute": 100, "input_tokens_per_minute": 9_000_000, "output_tokens_per_minute": None}
    }
    policy = Policy(_BOOK, "start", workspaces={"wrkspc_a": own})
    rules = policy.rules(_A, "opus_5")
    assert [(bucket.limit, bucket.of_workspace) for bucket in rules.requests] == [(1_000, False), (100, True)]
    # Stored, but the organization's is lower and counts all that the workspace uses.
    assert [(bucket.limit, bucket.of_workspace) for bucket in rules.input] == [(2_000_000, False)]
    assert [(bucket.limit, bucket.of_workspace) for bucket in rules.output] == [(400_000, False)]
    shown = {limit.kind: limit for limit in policy.workspace_limits("wrkspc_a", "opus_5")}
    assert (shown["requests_per_minute"].value, shown["requests_per_minute"].enforced) == (100, 100)
    entered = shown["input_tokens_per_minute"]
    assert (entered.value, entered.org_limit, entered.enforced, entered.own) == (9_000_000, 2_000_000, 2_000_000, True)
    assert not shown["output_tokens_per_minute"].own


@pytest.mark.behaviour("messages-and-inference-13-per-class")
def test_workspaces_share_the_organizations_bucket_and_nothing_else() -> None:
    lower: OwnLimits = {"opus_5": {"requests_per_minute": 10}}
    policy = Policy(_BOOK, "start", workspaces={"wrkspc_a": lower, "wrkspc_b": lower})
    first = policy.rules(_A, "opus_5").requests
    second = policy.rules(Scope(DEFAULT_ORGANIZATION, "wrkspc_b"), "opus_5").requests
    third = policy.rules(_DEFAULT, "opus_5").requests
    assert first[0] == second[0] == third[0]
    assert first[1].name != second[1].name
    assert len(third) == 1


def test_an_organizations_own_limits_go_over_the_tiers() -> None:
    policy = Policy(_BOOK, "custom", {"opus_5": {"requests_per_minute": 123_456}})
    assert policy.organization_limits("opus_5")["requests_per_minute"] == 123_456
    assert policy.organization_limits("opus_5")["input_tokens_per_minute"] == 10_000_000
    assert policy.organization_limits("sonnet_5")["requests_per_minute"] == 10_000


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"opus_9": {"requests_per_minute": 1}}, "no group `opus_9`"),
        ({"token_count": {"output_tokens_per_minute": 1}}, "has no limit `output_tokens_per_minute`"),
        ({"opus_5": {"requests_per_minute": -1}}, "between 0 and"),
        ({"opus_5": {"requests_per_minute": tiers.HIGHEST + 1}}, "between 0 and"),
    ],
)
def test_what_cannot_be_set(own: OwnLimits, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Policy(_BOOK, "start", own)
    with pytest.raises(InvalidRequest, match=said):
        Policy(_BOOK, "start", workspaces={"wrkspc_a": own})


@pytest.mark.behaviour("messages-and-inference-13-workspace-limits")
def test_the_default_workspace_has_no_limits_of_its_own() -> None:
    with pytest.raises(InvalidRequest, match="default workspace"):
        Policy(_BOOK, "start", workspaces={DEFAULT_WORKSPACE: {"opus_5": {"requests_per_minute": 1}}})


def test_an_unknown_tier() -> None:
    with pytest.raises(SettingsError, match="Known are: evaluation, start"):
        Policy(_BOOK, "tier_4")


_GROUPS = """
[groups.other]
type = "model_group"
display_name = "Other"
[groups.token_count]
type = "token_count"
display_name = "Counting"
[groups.batch]
type = "batch"
display_name = "Batches"
[groups.files]
type = "files"
display_name = "Files"
[tiers.own]
display_name = "Own"
[tiers.own.limits]
token_count = { requests_per_minute = 1 }
batch = { requests_per_minute = 1, enqueued_batch_requests = 1 }
files = { requests_per_minute = 1 }
"""
_OTHER = "other = { requests_per_minute = 1, input_tokens_per_minute = 1, output_tokens_per_minute = 1 }\n"


def test_a_book_of_ones_own() -> None:
    assert Policy(tiers.book_of(_GROUPS + _OTHER), "own").organization_limits("files") == {"requests_per_minute": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[groups", "cannot be read"),
        (_GROUPS, "does not limit input_tokens_per_minute, output_tokens_per_minute, requests_per_minute of `other`"),
        (_GROUPS + _OTHER.replace("input_tokens_per_minute = 1, ", ""), "does not limit input_tokens_per_minute"),
        (_GROUPS + _OTHER.replace("= 1,", "= -1,"), ">= 0"),
        (_GROUPS + _OTHER.replace("= 1,", "= 1.5,"), "int"),
        (_GROUPS + _OTHER + "opus = { requests_per_minute = 1 }", "unknown groups: opus"),
        (_GROUPS.replace("[groups.files]", "[groups.folders]") + _OTHER, "the group `files` is missing"),
        (_GROUPS + _OTHER.replace("input_tokens", "inputs"), "inputs_per_minute"),
        (
            "[groups.a]\ntype = 'model_group'\ndisplay_name = 'A'\nmodels = ['m']\n"
            "[groups.b]\ntype = 'model_group'\ndisplay_name = 'B'\nmodels = ['m']\n" + _GROUPS + _OTHER,
            "in more than one group: m",
        ),
        (_GROUPS.replace("display_name = 'Own'", "displayname = 'Own'") + _OTHER + "[tiers.x]\nn = 1", "unknown field"),
    ],
)
def test_a_book_that_is_not_whole(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        tiers.book_of(text)
