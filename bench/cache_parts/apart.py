"""Two workspaces: whether one can tell, by its bill or by the clock, that the other has sent a prompt.

Before each sample the first workspace sends a new prompt, which is not timed. The second one then sends the same, or
one that nobody has sent: what the server did just before is alike in both cases. The cases are drawn in pairs, in an
order that changes. That the test could tell a cache is shown on the first workspace's own repeated prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from rich.console import Console

from bench.cache_parts.arithmetic import chance_of_gap, largest_gap
from bench.cache_parts.asking import Antiphon, Heard, Texts
from bench.cache_parts.extent import Extent, Model
from bench.cache_parts.watching import Watched
from bench.report import Bar, Figure, figure

#: The chance of so large a gap between the two samples, if there is nothing to tell them apart by.
_ALIKE_BAR = Bar("at least", 0.01)
_TOLD_BAR = Bar("at most", 0.01)
_NO_READS = Bar("at most", 0)
_TOKENS = 1
_WARM_UP = 3
_TOLD_EACH = 50


def figures(name: str, model: Model, watched: Watched, texts: Texts, extent: Extent, out: Console) -> Iterator[Figure]:
    first, second = watched.clients

    def sample(*, same: bool) -> Heard:
        prompt = texts.new(model.shared)
        _ask(first, prompt)
        return _ask(second, prompt if same else texts.new(model.shared))

    for _ in range(_WARM_UP):
        sample(same=True)
    heard: dict[bool, list[Heard]] = {True: [], False: []}
    for number in range(extent.samples):
        for same in (number % 2 == 0, number % 2 == 1):
            heard[same].append(sample(same=same))
        if (number + 1) % _TOLD_EACH == 0:
            out.print(f"{name}, two workspaces: {number + 1} of {extent.samples} pairs")
    own = [_again(first, texts.new(model.shared)) for _ in range(extent.repeats)]
    yield from _told(f"{name}, apart", heard[True], heard[False], own)


def _again(workspace: Antiphon, prompt: str) -> Heard:
    _ask(workspace, prompt)
    return _ask(workspace, prompt)


def _ask(workspace: Antiphon, prompt: str) -> Heard:
    return workspace.ask(prompt, [{"role": "user", "content": "Which word is this?"}], _TOKENS)


def _told(name: str, present: list[Heard], absent: list[Heard], own: list[Heard]) -> Iterator[Figure]:
    """`present`: with the other's entry; `absent`: with none; `own`: with one's own."""
    theirs, none, ours = ([each.first * 1000 for each in heard] for heard in (present, absent, own))
    read = float(sum(each.read for each in present))
    yield figure(f"{name}: all reads of the other's entries", "tokens", [read], _NO_READS)
    yield figure(f"{name}: chance of the gap to the other's entry", "", [chance_of_gap(theirs, none)], _ALIKE_BAR)
    yield figure(f"{name}: gap to the other's entry", "", [largest_gap(theirs, none)])
    yield figure(f"{name}: chance of the gap to one's own entry", "", [chance_of_gap(ours, none)], _TOLD_BAR)
    yield figure(f"{name}: first token with the other's entry", "ms", theirs)
    yield figure(f"{name}: first token with no entry", "ms", none)
    yield figure(f"{name}: first token with one's own entry", "ms", ours)
    yield figure(f"{name}: read of one's own entry", "tokens", [median(float(each.read) for each in own)])
