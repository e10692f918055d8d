"""The channel to the controller's own system: a child process."""

import os
import selectors
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, cast

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
        streams = cast("tuple[IO[bytes], IO[bytes], IO[bytes]]", (child.stdin, child.stdout, child.stderr))
        try:
            if self._exchange_streams(*streams, stdin, decoder, deadline):
                return None
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return child.wait(deadline.require_seconds(self._clock, _POLL_SECONDS))
        finally:
            for stream in streams:
                with suppress(OSError):
                    stream.close()
            if child.poll() is None:  # it is not killed; the thread only waits for its end
                threading.Thread(target=child.wait, name="fleetpatch-reaper", daemon=True).start()

    def execute_in_shell(
        self,
        command: Sequence[str],
        opening: bytes,
        script_input: bytes,
        decoder: ScriptOutputDecoder,
        *,
        deadline: Deadline,
    ) -> int | None:
        """Run a command in its own session: to start one costs little here. See ShellChannel."""
        return self.execute(command, opening + script_input, decoder, deadline=deadline)

    def close(self) -> None:
        """Do nothing: there is no connection to close."""

    def _exchange_streams(
        self,
        child_stdin: IO[bytes],
        stdout: IO[bytes],
        stderr: IO[bytes],
        data: bytes,
        decoder: ScriptOutputDecoder,
        deadline: Deadline,
    ) -> bool:
        """Send the input and read the output, until the answer is complete (True) or the streams end."""
        unsent = memoryview(data)
        with selectors.DefaultSelector() as selector:
            for stream in (child_stdin, stdout, stderr):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_WRITE if stream is child_stdin else selectors.EVENT_READ)
            while len(selector.get_map()) > 0:
                for key, _ in selector.select(deadline.require_seconds(self._clock, _POLL_SECONDS)):
                    if key.fileobj is child_stdin:
                        unsent = _write_stdin(selector, child_stdin, unsent)
                    elif not (output := os.read(key.fd, _CHUNK_BYTES)):
                        selector.unregister(key.fileobj)
                    elif key.fileobj is stderr:
                        decoder.feed_stderr(output)
                    elif decoder.feed_stdout(output):
                        with suppress(BlockingIOError):  # what was written before the answer's end; no wait for more
                            decoder.feed_stderr(os.read(stderr.fileno(), _CHUNK_BYTES))
                        return True
        return False


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
