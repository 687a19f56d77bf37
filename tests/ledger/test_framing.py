"""The journal's bytes: whole frames or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.errors import InvariantBroken
from antiphon.ledger.framing import LARGEST, framed, frames

_payloads = st.lists(st.binary(min_size=1, max_size=60), max_size=8)


def _read(data: bytes) -> list[bytes]:
    return [payload for payload, _ in frames(data)]


@given(payloads=_payloads)
def test_what_is_framed_is_read(payloads: list[bytes]) -> None:
    data = b"".join(map(framed, payloads))
    assert _read(data) == payloads
    ends = [end for _, end in frames(data)]
    assert all(_read(data[:end]) == payloads[: n + 1] for n, end in enumerate(ends))


@given(payloads=_payloads, data=st.data())
def test_a_cut_at_any_byte_leaves_exactly_the_whole_records_before_it(
    payloads: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(map(framed, payloads))
    cut = data.draw(st.integers(0, len(whole)))
    before = 0
    expected = []
    for payload in payloads:
        before += len(framed(payload))
        if before <= cut:
            expected.append(payload)
    assert _read(whole[:cut]) == expected


@given(payloads=_payloads, tail=st.binary(max_size=80), zeros=st.integers(0, 80))
def test_garbage_behind_the_records_is_not_read(payloads: list[bytes], tail: bytes, zeros: int) -> None:
    whole = b"".join(map(framed, payloads))
    assert _read(whole + tail) == payloads
    assert _read(whole + b"\0" * zeros) == payloads
    assert _read(whole + b"\0" * zeros + tail) == payloads


@given(payloads=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8), data=st.data())
def test_a_flipped_bit_ends_the_reading_at_its_frame(payloads: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(framed, payloads)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    reached, index = 0, 0
    while reached + len(framed(payloads[index])) <= at:
        reached += len(framed(payloads[index]))
        index += 1
    assert _read(bytes(whole)) == payloads[:index]


@pytest.mark.parametrize("size", [0, LARGEST + 1])
def test_a_payload_has_bounds(size: int) -> None:
    with pytest.raises(InvariantBroken):
        framed(b"x" * size)


def test_the_largest_payload_is_read() -> None:
    assert _read(framed(b"x" * LARGEST)) == [b"x" * LARGEST]
