"""`make bench-cache`: whether what is billed as a cache read is one, on the clock, after a restart and between
workspaces.

Each embedded engine behind `antiphon serve`, with its defaults, asked through the official SDK's streams; beside them
the same weights behind a bare llama.cpp server, from the same library, with as many slots. All are loaded at the same
time and asked in turn. Prompts are drawn anew.

- *first*: the first token behind a marked system prompt of 6,000 tokens, cold, and then with another question.
- *interleaved*: 12 conversations of 3,000 tokens take turns on 4 seats: what of the prompt sent before is billed as
  read, and what was truly not computed again. The bare server, with its cache behind its slots, tells the latter.
- *restart*: the engine's process is killed behind a warm prefix; the next request is a write, and cold.
- *apart*: two workspaces send the same prompt; the second reads nothing, and a Kolmogorov-Smirnov test of its first
  tokens does not tell the other's entry from none. Nothing else is loaded then.

The smaller model is measured, unless `--model` asks for another one, of which llama.cpp takes ten minutes for a cold
prefix: of that one the first part alone, unless `--only` asks for another. `--only PART` and `--engine NAME` measure
less; `--quick` does little of everything, to see that it works. Such runs are written to a file of their own.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape

from antiphon.core import settings
from antiphon.core.clock import SystemClock
from antiphon.engine import weights
from antiphon.observe import logs
from antiphon.routing import catalogue
from antiphon.serving import models_folder, served_models
from bench import subject
from bench.cache_parts import apart, first_token, interleaved, restart
from bench.cache_parts.asking import Bare, Side, Texts, bare
from bench.cache_parts.extent import (
    APART,
    BARE,
    FIRST,
    FULL,
    INTERLEAVED,
    LIBRARIES,
    MODELS,
    PARTS,
    QUICK,
    RESTART,
    Extent,
    Model,
)
from bench.cache_parts.watching import SEATS, Watched, configure, watched
from bench.load import Bystanders, Processes, Unmeasurable
from bench.report import Figure, conclude, figure, machine


def main() -> int:
    out = Console(highlight=False, stderr=True)
    asked = _arguments()
    began, where = time.monotonic(), machine()
    extent = QUICK if asked.quick else FULL
    logs.configure("error", "text")  # for what of Antiphon runs in this process
    figures: list[Figure] = []
    try:
        for model in MODELS:
            if model.name == (asked.model or MODELS[0].name):
                with subject.home(out, model.name, prepared=model.prepared and "openvino" in asked.engines) as home:
                    figures += _Bench(model, asked, extent, home, out).figures()
    except Unmeasurable as error:
        out.print(f"[bold red]bench-cache:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    part = asked.quick or asked.only or asked.model or asked.engine
    return conclude(
        "cache-quick" if part else "cache",
        figures,
        where=where,
        setting={
            "sides": "antiphon serve, by the official SDK; llama.cpp's server, by completions of tokens; asked in turn",
            "seats": f"{SEATS}, and as many slots; all cores; Antiphon's defaults otherwise",
            "first": f"prefixes of {extent.prefix:,} tokens, {extent.rounds} at most, as long as "
            + ", ".join(f"{each.long_seconds:.0f} s ({each.short})" for each in MODELS)
            + " last",
            "interleaved": f"{extent.conversations} conversations of {extent.conversation:,} tokens, {extent.turns} "
            f"turns each, {SEATS} clients at a time; a run is a turn",
            "restart": f"SIGKILL, behind a prefix of {extent.conversation:,} tokens",
            "apart": f"{extent.samples} samples of each case, {extent.repeats} repeats of one's own; prompts of "
            + ", ".join(f"{each.shared:,} ({each.short})" for each in MODELS)
            + " tokens",
            "models": "SmolLM2: 135M, Q4_1 as it is; Qwen: 2.5-Coder-1.5B, Q4_K_M, for OpenVINO prepared",
        },
        seconds=time.monotonic() - began,
    )


class _Asked(msgspec.Struct, frozen=True):
    """What the command line asks for."""

    quick: bool
    only: str | None
    model: str | None
    engine: str | None

    @property
    def engines(self) -> tuple[str, ...]:
        return LIBRARIES if self.engine is None else (self.engine,)


def _arguments() -> _Asked:
    parser = argparse.ArgumentParser(prog="bench.cache")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--model", choices=[each.name for each in MODELS])
    parser.add_argument("--engine", choices=LIBRARIES)
    found = parser.parse_args()
    return _Asked(found.quick, found.only, found.model, found.engine)


class _Bench:
    """One model."""

    def __init__(self, model: Model, asked: _Asked, extent: Extent, home: Path, out: Console) -> None:
        self._model = model
        self._engines = asked.engines
        self._parts = model.parts if asked.only is None else (asked.only,)
        self._extent = extent
        self._home = home
        self._out = out
        self._processes = Processes()
        self._texts = self._new_texts()

    def figures(self) -> list[Figure]:
        found: list[Figure] = []
        if set(self._parts) - {APART}:
            with ExitStack() as stack:
                found += self._beside_each_other(stack)
        if APART in self._parts:
            for engine in self._engines:
                found += self._apart(engine)
        return found

    def _beside_each_other(self, stack: ExitStack) -> Iterator[Figure]:
        servers = {
            engine: stack.enter_context(watched(self._home / engine, engine, self._texts)) for engine in self._engines
        }
        for each in servers.values():
            self._processes.add(each.server.pid, *each.children())
        if set(self._parts) & {FIRST, INTERLEAVED}:
            alone = stack.enter_context(self._bare())
        self._out.print(f"{self._model.short}: all are loaded")
        if FIRST in self._parts:
            yield from self._first(servers, alone)
        if INTERLEAVED in self._parts:
            for engine, each in servers.items():
                yield from interleaved.of_antiphon(self._named(engine), each, self._texts, self._extent)
                self._out.print(f"{self._named(engine)}: conversations took turns")
            yield from interleaved.of_bare(self._named(BARE), alone, self._texts, self._extent)
        if RESTART in self._parts:
            for engine, each in servers.items():
                yield from restart.figures(self._named(engine), each, self._texts, self._extent)

    def _first(self, servers: dict[str, Watched], alone: Bare) -> Iterator[Figure]:
        sides: dict[str, Side] = {engine: each.client for engine, each in servers.items()}
        sides[BARE] = alone
        with Bystanders(self._processes) as bystanders:
            found = list(first_token.figures(self._model, self._extent, sides, self._texts, self._out))
        yield from found
        yield figure(f"{self._model.short}: CPU that others took meanwhile", "cores", [bystanders.cores])

    def _apart(self, engine: str) -> Iterator[Figure]:
        folder = self._home / f"{engine}-apart"
        with watched(folder, engine, self._texts, workspaces=("first", "second")) as server:
            yield from apart.figures(self._named(engine), self._model, server, self._texts, self._extent, self._out)

    def _named(self, side: str) -> str:
        return f"{self._model.short}, {side}"

    def _bare(self) -> AbstractContextManager[Bare]:
        file = weights.installed(catalogue.load().get(self._model.name).weights, models_folder(self._settings()))
        if file is None:
            raise Unmeasurable(f"the weights of {self._model.name} are not on this machine")
        return bare(file, self._home / "bare.log", self._texts, seats=SEATS, threads=os.cpu_count() or 1)

    def _new_texts(self) -> Texts:
        configure(self._home, self._engines[0], self._model.name)
        ((_, served),) = served_models(self._settings(), SystemClock())
        return Texts(self._model.name, served.planner)

    def _settings(self) -> settings.Settings:
        return settings.load({"home": str(self._home)}, environment={})


if __name__ == "__main__":
    sys.exit(main())
