"""The OpenVINO child, but for one thing: a grammar whose root is called `refused` is written so that the library does."""

from __future__ import annotations

import os
import sys

from antiphon.core.errors import EngineFailed
from antiphon.engine.children import openvino as child
from antiphon.engine.grammar import Grammar
from antiphon.engine.grammar_text import ebnf


def _written(grammar: Grammar) -> str:
    return "root ::= (" if grammar.root == "refused" else ebnf(grammar)


if __name__ == "__main__":
    child.ebnf = _written  # type: ignore[attr-defined]
    try:
        child.main(sys.argv[1])
    except (ConnectionError, EngineFailed):
        pass
    finally:
        os._exit(0)
