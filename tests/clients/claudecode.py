"""Claude Code, run without a terminal, in a home of its own, with one server to talk to and no way to any other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from installs import node_modules

#: Where requests to any other host are sent: a port on which nothing listens.
_NOWHERE = "http://127.0.0.1:9"


class Told(msgspec.Struct):
    """How a run ended, and the lines it printed."""

    code: int
    lines: list[dict[str, Any]]

    @property
    def result(self) -> dict[str, Any]:
        """The last line, which says what became of the run."""
        assert self.lines[-1]["type"] == "result"
        return self.lines[-1]


def installed() -> Path:
    """The program itself, which is a package of its own for each kind of machine."""
    (program,) = node_modules("claude_code").glob("@anthropic-ai/claude-code-*/claude")
    return program


class ClaudeCode:
    """One user's Claude Code: a home, a project folder, and the environment that leads it to a server."""

    def __init__(self, program: Path, folder: Path, base_url: str, **environment: str) -> None:
        self._program = program
        self.project = folder / "project"
        for made in ("home", "project", "tmp"):
            (folder / made).mkdir(parents=True)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "CLAUDE_CONFIG_DIR": str(folder / "home" / ".claude"),
            "ANTHROPIC_BASE_URL": base_url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
            "HTTPS_PROXY": _NOWHERE,
            "HTTP_PROXY": _NOWHERE,
            "NO_PROXY": "127.0.0.1",
        } | environment

    def run(self, prompt: str, *options: str, piped: str = "") -> Told:
        """One turn; what is piped stands beside the prompt, and then its standard input is closed."""
        done = subprocess.run(
            [self._program, "-p", "--output-format", "stream-json", "--verbose", *options, prompt],
            cwd=self.project,
            env=self._environment,
            input=piped.encode(),
            capture_output=True,
            timeout=100,
            check=False,
        )
        lines = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
        assert lines, done.stderr.decode()
        return Told(done.returncode, lines)
