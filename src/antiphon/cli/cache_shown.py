"""How `antiphon cache explain` tells what it found: a text for people, a document for machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from antiphon.core.money import DOLLARS, decimal
from antiphon.core.records import Cost, Usage
from antiphon.plan.caching.advice import Measured
from antiphon.plan.caching.explain import Difference, Explanation, Parameter, Parting, Row
from antiphon.plan.caching.positions import Level

#: What is shown of one side, in characters, and how much of that stands before the place that is meant.
_SHOWN, _BEFORE = 58, 30
#: Unmarked positions in a row that all go the same way: of more than these the inner ones are counted only.
_MOST_ALIKE = 6
_STATES = {
    "same": "same",
    "behind": "same block",
    "different": "different",
    "only_a": "only in A",
    "only_b": "only in B",
}
_LEVELS: tuple[Level, ...] = ("tools", "system", "messages")


class Measurement(msgspec.Struct, frozen=True):
    """One request: where it was read from, what it asked for, what answers, and the prompt's tokens."""

    name: str
    model: str
    served: str
    tokens: int
    measured: Measured


class Priced(msgspec.Struct, frozen=True):
    """What a request would be billed, its input side alone."""

    label: str
    usage: Usage
    cost: Cost


class Compared(msgspec.Struct, frozen=True):
    """All that is told."""

    a: Measurement
    b: Measurement
    told: Explanation
    costs: tuple[Priced, ...]
    advice: tuple[str, ...]


def show(compared: Compared, out: Console) -> None:
    """For people."""
    for letter, each in (("A", compared.a), ("B", compared.b)):
        minimum = each.measured.side.caching.minimum
        line = f"{letter}: {each.name}, {each.model} answered by {each.served}, {each.tokens:,} tokens"
        out.print(Text(_plain(f"{line}; prefixes are cached from {minimum:,} tokens on")), soft_wrap=True)
    out.print()
    out.print(_positions(compared))
    if any(row.state == "behind" for row in compared.told.rows):
        out.print(Text("same block: equal in itself, behind the divergence and so not the same prefix", "dim"))
    out.print()
    out.print(Text(_divergence(compared)), soft_wrap=True)
    for parameter in compared.told.parameters:
        lost = "everything" if parameter.level is None else _listed(_invalid(parameter))
        line = f"{parameter.name}: {_cut(parameter.a)} in A, {_cut(parameter.b)} in B; this invalidates {lost}"
        out.print(Text(line), soft_wrap=True)
    out.print()
    out.print(_costs(compared.costs))
    if compared.advice:
        out.print(Text("\nAdvice", "bold"))
    for advised in compared.advice:
        out.print(Text(f"  {_plain(advised)}"), soft_wrap=True)


def document(compared: Compared) -> dict[str, Any]:
    """For machines. Characters are counted from 1, as in the text."""
    told = compared.told
    return {
        "a": _side(compared.a),
        "b": _side(compared.b),
        "positions": [_position(compared, row) for row in told.rows],
        "divergence": None if told.parting is None else _parting(told.parting) | {"text": _divergence(compared)},
        "parameters": [
            {"name": each.name, "a": each.a, "b": each.b, "invalidates": _invalid(each)} for each in told.parameters
        ],
        "costs": {
            name: _priced(priced) for name, priced in zip(("a", "b_after_a", "b_alone"), compared.costs, strict=True)
        },
        "advice": list(compared.advice),
    }


def _side(each: Measurement) -> dict[str, Any]:
    measured = each.measured
    return {
        "name": each.name,
        "model": each.model,
        "served_model": each.served,
        "tokens": each.tokens,
        "minimum_tokens": measured.side.caching.minimum,
        "breakpoints": [
            {
                "path": measured.path(mark.place),
                "tokens": measured.ends[mark.place],
                "ttl": mark.lifetime,
                "long_enough": mark in measured.long_enough,
            }
            for mark in measured.marks
        ],
    }


def _position(compared: Compared, row: Row) -> dict[str, Any]:
    def of(each: Measurement, place: int | None) -> dict[str, Any] | None:
        if place is None:
            return None
        ttl = next((mark.lifetime for mark in each.measured.marks if mark.place == place), None)
        return {"path": each.measured.path(place), "tokens": each.measured.ends[place], "ttl": ttl}

    return {
        "path": row.path,
        "state": row.state,
        "a": of(compared.a, row.place_a),
        "b": of(compared.b, row.place_b),
    }


def _parting(parting: Parting) -> dict[str, Any]:
    found = parting.difference
    where: dict[str, Any] = {"kind": None, "pointer": None, "character": None, "a_shown": None, "b_shown": None}
    if found is not None:
        where = {
            "kind": found.kind,
            "pointer": "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in found.steps),
            "character": None if found.character is None else found.character + 1,
            "a_shown": _shown(found, found.a),
            "b_shown": _shown(found, found.b),
        }
    return {
        "same_positions": parting.same,
        "level": parting.level,
        "cause": parting.cause,
        "a": parting.path_a,
        "b": parting.path_b,
    } | where


def _priced(priced: Priced) -> dict[str, Any]:
    usage, nano = priced.usage, priced.cost.total_nano
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_5m_tokens": usage.cache_write_5m_tokens,
        "cache_creation_1h_tokens": usage.cache_write_1h_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cost_nano": nano,
        "cost_usd": decimal(nano, DOLLARS, least=2),
    }


