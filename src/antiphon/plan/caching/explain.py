"""Where two requests part, to the block and the character, and what of them holds a prefix back from being shared.

    explanation = explain(Side.of(a, caching), Side.of(b, caching))

It says what the keys of `prefixes` say, and why: the place where they part is the first of A's keys that B has not.
What the platform runs (web search and its like) has no key of its own and is told as a parameter, as it works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

import msgspec

from antiphon.plan.caching.positions import Level, Position, positions
from antiphon.plan.caching.prefixes import (
    Caching,
    Prefixes,
    cites,
    for_messages,
    plain,
    prefixes,
    run_by_platform,
)
from antiphon.wire.request import Conversation

_ORDER: tuple[Level, ...] = ("tools", "system", "messages")
#: What `prefixes` makes part of every key of the messages, in its order.
_OF_MESSAGES = (
    "tool_choice",
    "images",
    "thinking.type",
    "thinking.budget_tokens",
    "output_config.effort",
    "output_config.format",
)
_encode = msgspec.json.Encoder(order=None).encode

#: `same`: the prefix that ends there is one. `behind`: the block is the same, what stands before it is not.
State: TypeAlias = Literal["same", "behind", "different", "only_a", "only_b"]
#: What a divergence comes from: parameters that enter there, the message that begins there, the block, or a block that
#: only one of them has.
Cause: TypeAlias = Literal["parameters", "message", "block", "missing"]
#: `text`: two strings part at a character. `order`: the same fields of an object in another order. `missing`: a field
#: or an entry that one of them has not. `value`: anything else.
Kind: TypeAlias = Literal["text", "order", "missing", "value"]


class Side(msgspec.Struct, frozen=True):
    """One of the two requests. `shared` are the places of the positions that have a key of their own."""

    request: Conversation
    caching: Caching
    found: tuple[Position, ...]
    keyed: Prefixes
    shared: tuple[int, ...]

    @classmethod
    def of(cls, request: Conversation, caching: Caching) -> Side:
        """A request under the rules it is cached by. Both sides are to have one scope and one secret."""
        found = tuple(positions(request))
        own = tuple([place for place, position in enumerate(found) if not run_by_platform(position.block)])
        return cls(request, caching, found, prefixes(request, found, caching), own)

    @property
    def keys(self) -> list[bytes]:
        """Those of `shared`."""
        return [self.keyed.keys[place] for place in self.shared]


class Difference(msgspec.Struct, frozen=True):
    """Where two values part: the steps to it from the block's top, and in a string the character, counted from 0. `a`
    and `b` are both texts there, whole; otherwise JSON, or the names of fields in their order. None: it has none."""

    kind: Kind
    steps: tuple[str | int, ...]
    a: str | None
    b: str | None
    character: int | None = None


class Parameter(msgspec.Struct, frozen=True):
    """A parameter that the two have not in common, as JSON. It invalidates its level and those behind it; None:
    everything."""

    name: str
    a: str
    b: str
    level: Level | None


class Parting(msgspec.Struct, frozen=True):
    """The first divergence. `same` positions stand before it in both; `level` is None where not even the empty prefix
    is shared. `path_a` and `path_b` are the positions that part, None where a request has ended."""

    same: int
    level: Level | None
    cause: Cause
    path_a: str | None
    path_b: str | None
    difference: Difference | None = None


class Row(msgspec.Struct, frozen=True):
    """A position of either request, by its place in the list of each."""

    path: str
    state: State
    place_a: int | None
    place_b: int | None


class Explanation(msgspec.Struct, frozen=True):
    """`parting` is None where one request goes on from the other, or both are the same."""

    parting: Parting | None
    parameters: tuple[Parameter, ...]
    rows: tuple[Row, ...]


def explain(a: Side, b: Side) -> Explanation:
    """Compare two requests."""
    same = _same(a, b)
    parameters = tuple(_parameters(a, b))
    return Explanation(_parting(a, b, same, parameters), parameters, tuple(_rows(a, b, same)))


def difference(a: object, b: object, steps: tuple[str | int, ...] = ()) -> Difference | None:
    """The first place, in the order of writing, where two JSON values are not the same; None: there is none."""
    if isinstance(a, str) and isinstance(b, str):
        return None if a == b else Difference("text", steps, a, b, _parts_at(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return _of_objects(a, b, steps)
    if isinstance(a, list) and isinstance(b, list):
        for place, (left, right) in enumerate(zip(a, b, strict=False)):
            if found := difference(left, right, (*steps, place)):
                return found
        if len(a) == len(b):
            return None
        place = min(len(a), len(b))
        left, right = (_json(side[place]) if place < len(side) else None for side in (a, b))
        return Difference("missing", (*steps, place), left, right)
    if _json(a) == _json(b):
        return None
    return Difference("value", steps, _json(a), _json(b))


def _of_objects(a: dict[str, Any], b: dict[str, Any], steps: tuple[str | int, ...]) -> Difference | None:
    for left, right in zip_longest(a, b):
        if left == right:
            if found := difference(a[left], b[right], (*steps, left)):
                return found
        elif left is not None and left not in b:
            return Difference("missing", (*steps, left), _json(a[left]), None)
        elif right is not None and right not in a:
            return Difference("missing", (*steps, right), None, _json(b[right]))
        else:
            return Difference("order", steps, _json([*a]), _json([*b]))
    return None


def _parts_at(a: str, b: str) -> int:
    """How many characters both begin with. By halves: texts may be megabytes."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _json(value: object) -> str:
    return _encode(value).decode()


