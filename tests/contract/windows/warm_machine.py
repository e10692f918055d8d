"""A Windows machine of the tests as a Transport, without WinRM: PowerShellHost on its warm PowerShell."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.domain.errors import ConnectionLost, DeadlineExceeded
from tasks.domain.protocols.clock import Clock, Deadline, SystemClock
from tasks.domain.protocols.transport import Script
from tasks.machines.transport.output_decoder import ScriptOutputDecoder
from tasks.machines.transport.powershell_host import PowerShellHost
from tasks.machines.transport.script_library import ScriptLoader, load_windows_script
from tests.lab.windows.machine import WindowsMachine
from tests.lab.windows.powershell_process import Call, Logon, find_powershell
from tests.lab.windows.scenario import Scenario

CLOCK = SystemClock()


class WarmChannel:
    """Runs command lines on a machine's warm PowerShell, as the login of a connection does."""

    def __init__(self, machine: WindowsMachine, clock: Clock = CLOCK, logon: Logon = "network") -> None:
        self._machine = machine
        self._clock = clock
        self._logon = logon
        self.is_open = True
        self.call: Call | None = None

    def execute(
        self,
        command_line: str,
        stdin: bytes,
        decoder: ScriptOutputDecoder,
        *,
        deadline: Deadline,
        may_be_ended: bool = False,
    ) -> int | None:
        """Run it, and wait for its end; see PowerShellChannel."""
        pieces: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        words = command_line.split()[1:]

        def keep(name: str, data: bytes) -> None:
            pieces[name].append(data)

        try:
            self.call = self._machine.powershell.call(words, stdin, logon=self._logon, on_output=keep)
            code = self.call.wait(max(0.0, deadline.remaining_seconds(self._clock)))
        except TimeoutError as error:
            raise DeadlineExceeded("the machine did not answer in the time it was given") from error
        except ConnectionError as error:
            raise ConnectionLost(str(error)) from error
        decoder.feed_stderr(b"".join(pieces["stderr"]))
        if not decoder.feed_stdout(b"".join(pieces["stdout"])) and code is None:
            raise ConnectionLost("the machine lost its power")
        return code

    def close(self) -> None:
        """Nothing stays open."""
        self.is_open = False


class WarmMachine:
    """A machine that is on, with places for tests: each one is a folder of fleetpatch of its own."""

    def __init__(self, scenario: Scenario | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="windows-"))
        self.windows = WindowsMachine(self.folder / "machine", scenario or Scenario())
        self.windows.start()
        self._numbers = itertools.count(1)

    @property
    def system_root(self) -> Path:
        """Its folder C:\\Windows."""
        return self.folder / "machine/C/Windows"

    def make_place(self) -> Path:
        """Return the path of a folder of fleetpatch that no test has used."""
        return self.system_root / f"FleetPatch{next(self._numbers)}"

    def open_host(
        self, place: Path | None = None, script_loader: ScriptLoader = load_windows_script, logon: Logon = "network"
    ) -> PowerShellHost:
        """Return a transport to it."""
        return PowerShellHost(
            WarmChannel(self.windows, logon=logon),
            machine="here",
            clock=CLOCK,
            job_root=str(place or ""),
            script_loader=script_loader,
        )

    @classmethod
    @contextmanager
    def opened(cls, scenario: Scenario | None = None) -> Iterator["WarmMachine"]:
        """Switch a machine on for as long as this lasts, or skip."""
        if find_powershell() is None:
            pytest.skip("PowerShell (pwsh) is not on PATH")
        machine = cls(scenario)
        try:
            yield machine
        finally:
            machine.close()

    def read_boot_id(self) -> str:
        """Return the id of its boot."""
        answer = self.open_host().run_script(Script("reboot_obstacles"), deadline=Deadline.after(CLOCK, 60))
        (boot,) = answer.find_records("boot")
        return str(boot["boot_id"])

    def grant(self, path: Path, rights: str) -> None:
        """Give rights on a folder, as icacls takes them, or only administrators."""
        only = "/inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F'"
        text = f"icacls.exe '{path}' /grant '{rights}'" if rights else f"icacls.exe '{path}' /remove '*S-1-1-0' {only}"
        done = self.windows.powershell.run_script(f"{text}\nexit $LASTEXITCODE", logon="system")
        assert done.exit_code == 0, done

    def wait_for_no_task(self) -> None:
        """Wait until no task of a job is left."""
        self.windows.wait_until(lambda state: not any("FleetPatch" in name for name in state["tasks"]))

    def close(self) -> None:
        """Switch it off, and remove it."""
        self.windows.close()
        shutil.rmtree(self.folder, ignore_errors=True)
