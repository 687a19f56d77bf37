"""What the official SDK puts on the wire besides a request's own fields, and what it reads off an answer.

Headers, credentials, parameters that travel in headers, errors, raw calls (contract client-surface 0 and 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, get_args

import anthropic
import httpx2
import msgspec
import pytest
from anthropic import Anthropic
from anthropic.types import AnthropicBetaParam, Model

from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE
from running import Running, scripted_settings, text_of
from sdkwire import ANSWER, ASKED, COUNTED, Wire


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("surface"), f"rules: [{{text: '{ANSWER}'}}]"))
    yield running
    running.close()


@pytest.fixture
def wire(server: Running) -> Wire:
    return Wire(server)


# -- credentials and headers


@pytest.mark.behaviour(
    "client-surface-0-key-as-bearer",
    "client-surface-0-key-as-x-api-key",
    "client-surface-1.2-both-are-bearer",
    "client-surface-1.3-version-and-key",
)
@pytest.mark.parametrize("how", ["api_key", "auth_token", "x-api-key"])
def test_every_credential_of_the_sdk_is_taken(server: Running, how: str) -> None:
    options: dict[str, Any] = {"api_key": server.key}
    if how == "auth_token":
        options = {"api_key": None, "auth_token": server.key}
    if how == "x-api-key":
        headers = {"x-api-key": server.key, "authorization": anthropic.omit}
        options = {"api_key": None, "default_headers": headers}
    wire = Wire(server, **options)
    assert text_of(wire.client.messages.create(**ASKED)) == ANSWER
    if how == "x-api-key":
        assert wire.sent["x-api-key"] == server.key
        assert "authorization" not in wire.sent
    else:
        assert wire.sent["authorization"] == f"Bearer {server.key}"
        assert "x-api-key" not in wire.sent


def _streams(client: Anthropic) -> str:
    with client.messages.stream(**ASKED) as stream:
        return stream.get_final_text()


CALLS: dict[str, Callable[[Anthropic], Any]] = {
    "create": lambda client: client.messages.create(**ASKED),
    "create, streamed": lambda client: list(client.messages.create(**ASKED, stream=True)),
    "stream": _streams,
    "count_tokens": lambda client: client.messages.count_tokens(**COUNTED),
    "models.list": lambda client: client.models.list(limit=1),
    "models.retrieve": lambda client: client.models.retrieve("claude-opus-5-5"),
    "beta create": lambda client: client.beta.messages.create(**ASKED, betas=["compact-2026-01-12", "made-up-2030-01-01"]),
    "beta count_tokens": lambda client: client.beta.messages.count_tokens(**COUNTED),
    "beta models.list": lambda client: client.beta.models.list(limit=1),
}  # fmt: skip


@pytest.mark.behaviour(
    "client-surface-0-newest-version",
    "client-surface-0-request-id",
    "client-surface-0-scope-ids",
    "client-surface-1.3-accept",
    "client-surface-1.3-content-type",
    "client-surface-1.3-version-and-key",
    "client-surface-1.3-stainless-headers",
    "client-surface-1.3-accept-encoding",
    "client-surface-1.3-beta-header",
    "client-surface-1.8-json",
    "client-surface-2.2-list-is-open",
)
@pytest.mark.parametrize("name", CALLS)
def test_every_call_is_answered_with_its_id_whatever_headers_it_brings(wire: Wire, name: str) -> None:
    CALLS[name](wire.client)
    sent, got = wire.sent, wire.got
    assert sent["anthropic-version"] == "2026-10-21"
    assert sent["user-agent"].startswith("Anthropic/Python 2.")
    assert sent["accept"] == "application/json"
    assert {"x-stainless-lang", "x-stainless-os", "x-stainless-async", "x-stainless-retry-count"} <= set(sent)
    assert (sent["x-stainless-timeout"] == "NOT_GIVEN") == (name not in ("create", "beta create"))
    assert wire.seen[-1].status_code == 200
    assert got["request-id"].startswith("req_")
    assert got["anthropic-organization-id"] == DEFAULT_ORGANIZATION
    assert got["anthropic-workspace-id"] == DEFAULT_WORKSPACE
    assert got.get("antiphon-ignored") == ("made-up-2030-01-01" if name == "beta create" else None)


@pytest.mark.behaviour(
    "client-surface-0-betas-in-one-header",
    "client-surface-2.1-header-parameters",
    "client-surface-4.1-beta",
)
def test_betas_are_one_header_without_blanks(wire: Wire) -> None:
    CALLS["beta create"](wire.client)
    assert wire.sent["anthropic-beta"] == "compact-2026-01-12,made-up-2030-01-01"
    CALLS["beta count_tokens"](wire.client)
    assert "token-counting-2024-11-01" in wire.sent["anthropic-beta"]


@pytest.mark.behaviour(
    "client-surface-1.2-minted-bearer-betas",
    "client-surface-1.3-beta-header",
    "client-surface-2.2-names-known",
    "client-surface-2.2-unlisted-names-known",
)
def test_every_beta_that_the_sdk_names_is_known(wire: Wire) -> None:
    literal = next(part for part in get_args(AnthropicBetaParam) if part is not str)
    names = list(get_args(literal))
    assert len(names) > 50
    names += ["oauth-2025-04-20", "oidc-federation-2026-04-01", "fine-grained-tool-streaming-2025-05-14"]
    wire.client.beta.messages.create(**ASKED, betas=names)
    assert "antiphon-ignored" not in wire.got


@pytest.mark.behaviour("client-surface-2.1-model", "client-surface-2.1-known-models")
@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
def test_every_model_that_the_sdk_names_is_served_and_any_other_of_the_kind(wire: Wire) -> None:
    literal = next(part for part in get_args(Model) if part is not str)
    names = list(get_args(literal))
    assert len(names) > 20
    for name in [*names, "claude-unheard-of-9"]:
        assert wire.client.messages.create(**ASKED | {"model": name}).model == name


@pytest.mark.behaviour(
    "client-surface-1.3-workspace-header",
    "client-surface-1.3-user-profile-header",
    "client-surface-2.1-header-parameters",
)
def test_parameters_that_travel_in_headers_are_let_be(wire: Wire) -> None:
    """A key has one workspace; naming that one, or an end user, changes nothing."""
    wire.client.messages.create(**ASKED, workspace_id=DEFAULT_WORKSPACE, user_profile_id="uprof_1")
    assert wire.sent["anthropic-workspace-id"] == DEFAULT_WORKSPACE
    assert wire.sent["anthropic-user-profile-id"] == "uprof_1"
    wire.client.messages.count_tokens(**COUNTED, workspace_id=DEFAULT_WORKSPACE, user_profile_id="uprof_1")
    wire.client.models.list(workspace_id=DEFAULT_WORKSPACE)
    assert [reply.status_code for reply in wire.seen] == [200] * 3


@pytest.mark.behaviour(
    "client-surface-0-sampling-from-extra-body",
    "client-surface-0-array-queries",
    "client-surface-0-echo-unknown",
)
def test_extra_fields_and_queries_reach_the_server_and_are_named_or_let_be(wire: Wire) -> None:
    old = {"anthropic-version": "2023-06-01"}
    wire.client.messages.create(**ASKED, extra_body={"temperature": 0, "top_p": 1, "top_k": 3}, extra_headers=old)
    assert "antiphon-ignored" not in wire.got
    wire.client.messages.create(**ASKED, extra_body={"novel": 1}, extra_query={"beta": "true", "ids[]": "a b"})
    assert wire.got["antiphon-ignored"] == "novel"
    assert wire.seen[-1].request.url.raw_path.endswith(b"?beta=true&ids%5B%5D=a%20b")


@pytest.mark.behaviour("client-surface-0-sampling-from-extra-body")
@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_what_the_sdk_no_longer_has_is_refused_at_the_version_it_sends(wire: Wire, name: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=name):
        wire.client.messages.create(**ASKED, extra_body={name: 1})


@pytest.mark.behaviour("client-surface-1.3-trace-context")
def test_a_client_that_traces_is_answered(wire: Wire) -> None:
    trace = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": "vendor=1"}
    assert text_of(wire.client.messages.create(**ASKED, extra_headers=trace)) == ANSWER


class Recorded(httpx2.BaseTransport):
    """Sends what a client of another cloud sends to a server of one's own, and keeps the headers."""

    def __init__(self) -> None:
        self.sent = httpx2.Headers()
        self._inner = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent = request.headers
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


