"""The list of documented behaviours and the tests agree, in both directions; and nearly all that is due is proven."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

import manifest
from manifest import Behaviour, Document
from proving import Proving

pytest_plugins = ("pytester",)

#: The chapters whose every line is listed.
CHAPTERS = {
    "client-surface": {"0", "1", "2", "3", "4", "7"},
    "messages-and-inference": {"1", "2", "3", "4", "7", "8", "13", "14"},
}
LEAST_SHARE = 0.95

DOCUMENTS = manifest.documents()
LISTED = [behaviour for document in DOCUMENTS for behaviour in document.behaviour]
MARKERS = manifest.markers()


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_chapter_is_listed(name: str) -> None:
    (document,) = [each for each in DOCUMENTS if each.document == name]
    assert {section.number.split(".")[0] for section in document.section} == CHAPTERS[name]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.document)
def test_every_line_is_claimed_and_every_claim_is_sound(document: Document) -> None:
    assert list(document.faults()) == []
    assert [each.id for each in document.behaviour if not each.id.startswith(f"{document.document}-")] == []


def test_every_id_is_one_behaviours() -> None:
    assert [name for name, times in Counter(each.id for each in LISTED).items() if times > 1] == []


def test_every_test_that_is_named_exists_and_says_so_itself() -> None:
    unmarked = [
        (behaviour.id, test)
        for behaviour in LISTED
        for test in behaviour.tests
        if behaviour.id not in MARKERS.tests.get(test, [])
    ]
    assert unmarked == []


def test_every_marker_is_of_a_behaviour_that_names_its_test() -> None:
    named = {(behaviour.id, test) for behaviour in LISTED for test in behaviour.tests}
    unnamed = [(name, test) for test, names in MARKERS.tests.items() for name in names if (name, test) not in named]
    assert unnamed == []
    assert MARKERS.stray == []  # a marker that is on no test function


def test_nearly_all_that_is_due_is_proven() -> None:
    due = [behaviour for behaviour in LISTED if not behaviour.deferred]
    proven = [behaviour for behaviour in due if behaviour.tests]
    assert len(proven) >= LEAST_SHARE * len(due), [behaviour.id for behaviour in due if not behaviour.tests]


SOUND = """
document = "d"
[[section]]
number = "1"
title = "t"
lines = [1, 3]
[[behaviour]]
id = "d-1"
section = "1"
lines = [2]
says = "s"
tests = ["x"]
[[other]]
section = "1"
lines = [1, 3]
why = "w"
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("lines = [1, 3]\n[[beh", "lines = [1, 4]\n[[beh", "line 4 is claimed by nothing"),
        ("lines = [1, 3]\nwhy", "lines = [1, 3, 9]\nwhy", "other [1, 3, 9]: [9] are not lines of section 1"),
        ('section = "1"\nlines = [2]', 'section = "2"\nlines = [2]', "d-1: [2] are not lines of section 2"),
        ('tests = ["x"]', "", "d-1: has either tests or a gap"),
        ('tests = ["x"]', 'tests = ["x"]\ngap = "g"\npart = "this"', "d-1: has either tests or a gap"),
        ('tests = ["x"]', 'gap = "g"', "d-1: a gap, and nothing else, has a part"),
        ('tests = ["x"]', 'tests = ["x", "x"]', "d-1: names a test twice"),
        ("[[other]]", '[[section]]\nnumber = "2"\ntitle = "t"\nlines = [3, 3]\n[[other]]', "line 3 is in two sections"),
    ],
)
def test_what_is_wrong_with_a_list_is_found(old: str, new: str, fault: str) -> None:
    assert list(_document(SOUND).faults()) == []
    assert list(_document(SOUND.replace(old, new, 1)).faults()) == [fault]


