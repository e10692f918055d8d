"""A look at each script that this process runs on a machine."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script
from tasks.machines.transport.output_decoder import ScriptOutput
from tasks.machines.transport.posix_shell import PosixShell


@contextmanager
def watch_scripts(watch: Callable[[str], AbstractContextManager[object]]) -> Iterator[None]:
    """Run each script within what ``watch`` returns for its name, also one that fails."""
    execute = PosixShell._execute_script

    def execute_watched(shell: PosixShell, script: Script, deadline: Deadline) -> ScriptOutput:
        with watch(script.name):
            return execute(shell, script, deadline)

    with patch.object(PosixShell, "_execute_script", execute_watched):
        yield
