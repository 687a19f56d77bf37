from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from command import Server, free_port, inside, made_key


def examined(home: Path, **environment: str) -> tuple[int, Mapping[str, tuple[str, str]], str]:
    """Exit status, each thing looked at with its mark and what was found, and all of the text."""
    done = inside("doctor", "--home", home, **({"ANTIPHON_PORT": str(free_port())} | environment))
    assert done.stderr == ""
    rows = [line for line in done.stdout.splitlines() if line.startswith(("ok ", "no "))]
    found = {line[4:].partition(": ")[0]: (line[:2], line.partition(": ")[2]) for line in rows}
    return done.returncode, found, done.stdout


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "script.yaml"
    file.write_text("rules: []")
    return file


def test_where_weights_are_missing_it_says_how_to_get_them_and_exits_with_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    status, found, text = examined(home)
    assert status == 1
    assert found["weights of qwen2.5-coder-1.5b-instruct"] == ("no", "1,117 MB, not on this machine")
    assert f"to mend it: antiphon models pull qwen2.5-coder-1.5b-instruct --home {home}" in text
    assert [mark for mark, _ in found.values()].count("no") == 1
    assert {"data folder", "engine llama_cpp", "API keys", "port"} <= set(found)


def test_whose_word_a_digest_is_is_told_where_it_is_the_hubs(tmp_path: Path) -> None:
    entry = (
        'name = "mine"\ndisplay_name = "Mine"\ntiers = ["haiku"]\nengine = "llama_cpp"\ndialect = "plain"\nwindow = 9\n'
        'max_output = 9\ncreated = 2026-01-02\nlicence = "MIT"\n[models.weights]\nfile = "m.gguf"\nsize = 1000000\n'
        'pinned_by = "hub"\nsources = ["hf:me/mine/m.gguf"]\n'
    )
    (tmp_path / "models.toml").write_text(f"[[models]]\n{entry}")
    catalogue = str(tmp_path / "models.toml")
    _, found, _ = examined(tmp_path / "home", ANTIPHON_CATALOGUE=catalogue, ANTIPHON_MODELS="mine")
    assert found["weights of mine"] == ("no", "1 MB, not on this machine, digest to be told by the hub")


def test_it_changes_nothing(tmp_path: Path) -> None:
    examined(tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.real
def test_with_weights_all_is_well(tmp_path: Path, smol_file: Path) -> None:
    (tmp_path / "models").symlink_to(smol_file.parent)
    status, found, _ = examined(tmp_path, ANTIPHON_MODELS="smollm2-135m-instruct")
    assert (status, found["weights of smollm2-135m-instruct"]) == (0, ("ok", "98 MB, verified"))
    assert found["engine of smollm2-135m-instruct"][1].startswith(("llama_cpp: ", "openvino: "))
    assert "a window of 8,192" in found["memory for smollm2-135m-instruct"][1]


@pytest.mark.real
def test_a_model_that_does_not_fit_is_told_with_figures(tmp_path: Path, smol_file: Path) -> None:
    (tmp_path / "models").symlink_to(smol_file.parent)
    few = {"ANTIPHON_MODELS": "smollm2-135m-instruct", "ANTIPHON_MEMORY": "300000000"}
    status, found, text = examined(tmp_path, **few)
    assert (status, found["memory for smollm2-135m-instruct"][0]) == (1, "no")
    assert "the budget of all models is 0.3 GB" in text


def test_a_script_needs_no_weights(tmp_path: Path, script: Path) -> None:
    status, found, _ = examined(tmp_path / "home", ANTIPHON_SCRIPTED=str(script))
    assert status == 0
    assert found["script"][0] == "ok"
    assert found["API keys"][1].startswith("none to use")
    made_key(tmp_path / "home")
    assert examined(tmp_path / "home", ANTIPHON_SCRIPTED=str(script))[1]["API keys"] == ("ok", "1 to use")


def test_a_port_that_another_program_has_is_no_fault_of_ours_but_told(tmp_path: Path, script: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, found, text = examined(tmp_path / "home", ANTIPHON_SCRIPTED=str(script), ANTIPHON_PORT=port)
    assert (status, found["port"][0]) == (1, "no")
    assert "--port" in text


def test_a_port_that_antiphon_has_is_well(tmp_path: Path, script: Path) -> None:
    home = tmp_path / "home"
    server = Server(home, "--scripted", script).wait_ready()
    try:
        status, found, _ = examined(home, ANTIPHON_SCRIPTED=str(script), ANTIPHON_PORT=str(server.port))
        assert status == 0
        assert found["port"][0] == "ok"
        assert "a server runs there" in found["port"][1]
    finally:
        assert server.end() == 0


@pytest.mark.parametrize(
    ("environment", "what"),
    [
        ({"ANTIPHON_MODELS": "gpt-9"}, "models"),
        ({"ANTIPHON_SCRIPTED": "/nowhere.yaml"}, "models"),
        ({"ANTIPHON_HOME": "/proc/nowhere"}, "data folder"),
    ],
)
def test_what_is_wrong_is_marked_and_the_rest_is_still_looked_at(
    tmp_path: Path, environment: dict[str, str], what: str
) -> None:
    home = Path(environment.get("ANTIPHON_HOME", str(tmp_path / "home")))
    status, found, text = examined(home, **environment)
    assert (status, found[what][0]) == (1, "no")
    assert "to mend it: " in text
    assert "port" in found


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    done = inside("doctor", "--home", tmp_path, ANTIPHON_SEATS="many")
    assert done.returncode == 1
    assert done.stderr.startswith("antiphon: The setting `ANTIPHON_SEATS` in the environment is malformed")
