"""The schema child: `python -m antiphon.plan.schema.child SECONDS BYTES`, started by `outside`.

It answers one task after the other, on standard input and output: the length in four bytes (big endian), then `marshal`
on the way in, which alone holds any number that a schema may, and msgpack on the way out. The kernel ends it when one
task has had SECONDS of processor time, also inside of a library, and it gets no more than BYTES of memory. It ends with
its standard input.
"""

from __future__ import annotations

import marshal
import resource
import signal
import struct
import sys
import time
from typing import Any, BinaryIO, TypeAlias

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.plan.schema.documented import Demand, check
from antiphon.plan.schema.examples import check_examples
from antiphon.plan.schema.lowering import Lowered, Spacing, lower

LENGTH = struct.Struct(">I")


class Checked(msgspec.Struct, frozen=True, tag="checked"):
    """The schema is of the documented subset; what it takes of the request's limits."""

    demand: Demand


class Fitting(msgspec.Struct, frozen=True, tag="fitting"):
    """All examples fit."""


class Written(msgspec.Struct, frozen=True, tag="written"):
    """The grammar."""

    lowered: Lowered


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """What the client is told."""

    message: str
    path: str | None


Answer: TypeAlias = Checked | Fitting | Written | Refused


class Reply(msgspec.Struct, frozen=True):
    """An answer, and the processor time that it took."""

    answer: Answer
    seconds: float


def do(task: dict[str, Any]) -> Answer:
    """One task: `do` says what, the rest are the arguments.

    Raises:
        InvalidRequest: as the functions behind it do.
    """
    schema, path = task["schema"], task["path"]
    match task["do"]:
        case "check":
            return Checked(check(schema, path, tool=task["tool"]))
        case "examples":
            check_examples(schema, task["examples"], path)
            return Fitting()
    spacing = Spacing(*task["spacing"])
    return Written(lower(schema, spacing, strict=task["strict"], prefix=task["prefix"], path=path))


def _answer(data: bytes) -> Answer:
    try:
        return do(marshal.loads(data))  # noqa: S302 - written by our own parent, of plain values
    except InvalidRequest as error:
        told = error.message.removeprefix(f"{error.path}: ") if error.path else error.message
        return Refused(told, error.path)


def serve(commands: BinaryIO, answers: BinaryIO, seconds: float) -> None:
    """Work until there is no more to read."""
    while len(head := commands.read(LENGTH.size)) == LENGTH.size:
        data = commands.read(LENGTH.unpack(head)[0])
        signal.setitimer(signal.ITIMER_PROF, seconds)
        before = time.process_time()
        answer = _answer(data)
        reply = msgspec.msgpack.encode(Reply(answer, time.process_time() - before))
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(LENGTH.pack(len(reply)) + reply)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]))
