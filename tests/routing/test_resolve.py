from __future__ import annotations

from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.routing import catalogue
from antiphon.routing.catalogue import SCRIPTED, ModelCard, Tier
from antiphon.routing.known import ClaudeModel, Lifecycle, claude_models
from antiphon.routing.prices import Prices
from antiphon.routing.resolve import Router


def card(name: str, *tiers: Tier, day: int = 1, window: int = 1000) -> ModelCard:
    return ModelCard(
        name=name,
        display_name=name.upper(),
        tiers=tiers,
        window=window,
        max_output=window // 2,
        created=date(2026, 1, day),
    )


#: Serves no tier, and so needs a price of its own.
DEFAULT = msgspec.structs.replace(card("first", day=3, window=1000), prices=Prices(input="1", output="5"))
OPUS = card("big", "opus", day=2, window=4000)
SMALL = card("small", "haiku", "sonnet", day=1, window=500)
SECOND_HAIKU = card("other", "haiku", day=4)


@pytest.fixture
def router() -> Router:
    return Router([DEFAULT, OPUS, SMALL, SECOND_HAIKU])


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ("first", DEFAULT),
        ("small", SMALL),
        ("claude-opus-5-5", OPUS),
        ("claude-opus-4-5-20251101", OPUS),
        ("claude-3-opus-20240229", OPUS),
        ("claude-opus-5[1m]", OPUS),
        ("claude-sonnet-4-5[1M][1m]", SMALL),
        ("claude-opus-6", OPUS),
        ("claude-haiku-6-20270101", SMALL),
        ("claude-3-5-haiku-latest", SMALL),
        ("claude-fable-5-2", OPUS),
        ("claude-mythos-preview", OPUS),
        ("claude-sonnet-5-5", SMALL),
        ("claude-3-5-sonnet-latest", SMALL),
        ("claude-haiku-4-5", SMALL),
        ("claude-instant-1", DEFAULT),
        ("claude-9", DEFAULT),
    ],
)
def test_names_and_claude_ids_find_their_model(router: Router, asked: str, answers: ModelCard) -> None:
    route = router.resolve(asked)
    assert route.model == answers
    assert route.requested == asked
    assert route.attempt == 1
    assert route.by_alias == (asked != answers.name)


@pytest.mark.parametrize(
    "asked",
    [
        "gpt-5",
        "First",
        "first ",
        "claude",
        "my-claude-opus",
        "Claude-opus-5",
        "opus",
        "",
        "qwen2.5-coder-1.5b-instruct",
        "anthropic/claude-opus-5-5",
        "first[1m]",
    ],
)
def test_what_is_not_served_is_not_found_in_the_words_of_the_api(router: Router, asked: str) -> None:
    with pytest.raises(NotFound) as raised:
        router.resolve(asked)
    assert raised.value.message == f"model: {asked}"
    with pytest.raises(NotFound):
        router.get(asked)


def test_an_error_repeats_only_so_much_of_an_id(router: Router) -> None:
    with pytest.raises(NotFound) as raised:
        router.resolve("x" * 1_000_000)
    assert len(raised.value.message) < 300


def test_an_id_of_any_length_is_looked_up_without_delay(router: Router) -> None:
    """A pattern that tried the mark at every place would take minutes for this one."""
    asked = "claude-opus-" + "[1m]" * 250_000 + "x"
    assert router.resolve(asked).model == OPUS


def test_a_tier_that_nobody_serves_goes_to_the_default() -> None:
    assert Router([DEFAULT]).resolve("claude-opus-5").model == DEFAULT


def test_a_later_attempt_is_counted(router: Router) -> None:
    assert router.resolve("first", attempt=2).attempt == 2


def test_with_the_built_in_catalogue_every_known_id_is_served() -> None:
    served = catalogue.load().served(["qwen2.5-coder-1.5b-instruct"])
    router = Router(served)
    for known in claude_models():
        assert router.resolve(known.id).model == served[0]
        assert router.get(known.id).max_input_tokens == 32768


# -- the list


ALL: tuple[Lifecycle, ...] = ("active", "deprecated", "retired")
RETIRED = {model.id for model in claude_models() if model.lifecycle == "retired"}


