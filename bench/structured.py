"""`make bench-structured`: what structured outputs cost, what hostile schemas do, and whether every answer fits.

- `bench.constrained`: a token under a grammar beside one without, and the first use of a schema of 200 properties.
- `bench.bombs`: schemas made to be expensive, through each door, while others are being served.
- `bench.random_answers`: random schemas on the smallest model; each answer must end and be valid.

`--quick` does little of each. `--schemas N` sets the number of random schemas, `--model NAME` measures one model alone,
and `--only costs|bombs|answers` one part; a run that left something out is written to a file of its own.
"""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console

from bench import bombs, constrained, random_answers
from bench.constrained import MODELS, Extent
from bench.load import Unmeasurable
from bench.report import Figure, conclude, machine

_FULL = Extent(rounds=5, most=7, schemas=400)
_SHORT = Extent(rounds=2, most=2, schemas=100, tokens=40)
_SCHEMAS = 200
_SHORT_SCHEMAS = 12
_BOMB_ROUNDS, _SHORT_BOMB_ROUNDS = 3, 1
#: Enough for the cache of lowered schemas to have been full by half of them.
_DISTINCT, _SHORT_DISTINCT = 20_000, 2_000
_PARTS = ("costs", "bombs", "answers")


def main() -> int:
    out = Console(highlight=False, stderr=True)
    asked = _arguments()
    began, where = time.monotonic(), machine()
    try:
        figures = _figures(asked, out)
    except Unmeasurable as error:
        out.print(f"[bold red]bench-structured:[/] {error}", soft_wrap=True)
        return 2
    whole = not (asked.quick or asked.only or asked.model) and asked.schemas >= _SCHEMAS
    return conclude(
        "structured" if whole else "structured-part",
        figures,
        where=where,
        setting={
            "decoding": "; ".join(f"{each.short}: answers of {each.tokens} tokens" for each in MODELS)
            + "; bound and free in turn in each round, prompts of one length, greedy; medians",
            "first token": "a schema of 200 properties, new in its last value, less the same text without a grammar",
            "bombs": "the scripted engine; a probe each 5 ms and a stream of one token each 20 ms beside",
            "answers": "SmolLM2, engine auto, 4 streams, no retries; validated by jsonschema-rs with formats",
        },
        seconds=time.monotonic() - began,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.structured")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=_PARTS)
    parser.add_argument("--model", choices=[each.name for each in MODELS])
    parser.add_argument("--schemas", type=int)
    asked = parser.parse_args()
    if asked.schemas is None:
        asked.schemas = _SHORT_SCHEMAS if asked.quick else _SCHEMAS
    return asked


def _figures(asked: argparse.Namespace, out: Console) -> list[Figure]:
    figures: list[Figure] = []
    parts = (asked.only,) if asked.only else _PARTS
    if "costs" in parts:
        for model in MODELS:
            if asked.model in (None, model.name):
                figures += constrained.figures(model, _SHORT if asked.quick else _FULL, out)
    if "bombs" in parts:
        rounds, distinct = (_SHORT_BOMB_ROUNDS, _SHORT_DISTINCT) if asked.quick else (_BOMB_ROUNDS, _DISTINCT)
        figures += bombs.figures(rounds, distinct, out)
    if "answers" in parts:
        figures += random_answers.figures(asked.schemas, out)
    return figures


if __name__ == "__main__":
    sys.exit(main())
