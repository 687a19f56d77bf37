"""A model file's chat template is proven once, by a child with limits, and the proof is kept."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from antiphon.core.errors import WeightsError
from antiphon.engine.vocabulary import Vocabulary, load_vocabulary
from antiphon.plan.proof import proven


@pytest.mark.real
def test_a_proof_is_made_once_and_anew_when_its_subject_changes(smol_file: Path, tmp_path: Path) -> None:
    kept, cache = tmp_path / "vocabulary", tmp_path / "proof"
    vocabulary = load_vocabulary(smol_file, kept)
    first = proven(vocabulary, "plain", kept, cache)
    assert first.system
    made = cache.stat().st_mtime_ns
    assert proven(vocabulary, "plain", kept, cache) == first
    assert cache.stat().st_mtime_ns == made
    proven(vocabulary, "hermes", kept, cache)
    assert cache.stat().st_mtime_ns != made
    cache.write_bytes(b"damaged")
    assert proven(vocabulary, "plain", kept, cache) == first


@pytest.mark.real
@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{% for message in messages %}{{ message.content | upper }}{% endfor %}",
        "{% set ns = namespace(t='x' * 1000) %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
    ],
)
def test_a_template_that_cannot_be_followed_is_refused_and_one_that_is_greedy_harms_nobody(
    smol_file: Path, tmp_path: Path, template: str
) -> None:
    kept = tmp_path / "vocabulary"
    vocabulary = load_vocabulary(smol_file, kept)
    hostile = msgspec.structs.replace(vocabulary, chat_template=template)
    _keep(hostile, kept)
    with pytest.raises(WeightsError):
        proven(hostile, "plain", kept, tmp_path / "proof")
    assert not (tmp_path / "proof").exists()


def _keep(vocabulary: Vocabulary, kept: Path) -> None:
    """Put another vocabulary into the cache, as a hostile model file would."""
    stored = msgspec.msgpack.decode(kept.read_bytes())
    stored["vocabulary"] = msgspec.to_builtins(vocabulary)
    kept.write_bytes(msgspec.msgpack.encode(stored))
