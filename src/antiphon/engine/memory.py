"""How much memory there is, and how much a model takes: its weights, and the cache that its seats share.

The figures are estimates from above, measured on the libraries as they are (`docs/design/0008-residents.md`): what a
model really takes becomes known only once it is loaded, which is too late to decide whether it may be.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from antiphon.core.errors import WeightsError
from antiphon.engine.choice import EngineName
from antiphon.engine.gguf import Value

#: The share of what is free at the start that models may take where no budget is set.
_SHARE = 0.75
#: The share of the budget that one model's cache may take beyond its first window.
_CACHE_SHARE = 1 / 8
#: The share of the budget that prompts may take which are kept beside the cache, where a library can and there is room.
_SAVED_SHARE = 1 / 8
#: A process of ours with a library in it and no model.
_PROCESS_BYTES = 256 * 2**20
#: What a library holds per byte of the file at its worst moment, while it loads.
_WEIGHTS_FACTOR = {"llama_cpp": 1.1, "openvino": 3.6, "prepared": 2.3}
#: Bytes per element of the cache: 16 bits in llama.cpp; 8 bits and their scales in OpenVINO.
_ELEMENT_BYTES = {"llama_cpp": 2.0, "openvino": 1.2}
#: How often as much as all seats could use at once: OpenVINO keeps prompts of earlier requests in the same cache.
_REMEMBERED = {"llama_cpp": 1, "openvino": 2}
#: Less than this is no window to answer in.
_LEAST_WINDOW = 2048
#: A limit that says it is none, as cgroup v1 writes it.
_NO_LIMIT = 2**60
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


#: What a file's metadata has to be asked for, behind the architecture's name.
SIZE_KEYS = (
    ".block_count", ".attention.head_count", ".attention.head_count_kv", ".embedding_length",
    ".attention.key_length", ".attention.value_length",
)  # fmt: skip


class Fit(msgspec.Struct, frozen=True):
    """How one model is run within a budget: `window` and `pool_tokens` in tokens, `need` in bytes, all in all;
    `saved_bytes` of them for prompts kept beside the cache, of which a token takes `token_bytes`."""

    window: int
    pool_tokens: int
    need: int
    saved_bytes: int = 0
    token_bytes: int = 0


def budget(asked: int) -> int:
    """Bytes that models may take together: what was asked for, or a share of what is free now."""
    return asked or int(_SHARE * free_bytes())


def free_bytes(meminfo: Path = Path("/proc/meminfo"), cgroups: tuple[tuple[Path, Path], ...] = _CGROUPS) -> int:
    """Bytes that could be taken now without pushing anything out, within the container's limit."""
    free = _machine_bytes(meminfo)
    for limit_file, used_file in cgroups:
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            limit = int(limit_file.read_text())
            if limit < _NO_LIMIT:
                free = min(free, max(0, limit - int(used_file.read_text())))
    return free


def _machine_bytes(meminfo: Path) -> int:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = meminfo.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
    # No Linux: half of all there is, since what of it is free is not told the same way everywhere.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def cache_bytes_per_token(metadata: Mapping[str, Value], engine: EngineName) -> int:
    """What one token of the cache takes: keys and values of every layer.

    Raises:
        WeightsError: the file does not say how the model is made.
    """

    def number(key: str, otherwise: int = 0) -> int:
        value = metadata.get(f"{metadata.get('general.architecture')}.{key}", otherwise)
        if isinstance(value, tuple):  # one for each layer
            value = max((v for v in value if isinstance(v, int)), default=0)
        return value if isinstance(value, int) else 0

    heads = number("attention.head_count")
    layers, kept = number("block_count"), number("attention.head_count_kv", heads)
    size = number("embedding_length") // heads if heads > 0 else 0
    elements = layers * kept * (number("attention.key_length", size) + number("attention.value_length", size))
    if elements <= 0:
        raise WeightsError("The model file does not say how large the model's cache is")
    return int(elements * _ELEMENT_BYTES[engine])


def fit(
    metadata: Mapping[str, Value],
    file_bytes: int,
    *,
    engine: EngineName,
    prepared: bool,
    window: int,
    seats: int,
    budget_bytes: int,
) -> Fit:
    """Size a model's cache: as much as its seats could use and it could remember, within its share; one window at
    least, and a smaller window where not even that fits. Prompts are kept beside it in what is left, within their own
    share.

    Raises:
        WeightsError: the model does not fit the budget with any window worth having.
    """
    per_token = cache_bytes_per_token(metadata, engine)
    weights = int(file_bytes * _WEIGHTS_FACTOR["prepared" if prepared else engine]) + _PROCESS_BYTES
    share = int(budget_bytes * _CACHE_SHARE) // per_token
    room = (budget_bytes - weights) // per_token
    if room < min(window, _LEAST_WINDOW):
        needed = (weights + min(window, _LEAST_WINDOW) * per_token) / 1e9
        raise WeightsError(
            f"the model needs {needed:.1f} GB of memory and the budget of all models is {budget_bytes / 1e9:.1f} GB "
            "(setting `memory`)"
        )
    wanted = seats * window * _REMEMBERED[engine]
    pool = min(max(min(wanted, share), window), room)
    need = weights + pool * per_token
    saved = min(int(budget_bytes * _SAVED_SHARE), budget_bytes - need) if engine == "llama_cpp" else 0
    return Fit(min(window, pool), pool, need + saved, saved, per_token)
