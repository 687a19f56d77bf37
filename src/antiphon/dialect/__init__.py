"""Dialects: how a model family writes and reads tools, calls, results and thinking.

`base` is the contract and the shape every family shares; `plain` and `hermes` are families; `client_tools`
describes the tools the API defines and the client runs; `template` renders the model's own chat template
around the turns. A dialect knows the API's types and text, and nothing of tokens or engines.
"""

from __future__ import annotations

from antiphon.core.errors import WeightsError
from antiphon.dialect.base import Dialect
from antiphon.dialect.hermes import Hermes
from antiphon.dialect.plain import Plain


def dialect_named(name: str) -> Dialect:
    """The dialect a catalogue entry names.

    Raises:
        WeightsError: there is none of that name.
    """
    known: tuple[type[Dialect], ...] = (Hermes, Plain)
    for kind in known:
        if kind.name == name:
            return kind()
    raise WeightsError(f"The dialect {name!r} is not known; known are {', '.join(kind.name for kind in known)}")
