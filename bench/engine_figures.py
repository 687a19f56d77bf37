"""What `bench.engine` has seen of a model, as figures with their bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from bench.report import Bar, Figure, figure, processor_has

SHORT, LONG = 1_000, 4_000
#: Of a prompt that is mostly in the cache, this part is new.
NEW_PART = 0.05

LIBRARIES = ("llama_cpp", "openvino")
BEHIND, ALONE = "Antiphon", "alone"

_ALONE_BARS = {1: Bar("at least", 0.95), 4: Bar("at least", 0.97)}
_WITHOUT_AMX = "not asked on this processor"

Round: TypeAlias = Mapping[str, float]


class Model(msgspec.Struct, frozen=True):
    """A model of the catalogue; tokens of each answer by the number of streams; bars of OpenVINO against llama.cpp."""

    name: str
    short: str
    tokens: dict[int, int]
    prompt_bar: Bar
    decode_bars: dict[int, Bar]
    prepared: bool


class Seen(msgspec.Struct):
    """One model's rounds, those first that others disturbed least, and what was measured once."""

    rounds: int
    decoding: Sequence[Round] = ()
    prompts: Sequence[Round] = ()
    once: dict[str, float] = {}


class Told:
    """The figures of one model."""

    def __init__(self, model: Model, seen: Seen) -> None:
        self._model = model
        self._seen = seen
        self._excused = "" if processor_has("amx_tile") else _WITHOUT_AMX

    def figures(self) -> list[Figure]:
        figures = [*self._against_alone(), *self._between_libraries()]
        for library in LIBRARIES:
            figures += self._of_library(library)
        others = [
            each["others"] for each in (*self._quietest(self._seen.decoding), *self._quietest(self._seen.prompts))
        ]
        return [*figures, self._figure("CPU that others took meanwhile", "cores", others)]

    def _against_alone(self) -> Iterator[Figure]:
        for library in LIBRARIES:
            keys = (f"{library} {BEHIND}", f"{library} {ALONE}")
            for streams in self._model.tokens:
                yield self._ratio(
                    f"{library}, {_streams(streams)}, of alone", f"decode {streams}", keys, _ALONE_BARS.get(streams)
                )
            for streams in self._model.tokens:
                yield self._ratio(f"{library}, {_streams(streams)} with starts, of alone", f"whole {streams}", keys)
            for tokens in (SHORT, LONG):
                yield self._ratio(f"{library}, prompts of {tokens:,}, of alone", f"prompt {tokens}", keys)

    def _between_libraries(self) -> Iterator[Figure]:
        keys = (f"openvino {BEHIND}", f"llama_cpp {BEHIND}")
        for tokens in (SHORT, LONG):
            bar = self._model.prompt_bar if tokens == SHORT else None
            yield self._ratio(
                f"prompts of {tokens:,}, openvino of llama_cpp", f"prompt {tokens}", keys, bar, self._excused
            )
        for streams in self._model.tokens:
            bar = self._model.decode_bars.get(streams)
            yield self._ratio(
                f"{_streams(streams)}, openvino of llama_cpp", f"decode {streams}", keys, bar, self._excused
            )

    def _of_library(self, library: str) -> Iterator[Figure]:
        for behind in (BEHIND, ALONE):
            where, key = f"{library}, {behind}", f"{library} {behind}"
            for tokens in (SHORT, LONG):
                yield self._runs(f"{where}: prompts of {tokens:,}", "tok/s", f"prompt {tokens} {key}")
            for streams in self._model.tokens:
                yield self._runs(f"{where}: {_streams(streams)}", "tok/s", f"decode {streams} {key}")
            yield self._runs(f"{where}: first token, {SHORT:,} cold", "ms", f"first {SHORT} {key}")
            yield self._runs(f"{where}: first token, all cached", "ms", f"first cached {key}")
            yield self._runs(f"{where}: first token, {1 - NEW_PART:.0%} cached", "ms", f"first mostly {key}")
            yield self._figure(f"{where}: peak memory", "MiB", [self._seen.once[f"peak {key}"]])
            yield self._figure(f"{where}: start to ready", "s", [self._seen.once[f"start {key}"]])
        yield self._figure(f"{library}, Antiphon's own peak memory", "MiB", [self._seen.once[f"own {library}"]])
        yield self._runs(f"{library}, Antiphon's own CPU of a token", "ms", f"cpu {library}")

    def _ratio(self, name: str, what: str, keys: tuple[str, str], bar: Bar | None = None, excused: str = "") -> Figure:
        over, under = (f"{what} {key}" for key in keys)
        runs = [each[over] / each[under] for each in self._with(over) if under in each]
        return self._figure(name, "×", runs, bar, excused if bar else "")

    def _runs(self, name: str, unit: str, key: str) -> Figure:
        return self._figure(name, unit, [each[key] for each in self._with(key)])

    def _with(self, key: str) -> list[Round]:
        """The rounds that tell of it. Of the longest prompts all count, because there may be one alone."""
        if key.startswith(f"prompt {LONG} "):
            return [each for each in self._seen.prompts if key in each]
        both = (*self._quietest(self._seen.decoding), *self._quietest(self._seen.prompts))
        return [each for each in both if key in each]

    def _quietest(self, rounds: Sequence[Round]) -> Sequence[Round]:
        return rounds[: self._seen.rounds]

    def _figure(self, name: str, unit: str, runs: list[float], bar: Bar | None = None, excused: str = "") -> Figure:
        return figure(f"{self._model.short}, {name}", unit, runs, bar, excused)


def _streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams"