def test_the_list_has_what_runs_and_every_known_id_newest_first(router: Router) -> None:
    page = router.page(limit=1000, lifecycles=ALL)
    assert {model.id for model in page.data} == {"first", "big", "small", "other"} | {m.id for m in claude_models()}
    assert [model.created_at for model in page.data] == sorted((m.created_at for m in page.data), reverse=True)
    assert not page.has_more
    assert (page.first_id, page.last_id) == (page.data[0].id, page.data[-1].id)


def test_an_alias_has_its_own_name_and_the_limits_of_what_answers(router: Router) -> None:
    model = router.get("claude-opus-5-5")
    assert (model.display_name, model.line, model.created_at) == ("Claude Opus 5.5", "opus", "2026-09-22T00:00:00Z")
    assert (model.max_input_tokens, model.max_tokens) == (4000, 2000)
    fable = router.get("claude-fable-5-2")
    assert (fable.line, fable.max_input_tokens) == ("fable", 4000)
    own = router.get("big")
    assert (own.display_name, own.line, own.max_tokens) == ("BIG", None, 2000)


@pytest.mark.behaviour("client-surface-4.2-dates")
def test_a_model_about_to_retire_says_when(router: Router) -> None:
    model = router.get("claude-sonnet-4-5-20250929")
    assert (model.lifecycle, model.retires_at) == ("deprecated", "2026-11-30T00:00:00Z")
    preview = router.get("claude-mythos-preview")
    assert (preview.lifecycle, preview.deprecated_at) == ("deprecated", "2026-06-09T00:00:00Z")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
        ("claude-sonnet-4-0", "claude-sonnet-4-20250514"),
        ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5-20250929"),
        ("claude-opus-5-5[1M][1m]", "claude-opus-5-5"),
        ("claude-opus-9[1m]", "claude-opus-9"),
        ("claude-opus-9[1M]", "claude-opus-9"),
    ],
)
def test_each_way_to_write_an_id_gives_the_one_that_is_meant(router: Router, written: str, meant: str) -> None:
    assert router.get(written).id == meant
    bound = router.resolve(written, profile="claude") if meant not in RETIRED else None
    assert bound is None or bound.rules == router.resolve(meant, profile="claude").rules


# -- what is over, and whose rules bind


def test_old_code_runs_unless_the_ids_own_rules_bind(router: Router) -> None:
    assert len(RETIRED) == 7
    for retired in RETIRED:
        assert router.resolve(retired).rules is None
        free, bound = router.get(retired), router.get(retired, profile="claude")
        assert free.max_tokens is not None
        assert free.capabilities is not None
        with pytest.raises(NotFound) as raised:
            router.resolve(retired, profile="claude")
        assert raised.value.message == f"model: {retired}"
        assert bound.lifecycle == "retired"
        assert bound.retires_at is not None
        assert (bound.max_input_tokens, bound.max_tokens, bound.capabilities) == (None, None, None)
    with pytest.raises(NotFound, match=r"^model: claude-3-opus-latest$"):
        router.resolve("claude-3-opus-latest", profile="claude")


def test_the_call_s_profile_goes_before_the_installation_s() -> None:
    free, bound = Router([DEFAULT]), Router([DEFAULT], profile="claude")
    for router in (free, bound):
        assert router.resolve("claude-opus-5", profile="model").rules is None
        rules = router.resolve("claude-opus-5", profile="claude").rules
        assert rules is not None
        assert rules.window == 1_000_000
        assert router.resolve("claude-opus-9", profile="claude").rules is None
        assert router.resolve("first", profile="claude").rules is None
    assert free.resolve("claude-opus-5").rules is None
    assert bound.resolve("claude-opus-5").rules is not None


def test_limits_are_the_smaller_ones_where_the_id_s_own_bind() -> None:
    roomy = Router([card("roomy", "opus", window=2_000_000)])
    assert roomy.get("claude-haiku-4-5").max_input_tokens == 2_000_000
    own = roomy.get("claude-haiku-4-5", profile="claude")
    assert (own.max_input_tokens, own.max_tokens) == (200_000, 64_000)
    assert Router([DEFAULT]).get("claude-haiku-4-5", profile="claude").max_input_tokens == 1000


def test_an_id_nobody_listed_can_be_looked_up_as_it_can_be_asked(router: Router) -> None:
    model = router.get("claude-opus-9")
    assert (model.id, model.line, model.max_input_tokens) == ("claude-opus-9", "opus", 4000)
    assert model.id not in {listed.id for listed in router.page(limit=1000).data}
    assert router.get("claude-9").line is None


