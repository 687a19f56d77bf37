"""What `bench.cache` measures, and how much of it."""

from __future__ import annotations

import msgspec

FIRST, INTERLEAVED, RESTART, APART = "first", "interleaved", "restart", "apart"
PARTS = (FIRST, INTERLEAVED, RESTART, APART)
LIBRARIES = ("llama_cpp", "openvino")
BARE = "llama.cpp alone"


class Model(msgspec.Struct, frozen=True):
    """A model of the catalogue. `parts`: those measured where none is asked for; `long_seconds`: once so many were
    spent on prefixes, no further round of them is begun; `shared`: the length of a prompt in two workspaces, tokens, at
    least what the model caches at all."""

    name: str
    short: str
    prepared: bool
    parts: tuple[str, ...]
    long_seconds: float
    shared: int


class Extent(msgspec.Struct, frozen=True):
    """How much is measured. `prefix` and `conversation` are tokens, of the prefix whose first token is timed and of
    each of the conversations that take turns; `samples` are drawn of each of the two cases; `repeats` show that
    their test sees a cache where there is one."""

    prefix: int
    rounds: int
    conversation: int
    conversations: int
    turns: int
    samples: int
    repeats: int


MODELS = (
    Model("smollm2-135m-instruct", "SmolLM2", prepared=False, parts=PARTS, long_seconds=120, shared=600),
    Model("qwen2.5-coder-1.5b-instruct", "Qwen", prepared=True, parts=(FIRST,), long_seconds=300, shared=1_200),
)
FULL = Extent(
    prefix=6_000, rounds=5, conversation=3_000, conversations=12, turns=4, samples=100, repeats=20
)  # fmt: skip
QUICK = Extent(prefix=1_200, rounds=1, conversation=1_200, conversations=5, turns=2, samples=2, repeats=2)
