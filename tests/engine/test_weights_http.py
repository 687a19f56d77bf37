"""Weights from a hub and from any address: into the partial file, and into the folder when they are right."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import hubserver
from antiphon.core.errors import WeightsError
from antiphon.engine import fetching, weights
from antiphon.engine.sources import Hub, Weights
from antiphon.net.download import Patience
from hubserver import HubServer, Reply

pytestmark = pytest.mark.anyio

CONTENT = random.Random(11).randbytes(3_000_017)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SOURCE = "hf:owner/repository/model.gguf"
QUICK = Patience(connect_seconds=2, stall_seconds=0.5, tries=2, pause_seconds=0.01)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    server.publish("owner/repository/model.gguf", CONTENT)
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def known(*sources: str) -> Weights:
    """Weights whose digest the catalogue knows."""
    return Weights(file="model.gguf", size=len(CONTENT), sha256=SHA256, sources=sources or (SOURCE,))


def believed(source: str = SOURCE) -> Weights:
    """Weights whose digest the hub is believed about."""
    return Weights(file="model.gguf", size=len(CONTENT), pinned_by="hub", sources=(source,))


async def pulled(
    wanted: Weights, folder: Path, hub: HubServer, token: str = "", notes: list[str] | None = None
) -> Path:
    def progress(done: int, total: int, note: str) -> None:
        assert 0 <= done <= total == len(CONTENT)
        if notes is not None:
            notes.append(note)

    path = await weights.pull(wanted, folder, progress, hub=Hub(hub.url, token), patience=QUICK)
    assert path.read_bytes() == CONTENT
    assert weights.installed(wanted, folder) == path
    assert left_in(folder) == {"model.gguf", "model.gguf.stamp"}
    return path


async def refusal(wanted: Weights, folder: Path, hub: HubServer, token: str = "") -> str:
    with pytest.raises(WeightsError) as raised:
        await weights.pull(wanted, folder, hub=Hub(hub.url, token), patience=QUICK)
    return raised.value.message


def left_in(folder: Path) -> set[str]:
    return {path.name.partition("-")[2] for path in folder.iterdir()}


# -- a digest of the catalogue


async def test_a_file_of_a_hub_is_fetched_and_verified(hub: HubServer, folder: Path) -> None:
    notes: list[str] = []
    path = await pulled(known(), folder, hub, notes=notes)
    assert path.name == f"{SHA256[:16]}-model.gguf"
    assert notes[0] == f"fetching {SOURCE}" and notes[-1] == "verified"
    hub.requests.clear()
    await pulled(known(), folder, hub)
    assert hub.requests == []


async def test_a_revision_and_a_folder_are_part_of_the_address(hub: HubServer, folder: Path) -> None:
    hub.publish("owner/repository/q4/model.gguf@4af1", CONTENT)
    await pulled(known("hf:owner/repository/q4/model.gguf@4af1"), folder, hub)
    assert hub.requests[0].path == "/owner/repository/resolve/4af1/q4/model.gguf"


async def test_a_file_of_any_address_is_fetched_without_the_token(hub: HubServer, folder: Path) -> None:
    source = f"url:{hub.url}/owner/repository/resolve/main/model.gguf"
    await pulled(known(source), folder, hub, token="hf_secret")
    assert all("authorization" not in request.headers for request in hub.requests)


async def test_a_small_file_that_the_hub_gives_itself_comes_too(hub: HubServer, folder: Path) -> None:
    hub.publish("owner/repository/model.gguf", CONTENT, linked=False)
    await pulled(known(), folder, hub)


async def test_a_failed_pull_goes_on_at_its_byte(hub: HubServer, folder: Path) -> None:
    hub.twist(hubserver.cut(500_000), hubserver.cut(400_000))
    assert f"{SOURCE}: the connection to 127.0.0.1 was cut (2 tries)" in await refusal(known(), folder, hub)
    assert next(folder.glob("*.part")).read_bytes() == CONTENT[:900_000]
    hub.requests.clear()
    notes: list[str] = []
    await pulled(known(), folder, hub, notes=notes)
    assert notes[0] == f"resuming {SOURCE}"
    assert hub.asked() == [900_000]


async def test_a_cancelled_pull_goes_on_at_its_byte(hub: HubServer, folder: Path) -> None:
    hub.twist(hubserver.stall(700_000))
    here = asyncio.Event()

    def progress(done: int, total: int, note: str) -> None:
        if done == 700_000:
            here.set()

    pulling = asyncio.create_task(weights.pull(known(), folder, progress, hub=Hub(hub.url)))
    async with asyncio.timeout(60):
        await here.wait()
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    assert left_in(folder) == {"model.gguf.part", "model.gguf.journal"}
    await pulled(known(), folder, hub)
    assert hub.asked() == [None, 700_000]


async def test_a_killed_pull_loses_no_more_than_a_stretch(hub: HubServer, folder: Path) -> None:
    hub.twist(hubserver.stall(1_700_000))
    code = f"""
