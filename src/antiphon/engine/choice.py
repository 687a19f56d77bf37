"""Which embedded engine runs a model, and why: by the processor, the file and what is installed.

Measured on two x86 cores: OpenVINO computes prompts 4 to 11 times faster than the llama.cpp wheel and batches better,
where its kernels know the processor (AVX-512, AMX) and the weights are packed in a way it is fast at. llama.cpp runs
everything everywhere. `docs/design/0006-openvino.md` has the figures.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

EngineName: TypeAlias = Literal["llama_cpp", "openvino"]
Asked: TypeAlias = Literal["auto", "llama_cpp", "openvino"]

#: ggml's numbers of the tensor types that OpenVINO reads: F32, F16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K.
_READ = frozenset({0, 1, 2, 3, 8, 12, 14})
#: Those of them that it unpacks into small groups, and is slow at until they are prepared.
_SLOW = frozenset({12, 14})
_ARCHITECTURES = frozenset({"llama", "qwen2", "qwen3"})
_PROCESSOR = Path("/proc/cpuinfo")


class Choice(msgspec.Struct, frozen=True):
    """An engine, and the reason in words for a person. `prepare`: a faster one would be there after preparing."""

    engine: EngineName
    why: str
    prepare: bool = False


#: It runs everything, so that nothing is looked at where it is asked for.
LLAMA_CPP = Choice("llama_cpp", "asked for by name")


def choose(
    asked: Asked, *, architecture: str, tensor_types: Collection[int], prepared: bool, features: Collection[str]
) -> Choice:
    """Choose for one model file. `features` are the processor's, as the kernel names them; empty where unknown.

    What is asked for by name is taken, whatever would be faster.
    """
    if asked == "llama_cpp":
        return LLAMA_CPP
    missing = _missing(architecture, tensor_types)
    if asked == "openvino":
        slow = not missing and not prepared and bool(_SLOW & set(tensor_types))
        return Choice("openvino", "asked for by name" + (f", although {missing}" if missing else ""), prepare=slow)
    if missing:
        return Choice("llama_cpp", missing)
    if not {"avx512f", "amx_tile"} & set(features):
        return Choice("llama_cpp", "the processor has neither AVX-512 nor AMX, which OpenVINO is fast with")
    if prepared:
        return Choice("openvino", "weights prepared for it; prompts are computed several times faster")
    if _SLOW & set(tensor_types):
        return Choice("llama_cpp", "the weights are not prepared for OpenVINO, which would be faster", prepare=True)
    return Choice("openvino", "it is fast at these weights as they are")


def installed() -> bool:
    """Whether OpenVINO's packages are here (the extra `openvino`). Imports nothing."""
    return importlib.util.find_spec("openvino_genai") is not None


def processor_features(file: Path = _PROCESSOR) -> frozenset[str]:
    """What the processor can do, in the kernel's names; nothing where that is not told."""
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def _missing(architecture: str, tensor_types: Collection[int]) -> str:
    if not installed():
        return "OpenVINO is not installed (the extra `openvino`)"
    if architecture not in _ARCHITECTURES:
        return f"OpenVINO does not know models of the kind {architecture}"
    if not set(tensor_types) <= _READ:
        return "the file holds tensors of a type that OpenVINO does not read"
    return ""