@pytest.mark.behaviour(
    "client-surface-0-key-as-x-api-key",
    "client-surface-1.3-workspace-header",
    "client-surface-1.9-mantle",
    "client-surface-1.9-aws",
    "client-surface-1.9-foundry",
)
@pytest.mark.parametrize("name", ["foundry", "aws", "mantle"])
def test_clients_of_other_clouds_that_keep_the_paths_are_answered(server: Running, name: str) -> None:
    transport = Recorded()
    options: dict[str, Any] = {
        "api_key": server.key,
        "base_url": server.base_url,
        "http_client": httpx2.Client(transport=transport),
    }
    client: Any
    if name == "foundry":
        client = anthropic.AnthropicFoundry(**options)
    elif name == "aws":
        client = anthropic.AnthropicAWS(**options, aws_region="us-east-1", workspace_id=DEFAULT_WORKSPACE)
    else:
        client = anthropic.AnthropicBedrockMantle(**options, aws_region="us-east-1")
    with client:
        assert text_of(client.messages.create(**ASKED)) == ANSWER
        with client.messages.stream(**ASKED) as stream:
            assert stream.get_final_text() == ANSWER
    assert (transport.sent.get("x-api-key") == server.key) == (name == "foundry")
    assert (transport.sent.get("anthropic-workspace-id") == DEFAULT_WORKSPACE) == (name == "aws")


