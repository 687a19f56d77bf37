"""Prometheus metrics, in a registry of their own: nothing is registered at import.

What is counted as it happens is here; what can be looked up when asked (seats, queue, journal) is read at scrape time
through `watch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from antiphon.core.records import UsageRecord

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

#: `(name, help, label names, rows of label values and a number)`, read at scrape time.
Reading = tuple[str, str, tuple[str, ...], Iterable[tuple[tuple[str, ...], float]]]


class Metrics:
    """All metrics of one server. Series are found through a cache of ours: the library's own way to one takes longer
    than counting does."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("antiphon_requests", "Answered HTTP requests", "route", "status")
        self._duration = self._seconds(
            "antiphon_request_seconds", "From the first byte in to the last byte out", "route"
        )
        self._tokens = self._counter("antiphon_tokens", "Tokens as recorded in the ledger", "model", "kind")
        self._reused = self._counter(
            "antiphon_prompt_reused", "Tokens of prompts that the engine did not compute again", "model", "known"
        )
        self._shortfall = self._counter(
            "antiphon_cache_shortfall",
            "Tokens billed as cache reads that the engine computed again all the same",
            "model",
        )
        self._first_token = self._seconds("antiphon_first_token_seconds", "From the seat to the first token", "model")
        self._queue = self._seconds("antiphon_queue_seconds", "Wait for a seat", "model")
        self._outcomes = self._counter("antiphon_turns", "Ended turns by how they ended", "model", "outcome")

    def request(self, route: str, status: int, seconds: float) -> None:
        """One HTTP request was answered."""
        self._requests(route, str(status)).inc()
        self._duration(route).observe(seconds)

    def turn(self, record: UsageRecord, *, estimated: bool = False) -> None:
        """One turn ended. `estimated`: what its engine reused is not told by the library, but reckoned."""
        model, used, attempt = record.served_model, record.usage, record.attempts[-1]
        self._outcomes(model, record.outcome).inc()
        self._tokens(model, "input").inc(used.input_tokens)
        self._tokens(model, "output").inc(used.output_tokens)
        if used.cache_read_tokens:
            self._tokens(model, "cache_read").inc(used.cache_read_tokens)
        if written := used.cache_write_5m_tokens + used.cache_write_1h_tokens:
            self._tokens(model, "cache_write").inc(written)
        if attempt.reused_tokens is not None:
            self._reused(model, "estimated" if estimated else "measured").inc(attempt.reused_tokens)
            if attempt.reused_tokens < used.cache_read_tokens:
                self._shortfall(model).inc(used.cache_read_tokens - attempt.reused_tokens)
        self._queue(model).observe(attempt.queue_us / 1e6)
        if attempt.first_token_us is not None:
            self._first_token(model).observe(attempt.first_token_us / 1e6)

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Read gauges through `read` at every scrape."""
        self._registry.register(_Watched(read))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        return cache(Counter(name, text, labels, registry=self._registry).labels)

    def _seconds(self, name: str, text: str, *labels: str) -> Callable[..., Histogram]:
        return cache(Histogram(name, text, labels, buckets=_SECONDS, registry=self._registry).labels)


class _Watched(Collector):
    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, text, labels, rows in self._read():
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, number in rows:
                family.add_metric(values, number)
            yield family

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()
