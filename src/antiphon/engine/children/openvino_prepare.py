"""Rewrites a model for OpenVINO, once: `python -m antiphon.engine.children.openvino_prepare HOW SOURCE.gguf FOLDER`.

OpenVINO reads a GGUF file with its small groups (16 or 32 weights to a scale), and has slow kernels for them. Here the
model as the library has read it is saved, its weights are packed anew into 4 bits in groups of 128, and the result
must then answer like the model it was made of. With `as-read` for HOW the weights stay as the library has read them;
with `salt=OLD` what lies in the folder OLD, made when there was no salt, is taken instead. All are given a place for a
salt (`openvino_salt`), and must answer the same under any. The tokenizer is kept as the library has read it: reading it
from the file takes seconds, at every start. It is a process of its own: it needs much memory, a native
library can crash, and it can be killed at any time.

Progress, and at the end what was measured, goes to the standard output, one JSON object a line. The process ends when
its standard input does, so that it never outlives the one that wants the result. Exit status 1: see `Failure`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from antiphon.engine.children.openvino_library import genai
from antiphon.engine.children.openvino_library import openvino as ov
from antiphon.engine.children.openvino_salt import SALT_BITS, Salting, add_salt, bits_of
from antiphon.engine.children.openvino_weights import rewrite

#: Reading and checking run at full precision wherever the engine will run: what the check says must not depend on the
#: processor.
_PROPERTIES = {"INFERENCE_PRECISION_HINT": "f32"}
_CONTINUED = 32
#: A salt is read with the prompt alone, so that what it changes is seen in the first tokens.
_CONTINUED_SALTED = 4
_HALF = 0.6931  # in natural logarithms
#: Limits of the check. Measured: good conversions 0.05 to 0.14 nats and 91 to 98 % agreement, wrong ones 5 to 120 nats
#: and 0 to 10 %.
MOST_NATS = 0.5
LEAST_AGREEMENT = 0.75
_MODEL_FILES = ("openvino_model.xml", "openvino_model.bin")
_TOKENIZER_FILES = tuple(f"openvino_{what}.{end}" for what in ("tokenizer", "detokenizer") for end in ("xml", "bin"))
_LINK = "source.gguf"
_CAPITAL, _PARIS = "The capital of France is", "Paris"
_PROMPTS = (
    _CAPITAL,
    "The days of the week are Monday, Tuesday,",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Water boils at 100 degrees Celsius because",
    "Once upon a time, in a small village near the sea,",
    '{"name": "Ada Lovelace", "born": 1815, "occupation":',
    "SELECT name, count(*) FROM orders WHERE",
    "Die Hauptstadt von Deutschland ist",
)


class Told(msgspec.Struct, tag="step"):
    """A step has come so far; `fraction` is of the whole work."""

    step: str
    fraction: float


class Failure(msgspec.Struct, tag="failure"):
    """It cannot be done: a sentence without paths."""

    reason: str


class Figures(msgspec.Struct, tag="figures"):
    """How much the rewritten model answers like the library's own reading of the GGUF file.

    `nats`: how much less likely, in the mean over every token of the first model's answers, the second finds it.
    `agreement`: the share of those tokens that the second finds at least half as likely.
    `peak_bytes`: the most memory that this process had at a time.
    """

    nats: float
    agreement: float
    tokens: int
    rewritten: int
    peak_bytes: int


class PreparationFailed(Exception):
    """The message is for people."""


class Answer(msgspec.Struct):
    """What a model made of a prompt, and how likely it found each token (natural logarithms)."""

    prompt: list[int]
    tokens: list[int]
    chances: list[float]


def _saved_tokenizer(link: Path) -> genai.Tokenizer:
    """The file's tokenizer, read, and saved beside the link. Takes seconds, so it is done once."""
    return genai.Tokenizer(str(link), enable_save_ov_model=True)


def _pipeline(source: Path, tokenizer: genai.Tokenizer, **properties: Any) -> genai.ContinuousBatchingPipeline:
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = 64
    scheduler.max_num_batched_tokens = 256
    scheduler.max_num_seqs = len(_PROMPTS)
    scheduler.enable_prefix_caching = False
    properties = {**_PROPERTIES, **properties}
    return genai.ContinuousBatchingPipeline(str(source), tokenizer, scheduler, "CPU", **properties)