# -- answers


@pytest.mark.behaviour(
    "client-surface-0-request-id",
    "client-surface-0-scope-ids",
    "client-surface-1.6-envelope",
    "client-surface-1.6-attributes",
    "client-surface-1.6-status-400",
)
def test_ids_of_an_answer_and_of_an_error_are_where_the_sdk_reads_them(wire: Wire) -> None:
    message = wire.client.messages.create(**ASKED)
    assert message._request_id == wire.got["request-id"]
    with pytest.raises(anthropic.BadRequestError) as refused:
        wire.client.messages.create(**ASKED | {"max_tokens": -1})
    assert refused.value.request_id == wire.got["request-id"] != message._request_id
    assert refused.value.workspace_id == DEFAULT_WORKSPACE
    assert refused.value.type == "invalid_request_error"
    assert refused.value.api_message == "max_tokens: Input should be greater than or equal to 0"
    assert (refused.value.error_code, refused.value.details) == (None, None)


@pytest.mark.behaviour("client-surface-1.6-types-served")
def test_types_of_errors_are_the_apis(server: Running, wire: Wire) -> None:
    def type_of(kind: type[anthropic.APIStatusError], client: Anthropic, **change: Any) -> str | None:
        with pytest.raises(kind) as refused:
            client.messages.create(**ASKED | change)
        return refused.value.type

    admin, stranger = server.client(api_key=server.make_key(admin=True)), server.client(api_key="sk-ant-api03-wrong")
    assert type_of(anthropic.BadRequestError, wire.client, messages=[]) == "invalid_request_error"
    assert type_of(anthropic.AuthenticationError, stranger) == "authentication_error"
    assert type_of(anthropic.PermissionDeniedError, admin) == "permission_error"
    assert type_of(anthropic.NotFoundError, wire.client, model="gpt-4") == "not_found_error"


