"""The command `antiphon` as people run it: a process of its own, in an environment without other settings."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anthropic
import httpx2
from typer.testing import CliRunner

from antiphon.cli.main import app

_SECONDS = 60
KEY = re.compile(r"sk-ant-(?:api03|admin01)-\w{24}-\w{70}\b")


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings, proxies and credentials of its own. Engines get one thread: see
    `conftest._serving`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ANTIPHON_", "ANTHROPIC_"))}
    for name in ("COLUMNS", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        own.pop(name, None)
    return own | {"ANTIPHON_THREADS": "1"} | extra


def antiphon(*arguments: str | Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Keyword arguments are further environment variables."""
    command = [sys.executable, "-m", "antiphon", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(**extra), timeout=_SECONDS, check=False
    )


def inside(*arguments: str | Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """The same in this process: an interpreter's start quicker. Not for servers, which set up logging and signals."""
    unset: dict[str, str | None] = {name: None for name in os.environ if name not in environment()}
    result = CliRunner().invoke(app, [*map(str, arguments)], env=unset | extra)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def made_key(home: Path, *arguments: str) -> str:
    """A key of its own for a data folder."""
    done = inside("keys", "create", "--quiet", "--home", home, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Any, what: str, seconds: float = 30.0) -> None:
    """Wait until something holds, looking often."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"it never came to this: {what}")
        time.sleep(0.02)


class Server:
    """`antiphon serve` in a process of its own. What it writes goes to files, so that it never waits for a reader."""

    def __init__(
        self, home: Path, *arguments: str | Path, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        home.parent.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.port = free_port()
        self._clients: list[anthropic.Anthropic] = []
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._out = home.parent / f"{home.name}.{self.port}.out"
        self._err = home.parent / f"{home.name}.{self.port}.err"
        command = [*prefix, sys.executable, "-m", "antiphon", "serve", "--home", str(home), "--port", str(self.port)]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*command, *map(str, arguments)], stdout=out, stderr=err, env=environment(**(env or {}))
            )

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    @property
    def keys(self) -> list[str]:
        """The keys that it has shown."""
        return KEY.findall(self.stdout + self.stderr)

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}: {self.stderr}")
        try:
            return httpx2.get(f"{self.base_url}/health/ready", timeout=2, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    def wait_ready(self) -> Server:
        wait_until(self.ready, "a server that is ready")
        # The welcome is written before the first connection is taken, so what it shows is there now.
        return self

    def client(self, key: str | None = None, **options: Any) -> anthropic.Anthropic:
        """The official SDK, with the key that the first start has shown unless another is given."""
        chosen: dict[str, Any] = {"api_key": key or self.keys[0], "base_url": self.base_url, "max_retries": 0}
        self._clients.append(anthropic.Anthropic(**(chosen | options)))
        return self._clients[-1]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = _SECONDS) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it without a word, if it still runs."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Stop it in order."""
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.wait(20)
        finally:
            self.kill()
