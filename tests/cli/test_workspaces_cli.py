from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
import pytest

from command import Server, inside, made_key, wait_until

#: The SDK's own word about old ids, which is not what is asked here.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")

HELLO: Any = [{"role": "user", "content": "Hello"}]


def listed(home: Path, **environment: str) -> list[list[str]]:
    """The rows of `workspaces list`."""
    done = inside("workspaces", "list", "--home", home, **environment)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()[1:]]


def test_a_workspace_is_made_shown_and_set(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = inside("workspaces", "create", "Lab [bold]", "--profile", "claude", "--home", home)
    lab = made.stdout.removeprefix("Made ").rstrip(".\n")
    assert lab.startswith("wrkspc_01")
    first, second = listed(home, COLUMNS="40")
    assert first[:4] == ["wrkspc_default", "Default", "default", "(model)"]
    assert second[:4] == [lab, "Lab", "[bold]", "claude"]
    for wanted, profile in (("Lab [bold]", "model"), (lab, "default"), ("Default", "claude")):
        done = inside("workspaces", "set", wanted, "--profile", profile, "--home", home)
        assert done.stdout.endswith(f" is {profile}.\n")
    assert [row[-2] for row in listed(home, ANTIPHON_PROFILE="claude")] == ["claude", "(claude)"]
    assert [row[-2] for row in listed(home)] == ["claude", "(model)"]


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["create", "Default"], 1, "antiphon: name: A workspace of this name already exists\n"),
        (["create", " "], 1, "antiphon: A workspace needs a name\n"),
        (["set", "Nobody", "--profile", "claude"], 1, "antiphon: There is no workspace Nobody\n"),
        (["set", "Default", "--profile", "gemini"], 2, None),
        (["set", "Default"], 2, None),
    ],
)
def test_what_cannot_be_done_is_told(tmp_path: Path, arguments: list[str], status: int, told: str | None) -> None:
    done = inside("workspaces", *arguments, "--home", tmp_path / "home")
    assert (done.returncode, done.stdout) == (status, "")
    assert told is None or done.stderr == told


def test_a_running_server_takes_up_another_profile_within_a_second(tmp_path: Path) -> None:
    home = tmp_path / "home"
    script = tmp_path / "script.yaml"
    script.write_text("rules: []")
    keys = made_key(home, "--workspace", "Lab"), made_key(home)
    server = Server(home, "--scripted", script).wait_ready()

    def refused(client: anthropic.Anthropic) -> bool:
        try:
            client.messages.create(model="claude-3-opus-20240229", max_tokens=1, messages=HELLO)
        except anthropic.NotFoundError:
            return True
        return False

    try:
        lab, default = map(server.client, keys)
        assert not refused(lab)
        for profile, refuses in (("claude", True), ("default", False)):
            assert inside("workspaces", "set", "Lab", "--profile", profile, "--home", home).returncode == 0
            wait_until(lambda refuses=refuses: refused(lab) == refuses, f"the profile {profile}", seconds=3)
            assert not refused(default)
    finally:
        assert server.end() == 0
