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
from datetime import UTC, datetime, timedelta
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
max-examples = 8
deterministic = true
database = "none"

[[operations]]
include-path = "/v1/messages"
phases.coverage.generation.mode = "positive"

[[operations]]
include-path = "/v1/messages/count_tokens"
phases.coverage.generation.mode = "negative"

[[operations]]
include-path-regex = "^/v1/(organizations|compliance)/"
headers = {{ x-api-key = "{admin}" }}
generation.max-examples = 3

[[operations]]
include-name-regex = "^HEAD /v1/(organizations|compliance)/"
generation.max-examples = 1
phases.coverage.enabled = false
"""
#: What is administered with an admin key; everything else is asked with a key of the default workspace.
WORKSPACE_HEADER, WORKSPACE_NAMED = "anthropic-workspace-id", "/v1/organizations/me"
ADMINISTRATION = ("/v1/organizations/", "/v1/compliance/")
#: Options that any conversation may have.
HARMLESS = ("metadata", "service_tier", "inference_geo", "cache_control")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("described"), "rules: []"))
    yield running
    running.close()


@pytest.fixture
def document(server: Running) -> Any:
    """Without the header that names a workspace, but in one place: a made-up one is refused before all else."""
    found = httpx2.get(f"{server.base_url}/openapi.json").json()
    for path, methods in found["paths"].items():
        for method in methods.keys() - {"parameters"} if path != WORKSPACE_NAMED else ():
            kept = [p for p in methods[method]["parameters"] if p.get("$ref", "").split("/")[-1] != WORKSPACE_HEADER]
            methods[method]["parameters"] = kept
    return found


def answered(server: Running) -> Counter[tuple[str, int]]:
    """How many requests to a route were answered with a status."""
    counted: Counter[tuple[str, int]] = Counter()
    for family in text_string_to_metric_families(server.app.parts.metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == "antiphon_requests_total":
                counted[sample.labels["route"], int(sample.labels["status"])] += int(sample.value)
    return counted


class Office:
    """Things to administer: each path gets its own, so that what one of them ends is there for the others."""

    def __init__(self, base_url: str, key: str) -> None:
        self._base_url, self._headers = f"{base_url}/v1/organizations", {"x-api-key": key}

    def user(self, name: str) -> str:
        accepted = self._made(f"invites/{self.invite(name)}/accept", {"name": name})
        return str(accepted["id"])

    def invite(self, name: str) -> str:
        return str(self._made("invites", {"email": f"{name}@example.com", "role": "user"})["id"])

    def workspace(self, name: str) -> str:
        return str(self._made("workspaces", {"name": name})["id"])

    def api_key(self) -> str:
        return str(self._made("api_keys", {"name": "described"})["id"])

    def member(self, workspace: str, user: str) -> str:
        self._made(f"workspaces/{workspace}/members", {"user_id": user, "workspace_role": "workspace_user"})
        return user

    def rate_limit(self) -> str:
        listed = httpx2.get(f"{self._base_url}/rate_limits?group_type=files", headers=self._headers)
        return str(listed.json()["data"][0]["id"])

    def spend_limit(self, workspace: str) -> str:
        scope = {"type": "workspace", "workspace_id": workspace}
        return str(self._made("spend_limits", {"amount": "100", "scope": scope, "period": "daily"})["id"])

    def _made(self, path: str, body: Any) -> Any:
        reply = httpx2.post(f"{self._base_url}/{path}", json=body, headers=self._headers)
        assert reply.status_code == 200, reply.text
        return reply.json()


def narrow(document: Any, office: Office) -> None:
    """Have requests to the administration name what there is: of ids made up nothing but 404 would come."""
    paths, schemas = document["paths"], document["components"]["schemas"]
    root, shared, joined = "/v1/organizations", office.workspace("shared"), office.user("joined")
    named = {
        "/users/{user_id}": {"user_id": office.user("known")},
        "/invites/{invite_id}": {"invite_id": office.invite("known-invited")},
        "/invites/{invite_id}/accept": {"invite_id": office.invite("accepting")},
        "/workspaces/{workspace_id}": {"workspace_id": office.workspace("changing")},
        "/workspaces/{workspace_id}/archive": {"workspace_id": office.workspace("ending")},
        "/workspaces/{workspace_id}/members": {"workspace_id": shared},
        "/workspaces/{workspace_id}/members/{user_id}": {
            "workspace_id": shared,
            "user_id": office.member(shared, joined),
        },
        "/api_keys/{api_key_id}": {"api_key_id": office.api_key()},
        "/rate_limits/{rate_limit_id}": {"rate_limit_id": office.rate_limit()},
        "/workspaces/{workspace_id}/rate_limits": {"workspace_id": shared},
        "/workspaces/{workspace_id}/rate_limits/{rate_limit_id}": {
            "workspace_id": shared,
            "rate_limit_id": office.rate_limit(),
        },
        "/spend_limits/{spend_limit_id}": {"spend_limit_id": office.spend_limit(shared)},
    }
    assert {root + path for path in named} == {path for path in paths if path.startswith(root) and "{" in path}
    for path, ids in named.items():
        for parameter in paths[root + path]["parameters"]:
            parameter["schema"] = {"enum": [ids[parameter["name"]]]}
    asked = {
        "model": MODEL,
        "workspace_id": shared,
        "starting_at": (datetime.now(UTC) - timedelta(days=3)).isoformat(),
        "ending_at": (datetime.now(UTC) - timedelta(days=1)).isoformat(),
    }
    for path, methods in paths.items():
        for method in methods.keys() - {"parameters"} if path.startswith(ADMINISTRATION) else ():
            # Headers that every route has are bent at others.
            kept = [p for p in methods[method]["parameters"] if "$ref" not in p or path == WORKSPACE_NAMED]
            for parameter in kept:
                if parameter.get("name") == "anthropic-beta":
                    parameter["schema"] = {"enum": [parameter["schema"]["pattern"].split(")")[1].split("(")[0]]}
                elif parameter.get("name") in asked and not path.endswith("/api_keys"):
                    parameter["schema"] = {"enum": [asked[parameter["name"]]]}
            methods[method]["parameters"] = kept
    fixed: Any = {
        "NewMember": {"user_id": [office.user("joining")]},
        "NewLimitValue": {"type": ["requests_per_minute"]},
        "NewSpendScope": {"type": ["organization"], "workspace_id": [None]},
        "NewSpendLimit": {"amount": ["100000000", None]},
    }
    for name, values in fixed.items():
        schemas[name]["properties"] |= {field: {"enum": choices} for field, choices in values.items()}


@pytest.mark.timeout(400)
def test_whatever_is_sent_is_answered_as_documented(server: Running, document: Any, tmp_path: Path) -> None:
    schemas = document["components"]["schemas"]
    for name in ("MessagesRequest", "CountTokensRequest"):
        # Without a model that is served and something to say, every request would end at the same refusal.
        schemas[name]["properties"]["model"] = {"enum": [MODEL]}
        schemas[name]["properties"]["messages"]["examples"] = [[HELLO]]
    # Headers are bent elsewhere; a bent one would be refused before anybody looks at the body.
    document["paths"]["/v1/messages/count_tokens"]["post"]["parameters"] = []
    admin = server.make_key(admin=True)
    narrow(document, Office(server.base_url, admin))
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    (tmp_path / "schemathesis.toml").write_text(CONFIG.format(admin=admin))
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
    for path in document["paths"]:
        if path.startswith("/v1/"):
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

    @settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
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
