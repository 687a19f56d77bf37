"""LiteLLM's proxy as `bench.peers` runs it: installed once in an environment of its own, configured to do the least.

It is set up in its own favour: one worker, as its documentation recommends; no database, no callbacks, no telemetry, no
access log, prices from the file that it brings. It has what its own package asks for, and nothing else. What remains to
it is to check the key, route to a model, forward, and reckon what the answer cost.

`python -m bench.peer_litellm PYTHON FOLDER PORT [native]` becomes the proxy, so that a bench starts it like any other
server; `native` opts into its beta, the Messages API through compiled code.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from bench.load import Unmeasurable

_REQUIREMENTS = Path(__file__).parent / "litellm.txt"
_CONFIG = "litellm.yaml"
#: Its console script's shebang would name the folder that the environment was made in, before it was renamed.
_RUN = "import sys, litellm; sys.exit(litellm.run_server())"


def python(kept: Path) -> Path:
    """The interpreter of the environment that holds it, made at first.

    The folder is named after what is in it, so that a changed pin is another one; it gets that name when it is whole.

    Raises:
        Unmeasurable: it cannot be installed; says why.
    """
    recipe = _REQUIREMENTS.read_bytes() + sys.version.encode()
    folder = kept / f"litellm-{hashlib.sha256(recipe).hexdigest()[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "litellm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with its holder
        if not folder.is_dir():
            for left in kept.glob("litellm-*"):
                shutil.rmtree(left)
            growing = kept / "litellm-unfinished"
            _install(growing)
            growing.rename(folder)
    return folder / "bin" / "python"


def version() -> str:
    """The one that is pinned."""
    for line in _REQUIREMENTS.read_text("utf-8").splitlines():
        name, _, rest = line.partition("==")
        if name == "litellm":
            return rest.split()[0]
    raise Unmeasurable(f"{_REQUIREMENTS.name} does not name litellm")


def configure(folder: Path, *, model: str, key: str, upstream: int) -> None:
    """Write what it is to serve: one model, at the upstream on that port."""
    target = {"model": f"anthropic/{model}", "api_base": f"http://127.0.0.1:{upstream}", "api_key": "none"}
    config = {
        "model_list": [{"model_name": model, "litellm_params": target}],
        "general_settings": {"master_key": key},
    }
    (folder / _CONFIG).write_bytes(msgspec.json.encode(config))  # JSON is YAML


def _install(folder: Path) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(_REQUIREMENTS)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise Unmeasurable(
                f"LiteLLM {version()} cannot be installed, so there is no peer to measure:\n{said[-1500:]}"
            )


def _become(interpreter: str, folder: str, port: str, native: str = "") -> None:
    """The same process goes on as the proxy, without this machine's settings, accounts and proxies."""
    environment = {
        "PATH": os.defpath,
        "HOME": folder,
        "LANG": "C.UTF-8",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_LOCAL_BLOG_POSTS": "True",
        "DISABLE_ADMIN_UI": "True",
        "LITELLM_RUST": str(bool(native)),
    }
    command = [interpreter, "-c", _RUN, "--config", _CONFIG, "--host", "127.0.0.1", "--port", port]
    command += ["--num_workers", "1", "--telemetry", "False"]
    os.chdir(folder)  # where no .env lies
    os.execve(interpreter, command, environment)


if __name__ == "__main__":
    _become(*sys.argv[1:])
