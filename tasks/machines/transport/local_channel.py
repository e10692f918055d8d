"""The channel to the controller's own system: a child process."""

import os
import selectors
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from tasks.domain.errors import Unreachable
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.transport.output_decoder import ScriptOutputDecoder
from tasks.rules.child_environment import build_child_environment

_CHUNK_BYTES = 65_536
_POLL_SECONDS = 1.0
"""The longest single wait, in seconds; the deadline is checked in between."""


class LocalShellChannel:
    """Runs commands as fleetpatch's own user, in an environment like that of a login over SSH."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def is_open(self) -> bool:
        """Always true: there is no connection."""
        return True

    def execute(
        self, command: Sequence[str], stdin: bytes, decoder: ScriptOutputDecoder, *, deadline: Deadline
    ) -> int | None:
        """Run a command in its own session. See ShellChannel."""
        try:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
                env=build_child_environment(os.environ),
            )
        except OSError as error:
            raise Unreachable(f"{command[0]} can't be run here: {error.strerror}") from error
        try:
            return self._exchange_streams(child, stdin, decoder, deadline)
        finally:
            for stream in (child.stdin, child.stdout, child.stderr):
                with suppress(OSError):
                    _require_stream(stream).close()
            if child.poll() is None:  # it is not killed; the thread only waits for its end
                threading.Thread(target=child.wait, name="fleetpatch-reaper", daemon=True).start()

    def close(self) -> None:
        """Do nothing: there is no connection to close."""

    def _exchange_streams(
        self, child: subprocess.Popen[bytes], stdin: bytes, decoder: ScriptOutputDecoder, deadline: Deadline
    ) -> int | None:
        unsent = memoryview(stdin)
        with selectors.DefaultSelector() as selector:
            for stream, event in (
                (child.stdin, selectors.EVENT_WRITE),
                (child.stdout, selectors.EVENT_READ),
                (child.stderr, selectors.EVENT_READ),
            ):
                os.set_blocking(_require_stream(stream).fileno(), False)
                selector.register(_require_stream(stream), event)
            while len(selector.get_map()) > 0:
                for key, _ in selector.select(deadline.require_seconds(self._clock, _POLL_SECONDS)):
                    if key.fileobj is child.stdin:
                        unsent = _write_stdin(selector, _require_stream(child.stdin), unsent)
                    elif _read_output(
                        selector, _require_stream(child.stdout), _require_stream(child.stderr), key.fd, decoder
                    ):
                        with suppress(BlockingIOError):  # what was written before the answer's end; no wait for more
                            decoder.feed_stderr(os.read(_require_stream(child.stderr).fileno(), _CHUNK_BYTES))
                        return None
        while True:
            with suppress(subprocess.TimeoutExpired):
                return child.wait(deadline.require_seconds(self._clock, _POLL_SECONDS))


def _require_stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the child has no such stream")
    return stream


def _write_stdin(selector: selectors.BaseSelector, stream: IO[bytes], unsent: memoryview) -> memoryview:
    try:
        unsent = unsent[os.write(stream.fileno(), unsent[:_CHUNK_BYTES]) :]
    except BrokenPipeError:  # it ended without reading everything; its output says why
        unsent = unsent[:0]
    if not unsent:
        selector.unregister(stream)
        with suppress(BrokenPipeError):
            stream.close()
    return unsent


def _read_output(
    selector: selectors.BaseSelector, out: IO[bytes], err: IO[bytes], fd: int, decoder: ScriptOutputDecoder
) -> bool:
    """Read what is available. Return whether the answer is complete."""
    data = os.read(fd, _CHUNK_BYTES)
    stream = out if fd == out.fileno() else err
    if not data:
        selector.unregister(stream)
        return False
    if stream is err:
        decoder.feed_stderr(data)
        return False
    return decoder.feed_stdout(data)
