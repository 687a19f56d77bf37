"""`antiphon serve` as a process: how it starts, refuses to start, stops, and what a kill leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import anthropic
import httpx2
import pytest

from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope, UsageRecord
from antiphon.store import usage
from antiphon.store.database import open_database
from command import KEY, Server, antiphon, environment, free_port, made_key, wait_until

QUICK = "rules: [{text: 'Good day to you.'}]"
SLOW = "rules: [{match: slow, text: '" + "word " * 30 + "', delay_ms: 50}]"
ENDLESS = "rules: [{text: '" + "word " * 4000 + "', delay_ms: 50}]"
HELLO: Any = [{"role": "user", "content": "Hello"}]

StartServer: TypeAlias = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    """Start scripted servers on a data folder of the test's own; none outlives it."""
    started: list[Server] = []

    def serve(script: str = QUICK, *arguments: str, **options: Any) -> Server:
        file = tmp_path / f"script{len(started)}.yaml"
        file.write_text(script)
        started.append(Server(tmp_path / "home", "--scripted", file, *arguments, **options))
        return started[-1]

    yield serve
    for server in started:
        server.kill()


def ask(client: anthropic.Anthropic, content: str = "Hello") -> anthropic.types.Message:
    return client.messages.create(
        model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": content}]
    )


def records(home: Path) -> list[UsageRecord]:
    """All usage records in the database."""

    async def read() -> list[UsageRecord]:
        database = open_database(f"sqlite+aiosqlite:///{home / 'antiphon.db'}")
        try:
            async with database.reading() as connection:
                scope = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)
                return list(await usage.latest(scope, connection, 10_000))
        finally:
            await database.close()

    return asyncio.run(read())


def test_the_first_start_shows_a_key_that_works_and_the_second_shows_none(start: StartServer) -> None:
    first = start().wait_ready()
    assert len(first.keys) == 1
    assert first.stdout == ""  # what a person reads and the log go to standard error
    assert f"Antiphon listens on http://127.0.0.1:{first.port}" in first.stderr
    answer = ask(first.client())
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "Good day to you."
    assert first.end() == 0

    second = start().wait_ready()
    assert second.keys == []
    assert ask(second.client(first.keys[0])).stop_reason == "end_turn"
    assert second.end() == 0
    assert len(records(second.home)) == 2


