"""Schemas made to be expensive, for `bench.structured`: through every door, while others are being served.

Each goes into `output_config.format`, into a strict tool, into a tool that is not strict, and into a count of tokens.
The first two must refuse it with 400, unless it is one that a grammar can hold; a tool that is not strict is never
refused for its schema, unless the request is no JSON that a server should read, or no prompt that a model could. The
engine is scripted, so that what is measured is what Antiphon does with the schema. `bench.pulse` says what others felt.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from bench import subject
from bench.load import Server, Unmeasurable, free_port, server
from bench.pulse import Pulse, pulse
from bench.report import Bar, Figure, figure

_SCRIPT = Path(__file__).parent / "bombs.yaml"
_LAG_BAR = Bar("at most", 100)
#: The stream's own pace is one token each 20 ms.
_GAP_BAR = Bar("at most", 120)
#: From the first byte sent to the whole answer. The largest of them has 8 MB of JSON to be sent and read first.
_ANSWER_BAR = Bar("at most", 2_000)
_NONE = Bar("at most", 0)

#: Lowered schemas are kept up to 64 MiB by an estimate from above; what they really take is less.
_KEPT_BAR = Bar("at most", 96)
#: As in `bench.gateway`: an allocator's own coming and going.
_STEADY_BAR = Bar("at most", 8)

#: What is done behind an answer is felt, too.
_AFTER_S = 0.05
_DOORS = ("format", "strict tool", "tool", "count")


class Bomb(msgspec.Struct, frozen=True):
    """A schema as the text that is sent, and the answers that are right: where it has to be kept to, and where not."""

    schema: str
    strict: tuple[int, ...] = (400,)
    loose: tuple[int, ...] = (200,)


class _Felt(msgspec.Struct, frozen=True):
    """One bomb through one door: status, ms until it was answered, and what others felt."""

    status: int
    answer: float
    lag: float
    gap: float


def bombs(port: int) -> dict[str, Bomb]:
    """One of each kind. Nobody may ever connect to this port."""
    deep = 10_000
    nested = '{"type":"array","items":' * deep + '{"type":"string"}' + "}" * deep
    text = {"type": "string"}
    product = {"allOf": [{"anyOf": [_closed({f"a{i}{j}": text}) for j in range(9)]} for i in range(9)]}
    doubling = {f"d{each}": {"anyOf": [_ref(each + 1), _closed({"a": _ref(each + 1)})]} for each in range(40)}
    many = {f"p{each}": {"type": "string", "pattern": "(a{40}|b){25}" * 60 + str(each)} for each in range(20)}
    return {
        # A parser of JSON may give up on it, too.
        "10,000 nested": Bomb(_object(nested), loose=(200, 400)),
        "recursive $ref": Bomb(_object('{"$ref":"#/$defs/a"}', {"a": _closed({"a": {"$ref": "#/$defs/a"}})})),
        # Millions of tokens are no prompt, wherever they stand.
        "10^6 enum": Bomb(_object(json.dumps({"enum": list(range(10**6))})), loose=(400,)),
        "anyOf product": Bomb(_object(json.dumps(product))),
        "doubling anyOf": Bomb(_object('{"$ref":"#/$defs/d0"}', {**doubling, "d40": text})),
        "remote $ref": Bomb(_object(json.dumps({"$ref": f"http://127.0.0.1:{port}/schema"}))),
        "regex (a+)+$": Bomb(_object(json.dumps({**text, "pattern": "(a+)+$"})), strict=(200,)),
        "huge repeats": Bomb(_object(json.dumps({**text, "pattern": "^(a{1000}){1000}$"}))),
        "many large patterns": Bomb(_object(json.dumps(_closed(many)))),
        "slow match": Bomb(_object(json.dumps({"enum": ["a" * 5_000], "pattern": "(a*)*(a*)*(a*)*b"}))),
    }


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _ref(number: int) -> dict[str, Any]:
    return {"$ref": f"#/$defs/d{number}"}


def _object(inner: str, defs: dict[str, Any] | None = None) -> str:
    """A closed object with this schema in it. Written by hand, because no writer of JSON nests so deeply."""
    return (
        f'{{"type":"object","properties":{{"a":{inner}}},"required":["a"],"additionalProperties":false,'
        f'"$defs":{json.dumps(defs or {})}}}'
    )


def figures(rounds: int, distinct: int, out: Console) -> list[Figure]:
    """Send each bomb through each door so many times, and then so many small schemas of which no two are the same."""
    with subject.home(out) as home, _strangers() as strangers:
        bench = _Bench(home, out)
        with bench.served() as antiphon:
            found = bench.bombs(antiphon, bombs(strangers.port), rounds)
        with bench.served() as antiphon:
            found += bench.distinct(antiphon, distinct)
        return [*found, figure("connections made for a remote $ref", "", [float(strangers.came)], _NONE)]


class _Bench:
    def __init__(self, home: Path, out: Console) -> None:
        self._home = home
        self._out = out
        self._key = subject.command("keys", "create", "--quiet", "--home", str(home))

    @contextmanager
    def served(self) -> Iterator[Server]:
        """On all cores: whatever process Antiphon gives the work to has them, too."""
        port = free_port()
        arguments = ["antiphon", "serve", "--home", str(self._home), "--port", str(port), "--scripted", str(_SCRIPT)]
        with server(arguments, port, None, self._home / "serve.log") as started:
            yield started

    def bombs(self, antiphon: Server, all_of_them: dict[str, Bomb], rounds: int) -> list[Figure]:
        story = self._raw(b'"Tell me a long story."', b'"stream":true,"max_tokens":8000,')
        felt: dict[str, list[_Felt]] = {name: [] for name in all_of_them}
        wrong = 0
        with pulse(antiphon.port, story) as beside:
            quiet = [self._quiet(beside) for _ in range(rounds)]
            for _ in range(rounds):
                for name, bomb in all_of_them.items():
                    each = {door: self._send(antiphon, bomb, door, beside) for door in _DOORS}
                    wrong += self._tell(name, bomb, each)
                    felt[name].append(_worst(each))
            antiphon.check()
        return [
            figure("round trip while nothing is sent, the longest", "ms", [each.lag for each in quiet]),
            figure("gap of the stream while nothing is sent, the longest", "ms", [each.gap for each in quiet]),
            *(figure(f"{name}: round trip", "ms", [e.lag for e in runs], _LAG_BAR) for name, runs in felt.items()),
            *(figure(f"{name}: gap of a stream", "ms", [e.gap for e in runs], _GAP_BAR) for name, runs in felt.items()),
            *(figure(f"{name}: answered", "ms", [e.answer for e in runs], _ANSWER_BAR) for name, runs in felt.items()),
            figure("bombs with another answer than is right", "", [float(wrong)], _NONE),
        ]

    def _quiet(self, beside: Pulse) -> _Felt:
        began = time.perf_counter()
        time.sleep(1)
        ended = time.perf_counter()
        return _Felt(0, 0.0, beside.probe.worst(began, ended), beside.stream.worst(began, ended))

    def _send(self, antiphon: Server, bomb: Bomb, door: str, beside: Pulse) -> _Felt:
        request = self._request(bomb.schema.encode(), door)
        began = time.perf_counter()
        try:
            status, _ = _patient(antiphon.port, request)
        except OSError:
            status = 0
        answer = time.perf_counter() - began
        ended = began + answer + _AFTER_S
        return _Felt(status, answer * 1000, beside.probe.worst(began, ended), beside.stream.worst(began, ended))

    def _request(self, schema: bytes, door: str) -> bytes:
        limit = b'"max_tokens":16,'
        match door:
            case "format" | "count":
                form = b'"output_config":{"format":{"type":"json_schema","schema":%b}},' % schema
                path = "/v1/messages" if door == "format" else "/v1/messages/count_tokens"
                return self._raw(b'"Go."', form + (limit if door == "format" else b""), path)
            case "strict tool":
                return self._raw(b'"Go."', b'"tools":[{"name":"t","strict":true,"input_schema":%b}],' % schema + limit)
        return self._raw(b'"Go."', b'"tools":[{"name":"t","input_schema":%b}],' % schema + limit)

    def _raw(self, question: bytes, more: bytes, path: str = "/v1/messages", *, close: bool = True) -> bytes:
        messages = b'"messages":[{"role":"user","content":%b}]}' % question
        body = b'{"model":"%b",' % subject.MODEL.encode() + more + messages
        return subject.raw_request(body, key=self._key, path=path, close=close)

    def _tell(self, name: str, bomb: Bomb, doors: dict[str, _Felt]) -> int:
        """Print what came of it; how many doors gave another answer than is right."""
        # Counting checks a schema without lowering it, so that some are refused only when an answer is asked for.
        right = dict.fromkeys(doors, bomb.strict) | {"tool": bomb.loose, "count": (*bomb.strict, 200)}
        line = "; ".join(
            f"{door} {each.status} in {each.answer:,.0f} ms, lag {each.lag:.0f}, gap {each.gap:.0f}"
            for door, each in doors.items()
        )
        self._out.print(f"{name}: {line}", soft_wrap=True)
        return sum(each.status not in right[door] for door, each in doors.items())

    def distinct(self, antiphon: Server, count: int) -> list[Figure]:
        """Small schemas in turn through the doors; the memory at a tenth of them, at half of them and in the end."""
        warm, half = count // 10, count // 2
        held: dict[int, float] = {}
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", antiphon.port), 60) as connection:
            for number in range(count):
                if number in (warm, half):
                    held[number] = antiphon.rss_mb()
                schema = json.dumps(_small(number)).encode()
                _kept_open(connection, self._small_request(schema, _DOORS[number % 3]))
        antiphon.settle()
        last = antiphon.rss_mb()
        name = f"{count:,} distinct schemas"
        return [
            figure(f"{name}: memory grown from a tenth of them on", "MiB", [last - held[warm]], _KEPT_BAR),
            figure(f"{name}: memory grown in the second half", "MiB", [last - held[half]], _STEADY_BAR),
            figure(f"{name}: of each", "ms", [(time.monotonic() - began) / count * 1000]),
        ]

    def _small_request(self, schema: bytes, door: str) -> bytes:
        request = self._request(schema, door)
        return request.replace(b"connection: close\r\n", b"", 1)


def _worst(doors: dict[str, _Felt]) -> _Felt:
    felt = doors.values()
    return _Felt(0, max(e.answer for e in felt), max(e.lag for e in felt), max(e.gap for e in felt))


def _small(number: int) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [{"type": "string"}, {"type": "integer"}, {"enum": ["red", "green", number]}]
    return _closed({f"field_{number}_{place}": kinds[place % 3] for place in range(8)})


def _patient(port: int, request: bytes) -> tuple[int, bytes]:
    """As `load.exchange`, for an answer that may be minutes away."""
    with socket.create_connection(("127.0.0.1", port), 300) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]), answer


def _kept_open(connection: socket.socket, request: bytes) -> None:
    """One answer over a connection that stays.

    Raises:
        Unmeasurable: it was refused.
    """
    connection.sendall(request)
    answer = b""
    while not (parts := answer.partition(b"\r\n\r\n"))[1]:
        answer += connection.recv(65536)
    head, body = parts[0].lower(), parts[2]
    if not head.startswith(b"http/1.1 200"):
        raise Unmeasurable(f"a small schema was refused: {answer[:800]!r}")
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    while len(body) < length:
        body += connection.recv(65536)


class _Strangers:
    """Counts who comes to a port that nobody has any business at."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.port = int(listener.getsockname()[1])
        self.came = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                self._listener.accept()[0].close()
                self.came += 1
        except OSError:  # closed
            return


@contextmanager
def _strangers() -> Iterator[_Strangers]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield _Strangers(listener)
