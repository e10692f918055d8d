"""Commands on the machine at which a provider is asked: the hypervisor host, or the machine itself."""

from collections.abc import Sequence
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import DeadlineExceeded, ProviderError, ProviderUnavailable, TransportError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Script, ScriptParameter, ScriptRecord, ScriptResult, Transport

_PACKAGE: Final = "tasks.machines.providers"


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What a command has printed, and its exit code."""

    text: str
    exit_code: int
    stderr: str


class HostCommands:
    """Runs commands with administrator rights, without a shell between their words. Not thread-safe."""

    def __init__(self, transport: Transport, clock: Clock, host: str) -> None:
        """``host`` is the name of the machine, for messages."""
        self._transport = transport
        self.clock = clock
        self.host = host

    def ask(self, commands: Sequence[Sequence[str]], *, deadline: Deadline) -> tuple[CommandAnswer, ...]:
        """Run commands that change nothing, in one call. Return their answers in order.

        Raise ProviderError for an answer that is not valid, or a refused login; ProviderUnavailable without an answer.
        """
        return self._run(commands, "", deadline, read_only=True)

    def order(self, *words: str, text: str = "", deadline: Deadline) -> CommandAnswer:
        """Run one command with a text on its stdin. It raises as ``ask``: then it may have run."""
        return self._run([words], text, deadline, read_only=False)[0]

    def run_script(
        self, name: str, parameters: dict[str, str], *, deadline: Deadline, read_only: bool = False
    ) -> ScriptResult:
        """Run a script of this package. It may change something, unless it is ``read_only``. It raises as ``ask``."""
        return self._send(Script(name, parameters, read_only=read_only, package=_PACKAGE), deadline)

    def _run(
        self, commands: Sequence[Sequence[str]], text: str, deadline: Deadline, *, read_only: bool
    ) -> tuple[CommandAnswer, ...]:
        words = tuple(word for command in commands for word in (*command, ";"))
        if any("\n" in word or word == ";" for command in commands for word in command):
            raise ProviderError(
                f"{self.host}: a name is a semicolon, or has a line break: {commands}", hint="Rename it."
            )
        parameters: dict[str, ScriptParameter] = {"commands": words, "input": text}
        result = self._send(Script("provider_commands", parameters, read_only=read_only, package=_PACKAGE), deadline)
        sections = result.find_records("section")
        if not result.find_records("ended") or len(sections) != len(commands):
            raise ProviderError(
                f"{self.host}: the answer is incomplete (exit code {result.exit_code}): {result.unframed_output[-300:]}"
            )
        return tuple(_read_answer(section) for section in sections)

    def _send(self, script: Script, deadline: Deadline) -> ScriptResult:
        try:
            return self._transport.run_script(script, deadline=deadline)
        except TransportError as error:
            is_away = error.transient or isinstance(error, DeadlineExceeded)
            kind = ProviderUnavailable if is_away else ProviderError
            raise kind(f"{self.host}: {error.message}", hint=error.hint) from error


def _read_answer(section: ScriptRecord) -> CommandAnswer:
    code = section.get("exit_code")
    return CommandAnswer(
        str(section.get("text", "")), code if isinstance(code, int) else 1, str(section.get("stderr", "")).strip()
    )