import asyncio
from pathlib import Path
from antiphon.engine import fetching, weights
from antiphon.engine.sources import Hub, Weights
fetching._STRETCH_BYTES = 500_000
wanted = Weights(file="model.gguf", size={len(CONTENT)}, sha256="{SHA256}", sources=("{SOURCE}",))
asyncio.run(weights.pull(wanted, Path({str(folder)!r}), hub=Hub({hub.url!r})))
"""
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        end = time.monotonic() + 30
        while not list(folder.glob("*.journal")):
            assert child.poll() is None and time.monotonic() < end
            await asyncio.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    await pulled(known(), folder, hub)
    first, second = hub.asked()
    assert first is None and second is not None
    assert 500_000 <= second <= 1_700_000


async def test_a_file_that_changed_between_two_pulls_is_not_mixed(hub: HubServer, folder: Path) -> None:
    hub.publish("owner/repository/model.gguf", b"o" * len(CONTENT), linked=False)
    hub.twist(hubserver.cut(900_000), hubserver.cut(0), at="hub")
    await refusal(known(), folder, hub)
    assert next(folder.glob("*.part")).read_bytes() == b"o" * 900_000
    hub.publish("owner/repository/model.gguf", CONTENT, linked=False)
    hub.requests.clear()
    await pulled(known(), folder, hub)
    assert hub.asked("hub") == [900_000]  # answered 200, with the whole of the new one


async def test_damage_on_the_disk_costs_the_progress_and_nothing_else(hub: HubServer, folder: Path) -> None:
    hub.twist(hubserver.cut(500_000), hubserver.cut(0))
    await refusal(known(), folder, hub)
    next(folder.glob("*.part")).write_bytes(b"?" * 500_000)
    hub.requests.clear()
    await pulled(known(), folder, hub)
    assert hub.asked() == [None]


async def test_a_pull_that_was_all_here_but_not_finished_asks_for_nothing(hub: HubServer, folder: Path) -> None:
    path = await pulled(known(), folder, hub)
    path.rename(f"{path}.part")
    journal = {"source": SOURCE, "parts": 1, "bytes": len(CONTENT), "sha256": SHA256, "tag": f"sha256:{SHA256}"}
    Path(f"{path}.journal").write_bytes(msgspec.json.encode(journal))
    hub.requests.clear()
    await pulled(known(), folder, hub)
    assert hub.requests == []


async def test_a_hub_with_another_file_is_left_before_a_byte_of_it_comes(hub: HubServer, folder: Path) -> None:
    hub.publish("owner/repository/model.gguf", b"x" * len(CONTENT))
    hub.publish("owner/mirror/model.gguf", CONTENT)
    await pulled(known(SOURCE, "hf:owner/mirror/model.gguf"), folder, hub)
    storage = [request.path for request in hub.requests if request.at == "storage"]
    assert len(storage) == 2
    shutil.rmtree(folder)
    other = hashlib.sha256(b"x" * len(CONTENT)).hexdigest()
    assert f"another file than the one that is pinned: its SHA-256 is {other}" in await refusal(known(), folder, hub)
    assert left_in(folder) == set()


async def test_a_storage_that_lies_is_found_out_and_the_next_source_is_tried(hub: HubServer, folder: Path) -> None:
    hub.twist(lambda request, reply: Reply(200, {}, b"x" * len(CONTENT)))
    notes: list[str] = []
    url = f"url:{hub.url}/owner/repository/resolve/main/model.gguf?signature=s"
    hub.publish("owner/repository/model.gguf?signature=s", CONTENT)
    await pulled(known(SOURCE, url), folder, hub, notes=notes)
    tried = [note for note in dict.fromkeys(notes) if note.startswith("fetching")]
    assert tried == [f"fetching {SOURCE}", f"fetching {url.partition('?')[0]}"]


async def test_a_lie_is_told_and_leaves_nothing(hub: HubServer, folder: Path) -> None:
    hub.twist(lambda request, reply: Reply(200, {}, b"x" * len(CONTENT)))
    assert "gave other bytes than promised: their SHA-256 is" in await refusal(known(), folder, hub)
    assert left_in(folder) == set()


async def test_a_body_without_end_leaves_nothing(hub: HubServer, folder: Path) -> None:
    hub.twist(hubserver.changed(endless=True))
    assert "gives more than the 3000017 bytes that the catalogue names" in await refusal(known(), folder, hub)
    assert left_in(folder) == set()


async def test_each_sources_no_is_told(hub: HubServer, folder: Path) -> None:
    sources = ("hf:o/r/none.gguf", f"url:{hub.url}/none.gguf", "hf:o/r/none.gguf@4af1")
    message = await refusal(known(*sources), folder, hub)
    for source in sources:
        assert f"{source}: 127.0.0.1 answered 404: there is no such file" in message


async def test_a_model_that_wants_a_token_gets_it_from_the_setting(hub: HubServer, folder: Path) -> None:
    hub.token = "hf_secret"
    assert "it wants a token, or it needs the setting `hub_token`" in await refusal(known(), folder, hub)
    message = await refusal(known(), folder, hub, token="hf_wrong")
    assert "the hub does not take the token for this file" in message
    assert "hf_wrong" not in message
    await pulled(known(), folder, hub, token="hf_secret")
    assert all("authorization" not in request.headers for request in hub.requests if request.at == "storage")
    assert "hf_secret" not in repr(Hub(hub.url, "hf_secret"))


async def test_a_source_that_cannot_begin_leaves_anothers_progress(hub: HubServer, folder: Path) -> None:
    hub.twist(hubserver.cut(500_000), hubserver.cut(0))
    await refusal(known(), folder, hub)
    hub.requests.clear()
    await pulled(known("hf:o/r/none.gguf", f"url:{hub.storage}/none", SOURCE), folder, hub)
    assert hub.asked()[-1] == 500_000


async def test_two_pulls_at_once_fetch_once(hub: HubServer, folder: Path) -> None:
    await asyncio.gather(pulled(known(), folder, hub), pulled(known(), folder, hub))
    assert hub.asked() == [None]


# -- a disk that is full


async def test_no_room_is_told_before_anything_is_asked_for(hub: HubServer, folder: Path) -> None:
    huge = Weights(file="model.gguf", size=10**18, sha256=SHA256, sources=(SOURCE,))
    assert "not enough room on the disk" in await refusal(huge, folder, hub)
    assert hub.requests == []


async def test_a_disk_that_fills_up_is_one_line_and_the_pull_goes_on_later(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses to let a file of this process grow beyond 2 MB."""
    monkeypatch.setattr(fetching, "_STRETCH_BYTES", 500_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        assert await refusal(known(), folder, hub) == "model.gguf cannot be stored: File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = next(folder.glob("*.part")).stat().st_size
    assert 500_000 <= kept <= 2_000_000
    await pulled(known(), folder, hub)
    assert hub.asked() == [None, kept]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounts a small disk")
async def test_a_small_disk_is_one_line(hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounts are not allowed here")
    try:
        monkeypatch.setattr(weights, "_check_room", lambda weights, path: None)
        monkeypatch.setattr(fetching, "_STRETCH_BYTES", 500_000)
        assert await refusal(known(), folder, hub) == "model.gguf cannot be stored: No space left on device"
        assert left_in(folder) <= {"model.gguf.part", "model.gguf.journal", "model.gguf.journal.new"}
    finally:
        subprocess.run(["umount", folder], check=True)


# -- a digest that the hub is believed about


async def test_the_hubs_digest_is_pinned_at_the_first_pull(hub: HubServer, folder: Path) -> None:
    path = await pulled(believed(), folder, hub)
    assert path == weights.path_of(believed(), folder)
    assert path.name.startswith("hub")
    assert await weights.verify(believed(), folder) == path
    stamp = msgspec.json.decode(Path(f"{path}.stamp").read_bytes())
    assert stamp["sha256"] == SHA256


async def test_what_the_hub_gives_must_be_what_it_says(hub: HubServer, folder: Path) -> None:
    hub.twist(lambda request, reply: Reply(200, {}, b"x" * len(CONTENT)))
    assert "gave other bytes than promised" in await refusal(believed(), folder, hub)
    assert weights.installed(believed(), folder) is None
    assert left_in(folder) == set()


async def test_a_hub_that_says_no_digest_is_not_believed(hub: HubServer, folder: Path) -> None:
    hub.publish("owner/repository/model.gguf", CONTENT, linked=False)
    assert "the hub does not say the file's SHA-256" in await refusal(believed(), folder, hub)
    hub.publish("owner/repository/model.gguf", CONTENT)
    hub.twist(hubserver.headed(X_Linked_ETag='"of another kind"'), at="hub")
    assert "the hub does not say the file's SHA-256" in await refusal(believed(), folder, hub)
    assert left_in(folder) == set()


async def test_an_interrupted_first_pull_keeps_the_hubs_word(hub: HubServer, folder: Path) -> None:
    hub.twist(hubserver.cut(500_000), hubserver.cut(0))
    await refusal(believed(), folder, hub)
    hub.requests.clear()
    await pulled(believed(), folder, hub)
    assert hub.asked() == [500_000]


async def test_a_pin_decides_from_then_on(hub: HubServer, folder: Path) -> None:
    path = await pulled(believed(), folder, hub)
    path.write_bytes(b"?" + CONTENT[1:])
    with pytest.raises(WeightsError, match="is not the file that the hub promises"):
        await weights.verify(believed(), folder)
    assert weights.installed(believed(), folder) is None

    hub.publish("owner/repository/model.gguf", b"y" * len(CONTENT))
    assert "another file than the one that is pinned" in await refusal(believed(), folder, hub)

    hub.publish("owner/repository/model.gguf", CONTENT)
    await pulled(believed(), folder, hub)


async def test_a_right_file_whose_time_changed_is_taken_by_its_pin(hub: HubServer, folder: Path) -> None:
    path = await pulled(believed(), folder, hub)
    os.utime(path, ns=(1, 1))
    assert weights.installed(believed(), folder) is None
    hub.requests.clear()
    await pulled(believed(), folder, hub)
    assert hub.requests == []


async def test_removing_forgets_the_pin(hub: HubServer, folder: Path) -> None:
    await pulled(believed(), folder, hub)
    assert weights.remove(believed(), folder)
    assert left_in(folder) == set()
    other = b"y" * len(CONTENT)
    hub.publish("owner/repository/model.gguf", other)
    path = await weights.pull(believed(), folder, hub=Hub(hub.url), patience=QUICK)
    assert path.read_bytes() == other


async def test_another_source_is_another_file(hub: HubServer, folder: Path) -> None:
    names = {weights.path_of(believed(source), folder) for source in (SOURCE, f"{SOURCE}@4af1", "hf:a/b/model.gguf")}
    assert len(names) == 3
    assert weights.path_of(known(), folder) not in names


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "`sha256` is missing"),
        ({"pinned_by": "catalogue"}, "`sha256` is missing"),
        ({"pinned_by": "hub", "sha256": SHA256}, "is for files whose `sha256` is not known"),
        ({"pinned_by": "hub", "sources": [SOURCE, "url:https://h/x"]}, "allows only `hf:` sources"),
        ({"pinned_by": "me"}, "Invalid enum value"),
    ],
)
async def test_whose_word_counts_is_said_openly(fields: dict[str, object], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert({"file": "m.gguf", "size": 1, "sources": [SOURCE]} | fields, Weights)