def test_a_start_that_fails_makes_no_key(tmp_path: Path, start: StartServer) -> None:
    """Else the key would have been made and never shown, and the next start would show none."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        failed = antiphon(
            "serve", "--home", tmp_path / "home", "--port", str(taken.getsockname()[1]), "--scripted", "/x"
        )
    assert failed.returncode == 1
    assert len(start().wait_ready().keys) == 1


def test_an_open_address_without_keys_is_refused_and_with_a_key_it_starts(tmp_path: Path, start: StartServer) -> None:
    refused = start(QUICK, "--host", "0.0.0.0")
    assert refused.wait() == 1
    line = refused.stderr.strip()
    assert line.startswith("antiphon: Refusing to listen on 0.0.0.0 without any API key. ")
    assert "`antiphon keys create`" in line
    assert "127.0.0.1" in line
    assert "\n" not in line
    assert refused.keys == []

    key = made_key(tmp_path / "home")
    server = start(QUICK, "--host", "0.0.0.0").wait_ready()
    assert server.keys == []
    assert ask(server.client(key)).stop_reason == "end_turn"


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text(QUICK)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = antiphon("serve", "--home", tmp_path / "home", "--port", str(port), "--scripted", script)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == f"antiphon: Cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --port"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {"ANTIPHON_PROT": "1"}, "Unknown setting `ANTIPHON_PROT` in the environment; did you mean `ANTIPHON_PORT`?"),
        ([], {"ANTIPHON_PORT": "x"}, "The setting `ANTIPHON_PORT` in the environment is malformed: Expected `int`"),
        (["--config", "/nowhere.toml"], {}, "The settings file /nowhere.toml does not exist"),
        (["--scripted", "/nowhere.yaml"], {}, "The script /nowhere.yaml cannot be read: No such file or directory"),
        ([], {}, "not on this machine; fetch them with `antiphon models pull qwen2.5-coder-1.5b-instruct`"),
        ([], {"ANTIPHON_MODELS": "smollm2"}, "Unknown model `smollm2`; did you mean `smollm2-135m-instruct`?"),
        (["--host", "not.an.address.invalid"], {}, "Refusing to listen on not.an.address.invalid without any API key"),
        ([], {"ANTIPHON_HOME": "/proc/nowhere"}, "/proc/nowhere: No such file or directory"),
    ],
)  # fmt: skip
def test_what_a_start_cannot_do_is_one_clear_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], expected: str
) -> None:
    home = {"ANTIPHON_HOME": str(tmp_path / "home"), "ANTIPHON_PORT": str(free_port())}
    done = antiphon("serve", *arguments, **(home | environment))
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("antiphon: ")
    assert expected in done.stderr


def test_an_option_that_does_not_exist_is_refused_by_name() -> None:
    done = antiphon("serve", "--prot", "1")
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_help_names_every_command_and_the_version_is_told() -> None:
    text = antiphon("--help").stdout
    assert all(command in text for command in ("serve", "demo", "doctor", "models", "keys"))
    assert antiphon("--version").stdout.startswith("antiphon ")


def test_two_servers_on_one_data_folder_the_second_is_refused(start: StartServer) -> None:
    first = start().wait_ready()
    second = start()
    assert second.wait() == 1
    assert "antiphon: Another server writes the journal" in second.stderr
    assert "Traceback" not in second.stderr
    assert ask(first.client()).stop_reason == "end_turn"
    assert first.end() == 0


def test_a_stop_signal_lets_streams_end_refuses_new_turns_and_says_so(start: StartServer) -> None:
    server = start(SLOW).wait_ready()
    client = server.client()
    with client.messages.stream(
        model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": "slow"}]
    ) as stream:
        texts = stream.text_stream
        next(texts)
        server.terminate()
        wait_until(lambda: not server.ready(), "readiness that is false")
        status = httpx2.get(f"{server.base_url}/health/ready", trust_env=False)
        assert status.status_code == 503
        assert status.json()["components"]["server"] == "draining"
        assert httpx2.get(f"{server.base_url}/health/live", trust_env=False).status_code == 200
        with pytest.raises(anthropic.OverloadedError):
            ask(client, "quick")
        rest = list(texts)
        final = stream.get_final_message()
    assert len(rest) == 29
    assert final.stop_reason == "end_turn"
    assert server.wait() == 0
    (record,) = records(server.home)
    assert (record.outcome, record.usage.output_tokens) == ("end_turn", final.usage.output_tokens)


def test_a_stream_that_outlasts_the_drain_ends_with_an_error_event_and_is_recorded(start: StartServer) -> None:
    server = start(ENDLESS, env={"ANTIPHON_DRAIN_SECONDS": "0.3"}).wait_ready()
    with (
        pytest.raises(anthropic.APIStatusError) as cut,
        server.client().messages.stream(model="claude-opus-5-5", max_tokens=4000, messages=HELLO) as stream,
    ):
        for index, _ in enumerate(stream.text_stream):
            if index == 1:
                server.terminate()
    assert cut.value.type == "overloaded_error"
    assert server.wait() == 0
    (record,) = records(server.home)
    assert record.outcome == "shutdown"
    assert record.usage.output_tokens > 1


def test_a_second_signal_does_not_wait_for_the_drain(start: StartServer) -> None:
    server = start(ENDLESS).wait_ready()
    with server.client().messages.stream(model="claude-opus-5-5", max_tokens=4000, messages=HELLO) as stream:
        next(iter(stream.text_stream))
        server.terminate()
        wait_until(lambda: not server.ready(), "a drain")
        began = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.wait() == 0
    assert time.monotonic() - began < 15  # the drain has 30


def test_a_stop_signal_right_after_the_welcome_ends_it_in_order(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text(QUICK)
    code = """
import os, signal
from antiphon.cli import main, serve
def struck(*told, shown=serve._welcome):
    shown(*told)
    os.kill(os.getpid(), signal.SIGTERM)
