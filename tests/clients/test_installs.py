"""Installs that are made once, whole or not at all, and how a failed one is told."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import installs


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANTIPHON_HOME", str(tmp_path))
    return tmp_path


def _writes(text: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        (folder / "made").write_text(text)

    return build


def test_an_install_is_made_once_for_each_recipe_and_only_the_last_is_kept(home: Path) -> None:
    first = installs.kept("tool", [b"1"], _writes("first"))
    assert installs.kept("tool", [b"1"], _writes("again")) == first
    assert (first / "made").read_text() == "first"
    other = installs.kept("toolbox", [b"1"], _writes("another name"))
    second = installs.kept("tool", [b"2"], _writes("second"))
    assert (second / "made").read_text() == "second"
    assert not first.exists()
    assert other.exists()
    assert home in second.parents


def test_an_install_that_was_cut_off_is_made_anew(home: Path) -> None:
    def cut_off(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        installs.kept("tool", [b"1"], cut_off)
    folder = installs.kept("tool", [b"1"], _writes("whole"))
    assert [path.name for path in folder.iterdir()] == ["made"]
    assert sorted(path.name for path in (home / "clients").iterdir()) == [folder.name, "tool.lock"]


def test_two_runs_at_once_make_one_install(home: Path) -> None:
    building, may_end = threading.Event(), threading.Event()
    built: list[str] = []

    def slow(folder: Path) -> None:
        built.append(folder.name)
        building.set()
        assert may_end.wait(30)

    runs = [threading.Thread(target=installs.kept, args=("tool", [b"1"], slow)) for _ in range(2)]
    for run in runs:
        run.start()
        assert building.wait(30)
    may_end.set()
    for run in runs:
        run.join(30)
    assert len(built) == 1


def test_an_installer_that_fails_fails_the_test_and_one_without_a_network_skips_it() -> None:
    says = [sys.executable, "-c", "import sys; sys.exit(sys.argv[1])"]
    installs.execute([sys.executable, "-c", ""])
    with pytest.raises(installs.InstallFailed, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        installs.execute([*says, "THESE PACKAGES DO NOT MATCH THE HASHES"])
    with pytest.raises(pytest.skip.Exception, match="no registry can be reached"):
        installs.execute([*says, "npm error code EAI_AGAIN"])


def test_a_node_that_is_too_old_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho v18.20.0\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(installs, "python_with", _stops)
    with pytest.raises(installs.InstallFailed, match=r"nodejs\.txt"):
        installs.node()


def _stops(requirements: str) -> Path:
    """Stands in for the download of Node, which a machine with its own needs not make."""
    raise installs.InstallFailed(requirements)
