"""`antiphon users`: how an installation gets its first admin."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from command import Server, inside, made_key


def test_the_first_admin_is_made_and_acts_by_a_key_of_their_own(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = inside("users", "add", "Her@Example.org", "--name", "Her [bold]", "--role", "admin", "--home", home)
    assert done.returncode == 0, done.stderr
    user = done.stdout.split()[1]
    assert done.stdout == f"Added {user} as admin.\n"
    inside("users", "add", "him@example.org", "--home", home)
    rows = [line.split() for line in inside("users", "list", "--home", home, COLUMNS="40").stdout.splitlines()[1:]]
    assert [row[1] for row in rows] == ["him@example.org", "her@example.org"]
    assert rows[1][:5] == [user, "her@example.org", "Her", "[bold]", "admin"]
    assert rows[0][2:4] == ["him@example.org", "user"]
    script = tmp_path / "script.yaml"
    script.write_text("rules: []")
    key = made_key(home, "--admin")
    server = Server(home, "--scripted", script).wait_ready()
    try:
        body = {"name": "hers", "unscoped": True, "user_id": user}
        made = httpx2.post(f"{server.base_url}/v1/organizations/api_keys", json=body, headers={"x-api-key": key})
        own = server.client(made.json()["key"])
        assert own.organization.users.retrieve(user).role == "admin"
    finally:
        server.end()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "antiphon: An address is like name@example.com, and a name a line of text\n"),
        (["a@b", "--name", "two\nlines"], "antiphon: An address is like name@example.com, and a name a line of text\n"),
        (["a@b", "--role", "boss"], "antiphon: There is no role 'boss'; there are"),
    ],
)
def test_who_cannot_be_added_is_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = inside("users", "add", *arguments, "--home", tmp_path / "home")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(told)


def test_an_address_is_somebody_s_once(tmp_path: Path) -> None:
    assert inside("users", "add", "a@b", "--home", tmp_path).returncode == 0
    again = inside("users", "add", " A@B ", "--home", tmp_path)
    assert again.stderr == "antiphon: email: a@b already belongs to a user of this organization\n"
