"""The machine that fleetpatch itself runs on: a line like any other, made of a child process."""

import os
import selectors
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from tasks.errors import DeadlineExceeded, Unreachable
from tasks.rules.environment import minimal
from tasks.seams.clock import Clock, Deadline
from tasks.transport.framing import Decoder

_CHUNK = 65_536


class LocalLine:
    """Runs commands as the user that fleetpatch runs as, in an environment like that of a login over SSH."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def open(self) -> bool:
        """Always: there is no line to cut."""
        return True

    def exchange(self, words: Sequence[str], stdin: bytes, decoder: Decoder, *, deadline: Deadline) -> int | None:
        """Run a command in a session of its own. See Line."""
        try:
            child = subprocess.Popen(
                list(words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
                env=minimal(os.environ),
            )
        except OSError as error:
            raise Unreachable(f"{words[0]} can't be run here: {error.strerror}") from error
        try:
            return self._talk(child, stdin, decoder, deadline)
        finally:
            for stream in (child.stdin, child.stdout, child.stderr):
                with suppress(OSError):
                    _some(stream).close()
            if child.poll() is None:  # it is left alone, and only its end is waited for
                threading.Thread(target=child.wait, name="fleetpatch-reaper", daemon=True).start()

    def close(self) -> None:
        """Nothing to give up."""

    def _talk(self, child: subprocess.Popen[bytes], stdin: bytes, decoder: Decoder, deadline: Deadline) -> int | None:
        todo = memoryview(stdin)
        with selectors.DefaultSelector() as selector:
            for stream, event in (
                (child.stdin, selectors.EVENT_WRITE),
                (child.stdout, selectors.EVENT_READ),
                (child.stderr, selectors.EVENT_READ),
            ):
                os.set_blocking(_some(stream).fileno(), False)
                selector.register(_some(stream), event)
            while len(selector.get_map()) > 0:
                for key, _ in selector.select(self._left(deadline)):
                    if key.fileobj is child.stdin:
                        todo = _write(selector, _some(child.stdin), todo)
                    elif _read(selector, _some(child.stdout), _some(child.stderr), key.fd, decoder):
                        _note_rest(_some(child.stderr), decoder)
                        return None
        while True:
            with suppress(subprocess.TimeoutExpired):
                return child.wait(self._left(deadline))

    def _left(self, deadline: Deadline) -> float:
        left = deadline.remaining(self._clock)
        if left <= 0:
            raise DeadlineExceeded("the machine did not answer in the time it was given")
        return min(left, 1.0)


def _some(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the child has no such stream")
    return stream


def _write(selector: selectors.BaseSelector, stream: IO[bytes], todo: memoryview) -> memoryview:
    try:
        todo = todo[os.write(stream.fileno(), todo[:_CHUNK]) :]
    except BrokenPipeError:  # it went without reading all; what it said tells why
        todo = todo[:0]
    if not todo:
        selector.unregister(stream)
        with suppress(BrokenPipeError):
            stream.close()
    return todo


def _note_rest(err: IO[bytes], decoder: Decoder) -> None:
    """Take in what stands on stderr by now: it was said before the answer's end, and is not waited for."""
    with suppress(BlockingIOError):
        decoder.note(os.read(err.fileno(), _CHUNK))


def _read(selector: selectors.BaseSelector, out: IO[bytes], err: IO[bytes], fd: int, decoder: Decoder) -> bool:
    """Take in what is there; returns whether the answer is complete."""
    data = os.read(fd, _CHUNK)
    stream = out if fd == out.fileno() else err
    if not data:
        selector.unregister(stream)
        return False
    if stream is err:
        decoder.note(data)
        return False
    return decoder.feed(data)
