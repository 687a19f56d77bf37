from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from antiphon.core.errors import WeightsError
from antiphon.engine.preparing import AS_READ, UNSALTED, Figures, Prepared, folder_of, prepare, prepared

_DIGEST = "5" * 64

#: The beginning of a converter that needs no OpenVINO: it says and leaves behind what the real one does.
_BEGIN = """
import os, sys, time
source, folder = sys.argv[-2:]
def tell(line):
    os.write(1, line.encode() + b"\\n")
def make(name, content=b"made"):
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content)
with open(source + ".runs", "a") as runs:
    print(os.getpid(), file=runs)
tell('{"type":"step","step":"reading","fraction":0.25}')
make("openvino_model.xml")
"""
_END = """
make("openvino_model.bin", b"weights")
tell('{"type":"figures","nats":0.1,"agreement":0.9,"tokens":256,"rewritten":7,"peak_bytes":1}')
"""

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino_genai") is None, reason="openvino_genai is not installed (extra `openvino`)"
)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "abc-Model[1].Q4.gguf"
    path.write_bytes(b"GGUF" * 100)
    return path


@pytest.fixture
def smol_copy(smol_file: Path, tmp_path: Path) -> Path:
    """The real file, where folders made beside it are the test's own."""
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / smol_file.name
    os.link(smol_file, path) if smol_file.stat().st_dev == folder.stat().st_dev else shutil.copy(smol_file, path)
    return path


def converter(tmp_path: Path, middle: str = "", end: str = _END) -> tuple[str, ...]:
    """A program that does something else in between."""
    script = tmp_path / "converter.py"
    script.write_text(_BEGIN + middle + end)
    return (sys.executable, str(script))


def was_told(tmp_path: Path) -> str:
    """What `converter` was told to do, if it wrote that down."""
    return (tmp_path / "how").read_text()


def writing_down(tmp_path: Path) -> tuple[str, ...]:
    """A converter that does."""
    return converter(tmp_path, f"open({str(tmp_path / 'how')!r}, 'w').write(sys.argv[-3])")


def made_before(gguf: Path, digest: str = _DIGEST) -> Path:
    """What was made before there were salts, whole."""
    folder = folder_of(gguf, UNSALTED)
    folder.mkdir()
    sizes = {"openvino_model.xml": 3, "openvino_model.bin": 5}
    for name, size in sizes.items():
        (folder / name).write_bytes(b"o" * size)
    note = Prepared(digest, UNSALTED, sizes, Figures(0.1, 0.9, 256, 7, 1))
    (folder / "prepared.json").write_bytes(msgspec.json.encode(note))
    return folder


def runs(gguf: Path) -> list[int]:
    """The process ids of the converters that ran."""
    note = Path(f"{gguf}.runs")
    return [int(line) for line in note.read_text().split()] if note.exists() else []


def leftovers(gguf: Path) -> list[str]:
    """What lies beside the file and is neither it nor the test's own."""
    return sorted(path.name for path in gguf.parent.iterdir() if path not in {gguf, Path(f"{gguf}.runs")})


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with contextlib.suppress(OSError):
        # Killed, and not yet collected by whoever inherited it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


async def until(true: object) -> None:
    """Wait for something that another process does."""
    assert callable(true)
    while not true():  # the suite's own time limit ends this
        await asyncio.sleep(0.02)