_KNOWN = [
    ClaudeModel(id=f"claude-opus-{number}", display_name=str(number), line="opus", created=date(2026, 2, number))
    for number in range(1, 8)
]
_ORDER = [f"claude-opus-{number}" for number in range(7, 0, -1)] + ["first"]


@pytest.fixture
def eight() -> Router:
    """Seven known ids and one model: eight in the list."""
    return Router([DEFAULT], _KNOWN)


def test_walking_forward_sees_each_once(eight: Router) -> None:
    seen: list[str] = []
    page = eight.page(limit=3)
    while True:
        seen += [model.id for model in page.data]
        if not page.has_more:
            break
        page = eight.page(limit=3, after_id=page.last_id)
    assert seen == _ORDER


def test_walking_backward_sees_each_once(eight: Router) -> None:
    seen: list[str] = []
    page = eight.page(limit=3, before_id="first")
    while True:
        seen = [model.id for model in page.data] + seen
        if not page.has_more:
            break
        page = eight.page(limit=3, before_id=page.first_id)
    assert [*seen, "first"] == _ORDER


def test_the_ends_of_the_list_are_empty_pages(eight: Router) -> None:
    for page in (eight.page(after_id="first"), eight.page(before_id="claude-opus-7")):
        assert (page.data, page.has_more, page.first_id, page.last_id) == ((), False, None, None)


@pytest.mark.behaviour("messages-and-inference-1-models-page-limit")
@pytest.mark.behaviour("client-surface-1.7-page-default", "client-surface-4.2-limit")
def test_a_page_has_twenty_unless_told(router: Router) -> None:
    page = router.page()
    assert len(page.data) == 20
    assert page.has_more


@pytest.mark.behaviour("messages-and-inference-1-models-page-limit")
@pytest.mark.parametrize(
    ("limit", "bound"), [(0, "greater than or equal to 1"), (-1, "greater"), (1001, "less than or equal to 1000")]
)
def test_a_limit_out_of_bounds_is_refused(router: Router, limit: int, bound: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^limit: Input should be {bound}"):
        router.page(limit=limit)


@given(
    wanted=st.sets(st.sampled_from(ALL), min_size=1),
    limit=st.integers(1, 12),
    backward=st.booleans(),
)
def test_a_walk_in_either_direction_sees_each_of_its_stages_once(
    wanted: set[Lifecycle], limit: int, backward: bool
) -> None:
    router = Router([DEFAULT, OPUS])
    whole = router.page(limit=1000, lifecycles=wanted)
    assert {model.lifecycle for model in whole.data} == wanted
    seen: list[str] = []
    # The last of all is retired: a walk may begin at what it leaves out.
    page = router.page(lifecycles=wanted, limit=limit, before_id="claude-3-opus-latest" if backward else None)
    while True:
        ids = [model.id for model in page.data]
        seen = ids + seen if backward else seen + ids
        if not page.has_more:
            break
        after, before = (None, page.first_id) if backward else (page.last_id, None)
        page = router.page(lifecycles=wanted, limit=limit, after_id=after, before_id=before)
    assert [*seen, *(["claude-3-opus-20240229"] if backward and "retired" in wanted else [])] == [
        model.id for model in whole.data
    ]


def test_an_unknown_place_in_the_list_is_refused(router: Router) -> None:
    with pytest.raises(InvalidRequest, match=r"^after_id: no model has the id `nobody`"):
        router.page(after_id="nobody")
    with pytest.raises(InvalidRequest, match=r"^before_id: no model has the id `nobody`"):
        router.page(before_id="nobody")
    with pytest.raises(InvalidRequest, match=r"^before_id: only one"):
        router.page(after_id="first", before_id="big")


def test_the_scripted_model_can_be_routed_to() -> None:
    assert Router([SCRIPTED]).resolve("claude-haiku-5-5").model == SCRIPTED


# -- the data


def test_the_known_ids_are_all_different_and_of_their_line() -> None:
    known = claude_models()
    ids = [name for model in known for name in (model.id, *model.also)]
    assert len(ids) == len(set(ids))
    router = Router([OPUS])
    for model in known:
        assert model.line in model.id.split("-")
        # What a pattern makes of the id is what the table says.
        assert Router([OPUS], []).get(model.id).line == model.line
        end = [day for day in (model.created, model.deprecated, model.retires) if day is not None]
        assert end == sorted(end)
        assert (model.lifecycle == "active") == (model.retires is None)
        assert router.get(model.id).id == model.id