def _run(
    pipeline: genai.ContinuousBatchingPipeline, prompts: list[list[int]], length: int, *, echo: bool = False
) -> list[Answer]:
    """Greedy continuations of so many tokens. With `echo` the answers begin with the prompts' own tokens."""
    config = genai.GenerationConfig()
    config.max_new_tokens = length
    config.ignore_eos = True
    config.do_sample = False
    config.logprobs = 1
    config.echo = echo
    tensors = [ov.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts]
    handles = [pipeline.add_request(number, tensor, config) for number, tensor in enumerate(tensors)]
    while pipeline.has_non_finished_requests():
        pipeline.step()
    answers = []
    for prompt, handle in zip(prompts, handles, strict=True):
        made = handle.read_all()[0]
        answers.append(Answer(prompt, list(made.generated_ids), list(made.generated_log_probs)))
    return answers


def compare(pipeline: genai.ContinuousBatchingPipeline, expected: list[Answer]) -> tuple[float, float]:
    """`Figures.nats` and `Figures.agreement` of a model against another one's answers."""
    forced = _run(pipeline, [answer.prompt + answer.tokens for answer in expected], 1, echo=True)
    gaps = []
    for answer, heard in zip(expected, forced, strict=True):
        start = len(answer.prompt)
        chances = heard.chances[start : start + len(answer.tokens)]
        gaps += [was - now for was, now in zip(answer.chances, chances, strict=True)]
    return float(np.mean(gaps)), float(np.mean(np.array(gaps) <= _HALF))


def check(nats: float, agreement: float, answered: str, answers: str) -> None:
    """Raises PreparationFailed where the figures, or the one known answer, say that the conversion went wrong."""
    # Written so that what is no number fails.
    if not (nats <= MOST_NATS and agreement >= LEAST_AGREEMENT):
        raise PreparationFailed(
            f"the rewritten model does not answer like the original ({nats:.2f} nats apart where {MOST_NATS} is the "
            f"most, {agreement:.0%} of its answers the same where {LEAST_AGREEMENT:.0%} is the least)"
        )
    if _PARIS in answered and _PARIS not in answers:
        raise PreparationFailed("the rewritten model no longer knows the capital of France")


def check_salt(folder: Path, pipeline: genai.ContinuousBatchingPipeline, bits: int, prompts: list[list[int]]) -> None:
    """Raises PreparationFailed where a salt changes an answer, or the model that was saved has no such place as it was
    given; one that could be given none passes."""
    if not bits:
        return
    salting, largest = Salting(bits), 2**SALT_BITS - 1
    salted = [salting.numbers(prompt, largest - number).tolist() for number, prompt in enumerate(prompts)]
    plain, other = (_run(pipeline, asked, _CONTINUED_SALTED) for asked in (prompts, salted))
    # As likely but for the last digits, so that a salt that changed what is read is seen however alike the words are.
    if any(
        one.tokens != two.tokens or not np.allclose(one.chances, two.chances, atol=1e-4)
        for one, two in zip(plain, other, strict=True)
    ):
        raise PreparationFailed("the model answers another way under a salt")
    if bits_of(folder / "openvino_model.xml") != bits:
        raise PreparationFailed("the model's place for a salt is not as it was made")


