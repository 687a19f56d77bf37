"""JSON at its edges (faults B2, B4): a status that is documented, a path where there is one, the same at both doors."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import msgspec
import pytest

from running import Running, scripted_settings

ENDPOINTS = ["/v1/messages", "/v1/messages/count_tokens"]
#: What every body here has around its one oddity.
HEAD = '"model":"claude-opus-5-5","max_tokens":5'
MESSAGES = '"messages":[{"role":"user","content":"Hello"}]'
SOUND = f"{{{HEAD},{MESSAGES}}}"
DEEP_ARRAY = "[" * 10_000 + "]" * 10_000
DEEP_OBJECT = '{"a":' * 10_000 + "1" + "}" * 10_000

NOT_JSON = "The request body is not valid JSON"
NOT_OBJECT = "The request body is not a JSON object"
TOO_DEEP = "The request body is nested too deeply"


def field(text: str) -> str:
    """A sound body with one field more, behind the others."""
    return f"{{{HEAD},{MESSAGES},{text}}}"


def saying(text: str) -> str:
    """A sound body with this for its conversation."""
    return f'{{{HEAD},"messages":[{text}]}}'


def with_tool_input(text: str) -> str:
    call = f'{{"type":"tool_use","id":"t","name":"n","input":{text}}}'
    result = '{"type":"tool_result","tool_use_id":"t"}'
    turns = ("user", '"a"'), ("assistant", f"[{call}]"), ("user", f"[{result}]")
    return saying(",".join(f'{{"role":"{role}","content":{content}}}' for role, content in turns))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("corners"), "rules: []"))
    yield running
    running.close()


def named(value: object) -> str:
    """A case's name: short, whatever it sends."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[-50:])


def ask(server: Running, body: str | bytes, endpoint: str) -> httpx2.Response:
    content = body.encode() if isinstance(body, str) else body
    return httpx2.post(f"{server.base_url}{endpoint}", content=content, headers={"x-api-key": server.key}, timeout=60)


def refused(reply: httpx2.Response) -> tuple[int, str]:
    envelope = reply.json()
    assert envelope["type"] == "error"
    assert envelope["request_id"] == reply.headers["request-id"]
    assert envelope["error"]["type"] == ("not_found_error" if reply.status_code == 404 else "invalid_request_error")
    return reply.status_code, envelope["error"]["message"]


@pytest.mark.behaviour("client-surface-2.1-messages-limit")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        # no object
        (b"", "The request body is empty; a JSON object is expected"),
        (b" \n", NOT_JSON),
        (b"\0", NOT_JSON),
        (b"[]", NOT_OBJECT),
        (f"[{SOUND}]", NOT_OBJECT),
        (b"1", NOT_OBJECT),
        (b'"model"', NOT_OBJECT),
        (b"null", NOT_OBJECT),
        (b"true", NOT_OBJECT),
        (b"{}", "model: Field required"),
        # nearly JSON
        (SOUND[:-1], NOT_JSON),
        (SOUND[:-1] + ",}", NOT_JSON),
        (SOUND + "{}", NOT_JSON),
        (SOUND + "\0", NOT_JSON),
        ("/* a comment */" + SOUND, NOT_JSON),
        (SOUND.replace('"', "'"), NOT_JSON),
        (saying('{"role":"user","content":"a"},'), NOT_JSON),
        (field("temperature:1"), NOT_JSON),
        (field('"temperature"'), NOT_JSON),
        # not UTF-8
        (b"\xef\xbb\xbf" + SOUND.encode(), NOT_JSON),
        (SOUND.encode("utf-16"), NOT_JSON),
        (SOUND.encode("utf-16-le"), NOT_JSON),
        (SOUND.encode("utf-32"), NOT_JSON),
        (SOUND.encode().replace(b"Hello", b"\xff"), NOT_JSON),
        (SOUND.encode().replace(b"Hello", b"\xc0\xaf"), NOT_JSON),  # a slash, longer than it is
        (SOUND.encode().replace(b"Hello", b"\xed\xa0\x80"), NOT_JSON),  # half of a pair
        (SOUND.encode().replace(b'"model"', b'"\xff":1,"model"'), NOT_JSON),
        (SOUND.encode()[:-1] + b',"tools":[{"name":"a","description":"\xff","input_schema":{"type":"object"}}]}', NOT_JSON),
        # what a string may not hold
        (SOUND.encode().replace(b"Hello", b"a\0b"), NOT_JSON),
        (SOUND.encode().replace(b"Hello", b"a\nb"), NOT_JSON),
        (SOUND.replace("Hello", r"\x41"), NOT_JSON),
        (SOUND.replace("Hello", r"\u00"), NOT_JSON),
        # half of a pair, written out
        (SOUND.replace("Hello", r"\ud800"), NOT_JSON),
        (SOUND.replace("Hello", r"\udc00"), NOT_JSON),
        (SOUND.replace("Hello", r"\ud800\ud800"), NOT_JSON),
        (SOUND.replace("Hello", r"\udc00\ud800"), NOT_JSON),
        (SOUND.replace("Hello", r"\ud800a"), NOT_JSON),
        (SOUND.replace("claude-opus-5-5", r"\ud800"), NOT_JSON),
        (field(r'"\ud800":1'), NOT_JSON),
        (field(r'"new":"\ud800"'), NOT_JSON),
        (field(r'"tools":[{"name":"a","input_schema":{"type":"object","x":"\ud800"}}]'), NOT_JSON),
        (with_tool_input(r'{"a":"\ud800"}'), NOT_JSON),
        # deep
        (f'{{{HEAD},"messages":' + "[" * 10_000, TOO_DEEP),
        (f'{{{HEAD},"messages":{DEEP_ARRAY}}}', TOO_DEEP),
        (field(f'"new":{DEEP_ARRAY}'), TOO_DEEP),
        (field(f'"new":{DEEP_OBJECT}'), TOO_DEEP),
        (field(f'"metadata":{DEEP_OBJECT}'), TOO_DEEP),
        (saying(f'{{"role":"user","content":"a","new":{DEEP_OBJECT}}}'), TOO_DEEP),
        (with_tool_input(DEEP_OBJECT), TOO_DEEP),
        (field(f'"tools":[{{"name":"a","input_schema":{{"type":"object","properties":{DEEP_OBJECT}}}}}]'), TOO_DEEP),
        # shapes
        (f'{{{HEAD},"messages":[]}}', "messages: at least one message is required"),
        (f'{{{HEAD},"messages":null}}', "messages: Input should be a valid list"),
        (f'{{{HEAD},"messages":{{}}}}', "messages: Input should be a valid list"),
        (saying("null"), "messages.0: Input should be an object"),
        (f"{{{MESSAGES}}}", "model: Field required"),
        (saying(",".join(['{"role":"user","content":"a"}'] * 100_001)), "messages: at most 100000 messages are allowed"),
    ],
    ids=named,
)  # fmt: skip
def test_what_is_no_request_is_400_in_the_same_words_at_both_doors(
    server: Running, endpoint: str, body: str | bytes, message: str
) -> None:
    assert refused(ask(server, body, endpoint)) == (400, message)


