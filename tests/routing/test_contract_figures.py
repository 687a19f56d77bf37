"""Every row of the documented table of models: window, longest answer, prices, days, and what is over (contract
messages-and-inference 14)."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from antiphon.routing import book
from antiphon.routing.known import claude_models
from antiphon.routing.profile import claude_rules
from conftest import StartScripted

RULES = claude_rules()
BOOK = book.load()
#: 2026-11-22, in milliseconds.
NOW_MS = 1_795_305_600_000
KNOWN = {model.id: model for model in claude_models()}
USER: Any = [{"role": "user", "content": "Hello"}]
MILLION, SHORT = (1_000_000, 128_000), (200_000, 64_000)


@pytest.mark.behaviour("messages-and-inference-14.4-long-context")
@pytest.mark.parametrize(
    ("id_", "limits", "prices"),
    [
        pytest.param("claude-fable-5-2", MILLION, [(None, "8", "40", "10", "16", "0.20")], marks=pytest.mark.behaviour("messages-and-inference-14.1-fable-5-2")),
        pytest.param("claude-mythos-5-2", MILLION, [(None, "8", "40", "10", "16", "0.20")], marks=pytest.mark.behaviour("messages-and-inference-14.1-fable-5-2")),
        pytest.param("claude-fable-5-1", MILLION, [(None, "10", "50", "12.50", "20", "0.25")], marks=pytest.mark.behaviour("messages-and-inference-14.1-fable-5-1")),
        pytest.param("claude-mythos-5-1", MILLION, [(None, "10", "50", "12.50", "20", "0.25")], marks=pytest.mark.behaviour("messages-and-inference-14.1-fable-5-1")),
        pytest.param("claude-fable-5", MILLION, [(None, "10", "50", "12.50", "20", "1.00")], marks=pytest.mark.behaviour("messages-and-inference-14.1-fable-5")),
        pytest.param("claude-mythos-5", MILLION, [(None, "10", "50", "12.50", "20", "1.00")], marks=pytest.mark.behaviour("messages-and-inference-14.1-fable-5")),
        pytest.param("claude-opus-5-5", MILLION, [(None, "4", "20", "5", "8", "0.20")], marks=pytest.mark.behaviour("messages-and-inference-14.1-opus-5-5")),
        pytest.param("claude-opus-5", MILLION, [(None, "5", "25", "6.25", "10", "0.50")], marks=pytest.mark.behaviour("messages-and-inference-14.1-opus-5")),
        pytest.param("claude-opus-4-8", MILLION, [(None, "5", "25", "6.25", "10", "0.50")], marks=pytest.mark.behaviour("messages-and-inference-14.1-opus-4-6-to-4-8")),
        pytest.param("claude-opus-4-7", MILLION, [(None, "5", "25", "6.25", "10", "0.50")], marks=pytest.mark.behaviour("messages-and-inference-14.1-opus-4-6-to-4-8")),
        pytest.param("claude-opus-4-6", MILLION, [(None, "5", "25", "6.25", "10", "0.50")], marks=pytest.mark.behaviour("messages-and-inference-14.1-opus-4-6-to-4-8")),
        pytest.param("claude-opus-4-5-20251101", SHORT, [(None, "5", "25", "6.25", "10", "0.50")], marks=pytest.mark.behaviour("messages-and-inference-14.1-opus-4-5")),
        pytest.param("claude-sonnet-5-5", MILLION, [(None, "2", "10", "2.50", "4", "0.10")], marks=pytest.mark.behaviour("messages-and-inference-14.1-sonnet-5-5")),
        pytest.param("claude-sonnet-5", MILLION, [(None, "2", "10", "2.50", "4", "0.20")], marks=pytest.mark.behaviour("messages-and-inference-14.1-sonnet-5")),
        pytest.param("claude-sonnet-4-6", MILLION, [(None, "3", "15", "3.75", "6", "0.30")], marks=pytest.mark.behaviour("messages-and-inference-14.1-sonnet-4-6")),
        pytest.param("claude-sonnet-4-5-20250929", SHORT, [(None, "3", "15", "3.75", "6", "0.30")], marks=pytest.mark.behaviour("messages-and-inference-14.1-sonnet-4-5")),
        pytest.param("claude-haiku-5-5", MILLION, [(100_000, "0.10", "0.50", "0.125", "0.20", "0.01"), (None, "0.50", "2.50", "0.625", "1.00", "0.05")], marks=pytest.mark.behaviour("messages-and-inference-14.1-haiku-5-5", "messages-and-inference-14.1-haiku-5-5-long")),
        pytest.param("claude-haiku-4-5-20251001", SHORT, [(None, "1", "5", "1.25", "2", "0.10")], marks=pytest.mark.behaviour("messages-and-inference-14.1-haiku-4-5")),
    ],
)  # fmt: skip
def test_a_row_of_the_table(id_: str, limits: tuple[int, int], prices: list[tuple[Any, ...]]) -> None:
    """For each band of prices: up to, input, output, 5-minute write, 1-hour write, read."""
    rules, price = RULES[id_], BOOK.of(id_)
    assert (rules.window, rules.max_output) == limits
    assert price is not None
    assert price.id == id_
    assert [
        (band.up_to, band.input, band.output, band.cache_write_5m, band.cache_write_1h, band.cache_read)
        for band in price.bands(NOW_MS)
    ] == prices


@pytest.mark.behaviour("messages-and-inference-14.1-days-of-release")
@pytest.mark.parametrize(
    ("id_", "day"),
    [
        ("claude-fable-5-2", "2026-11-09"), ("claude-mythos-5-2", "2026-11-09"), ("claude-fable-5-1", "2026-09-01"),
        ("claude-mythos-5-1", "2026-09-01"), ("claude-fable-5", "2026-06-09"), ("claude-mythos-5", "2026-06-09"),
        ("claude-opus-5-5", "2026-09-22"), ("claude-opus-5", "2026-07-24"), ("claude-sonnet-5-5", "2026-09-28"),
        ("claude-sonnet-5", "2026-06-30"), ("claude-haiku-5-5", "2026-10-07"),
    ],
)  # fmt: skip
def test_a_day_of_release(id_: str, day: str) -> None:
    assert KNOWN[id_].created.isoformat() == day


@pytest.mark.behaviour("messages-and-inference-14.1-sonnet-4-5", "messages-and-inference-14.1-mythos-preview")
def test_what_is_about_to_go() -> None:
    assert str(KNOWN["claude-sonnet-4-5-20250929"].retires) == "2026-11-30"
    assert KNOWN["claude-mythos-preview"].lifecycle == "deprecated"


RETIRED = [
    ("claude-opus-4-1", "2026-08-05"),
    ("claude-opus-4-0", "2026-06-15"),
    ("claude-opus-4-20250514", "2026-06-15"),
    ("claude-sonnet-4-0", "2026-06-15"),
    ("claude-3-haiku-20240307", "2026-04-20"),
    ("claude-3-7-sonnet-latest", "2026-02-19"),
    ("claude-3-5-haiku-latest", "2026-02-19"),
    ("claude-3-opus-latest", "2026-01-05"),
]


@pytest.mark.behaviour("messages-and-inference-14.1-retired")
@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
def test_what_is_retired_says_since_when_and_fails(scripted: StartScripted) -> None:
    """It fails where the ids' own rules bind; elsewhere old code goes on with the model that runs."""
    client = scripted(profile="claude").client()
    for id_, day in RETIRED:
        model = client.models.retrieve(id_)
        assert model.retires_at is not None
        assert (model.lifecycle, str(model.retires_at.date())) == ("retired", day)
        with pytest.raises(anthropic.NotFoundError, match=f"model: {id_}"):
            client.messages.create(model=id_, max_tokens=1, messages=USER)


