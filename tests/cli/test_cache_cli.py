"""`antiphon cache explain`: where two requests part, and what a server would bill for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import pytest

from command import environment, inside
from conftest import StartScripted

RULES = " ".join(f"Rule {number}: be kind to users and precise in words." for number in range(60))
TOOLS = [
    {
        "name": f"tool_{number}",
        "description": "does things " * 30,
        "input_schema": {"type": "object", "properties": {"near": {"type": "string"}, "far": {"type": "number"}}},
    }
    for number in range(4)
]


def body(day: str = "Monday", **fields: Any) -> dict[str, Any]:
    """A request whose system prompt ends with a day."""
    system = [{"type": "text", "text": f"{RULES}\nToday is {day}. Be brief.", "cache_control": {"type": "ephemeral"}}]
    asked: dict[str, Any] = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 10,
        "tools": TOOLS,
        "system": system,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    return asked | fields


class Folder:
    """Request files, and the command on them by a script's vocabulary."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.script = path / "script.yaml"
        self.script.write_text("rules: [{text: Hello.}]")
        self.settings = {"ANTIPHON_SCRIPTED": str(self.script), "ANTIPHON_HOME": str(path / "home")}

    def put(self, name: str, request: Any) -> Path:
        file = self.path / name
        file.write_text(request if isinstance(request, str) else json.dumps(request))
        return file

    def explain(self, a: Any, b: Any, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        files = self.put("a.json", a), self.put("b.json", b)
        return inside("cache", "explain", *files, *arguments, **(self.settings | extra))

    def told(self, a: Any, b: Any, *arguments: str, **extra: str) -> dict[str, Any]:
        done = self.explain(a, b, "--json", *arguments, **extra)
        assert (done.returncode, done.stderr) == (0, "")
        document: dict[str, Any] = json.loads(done.stdout)
        return document


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_two_requests_part_at_a_character_of_the_system_prompt(folder: Folder) -> None:
    done = folder.explain(body(), body("Tuesday"))
    assert (done.returncode, done.stderr) == (0, "")
    at = len(f"{RULES}\nToday is ") + 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("They part"))
    assert line.startswith(f"They part at system.0.text, character {at:,}: …")
    assert line.count('\\nToday is Monday. Be brief." against …"') == 1
    assert line.endswith('\\nToday is Tuesday. Be brief."')
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("tools.", "system.", "messages."))]
    assert [(row[0], row[-1]) for row in rows] == [
        *((f"tools.{number}", "same") for number in range(4)),
        ("system.0", "different"),
        ("messages.0.content.0", "block"),
    ]
    assert '("Monday" and "Tuesday")' in done.stdout
    assert "No breakpoint stands before the divergence" in done.stdout