@pytest.mark.behaviour(
    "client-surface-1.6-envelope",
    "client-surface-1.6-attributes",
    "client-surface-1.6-code-selects-class",
    "client-surface-1.6-codes-encoding",
    "client-surface-1.6-code-charset",
)
@pytest.mark.parametrize(
    ("headers", "kind", "code"),
    [
        ({"content-encoding": "br"}, anthropic.types.RequestBodyEncodingUnsupportedError, "request_body_encoding_unsupported"),
        ({"content-encoding": "gzip"}, anthropic.types.RequestBodyEncodingInvalidError, "request_body_encoding_invalid"),
        ({"content-type": "application/json; charset=utf-16"}, anthropic.types.BetaUnsupportedCharsetError, "unsupported_charset"),
    ],
)  # fmt: skip
def test_a_code_chooses_the_sdks_finer_class(wire: Wire, headers: dict[str, str], kind: Any, code: str) -> None:
    with pytest.raises(kind) as refused:
        wire.client.messages.create(**ASKED, extra_headers=headers)
    assert (refused.value.status_code, refused.value.error_code) == (400, code)


@pytest.mark.behaviour(
    "client-surface-0-methods",
    "client-surface-0-request-id",
    "client-surface-1.6-status-431",
    "client-surface-1.6-status-other",
)
def test_headers_too_large_and_odd_methods_are_errors_of_the_sdk_too(wire: Wire) -> None:
    with pytest.raises(anthropic.RequestHeaderFieldsTooLargeError) as large:
        wire.client.messages.create(**ASKED, extra_headers={"x-large": "x" * 200_000})
    assert (large.value.status_code, large.value.type) == (431, "invalid_request_error")
    assert str(large.value.request_id).startswith("req_")
    with pytest.raises(anthropic.APIStatusError) as odd:
        wire.client.delete("/v1/messages", cast_to=object)
    assert (odd.value.status_code, odd.value.type) == (405, "invalid_request_error")


@pytest.mark.behaviour("client-surface-7-raw-and-streaming")
def test_raw_and_streaming_calls_give_the_same_answer_and_its_headers(wire: Wire) -> None:
    raw = wire.client.messages.with_raw_response.create(**ASKED)
    assert "x-stainless-raw-response" in wire.sent
    assert text_of(raw.parse()) == ANSWER
    assert raw.headers["request-id"].startswith("req_")
    with wire.client.messages.with_streaming_response.create(**ASKED) as streaming:
        whole = msgspec.json.decode(b"".join(streaming.iter_bytes()))
    assert "x-stainless-raw-response" in wire.sent
    assert whole["content"] == [{"type": "text", "text": ANSWER, "citations": None}]


@pytest.mark.behaviour("client-surface-0-page-ends", "client-surface-1.7-page", "client-surface-1.8-times")
def test_times_are_times_and_pages_have_their_ends(wire: Wire) -> None:
    page = wire.client.models.list(limit=2)
    assert all(isinstance(model.created_at, datetime) for model in page.data)
    assert set(wire.seen[-1].json()) == {"data", "has_more", "first_id", "last_id"}
    assert (page.first_id, page.last_id, page.has_more) == (page.data[0].id, page.data[1].id, True)
    last = list(page.iter_pages())[-1]
    assert last.has_more is False
    assert wire.seen[-1].json()["has_more"] is False


@pytest.mark.behaviour("client-surface-0-echo", "client-surface-2.3-verbatim")
def test_a_reply_may_be_passed_back_as_it_came(wire: Wire) -> None:
    reply = wire.client.messages.create(**ASKED)
    again = [*ASKED["messages"], {"role": "assistant", "content": reply.content}, *ASKED["messages"]]
    wire.client.messages.create(**ASKED | {"messages": again})
    assert wire.body(-1)["messages"][1]["content"] == [{"type": "text", "text": ANSWER, "citations": None}]
    assert "antiphon-ignored" not in wire.got
    raw = wire.seen[0].json()
    wire.client.messages.create(**ASKED | {"messages": [*ASKED["messages"], raw, *ASKED["messages"]]})
    assert wire.body(-1)["messages"][1] == raw
    assert "antiphon-ignored" not in wire.got