@pytest.mark.behaviour("messages-and-inference-14.2-undated-ids")
def test_an_id_is_its_snapshot_or_stands_for_the_dated_one(scripted: StartScripted) -> None:
    """From 4.6 on the id without a date is all there is; before, it is an alias."""
    client = scripted().client()
    dated = {id_ for id_ in RULES if id_[-8:].isdigit()}
    assert {id_[:-9] for id_ in dated} == {"claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"}
    for id_ in RULES:
        assert client.models.retrieve(id_).id == id_
        if id_ in dated:
            assert client.models.retrieve(id_[:-9]).id == id_


@pytest.mark.behaviour("messages-and-inference-14.4-fast-mode-refused", "messages-and-inference-14.4-fast-mode-4-6")
def test_fast_mode_goes_by_the_model(scripted: StartScripted) -> None:
    client = scripted(profile="claude").client()
    asked: Any = {"max_tokens": 1, "messages": USER, "extra_body": {"speed": "fast"}}
    with pytest.raises(anthropic.BadRequestError, match="speed: fast mode is not supported for this model"):
        client.messages.create(model="claude-opus-4-7", **asked)
    assert client.messages.create(model="claude-opus-4-6", **asked).usage.speed == "standard"


@pytest.mark.behaviour("messages-and-inference-14.4-fast-mode-without-a-beta")
@pytest.mark.parametrize("id_", ["claude-opus-5-5", "claude-fable-5-2", "claude-mythos-5-2"])
def test_fast_mode_is_for_the_newest_without_a_beta(scripted: StartScripted, id_: str) -> None:
    client = scripted(profile="claude").client()
    message = client.messages.create(model=id_, max_tokens=1, messages=USER, extra_body={"speed": "fast"})
    assert message.usage.speed in ("fast", "standard")
