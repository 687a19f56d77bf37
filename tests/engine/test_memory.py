from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.errors import WeightsError
from antiphon.engine import memory
from antiphon.engine.choice import EngineName
from antiphon.engine.gguf import Value

#: Qwen2.5 1.5B, as its file tells.
QWEN: dict[str, Value] = {
    "general.architecture": "qwen2",
    "qwen2.block_count": 28,
    "qwen2.embedding_length": 1536,
    "qwen2.attention.head_count": 12,
    "qwen2.attention.head_count_kv": 2,
}
GIB = 2**30


def test_a_token_takes_keys_and_values_of_every_layer() -> None:
    assert memory.cache_bytes_per_token(QWEN, "llama_cpp") == 28 * 2 * (128 + 128) * 2
    # Measured: 16,576 bytes a token. An estimate is from above.
    assert 16_576 <= memory.cache_bytes_per_token(QWEN, "openvino") < 18_000


def test_heads_of_their_own_size_and_layers_that_differ_are_read() -> None:
    said = QWEN | {
        "qwen2.attention.key_length": 64,
        "qwen2.attention.value_length": 32,
        "qwen2.attention.head_count_kv": (0, 4, 2),
    }
    assert memory.cache_bytes_per_token(said, "llama_cpp") == 28 * 4 * (64 + 32) * 2


@pytest.mark.parametrize("missing", [key for key in QWEN if key != "qwen2.attention.head_count_kv"])
def test_a_file_that_does_not_say_is_refused(missing: str) -> None:
    said = {key: value for key, value in QWEN.items() if key != missing}
    with pytest.raises(WeightsError, match="does not say how large"):
        memory.cache_bytes_per_token(said, "llama_cpp")


def fitted(budget: int, *, engine: EngineName = "llama_cpp", seats: int = 4, window: int = 32_768) -> memory.Fit:
    return memory.fit(
        QWEN, 1_117_320_768, engine=engine, prepared=False, window=window, seats=seats, budget_bytes=budget
    )


def test_with_much_memory_every_seat_has_its_window() -> None:
    sized = fitted(100 * GIB)
    assert (sized.window, sized.pool_tokens) == (32_768, 4 * 32_768)


def test_prompts_are_kept_beside_the_cache_in_what_is_left() -> None:
    much, tight = fitted(100 * GIB), fitted(2 * GIB)
    assert much.saved_bytes == 100 * GIB // 8
    assert much.need < 100 * GIB
    assert tight.saved_bytes < tight.token_bytes, "the window took all"
    assert fitted(100 * GIB, engine="openvino").saved_bytes == 0


def test_one_window_is_had_beyond_the_share_of_the_cache() -> None:
    sized = fitted(4 * GIB)
    assert (sized.window, sized.pool_tokens) == (32_768, 32_768)


def test_where_not_even_that_fits_the_window_is_smaller() -> None:
    sized = fitted(2 * GIB)
    assert 2048 <= sized.window == sized.pool_tokens < 32_768


def test_what_cannot_fit_is_refused_with_figures() -> None:
    with pytest.raises(WeightsError, match=r"needs 1\.\d GB of memory and the budget of all models is 1\.1 GB"):
        fitted(GIB)


@given(
    st.integers(0, 64 * GIB), st.integers(1, 16), st.integers(1, 200_000), st.sampled_from(["llama_cpp", "openvino"])
)
def test_what_is_sized_fits_the_budget(budget: int, seats: int, window: int, engine: EngineName) -> None:
    try:
        sized = fitted(budget, engine=engine, seats=seats, window=window)
    except WeightsError:
        assert budget < 6 * GIB
        return
    assert sized.need <= budget
    assert 0 < sized.window <= sized.pool_tokens <= seats * window * (2 if engine == "openvino" else 1)
    assert sized.window == window or sized.window >= 2048


def test_a_containers_limit_is_the_limit(tmp_path: Path) -> None:
    meminfo, limit, used = tmp_path / "meminfo", tmp_path / "max", tmp_path / "current"
    meminfo.write_text("MemTotal: 99 kB\nMemAvailable:    8000000 kB\n")
    pair = ((limit, used),)
    assert memory.free_bytes(meminfo, pair) == 8_000_000 * 1024
    limit.write_text("max\n")
    used.write_text("1000000000\n")
    assert memory.free_bytes(meminfo, pair) == 8_000_000 * 1024
    limit.write_text("3000000000\n")
    assert memory.free_bytes(meminfo, pair) == 2_000_000_000
    limit.write_text(str(2**63 - 4096))
    assert memory.free_bytes(meminfo, pair) == 8_000_000 * 1024


def test_a_machine_that_does_not_say_is_asked_for_all_it_has(tmp_path: Path) -> None:
    assert memory.free_bytes(tmp_path / "none", ()) > 0
    assert memory.budget(5) == 5
    assert 0 < memory.budget(0) < 2**50
