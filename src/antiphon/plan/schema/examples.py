"""Examples of a tool's input, checked against its schema (contract messages-and-inference 5.1).

The validator is jsonschema-rs: draft 2020-12, nothing fetched, patterns in linear time. It has no bound on its work,
and a few references can ask for any amount of it; so the work is counted first, on a walk of our own that looks at each
schema and each value together once. CPU-bound all the same: large input belongs on a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jsonschema_rs

from antiphon.core.errors import InvalidRequest
from antiphon.plan.schema.structure import (
    ALONE,
    BY_NAME,
    IN_LISTS,
    Document,
    Schema,
    TooComplex,
    Unlowerable,
    structure,
    subschemas,
)

#: Schemas looked at for all examples of a tool, counted as often as the validator may look; and without counting twice.
_MAX_LOOKS = 1_000_000
_MAX_PAIRS = 20_000
#: Schemas and values in each other.
_MAX_NESTED = 150
#: What one pattern may take when it is compiled (about 2 ms), and how many patterns of how many characters.
_REGEX_BYTES = 1 << 18
_MAX_PATTERNS = 100
_MAX_PATTERN_CHARACTERS = 20_000
#: Keywords whose schemas are about the same value; those of all others are about values in it.
_SAME_VALUE = frozenset(["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"])
_NOT_FOLLOWED = ("$dynamicRef", "$recursiveRef")
_NO_SCHEMA = "JSON schema is invalid. It must match JSON Schema draft 2020-12 (https://json-schema.org/draft/2020-12)"


def check_examples(schema: Schema, examples: Iterable[Any] | None, path: str) -> None:
    """Check a tool's examples; `path` is where the tool stands, e.g. `tools.0.custom`.

    Raises:
        InvalidRequest: the first example that does not fit; or a schema that is none, refers to what is elsewhere, or
            asks for too much work.
    """
    listed = list(examples or ())
    if not listed:
        return
    try:
        kept = structure(schema)
        structure({"const": listed})  # of a bearable size
        validator = _validator(kept)
        work = _Work(Document(kept), kept)
        for index, example in enumerate(listed):
            work.count(example)
            _check(validator, example, f"{path}.input_examples.{index}")
    except Unlowerable as error:
        raise InvalidRequest(str(error), path=f"{path}.input_schema") from None


def _validator(schema: Any) -> jsonschema_rs.Draft202012Validator:
    options = jsonschema_rs.RegexOptions(size_limit=_REGEX_BYTES, dfa_size_limit=_REGEX_BYTES)
    patterns = list(_patterns(schema))
    many = len(patterns) > _MAX_PATTERNS or sum(map(len, patterns)) > _MAX_PATTERN_CHARACTERS
    for tried in (schema, _without_patterns(schema))[many:]:
        try:
            return jsonschema_rs.Draft202012Validator(
                tried, pattern_options=options, validate_formats=False, offline=True
            )
        except ValueError:  # any fault of a schema, with the library's own words
            continue
    raise Unlowerable(_NO_SCHEMA)


def _patterns(schema: Any) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    if isinstance(schema.get("pattern"), str):
        yield schema["pattern"]
    for steps, part in subschemas(schema):
        if steps[0] == "patternProperties":
            yield steps[1]
        yield from _patterns(part)


def _without_patterns(schema: Any) -> Any:
    """The schema without what needs regular expressions: some that are valid cannot be had in linear time."""
    if not isinstance(schema, Mapping):
        return schema
    kept = {key: value for key, value in schema.items() if key not in ("pattern", "patternProperties")}
    if "patternProperties" in schema:  # which properties are additional can no longer be told
        kept.pop("additionalProperties", None)
    for keyword in BY_NAME:
        if isinstance(kept.get(keyword), Mapping):
            kept[keyword] = {name: _without_patterns(part) for name, part in kept[keyword].items()}
    for keyword in IN_LISTS:
        if isinstance(kept.get(keyword), list):
            kept[keyword] = [_without_patterns(part) for part in kept[keyword]]
    return kept | {keyword: _without_patterns(kept[keyword]) for keyword in ALONE if keyword in kept}


def _check(validator: jsonschema_rs.Draft202012Validator, example: Any, path: str) -> None:
    try:
        validator.validate(example)
    except jsonschema_rs.ValidationError as error:
        where = ".".join(str(step)[:80] for step in error.instance_path)
        at = f" at `{where}`" if where else ""
        told = f"The example does not match `input_schema`{at}: `{error.kind.name}`"
        raise InvalidRequest(told, path=path) from None
    except ValueError:
        raise InvalidRequest("The example cannot be checked against `input_schema`", path=path) from None


class _Work:
    """Counts what a validator does with examples, if it never stops early."""

    def __init__(self, document: Document, root: Any) -> None:
        self._document = document
        self._root = root
        #: By schema and value; None while it is being counted.
        self._known: dict[tuple[int, int], int | None] = {}
        self._nested = 0
        self._left = _MAX_LOOKS

    def count(self, value: Any) -> None:
        """Add one example.

        Raises:
            TooComplex: it is more than may be, with those before.
            Unlowerable: the schema comes back to itself before it has looked into the value.
        """
        self._left -= self._both(self._root, value)
        if self._left < 0:
            raise TooComplex("Its examples cannot be checked.")

    def _both(self, schema: Any, value: Any) -> int:
        if not isinstance(schema, Mapping):
            return 1
        key = id(schema), id(value)
        if key in self._known:
            found = self._known[key]
            if found is None:
                raise Unlowerable("Circular $ref detected")
            return found
        if len(self._known) > _MAX_PAIRS or self._nested > _MAX_NESTED:
            raise TooComplex("Its examples cannot be checked.")
        self._known[key] = None
        self._nested += 1
        total = self._own(schema, value)
        if any(keyword in schema for keyword in _NOT_FOLLOWED):
            raise Unlowerable("`$dynamicRef` is not supported with `input_examples`")
        if "$ref" in schema:
            total += self._both(self._document.find(self._document.steps(schema["$ref"])), value)
        inner = _values_in(value)
        for steps, part in subschemas(schema):
            if steps[0] in _SAME_VALUE:
                total += self._both(part, value)
            elif steps[0] == "propertyNames":
                total += len(inner) * self._both(part, "")
            elif steps[0] not in ("$defs", "definitions"):
                total += sum(self._both(part, one) for one in _meant(steps, value, inner))
        if "unevaluatedProperties" in schema or "unevaluatedItems" in schema:
            total *= 2  # what the others have looked at is found out by looking again
        self._nested -= 1
        if total > _MAX_LOOKS:
            raise TooComplex("Its examples cannot be checked.")
        self._known[key] = total
        return total

    def _own(self, schema: Mapping[str, Any], value: Any) -> int:
        listed = schema.get("enum")
        patterns = schema.get("pattern")
        cost = 1 + (len(listed) if isinstance(listed, Sequence) else 0)
        if isinstance(patterns, str) and isinstance(value, str):
            cost += len(patterns) * len(value) // 1_000
        return cost


def _values_in(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _meant(steps: tuple[str, ...], value: Any, inner: list[Any]) -> list[Any]:
    """The values in it that a schema may be about."""
    keyword, *name = steps
    if keyword == "properties":
        return [value[name[0]]] if isinstance(value, Mapping) and name[0] in value else []
    if keyword == "prefixItems":
        index = int(name[0])
        return inner[index : index + 1] if isinstance(value, list | tuple) else []
    return inner
