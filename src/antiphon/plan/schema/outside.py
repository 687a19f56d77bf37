"""Schema work in a process of its own, which can be killed: nothing that a schema asks for holds up the event loop, or
goes on for ever (faults B5, B6).

The child (`child`) is started when first needed (0.1 to 0.3 s) and lives on; tasks are done one after the other.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from threading import Lock
from typing import Any

import msgspec

from antiphon.core.errors import InvalidRequest, Overloaded
from antiphon.plan.schema.child import LENGTH, Refused, Reply

PROGRAM = (sys.executable, "-m", "antiphon.plan.schema.child")
#: Processor time that one task may take, and memory: address space, of which the interpreter takes 50 MB.
CPU_SECONDS = 1.0
MEMORY_BYTES = 512 << 20
#: A child that says nothing for so long hangs: far longer than its processor time lasts on a busy machine.
SILENCE_SECONDS = 20.0
#: How long a task waits for those before it.
QUEUE_SECONDS = 10.0
#: Nothing that one task comes to is larger.
_MAX_ANSWER = 64 << 20

_replies = msgspec.msgpack.Decoder(Reply)


class Spent(Exception):
    """The task took more time or memory than it may have. The same again would, too."""


class Outside:
    """The child, seen from here. Every method blocks, and is for threads; safe from several."""

    def __init__(
        self,
        program: Sequence[str] = PROGRAM,
        *,
        cpu_seconds: float = CPU_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._command = (*program, str(cpu_seconds), str(memory_bytes))
        self._silence_seconds = silence_seconds
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, task: dict[str, Any]) -> Reply:
        """Have one task done (`child.do`).

        Raises:
            InvalidRequest: what it comes to.
            Spent: it was ended.
            Overloaded: too many tasks wait.
        """
        data = marshal.dumps(task)
        if not self._lock.acquire(timeout=QUEUE_SECONDS):
            raise Overloaded
        try:
            reply = self._ask(LENGTH.pack(len(data)) + data)
        finally:
            self._lock.release()
        if isinstance(reply.answer, Refused):
            raise InvalidRequest(reply.answer.message, path=reply.answer.path)
        return reply

    def close(self) -> None:
        """End the child. It is started again if a task comes all the same."""
        with self._lock:
            self._end()

    def _ask(self, data: bytes) -> Reply:
        child = self._running()
        try:
            self._tell(child, data)
            reply: Reply = _replies.decode(self._heard(child))
        except BaseException as error:
            self._end()
            if isinstance(error, OSError | EOFError | msgspec.MsgspecError):
                raise Spent from None
            raise
        return reply

    def _tell(self, child: subprocess.Popen[bytes], data: bytes) -> None:
        if child.stdin is None:
            raise EOFError
        child.stdin.write(data)
        child.stdin.flush()

    def _heard(self, child: subprocess.Popen[bytes]) -> bytes:
        """The next answer, or EOFError where the child ends or hangs."""
        end = time.monotonic() + self._silence_seconds
        heard, wanted = bytearray(), LENGTH.size
        while len(heard) < wanted:
            if child.stdout is None or not select.select([child.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise EOFError
            data = os.read(child.stdout.fileno(), 1 << 20)
            heard += data
            if len(heard) >= LENGTH.size:
                wanted = LENGTH.size + LENGTH.unpack_from(heard)[0]
            if not data or wanted > _MAX_ANSWER:
                raise EOFError
        return bytes(heard[LENGTH.size :])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._end()
            self._child = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not yet written
                    pipe.close()
        child.wait()