def _same(a: Side, b: Side) -> int:
    """How many positions both begin with. A key covers all before it."""
    if a.keyed.root != b.keyed.root:
        return 0
    both = zip(a.keys, b.keys, strict=False)
    return next((place for place, (left, right) in enumerate(both) if left != right), min(len(a.keys), len(b.keys)))


def _parting(a: Side, b: Side, same: int, parameters: Sequence[Parameter]) -> Parting | None:
    left, right = _at(a, same), _at(b, same)
    path_a, path_b = (None if position is None else position.path for position in (left, right))
    if a.keyed.root != b.keyed.root:
        return Parting(0, None, "parameters", path_a, path_b)
    if left is None or right is None:
        return None
    level = min(left.level, right.level, key=_ORDER.index)
    if left.level != right.level:
        return Parting(same, level, "missing", path_a, path_b)
    before = _at(a, same - 1) if same else None
    entered = _ORDER[_ORDER.index("tools" if before is None else before.level) + 1 : _ORDER.index(level) + 1]
    if first := next((each.level for each in parameters if each.level in entered), None):
        return Parting(same, first, "parameters", path_a, path_b, _between(left, right))
    if (left.message is None) != (right.message is None):
        return Parting(same, level, "missing", path_a, path_b)
    if head := difference(_head(left), _head(right)):
        return Parting(same, level, "message", path_a, path_b, head)
    return Parting(same, level, "block", path_a, path_b, _between(left, right))


def _at(side: Side, number: int) -> Position | None:
    return side.found[side.shared[number]] if number < len(side.shared) else None


def _between(left: Position, right: Position) -> Difference | None:
    return difference(_value(left), _value(right))


def _value(position: Position) -> Any:
    """A block as JSON, without its marks and with its fields in their order."""
    return msgspec.to_builtins(plain(position.block), order=None)


def _head(position: Position) -> Any:
    """What the message says that begins with this block, besides its blocks."""
    message = position.message
    if message is None:
        return None
    return {
        "role": message.role,
        "clear_at": message.clear_at,
        "output_config": msgspec.to_builtins(message.output_config),
    }


def _parameters(a: Side, b: Side) -> Iterator[Parameter]:
    """What differs, in the order in which it enters the keys."""
    for (name, level, left), (_, _, right) in zip(_told(a), _told(b), strict=True):
        if _json(left) != _json(right):
            yield Parameter(name, _json(left), _json(right), level)


def _told(side: Side) -> Iterator[tuple[str, Level | None, Any]]:
    request, caching = side.request, side.caching
    yield "model", None, caching.model
    yield "served model", None, caching.served
    yield "speed", None, request.speed or "standard"
    yield "server tools", "system", [plain(each.block) for each in side.found if run_by_platform(each.block)]
    yield "citations", "system", cites(side.found)
    for name, value in zip(_OF_MESSAGES, for_messages(request, caching, side.found), strict=True):
        yield name, "messages", value


def _rows(a: Side, b: Side, same: int) -> list[Row]:
    rows = [
        Row(a.found[left].path, "same", left, right)
        for left, right in zip(a.shared[:same], b.shared[:same], strict=True)
    ]
    rest_a = _rest(a, same)
    rest_b = _rest(b, same)
    for path in dict.fromkeys([*rest_a, *rest_b]):
        left, right = rest_a.get(path), rest_b.get(path)
        rows.append(Row(path, _state(a, b, left, right), left, right))
    return sorted(rows, key=_written_at)


def _rest(side: Side, same: int) -> dict[str, int]:
    """Of the positions behind the common ones, and those that the platform runs: path -> place."""
    common = set(side.shared[:same])
    return {position.path: place for place, position in enumerate(side.found) if place not in common}


def _state(a: Side, b: Side, left: int | None, right: int | None) -> State:
    if left is None or right is None:
        return "only_b" if left is None else "only_a"
    here, there = a.found[left], b.found[right]
    if _between(here, there) is not None or difference(_head(here), _head(there)) is not None:
        return "different"
    return "same" if run_by_platform(here.block) else "behind"


def _written_at(row: Row) -> tuple[int, ...]:
    """Where a path stands in a request: its level's, then its numbers."""
    level, *rest = row.path.split(".")
    return (_ORDER.index(level), *[int(each) for each in rest if each.isdecimal()])
