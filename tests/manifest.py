"""The list of documented behaviours: what each claims of its document, and the tests that prove it.

The lists are the TOML files of tests/behaviours; tests/behaviours/test_manifest.py holds them to the tests and the
tests to them. Line numbers are those of the documents' copy of 2026-11-22, which is not in the repository.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

TESTS = Path(__file__).parent
FOLDER = TESTS / "behaviours"

#: The parts of the work that a gap can wait for. "this" is no later part: it is owed now.
Part: TypeAlias = Literal[
    "this", "engines", "tools", "governance", "caching", "thinking", "documents", "files", "batches", "skills",
    "server-tools", "context", "routing", "later",
]  # fmt: skip
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
Line: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class Section(msgspec.Struct, forbid_unknown_fields=True):
    """A stretch of a document, every line of which is claimed; `lines` are its first and its last."""

    number: Text
    title: Text
    lines: tuple[Line, Line]

    def span(self) -> range:
        return range(self.lines[0], self.lines[1] + 1)


class Behaviour(msgspec.Struct, forbid_unknown_fields=True):
    """One thing that could be right or wrong: proven by all its tests together, or a gap."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$")]
    section: Text
    lines: Annotated[list[Line], msgspec.Meta(min_length=1)]
    says: Text
    tests: list[str] = []
    gap: str = ""
    part: Part | None = None

    @property
    def deferred(self) -> bool:
        """Whether a later part owes it."""
        return bool(self.gap) and self.part != "this"


class Other(msgspec.Struct, forbid_unknown_fields=True):
    """Lines that hold nothing a server could keep or break, and why."""

    section: Text
    lines: Annotated[list[Line], msgspec.Meta(min_length=1)]
    why: Text


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """One document's list."""

    document: Text
    section: list[Section] = []
    behaviour: list[Behaviour] = []
    other: list[Other] = []

    def faults(self) -> Iterator[str]:
        """What is wrong with the list by itself."""
        spans = {section.number: section.span() for section in self.section}
        taken = Counter(line for span in spans.values() for line in span)
        yield from (f"line {line} is in two sections" for line, times in taken.items() if times > 1)
        claimed = set()
        claims: list[Behaviour | Other] = [*self.behaviour, *self.other]
        for claim in claims:
            name = claim.id if isinstance(claim, Behaviour) else f"other {claim.lines}"
            outside = set(claim.lines) - set(spans.get(claim.section, ()))
            if outside:
                yield f"{name}: {sorted(outside)} are not lines of section {claim.section}"
            claimed.update(claim.lines)
        yield from (f"line {line} is claimed by nothing" for line in sorted(set(taken) - claimed))
        for behaviour in self.behaviour:
            if bool(behaviour.tests) == bool(behaviour.gap):
                yield f"{behaviour.id}: has either tests or a gap"
            if bool(behaviour.gap) != (behaviour.part is not None):
                yield f"{behaviour.id}: a gap, and nothing else, has a part"
            if len(set(behaviour.tests)) < len(behaviour.tests):
                yield f"{behaviour.id}: names a test twice"


def documents() -> list[Document]:
    """All lists; raises msgspec.ValidationError for one that is malformed."""
    return [msgspec.toml.decode(path.read_bytes(), type=Document) for path in sorted(FOLDER.glob("*.toml"))]


def behaviours() -> dict[str, Behaviour]:
    """All behaviours by id."""
    return {behaviour.id: behaviour for document in documents() for behaviour in document.behaviour}


class Markers(msgspec.Struct):
    """What the tests say of themselves: the ids on each test function, and markers that are on none."""

    tests: dict[str, list[str]]
    stray: list[str]


def markers(folder: Path = TESTS) -> Markers:
    """Read the markers of every file of tests under a folder, without running any."""
    found = Markers({}, [])
    for path in sorted(folder.rglob("test_*.py")):
        _read(ast.parse(path.read_text()), path.relative_to(folder.parent).as_posix(), found)
    return found


def _read(tree: ast.Module, file: str, found: Markers) -> None:
    on_tests = 0
    for name, function in _tests(tree.body):
        calls = [call for decorator in function.decorator_list for call in _marks(decorator)]
        on_tests += len(calls)
        found.tests[f"{file}::{name}"] = [_text(argument) for call in calls for argument in call.args]
    if on_tests < sum(1 for _ in _marks(tree)):
        found.stray.append(file)


def _tests(body: Iterable[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for statement in body:
        if isinstance(statement, ast.ClassDef) and statement.name.startswith("Test"):
            yield from _tests(statement.body, f"{prefix}{statement.name}::")
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name.startswith("test_"):
            yield prefix + statement.name, statement


def _marks(tree: ast.AST) -> Iterator[ast.Call]:
    """The uses of the marker within a piece of source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.behaviour":
            yield node


def _text(argument: ast.expr) -> str:
    """The id an argument is; of anything but a literal its source, which then is no id."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    return ast.unparse(argument)
