"""Weights in the form that OpenVINO runs fast, made of a GGUF file once and kept beside it.

The work is done by a child process (`antiphon.engine.children.openvino_prepare`), which needs three and a half times
the file's size in memory (3.9 GB for 1.1 GB, at the library's own reading of the file), and which also checks that the
result answers like the file that it was made of. Where that fails, the GGUF file can be used as it is; nothing here
decides that.

Beside `<stem>.gguf`, `<stem>.openvino-u4g128-v2/` is a finished result, whole and checked; it gets this name last. The
version is of the converter: a better one replaces what an older one made. Version 1 had no place for a salt
(`docs/design/0014`), and is copied with one, in seconds. Weights that the library is fast at as they are get
`<stem>.openvino-as-read-v1/`: the model as it has read it, with such a place. With `.unfinished` behind it, it is work
under way, or left by a kill and swept away by the next run. The file's own lock is held meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from antiphon.core.errors import WeightsError
from antiphon.engine.fetching import in_thread
from antiphon.engine.partial import beside, sync_folder, write_whole
from antiphon.engine.weights import locked

Progress: TypeAlias = Callable[[str, float], None]
"""Called in the event loop with the step's name and how much of the whole is done, from 0 to 1."""

CONVERTER = "openvino-u4g128-v2"
#: The same without a place for a salt.
UNSALTED = "openvino-u4g128-v1"
#: For weights that are to stay as they are.
AS_READ = "openvino-as-read-v1"
PROGRAM = (sys.executable, "-m", "antiphon.engine.children.openvino_prepare")
#: What the work needs on the disk, as a multiple of the file: the model as the library saves it, and the result.
DISK_FACTOR = 2.5
#: What the work needs in memory, as a multiple of the file.
MEMORY_FACTOR = 3.6
#: A child that says nothing for so long hangs. Reading a file of 1 GB takes 10 to 40 s without a word.
SILENCE_SECONDS = 900.0
_MODEL_FILES = ("openvino_model.xml", "openvino_model.bin")
_NOTE = "prepared.json"
_LOG = "log"


class Figures(msgspec.Struct, tag="figures", frozen=True):
    """What the child's check measured (its own `Figures` says how)."""

    nats: float
    agreement: float
    tokens: int
    rewritten: int
    peak_bytes: int


class _Told(msgspec.Struct, tag="step", frozen=True):
    step: str
    fraction: float


class _Failure(msgspec.Struct, tag="failure", frozen=True):
    reason: str


_told = msgspec.json.Decoder(_Told | _Failure | Figures)


class Prepared(msgspec.Struct, frozen=True):
    """What a finished folder says of itself: the SHA-256 of the file it was made of, by which converter, the sizes of
    its files in bytes, and the figures of the check."""

    source_sha256: str
    converter: str
    sizes: dict[str, int]
    figures: Figures


def folder_of(path: Path, converter: str = CONVERTER) -> Path:
    """Where the result for a GGUF file lies once it is made."""
    return path.with_name(f"{path.stem}.{converter}")


def prepared(path: Path, digest: str, converter: str = CONVERTER) -> Path | None:
    """The finished folder for the GGUF file with this SHA-256, or None. Cheap: names and sizes are looked at."""
    folder = folder_of(path, converter)
    try:
        note = _note(folder)
        if note.source_sha256 != digest or note.converter != converter or note.sizes != _sizes(folder, note.sizes):
            return None
    except (OSError, msgspec.MsgspecError):
        return None
    return folder


def _note(folder: Path) -> Prepared:
    return msgspec.json.decode((folder / _NOTE).read_bytes(), type=Prepared)


def _sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in {*_MODEL_FILES, *names}}


def _made(folder: Path) -> Iterator[str]:
    """What the child has left there, but for its log. The tokenizer was not always among it."""
    return (entry.name for entry in folder.iterdir() if entry.name != _LOG)


def _silent(step: str, fraction: float) -> None:
    """The progress of somebody who does not look."""


async def prepare(
    path: Path,
    digest: str,
    progress: Progress = _silent,
    *,
    converter: str = CONVERTER,
    program: Sequence[str] = PROGRAM,
    silence_seconds: float = SILENCE_SECONDS,
) -> Path:
    """Have the folder for a GGUF file here: at once if it is, else by making it, which takes minutes; seconds where the
    `converter` is `AS_READ`, or there is one that lacks but the salt.

    Waits while another process or task works on the same file. A cancelled caller has the child killed and what it
    made removed, as has a failure.

    Raises:
        WeightsError: OpenVINO is not installed or cannot read the file, the disk has no room, the child died or hung,
            or the result does not answer like the file.
    """
    if prepared(path, digest, converter) is None:
        if program is PROGRAM and importlib.util.find_spec("openvino_genai") is None:
            raise WeightsError("OpenVINO is not installed; `pip install 'antiphon[openvino]'` brings it")
        try:
            async with locked(beside(path, "lock"), lambda: progress("waiting", 0.0)):
                if prepared(path, digest, converter) is None:
                    how = _how(path, digest, converter)
                    await _prepare(path, digest, progress, _Run((*program, how), silence_seconds, converter))
        except OSError as error:
            raise WeightsError(f"{path.name} cannot be prepared: {error.strerror}") from error
    progress("ready", 1.0)
    return folder_of(path, converter)


