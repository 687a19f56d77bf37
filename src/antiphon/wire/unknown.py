"""Names the fields of a body that nothing here knows: on top, in messages, in blocks, in tools and in options.

Unknown fields are tolerated, because clients run ahead of servers; they are named in the log and in
`antiphon-ignored`, so that a field without effect can be seen. What is known is what the request's types say
(`wire.shape`), also where a later part is to give it an effect.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from antiphon.wire.request import Conversation
from antiphon.wire.shape import Fields, shape_of, unknown

#: Names after which no more are gathered: a header has no room for them.
_MOST = 20


@lru_cache
def shape(kind: type[Conversation]) -> Fields:
    """The shape of a kind of request, made once."""
    return shape_of(kind)


def unknown_fields(body: bytes, kind: type[Conversation]) -> tuple[str, ...]:
    """Dotted paths of unknown fields, at most 20, in the body's order. The body is one that was parsed already.

    Raises:
        InvalidRequest: an object does not say of what type it is.
    """
    found: list[str] = []
    for path in unknown(shape(kind), msgspec.Raw(body)):  # to its end: what says nothing of its type is still refused
        if len(found) < _MOST:
            found.append(path)
    return tuple(found)
