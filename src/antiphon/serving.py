"""Makes the models that are served: from a catalogue entry and a file of weights to a planner and an engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from antiphon.core.clock import Clock
from antiphon.core.errors import EngineFailed, SettingsError
from antiphon.core.settings import Settings
from antiphon.engine import weights
from antiphon.engine.contract import Engine
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.scripted import Script, ScriptedEngine, read_script
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary, builtin_vocabulary, load_vocabulary
from antiphon.plan.plan import Limits, Planner
from antiphon.plan.proof import proven
from antiphon.plan.render import Renderer
from antiphon.routing import catalogue
from antiphon.routing.catalogue import SCRIPTED, ModelCard, ModelEntry
from antiphon.turn import ServedModel

_log = structlog.get_logger()

#: Texts whose ids a model's own engine and our tokenizer must agree on before it may serve.
_PROBES = (
    "Hello, world!\n\n  café 東京 🙂 x = {'a': 1}",
    "<|im_start|>user\nHi<|im_end|>\n",
    "\t\u00a0 naïve 12345 '' don't",
)


def served_models(settings: Settings, clock: Clock) -> Iterator[tuple[ModelCard, ServedModel]]:
    """Every model that the settings name, or the scripted one in place of all.

    Raises:
        SettingsError: a name, the catalogue or the script is wrong, or weights are not on this machine.
        WeightsError: a model's file cannot be used.
    """
    known = catalogue.from_settings(settings)
    if settings.scripted:
        yield _scripted(settings, read_script(Path(settings.scripted).expanduser()), known, clock)
        return
    for entry in known.served(settings.models, window=settings.window):
        yield entry, _embedded(settings, entry, clock)


async def check_tokenizer(model: ServedModel) -> None:
    """See that the engine reads text as we do; a prompt made of other tokens would be another prompt.

    Raises:
        EngineFailed: it does not.
    """
    if not isinstance(model.engine, EmbeddedEngine):
        return
    for probe in _PROBES:
        if await model.engine.tokenize(probe) != model.tokenizer.encode_with_control(probe):
            raise EngineFailed(f"the engine of {model.name} and its tokenizer disagree on {probe!r}")


def models_folder(settings: Settings) -> Path:
    """Where weights lie."""
    return settings.home_path / "models"


def _embedded(settings: Settings, entry: ModelEntry, clock: Clock) -> ServedModel:
    path, vocabulary = _model_file(settings, entry)
    tokenizer = Tokenizer(vocabulary)
    engine = EmbeddedEngine(
        EmbeddedSettings(
            module=f"antiphon.engine.children.{entry.engine}",
            engine=entry.engine,
            model=entry.name,
            model_path=str(path),
            window=entry.window,
            pool_tokens=entry.window,
            seats=settings.seats,
            threads=settings.threads or os.cpu_count() or 1,
            cold_prompts=min(settings.cold_prompts, settings.seats),
            queue=settings.queue,
            queue_seconds=settings.queue_seconds,
            stall_seconds=settings.engine_stall_seconds,
            start_seconds=settings.engine_start_seconds,
        ),
        tokenizer.encode,
        clock,
    )
    return _model(entry, vocabulary, tokenizer, entry.dialect, engine, clock)


def _scripted(
    settings: Settings, script: Script, known: catalogue.Catalogue, clock: Clock
) -> tuple[ModelCard, ServedModel]:
    card, vocabulary, dialect = SCRIPTED, builtin_vocabulary(), "hermes"
    if script.model is not None:
        entry = known.get(script.model)
        _, vocabulary = _model_file(settings, entry)
        card, dialect = entry, entry.dialect
    tokenizer = Tokenizer(vocabulary)
    engine = ScriptedEngine(
        script,
        decode=lambda ids: tokenizer.decode(ids).decode(errors="replace"),
        window=card.window,
        seats=script.seats or settings.seats,
        queue=settings.queue,
        queue_seconds=settings.queue_seconds,
        stall_seconds=settings.engine_stall_seconds,
        clock=clock,
    )
    return card, _model(card, vocabulary, tokenizer, dialect, engine, clock)


def _model_file(settings: Settings, entry: ModelEntry) -> tuple[Path, Vocabulary]:
    """A model's file and what our side needs of it, its chat template proven.

    Raises:
        SettingsError: the weights are not on this machine.
        WeightsError: the file is malformed, or its chat template cannot be followed.
    """
    path = weights.installed(entry.weights, models_folder(settings))
    if path is None:
        raise SettingsError(
            f"The weights of {entry.name} are not on this machine; fetch them with `antiphon models pull {entry.name}`"
        )
    kept = path.with_suffix(".vocabulary")
    vocabulary = load_vocabulary(path, kept)
    proof = proven(vocabulary, entry.dialect, kept, path.with_suffix(".proof"))
    _log.info("template.proven", model=entry.name, **msgspec.structs.asdict(proof))
    return path, vocabulary


def _model(
    card: ModelCard, vocabulary: Vocabulary, tokenizer: Tokenizer, dialect: str, engine: Engine, clock: Clock
) -> ServedModel:
    limits = Limits(window=card.window, max_output=card.max_output, sampling=card.sampling)
    planner = Planner(Renderer(vocabulary, tokenizer, dialect, clock), limits)
    return ServedModel(card.name, planner, engine, tokenizer)
