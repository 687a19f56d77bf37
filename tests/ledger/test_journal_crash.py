"""The journal against the machine: processes killed, disks full."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from antiphon.ledger.journal import Journal
from antiphon.ledger.posting import Posting, into
from antiphon.store.database import open_database
from antiphon.store.tables import usage_attempts, usage_records

pytestmark = pytest.mark.anyio

#: Appends from many tasks, posts, and names each record on stdout after its append has returned.
_SERVER = """
import asyncio, os, sys
from pathlib import Path
from antiphon.ledger.journal import Journal
from antiphon.ledger.posting import Posting, into
from antiphon.store.database import open_database
sys.path.insert(0, sys.argv[2])
from records import record

async def append(journal, first, step):
    number = first
    while True:
        await journal.append(record(number))
        os.write(1, f"req_{number:08d}\\n".encode())
        number += step

async def main():
    home = Path(sys.argv[1])
    database = open_database(f"sqlite+aiosqlite:///{home / 'antiphon.db'}")
    await database.migrate()
    journal = Journal(home / "journal" / "server", segment_bytes=50_000)
    await journal.open()
    posting = asyncio.create_task(Posting(journal, into(database), linger_s=0.01, most=50).run())
    start = int(sys.argv[3])
    await asyncio.gather(*(append(journal, start + n, 32) for n in range(32)))

asyncio.run(main())
"""

#: Appends until the disk refuses, makes room, appends again; prints what was acknowledged.
_FILLING = """
import asyncio, resource, sys
from pathlib import Path
from antiphon.ledger.journal import Journal, JournalFailed
sys.path.insert(0, sys.argv[2])
from records import record

async def main():
    journal = Journal(Path(sys.argv[1]))
    await journal.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
    taken, refused = [], []
    async def append(number):
        try:
            await journal.append(record(number, padding=300))
            taken.append(number)
        except JournalFailed as error:
            refused.append(error.reason)
    for first in range(0, 400, 100):
        await asyncio.gather(*(append(first + n) for n in range(100)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await append(1000)
    await journal.close()
    print(len(refused), refused[0].split(": ")[-1], *taken, sep="|")

asyncio.run(main())
"""

_HERE = str(Path(__file__).parent)


async def _replayed(home: Path, folder: str = "journal/server") -> tuple[list[str], Posting]:
    """The request ids in the database after a start that posts what was left."""
    database = open_database(f"sqlite+aiosqlite:///{home / 'antiphon.db'}")
    await database.migrate()
    journal = Journal(home / folder)
    await journal.open()
    posting = Posting(journal, into(database))
    assert await posting.drain(60)
    async with database.reading() as connection:
        found = list((await connection.execute(select(usage_records.c.request_id))).scalars())
        attempts = (await connection.execute(select(func.count()).select_from(usage_attempts))).scalar_one()
    assert attempts == len(found)
    await journal.close()
    await database.close()
    return found, posting


def _run_and_kill(home: Path, start: int, lines: int) -> list[str]:
    """The ids whose append had returned when the process was killed."""
    command = [sys.executable, "-c", _SERVER, str(home), _HERE, str(start)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as output:
        seen = [output.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        seen += output.readlines()
    child.wait()
    return [line.decode().strip() for line in seen if line.endswith(b"\n")]


async def test_a_killed_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for turn, lines in enumerate((1, 40, 700, 3000, 1500)):
        acknowledged += await asyncio.to_thread(_run_and_kill, tmp_path, turn * 1_000_000, lines)
    found, _ = await _replayed(tmp_path)
    assert len(acknowledged) > 5000
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    # At most what was on its way to the disk in each of the five processes.
    assert len(found) - len(acknowledged) <= 5 * 32


async def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    await asyncio.to_thread(_run_and_kill, tmp_path, 0, 10)
    found, _ = await _replayed(tmp_path)
    assert len(found) >= 10


async def test_a_file_that_may_not_grow_refuses_cleanly_and_heals(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FILLING, str(tmp_path / "j"), _HERE]
    output = await asyncio.to_thread(subprocess.check_output, command, text=True, timeout=60)
    refused, reason, *taken = output.strip().split("|")
    assert int(refused) > 0
    assert reason == "File too large"
    assert taken[-1] == "1000"
    found, posting = await _replayed(tmp_path, "j")
    assert sorted(found) == [f"req_{int(number):08d}" for number in taken]
    assert posting.figures().rejected == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where this user may make one."""
    path = tmp_path / "disk"
    path.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("needs the right to mount a file system")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)  # also where a test failed with files open


async def test_a_full_disk_refuses_cleanly_and_heals(small_disk: Path, tmp_path: Path) -> None:
    from records import record

    from antiphon.ledger.journal import JournalFailed

    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    journal = Journal(small_disk / "j", segment_bytes=20_000)
    await journal.open()
    taken: list[str] = []
    reasons: set[str] = set()

    async def append(number: int) -> None:
        try:
            await journal.append(record(number, padding=300))
            taken.append(record(number).request_id)
        except JournalFailed as error:
            reasons.add(error.reason.split(": ")[-1])

    for first in range(0, 400, 20):
        await asyncio.gather(*(append(first + n) for n in range(20)))
    assert 100 < len(taken) < 400
    assert reasons == {"No space left on device"}
    ballast.unlink()
    before = len(taken)
    await asyncio.gather(*(append(1000 + n) for n in range(20)))
    assert len(taken) == before + 20
    # Posting makes room too: it deletes what is in the database.
    database = open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await database.migrate()
    for first in range(2000, 2400, 20):
        await asyncio.gather(*(append(first + n) for n in range(20)))
    posting = Posting(journal, into(database))
    assert await posting.drain(30)
    before = len(taken)
    await asyncio.gather(*(append(3000 + n) for n in range(20)))
    assert len(taken) == before + 20
    assert await posting.drain(30)
    async with database.reading() as connection:
        found = list((await connection.execute(select(usage_records.c.request_id))).scalars())
    assert sorted(found) == sorted(taken)
    await journal.close()
    await database.close()
