"""Work on files that may be hostile, in a short-lived child process with limits on time and memory.

The parent calls `run`; the child's program begins with `limit_memory` and ends with `ended`.
"""

from __future__ import annotations

import os
import resource
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from antiphon.core.errors import WeightsError

#: Exit status of a child that refused its input and said why on standard error.
_REFUSED = 3


def run(module: str, arguments: list[str], *, what: str, seconds: float) -> None:
    """Run `python -m module arguments` to its end. `what` is what the messages call the input.

    Raises:
        WeightsError: the child refused its input, took too long, or died.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(f"Reading {what} took longer than {seconds:.0f} s") from None
    except OSError as error:
        raise WeightsError(f"The reader of {what} cannot be started ({type(error).__name__})") from None
    if done.returncode == _REFUSED:
        raise WeightsError(done.stderr.decode(errors="replace").strip()[-500:])
    if done.returncode != 0:
        raise WeightsError(f"The reader of {what} ended with status {done.returncode}")


def limit_memory(most: int) -> None:
    """In the child: give up above so many bytes of address space."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def ended(work: Callable[[], bytes], out: Path) -> int:
    """In the child: do the work, put its result in place in one step, and give the exit status.

    No half-written result is ever seen under the name `out`.
    """
    fresh = out.with_name(f"{out.name}.{secrets.token_hex(8)}.part")
    try:
        result = work()
        out.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(result)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(out)
    except WeightsError as error:
        sys.stderr.write(error.message)
        return _REFUSED
    except (OSError, MemoryError) as error:
        sys.stderr.write(f"{out.name} cannot be made ({type(error).__name__})")
        return _REFUSED
    finally:
        fresh.unlink(missing_ok=True)
    return 0
