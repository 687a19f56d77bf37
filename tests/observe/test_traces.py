"""Spans of a turn, as an operator's collector would get them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes, http_attributes
from opentelemetry.trace import SpanKind, StatusCode

from antiphon.core.errors import SettingsError
from antiphon.observe.traces import Tracing, tracing
from conftest import StartScripted
from running import Running

STEPS = ["antiphon.admit", "antiphon.route", "antiphon.plan", "antiphon.seat", "antiphon.generate", "antiphon.settle"]
SCRIPT = "rules: [{match: bad, text: 'one two', fault: {kind: stop, after: 1}}, {text: 'Good day to you.'}]"


class Collector:
    """A server whose spans are kept."""

    def __init__(self, scripted: StartScripted, script: str = SCRIPT, **settings: Any) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.server: Running = scripted(script, traces=Tracing(provider), **settings)

    def ask(
        self, content: str = "Hello", *, path: str = "/v1/messages", key: str = "", **change: Any
    ) -> httpx2.Response:
        headers = change.pop("headers", {})
        request = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
        return httpx2.post(
            self.server.base_url + path,
            json=request | change,
            headers={"x-api-key": key or self.server.key} | headers,
            trust_env=False,
        )

    def spans(self) -> dict[str, ReadableSpan]:
        """Every span of the one request, by name. A span ends a moment after its answer was read."""
        end = time.monotonic() + 5
        while not any(span.kind is SpanKind.SERVER for span in self._exporter.get_finished_spans()):
            assert time.monotonic() < end, "no request's span"
            time.sleep(0.01)
        return {span.name: span for span in self._exporter.get_finished_spans()}

    @property
    def count(self) -> int:
        return len(self._exporter.get_finished_spans())


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_turn_is_a_span_per_step_under_the_span_of_its_request(scripted: StartScripted, stream: bool) -> None:
    collector = Collector(scripted)
    collector.ask(stream=stream).read()
    spans = collector.spans()
    request = spans.pop("chat claude-opus-5-5")
    assert sorted(spans) == sorted(STEPS)
    assert request.kind is SpanKind.SERVER
    for span in spans.values():
        assert span.parent is not None
        assert request.context is not None
        assert span.parent.span_id == request.context.span_id
    begun = sorted(spans.values(), key=lambda span: span.start_time or 0)
    assert [span.name for span in begun] == STEPS


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_request_carries_the_genai_names(scripted: StartScripted, stream: bool) -> None:
    collector = Collector(scripted)
    collector.ask(stream=stream).read()
    noted = attributes(collector.spans()["chat claude-opus-5-5"])
    (record,) = collector.server.records()
    expected = {
        gen_ai.GEN_AI_OPERATION_NAME: "chat",
        gen_ai.GEN_AI_PROVIDER_NAME: "antiphon",
        gen_ai.GEN_AI_REQUEST_MODEL: "claude-opus-5-5",
        gen_ai.GEN_AI_REQUEST_MAX_TOKENS: 9,
        gen_ai.GEN_AI_REQUEST_STREAM: stream,
        gen_ai.GEN_AI_RESPONSE_ID: record.message_id,
        gen_ai.GEN_AI_RESPONSE_MODEL: "scripted",
        gen_ai.GEN_AI_RESPONSE_FINISH_REASONS: ("end_turn",),
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: record.usage.input_tokens,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: 5,
        gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 0,
        gen_ai.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: 0,
        http_attributes.HTTP_REQUEST_METHOD: "POST",
        http_attributes.HTTP_ROUTE: "/v1/messages",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
    }
    assert {name: noted.get(name) for name in expected} == expected
    assert 0 <= noted[gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] < 60
    assert set(noted) - set(expected) == {gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK}


@pytest.mark.behaviour("client-surface-1.3-trace-context")
def test_a_callers_traceparent_is_the_parent(scripted: StartScripted) -> None:
    collector = Collector(scripted)
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    collector.ask(headers={"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "vendor=1"})
    spans = collector.spans()
    parent = spans["chat claude-opus-5-5"].parent
    assert parent is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (trace_id, span_id)
    assert parent.trace_state.get("vendor") == "1"
    contexts = [span.context for span in spans.values()]
    assert {f"{context.trace_id:032x}" for context in contexts if context} == {trace_id}


@pytest.mark.parametrize("header", ["", "garbage", "00-0-0-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff" * 500])
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(scripted: StartScripted, header: str) -> None:
    collector = Collector(scripted)
    assert collector.ask(headers={"traceparent": header}).status_code == 200
    assert collector.spans()["chat claude-opus-5-5"].parent is None


def test_a_caller_who_says_not_to_sample_is_heeded(scripted: StartScripted) -> None:
    collector = Collector(scripted)
    assert collector.ask(headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}).status_code == 200
    collector.server.settle()
    assert collector.count == 0


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_an_engine_that_fails_is_an_error_without_its_text(scripted: StartScripted, stream: bool) -> None:
    collector = Collector(scripted)
    collector.ask("bad", stream=stream).read()
    spans = collector.spans()
    request, generate = spans["chat claude-opus-5-5"], spans["antiphon.generate"]
    for span in (request, generate):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert attributes(span)[error_attributes.ERROR_TYPE] == "EngineFailed"
        assert span.events == ()
    assert attributes(request)[gen_ai.GEN_AI_RESPONSE_FINISH_REASONS] == ("engine_failed",)


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"key": "sk-ant-api03-wrong"}, 401, "Unauthenticated"),
        ({"model": "gpt-4"}, 404, "NotFound"),
        ({"messages": []}, 400, "InvalidRequest"),
    ],
)
def test_a_refused_request_is_no_error_of_the_server(
    scripted: StartScripted, change: dict[str, Any], status: int, kind: str
) -> None:
    collector = Collector(scripted)
    assert collector.ask(**change).status_code == status
    (span,) = [span for span in collector.spans().values() if span.kind is SpanKind.SERVER]
    assert ("gpt-4" in span.name) is False  # only a model that is served names a span
    assert attributes(span)[http_attributes.HTTP_RESPONSE_STATUS_CODE] == status
    assert attributes(span)[error_attributes.ERROR_TYPE] == kind
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()


def test_counting_is_a_span_and_scrapes_are_none(scripted: StartScripted) -> None:
    collector = Collector(scripted)
    for path in ("/", "/health/live", "/health/ready", "/metrics", "/nowhere"):
        httpx2.get(collector.server.base_url + path, trust_env=False)
    assert collector.count == 0
    collector.ask(path="/v1/messages/count_tokens")
    assert "POST /v1/messages/count_tokens" in collector.spans()


def test_without_a_provider_nothing_is_opened() -> None:
    off = tracing("off", "1")
    assert not off.on
    with off.request("POST", "/", {"traceparent": "x"}) as request, off.step("antiphon.plan") as step:
        assert request is step is None
        off.chat("m", 1, True)
        off.ended(200, None)
    off.close()


def test_otlp_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"antiphon\[otlp\]"):
        tracing("otlp", "1")
