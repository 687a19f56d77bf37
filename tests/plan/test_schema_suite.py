"""The JSON Schema Test Suite, draft 2020-12: what of it lies in the documented subset means what it means there.

The suite is in the source of the Python package `jsonschema` (MIT), which is fetched once per machine by its hash and
never installed. Its schemas are small and say little beside the keyword they are about: many name no type, and leave
objects open. So each is tried as it stands, and once more with its objects closed.
"""

from __future__ import annotations

import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from antiphon.core.errors import InvalidRequest
from antiphon.engine.grammar import Grammar
from antiphon.engine.grammar import check as check_grammar
from antiphon.plan.schema import documented
from antiphon.plan.schema.lowering import Lowered, lower
from grammar_reference import accepts, derived
from installs import execute, kept
from random_schemas import TEMPLATE, read, written

HERE = Path(__file__).parent
PIN = HERE / "json_schema_suite.txt"
FOLDER = "json/tests/draft2020-12/"


class Case(msgspec.Struct):
    """A schema of the suite, and instances with what the suite says of them."""

    name: str
    schema: Any
    instances: list[tuple[Any, bool]]


def fetched() -> Path:
    def build(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        execute([*pip, "--no-binary", "jsonschema", "--require-hashes", "-r", str(PIN), "--dest", str(folder)])

    (archive,) = kept("json_schema_suite", [PIN.read_bytes()], build).glob("*.tar.gz")
    return archive


def cases() -> Iterator[Case]:
    with tarfile.open(fetched()) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            _, _, path = member.name.partition("/")
            if not path.startswith(FOLDER) or not path.endswith(".json"):
                continue
            file = archive.extractfile(member)
            assert file is not None
            for group in msgspec.json.decode(file.read()):
                instances = [(test["data"], test["valid"]) for test in group["tests"]]
                yield Case(f"{path.removeprefix(FOLDER)}: {group['description']}", group["schema"], instances)


@pytest.fixture(scope="module")
def suite() -> list[Case]:
    found = list(cases())
    assert len(found) > 300
    return found


def closed(schema: Any) -> Any:
    """The schema with its objects closed; not those with an `allOf`, of which by the letter nothing would be left."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, Mapping) or "allOf" in schema:
        return schema
    kept_ = {key: value if key in ("enum", "const") else closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" or isinstance(schema.get("properties"), Mapping):
        kept_ = {"type": "object", **kept_, "additionalProperties": False}
    return kept_


def takes(lowered: Lowered, value: Any) -> bool:
    """Whether the grammar takes the value in some order of its members."""
    orders = [value]
    if isinstance(value, dict) and len(value) <= 4:
        orders = [dict(items) for items in permutations(value.items())]
    return any(accepts(lowered.rules, lowered.root, written(order)) for order in orders)


#: What a schema without `type` is taken to be about.
TOLD = {"format": str, "pattern": str, "items": list, "minItems": list, "properties": dict, "required": dict}


def meant(schema: Any, value: Any) -> bool:
    """Whether a grammar could take the value: it says nothing of other types than a keyword is about, and writes each
    number in one way (2 and not 2.0) and of no more than 64 bits."""
    kinds = tuple(TOLD[key] for key in schema if key in TOLD)
    return (not kinds or "type" in schema or isinstance(value, kinds)) and not odd(value) and not odd(schema)


def odd(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(odd, value.values() if isinstance(value, dict) else value))
    return (isinstance(value, float) and value.is_integer()) or (type(value) is int and abs(value) >= 2**53)


#: Texts that the suite calls right and our formats leave out, which say so: quoted local parts and addresses in
#: brackets, leap seconds, small letters, punycode, long labels.
LEFT_OUT: dict[str, list[str]] = {
    "date-time": ["1963-06-19t08:30:06.283185z", "1998-12-31T15:59:60.123-08:00", "1998-12-31T23:59:60Z"],
    "time": [
        "00:29:60-23:30",
        "01:29:60+01:30",
        "08:30:06z",
        "15:59:60-08:00",
        "23:29:60+23:30",
        "23:59:60+00:00",
        "23:59:60Z",
    ],
    "email": [
        '"joe bloggs"@example.com',
        '"joe..bloggs"@example.com',
        '"joe@bloggs"@example.com',
        "joe.bloggs@[127.0.0.1]",
        "joe.bloggs@[IPv6:::1]",
    ],
    "hostname": ["abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk.com", "xn--4gbwdl.xn--wgbh1c"],
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("change", [lambda schema: schema, closed], ids=["as it stands", "closed"])
def test_what_lies_in_the_subset_means_what_the_suite_says(suite: list[Case], change: Any) -> None:
    seen: Counter[str] = Counter()
    faults: list[str] = []
    for case in suite:
        schema = change(case.schema)
        try:
            documented.check(schema, "schema")
            lowered = lower(schema, TEMPLATE, strict=True, path="schema")
        except InvalidRequest as refusal:
            assert refusal.message.startswith("schema")
            seen["refused"] += 1
            continue
        seen["taken"] += 1
        check_grammar(Grammar(lowered.rules, lowered.root))
        faults += [f"{case.name}: {fault}" for fault in wrong(case, schema, lowered, seen)]
    assert faults == []
    assert seen["taken"] > 80
    assert seen["instances taken"] > 150


def wrong(case: Case, schema: Any, lowered: Lowered, seen: Counter[str]) -> Iterator[str]:
    about_formats = case.name.startswith("optional/format/")
    validator = jsonschema_rs.Draft202012Validator(schema, offline=True, validate_formats=about_formats)
    random = Random(0)
    for _ in range(20):
        text = derived(lowered.rules, lowered.root, random)
        value, twice = read(text)
        seen["texts"] += 1
        if not twice and not validator.is_valid(value):
            yield f"lets through {text}"
    for value, valid in case.instances:
        # The change may have made the suite's own word on it wrong, but not for a format.
        right = valid if about_formats else validator.is_valid(value)
        taken = takes(lowered, value)
        seen["instances taken" if taken else "instances not taken"] += 1
        if taken and not right:
            yield f"takes {value!r}"
        said = meant(schema, value) and ("format" not in schema or about_formats)
        if right and not taken and said and value not in LEFT_OUT.get(schema.get("format", ""), []):
            yield f"does not take {value!r}"
