"""Prometheus metrics, in a registry of their own: nothing is registered at import.

What is counted as it happens is here; what can be looked up when asked (seats, queue, journal) is read at scrape time
through `watch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from antiphon.core.records import UsageRecord

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

#: `(name, help, label names, rows of label values and a number)`, read at scrape time.
Reading = tuple[str, str, tuple[str, ...], Iterable[tuple[tuple[str, ...], float]]]


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "antiphon_requests", "Answered HTTP requests", ("route", "status"), registry=self._registry
        )
        self._duration = Histogram(
            "antiphon_request_seconds", "From the first byte in to the last byte out", ("route",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._tokens = Counter(
            "antiphon_tokens", "Tokens as recorded in the ledger", ("model", "kind"), registry=self._registry
        )
        self._first_token = Histogram(
            "antiphon_first_token_seconds", "From the seat to the first token", ("model",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._queue = Histogram(
            "antiphon_queue_seconds", "Wait for a seat", ("model",), buckets=_SECONDS, registry=self._registry
        )
        self._outcomes = Counter(
            "antiphon_turns", "Ended turns by how they ended", ("model", "outcome"), registry=self._registry
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """One HTTP request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._duration.labels(route).observe(seconds)

    def turn(self, record: UsageRecord) -> None:
        """One turn ended."""
        model, used, attempt = record.served_model, record.usage, record.attempts[-1]
        self._outcomes.labels(model, record.outcome).inc()
        self._tokens.labels(model, "input").inc(used.input_tokens)
        self._tokens.labels(model, "output").inc(used.output_tokens)
        if used.cache_read_tokens:
            self._tokens.labels(model, "cache_read").inc(used.cache_read_tokens)
        if written := used.cache_write_5m_tokens + used.cache_write_1h_tokens:
            self._tokens.labels(model, "cache_write").inc(written)
        self._queue.labels(model).observe(attempt.queue_us / 1e6)
        if attempt.first_token_us is not None:
            self._first_token.labels(model).observe(attempt.first_token_us / 1e6)

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Read gauges through `read` at every scrape."""
        self._registry.register(_Watched(read))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


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
