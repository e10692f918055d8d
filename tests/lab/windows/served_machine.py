"""A Windows machine of the tests with all it has: its PowerShell, its power, and how it is seen from the network."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.windows.certificates import Authority
from tests.lab.windows.executor import Cancelled, OnOutput, Stdin
from tests.lab.windows.machine import WindowsMachine
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.windows_host import Options, WindowsHost

_POWERSHELL = frozenset({"powershell", "powershell.exe"})


class MachineExecutor:
    """Has a machine's PowerShell run what remote shells start. It begins when its input has ended."""

    def __init__(self, machine: WindowsMachine) -> None:
        self._machine = machine

    def run(self, arguments: Sequence[str], stdin: Stdin, logon: str, on_output: OnOutput) -> int:
        name = arguments[0].replace("\\", "/").rsplit("/", 1)[-1].lower()
        if name not in _POWERSHELL:
            on_output("stderr", f"'{arguments[0]}' is not recognized as an internal or external command".encode())
            return 9009
        sent = stdin.read()
        try:
            call = self._machine.powershell.call(
                arguments[1:],
                sent,
                logon="system" if logon == "system" else "network",
                on_output=lambda stream, data: on_output("stderr" if stream == "stderr" else "stdout", data),
            )
        except ConnectionError as error:
            raise Cancelled from error
        stdin.on_cancel(call.cancel)
        call.ended.wait()
        if call.exit_code is None or stdin.cancelled:
            raise Cancelled
        return call.exit_code


class ServedMachine:
    """A machine and its network side. What one does to its power, the other follows.

    Attributes:
        machine: what happens on it.
        host: how it is reached.
    """

    def __init__(
        self,
        folder: Path,
        scenario: Scenario | None = None,
        *,
        authority: Authority | None = None,
        options: Options | None = None,
    ) -> None:
        scenario = scenario or Scenario()
        self.machine = WindowsMachine(folder, scenario, self._hear)
        executor = MachineExecutor(self.machine)
        self.host = WindowsHost(scenario.name, folder / "network", executor, authority=authority, options=options)
        self.host.before_power_off = self._cut_power
        self.host.before_power_on = self._restore_power

    def start(self) -> None:
        """Switch it on; it can be reached when this returns."""
        self.machine.start()

    def close(self) -> None:
        """Switch it off for good."""
        self.machine.close()
        self.host.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hear(self, power: str) -> None:
        """The machine went off or on by itself, as at a restart that was ordered on it."""
        if power == "on":
            self.host.power_on()
        elif self.host.is_on:  # or the host itself has cut its power
            self.host.power_off()

    def _cut_power(self) -> None:
        if self.machine.is_up:
            self.machine.power_cut(and_on=False)

    def _restore_power(self) -> bool:
        """Boot it, unless it has; False: it stays off."""
        if not self.machine.is_up:
            self.machine.power_cut()  # there is nothing to cut: what counts is that it is switched on again
        return self.machine.is_up
