"""Traces: a span per step of a turn, in OpenTelemetry's GenAI names. Off unless the operator turns them on.

A span never holds content: no prompt, no answer, no stop sequence, and of an exception only its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from antiphon.core.errors import SettingsError
from antiphon.core.records import UsageRecord

Attributes: TypeAlias = Mapping[str, str | int | float | bool | Sequence[str]]
_propagator = TraceContextTextMapPropagator()
_NOTHING: AbstractContextManager[None] = nullcontext()
_PROVIDER = "antiphon"


class Tracing:
    """Opens spans; with no provider each costs next to nothing."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("antiphon") if provider else None

    @property
    def on(self) -> bool:
        """Whether anybody looks; what is dear to collect is collected only then."""
        return self._tracer is not None

    def request(self, method: str, route: str, headers: Mapping[str, str]) -> AbstractContextManager[object]:
        """The span of a whole request, a child of the caller's `traceparent` where there is one."""
        if self._tracer is None:
            return _NOTHING
        return self._tracer.start_as_current_span(
            f"{method} {route}",
            context=_propagator.extract(headers),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
            record_exception=False,
            set_status_on_exception=False,
        )

    def step(self, name: str) -> AbstractContextManager[object]:
        """The span of one step of the turn. When it fails, it says with which kind of error."""
        return _NOTHING if self._tracer is None else _Step(self._tracer, name)

    def chat(self, model: str, max_tokens: int, streamed: bool) -> None:
        """The open request asks for an answer of `model`."""
        if self._tracer is None:
            return
        span = trace.get_current_span()
        span.update_name(f"chat {model}")
        span.set_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": _PROVIDER,
                "gen_ai.request.model": model,
                "gen_ai.request.max_tokens": max_tokens,
                "gen_ai.request.stream": streamed,
            }
        )

    def answered(self, record: UsageRecord) -> None:
        """The open request was answered, wholly or in part. OpenTelemetry's input tokens hold the cached ones."""
        if self._tracer is None:
            return
        used = record.usage
        written = used.cache_write_5m_tokens + used.cache_write_1h_tokens
        noted: dict[str, str | int | float | Sequence[str]] = {
            "gen_ai.response.id": record.message_id or "",
            "gen_ai.response.model": record.served_model,
            "gen_ai.response.finish_reasons": (record.outcome,),
            "gen_ai.usage.input_tokens": used.input_tokens + used.cache_read_tokens + written,
            "gen_ai.usage.cache_read.input_tokens": used.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": written,
            "gen_ai.usage.output_tokens": used.output_tokens,
        }
        attempt = record.attempts[-1]
        if attempt.first_token_us is not None:
            noted["gen_ai.response.time_to_first_chunk"] = (attempt.queue_us + attempt.first_token_us) / 1e6
        trace.get_current_span().set_attributes(noted)

    def ended(self, status: int, error: str | None) -> None:
        """The open request has its answer: an HTTP status, and the kind of error if it was one."""
        if self._tracer is None:
            return
        span = trace.get_current_span()
        span.set_attribute("http.response.status_code", status)
        if error is not None:
            span.set_attribute("error.type", error)
            if not 400 <= status < 500:  # what a caller did wrong is no error of the server (HTTP conventions)
                span.set_status(trace.StatusCode.ERROR)

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()


class _Step:
    """`start_as_current_span` without its way of telling exceptions, which includes their text."""

    def __init__(self, tracer: trace.Tracer, name: str) -> None:
        self._open = tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False)

    def __enter__(self) -> trace.Span:
        self._span = self._open.__enter__()
        return self._span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if kind is not None:
            self._span.set_attribute("error.type", kind.__name__)
            self._span.set_status(trace.StatusCode.ERROR)
        self._open.__exit__(None, None, None)


def tracing(kind: str, version: str) -> Tracing:
    """Tracing as the setting `traces` says. OTLP takes its target from the standard `OTEL_*` variables.

    Raises:
        SettingsError: OTLP is asked for and its package is not installed.
    """
    if kind == "off":
        return Tracing(None)
    exporter: SpanExporter = ConsoleSpanExporter()
    if kind == "otlp":
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        except ImportError:
            raise SettingsError("`traces = \"otlp\"` needs the package extra: pip install 'antiphon[otlp]'") from None
        exporter = OTLPSpanExporter()
    provider = TracerProvider(
        resource=Resource.create({"service.name": "antiphon", "service.version": version}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)