def test_a_process_of_its_own_says_nothing_else_and_reads_standard_input(folder: Folder) -> None:
    file = folder.put("a.json", body())
    done = subprocess.run(
        [sys.executable, "-m", "antiphon", "cache", "explain", str(file), "-", "--json"],
        input=json.dumps(body()).encode(),
        capture_output=True,
        env=environment(**folder.settings),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    told = json.loads(done.stdout)
    assert told["b"]["name"] == "standard input"
    assert told["divergence"] is None
    assert told["costs"]["b_after_a"]["cache_read_tokens"] == told["a"]["breakpoints"][0]["tokens"]
    assert not (folder.path / "home").exists()


def test_standard_input_has_one_request(folder: Folder) -> None:
    done = inside("cache", "explain", "-", "-", **folder.settings)
    assert (done.returncode, done.stdout) == (1, "")


def billed(client: anthropic.Anthropic, request: dict[str, Any]) -> list[int | None]:
    usage = client.messages.create(**request).usage
    made = usage.cache_creation
    assert made is not None
    written = made.ephemeral_5m_input_tokens, made.ephemeral_1h_input_tokens
    return [usage.input_tokens, *written, usage.cache_read_input_tokens]


def test_what_it_says_is_what_a_server_bills(folder: Folder, scripted: StartScripted) -> None:
    a = body(cache_control={"type": "ephemeral"})
    b = body(messages=[*a["messages"], {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And?"}])
    b["tools"] = [*TOOLS[:-1], TOOLS[-1] | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    c = body("Tuesday", tools=b["tools"], cache_control={"type": "ephemeral"})
    client = scripted("rules: [{text: Hello.}]").client()
    bills = [billed(client, request) for request in (a, b)]
    assert bills[1][3]
    told = folder.told(a, b)["costs"]
    assert [[*told[name].values()][:4] for name in ("a", "b_after_a")] == bills
    bill = billed(scripted("rules: [{text: Hello.}]").client(), c)
    assert bill[1]
    assert bill[2]
    assert [*folder.told(a, c)["costs"]["b_alone"].values()][:4] == bill


def test_costs_are_the_asked_models(folder: Folder) -> None:
    told = folder.told(body(model="claude-opus-4-6"), body(model="claude-opus-4-6"))
    alone, after = told["costs"]["b_alone"], told["costs"]["b_after_a"]
    # Dollars a million: input 5, writing 6.25, reading 0.5 (contract messages-and-inference 7.6, 14).
    nano = alone["cache_creation_5m_tokens"] * 6250 + alone["input_tokens"] * 5000
    assert alone["cost_nano"] == told["costs"]["a"]["cost_nano"] == nano
    assert after["cost_nano"] == after["cache_read_tokens"] * 500 + after["input_tokens"] * 5000


def test_parameters_are_shown_with_what_they_invalidate(folder: Folder) -> None:
    told = folder.told(body(), body(tool_choice={"type": "any"}, output_config={"effort": "low"}))
    assert [(each["name"], each["invalidates"]) for each in told["parameters"]] == [
        ("tool_choice", ["messages"]),
        ("output_config.effort", ["messages"]),
    ]
    assert (told["divergence"]["level"], told["divergence"]["cause"]) == ("messages", "parameters")
    done = folder.explain(body(), body(model="claude-haiku-4-5"))
    assert "They part before the first block: model differs\n" in done.stdout
    assert '"claude-sonnet-5-5" in A' in done.stdout
    assert "invalidates everything" in done.stdout


def test_the_order_of_an_objects_fields_counts(folder: Folder) -> None:
    schema = TOOLS[1] | {"input_schema": {"properties": {}, "type": "object"}}
    other = TOOLS[1] | {"input_schema": {"type": "object", "properties": {}}}
    done = folder.explain(body(tools=[TOOLS[0], schema]), body(tools=[TOOLS[0], other]))
    line = "They part at tools.1.input_schema: the same fields in another order: "
    assert f'{line}["properties","type"] against ["type","properties"]\n' in done.stdout
    assert "sorted keys" in done.stdout


def test_long_runs_are_folded_for_people_and_whole_for_machines(folder: Folder) -> None:
    messages = [{"role": ("user", "assistant")[number % 2], "content": f"Line {number}"} for number in range(31)]
    a, b = body(messages=messages[:29]), body(messages=messages)
    assert "… 27 more" in folder.explain(a, b).stdout
    assert "They do not part: B goes on from A, with messages.29.content.0\n" in folder.explain(a, b).stdout
    assert len(folder.told(a, b)["positions"]) == 4 + 1 + 31


def test_nothing_of_a_prompt_moves_the_terminal(folder: Folder) -> None:
    a = body(system="\x1b[2J\x07 one\u202e")
    done = folder.explain(a, body(system="\x1b[2J\x07 two [red]"))
    assert "\\x1b[2J\\x07 one\\u202e" in done.stdout
    assert "two [red]" in done.stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{", "The request body is not valid JSON"),
        (body(max_tokens="x"), "max_tokens: Input should be a valid integer"),
        (body(model="gpt"), "model: gpt"),
        (body(messages=[]), "messages: at least one message is required"),
    ],
)
def test_a_request_that_is_none_is_refused_in_the_apis_words(folder: Folder, wrong: Any, said: str) -> None:
    done = folder.explain(body(), wrong)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"antiphon: {folder.path / 'b.json'}: {said}\n"


def test_a_version_takes_away_what_it_took_away(folder: Folder) -> None:
    old = body(temperature=0)
    assert folder.explain(old, old).returncode == 0
    done = folder.explain(old, old, "--version", "2026-10-21")
    assert done.returncode == 1
    assert done.stderr.startswith(f"antiphon: {folder.path / 'a.json'}: temperature")
    assert "not a valid version" in folder.explain(old, old, "--version", "1999-01-01").stderr


def test_a_model_that_is_not_served_and_a_file_that_is_not_there(folder: Folder) -> None:
    done = folder.explain(body(), body(), "--model", "nobody")
    assert (done.returncode, done.stderr) == (1, "antiphon: No model nobody is served; there is scripted\n")
    assert folder.explain(body(model="x"), body(model="y"), "--model", "scripted").returncode == 0
    done = inside("cache", "explain", folder.path / "none.json", folder.path / "none.json", **folder.settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert "none.json: No such file or directory" in done.stderr


def test_without_weights_it_says_so_in_a_line(folder: Folder) -> None:
    done = folder.explain(body(), body(), ANTIPHON_SCRIPTED="", ANTIPHON_MODELS="smollm2-135m-instruct")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "antiphon: The weights of smollm2-135m-instruct are not on this machine; fetch them with `antiphon models pull "
        "smollm2-135m-instruct`\n"
    )


@pytest.mark.real
def test_with_weights_it_counts_by_the_models_own_vocabulary(folder: Folder, smol_file: Path) -> None:
    (folder.path / "home").mkdir()
    (folder.path / "home" / "models").symlink_to(smol_file.parent)
    few = {"ANTIPHON_SCRIPTED": "", "ANTIPHON_MODELS": "smollm2-135m-instruct"}
    plain: dict[str, Any] = {"tools": []}
    told = folder.told(body(**plain), body("Tuesday", **plain), **few)
    assert told["a"]["served_model"] == "smollm2-135m-instruct"
    assert (told["divergence"]["pointer"], told["divergence"]["a"]) == ("/text", "system.0")
    assert told["a"]["tokens"] < folder.told(body(**plain), body(**plain))["a"]["tokens"]


@pytest.mark.parametrize("profile", ["model", "claude"])
def test_the_minimum_is_the_models_or_the_asked_ids(folder: Folder, profile: str) -> None:
    """Contract messages-and-inference 7.3; `profile = "claude"`: that of Opus 4.6 is 4,096."""
    asked = body(model="claude-opus-4-6", tools=[])
    told = folder.told(asked, asked, ANTIPHON_PROFILE=profile)
    (mark,) = told["a"]["breakpoints"]
    assert told["a"]["minimum_tokens"] == {"model": 1024, "claude": 4096}[profile]
    assert mark["long_enough"] is (profile == "model")
    assert (told["costs"]["b_after_a"]["cache_read_tokens"] > 0) is (profile == "model")
    assert any("caches none under 4,096" in line for line in told["advice"]) is (profile == "claude")
