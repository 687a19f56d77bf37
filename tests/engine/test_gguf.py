"""The reader of model files takes what is well formed and refuses the rest, whatever the file claims."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.core.errors import WeightsError
from antiphon.engine.gguf import MAX_ELEMENTS, MAX_STRING_BYTES, read_metadata, read_tensor_types
from antiphon.engine.vocabulary import read_vocabulary


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + values


def head(*entries: bytes, version: int = 3, count: int | None = None) -> bytes:
    size = len(entries) if count is None else count
    return b"GGUF" + struct.pack("<IQQ", version, 7, size) + b"".join(entries)


ENTRIES = (
    entry("a.text", 8, text("héllo")),
    entry("a.whole", 4, struct.pack("<I", 5)),
    entry("a.big", 10, struct.pack("<Q", 2**63)),
    entry("a.small", 1, b"\xff"),
    entry("a.real", 6, struct.pack("<f", 0.5)),
    entry("a.flag", 7, b"\x01"),
    entry("a.texts", 9, array(8, 3, text("x") + text("") + text("日本"))),
    entry("a.numbers", 9, array(5, 3, struct.pack("<3i", 1, -2, 3))),
)
EXPECTED = {
    "a.text": "héllo",
    "a.whole": 5,
    "a.big": 2**63,
    "a.small": -1,
    "a.real": 0.5,
    "a.flag": True,
    "a.texts": ("x", "", "日本"),
    "a.numbers": (1, -2, 3),
}


def everything(_: str) -> bool:
    return True


def nothing(_: str) -> bool:
    return False


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("version", [2, 3])
def test_every_type_of_entry_is_read(model: Path, version: int) -> None:
    model.write_bytes(head(*ENTRIES, version=version) + b"tensors follow")
    assert read_metadata(model, everything) == EXPECTED


def test_what_is_not_wanted_is_skipped(model: Path) -> None:
    model.write_bytes(head(*ENTRIES))
    assert read_metadata(model, lambda key: key == "a.numbers") == {"a.numbers": (1, -2, 3)}


def test_a_file_cut_anywhere_within_its_metadata_is_refused(model: Path) -> None:
    whole = head(*ENTRIES)
    for size in range(len(whole)):
        model.write_bytes(whole[:size])
        for wanted in (everything, nothing):
            with pytest.raises(WeightsError):
                read_metadata(model, wanted)


HUGE = struct.pack("<Q", 2**64 - 1)
HOSTILE = {
    "not a model": b"PK\x03\x04" + bytes(64),
    "version 1": head(version=1),
    "big endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "too many entries": head(count=2**64 - 1),
    "more entries than there are": head(*ENTRIES, count=len(ENTRIES) + 1),
    "a key without end": head(HUGE + bytes(64), count=1),
    "a long key": head(entry("k" * 70_000, 7, b"\x01")),
    "a text without end": head(entry("a", 8, HUGE)),
    "a text past the bound": head(entry("a", 8, struct.pack("<Q", MAX_STRING_BYTES + 1))),
    "a text past the file": head(entry("a", 8, struct.pack("<Q", 1 << 20))),
    "an endless array of texts": head(entry("a", 9, array(8, 2**64 - 1, b""))),
    "an array of texts past the file": head(entry("a", 9, array(8, MAX_ELEMENTS, bytes(64)))),
    "a text in an array past the file": head(entry("a", 9, array(8, 1, HUGE))),
    "an endless array of numbers": head(entry("a", 9, array(12, 2**61, b""))),
    "an array of numbers past the file": head(entry("a", 9, array(12, MAX_ELEMENTS, bytes(64)))),
    "arrays in arrays": head(entry("a", 9, array(9, 1, array(9, 1, array(8, 0, b""))))),
    "an unknown type": head(entry("a", 13, bytes(64))),
    "an array of an unknown type": head(entry("a", 9, array(99, 1, bytes(64)))),
    "the same key twice": head(entry("a", 7, b"\x01"), entry("a", 7, b"\x00")),
    "a key that is no text": head(text(b"\xff\xfe") + struct.pack("<I", 7) + b"\x01"),
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("wanted", [everything, nothing])
def test_hostile_files_are_refused(model: Path, name: str, wanted: object) -> None:
    model.write_bytes(HOSTILE[name])
    with pytest.raises(WeightsError) as refusal:
        read_metadata(model, everything if wanted is everything else nothing)
    assert str(model.parent) not in refusal.value.message


def test_text_that_is_not_utf8_is_refused_where_it_is_wanted(model: Path) -> None:
    for value in (entry("a", 8, text(b"\xff")), entry("a", 9, array(8, 1, text(b"\xff")))):
        model.write_bytes(head(value))
        assert read_metadata(model, nothing) == {}
        with pytest.raises(WeightsError, match="UTF-8"):
            read_metadata(model, everything)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        read_metadata(tmp_path / "none.gguf", everything)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(head(*ENTRIES)) - 1), change=st.binary(min_size=1, max_size=9))
def test_damage_is_refused_or_read_but_never_raises_anything_else(model: Path, place: int, change: bytes) -> None:
    whole = bytearray(head(*ENTRIES))
    whole[place : place + len(change)] = change
    model.write_bytes(whole)
    with contextlib.suppress(WeightsError):
        read_metadata(model, everything)


@pytest.mark.real
def test_the_first_part_of_a_model_is_enough(qwen_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with qwen_file.open("rb") as whole:
        cut.write_bytes(whole.read(50 << 20))
    assert read_vocabulary(cut) == read_vocabulary(qwen_file)


def tensor(name: str, kind: int, *sizes: int) -> bytes:
    shape = struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    return text(name) + shape + struct.pack("<IQ", kind, 0)


def with_tensors(tmp_path: Path, claimed: int, *tensors: bytes) -> Path:
    path = tmp_path / "model.gguf"
    whole = b"GGUF" + struct.pack("<IQQ", 3, claimed, len(ENTRIES)) + b"".join(ENTRIES) + b"".join(tensors)
    path.write_bytes(whole)
    return path


def test_the_types_of_tensors_are_read_behind_the_entries(tmp_path: Path) -> None:
    path = with_tensors(tmp_path, 3, tensor("a", 0, 5), tensor("b", 12, 3, 4), tensor("c", 12, 1, 2, 3, 4))
    assert read_tensor_types(path) == {0, 12}
    assert read_tensor_types(with_tensors(tmp_path, 0)) == set()


@pytest.mark.parametrize(
    ("claimed", "tensors"),
    [
        (2, [tensor("a", 0, 5)]),
        (2**40, [tensor("a", 0, 5)]),
        (1, [text("a") + struct.pack("<I", 2**31)]),
        (1, [struct.pack("<Q", 2**60)]),
    ],
)
def test_what_tensors_claim_is_not_believed(tmp_path: Path, claimed: int, tensors: list[bytes]) -> None:
    with pytest.raises(WeightsError):
        read_tensor_types(with_tensors(tmp_path, claimed, *tensors))
