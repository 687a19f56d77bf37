"""Where the schema work of one request is done: here while it is little, else in the process `outside`.

What is little is told by a weight, from counting alone: about 25 µs each on the build machine. On the event loop
(`waits` is false) nothing more is done than `_HERE`, and `TakesLonger` says that the request has to be planned in a
thread, which may wait for the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.plan.schema.cache import LoweredCache, key_of
from antiphon.plan.schema.child import Answer, Checked, Fitting, Written, do
from antiphon.plan.schema.documented import Demand
from antiphon.plan.schema.lowering import Lowered, Spacing, any_object
from antiphon.plan.schema.outside import CPU_SECONDS, Outside, Spent
from antiphon.plan.schema.structure import Unlowerable, structure
from antiphon.plan.schema.writable import Ranges, writable

#: The weight of all that one request may have done on the event loop, or in its thread.
_HERE, _IN_THREAD = 600, 4_000
#: What is looked at on the event loop to see whether it is known already.
_LOOKED_AT = 4_000
#: The processor time, in seconds, after which no other task of a request is begun outside.
_MOST_SECONDS = 2.0
#: What weighs more than other values. Repeats multiply in patterns, merging does in `allOf`, following in `$ref`.
_PATTERN_CHARACTER = 25
_HEAVY = {"allOf": 40, "anyOf": 10, "oneOf": 10, "$ref": 10, "format": 20, "patternProperties": 400}
#: So many values of an example take as long as lowering the schema.
_VALUES_AT_ONCE = 20
_TOO_COMPLEX = "Schema is too complex for compilation."


class TakesLonger(Exception):
    """More work than the event loop may be held up for. Nothing is lost: plan again where it can be waited for."""


class _TooLong(msgspec.Struct, frozen=True):
    """In place of an answer; kept, so that asking again costs nothing."""


class Effort:
    """The schema work of one request. `unwritable` are the characters that the model cannot write."""

    def __init__(self, cache: LoweredCache, outside: Outside, *, waits: bool, unwritable: Ranges = ()) -> None:
        self._cache = cache
        self._unwritable = unwritable
        self._outside = outside
        self._waits = waits
        self._left = _IN_THREAD if waits else _HERE
        self._looks = _LOOKED_AT
        self._seconds = 0.0

    def check(self, schema: Any, path: str, *, tool: bool) -> Demand:
        """As `documented.check`.

        Raises:
            InvalidRequest: as that does, or it takes too long.
            TakesLonger, Overloaded: see the class and `outside`.
        """
        weight = self._weight(schema)
        task = {"do": "check", "schema": self._kept(schema, path), "path": path, "tool": tool}
        answer = self._done(task, weight)
        if isinstance(answer, Checked):
            return answer.demand
        raise InvalidRequest(_TOO_COMPLEX, path=path)

    def examples(self, schema: Any, examples: Sequence[Any] | None, path: str) -> None:
        """As `examples.check_examples`.

        Raises:
            InvalidRequest: as that does, or it takes too long.
            TakesLonger, Overloaded: see the class and `outside`.
        """
        if not examples:
            return
        # Each of the schemas may be held against each of the values, and the validator compiles every pattern at once.
        weight = self._weight(schema) * (1 + self._weight(examples) // _VALUES_AT_ONCE)
        weight += _IN_THREAD if holds_patterns(schema) else 0
        where = f"{path}.input_schema"
        self._kept({"const": list(examples)}, where)  # of a bearable size
        task = {"do": "examples", "schema": self._kept(schema, where), "path": path, "examples": list(examples)}
        if not isinstance(self._done(task, weight), Fitting):
            raise InvalidRequest("The examples take too long to check.", path=f"{path}.input_examples")

    def lower(self, schema: Any, spacing: Spacing, *, strict: bool, path: str | None = None) -> Lowered:
        """As `lowering.lower`; what takes too long is any object where it is not strict.

        Raises:
            InvalidRequest: as that does, or a strict one takes too long.
            TakesLonger, Overloaded: see the class and `outside`.
        """
        weight = self._weight(schema)
        try:
            kept = structure(schema)
        except Unlowerable as error:
            if strict:
                raise InvalidRequest(str(error), path=path) from None
            return any_object(spacing)
        written = [spacing.item, spacing.key]
        task = {"do": "lower", "schema": kept, "path": path, "spacing": written, "strict": strict, "prefix": ""}
        answer = self._done(task, weight)
        if isinstance(answer, Written):
            return answer.lowered
        if strict:
            raise InvalidRequest(_TOO_COMPLEX, path=path)
        return any_object(spacing)

    def _weight(self, value: Any) -> int:
        """Bounded on the event loop, as is all that follows from it.

        Raises:
            TakesLonger: it is more than is looked at.
        """
        if self._waits:
            return weight(value, _IN_THREAD + 1)
        found = weight(value, self._looks + 1)
        self._looks -= found
        if self._looks < 0:
            raise TakesLonger
        return found

    def _kept(self, schema: Any, path: str) -> Any:
        try:
            return structure(schema)
        except Unlowerable as error:
            raise InvalidRequest(str(error), path=path) from None

    def _done(self, task: dict[str, Any], weight: int) -> Answer | _TooLong:
        """The answer, remembered or new."""
        key = key_of({**task, "path": None, "unwritable": self._unwritable})
        known: Answer | _TooLong | None = self._cache.get(key)
        if known is not None:
            return known
        if weight > self._left and self._waits and self._seconds >= _MOST_SECONDS:
            return _TooLong()  # for the company it is in, so it is not kept
        answer = self._answer(task, weight)
        if isinstance(answer, Written) and self._unwritable:
            answer = Written(writable(answer.lowered, self._unwritable))
        self._cache.put(key, answer, answer.lowered if isinstance(answer, Written) else None)
        return answer

    def _answer(self, task: dict[str, Any], weight: int) -> Answer | _TooLong:
        if weight <= self._left:
            self._left -= weight
            return do(task)
        if not self._waits:
            raise TakesLonger
        try:
            reply = self._outside.ask(task)
        except Spent:
            self._seconds += CPU_SECONDS
            return _TooLong()
        self._seconds += reply.seconds
        return reply.answer


def weight(value: Any, most: int) -> int:
    """What work on a schema, or on a value, may come to; counted no further than `most`."""
    total = 0
    todo = [value]
    while todo and total < most:
        at = todo.pop()
        total += 1
        if isinstance(at, Mapping):
            total += len(at)
            for key, part in islice(at.items(), most):
                todo.append(part)
                if key in _HEAVY:
                    total += _HEAVY[key] * (len(part) if isinstance(part, list | tuple) else 1)
                elif key == "pattern" and isinstance(part, str):
                    total += _PATTERN_CHARACTER * len(part)
        elif isinstance(at, list | tuple):
            total += len(at)
            todo += at[:most]
        elif isinstance(at, str):
            total += len(at) // 20
    return total


def holds_patterns(value: Any) -> bool:
    """Whether regular expressions may be in a schema; looked at no further than is weighed."""
    todo = [value]
    for _ in range(_LOOKED_AT):
        if not todo:
            return False
        at = todo.pop()
        if isinstance(at, Mapping):
            if "pattern" in at or "patternProperties" in at:
                return True
            todo += islice(at.values(), _LOOKED_AT)
        elif isinstance(at, list | tuple):
            todo += at[:_LOOKED_AT]
    return True
