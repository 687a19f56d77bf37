"""Prices: dollars per million tokens, as decimal strings, because money is never a float.

Which price a request pays is the asked-for id's, unless the model that answers names its own (`models.toml`). What
multiplies it (batches, geography, fast mode; contract messages-and-inference 14.4) is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import msgspec

from antiphon.core.errors import invariant

_Dollars = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?\Z")]
_Tokens = Annotated[int, msgspec.Meta(ge=1)]


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens of each kind."""

    input: _Dollars
    output: _Dollars
    cache_write_5m: _Dollars | None = None
    cache_write_1h: _Dollars | None = None
    cache_read: _Dollars | None = None


class PriceBand(Prices, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request costs whose whole prompt, read from and written to the cache included, has at most `up_to`
    tokens; None: however long it is. The band of the prompt holds for the whole request (contract 14.1)."""

    up_to: _Tokens | None = None


def check_bands(bands: Sequence[PriceBand]) -> None:
    """See that each length of prompt has one price.

    Raises:
        ValueError: the bands do not rise, or the last one ends somewhere.
    """
    ends = [band.up_to for band in bands]
    if ends and (ends[-1] is not None or None in ends[:-1]):
        raise ValueError("prices: every band but the last has `up_to`, and the last has none")
    if any(lower >= upper for lower, upper in pairwise(end for end in ends if end is not None)):
        raise ValueError("prices: the bands' `up_to` must rise")


def band_of(bands: Sequence[PriceBand], prompt_tokens: int) -> PriceBand:
    """The band that a prompt of this many tokens falls into; `bands` are some that `check_bands` has seen."""
    invariant(bool(bands), "a price was asked for where there is none")
    return next(band for band in bands if band.up_to is None or prompt_tokens <= band.up_to)
