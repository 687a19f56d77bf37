"""Keeps one engine child alive: starts it, watches it by its progress, kills it when it hangs, restarts it with
back-off.

A crash of the library therefore never takes the server down; those who were being answered hear of it through `Served`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Protocol

import structlog

from antiphon.core.clock import Clock
from antiphon.core.errors import EngineFailed
from antiphon.engine.frames import Command, Done, Failed, Load, Loaded, Ping, Pong, Renewed, Report
from antiphon.engine.link import Link

_log = structlog.get_logger()

_CONNECT_SECONDS = 30.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_WATCH_SECONDS = 0.25
_PING_SECONDS = 5.0


class Child:
    """One process and the socket to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        link: Link,
        folder: tempfile.TemporaryDirectory[str],
    ) -> None:
        self.process = process
        self.link = link
        self._folder = folder

    @classmethod
    async def spawn(cls, module: str) -> Child:
        """Start the child's program and connect to it.

        Raises:
            EngineFailed: it ended, or did not listen in time.
        """
        folder = tempfile.TemporaryDirectory(prefix="antiphon-")  # mode 0700: nobody else can connect
        path = str(Path(folder.name) / "engine.sock")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, path, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                while True:
                    if process.returncode is not None:
                        raise EngineFailed(f"the engine's process ended with {process.returncode} at its start")
                    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                        _, link = await asyncio.get_running_loop().create_unix_connection(Link, path)
                        return cls(process, link, folder)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise EngineFailed("the engine's process did not listen in time") from None
        finally:
            if sys.exc_info()[0] is not None:
                await _kill(process)
                folder.cleanup()

    async def end(self) -> None:
        """Kill the process and wait until it is gone."""
        self.link.close()
        await _kill(self.process)
        self._folder.cleanup()


async def _kill(process: asyncio.subprocess.Process) -> None:
    # Not `process.kill()`: that looks first whether the process has ended, and so takes its end from whom waits for it.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    await process.wait()


class Served(Protocol):
    """Whom a supervisor keeps the child for, and who hears of it."""

    def busy(self) -> bool:
        """Whether the child has work whose progress is due."""
        ...

    def reported(self, report: Report) -> None:
        """The child said something."""
        ...

    def ready(self) -> None:
        """A fresh child can be given work."""
        ...

    def lost(self, reason: str) -> None:
        """The child is gone, and all it was doing with it."""
        ...


class Supervisor:
    """One child, from each `start` to the next `stop`.

    Args:
        module: the child's program.
        load: what it is told first.
        stall_seconds: busy and silent for this long means hung.
        start_seconds: how long loading may take.
    """

    def __init__(
        self, module: str, load: Load, served: Served, clock: Clock, *, stall_seconds: float, start_seconds: float
    ) -> None:
        self._module = module
        self.load = load
        self._served = served
        self._clock = clock
        self._stall_seconds = stall_seconds
        self._start_seconds = start_seconds
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._heard = 0.0
        self.ready = False
        self.remembers = True
        self.reason = "starting"
        self.epoch = 0
        self.starts = 0
        self.failures = 0

    async def start(self) -> None:
        """Start the child and wait until it is ready once, or has failed once.

        Raises:
            EngineFailed: the first start failed. Nothing is left running then.
        """
        self._settled.clear()
        self.failures, self.reason = 0, "starting"
        self._task = asyncio.get_running_loop().create_task(self._keep_alive())
        try:
            await self._settled.wait()
        except asyncio.CancelledError:
            await self.stop()
            raise
        if not self.ready:
            reason = self.reason
            await self.stop()
            raise EngineFailed(reason)
        self.starts += 1

    async def stop(self) -> None:
        """End the child and do not start it again."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def send(self, command: Command) -> None:
        """Hand a command to the child.

        Raises:
            EngineFailed: there is none at present.
        """
        if self._child is None or not self.ready:
            raise EngineFailed(f"the engine is down: {self.reason}")
        self._child.link.send(command)

    def worked(self) -> None:
        """New work was given: silence counts from now."""
        self._heard = self._clock.monotonic()

    @property
    def restarts(self) -> int:
        """How often a child was made good that was lost."""
        return max(0, self.epoch - self.starts)

    @property
    def pid(self) -> int | None:
        return self._child.process.pid if self._child else None

    async def _keep_alive(self) -> None:
        while True:
            reason = "the server is stopping"
            child: Child | None = None
            try:
                child = await Child.spawn(self._module)
                await self._prepare(child)
                reason = await self._until_lost(child)
            except EngineFailed as error:
                reason = error.reason
            finally:
                # First tell, then tidy up: nobody may be seated on a child that is being ended.
                self.ready = False
                self.reason = reason
                self._child = None
                if child is not None:
                    child.link.close()
                self._served.lost(reason)
                if child is not None:
                    await asyncio.shield(child.end())
            self.failures += 1
            _log.warning("engine.lost", reason=reason, failures=self.failures)
            self._settled.set()
            await asyncio.sleep(min(_FIRST_PAUSE * 2 ** (self.failures - 1), _LONGEST_PAUSE))

    async def _until_lost(self, child: Child) -> str:
        """Serve until the child is gone, or has to go. Returns why."""
        watch = asyncio.get_running_loop().create_task(self._watch())
        child.link.follow(self._hear)
        try:
            done, _ = await asyncio.wait([watch, child.link.lost], return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            watch.cancel()

    async def _prepare(self, child: Child) -> None:
        child.link.send(self.load)
        try:
            async with asyncio.timeout(self._start_seconds):
                first = await asyncio.shield(child.link.first)
        except TimeoutError:
            raise EngineFailed("loading the model took too long") from None
        except asyncio.CancelledError:
            if not child.link.first.cancelled():
                raise
            raise EngineFailed(f"{child.link.lost.result()} while it loaded the model") from None
        if not isinstance(first, Loaded):
            raise EngineFailed(first.reason if isinstance(first, Failed) else "the engine's first word is unknown")
        self._child = child
        self.remembers = first.remembers
        self.ready = True
        self.reason = ""
        self.epoch += 1
        self._heard = self._clock.monotonic()
        _log.info("engine.ready", epoch=self.epoch, pid=child.process.pid)
        self._settled.set()
        self._served.ready()

    def _hear(self, report: Report) -> None:
        self._heard = self._clock.monotonic()
        if isinstance(report, Pong):
            self.failures = 0
            return
        if isinstance(report, Renewed):
            _log.info("engine.renewed", epoch=self.epoch, grammars=report.grammars)
        if isinstance(report, Done):
            self.failures = 0  # a child that is never idle is never asked
        self._served.reported(report)

    async def _watch(self) -> str:
        """By progress while there is work, because a port that answers proves nothing; by ping while there is none."""
        asked = self._clock.monotonic()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            now = self._clock.monotonic()
            silent = now - self._heard
            if self._served.busy():
                if silent > self._stall_seconds:
                    return f"no progress for {silent:.0f} s with work at hand"
            elif silent > self._stall_seconds + _PING_SECONDS:
                return f"no answer to a ping for {silent:.0f} s"
            if now - asked > _PING_SECONDS and self._child is not None:
                asked = now
                if not self._served.busy():
                    self._child.link.send(Ping(0))
