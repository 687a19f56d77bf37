"""Makes the models that are served: from a catalogue entry and a file of weights to a planner and an engine."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from antiphon.core.clock import Clock
from antiphon.core.errors import InvariantBroken, SettingsError, WeightsError, invariant
from antiphon.core.settings import Settings, variable
from antiphon.dialect import dialect_named
from antiphon.engine import agreement, choice, memory, preparing, weights
from antiphon.engine.apart import EngineForEach
from antiphon.engine.contract import Engine
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.gguf import read_metadata, read_tensor_types
from antiphon.engine.llama_server import LlamaServerEngine, LlamaServerSettings
from antiphon.engine.residents import OnDemand, ResidentEngine, Residents
from antiphon.engine.scripted import Script, ScriptedCall, ScriptedEngine, Words, WriteCalls, read_script
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary, builtin_vocabulary, load_vocabulary
from antiphon.parts import ServedModel
from antiphon.plan.plan import Limits, Planner
from antiphon.plan.proof import proven
from antiphon.plan.render import Renderer
from antiphon.plan.schema.cache import LoweredCache
from antiphon.plan.schema.outside import Outside
from antiphon.routing import catalogue
from antiphon.routing.catalogue import SCRIPTED, ModelCard, ModelEntry

_log = structlog.get_logger()

_ARCHITECTURE = "general.architecture"
#: How OpenVINO is told to compute. For prepared weights f32 with activations quantised in groups of 128 gives up a
#: third of the prompt speed of bf16 for twice its decoding; bf16 is fastest without them.
_F32 = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"}
_BF16 = {"INFERENCE_PRECISION_HINT": "bf16", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
#: Prompt tokens per step: one of OpenVINO is to stay under about 250 ms, also of the default model; llama.cpp would
#: lose a quarter of its speed for that, and takes a second (`docs/design/0006-openvino.md`).
_CHUNK, _SMALL_MODELS_CHUNK = 64, 128
#: In bytes.
_SMALL_FILE = 300_000_000


def served_models(settings: Settings, clock: Clock) -> Iterator[tuple[ModelCard, ServedModel]]:
    """Every model that the settings name, or the scripted one in place of all.

    Raises:
        SettingsError: a name, the catalogue or the script is wrong, or weights are not on this machine.
        WeightsError: a model's file cannot be used.
    """
    known, outside = catalogue.from_settings(settings), Outside()
    if settings.scripted:
        yield _scripted(settings, read_script(Path(settings.scripted).expanduser()), known, clock, outside)
        return
    residents = Residents(_on_demand(settings), clock)
    for entry in known.served(settings.models, window=settings.window):
        if entry.engine == "llama_server":
            yield entry, _elsewhere(settings, entry, clock, outside)
        else:
            yield _embedded(settings, entry, residents, clock, outside)


def _on_demand(settings: Settings) -> OnDemand:
    return OnDemand(
        budget=memory.budget(settings.memory),
        waiting=settings.queue,
        wait_seconds=settings.queue_seconds,
        refuse=settings.loading == "refuse",
        idle_seconds=settings.idle_seconds,
    )


async def check_tokenizer(model: ServedModel) -> None:
    """See that the engine reads text as we do, where its library can be asked.

    Raises:
        EngineFailed: it does not.
    """
    if isinstance(model.engine, agreement.ReadsText):
        await agreement.check(model.name, model.engine, model.tokenizer)


def models_folder(settings: Settings) -> Path:
    """Where weights lie."""
    return settings.home_path / "models"


def engine_of(settings: Settings, entry: ModelEntry, path: Path) -> choice.Choice:
    """Which engine runs a model of the catalogue, whose file is at `path`, and why.

    Raises:
        WeightsError: the file is malformed.
    """
    asked = entry.engine if settings.engine == "auto" else settings.engine
    if asked == "llama_server":
        raise InvariantBroken("a server elsewhere is no choice of ours")
    if asked == "llama_cpp":
        return choice.LLAMA_CPP
    return choice.choose(
        asked,
        architecture=str(read_metadata(path, lambda key: key == _ARCHITECTURE).get(_ARCHITECTURE, "")),
        tensor_types=read_tensor_types(path),
        prepared=prepared_folder(settings, entry, path) is not None,
        features=choice.processor_features(),
    )


def prepared_folder(settings: Settings, entry: ModelEntry, path: Path) -> Path | None:
    """Where a model's weights lie that were packed anew for OpenVINO, if they were; with a place for a salt or before
    there were salts."""
    digest = weights.digest(entry.weights, models_folder(settings))
    if not digest:
        return None
    return preparing.prepared(path, digest) or preparing.prepared(path, digest, preparing.UNSALTED)


def converter_of(settings: Settings, entry: ModelEntry, path: Path, chosen: choice.Choice) -> str | None:
    """What makes the form of a model that OpenVINO runs; None where llama.cpp runs it, and best does."""
    if chosen.prepare:
        return preparing.CONVERTER
    if chosen.engine != "openvino":
        return None
    return preparing.AS_READ if prepared_folder(settings, entry, path) is None else preparing.CONVERTER


def _salting(settings: Settings, entry: ModelEntry, path: Path, *, packed: bool) -> Callable[[], Awaitable[str]]:
    """What has a model ready for OpenVINO with a place for a salt, before it is started, where pulling it has not: the
    first time that takes seconds, or what reading the file takes."""
    digest = weights.digest(entry.weights, models_folder(settings))
    converter = preparing.CONVERTER if packed else preparing.AS_READ

    async def make_ready() -> str:
        try:
            return str(await preparing.prepare(path, digest or "", converter=converter))
        except WeightsError as error:
            _log.warning("engine.unsalted", model=entry.name, reason=error.message)
            return str(prepared_folder(settings, entry, path) or "")

    return make_ready


def fit(settings: Settings, entry: ModelEntry, path: Path, chosen: choice.Choice, budget_bytes: int) -> memory.Fit:
    """How a model's cache is sized, and what it takes of the memory.

    Raises:
        WeightsError: the file is malformed, or the model does not fit.
    """
    return memory.fit(
        read_metadata(path, _says_size),
        path.stat().st_size,
        engine=chosen.engine,
        prepared=chosen.engine == "openvino" and prepared_folder(settings, entry, path) is not None,
        window=entry.window,
        seats=settings.seats,
        budget_bytes=budget_bytes,
    )


def _says_size(key: str) -> bool:
    return key == _ARCHITECTURE or key.endswith(memory.SIZE_KEYS)


def _embedded(
    settings: Settings, entry: ModelEntry, residents: Residents, clock: Clock, outside: Outside
) -> tuple[ModelEntry, ServedModel]:
    path, vocabulary = _model_file(settings, entry)
    tokenizer = Tokenizer(vocabulary)
    chosen = engine_of(settings, entry, path)
    ready = prepared_folder(settings, entry, path) if chosen.engine == "openvino" else None
    sized = fit(settings, entry, path, chosen, residents.rules.budget)
    _log.info("engine.chosen", model=entry.name, engine=chosen.engine, why=chosen.why, **msgspec.structs.asdict(sized))
    entry = msgspec.structs.replace(entry, window=sized.window)

    how = EmbeddedSettings(
        module=f"antiphon.engine.children.{chosen.engine}",
        engine=chosen.engine,
        model=entry.name,
        model_path=str(path),
        window=entry.window,
        pool_tokens=sized.pool_tokens,
        seats=settings.seats,
        threads=settings.threads or os.cpu_count() or 1,
        cold_prompts=min(settings.cold_prompts, settings.seats),
        queue=settings.queue,
        queue_seconds=settings.queue_seconds,
        stall_seconds=settings.engine_stall_seconds,
        start_seconds=settings.engine_start_seconds,
        end_tokens=vocabulary.end_tokens,
        markup_tokens=vocabulary.markup_tokens,
        chunk_tokens=settings.prompt_chunk or _chunk(chosen.engine, path),
        properties=_properties(settings, prepared=ready is not None) if chosen.engine == "openvino" else {},
        saved_bytes=sized.saved_bytes,
        token_bytes=sized.token_bytes,
    )

    def engine_for(name: str) -> ResidentEngine:
        ready_first = _salting(settings, entry, path, packed=ready is not None) if chosen.engine == "openvino" else None
        engine = EmbeddedEngine(how, tokenizer.encode, clock, tokenizer.made_bytes, ready_first)
        return ResidentEngine(
            name, engine, sized.need, residents, clock, lambda: agreement.check(entry.name, engine, tokenizer)
        )

    if settings.isolation == "strict":
        engine: Engine = EngineForEach(lambda scope: engine_for(f"{entry.name} of {scope.workspace}"))
    else:
        engine = engine_for(entry.name)
    return entry, _model(entry, vocabulary, tokenizer, entry.dialect, engine, clock, outside)


def _chunk(engine: choice.EngineName, path: Path) -> int:
    return _SMALL_MODELS_CHUNK if engine == "openvino" and path.stat().st_size < _SMALL_FILE else _CHUNK


def _properties(settings: Settings, *, prepared: bool) -> dict[str, str]:
    if settings.precision == "auto":
        return _F32 if prepared else {}
    return _F32 if settings.precision == "f32" else _BF16


def _elsewhere(settings: Settings, entry: ModelEntry, clock: Clock, outside: Outside) -> ServedModel:
    """A model that a llama.cpp server runs; its file here is read for its vocabulary and template."""
    _, vocabulary = _model_file(settings, entry)
    tokenizer = Tokenizer(vocabulary)
    invariant(entry.address is not None, "the catalogue lets no such entry pass without an address")
    engine = LlamaServerEngine(
        LlamaServerSettings(
            address=entry.address or "",
            model=entry.name,
            window=entry.window,
            pool_tokens=entry.pool_tokens or entry.window,
            markup_tokens=vocabulary.markup_tokens,
            seats=settings.seats,
            cold_prompts=min(settings.cold_prompts, settings.seats),
            queue=settings.queue,
            queue_seconds=settings.queue_seconds,
            stall_seconds=settings.engine_stall_seconds,
            start_seconds=settings.engine_start_seconds,
        ),
        _server_key(entry),
        tokenizer,
        clock,
    )
    return _model(entry, vocabulary, tokenizer, entry.dialect, engine, clock, outside)


def _server_key(entry: ModelEntry) -> str:
    if entry.key_variable is None:
        return ""
    key = variable(entry.key_variable)
    if not re.fullmatch("[!-~]{1,1000}", key):
        raise SettingsError(
            f"The key of {entry.name}'s server is to be in the variable {entry.key_variable}; it is "
            f"{'no key' if key else 'not set'}"
        )
    return key


def _scripted(
    settings: Settings, script: Script, known: catalogue.Catalogue, clock: Clock, outside: Outside
) -> tuple[ModelCard, ServedModel]:
    card, vocabulary, dialect = SCRIPTED, builtin_vocabulary(), "hermes"
    if script.model is not None:
        entry = known.get(script.model)
        _, vocabulary = _model_file(settings, entry)
        card, dialect = entry, entry.dialect
    tokenizer = Tokenizer(vocabulary)
    engine = ScriptedEngine(
        script,
        words=Words(
            lambda ids: tokenizer.decode(ids).decode(errors="replace"), tokenizer.read, _writer_of_calls(dialect)
        ),
        window=card.window,
        seats=script.seats or settings.seats,
        queue=settings.queue,
        queue_seconds=settings.queue_seconds,
        stall_seconds=settings.engine_stall_seconds,
        clock=clock,
    )
    return card, _model(card, vocabulary, tokenizer, dialect, engine, clock, outside)


def _writer_of_calls(dialect: str) -> WriteCalls:
    form = dialect_named(dialect).form

    def write(text: str, calls: Sequence[ScriptedCall]) -> str:
        """As a model of the family writes them, all in one."""
        return form.gap.join([*([text] if text else []), *(form.written(call.name, call.input) for call in calls)])

    return write


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
    card: ModelCard,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    dialect: str,
    engine: Engine,
    clock: Clock,
    outside: Outside,
) -> ServedModel:
    limits = Limits(window=card.window, max_output=card.max_output, sampling=card.sampling)
    planner = Planner(Renderer(vocabulary, tokenizer, dialect, clock), limits, LoweredCache(clock), outside)
    return ServedModel(card.name, planner, engine, tokenizer)
