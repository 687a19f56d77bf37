"""Which engine runs a model: by name, else by what is installed, the model, the processor and the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.engine import choice
from antiphon.engine.choice import Asked, choose, processor_features
from antiphon.engine.gguf import read_tensor_types

F32, Q4_1, Q5_0, Q4_K, Q6_K = 0, 3, 6, 12, 14
WIDE = {"fma", "avx512f"}


@pytest.mark.parametrize(
    ("asked", "kind", "types", "prepared", "features", "engine", "why"),
    [
        ("llama_cpp", "qwen2", {F32, Q4_1}, True, WIDE, "llama_cpp", "asked for by name"),
        ("openvino", "qwen2", {F32, Q4_K}, False, set(), "openvino", "asked for by name"),
        ("openvino", "mamba", {F32}, False, set(), "openvino", "although OpenVINO does not know"),
        ("auto", "qwen2", {F32, Q4_1}, False, WIDE, "openvino", "as they are"),
        ("auto", "qwen2", {F32, Q4_1}, False, {"amx_tile"}, "openvino", "as they are"),
        ("auto", "qwen2", {F32, Q4_K, Q6_K}, False, WIDE, "llama_cpp", "not prepared"),
        ("auto", "qwen2", {F32, Q4_K, Q6_K}, True, WIDE, "openvino", "prepared"),
        ("auto", "qwen2", {F32, Q5_0}, True, WIDE, "llama_cpp", "does not read"),
        ("auto", "gemma3", {F32, Q4_1}, False, WIDE, "llama_cpp", "does not know models of the kind gemma3"),
        ("auto", "qwen2", {F32, Q4_1}, False, {"fma", "avx2"}, "llama_cpp", "neither AVX-512 nor AMX"),
        ("auto", "qwen2", {F32, Q4_1}, False, set(), "llama_cpp", "neither AVX-512 nor AMX"),
    ],
)  # fmt: skip
def test_the_choice_and_its_reason(
    monkeypatch: pytest.MonkeyPatch, asked: Asked, kind: str, types: set[int], prepared: bool, features: set[str],
    engine: str, why: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(choice, "installed", lambda: True)
    made = choose(asked, architecture=kind, tensor_types=types, prepared=prepared, features=features)
    assert made.engine == engine
    assert why in made.why
    assert made.prepare == (not prepared and Q4_K in types)


def test_what_is_not_installed_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "installed", lambda: False)
    made = choose("auto", architecture="qwen2", tensor_types={F32}, prepared=True, features=WIDE)
    assert (made.engine, "not installed" in made.why) == ("llama_cpp", True)


def test_the_processor_is_asked_of_the_kernel(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\nbugs\t\t:\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert processor_features(told) == {"fpu", "avx2", "avx512f"}
    told.write_text("Features\t: asimd\n")
    assert processor_features(told) == set()
    assert processor_features(tmp_path / "nothing") == set()


@pytest.mark.real
def test_the_types_of_real_files(smol_file: Path, qwen_file: Path) -> None:
    assert read_tensor_types(smol_file) == {F32, Q4_1, 8}
    assert read_tensor_types(qwen_file) == {F32, Q4_K, Q6_K}
