"""Whether an engine reads text as our tokenizer does; a prompt made of other tokens would be another prompt."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from antiphon.core.errors import EngineFailed
from antiphon.engine.tokenizer import Tokenizer

#: Texts whose ids both must agree on before a model may serve.
_PROBES = (
    "Hello, world!\n\n  café 東京 🙂 x = {'a': 1}",
    "<|im_start|>user\nHi<|im_end|>\n",
    "\t\u00a0 naïve 12345 '' don't",
)


@runtime_checkable
class ReadsText(Protocol):
    """A body whose library can be asked for its own ids."""

    async def tokenize(self, text: str) -> list[int]:
        """The engine's own ids for `text`, control tokens recognised. For checks, not for prompts.

        Raises:
            EngineFailed: the engine is down, or went down.
        """
        ...


async def check(model: str, engine: ReadsText, tokenizer: Tokenizer) -> None:
    """Ask the engine of a model to read the probes.

    Raises:
        EngineFailed: it reads one otherwise than we do, or is down.
    """
    for probe in _PROBES:
        if await engine.tokenize(probe) != tokenizer.encode_with_control(probe):
            raise EngineFailed(f"the engine of {model} and its tokenizer disagree on {probe!r}")