class Work:
    """The steps, in order. Everything it makes lies in one folder, which whoever started it owns."""

    def __init__(self, how: str, source: Path, folder: Path, output: int) -> None:
        self._how = how
        self._source = source
        self._folder = folder
        self._output = output
        self._loaded = folder / "loaded"

    def tell(self, what: Told | Failure | Figures) -> None:
        with contextlib.suppress(OSError):
            os.write(self._output, msgspec.json.encode(what) + b"\n")

    def discard(self) -> None:
        """Leave nothing behind that could be taken for a result."""
        for name in (*_MODEL_FILES, *_TOKENIZER_FILES):
            (self._folder / name).unlink(missing_ok=True)
        shutil.rmtree(self._loaded, ignore_errors=True)

    def run(self) -> Figures:
        """Raises PreparationFailed."""
        how, _, old = self._how.partition("=")
        if how == "salt":
            return self._salt_alone(Path(old))
        self.tell(Told("reading", 0.0))
        expected, answered = self._read()
        self.tell(Told("rewriting", 0.4))
        rewritten, bits = self._rewrite(keep=how == "as-read")
        gc.collect()
        self.tell(Told("checking", 0.8))
        return self._check(expected, answered, rewritten, bits)

    def _salt_alone(self, old: Path) -> Figures:
        """What was checked before, with nothing new but the salt; the figures tell of that alone."""
        self.tell(Told("salting", 0.0))
        model = ov.Core().read_model(old / "openvino_model.xml")
        bits = add_salt(model)
        self._save(model)
        self.tell(Told("checking", 0.6))
        _saved_tokenizer(self._link())
        pipeline = _pipeline(self._folder, self._keep_tokenizer())
        check_salt(self._folder, pipeline, bits, _encoded(pipeline.get_tokenizer()))
        return Figures(0.0, 1.0, 0, 0, _peak_bytes())

    def _read(self) -> tuple[list[Answer], str]:
        """Load the file, which also saves the model, and have it answer."""
        link = self._link()
        try:
            tokenizer = _saved_tokenizer(link)
            pipeline = _pipeline(link, tokenizer, enable_save_ov_model=True)
        except RuntimeError as error:
            raise PreparationFailed(f"OpenVINO cannot read the file ({_first_line(error)})") from None
        if not (self._loaded / "openvino_model.xml").exists():
            raise PreparationFailed("OpenVINO did not save the model that it has read")
        self.tell(Told("reading", 0.3))
        answers = _run(pipeline, _encoded(tokenizer), _CONTINUED)
        return answers, tokenizer.decode(answers[0].tokens)

    def _link(self) -> Path:
        """The file by another name: the library saves beside what it is given, and a link is beside itself."""
        self._loaded.mkdir(parents=True)
        link = self._loaded / _LINK
        link.symlink_to(self._source)
        return link

    def _keep_tokenizer(self) -> genai.Tokenizer:
        """What was saved of the tokenizer goes to the result, and is read from there, as the engine will."""
        for name in _TOKENIZER_FILES:
            (self._loaded / name).rename(self._folder / name)
        shutil.rmtree(self._loaded)
        self._sync(_TOKENIZER_FILES)
        return genai.Tokenizer(str(self._folder))

    def _rewrite(self, *, keep: bool) -> tuple[int, int]:
        """How many matrices were packed anew, and to how many bits token numbers are now masked, if they can be."""
        model = ov.Core().read_model(self._loaded / "openvino_model.xml")
        rewritten = 0 if keep else rewrite(model, lambda done: self.tell(Told("rewriting", 0.4 + 0.35 * done)))
        if not rewritten and not keep:
            raise PreparationFailed("OpenVINO holds the model's weights in a form that is not known here")
        bits = add_salt(model)
        self._save(model)
        return rewritten, bits

    def _save(self, model: ov.Model) -> None:
        ov.save_model(model, self._folder / "openvino_model.xml", compress_to_fp16=False)
        self._sync(_MODEL_FILES)

    def _sync(self, names: tuple[str, ...]) -> None:
        for name in names:
            with (self._folder / name).open("rb") as file:
                os.fsync(file.fileno())

    def _check(self, expected: list[Answer], answered: str, rewritten: int, bits: int) -> Figures:
        tokenizer = self._keep_tokenizer()
        pipeline = _pipeline(self._folder, tokenizer)
        nats, agreement = compare(pipeline, expected)
        answer = _run(pipeline, [expected[0].prompt], _CONTINUED)[0]
        check(nats, agreement, answered, tokenizer.decode(answer.tokens))
        check_salt(self._folder, pipeline, bits, [answer.prompt for answer in expected])
        tokens = sum(len(answer.tokens) for answer in expected)
        return Figures(nats, agreement, tokens, rewritten, _peak_bytes())


def _encoded(tokenizer: genai.Tokenizer) -> list[list[int]]:
    """The prompts of the check."""
    return [np.array(tokenizer.encode(text, add_special_tokens=False).input_ids.data)[0].tolist() for text in _PROMPTS]


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _first_line(error: Exception) -> str:
    """What the library complains of, without the places in its own source where it does."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "/" not in line), type(error).__name__)[:200]


def _end_with_input() -> None:
    os.read(0, 1)
    os._exit(1)


def main(how: str, source: str, folder: str) -> int:
    output = os.dup(1)
    os.dup2(2, 1)  # the library talks on the standard output
    threading.Thread(target=_end_with_input, daemon=True).start()
    work = Work(how, Path(source), Path(folder), output)
    try:
        figures = work.run()
    except (PreparationFailed, OSError, RuntimeError, MemoryError) as error:
        expected = isinstance(error, PreparationFailed)
        work.discard()
        work.tell(Failure(str(error) if expected else f"{type(error).__name__}: {_first_line(error)}"))
        return 1
    work.tell(figures)
    return 0


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # the library's threads do not end with the interpreter
