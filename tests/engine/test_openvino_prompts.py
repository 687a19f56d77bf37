"""The child alone: which numbers prompts go to the library under, and what becomes of blocks that are cut short."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("openvino_genai", reason="the extra `openvino` is not installed")

import numpy as np

from antiphon.engine.children.openvino_library import genai
from antiphon.engine.children.openvino_prompts import Job, Prompts
from antiphon.engine.children.openvino_salt import BLOCK, SALT_BITS, Ids, Salting, bits_of
from antiphon.engine.contract import Sampling
from antiphon.engine.frames import Generate, Tokens
from engine_contract.bodies import salted_folder

#: The bits of the vocabularies of SmolLM2 and Qwen2.5, and of the smallest and largest that there is a use for.
_bits = st.sampled_from((8, 16, 18, 20))
_salts = st.integers(1, 2**SALT_BITS - 1)
_prompts = st.lists(st.integers(0, 255), min_size=1, max_size=3 * BLOCK)


@given(_bits, _prompts, _salts)
def test_a_salted_prompt_is_the_same_to_the_model(bits: int, prompt: list[int], salt: int) -> None:
    ids = Salting(bits).numbers(prompt, salt)
    assert (ids & (2**bits - 1)).tolist() == prompt
    assert ids.max() < 2**31
    assert ids.tolist()[Salting(bits).length :] == prompt[Salting(bits).length :]


@given(_bits, st.lists(st.integers(0, 255), min_size=8, max_size=40), _salts, _salts)
def test_no_two_salts_begin_alike_and_one_always_does(bits: int, prompt: list[int], one: int, other: int) -> None:
    salting = Salting(bits)
    assert salting.length <= 8
    begun = [salting.numbers(prompt, salt).tolist()[: salting.length] for salt in (one, other, one)]
    assert begun[0] == begun[2]
    assert (begun[0] == begun[1]) == (one == other)


@given(_bits, st.integers(1, 4), _salts)
def test_a_prompt_too_short_for_a_salt_begins_as_no_other_does(bits: int, tokens: int, salt: int) -> None:
    salting = Salting(bits)
    if tokens >= salting.length:
        return
    seen = {tuple(salting.numbers([7] * tokens, salt).tolist()) for _ in range(20)}
    assert len(seen) == 20
    # Nor as a longer one, that goes on with a token of no salt.
    longer = salting.numbers([7] * 20, salt).tolist()
    assert all(tuple(longer[: tokens + 1]) != (*short, 7) for short in seen)


def test_without_a_place_for_a_salt_numbers_stay() -> None:
    assert Salting(0).numbers([1, 2, 3], 99).tolist() == [1, 2, 3]
    assert Salting(16).numbers([1, 2, 3], 0).tolist() == [1, 2, 3]


def _shared(one: Ids, other: Ids) -> int:
    """What the library takes as the same of two prompts: whole blocks from the start, all of it equal."""
    blocks = 0
    while (end := (blocks + 1) * BLOCK) <= min(len(one), len(other)) and np.array_equal(one[:end], other[:end]):
        blocks += 1
    return blocks


def test_a_block_that_was_cut_short_is_never_asked_for_again_and_all_before_it_is() -> None:
    salting = Salting(16)
    prompt = list(range(4 * BLOCK))
    ids = salting.numbers(prompt, 5)
    salting.spoil(ids, 2 * BLOCK)
    again = salting.numbers(prompt, 5)
    assert _shared(ids, again) == 2
    assert (again & 0xFFFF).tolist() == prompt
    # Another that begins as it did, and goes on another way, keeps its own.
    other = [*prompt[: 2 * BLOCK], *range(500, 500 + 2 * BLOCK)]
    assert salting.numbers(other, 5).tolist()[2 * BLOCK :] == other[2 * BLOCK :]
    # It is cut short again, and again.
    seen = [ids, again]
    for _ in range(5):
        salting.spoil(seen[-1], 2 * BLOCK)
        seen.append(salting.numbers(prompt, 5))
    assert all(_shared(one, seen[-1]) == 2 for one in seen[:-1])
    assert np.array_equal(seen[-1], salting.numbers(prompt, 5))
    # Another workspace has nothing to do with it.
    assert salting.numbers(prompt, 6).tolist()[BLOCK:] == prompt[BLOCK:]


def test_a_prompt_that_ends_in_a_block_cut_short_spoils_what_continues_it_too() -> None:
    salting = Salting(16)
    prompt = list(range(BLOCK + 10))
    ids = salting.numbers(prompt, 5)
    salting.spoil(ids, BLOCK)
    longer = salting.numbers([*prompt, *range(900, 940)], 5)
    assert longer.tolist()[:BLOCK] == ids.tolist()[:BLOCK]
    assert longer.tolist()[BLOCK] != ids.tolist()[BLOCK]
    # Who shares less of the block than was in the other prompt is not led to it by the library.
    assert salting.numbers([*prompt[:-1], 77], 5).tolist()[BLOCK:] == [*prompt[BLOCK:-1], 77]


def test_a_prompt_spoiled_from_its_start_keeps_its_workspace_apart() -> None:
    salting = Salting(16)
    prompt = list(range(2 * BLOCK))
    mine, others = salting.numbers(prompt, 5), salting.numbers(prompt, 6)
    for _ in range(3):
        salting.spoil(salting.numbers(prompt, 5), 0)
    turned = salting.numbers(prompt, 5)
    assert _shared(turned, mine) == _shared(turned, others) == 0
    assert (turned & 0xFFFF).tolist() == prompt


@pytest.mark.real
@pytest.mark.anyio
async def test_what_the_library_was_cut_short_in_is_right_when_it_is_asked_again(smol_file: Path) -> None:
    """More is thought to be known than is, so that the library computes a piece in several steps; it is taken back
    after one, within a block, and the pool's blocks hold what others have left there."""
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks, scheduler.max_num_batched_tokens, scheduler.max_num_seqs = 24, 48, 2
    scheduler.dynamic_split_fuse = scheduler.enable_prefix_caching = True
    tokenizer = genai.Tokenizer(str(smol_file))
    folder = Path(await salted_folder(smol_file))
    pipeline = genai.ContinuousBatchingPipeline(str(folder), tokenizer, scheduler, "CPU", INFERENCE_NUM_THREADS=1)
    salting = Salting(bits_of(folder / "openvino_model.xml"))
    prompts = Prompts(pipeline, salting, 48)
    names = itertools.count(1)

    def job(prompt: list[int], salt: int, known: int = 0) -> Job:
        command = Generate(next(names), 0, prompt, 12, Sampling(temperature=0), (), True, salt=salt, known=known)
        config = genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = 12, False, True
        made = Job(command, salting.numbers(prompt, salt), config)
        prompts.add(made)
        return made

    def step(of: Job) -> list[int]:
        assert prompts.hand_over() == []
        pipeline.step()
        ids = [token for report in of.reports() if isinstance(report, Tokens) for token in report.ids]
        assert prompts.stepped() == []
        return ids

    def answer(prompt: list[int], salt: int) -> list[int]:
        asked = job(prompt, salt)
        ids: list[int] = []
        while len(ids) < 12:
            ids += step(asked)
        return ids

    text = "My name is Bob and my dog is named Rex. " * 6 + "Question: what is the name of my dog? Answer: my dog is"
    prompt = tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()
    true = answer(prompt, 1)
    for salt in range(2, 6):
        for other in range(4):  # what is in the pool is somebody else's
            answer([other * 1000 + place for place in range(150)], 100)
        cut = job(prompt, salt, known=len(prompt))
        assert step(cut) == []
        prompts.cancel(cut)
        assert salting.count == salt - 1
        assert answer(prompt, salt) == true