#: Numbers that are no JSON.
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10", "1e", "--1", "1_000"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("number", NO_NUMBERS)
@pytest.mark.parametrize("name", ["max_tokens", "temperature", "new"])
def test_what_is_no_number_is_no_json(server: Running, endpoint: str, name: str, number: str) -> None:
    body = f'{{"model":"claude-opus-5-5",{MESSAGES},"{name}":{number}}}'
    assert refused(ask(server, body, endpoint)) == (400, NOT_JSON)


INTEGER, NUMBER = "Input should be a valid integer", "Input should be a valid number"
AT_LEAST_0, AT_MOST_1 = "Input should be greater than or equal to 0", "Input should be less than or equal to 1"
LONG = "1" + "0" * 30

#: A field, what it is given, and the refusal; None where it is taken.
NUMBERS: list[tuple[str, str, str | None]] = [
    *(("max_tokens", given, AT_LEAST_0) for given in ("-1", "-9223372036854775808")),
    *(("max_tokens", given, None) for given in ("0", "-0", "1", "200000", "9223372036854775807", "9223372036854775808")),
    *(("max_tokens", given, INTEGER) for given in ("1.5", "1.0", "1e2", "true", "null", '"1"', "[]", "{}")),
    *(("temperature", given, AT_LEAST_0) for given in ("-1", "-0.001")),
    *(("temperature", given, None) for given in ("0", "-0", "-0.0", "0.5", "1", "1.0", "null")),
    *(("temperature", given, AT_MOST_1) for given in ("1.001", "2", "1e2", "9223372036854775808")),
    *(("temperature", given, NUMBER) for given in ("true", '"1"', "[]", "{}")),
    *(("top_p", given, AT_LEAST_0) for given in ("-1",)),
    *(("top_p", given, None) for given in ("0", "-0", "0.5", "1", "null")),
    *(("top_p", given, AT_MOST_1) for given in ("1.001", "1e2", "9223372036854775808")),
    *(("top_p", given, NUMBER) for given in ("true", '"1"')),
    *(("top_k", given, AT_LEAST_0) for given in ("-1",)),
    *(("top_k", given, None) for given in ("0", "-0", "1", "9223372036854775807", "9223372036854775808", LONG, "null")),
    *(("top_k", given, INTEGER) for given in ("1.5", "1.0", "true", '"1"')),
]  # fmt: skip


