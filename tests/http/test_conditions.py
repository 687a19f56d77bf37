"""What an answer says of its conditions, because the request asked for them."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import StartScripted

ASK: Any = {"model": "claude-opus-5-5", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.behaviour("messages-and-inference-3.5-geography-and-speed")
@pytest.mark.behaviour("client-surface-2.6-usage-conditions")
def test_what_was_not_asked_for_is_not_there(scripted: StartScripted) -> None:
    message = scripted().client().messages.create(**ASK)
    assert "diagnostics" not in message.to_dict()
    assert message.usage.inference_geo == "global"
    assert message.usage.speed is None


@pytest.mark.behaviour(
    "messages-and-inference-3.3-geography",
    "messages-and-inference-3.3-speed",
    "messages-and-inference-3.5-geography-and-speed",
)
@pytest.mark.behaviour(
    "client-surface-2.1-speed",
    "client-surface-2.1-inference-geo",
    "client-surface-2.6-usage-conditions",
)
def test_geography_and_speed_are_told_as_they_were(scripted: StartScripted) -> None:
    client = scripted().client()
    message = client.messages.create(**ASK, inference_geo="us", speed="fast")
    assert message.usage.inference_geo == "us"
    assert message.usage.speed == "standard"
    with client.messages.stream(**ASK, speed="standard") as stream:
        assert stream.get_final_message().usage.speed == "standard"


@pytest.mark.behaviour("messages-and-inference-3.3-diagnostics")
@pytest.mark.behaviour("client-surface-2.1-diagnostics", "client-surface-2.6-diagnostics")
@pytest.mark.parametrize(
    ("previous", "told"), [(None, None), ("msg_gone", {"cache_miss_reason": {"type": "previous_message_not_found"}})]
)
def test_diagnostics_never_fail_a_request(previous: str | None, told: Any, scripted: StartScripted) -> None:
    client = scripted().client()
    asked: Any = {"previous_message_id": previous}
    assert client.messages.create(**ASK, diagnostics=asked).to_dict()["diagnostics"] == told
    with client.messages.stream(**ASK, diagnostics=asked) as stream:
        first = next(iter(stream))
        assert first.type == "message_start"
        assert first.message.to_dict()["diagnostics"] == told
