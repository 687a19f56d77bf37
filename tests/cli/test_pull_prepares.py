"""`antiphon models pull` of a model that the chosen engine wants in another form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from antiphon.cli import models
from antiphon.core import settings
from antiphon.engine import choice, memory, preparing
from antiphon.routing import catalogue

pytestmark = pytest.mark.real

Q4_1 = 3


@pytest.fixture
def pull(tmp_path: Path, smol_file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    if not choice.installed():
        pytest.skip("OpenVINO is not installed")
    digest = json.loads(smol_file.with_name(smol_file.name + ".stamp").read_bytes())["sha256"]
    (tmp_path / "models.toml").write_text(
        f"""
        [[models]]
        name = "smol"
        display_name = "Smol"
        tiers = ["haiku"]
        engine = "auto"
        dialect = "plain"
        window = 8192
        max_output = 8192
        created = 2026-01-02
        licence = "Apache-2.0"
        [models.weights]
        file = "smol.gguf"
        size = {smol_file.stat().st_size}
        sha256 = "{digest}"
        sources = ["file:{smol_file}"]
        """
    )
    (tmp_path / "antiphon.toml").write_text(f'models = ["smol"]\ncatalogue = "{tmp_path / "models.toml"}"\n')
    monkeypatch.setattr(choice, "processor_features", lambda: frozenset({"avx512f"}))
    return lambda *options: CliRunner().invoke(models.app, ["pull", *options, "--home", str(tmp_path)])


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest model has no tensors that OpenVINO is slow at; here its own count as such."""
    monkeypatch.setattr(choice, "_SLOW", frozenset({Q4_1}))


def folders(home: Path) -> list[Path]:
    return [path for path in (home / "models").iterdir() if path.is_dir()]


def test_it_is_made_ready_once_and_a_second_pull_has_nothing_to_do(pull: Callable[..., Result], tmp_path: Path) -> None:
    first = pull()
    assert first.exit_code == 0
    assert "smol: ready (100%)" in first.output
    (folder,) = folders(tmp_path)
    assert folder.name.endswith(preparing.AS_READ)
    made = folder.stat().st_mtime_ns
    second = pull()
    assert second.exit_code == 0
    assert "ready (100%)" not in second.output
    assert folders(tmp_path)[0].stat().st_mtime_ns == made


@pytest.mark.usefixtures("slow")
def test_what_openvino_is_slow_at_is_packed_anew(pull: Callable[..., Result], tmp_path: Path) -> None:
    assert pull("--no-prepare").exit_code == 0
    chosen = settings.load({"home": str(tmp_path)}, environment={})
    (entry,) = catalogue.from_settings(chosen).served(chosen.models)
    (path,) = (tmp_path / "models").glob("*.gguf")
    assert models.wanted_converter(chosen, entry, path) == preparing.CONVERTER


@pytest.mark.parametrize("engine", ["auto", "llama_cpp"])
def test_nothing_is_made_for_llama_cpp(
    pull: Callable[..., Result], tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "processor_features", lambda: frozenset({"sse2"}))
    monkeypatch.setenv("ANTIPHON_ENGINE", engine)
    assert pull().exit_code == 0
    assert folders(tmp_path) == []


def test_where_it_fails_that_is_said_and_the_weights_are_used_as_they_are(
    pull: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "DISK_FACTOR", 1e9)
    done = pull()
    assert done.exit_code == 0
    assert "not enough room on the disk" in done.output
    assert "it runs as it is" in done.output
    assert folders(tmp_path) == []


def test_it_is_not_begun_where_memory_is_short_or_nobody_wants_it(
    pull: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pull("--no-prepare").exit_code == 0
    assert folders(tmp_path) == []
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    assert pull().exit_code == 0
    assert folders(tmp_path) == []