def test_a_result_has_its_name_only_when_it_is_whole(gguf: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    seen: list[Path | None] = []

    def progress(step: str, fraction: float) -> None:
        told.append((step, fraction))
        seen.append(prepared(gguf, _DIGEST))

    folder = asyncio.run(prepare(gguf, _DIGEST, progress, program=converter(tmp_path)))
    assert told == [("reading", 0.25), ("ready", 1.0)]
    assert seen == [None, folder]
    assert folder == gguf.parent / "abc-Model[1].Q4.openvino-u4g128-v2"
    assert sorted(path.name for path in folder.iterdir()) == [
        "openvino_model.bin", "openvino_model.xml", "prepared.json",
    ]  # fmt: skip
    note = msgspec.json.decode((folder / "prepared.json").read_bytes(), type=Prepared)
    assert note.source_sha256 == _DIGEST
    assert note.sizes == {"openvino_model.xml": 4, "openvino_model.bin": 7}
    assert note.figures.nats == 0.1
    assert leftovers(gguf) == [folder.name]


def test_what_is_there_is_not_made_again(gguf: Path, tmp_path: Path) -> None:
    program = converter(tmp_path)
    first = asyncio.run(prepare(gguf, _DIGEST, program=program))
    assert asyncio.run(prepare(gguf, _DIGEST, program=program)) == first
    assert len(runs(gguf)) == 1


def test_a_result_of_another_file_or_with_damage_does_not_count_and_is_replaced(gguf: Path, tmp_path: Path) -> None:
    program = converter(tmp_path)
    folder = asyncio.run(prepare(gguf, "0" * 64, program=program))
    assert prepared(gguf, _DIGEST) is None
    asyncio.run(prepare(gguf, _DIGEST, program=program))
    assert prepared(gguf, _DIGEST) == folder
    assert prepared(gguf, "0" * 64) is None
    os.truncate(folder / "openvino_model.bin", 3)
    assert prepared(gguf, _DIGEST) is None
    asyncio.run(prepare(gguf, _DIGEST, program=program))
    (folder / "prepared.json").write_bytes(b"{")
    assert prepared(gguf, _DIGEST) is None


def test_what_a_kill_and_older_converters_left_is_swept_away(gguf: Path, tmp_path: Path) -> None:
    killed = gguf.parent / f"{folder_of(gguf).name}.unfinished"
    older = gguf.parent / "abc-Model[1].Q4.openvino-u4g128-v0"
    # Of other files, one of which the brackets in the name would match as a pattern.
    others = [gguf.parent / name for name in ("abc-Model1.Q4.openvino-u4g128-v0", "other.openvino-u4g128-v1")]
    for folder in (killed, older, *others):
        folder.mkdir()
        (folder / "openvino_model.bin").write_bytes(b"half")
    there: list[bool] = []
    made = asyncio.run(prepare(gguf, _DIGEST, lambda *_: there.append(older.exists()), program=converter(tmp_path)))
    assert there == [True, False]  # an older result serves until the new one is there
    assert leftovers(gguf) == sorted([made.name, *(folder.name for folder in others)])


def test_what_was_made_without_a_salt_is_no_result_and_is_given_one(gguf: Path, tmp_path: Path) -> None:
    old = made_before(gguf)
    assert prepared(gguf, _DIGEST) is None
    folder = asyncio.run(prepare(gguf, _DIGEST, program=writing_down(tmp_path)))
    assert was_told(tmp_path) == f"salt={old}"
    assert (folder, prepared(gguf, _DIGEST)) == (folder_of(gguf), folder)
    assert leftovers(gguf) == [folder.name]


@pytest.mark.parametrize("damage", ["another file's", "short"])
def test_what_was_made_without_a_salt_and_is_not_whole_is_made_anew(gguf: Path, tmp_path: Path, damage: str) -> None:
    old = made_before(gguf, "0" * 64 if damage == "another file's" else _DIGEST)
    if damage == "short":
        os.truncate(old / "openvino_model.bin", 2)
    asyncio.run(prepare(gguf, _DIGEST, program=writing_down(tmp_path)))
    assert was_told(tmp_path) == "rewrite"


def test_weights_that_stay_as_they_are_have_a_folder_of_another_name(gguf: Path, tmp_path: Path) -> None:
    folder = asyncio.run(prepare(gguf, _DIGEST, converter=AS_READ, program=writing_down(tmp_path)))
    assert was_told(tmp_path) == "as-read"
    assert folder.name == "abc-Model[1].Q4.openvino-as-read-v1"
    assert prepared(gguf, _DIGEST, AS_READ) == folder
    assert prepared(gguf, _DIGEST) is None  # nothing was packed anew
    assert asyncio.run(prepare(gguf, _DIGEST, converter=AS_READ, program=writing_down(tmp_path))) == folder
    assert len(runs(gguf)) == 1


def test_two_tasks_make_it_once(gguf: Path, tmp_path: Path) -> None:
    told: list[str] = []

    async def both() -> list[Path]:
        program = converter(tmp_path, "time.sleep(0.5)")
        return await asyncio.gather(
            *(prepare(gguf, _DIGEST, lambda s, _: told.append(s), program=program) for _ in "12")
        )

    assert len(set(asyncio.run(both()))) == 1
    assert len(runs(gguf)) == 1
    assert sorted(told) == ["reading", "ready", "ready", "waiting"]


def test_two_processes_make_it_once(gguf: Path, tmp_path: Path) -> None:
    program = converter(tmp_path, "time.sleep(0.5)")
    processes = [subprocess.Popen(preparing_process(gguf, program)) for _ in "12"]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(runs(gguf)) == 1
    assert leftovers(gguf) == [folder_of(gguf).name]


def preparing_process(gguf: Path, program: tuple[str, ...]) -> list[str]:
    """A process of its own that prepares."""
    code = (
        "import asyncio, pathlib; from antiphon.engine.preparing import prepare; "
        f"asyncio.run(prepare(pathlib.Path({str(gguf)!r}), {_DIGEST!r}, program={program!r}))"
    )
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("middle", "end", "reason"),
    [
        ("""tell('{"type":"failure","reason":"it is no model"}'); sys.exit(1)""", "", "it is no model"),
        ("""tell('{"type":"failure","reason":"after all, no"}')""", "\nsys.exit(0)", "after all, no"),
        ("os.kill(os.getpid(), 9)", "", "too little memory"),
        ("os.kill(os.getpid(), 11)", "", "crashed (SIGSEGV)"),
        ("raise ValueError('of what it could not do')", "", "ended with status 1 (ValueError: of what it could not"),
        ("", "", "ended with status 0"),
        ("", _END + "\nsys.exit(2)", "ended with status 2"),
        ("tell('no JSON')", _END, "was not understood"),
        ("os.write(1, b'x' * 1_000_000)", _END, "was not understood"),
        ("os.write(1, b'x' * 1_000_000 + b'\\n')", _END, "was not understood"),
        ("time.sleep(100)", _END, "nothing was heard for 2 s"),
    ],
)
def test_a_converter_that_fails_leaves_nothing(gguf: Path, tmp_path: Path, middle: str, end: str, reason: str) -> None:
    silence = 2.0 if "heard" in reason else 60.0
    with pytest.raises(WeightsError) as failure:
        asyncio.run(prepare(gguf, _DIGEST, program=converter(tmp_path, middle, end), silence_seconds=silence))
    assert reason in failure.value.message
    assert failure.value.message.startswith(f"{gguf.name} could not be prepared for OpenVINO: ")
    assert str(tmp_path) not in failure.value.message
    assert leftovers(gguf) == []
    assert gone(runs(gguf)[0])