def _positions(compared: Compared) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("position", overflow="fold")
    for letter in "AB":
        table.add_column(f"tokens in {letter}", justify="right", no_wrap=True)
        table.add_column(f"mark in {letter}", no_wrap=True)
    table.add_column("", no_wrap=True)
    for rows in _runs(compared):
        shown = rows if len(rows) <= _MOST_ALIKE else [rows[0], None, rows[-1]]
        for row in shown:
            if row is None:
                table.add_row(Text(f"  … {len(rows) - 2:,} more", "dim"), "", "", "", "", _STATES[rows[0].state])
                continue
            cells = [*_cells(compared.a, row.place_a), *_cells(compared.b, row.place_b)]
            table.add_row(Text(row.path), *cells, _STATES[row.state])
    return table


def _runs(compared: Compared) -> Iterator[list[Row]]:
    """Rows in their order; those that carry a mark stand alone."""
    marked = [{mark.place for mark in each.measured.marks} for each in (compared.a, compared.b)]

    def kind(row: Row) -> str:
        alone = row.place_a in marked[0] or row.place_b in marked[1] or row.state == "different"
        return row.path if alone else row.state

    return (list(rows) for _, rows in groupby(compared.told.rows, kind))


def _cells(each: Measurement, place: int | None) -> tuple[str, str]:
    if place is None:
        return "", ""
    mark = next((mark for mark in each.measured.marks if mark.place == place), None)
    short = mark is not None and mark not in each.measured.long_enough
    told = "" if mark is None else f"{mark.lifetime}{', too short' if short else ''}"
    return f"{each.measured.ends[place]:,}", told


def _divergence(compared: Compared) -> str:
    parting = compared.told.parting
    if parting is None:
        return _no_divergence(compared)
    if parting.level is None:
        names = [each.name for each in compared.told.parameters if each.level is None]
        return f"They part before the first block: {_differ(names)}"
    if parting.cause == "missing":
        return f"They part in {parting.level}: A has {parting.path_a} where B has {parting.path_b}"
    where = _where(parting)
    if parting.cause == "parameters":
        names = [each.name for each in compared.told.parameters if each.level == parting.level]
        return f"They part at {parting.path_b}, in front of it: {_differ(names)}"
    found = parting.difference
    return f"They part at {where}" if found is None else f"They part at {where}{_told(found)}"


def _differ(names: Sequence[str]) -> str:
    return f"{_listed(names)} differ{'s' if len(names) == 1 else ''}"


def _no_divergence(compared: Compared) -> str:
    a, b = (each.measured.side for each in (compared.a, compared.b))
    if len(a.shared) == len(b.shared):
        return "They do not part: both are the same prompt"
    letter, other, longer, shorter = ("B", "A", b, a) if len(a.shared) < len(b.shared) else ("A", "B", a, b)
    return (
        f"They do not part: {letter} goes on from {other}, with {longer.found[longer.shared[len(shorter.shared)]].path}"
    )


def _where(parting: Parting) -> str:
    """The place that is meant, as a dotted path."""
    steps = "" if parting.difference is None else "".join(f".{step}" for step in parting.difference.steps)
    paths = [parting.path_a or "", parting.path_b or ""]
    if parting.cause == "message":
        paths = [path.rpartition(".content.")[0] for path in paths]
    paths = [_plain(f"{path}{steps}") for path in paths]
    return paths[0] if paths[0] == paths[1] else f"{paths[0]} in A, {paths[1]} in B"


def _told(found: Difference) -> str:
    a, b = _shown(found, found.a), _shown(found, found.b)
    if found.kind == "text" and found.character is not None:
        return f", character {found.character + 1:,}: {a} against {b}"
    if found.kind == "order":
        return f": the same fields in another order: {a} against {b}"
    if found.kind == "missing":
        letter, value = ("A", a) if found.b is None else ("B", b)
        return f": only {letter} has it: {value}"
    return f": {a} against {b}"


def _shown(found: Difference, text: str | None) -> str | None:
    if text is None:
        return None
    return _cut(text) if found.character is None else _excerpt(text, found.character)


def _excerpt(text: str, at: int) -> str:
    """A text around a character, in quotation marks, with what was left out as an ellipsis."""
    start, end, room = at, at, _SHOWN
    while start > 0 and (width := len(_plain(text[start - 1]))) <= room - (_SHOWN - _BEFORE):
        start, room = start - 1, room - width
    while end < len(text) and (width := len(_plain(text[end]))) <= room:
        end, room = end + 1, room - width
    return f'{"…" * (start > 0)}"{_plain(text[start:end])}"{"…" * (end < len(text))}'


def _cut(value: str) -> str:
    shown = _plain(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _plain(text: str) -> str:
    """Without anything that a terminal would obey: what is not printable is written as its escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _costs(costs: Sequence[Priced]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("prompt tokens", no_wrap=True)
    for head in ("read", "written 5m", "written 1h", "input", "cost"):
        table.add_column(head, justify="right", no_wrap=True)
    amounts = [decimal(priced.cost.total_nano, DOLLARS, least=2) for priced in costs]
    places = max(len(amount.partition(".")[2]) for amount in amounts)
    for priced in costs:
        usage = priced.usage
        numbers = (
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.input_tokens,
        )
        amount = decimal(priced.cost.total_nano, DOLLARS, least=places)
        table.add_row(priced.label, *(f"{number:,}" for number in numbers), f"${amount}")
    return table


def _invalid(each: Parameter) -> list[str]:
    return [*_LEVELS] if each.level is None else [*_LEVELS[_LEVELS.index(each.level) :]]


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