def _how(path: Path, digest: str, converter: str) -> str:
    """What the child is told to do."""
    if converter == AS_READ:
        return "as-read"
    old = prepared(path, digest, UNSALTED)
    return "rewrite" if old is None else f"salt={old.absolute()}"


async def _prepare(path: Path, digest: str, progress: Progress, run: _Run) -> None:
    """Make the folder. The lock is held, so that every unfinished folder is somebody's who died."""
    unfinished = beside(folder_of(path, run.converter), "unfinished")
    await in_thread(_sweep, path, ".unfinished")
    _check_room(path)
    try:
        await in_thread(unfinished.mkdir)
        figures = await run.child(path, unfinished, progress)
        if not figures.tokens:  # nothing was compared but the salt: what was found before holds
            old = _note(folder_of(path, UNSALTED))
            figures = msgspec.structs.replace(old.figures, peak_bytes=figures.peak_bytes)
        sizes = _sizes(unfinished, _made(unfinished))
        await in_thread(_complete, path, unfinished, Prepared(digest, run.converter, sizes, figures))
    finally:
        await in_thread(shutil.rmtree, unfinished, ignore_errors=True)


def _check_room(path: Path) -> None:
    needed, free = DISK_FACTOR * path.stat().st_size, shutil.disk_usage(path.parent).free
    if needed > free:
        raise WeightsError(
            f"not enough room on the disk to prepare {path.name}: "
            f"{needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free"
        )


def _complete(path: Path, unfinished: Path, note: Prepared) -> None:
    """Give the result its name, then remove what it replaces. A kill in between leaves nothing that looks finished."""
    (unfinished / _LOG).unlink(missing_ok=True)
    write_whole(unfinished / _NOTE, msgspec.json.encode(note))
    sync_folder(unfinished)
    folder = folder_of(path, note.converter)
    shutil.rmtree(folder, ignore_errors=True)  # one of another file that had the same name
    unfinished.rename(folder)
    sync_folder(folder.parent)
    _sweep(path, "", besides=folder)


def _sweep(path: Path, ending: str, besides: Path | None = None) -> None:
    """Remove the folders made of a file, by whatever converter."""
    for left in path.parent.glob(f"{glob.escape(path.stem)}.openvino-*{ending}"):
        if left != besides:
            shutil.rmtree(left, ignore_errors=True)


class _Run:
    """How the child is run."""

    def __init__(self, program: Sequence[str], silence_seconds: float, converter: str) -> None:
        self.converter = converter
        self._program = program
        self._silence_seconds = silence_seconds

    async def child(self, path: Path, folder: Path, progress: Progress) -> Figures:
        """Run it to its end; it does not outlive this call, nor (its standard input ends) this process.

        Raises:
            WeightsError: it failed.
        """
        with (folder / _LOG).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command(path, folder), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            last = await self._last_word(process.stdout, progress)
            async with asyncio.timeout(self._silence_seconds):
                status = await process.wait()
        except TimeoutError:
            raise WeightsError(_failed(path, f"nothing was heard for {self._silence_seconds:g} s")) from None
        except (msgspec.MsgspecError, ValueError):  # ValueError: a line without end
            raise WeightsError(_failed(path, "what came from the process that does it was not understood")) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            # First the pipe to its end, then `wait`, which waits for that: a full buffer is otherwise never read.
            if process.stdout is not None:
                await process.stdout.read()
            await process.wait()
        if isinstance(last, Figures) and status == 0:
            return last
        reason = last.reason if isinstance(last, _Failure) else _ended(status, _tail(folder / _LOG))
        raise WeightsError(_failed(path, reason))

    def _command(self, path: Path, folder: Path) -> tuple[str, ...]:
        return (*self._program, str(path.absolute()), str(folder.absolute()))

    async def _last_word(self, output: asyncio.StreamReader | None, progress: Progress) -> Figures | _Failure | None:
        last: Figures | _Failure | None = None
        while output is not None and (line := await asyncio.wait_for(output.readline(), self._silence_seconds)):
            told = _told.decode(line)
            if isinstance(told, _Told):
                progress(told.step, told.fraction)
            else:
                last = told
        return last


def _failed(path: Path, reason: str) -> str:
    return f"{path.name} could not be prepared for OpenVINO: {reason}"


def _tail(log: Path) -> str:
    """The last line of what was written."""
    lines = log.read_bytes()[-2000:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


def _ended(status: int, said: str) -> str:
    if status == -signal.SIGKILL:
        return "the process that does it was killed; most likely the machine has too little memory"
    if status < 0:
        return f"the process that does it crashed ({signal.Signals(-status).name})"
    return f"the process that does it ended with status {status}" + (f" ({said})" if said else "")
