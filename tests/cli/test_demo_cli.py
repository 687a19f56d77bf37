from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command import antiphon, environment, inside, wait_until


def processes(home: Path) -> list[str]:
    """What runs on a data folder."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(home) in line]


@pytest.fixture
def home(tmp_path: Path, smol_file: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "models").symlink_to(smol_file.parent)
    return folder


@pytest.mark.real
def test_the_demo_streams_an_answer_tells_its_figures_and_leaves_nothing_behind(home: Path) -> None:
    done = antiphon(
        "demo", "Count to three.", "--home", home, ANTIPHON_MODELS="smollm2-135m-instruct", ANTIPHON_PORT="0",
        HTTP_PROXY="http://127.0.0.1:9", ANTHROPIC_API_KEY="sk-other", ANTHROPIC_AUTH_TOKEN="other",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert "> Count to three." in text
    for pattern in (
        r"The server was ready after \d+\.\d s",
        r"model +claude-sonnet-5-5, answered by smollm2-135m-instruct",
        r"time to first token +\d+\.\d\d s",
        r"speed +\d+\.\d tokens/s",
        r"usage +\d+ input, \d+ output tokens",
        r"cost +\$0\.\d+, at the list price of claude-sonnet-5-5",
        r"stop reason +(end_turn|max_tokens)",
        r"> Which function adds an item to a heap\?",
        r"(?m)^ *(1\d\d\d) +0 +\d+ +\d+\.\d\d s\n *0 +\1 +\d+ +\d+\.\d\d s$",
        r"export ANTHROPIC_BASE_URL=http://127.0.0.1:\d+",
        rf"export ANTHROPIC_API_KEY=\$\(.*antiphon keys create --quiet --home {home}\)",
        rf"antiphon serve --home {home}",
        r"curl \$ANTHROPIC_BASE_URL/v1/messages",
    ):
        assert re.search(pattern, text), pattern
    answer = text.partition("> Count to three.")[2].partition("\nmodel ")[0].strip()
    assert answer
    assert "sk-ant-" not in text
    assert processes(home) == []
    listed = inside("keys", "list", "--home", home).stdout
    assert "archived" in listed
    assert "active" not in listed


def test_a_demo_whose_server_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("rules: {}")
    done = antiphon("demo", "--home", tmp_path / "home", ANTIPHON_SCRIPTED=str(script))
    assert done.returncode == 1
    assert "The server ended at its start. The script" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_demo_that_is_ended_takes_its_server_and_its_key_with_it(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("rules: [{text: '" + "word " * 2000 + "', delay_ms: 50}]")
    config = tmp_path / "my.toml"
    config.write_text(f'scripted = "{script}"\nport = 0\ndrain_seconds = 1\n')
    home = tmp_path / "home"
    command = [sys.executable, "-m", "antiphon", "demo", "--home", str(home), "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(PYTHONUNBUFFERED="1")) as demo:
        assert demo.stdout is not None
        wait_until(lambda: "listens" in _log(home), "a server that listens")
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=30)
    assert demo.returncode == 128 + signal.SIGTERM
    assert processes(home) == []
    assert "active" not in inside("keys", "list", "--home", home).stdout


def _log(home: Path) -> str:
    file = home / "demo.log"
    return file.read_text() if file.exists() else ""
