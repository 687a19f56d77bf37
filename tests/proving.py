"""Counts, in a run of the tests, the documented behaviours that the run proved. A plugin, loaded by conftest.py.

A behaviour is proven by a run when each of its tests ran in it and passed, with every parameter that carries its id.
A test that was skipped, that failed or that was not selected proves nothing. Where pytest-xdist runs them, its workers
collect and tell the main process what they did.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec
import pytest

from manifest import Behaviour, behaviours

_KEY = pytest.StashKey["Proving"]()
_SHOWN = 10
_TOLD = "proving"


class Proving:
    """What became of the tests of each behaviour."""

    def __init__(self) -> None:
        #: Of each (behaviour, test function) the collected items, and of these the ones that were left out.
        self._items: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._left_out: set[str] = set()
        self._calls: set[str] = set()
        self._bad: set[str] = set()

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        for marker in item.iter_markers("behaviour"):
            for name in marker.args:
                self._items[name, item.nodeid.split("[")[0]].add(item.nodeid)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._left_out.update(item.nodeid for item in items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has ended; one that crashed told nothing, and its tests count as not run."""
        told = getattr(node, "workeroutput", {}).get(_TOLD)
        if told is not None:
            for name, test, items in told["items"]:
                self._items[name, test].update(items)
            self._left_out.update(told["left out"])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            items = [[name, test, sorted(items)] for (name, test), items in self._items.items()]
            output[_TOLD] = {"items": items, "left out": sorted(self._left_out)}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._calls.add(report.nodeid)
        if not report.passed:
            self._bad.add(report.nodeid)

    def _proven(self, behaviour: Behaviour) -> bool | None:
        """None where some of its tests were not selected."""
        items = [self._items.get((behaviour.id, test), set()) for test in behaviour.tests]
        if not all(items) or any(each & self._left_out for each in items):
            return None
        return all(each <= self._calls - self._bad for each in items)

    def lines(self, listed: list[Behaviour]) -> list[str]:
        """What to print at the end of the run."""
        verdicts = {behaviour.id: self._proven(behaviour) for behaviour in listed if behaviour.tests}
        unproven = [name for name, verdict in verdicts.items() if verdict is False]
        unasked = sum(verdict is None for verdict in verdicts.values())
        later = Counter(behaviour.part for behaviour in listed if behaviour.deferred)
        parts = ", ".join(f"{part} {count}" for part, count in later.most_common())
        counts = [
            f"{len(listed)} listed",
            f"{sum(verdict is True for verdict in verdicts.values())} proven by this run",
            *([f"{len(unproven)} not proven (failed or skipped)"] if unproven else []),
            *([f"{unasked} not asked (only some tests were selected)"] if unasked else []),
            f"{sum(behaviour.part == 'this' for behaviour in listed)} owed",
            f"{later.total()} deferred to later parts" + (f" ({parts})" if parts else ""),
        ]
        shown = [f"  not proven: {name}" for name in unproven[:_SHOWN]]
        if len(unproven) > _SHOWN:
            shown.append(f"  and {len(unproven) - _SHOWN} more")
        return ["behaviours: " + ", ".join(counts), *shown]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_KEY] = Proving()
    config.pluginmanager.register(config.stash[_KEY])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.collectonly:
        return
    try:
        listed = list(behaviours().values())
    except msgspec.ValidationError as error:  # what is wrong with it is test_manifest's to say
        terminalreporter.write_line(f"behaviours: the list cannot be read: {error}")
        return
    for line in config.stash[_KEY].lines(listed):
        terminalreporter.write_line(line)
