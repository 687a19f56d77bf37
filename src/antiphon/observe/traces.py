"""Traces: a span per step of a turn, in OpenTelemetry's GenAI names. Off unless the operator turns them on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from antiphon.core.errors import SettingsError

Attributes = Mapping[str, str | int | float | bool]
_propagator = TraceContextTextMapPropagator()


class Tracing:
    """Opens spans; with no provider each costs next to nothing."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("antiphon") if provider else None

    def request(
        self, name: str, headers: Mapping[str, str], attributes: Attributes
    ) -> AbstractContextManager[trace.Span | None]:
        """The span of a whole request, a child of the caller's `traceparent` where there is one."""
        if self._tracer is None:
            return nullcontext()
        return self._tracer.start_as_current_span(
            name, context=_propagator.extract(headers), kind=trace.SpanKind.SERVER, attributes=attributes
        )

    def step(self, name: str) -> AbstractContextManager[trace.Span | None]:
        """The span of one step of the turn."""
        return nullcontext() if self._tracer is None else self._tracer.start_as_current_span(name)

    def note(self, attributes: Attributes) -> None:
        """Attributes of the span that is open now."""
        if self._tracer is not None:
            trace.get_current_span().set_attributes(attributes)

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()


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
