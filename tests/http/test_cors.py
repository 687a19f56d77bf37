"""Requests from web pages: refused by default, allowed by name."""

from __future__ import annotations

import httpx2
import pytest

from conftest import StartScripted

PAGE = "https://app.example.com"
DIRECT = "anthropic-dangerous-direct-browser-access"


@pytest.mark.behaviour("messages-and-inference-2.1-401-cors")
def test_a_page_is_refused_by_default(scripted: StartScripted) -> None:
    server = scripted()
    reply = httpx2.get(
        f"{server.base_url}/v1/models", headers={"x-api-key": server.key, "origin": PAGE, DIRECT: "true"}
    )
    assert reply.status_code == 401
    assert reply.json()["error"]["type"] == "authentication_error"
    assert "CORS" in reply.json()["error"]["message"]
    assert not [name for name in reply.headers if name.startswith("access-control")]
    asked = httpx2.options(
        f"{server.base_url}/v1/messages", headers={"origin": PAGE, "access-control-request-method": "POST"}
    )
    assert asked.status_code == 401


@pytest.mark.behaviour("client-surface-1.3-browser-header")
def test_a_page_on_the_list_may_read_answers_and_errors(scripted: StartScripted) -> None:
    server = scripted(cors_origins=(PAGE,))
    asked = httpx2.options(
        f"{server.base_url}/v1/messages",
        headers={
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": f"content-type,x-api-key,{DIRECT}",
        },
    )
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert DIRECT in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in asked.headers
    url, key = f"{server.base_url}/v1/models", {"x-api-key": server.key, "origin": PAGE}
    for headers, status in ((key | {DIRECT: "true"}, 200), (key, 401), ({"origin": PAGE, DIRECT: "true"}, 401)):
        reply = httpx2.get(url, headers=headers)
        assert reply.status_code == status
        assert reply.headers["access-control-allow-origin"] == PAGE
    other = httpx2.get(url, headers=key | {"origin": "https://evil.example.com", DIRECT: "true"})
    assert other.status_code == 401
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("origin", ["null", "*", "https://app.example.com.evil.com", "http://app.example.com"])
def test_an_origin_matches_whole_or_not_at_all(scripted: StartScripted, origin: str) -> None:
    server = scripted(cors_origins=(PAGE,))
    reply = httpx2.get(
        f"{server.base_url}/v1/models", headers={"x-api-key": server.key, "origin": origin, DIRECT: "true"}
    )
    assert reply.status_code == 401
