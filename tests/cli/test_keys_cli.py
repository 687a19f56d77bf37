from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from command import KEY, Server, antiphon, inside, made_key, wait_until

HELLO: Any = [{"role": "user", "content": "Hello"}]


def listed(home: Path, **environment: str) -> list[list[str]]:
    """The rows of `keys list`."""
    done = inside("keys", "list", "--home", home, **environment)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()[1:]]


@pytest.mark.parametrize("columns", ["40", "200"])
def test_quiet_prints_the_key_and_nothing_else(tmp_path: Path, columns: str) -> None:
    done = antiphon("keys", "create", "--quiet", "--home", tmp_path / "home", COLUMNS=columns, FORCE_COLOR="1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert KEY.fullmatch(done.stdout.removesuffix("\n"))
    assert done.stdout.endswith("\n")


def test_create_shows_the_key_once_and_says_so(tmp_path: Path) -> None:
    done = inside("keys", "create", "--home", tmp_path / "home", "--name", "ci [bold]", COLUMNS="40")
    (key,) = KEY.findall(done.stdout)
    assert "not shown again" in done.stdout
    assert f"  {key}" in done.stdout.splitlines()
    (row,) = listed(tmp_path / "home")
    assert row[1:4] == ["ci", "[bold]", "Default"]


@pytest.mark.parametrize(
    ("arguments", "form", "name", "workspace"),
    [
        ([], "sk-ant-api03-", "from the command line", "Default"),
        (["--name", "laptop"], "sk-ant-api03-", "laptop", "Default"),
        (["--admin", "--name", "boss"], "sk-ant-admin01-", "boss (admin)", "Default"),
        (["--workspace", "Research", "--name", "lab"], "sk-ant-api03-", "lab", "Research"),
        (["--workspace", "wrkspc_default", "--name", "byid"], "sk-ant-api03-", "byid", "Default"),
    ],
)
def test_every_option_shows_in_the_key_and_in_the_list(
    tmp_path: Path, arguments: list[str], form: str, name: str, workspace: str
) -> None:
    key = made_key(tmp_path / "home", *arguments)
    assert key.startswith(form)
    (row,) = listed(tmp_path / "home")
    assert " ".join(row[1:-5]) == name if workspace == "" else f"{name} {workspace}" in " ".join(row)
    assert "active" in row
    assert row[-1] == key[-4:]


def test_a_workspace_is_made_on_first_use_and_used_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    script = tmp_path / "script.yaml"
    script.write_text("rules: []")
    keys = [made_key(home, "--workspace", "Research") for _ in range(2)]
    server = Server(home, "--scripted", script).wait_ready()
    try:
        found = {
            httpx2.get(f"{server.base_url}/v1/models", headers={"x-api-key": key}, trust_env=False).headers[
                "anthropic-workspace-id"
            ]
            for key in keys
        }
    finally:
        server.end()
    assert len(found) == 1
    assert found != {"wrkspc_default"}


def test_a_workspace_id_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    done = inside("keys", "create", "--home", tmp_path / "home", "--workspace", "wrkspc_nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "antiphon: There is no workspace wrkspc_nowhere\n"
    assert inside("keys", "create", "--home", tmp_path / "home", "--workspace", " ").returncode == 1


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_list_never_shows_a_secret_and_always_the_whole_id(tmp_path: Path, columns: str) -> None:
    home = tmp_path / "home"
    made = [made_key(home), made_key(home, "--admin")]
    text = inside("keys", "list", "--home", home, COLUMNS=columns).stdout
    for key in made:
        public, _, secret = key.rpartition("-")
        assert f"apikey_{public.rpartition('-')[2]}" in text
        assert not any(secret[at : at + 6] in text for at in range(len(secret) - 6))


def test_revoking_is_for_good_and_an_unknown_id_is_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made_key(home)
    ((key_id, *_),) = listed(home)
    assert inside("keys", "revoke", key_id, "--home", home).stdout == f"Revoked {key_id}.\n"
    assert inside("keys", "revoke", key_id, "--home", home).returncode == 0
    ((_, *row),) = listed(home)
    assert "archived" in row
    done = inside("keys", "revoke", "apikey_nope", "--home", home)
    assert (done.returncode, done.stderr) == (1, "antiphon: API key not found\n")


def test_a_running_server_honours_new_and_revoked_keys_within_a_second(tmp_path: Path) -> None:
    home = tmp_path / "home"
    script = tmp_path / "script.yaml"
    script.write_text("rules: []")
    server = Server(home, "--scripted", script).wait_ready()

    def works(client: anthropic.Anthropic) -> bool:
        try:
            return bool(client.messages.create(model="claude-opus-5-5", max_tokens=1, messages=HELLO))
        except anthropic.AuthenticationError:
            return False

    try:
        key = made_key(home)
        client = server.client(key)
        wait_until(lambda: works(client), "a new key that works", seconds=2)
        key_id = f"apikey_{key.split('-')[3]}"
        assert inside("keys", "revoke", key_id, "--home", home).returncode == 0
        began = time.monotonic()
        wait_until(lambda: not works(client), "a revoked key that does not", seconds=2)
        assert time.monotonic() - began < 2
        assert works(server.client())  # the first start's own is not touched
    finally:
        assert server.end() == 0
    assert key not in server.stderr