@pytest.mark.behaviour("client-surface-2.1-max-tokens")
@pytest.mark.parametrize(("name", "given", "refusal"), NUMBERS)
def test_every_number_at_its_bounds(server: Running, name: str, given: str, refusal: str | None) -> None:
    others = "" if name == "max_tokens" else '"max_tokens":5,'
    reply = ask(server, f'{{"model":"claude-opus-5-5",{others}{MESSAGES},"{name}":{given}}}', "/v1/messages")
    if refusal is None:
        assert reply.status_code == 200, reply.text
    else:
        assert refused(reply) == (400, f"{name}: {refusal}")


@pytest.mark.behaviour("client-surface-2.1-thinking-budget-bounds")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("given", ["-1", "0", "1023", "1.5", "true", "null", '"1024"', "{}"])
def test_a_thinking_budget_at_its_bounds(server: Running, endpoint: str, given: str) -> None:
    status, message = refused(ask(server, field(f'"thinking":{{"type":"enabled","budget_tokens":{given}}}'), endpoint))
    assert status == 400
    assert message.startswith("thinking.")
    assert "budget_tokens: Input should be " in message


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (f'{{"model":"gpt-4",{SOUND[1:]}', 200, ""),
        (field('"model":"gpt-4"'), 404, "model: gpt-4"),
        (field(r'"mod\u0065l":"gpt-4"'), 404, "model: gpt-4"),  # the same name, written otherwise
        (field('"messages":[]'), 400, "messages: at least one message is required"),
        (f'{{"messages":[],{SOUND[1:]}', 200, ""),
        (field('"tools":5,"tools":[]'), 200, ""),
        (field('"tools":[],"tools":5'), 400, "tools: Input should be a valid list"),
        (saying('{"role":"assistant","role":"user","content":"a"}'), 200, ""),
        (saying('{"role":"user","role":"assistant","content":"a"}'), 400, 'messages: first message must use the "user" role'),
        (saying('{"role":"user","content":"a","content":""}'), 400, "messages.0.content: messages: text content blocks must be non-empty"),
        (saying('{"role":"user","content":"","content":"a"}'), 200, ""),
    ],
    ids=named,
)  # fmt: skip
def test_of_a_name_that_comes_twice_the_last_counts(
    server: Running, endpoint: str, body: str, status: int, message: str
) -> None:
    reply = ask(server, body, endpoint)
    assert (reply.status_code, reply.json().get("error", {}).get("message", "")) == (status, message)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "body",
    [
        SOUND + " \r\n\t",
        SOUND.replace("Hello", r"a\u0000b"),
        SOUND.replace("Hello", r"\ud83d\ude00"),
        SOUND.replace("Hello", "\x7f\u2028\ufeff\U0010ffff"),
        field(r'"new":"\u0000"'),
        field(r'"n\u0000w":1'),
        field(r'"tools":[{"name":"a","description":"\u0000","input_schema":{"type":"object"}}]'),
        with_tool_input(r'{"\u0000":"\u0000"}'),
        with_tool_input('{"a":' * 300 + "1" + "}" * 300),
        field('"new":' + "[" * 300 + "]" * 300),
        field(",".join(f'"k{n}":1' for n in range(10_000))),
    ],
    ids=named,
)
def test_what_is_odd_and_sound_is_served(server: Running, endpoint: str, body: str) -> None:
    reply = ask(server, body, endpoint)
    assert reply.status_code == 200, reply.text
    assert len(reply.headers.get("antiphon-ignored", "")) < 2_000


@pytest.mark.behaviour("client-surface-2.1-messages-limit")
def test_a_hundred_thousand_of_anything_is_an_answer_and_no_failure(server: Running) -> None:
    """Counted where that is asked, refused as too long where an answer is."""
    many = {
        "messages": saying(",".join(['{"role":"user","content":"a"}'] * 100_000)),
        "blocks": saying('{"role":"user","content":[' + ",".join(['{"type":"text","text":"a"}'] * 100_000) + "]}"),
    }
    for body in many.values():
        counted = ask(server, body, "/v1/messages/count_tokens")
        assert counted.status_code == 200, counted.text
        status, message = refused(ask(server, body, "/v1/messages"))
        assert status == 400
        assert message.startswith(f"prompt is too long: {counted.json()['input_tokens']} tokens")


@pytest.mark.behaviour("client-surface-2.1-stop-sequences")
@pytest.mark.parametrize(
    ("stops", "message"),
    [
        ([f"stop {n}" for n in range(100_000)], None),
        (["x"] * 100_000, None),
        (["x" * 100_000], None),
        (None, None),
        ([" "] * 100_000, "stop_sequences: each stop sequence must contain non-whitespace"),
        (["x"] * 99_999 + [5], "stop_sequences.99999: Input should be a valid string"),
    ],
    ids=named,
)
def test_stop_sequences_without_end(server: Running, stops: list[object] | None, message: str | None) -> None:
    reply = ask(server, field('"stop_sequences":' + msgspec.json.encode(stops).decode()), "/v1/messages")
    if message is None:
        assert reply.status_code == 200, reply.text
    else:
        assert refused(reply) == (400, message)
