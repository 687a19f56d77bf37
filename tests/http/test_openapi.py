"""The server's description of itself: whole, valid, the same on every start, and as strict as the parser."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema_rs
import msgspec
import pytest
import schemathesis

import samples
from antiphon.core import errors
from antiphon.core.errors import AntiphonError
from antiphon.http.errors import body_of, status_of
from antiphon.http.openapi import REFUSALS
from antiphon.wire.parse import parse_messages
from command import environment
from running import Running, scripted_settings

HELLO: Any = {"role": "user", "content": "Hello"}
MINIMAL: Any = {"model": "claude-opus-5-5", "max_tokens": 5, "messages": [HELLO]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("openapi"), "rules: []"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def document(server: Running) -> Any:
    return httpx2.get(f"{server.base_url}/openapi.json").json()


def validator(document: Any, reference: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({"$ref": reference, "components": document["components"]})


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            elif name == "mapping":
                yield from value.values()
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_route_is_described_with_every_method(server: Running, document: Any) -> None:
    routes = server.app.http._routes
    table = [*routes._exact.values(), *(route for _, route in routes._patterns)]
    served = {(route.path, method.lower()) for route in table for method in route.methods}
    described = {
        (path, method) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    assert described == served
    names = [document["paths"][path][method]["operationId"] for path, method in described]
    assert len(set(names)) == len(names)


def test_the_document_is_valid_and_refers_only_to_what_it_holds(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(document).validate()
    referred = set(references(document))
    held = {f"#/components/{kind}/{name}" for kind, part in document["components"].items() for name in part}
    unused_by_name = {f"#/components/securitySchemes/{name}" for name in ("apiKey", "bearer")}
    assert referred == held - unused_by_name
    assert "antiphon.wire" not in msgspec.json.encode(document).decode()


def test_the_document_is_the_same_on_every_start() -> None:
    build = """
import sys
from antiphon.core.settings import Settings
from antiphon.http import openapi
from antiphon.http.routes import Route
paths = {path: tuple(m for m, at in openapi.OPERATIONS if at == path) for _, path in openapi.OPERATIONS}
keyed = [Route(path, methods, None) for path, methods in paths.items() if path.startswith("/v1")]
still = [Route(path, methods, None) for path, methods in paths.items() if not path.startswith("/v1")]
sys.stdout.buffer.write(openapi.msgspec.json.encode(openapi.document("1", still, keyed)))
"""
    made = [
        subprocess.run(
            [sys.executable, "-c", build], env=environment(PYTHONHASHSEED=seed), capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert made[0] == made[1]
    assert len(made[0]) > 50_000


def test_it_needs_no_key_and_answers_head(server: Running) -> None:
    got = httpx2.get(f"{server.base_url}/openapi.json", headers={"x-api-key": "wrong"})
    assert (got.status_code, got.headers["content-type"]) == (200, "application/json")
    head = httpx2.head(f"{server.base_url}/openapi.json")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(got.content)))
    assert httpx2.get(f"{server.base_url}/openapi.json").content == got.content
    wrong = httpx2.post(f"{server.base_url}/openapi.json")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-api-key": "sk-ant-api03-wrong"}, {"authorization": "Bearer wrong"}, {"authorization": "Basic a2V5"}],
    ids=["none", "wrong key", "wrong token", "basic"],
)
def test_without_its_key_every_route_that_has_one_says_so(
    server: Running, document: Any, headers: dict[str, str]
) -> None:
    envelope = document["components"]["responses"]["401"]["content"]["application/json"]["schema"]
    valid = jsonschema_rs.validator_for(envelope | {"components": document["components"]})
    asked = 0
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            url = f"{server.base_url}{re.sub('{.*?}', 'claude-opus-5-5', path)}"
            reply = httpx2.request(method.upper(), url, headers=headers)
            if item[method].get("security") == []:
                assert reply.status_code in (200, 503), path
                continue
            asked += 1
            assert reply.status_code == 401, path
            assert "401" in item[method]["responses"]
            if method != "head":
                valid.validate(reply.json())
                assert reply.json()["request_id"] == reply.headers["request-id"]
    assert asked >= 40


def test_refusals_have_the_statuses_and_types_that_errors_become() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AntiphonError)]
    sample: dict[type[AntiphonError], AntiphonError] = {
        errors.PromptTooLong: errors.PromptTooLong(2, 1),
        errors.ReceiptTimeout: errors.ReceiptTimeout(),
    }
    answered = [sample.get(kind) or kind("x") for kind in kinds if kind is not errors.MethodNotAllowed]
    for error in answered:
        assert REFUSALS[status_of(error)][0] == body_of(error).type, type(error)


def test_what_the_parser_reads_the_document_allows(document: Any) -> None:
    asked = validator(document, "#/components/schemas/MessagesRequest")
    options = samples.COUNTED_OPTIONS | samples.ANSWER_OPTIONS
    bodies = [
        MINIMAL,
        MINIMAL | {"something_new": {"deep": [1]}},
        *(MINIMAL | {"tools": tools} for tools in (samples.TOOLS, [], None)),
        *(MINIMAL | {name: value} for name, values in options.items() for value in values),
        *(
            MINIMAL | {"messages": [HELLO, {"role": role, "content": [block]}]}
            for role, blocks in (("user", samples.USER_BLOCKS), ("assistant", samples.ASSISTANT_BLOCKS))
            for block in blocks
        ),
    ]
    for body in bodies:
        parse_messages(msgspec.json.encode(body))
        asked.validate(body)


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": None},
        {"max_tokens": -1},
        {"messages": None},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "nothing"}]}]},
        {"tools": {}},
        {"tools": [{"type": "bash_19990101", "name": "bash"}]},
        {"tools": [{"type": "bash_20250124", "name": "shell"}]},
        {"tools": [{"name": "look"}]},
        {"temperature": 1.5},
        {"thinking": {"type": "enabled", "budget_tokens": 1}},
    ],
)
def test_what_the_document_forbids_the_parser_refuses(document: Any, change: Any) -> None:
    body = MINIMAL | change
    assert not validator(document, "#/components/schemas/MessagesRequest").is_valid(body)
    with pytest.raises(errors.InvalidRequest):
        parse_messages(msgspec.json.encode(body))


def test_a_stream_holds_the_documented_events_in_order(server: Running, document: Any) -> None:
    event = validator(document, "#/components/schemas/StreamEvent")
    reply = httpx2.post(
        f"{server.base_url}/v1/messages", json=MINIMAL | {"stream": True}, headers={"x-api-key": server.key}
    )
    kinds = []
    for frame in reply.text.strip().split("\n\n"):
        name, data = frame.split("\n")
        event.validate(msgspec.json.decode(data.removeprefix("data: ")))
        kinds.append(name.removeprefix("event: "))
    order = [kind for kind, _ in itertools.groupby(kinds) if kind != "ping"]
    assert order == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert not event.is_valid({"type": "message_start"})
