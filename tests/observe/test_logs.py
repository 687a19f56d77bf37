"""Logs hold no content and no secret: words planted in every part of a request are looked for in all that is written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import structlog

from antiphon.observe.logs import whereabouts
from antiphon.plan.plan import Planner
from command import Server, environment
from conftest import StartScripted

PLACES = (
    "prompt", "system", "toolinput", "toolresult", "tooldescription", "header", "stopsequence", "userid", "unknownfield",
    "path", "query", "answer", "wrongkey", "wrongblock", "defect", "agent", "badjson",
)  # fmt: skip
CANARY = {place: f"canary{place}zq" for place in PLACES}


def request(**change: Any) -> dict[str, Any]:
    """A conversation with something planted wherever a caller may write."""
    return {
        "model": "claude-opus-5-5",
        "max_tokens": 50,
        "system": CANARY["system"],
        "stop_sequences": [CANARY["stopsequence"]],
        "metadata": {"user_id": CANARY["userid"]},
        CANARY["unknownfield"]: 1,
        "tools": [
            {"name": "look", "description": CANARY["tooldescription"], "input_schema": {"type": "object"}},
        ],
        "messages": [
            {"role": "user", "content": f"{CANARY['prompt']} good"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"q": CANARY["toolinput"]}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": CANARY["toolresult"]}],
            },
        ],
    } | change


SCRIPT = f"""
rules:
  - {{match: "now fail", text: "{CANARY["answer"]} two", fault: {{kind: stop, after: 1}}}}
  - {{match: "now crash", text: "{CANARY["answer"]} two", fault: {{kind: crash, after: 1}}}}
  - {{text: "{CANARY["answer"]}"}}
"""


class Asked:
    """A server's whole life: all kinds of requests, and everything that it wrote about them."""

    def __init__(self, folder: Path, form: str, level: str) -> None:
        script = folder / "script.yaml"
        script.write_text(SCRIPT)
        settings = {"ANTIPHON_LOG_FORMAT": form, "ANTIPHON_LOG_LEVEL": level, "ANTIPHON_TRACES": "console"}
        self._server = Server(folder / "home", "--scripted", script, env=settings).wait_ready()
        self.key = self._server.keys[0]
        self.request_ids: list[str] = []
        self.bodies: list[str] = []
        self._requests()
        self.metrics = httpx2.get(f"{self._server.base_url}/metrics", trust_env=False).text
        assert self._server.end() == 0
        self.log = self._server.stderr.replace(self.key, "", 1)  # shown once, to the person who started it
        self.traces = self._server.stdout

    def _requests(self) -> None:
        headers = {"x-api-key": self.key, "user-agent": CANARY["agent"], "x-mine": CANARY["header"]}
        with httpx2.Client(base_url=self._server.base_url, headers=headers, trust_env=False) as client:
            for stream in (False, True):
                self._keep(client.post("/v1/messages", json=request(stream=stream)), 200)
                for what, status in (("now fail", 500), ("now crash", 500)):
                    said = {"role": "user", "content": what + CANARY["prompt"]}
                    reply = client.post("/v1/messages", json=request(stream=stream, messages=[said]))
                    self._keep(reply, 200 if stream else status)
            self._keep(client.post("/v1/messages/count_tokens", json=request()), 200)
            wrong = [{"role": "user", "content": [{"type": CANARY["wrongblock"]}]}]
            client.post("/v1/messages", json=request(messages=wrong))
            client.post("/v1/messages", content='{"model": "' + CANARY["badjson"])
            client.post("/v1/messages", content=CANARY["badjson"].encode() + b"\xff")
            client.get(f"/v1/{CANARY['path']}?q={CANARY['query']}")
            client.get(f"/v1/models/x?limit={CANARY['query']}&after_id={CANARY['query']}")
            client.post("/v1/messages", json=request(), headers={"x-api-key": f"sk-ant-{CANARY['wrongkey']}"})
            client.post("/v1/messages", json=request(), headers={"anthropic-version": CANARY["header"]})
            self._keep(client.get("/v1/models"), 200)
            self._keep(client.post("/v1/messages", json={}), 400)

    def _keep(self, reply: httpx2.Response, status: int) -> None:
        assert reply.status_code == status, reply.text
        self.request_ids.append(reply.headers["request-id"])
        self.bodies.append(reply.text)


