"""The server against its own description: requests that are made from it, and ones that are bent out of its shape.

Schemathesis makes them, the same ones each time, and looks at every answer: no 5xx, nothing that the document does not
name, a body and headers of the documented shape, nothing accepted that the document refuses, no route without its key.
That a request is of a documented shape does not mean that it is accepted: rules and promises come on top.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from prometheus_client.parser import text_string_to_metric_families

from command import environment
from running import Running, scripted_settings

MODEL = "claude-opus-5-5"
HELLO: Any = {"role": "user", "content": "Hello"}
#: Both endpoints read nearly the same: one gets what is well formed, the other what is bent.
CONFIG = """
[generation]
mode = "all"
max-examples = 30
deterministic = true
database = "none"

[[operations]]
include-path = "/v1/messages"
phases.coverage.generation.mode = "positive"

[[operations]]
include-path = "/v1/messages/count_tokens"
phases.coverage.generation.mode = "negative"
"""
#: Options that any conversation may have.
HARMLESS = ("metadata", "service_tier", "inference_geo", "cache_control")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("described"), "rules: []"))
    yield running
    running.close()


@pytest.fixture
def document(server: Running) -> Any:
    return httpx2.get(f"{server.base_url}/openapi.json").json()


def answered(server: Running) -> Counter[tuple[str, int]]:
    """How many requests to a route were answered with a status."""
    counted: Counter[tuple[str, int]] = Counter()
    for family in text_string_to_metric_families(server.app.parts.metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == "antiphon_requests_total":
                counted[sample.labels["route"], int(sample.labels["status"])] += int(sample.value)
    return counted


@pytest.mark.timeout(400)
def test_whatever_is_sent_is_answered_as_documented(server: Running, document: Any, tmp_path: Path) -> None:
    schemas = document["components"]["schemas"]
    for name in ("MessagesRequest", "CountTokensRequest"):
        # Without a model that is served and something to say, every request would end at the same refusal.
        schemas[name]["properties"]["model"] = {"enum": [MODEL]}
        schemas[name]["properties"]["messages"]["examples"] = [[HELLO]]
    # Headers are bent elsewhere; a bent one would be refused before anybody looks at the body.
    document["paths"]["/v1/messages/count_tokens"]["post"]["parameters"] = []
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
            *("run", "openapi.json", "--url", server.base_url, "--header", f"x-api-key: {server.key}"),
            *("--phases", "coverage,fuzzing", "--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--continue-on-failure", "--no-color", "--warnings", "off"),
        ],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = answered(server)
    methods = [method for path in document["paths"].values() for method in path if method != "parameters"]
    assert f"Selected: {len(methods)}/{len(methods)}\n  Tested: {len(methods)}\n" in done.stdout
    for path in document["paths"]:
        assert seen[path, 200] >= 1, f"{path} has never answered well: {seen}"
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/v1/models/{model_id}"):
        assert seen[path, 400] >= 10, path
        assert seen[path, 401] >= 1, path
    assert not [status for _, status in seen if status >= 500]


def test_conversations_are_answered_whole_and_as_streams_of_documented_events(server: Running, document: Any) -> None:
    asked = document["components"]["schemas"]["MessagesRequest"]
    harmless = {name: asked["properties"][name] for name in HARMLESS}
    text = {"type": "string", "pattern": r"^[!-~]{1,40}$"}
    message: Any = {"type": "object", "properties": {"role": {"const": "user"}, "content": text}}
    message |= {"required": ["role", "content"], "additionalProperties": False}
    asked["properties"] = harmless | {
        "model": {"enum": [MODEL, "claude-haiku-4-5", "scripted"]},
        "messages": {"type": "array", "items": message, "minItems": 1, "maxItems": 3},
        # An integer of JSON Schema may be written `7.0`; and no more than 20 events of a stream are read.
        "max_tokens": {"enum": [1, 4, 7]},
        "stop_sequences": {"type": "array", "items": text, "maxItems": 2},
        "stream": {"type": "boolean"},
    }
    asked["required"].append("stream")
    asked["additionalProperties"] = False
    schema = schemathesis.openapi.from_dict(document)
    schema.config.generation.update(with_security_parameters=False)
    kinds: Counter[str] = Counter()

    @settings(max_examples=80, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=schema["/v1/messages"]["POST"].as_strategy())
    def ask(case: schemathesis.Case[Any]) -> None:
        answer = case.call_and_validate(base_url=server.base_url, headers={"x-api-key": server.key})
        assert answer.status_code == 200, answer.text
        [kind] = answer.headers["content-type"]
        kinds[kind] += 1
        assert isinstance(case.body, dict)
        assert kind.startswith("text/event-stream") == (case.body["stream"])
        if case.body["stream"]:
            *_, last = answer.text.strip().split("\n\n")
            assert last.startswith("event: message_stop\n"), answer.text

    ask()
    assert {"application/json", "text/event-stream; charset=utf-8"} == set(kinds)
    assert min(kinds.values()) >= 10, kinds
