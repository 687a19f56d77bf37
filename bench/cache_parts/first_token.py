"""The first token behind a long prefix, cold and warm, of all sides in turn."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping

from rich.console import Console

from bench.cache_parts.asking import Heard, Side, Texts
from bench.cache_parts.extent import BARE, Extent, Model
from bench.report import Bar, Figure, figure

#: Percent of the cold first token's time that the warm one may take.
_WARM_BAR = Bar("at most", 5)
_TOKENS = 4
_QUESTIONS = ("What stands at the beginning?", "And what stands at the end?")

Pair = tuple[Heard, Heard]


def figures(model: Model, extent: Extent, sides: Mapping[str, Side], texts: Texts, out: Console) -> Iterator[Figure]:
    """Each round has a new prefix for each side; who comes first gains nothing by it over the rounds."""
    for side in sides.values():  # what is slow only once
        side.ask(texts.new(64), _asked(0), _TOKENS)
    heard: dict[str, list[Pair]] = defaultdict(list)
    began = time.monotonic()
    for number in range(extent.rounds):
        if number and time.monotonic() - began > model.long_seconds:
            break
        for name, side in sorted(sides.items(), reverse=number % 2 == 1):
            system = texts.new(extent.prefix)
            cold = side.ask(system, _asked(0), _TOKENS)
            warm = side.ask(system, _asked(1), _TOKENS)
            heard[name].append((cold, warm))
            out.print(f"{model.short}, {name}, prefix {number + 1}: {cold.first:.2f} s cold, {warm.first:.3f} s warm")
    for name in sides:
        yield from _told(f"{model.short}, {name}", heard[name], extent, bare=name == BARE)


def _asked(number: int) -> list[object]:
    return [{"role": "user", "content": _QUESTIONS[number]}]


def _told(name: str, pairs: list[Pair], extent: Extent, *, bare: bool) -> Iterator[Figure]:
    def of(what: str, unit: str, runs: list[float], bar: Bar | None = None) -> Figure:
        return figure(f"{name}, {extent.prefix:,} tokens: {what}", unit, runs, bar)

    yield of(
        "warm first token, of cold",
        "%",
        [100 * warm.first / cold.first for cold, warm in pairs],
        None if bare else _WARM_BAR,
    )
    yield of("first token cold", "ms", [cold.first * 1000 for cold, _ in pairs])
    yield of("first token warm", "ms", [warm.first * 1000 for _, warm in pairs])
    yield of("prompt", "tokens", [float(cold.prompt) for cold, _ in pairs])
    if not bare:
        yield of("written when cold", "tokens", [float(cold.written) for cold, _ in pairs])
        yield of("read when cold", "tokens", [float(cold.read) for cold, _ in pairs])
    yield of("not computed again when warm" if bare else "read when warm", "tokens", [float(w.read) for _, w in pairs])