serve._welcome = struck
main.run()
"""
    arguments = ("--home", tmp_path / "home", "--port", str(free_port()), "--scripted", tmp_path / "script.yaml")
    command = [sys.executable, "-c", code, "serve", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, check=False)
    assert (done.returncode, "Antiphon listens" in done.stderr, "Traceback" in done.stderr) == (0, True, False)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs a network of its own")
def test_it_starts_where_there_is_no_network(start: StartServer) -> None:
    server = start(QUICK, prefix=("unshare", "-n", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh"))
    wait_until(lambda: "Antiphon listens" in server.stderr, "a server that listens")
    assert server.end() == 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_connection_and_no_datagram_leaves_the_machine(start: StartServer, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    watch = ("strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(calls))
    server = start(QUICK, prefix=watch).wait_ready()
    assert ask(server.client()).stop_reason == "end_turn"
    # strace ends as what it ran has ended, so the signal is for its child.
    os.kill(children(server.process.pid)[0], signal.SIGTERM)
    assert server.wait() == 0
    left = [line for line in calls.read_text().splitlines() if "sa_family=AF_INET" in line]
    assert [line for line in left if '"127.0.0.1"' not in line and '"::1"' not in line] == []


class Traffic:
    """Clients that ask one thing after the other and keep the ids of what was answered to its end."""

    def __init__(self, server: Server, clients: int) -> None:
        self.answered: list[str] = []
        self._server = server
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        client = self._server.client(timeout=10)
        while not self._over.is_set():
            with contextlib.suppress(anthropic.APIError, httpx2.HTTPError):
                if number % 2:
                    with client.messages.stream(model="claude-opus-5-5", max_tokens=50, messages=HELLO) as stream:
                        # A stream that is cut gives no final message: the SDK raises.
                        stream.get_final_message()
                        self.answered.append(stream.response.headers["request-id"])
                else:
                    message = ask(client)
                    assert message._request_id is not None
                    self.answered.append(message._request_id)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


def test_after_a_kill_in_traffic_every_answered_request_has_exactly_one_record(start: StartServer) -> None:
    script = "rules: [{text: 'a b c d e f g h', delay_ms: 2}]"
    server = start(script).wait_ready()
    key = server.keys[0]
    traffic = Traffic(server, clients=6)
    wait_until(lambda: len(traffic.answered) >= 25, "some answers")
    server.process.kill()
    server.process.wait()
    traffic.end()

    again = start(script).wait_ready()
    assert ask(again.client(key)).stop_reason == "end_turn"
    assert again.end() == 0
    recorded = [record.request_id for record in records(again.home)]
    assert len(recorded) == len(set(recorded))
    assert len(traffic.answered) == len(set(traffic.answered))
    assert set(traffic.answered) <= set(recorded)
    assert len(recorded) <= len(traffic.answered) + 6 + 1  # each client had one more under way


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.real
@pytest.mark.parametrize("how", ["killed", "terminated"])
def test_the_engines_process_ends_with_the_server(tmp_path: Path, smol_file: Path, how: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(smol_file.parent)
    server = Server(home, env={"ANTIPHON_MODELS": "smollm2-135m-instruct"})
    try:
        server.wait_ready()
        (child,) = children(server.process.pid)
        if how == "killed":
            server.kill()
        else:
            assert server.end() == 0
        wait_until(lambda: not alive(child), "an engine that has ended", seconds=15)
    finally:
        server.kill()


@pytest.mark.real
def test_a_stop_signal_while_the_model_loads_ends_the_start_in_order(tmp_path: Path, smol_file: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(smol_file.parent)
    server = Server(home, env={"ANTIPHON_MODELS": "smollm2-135m-instruct"})
    try:
        wait_until(lambda: children(server.process.pid), "an engine that starts")
        (child,) = children(server.process.pid)
        server.terminate()
        assert server.wait(30) == 0
        assert "Traceback" not in server.stderr
        assert KEY.search(server.stderr) is None
        wait_until(lambda: not alive(child), "an engine that has ended", seconds=15)
    finally:
        server.kill()
