"""An engine that is killed behind a warm prefix: the next request finds nothing, and is billed so."""

from __future__ import annotations

from collections.abc import Iterator

from bench.cache_parts.asking import Heard, Texts
from bench.cache_parts.extent import Extent
from bench.cache_parts.watching import Watched
from bench.report import Bar, Figure, figure

#: Percent of the cold first token's time that a first token after the restart takes at least. Its speed varies.
_COLD_BAR = Bar("at least", 50)
#: Percent of what was written at first that is written again. Questions differ in length by a few tokens.
_WRITTEN_BAR = Bar("at least", 95)
_NO_READS = Bar("at most", 0)
_TOKENS = 4


def figures(name: str, watched: Watched, texts: Texts, extent: Extent) -> Iterator[Figure]:
    """Cold, warm, killed, the same again, and once more."""
    system = texts.new(extent.conversation)

    def ask(question: str) -> Heard:
        return watched.client.ask(system, [{"role": "user", "content": question}], _TOKENS)

    cold, warm = ask("What is the first word?"), ask("What is the second word?")
    seconds = watched.kill_engine()
    watched.client.ask(texts.new(64), [{"role": "user", "content": "Hello."}], _TOKENS)  # what is slow only once
    again, last = ask("What is the third word?"), ask("What is the fourth word?")
    name = f"{name}, restart"
    yield figure(f"{name}: read before it", "tokens", [warm.read], Bar("at least", 1))
    yield figure(f"{name}: read right after it", "tokens", [again.read], _NO_READS)
    written = 100 * again.written / cold.written if cold.written else 0.0
    yield figure(f"{name}: written right after it, of written when cold", "%", [written], _WRITTEN_BAR)
    yield figure(f"{name}: first token right after it, of cold", "%", [100 * again.first / cold.first], _COLD_BAR)
    yield figure(f"{name}: read at the request after that", "tokens", [last.read], Bar("at least", 1))
    yield figure(f"{name}: first token cold", "ms", [cold.first * 1000])
    yield figure(f"{name}: first token warm", "ms", [warm.first * 1000])
    yield figure(f"{name}: first token right after it", "ms", [again.first * 1000])
    yield figure(f"{name}: from the kill to ready", "s", [seconds])
