"""What a scrape shows, and that it moves."""

from __future__ import annotations

import time
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from conftest import StartScripted
from running import Running

HELLO: Any = [{"role": "user", "content": "Hello"}]
SLOW = "rules: [{match: slow, text: '" + "word " * 200 + "', delay_ms: 20}, {text: 'Good day to you.'}]"

Labels = frozenset[tuple[str, str]]


def scrape(server: Running) -> dict[tuple[str, Labels], float]:
    """Every sample by name and labels."""
    reply = httpx2.get(f"{server.base_url}/metrics", trust_env=False)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(reply.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def sample(server: Running, name: str, **labels: str) -> float | None:
    return scrape(server).get((name, frozenset(labels.items())))


def wait_for(server: Running, value: float, name: str, **labels: str) -> None:
    end = time.monotonic() + 5
    while (found := sample(server, name, **labels)) != value:
        assert time.monotonic() < end, f"{name} is {found}, not {value}"
        time.sleep(0.02)


def ask(server: Running, content: str = "Hello") -> None:
    with server.client() as client:
        client.messages.create(model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": content}])


def test_every_family_is_there_before_the_first_request(scripted: StartScripted) -> None:
    server = scripted()
    families = {f.name for f in text_string_to_metric_families(httpx2.get(f"{server.base_url}/metrics").text)}
    assert {
        "antiphon_requests", "antiphon_request_seconds", "antiphon_turns", "antiphon_tokens",
        "antiphon_first_token_seconds", "antiphon_queue_seconds", "antiphon_queue_waiting", "antiphon_seats_taken",
        "antiphon_engine_ready", "antiphon_engine_restarts", "antiphon_turns_open", "antiphon_journal_appended",
        "antiphon_journal_groups", "antiphon_journal_failed", "antiphon_journal_pending",
    } <= families  # fmt: skip


def test_an_answer_moves_what_it_should(scripted: StartScripted) -> None:
    server = scripted(SLOW)
    for _ in range(3):
        ask(server)
    wait_for(server, 3, "antiphon_requests_total", route="/v1/messages", status="200")
    wait_for(server, 3, "antiphon_journal_appended")
    found = scrape(server)
    model = ("model", "scripted")

    def value(name: str, *labels: tuple[str, str]) -> float:
        return found[name, frozenset(labels)]

    assert value("antiphon_turns_total", model, ("outcome", "end_turn")) == 3
    assert value("antiphon_tokens_total", model, ("kind", "output")) == 15
    assert value("antiphon_tokens_total", model, ("kind", "input")) > 0
    assert value("antiphon_first_token_seconds_count", model) == 3
    assert value("antiphon_queue_seconds_count", model) == 3
    assert value("antiphon_request_seconds_count", ("route", "/v1/messages")) == 3
    assert 1 <= value("antiphon_journal_groups") <= 3
    wait_for(server, 0, "antiphon_journal_pending")
    records = server.records()
    assert sum(record.usage.input_tokens for record in records) == value(
        "antiphon_tokens_total", model, ("kind", "input")
    )


def test_seats_and_queue_are_seen_while_streams_are_under_way(scripted: StartScripted) -> None:
    server = scripted(SLOW, seats=1, early_start_seconds=0.1)
    asked: Any = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "slow"}]}
    with server.client() as client, client.messages.stream(**asked) as first, client.messages.stream(**asked):
        next(iter(first.text_stream))
        wait_for(server, 1, "antiphon_seats_taken", model="scripted")
        wait_for(server, 1, "antiphon_queue_waiting", model="scripted")
        wait_for(server, 2, "antiphon_turns_open")
        assert sample(server, "antiphon_engine_ready", model="scripted") == 1
    wait_for(server, 0, "antiphon_turns_open")
    wait_for(server, 0, "antiphon_seats_taken", model="scripted")
    wait_for(server, 2, "antiphon_turns_total", model="scripted", outcome="client_closed")


def test_refusals_are_counted_by_route_and_status_and_paths_cannot_grow_the_labels(scripted: StartScripted) -> None:
    server = scripted()
    for number in range(5):
        httpx2.get(f"{server.base_url}/no/such/path/{number}", trust_env=False)
        httpx2.get(f"{server.base_url}/v1/models/{number}", headers={"x-api-key": server.key}, trust_env=False)
    httpx2.post(f"{server.base_url}/v1/messages", json={}, trust_env=False)
    wait_for(server, 1, "antiphon_requests_total", route="/v1/messages", status="401")
    found = scrape(server)
    requests = {
        dict(labels)["route"]: value for (name, labels), value in found.items() if name.endswith("requests_total")
    }
    assert requests["unknown"] == 5
    assert requests["/v1/models/{model_id}"] == 5
    assert len(requests) == 4  # with /metrics itself


def test_a_crash_shows_as_not_ready_and_then_as_a_restart(scripted: StartScripted) -> None:
    server = scripted("rules: [{text: 'one two', fault: {kind: crash, after: 1, down_ms: 300}, times: 1}]")
    httpx2.post(
        f"{server.base_url}/v1/messages",
        json={"model": "claude-opus-5-5", "max_tokens": 5, "messages": HELLO},
        headers={"x-api-key": server.key},
        trust_env=False,
    )
    wait_for(server, 0, "antiphon_engine_ready", model="scripted")
    wait_for(server, 1, "antiphon_engine_ready", model="scripted")
    assert sample(server, "antiphon_engine_restarts", model="scripted") == 1
    assert sample(server, "antiphon_turns_total", model="scripted", outcome="engine_failed") == 1