def test_a_converter_that_forgets_a_file_is_a_failure(gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        asyncio.run(prepare(gguf, _DIGEST, program=converter(tmp_path, 'os.unlink(folder + "/openvino_model.xml")')))
    assert leftovers(gguf) == []


def test_a_cancelled_caller_has_the_converter_killed(gguf: Path, tmp_path: Path) -> None:
    async def cancelled() -> None:
        program = converter(tmp_path, "time.sleep(100)")
        going = asyncio.Event()
        task = asyncio.ensure_future(prepare(gguf, _DIGEST, lambda *_: going.set(), program=program))
        await going.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert gone(runs(gguf)[0])
    assert leftovers(gguf) == []


def test_no_room_is_said_before_anything_is_started(gguf: Path, tmp_path: Path) -> None:
    os.truncate(gguf, shutil.disk_usage(gguf.parent).free // 2)  # a hole: it takes no room itself
    with pytest.raises(WeightsError, match=r"not enough room on the disk to prepare .* MB are needed and .* are free"):
        asyncio.run(prepare(gguf, _DIGEST, program=converter(tmp_path)))
    assert runs(gguf) == []
    assert leftovers(gguf) == []


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.gguf cannot be prepared"):
        asyncio.run(prepare(tmp_path / "gone.gguf", _DIGEST, program=converter(tmp_path)))


# ---- with OpenVINO


@needs_openvino
@pytest.mark.parametrize("content", [b"GGUF" * 100, b"not a model", b""])
def test_a_file_that_is_no_model_is_refused_also_where_the_library_crashes(gguf: Path, content: bytes) -> None:
    gguf.write_bytes(content)
    with pytest.raises(WeightsError, match=r"OpenVINO cannot read the file|crashed") as failure:
        asyncio.run(prepare(gguf, _DIGEST))
    assert "/" not in failure.value.message
    assert leftovers(gguf) == []


@pytest.mark.real
@needs_openvino
def test_the_smallest_model_is_prepared_and_answers(smol_copy: Path) -> None:
    told: list[tuple[str, float]] = []
    folder = asyncio.run(prepare(smol_copy, _DIGEST, lambda step, done: told.append((step, done))))
    assert list(dict.fromkeys(step for step, _ in told)) == ["reading", "rewriting", "checking", "ready"]
    assert [done for _, done in told] == sorted(done for _, done in told)
    note = msgspec.json.decode((folder / "prepared.json").read_bytes(), type=Prepared)
    assert note.figures.nats < 0.3
    assert note.figures.agreement > 0.8
    assert note.figures.tokens == 256
    assert note.figures.rewritten == 211
    assert note.figures.peak_bytes > 10 << 20
    assert leftovers(smol_copy) == [folder.name]  # the library left nothing beside the file
    assert prepared(smol_copy, _DIGEST) == folder
    assert {"openvino_tokenizer.xml", "openvino_detokenizer.bin"} < note.sizes.keys()
    (folder / "openvino_tokenizer.bin").unlink()
    assert prepared(smol_copy, _DIGEST) is None


def unsalted(tmp_path: Path) -> tuple[str, ...]:
    """The converter as it was before there were salts."""
    return altered(tmp_path, "real.add_salt = lambda model: 0")


@pytest.mark.real
@needs_openvino
def test_a_salt_is_added_to_what_had_none(smol_copy: Path, tmp_path: Path) -> None:
    from antiphon.engine.children.openvino_salt import bits_of  # not where OpenVINO is not installed

    without = asyncio.run(prepare(smol_copy, _DIGEST, converter=AS_READ, program=unsalted(tmp_path)))
    assert bits_of(without / "openvino_model.xml") == 0
    old = folder_of(smol_copy, UNSALTED)
    without.rename(old)
    note = msgspec.json.decode((old / "prepared.json").read_bytes(), type=Prepared)
    (old / "prepared.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(note, converter=UNSALTED)))
    told: list[str] = []
    folder = asyncio.run(prepare(smol_copy, _DIGEST, lambda step, _: told.append(step)))
    assert list(dict.fromkeys(told)) == ["salting", "checking", "ready"]
    assert bits_of(folder / "openvino_model.xml") == 16  # for 49,152 tokens
    figures = msgspec.json.decode((folder / "prepared.json").read_bytes(), type=Prepared).figures
    assert (figures.nats, figures.tokens) == (note.figures.nats, 256)
    assert (folder / "openvino_tokenizer.xml").exists()
    assert leftovers(smol_copy) == [folder.name]


@pytest.mark.real
@needs_openvino
@pytest.mark.parametrize(
    ("made_so", "reason"),
    [
        # In the vocabulary's range it is right; the processor computes it in floats, which is seen under a salt alone.
        ("floor_mod(numbers, {})", "another way under a salt"),
        # Right but for the last of the vocabulary.
        ("bitwise_and(numbers, {})", "not as it was made"),
    ],
)
def test_a_salt_that_changes_answers_is_caught(smol_copy: Path, tmp_path: Path, made_so: str, reason: str) -> None:
    constant = "plain.constant(numpy.array({}, dtype=numpy.int64))".format(49152 if "mod" in made_so else 32767)
    change = f"""
import numpy
from antiphon.engine.children import openvino_salt as salt
plain = salt.opset13
class Changed:
    constant = staticmethod(plain.constant)
    @staticmethod
    def bitwise_and(numbers, mask):
        return plain.{made_so.format(constant)}
salt.opset13 = Changed
"""
    with pytest.raises(WeightsError, match=reason):
        asyncio.run(prepare(smol_copy, _DIGEST, converter=AS_READ, program=altered(tmp_path, change)))
    assert leftovers(smol_copy) == []


#: Ways in which a conversion goes wrong and still runs at full speed.
_WRONG = {
    "zero points off by one": """
def quantised(weights, old=packing.quantised):
    numbers, zeros, scales = old(weights)
    return numbers, (zeros + 1) & 15, scales
packing.quantised = quantised
""",
    "memory that was given back": """
import numpy, openvino
def kept(tensor, name=""):
    shape, kind = list(tensor.shape), tensor.element_type
    lost = numpy.frombuffer(numpy.random.default_rng(1).bytes(tensor.get_byte_size()), dtype=numpy.uint8)
    return old(openvino.Tensor(lost.copy(), openvino.Shape(shape), kind), name) if kind != openvino.Type.f16 else old(tensor)
old, packing._kept = packing._kept, kept
""",
    "rows of the wrong place": """
def quantised_rows(weights, old=packing.quantised_rows):
    numbers, scales = old(weights)
    return numbers[::-1], scales
packing.quantised_rows = quantised_rows
""",
}


@pytest.mark.real
@needs_openvino
@pytest.mark.parametrize("wrong", _WRONG)
def test_a_wrong_conversion_is_caught_by_its_answers(smol_copy: Path, tmp_path: Path, wrong: str) -> None:
    with pytest.raises(WeightsError, match="does not answer like the original"):
        asyncio.run(prepare(smol_copy, _DIGEST, program=altered(tmp_path, _WRONG[wrong])))
    assert leftovers(smol_copy) == []
    assert prepared(smol_copy, _DIGEST) is None


def altered(tmp_path: Path, change: str) -> tuple[str, ...]:
    """The real converter with something changed in it."""
    script = tmp_path / "altered.py"
    script.write_text(
        "import os, sys\nfrom antiphon.engine.children import openvino_prepare as real, openvino_weights as packing\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{change}\nos._exit(real.main(*sys.argv[1:]))\n"
    )
    return (sys.executable, str(script))


@pytest.mark.real
@needs_openvino
def test_a_killed_server_takes_the_converter_along_and_the_next_run_sweeps_up(smol_copy: Path, tmp_path: Path) -> None:
    # As slow as a big model.
    slow = "import time\npacking.quantised = lambda weights: time.sleep(100)\n"
    unfinished = smol_copy.parent / f"{folder_of(smol_copy).name}.unfinished"
    server = subprocess.Popen(preparing_process(smol_copy, altered(tmp_path, slow)))
    asyncio.run(until((unfinished / "loaded" / "openvino_model.xml").exists))
    pid = int((tmp_path / "pid").read_text())
    assert not gone(pid)
    server.send_signal(signal.SIGKILL)
    server.wait()
    asyncio.run(until(lambda: gone(pid)))
    assert unfinished.exists()
    folder = asyncio.run(prepare(smol_copy, _DIGEST, program=converter(tmp_path)))
    assert not unfinished.exists()
    assert prepared(smol_copy, _DIGEST) == folder