@pytest.mark.parametrize("line", ['part = "someday"', "gap = 3", 'note = "n"'])
def test_a_malformed_list_is_not_read(line: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        _document(SOUND.replace('tests = ["x"]', line))


def _document(text: str) -> Document:
    return msgspec.toml.decode(text, type=Document)


MARKED = """
import pytest

@pytest.mark.behaviour("a", "b")
@pytest.mark.behaviour("c")
def test_one(): pass

@pytest.mark.parametrize("n", [0, pytest.param(1, marks=pytest.mark.behaviour("d"))])
async def test_two(n): pass

class TestMore:
    @pytest.mark.behaviour(ID)
    def test_three(self): pass
"""


def test_markers_are_read_off_the_source(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_marked.py").write_text(MARKED)
    (folder / "test_stray.py").write_text('import pytest\npytestmark = pytest.mark.behaviour("a")\ndef test_x(): pass')
    found = manifest.markers(folder)
    assert found.tests == {
        "tests/test_marked.py::test_one": ["a", "b", "c"],
        "tests/test_marked.py::test_two": ["d"],
        "tests/test_marked.py::TestMore::test_three": ["ID"],  # no literal: the id of nothing
        "tests/test_stray.py::test_x": [],
    }
    assert found.stray == ["tests/test_stray.py"]


INNER_TESTS = """
import pytest

@pytest.mark.behaviour("a", "b")
def test_passes(): pass

@pytest.mark.behaviour("b")
def test_is_skipped(): pytest.skip("")

@pytest.mark.behaviour("c")
@pytest.mark.parametrize("n", [0, 1])
def test_fails_once(n): assert n

@pytest.mark.parametrize("n", [0, pytest.param(1, marks=pytest.mark.behaviour("d"))])
def test_where_it_carries_the_id_it_passes(n): assert n

@pytest.fixture
def falls():
    yield
    assert not "given back"

@pytest.mark.behaviour("e")
def test_ends_badly(falls): pass

@pytest.mark.behaviour("f")
def test_another_passes(): pass
"""
LIST = {
    "a": ["test_passes"],
    "b": ["test_passes", "test_is_skipped"],
    "c": ["test_fails_once"],
    "d": ["test_where_it_carries_the_id_it_passes"],
    "e": ["test_ends_badly"],
    "f": ["test_another_passes"],
}


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        ([], "8 listed, 3 proven by this run, 3 not proven (failed or skipped), 1 owed"),
        (
            ["-k", "passes or once"],
            (
                "8 listed, 3 proven by this run, 1 not proven (failed or skipped), "
                "2 not asked (only some tests were selected), 1 owed"
            ),
        ),
    ],
)
def test_a_run_counts_what_it_proved(pytester: pytest.Pytester, selection: list[str], told: str) -> None:
    pytester.makeini("[pytest]\nmarkers = behaviour: x")
    pytester.makepyfile(test_inner=INNER_TESTS)
    listed = [
        Behaviour(name, "1", [1], "s", [f"test_inner.py::{test}" for test in tests]) for name, tests in LIST.items()
    ]
    listed += [Behaviour("g", "1", [1], "s", gap="g", part="this")]
    listed += [Behaviour("h", "1", [1], "s", gap="g", part="batches")]
    proving = Proving()
    pytester.inline_run("-p", "no:cacheprovider", *selection, plugins=[proving])
    line = proving.lines(listed)[0]
    assert line == f"behaviours: {told}, 1 deferred to later parts (batches 1)"


def test_a_run_by_several_workers_counts_the_same(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = behaviour: x")
    pytester.makepyfile(test_inner=INNER_TESTS)
    pytester.makeconftest(
        f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from manifest import Behaviour
from proving import _KEY, pytest_configure
LIST = {LIST!r}
def pytest_terminal_summary(terminalreporter, config):
    listed = [Behaviour(n, "1", [1], "s", [f"test_inner.py::{{t}}" for t in tests]) for n, tests in LIST.items()]
    terminalreporter.write_line(config.stash[_KEY].lines(listed)[0])
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:schemathesis", "-n", "2")
    result.stdout.fnmatch_lines(["behaviours: 6 listed, 3 proven by this run, 3 not proven*"])
