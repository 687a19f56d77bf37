"""Whether a server is there for others while it is busy with one request, seen from outside.

A probe asks `HEAD /` every 5 ms over a connection that stays open: an event loop that is held up answers
late. A stream of one token each 20 ms runs beside it: what holds its tokens up is a gap. Both in threads that sleep
nearly always, so that the one who sends the request in question does not hold them up himself.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.load import Unmeasurable

_EVERY_S = 0.005
_HEAD = b"HEAD / HTTP/1.1\r\nhost: bench\r\n\r\n"
_DELTA = b"event: content_block_delta"
#: A server that says nothing for so long is not measured but broken.
_SILENCE_S = 120.0


class _Thread:
    """Runs until it is told to stop, and keeps spans of time: (begin, end), by `perf_counter`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._spans: list[tuple[float, float]] = []
        self._failure: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, daemon=True)
        self._thread.start()

    def worst(self, begin: float, end: float) -> float:
        """The longest span, in ms, that touches this time. Waits until one has begun after it.

        Raises:
            Unmeasurable: the server hung up, or is silent.
        """
        while not self._spans or self._spans[-1][0] < end:
            if self._failure is not None:
                raise Unmeasurable(f"the server broke off what ran beside: {self._failure}")
            if time.perf_counter() > end + _SILENCE_S:
                raise Unmeasurable("the server is silent")
            time.sleep(_EVERY_S)
        return max(after - before for before, after in self._spans if after >= begin and before <= end) * 1000

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _guarded(self) -> None:
        try:
            self._run()
        except (OSError, Unmeasurable) as error:
            if not self._stop.is_set():
                self._failure = error

    def _run(self) -> None:
        raise NotImplementedError


class Probe(_Thread):
    """Round trips of a request that costs the server nothing."""

    def _run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), _SILENCE_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._stop.wait(_EVERY_S):
                began = time.perf_counter()
                connection.sendall(_HEAD)
                if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                    raise Unmeasurable("`HEAD /` was not answered")
                self._spans.append((began, time.perf_counter()))


class Stream(_Thread):
    """Times between the tokens of a stream; when one ends, the next one begins."""

    def __init__(self, port: int, request: bytes) -> None:
        self._request = request
        super().__init__(port)

    def _run(self) -> None:
        while not self._stop.is_set():
            with socket.create_connection(("127.0.0.1", self._port), _SILENCE_S) as connection:
                connection.sendall(self._request)
                self._read(connection)

    def _read(self, connection: socket.socket) -> None:
        last = 0.0
        while not self._stop.is_set() and (data := connection.recv(65536)):
            now = time.perf_counter()
            if b"event: error" in data:
                raise Unmeasurable(f"the stream broke off: {data[:300]!r}")
            if _DELTA in data:
                if last:
                    self._spans.append((last, now))
                last = now


class Pulse:
    """Both together."""

    def __init__(self, port: int, stream: bytes) -> None:
        self.probe = Probe(port)
        self.stream = Stream(port, stream)


@contextmanager
def pulse(port: int, stream: bytes) -> Iterator[Pulse]:
    """Watch a server for as long as the block runs. `stream` is the raw request of a slow stream."""
    both = Pulse(port, stream)
    try:
        time.sleep(0.5)  # both are under way
        yield both
    finally:
        both.probe.close()
        both.stream.close()
