"""Where requests are served: a table of what is asked, allowed and there."""

from __future__ import annotations

import itertools
from typing import Any, get_args, get_type_hints

import pytest

from antiphon.core.errors import InvalidRequest
from antiphon.gate import residency
from antiphon.gate.residency import Geography
from antiphon.wire.request import MessagesRequest

GEOGRAPHIES: tuple[Geography, ...] = ("global", "us")

WANTED: list[tuple[Any, ...]] = [
    # asked, allowed, default -> wanted, or how the refusal ends
    (None, None, None, "global"),
    (None, None, "global", "global"),
    (None, None, "us", "us"),
    ("global", None, None, "global"),
    ("us", None, None, "us"),
    ("global", None, "us", "global"),
    ("us", None, "global", "us"),
    (None, ("us",), None, "us"),
    (None, ("us",), "us", "us"),
    (None, ("global", "us"), None, "global"),
    (None, ("global",), None, "global"),
    ("us", ("us",), None, "us"),
    ("us", ("us", "global"), "us", "us"),
    ("global", ("us",), None, ": 'us'"),
    ("global", ("us",), "us", ": 'us'"),
    ("us", ("global",), None, ": 'global'"),
    ("us", ("global",), "global", ": 'global'"),
    # What cannot be set, and might stand in a database all the same: nobody is let out.
    (None, ("us",), "global", ": 'us'"),
    (None, ("global",), "us", ": 'global'"),
    (None, (), None, ": none"),
    ("us", ("eu",), None, ": none"),
    (None, ("eu",), None, ": none"),
]


@pytest.mark.behaviour("messages-and-inference-3.3-geography-of-a-workspace")
@pytest.mark.parametrize(("asked", "allowed", "default", "outcome"), WANTED)
def test_what_is_wanted(asked: Any, allowed: Any, default: Any, outcome: str) -> None:
    if outcome in GEOGRAPHIES:
        assert residency.wanted(asked, allowed=allowed, default=default) == outcome
        return
    with pytest.raises(InvalidRequest) as refused:
        residency.wanted(asked, allowed=allowed, default=default)
    assert refused.value.path == "inference_geo"
    assert refused.value.message.startswith("inference_geo: '")
    assert "is not allowed for this workspace" in refused.value.message
    assert refused.value.message.endswith(outcome)


SERVED: list[tuple[Any, ...]] = [
    # wanted, where the model stands, asked, whether the id knows geographies -> told, or a word of the refusal
    ("global", "global", None, True, "global"),
    ("global", "global", "global", True, "global"),
    ("global", "us", None, True, "global"),
    ("global", "us", "global", True, "global"),
    ("us", "us", None, True, "us"),
    ("us", "us", "us", True, "us"),
    ("us", "global", "us", True, "none that answers stands there"),
    ("us", "global", None, True, "none that answers stands there"),
    # An id from before 4.6: the parameter itself is refused; a workspace's default is kept, and not charged.
    ("global", "global", None, False, "not_available"),
    ("global", "us", None, False, "not_available"),
    ("us", "us", None, False, "not_available"),
    ("us", "global", None, False, "none that answers stands there"),
    ("us", "us", "us", False, "this parameter is not supported"),
    ("us", "global", "us", False, "this parameter is not supported"),
    ("global", "global", "global", False, "this parameter is not supported"),
]


@pytest.mark.parametrize(("geography", "model", "asked", "knows", "outcome"), SERVED)
def test_what_is_served(geography: Geography, model: str, asked: Any, knows: bool, outcome: str) -> None:
    if " " not in outcome:
        assert residency.served(geography, model=model, asked=asked, knows=knows) == outcome
        return
    with pytest.raises(InvalidRequest, match=outcome) as refused:
        residency.served(geography, model=model, asked=asked, knows=knows)
    assert refused.value.path == "inference_geo"


def test_nothing_that_must_stay_is_ever_served_elsewhere() -> None:
    """Whatever is asked, set and there: a workspace that allows `us` alone is served by a model in `us`, or not."""
    answers = 0
    for asked, default, model, knows in itertools.product(
        [None, "global", "us"], [None, "global", "us"], ["global", "us"], [True, False]
    ):
        given: Any = asked
        try:
            geography = residency.wanted(given, allowed=("us",), default=default)
            told = residency.served(geography, model=model, asked=given, knows=knows)
        except InvalidRequest:
            continue
        answers += 1
        assert model == "us"
        assert told in ("us", "not_available")
    assert answers


def test_the_geographies_are_those_that_a_request_may_name() -> None:
    field = get_type_hints(MessagesRequest)["inference_geo"]
    named = tuple(value for each in get_args(field) for value in get_args(each))
    assert named == get_args(Geography) == residency.GEOGRAPHIES
