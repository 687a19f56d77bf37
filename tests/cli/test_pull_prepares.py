"""`antiphon models pull` of a model that the chosen engine wants in another form. The smallest model has no such tensors;
here its own count as such."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from antiphon.cli import models
from antiphon.engine import choice, memory, preparing

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
    monkeypatch.setattr(choice, "_SLOW", frozenset({Q4_1}))
    monkeypatch.setattr(choice, "processor_features", lambda: frozenset({"avx512f"}))
    return lambda *options: CliRunner().invoke(models.app, ["pull", *options, "--home", str(tmp_path)])


def folders(home: Path) -> list[Path]:
    return [path for path in (home / "models").iterdir() if path.is_dir()]


def test_it_is_made_ready_once_and_a_second_pull_has_nothing_to_do(pull: Callable[..., Result], tmp_path: Path) -> None:
    first = pull()
    assert first.exit_code == 0
    assert "smol: ready (100%)" in first.output
    (folder,) = folders(tmp_path)
    made = folder.stat().st_mtime_ns
    second = pull()
    assert second.exit_code == 0
    assert "ready (100%)" not in second.output
    assert folders(tmp_path)[0].stat().st_mtime_ns == made


def test_where_it_fails_that_is_said_and_the_weights_are_used_as_they_are(
    pull: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "DISK_FACTOR", 1e9)
    done = pull()
    assert done.exit_code == 0
    assert "not enough room on the disk" in done.output
    assert "llama.cpp runs it as it is" in done.output
    assert folders(tmp_path) == []


def test_it_is_not_begun_where_memory_is_short_or_nobody_wants_it(
    pull: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pull("--no-prepare").exit_code == 0
    assert folders(tmp_path) == []
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    assert pull().exit_code == 0
    assert folders(tmp_path) == []
