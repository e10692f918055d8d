"""Runs scripts on Windows machines of the tests, for tests of their stand-ins."""

from collections.abc import Callable

from tests.lab.windows.machine import WindowsMachine
from tests.lab.windows.powershell_process import Logon
from tests.lab.windows.scenario import Update

MakeMachine = Callable[..., WindowsMachine]
"""`make_machine(Scenario(...))` is a machine that is on."""

ID = "{:08x}-0000-4000-8000-000000000000".format
"""Ids of updates."""

CATALOGUE = (
    Update(ID(1), "one", kbs=("1",), revision=3),
    Update(ID(2), "two", classification="definition", type="Driver", browse_only=True, hidden=True),
    Update(ID(3), "three", installed=True, assigned=False),
    Update(ID(4), "four", deployment_action="Uninstallation"),
)


def run(machine: WindowsMachine, script: str, logon: Logon = "network") -> list[str]:
    """Run a script that must succeed. Returns its lines."""
    strict = "Set-StrictMode -Version Latest\n$ErrorActionPreference = 'Stop'\n"
    done = machine.powershell.run_script(strict + script, logon=logon)
    assert (done.exit_code, done.stderr) == (0, b""), (done.stdout + done.stderr).decode()
    return done.stdout.decode().replace("\r\n", "\n").splitlines()


def order_restart(machine: WindowsMachine, arguments: str = "/r /t 0") -> None:
    """Restart it with shutdown.exe. The machine may be off before the answer is out: then there is no exit code."""
    done = machine.powershell.run_script(f"shutdown.exe {arguments}; exit $LASTEXITCODE", logon="network")
    assert done.exit_code in {0, None}, (done.stdout + done.stderr).decode()
