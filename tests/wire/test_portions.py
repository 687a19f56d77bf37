"""A body that is read in portions gives what it gives when it is read at once, and is refused in the same words."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_requests import BLOCKS, MINIMAL, OPTIONS

import samples
from antiphon.core.errors import InvalidRequest
from antiphon.wire import portions
from antiphon.wire.parse import parse_messages

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(0, 1) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
_AT_ONCE = 1 << 30


def _body() -> Any:
    """A request with everything in it that there is."""
    messages = [{"role": role, "content": [block, {"type": "text", "text": "and"}]} for role, block in BLOCKS]
    return MINIMAL | {"messages": messages, "tools": list(samples.TOOLS)} | dict(OPTIONS)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, part in inner for place in _places(part, (*path, step)))]


_BODY = _body()
_PLACES = _places(_BODY)[1:]


def _read(body: bytes, portion: int) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "PORTION_BYTES", portion)
        try:
            parsed = parse_messages(body)
        except InvalidRequest as refusal:
            return refusal.message, refusal.path
    return parsed.request, parsed.ignored


@given(portion=st.integers(64, 4_000))
def test_everything_there_is_is_read_as_at_once(portion: int) -> None:
    body = msgspec.json.encode(_BODY)
    assert _read(body, portion) == _read(body, _AT_ONCE)


@given(
    portion=st.integers(64, 4_000),
    place=st.sampled_from(_PLACES),
    change=st.sampled_from(["gone", "another", "more"]),
    value=_JSON,
)
def test_one_change_anywhere_is_read_or_refused_as_at_once(
    portion: int, place: tuple[Any, ...], change: str, value: Any
) -> None:
    changed = copy.deepcopy(_BODY)
    around = changed
    for step in place[:-1]:
        around = around[step]
    if change == "gone":
        del around[place[-1]]
    elif change == "more" and isinstance(around, dict):
        around["something new"] = value
    else:
        around[place[-1]] = value
    body = msgspec.json.encode(changed)
    assert _read(body, portion) == _read(body, _AT_ONCE)


@given(value=_JSON, portion=st.integers(1, 40))
def test_a_clients_own_json_is_read_as_at_once(value: Any, portion: int) -> None:
    body = msgspec.json.encode(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "PORTION_BYTES", portion)
        assert portions.read(body, Any) == msgspec.json.decode(body)


@pytest.mark.parametrize("cut", [b"", b"[", b'{"a":', b'{"a":[1,2', b'{"a":1}}', b'  [1,{"a" 1}]'])
def test_what_is_no_json_is_none_in_portions_either(cut: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "PORTION_BYTES", 0)
    with pytest.raises(msgspec.DecodeError):
        portions.read(cut, Any)


def test_nesting_is_opened_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level that is opened costs a look at all within: a body that is nothing else must not cost the square."""
    looked: list[int] = []
    opened = portions.opened

    def counted(raw: Any) -> Any:
        looked.append(1)
        return opened(raw)

    monkeypatch.setattr(portions, "opened", counted)
    deep = b"[" * 400 + b'"' + b"x" * portions.PORTION_BYTES + b'"' + b"]" * 400
    assert portions.read(deep, Any) == msgspec.json.decode(deep)
    assert len(looked) <= 12
