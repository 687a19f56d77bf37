"""What every bench ends with: a table for people, a file of the same figures, and whether the bars hold."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table

_RESULTS = Path(__file__).parent / "results"


class Bar(msgspec.Struct, frozen=True):
    """What a figure must reach."""

    sense: Literal["at least", "at most"]
    limit: float

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.sense == "at least" else value <= self.limit


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured thing: the median of its runs, and all of them, so that the spread can be seen. `excused`: why its
    bar is not asked here."""

    name: str
    unit: str
    value: float
    bar: Bar | None = None
    holds: bool | None = None
    excused: str = ""
    low: float
    high: float
    runs: tuple[float, ...]


def figure(name: str, unit: str, runs: list[float], bar: Bar | None = None, excused: str = "") -> Figure:
    """The figure that these runs amount to."""
    value = median(runs)
    return Figure(
        name=name,
        unit=unit,
        value=value,
        bar=bar,
        holds=None if bar is None or excused else bar.holds(value),
        excused=excused,
        low=min(runs),
        high=max(runs),
        runs=tuple(runs),
    )


class Machine(msgspec.Struct, frozen=True):
    """Where it ran. `load` is the machine's load average before the bench began: what else was going on."""

    cpu: str
    cores: int
    memory_mb: int
    system: str
    python: str
    load: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one bench."""

    bench: str
    held: bool
    commit: str
    time: str
    seconds: float
    machine: Machine
    setting: dict[str, str]
    figures: tuple[Figure, ...]


def machine() -> Machine:
    """This machine, as Linux tells."""
    cpu = _field("/proc/cpuinfo", "model name") or platform.processor()
    memory_kb = (_field("/proc/meminfo", "MemTotal") or "0").split()[0]
    return Machine(
        cpu=cpu,
        cores=os.cpu_count() or 1,
        memory_mb=int(memory_kb) // 1024,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load=os.getloadavg()[0],
    )


def conclude(bench: str, figures: list[Figure], *, where: Machine, setting: dict[str, str], seconds: float) -> int:
    """Print and write the report. Returns the exit status: 1 when a bar is missed."""
    report = Report(
        bench=bench,
        held=all(each.holds is not False for each in figures),
        commit=_commit(),
        time=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        machine=where,
        setting=setting,
        figures=tuple(figures),
    )
    _RESULTS.mkdir(exist_ok=True)
    path = _RESULTS / f"{bench}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    _show(report, path)
    return 0 if report.held else 1


def _show(report: Report, path: Path) -> None:
    out = Console(highlight=False, width=None if Console().is_terminal else 140)
    table = Table(box=None, pad_edge=False)
    for heading in ("figure", "median", "lowest", "highest", "bar", ""):
        table.add_column(heading, justify="left" if heading in ("figure", "") else "right", no_wrap=True)
    for each in report.figures:
        bar = "" if each.bar is None else f"{'≥' if each.bar.sense == 'at least' else '≤'} {_number(each.bar.limit)}"
        verdict = {None: "", True: "[green]holds[/]", False: "[bold red]missed[/]"}[each.holds]
        shown = (f"{_number(number)} {each.unit}" for number in (each.value, each.low, each.high))
        table.add_row(each.name, *shown, bar, each.excused or verdict)
    where = report.machine
    out.print(table)
    out.print(
        f"\n{where.cpu}, {where.cores} cores, {where.memory_mb / 1024:.0f} GB, Python {where.python}, "
        f"commit {report.commit}, {report.seconds:.0f} s\n{path}",
        soft_wrap=True,
    )


def processor_has(feature: str) -> bool:
    """Whether the kernel names this feature of the processor."""
    return feature in (_field("/proc/cpuinfo", "flags") or "").split()


def free_mb() -> float:
    """Memory that could be taken now."""
    return int((_field("/proc/meminfo", "MemAvailable") or "0").split()[0]) / 1024


def peak_mb(pid: int) -> float:
    """The most memory that a process has held so far."""
    return int((_field(f"/proc/{pid}/status", "VmHWM") or "0").split()[0]) / 1024


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def _field(path: str, name: str) -> str | None:
    for line in Path(path).read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_RESULTS.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return f"{head} with changes" if git("status", "--porcelain", "--", "../src") else head