@pytest.fixture(scope="module", params=[("json", "debug"), ("text", "debug")], ids=["json", "text"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    yield Asked(tmp_path_factory.mktemp("logs"), *request.param)


def test_nothing_that_was_planted_is_in_a_log_a_metric_or_a_trace(asked: Asked) -> None:
    for what, written in {"log": asked.log, "metrics": asked.metrics, "traces": asked.traces}.items():
        assert len(written) > 500, what
        assert [word for word in CANARY.values() if word in written] == [], what
        assert asked.key not in written, what
        assert asked.key.rpartition("-")[2] not in written, what


def test_no_answer_to_another_holds_it_either(asked: Asked) -> None:
    for body in asked.bodies[-2:]:
        assert "canary" not in body


def test_every_request_is_one_line_whether_it_was_answered_or_failed(asked: Asked) -> None:
    for request_id in asked.request_ids:
        assert asked.log.count(request_id) == 1


def test_no_exception_is_printed_as_it_is(asked: Asked) -> None:
    assert "Traceback" not in asked.log
    assert "exc_info" not in asked.log


def test_json_lines_are_json_with_named_fields(tmp_path: Path) -> None:
    asked = Asked(tmp_path, "json", "info")
    lines = [msgspec.json.decode(line) for line in asked.log.splitlines() if line.startswith("{")]
    assert {"timestamp", "level", "event"} <= set.intersection(*(set(line) for line in lines))
    requests = {line["request_id"]: line for line in lines if line["event"] == "request"}
    first = requests[asked.request_ids[0]]
    assert list(first)[:3] == ["timestamp", "level", "event"]
    assert {name: first[name] for name in ("level", "method", "route", "status", "model", "stream")} == {
        "level": "info", "method": "POST", "route": "/v1/messages", "status": 200, "model": "claude-opus-5-5",
        "stream": False,
    }  # fmt: skip
    assert first["key"].startswith("apikey_")
    assert first["ms"] > 0
    failed = requests[asked.request_ids[1]]
    assert (failed["level"], failed["status"], failed["error"], failed["reason"]) == (
        "warning", 500, "EngineFailed", "stop by script",
    )  # fmt: skip
    cut = requests[asked.request_ids[4]]
    assert (cut["level"], cut["status"], cut["error"], cut["ended"]) == ("warning", 200, "EngineFailed", "failed")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("step", ["plan", "first"])
def test_a_defect_is_told_by_kind_and_place_alone(
    scripted: StartScripted, monkeypatch: pytest.MonkeyPatch, step: str, stream: bool
) -> None:
    """`plan` fails before the seat is taken. A defect's text, and the variables around it, may be what somebody sent."""

    def broken(self: Planner, asked: object, *more: object, **named: object) -> None:
        prompt = CANARY["prompt"]
        raise ValueError(f"{CANARY['defect']} {prompt} {asked}")

    server = scripted()
    if step == "plan":
        monkeypatch.setattr(Planner, "plan", broken)
    else:
        monkeypatch.setattr("antiphon.plan.phases.Course.first", lambda self: broken(self, self))
    with structlog.testing.capture_logs() as lines:
        reply = httpx2.post(
            f"{server.base_url}/v1/messages",
            json=request(stream=stream),
            headers={"x-api-key": server.key},
            trust_env=False,
        )
        server.settle()
        monkeypatch.undo()
    assert "Internal server error" in reply.text
    assert "canary" not in reply.text.replace(CANARY["unknownfield"], "")
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["log_level"], line["error"]) == ("warning", "Internal")
    assert line["reason"].startswith("ValueError < ")
    assert "broken" in line["reason"]
    assert "canary" not in str(lines)


_LIBRARIES = """
import asyncio, logging, sys
import structlog
from antiphon.observe import logs

logs.configure("debug", sys.argv[1])
secret = "canary" + "words"
try:
    raise ValueError(secret)
except ValueError:
    structlog.get_logger().exception("ours")
    logging.getLogger("library.a").exception("it failed for %s", secret)
logging.getLogger("library.b").warning("about\\n" + secret)
logging.getLogger("library.c").debug(secret)

async def lost():
    async def fails():
        raise KeyError(secret)
    asyncio.get_running_loop().create_task(fails())
    await asyncio.sleep(0.01)

asyncio.run(lost())
"""


@pytest.mark.parametrize("form", ["json", "text", "auto"])
def test_what_libraries_log_and_lost_exceptions_hold_nothing_either(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIBRARIES, form], capture_output=True, text=True, env=environment(), check=True
    )
    assert "canary" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    assert "ValueError < " in lines[0]
    assert "library.a" in lines[1]
    assert "Task exception was never retrieved" in lines[3]
    assert "KeyError < " in lines[3]
    if form != "text":
        assert [msgspec.json.decode(line)["level"] for line in lines] == ["error", "error", "warning", "error"]


def test_whereabouts_names_kind_and_frames_from_the_inside_out() -> None:
    def inner() -> None:
        raise LookupError("secret")

    try:
        inner()
    except LookupError as error:
        text = whereabouts(error)
    kind, first, second = text.split(" < ")
    assert kind == "LookupError"
    assert first.startswith("observe/test_logs.py:")
    assert first.endswith(" inner")
    assert "whereabouts_names" in second
    assert "secret" not in text
    assert whereabouts(KeyError("x")) == "KeyError"
