"""What apt_assess.sh and apt_installed.sh make of packages that somebody changes as they are read, over stand-ins."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.errors import ScriptFailed
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.apt.manager import ASSESS_SCRIPT, AptManager
from tasks.machines.managers.apt.reboot_need import find_apt_reboot_need
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.machines.transport.script_library import load_script
from tests.support.builders import make_update

CLOCK = SystemClock()
UPDATES = [make_update(id="a", name="a"), make_update(id="b", name="b")]
DPKG_QUERY = """#!/bin/sh
echo >>"{place}/asked"
[ "$(wc -l <"{place}/asked")" -gt {failures} ] || {{ echo "unable to open updates/0001" >&2; exit 2; }}
printf 'a\\tamd64\\tok\\tinstalled\\t1\\n'
exit {code}
"""


class Machine:
    """A folder with apt's tools and dpkg's database, and the transport to it."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        (place / "database").mkdir()
        (place / "database/status").write_text("before\n")
        for name in ("apt-get", "apt-cache", "apt-config", "needrestart", "pro", "systemctl", "sleep"):
            self.tool(name, "#!/bin/sh\n")
        self.tool("dpkg", "#!/bin/sh\necho amd64\n")
        self.reads()
        monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
        self.transport = PosixShell(
            LocalShellChannel(CLOCK),
            machine="here",
            privilege=PrivilegeEscalator(PrivilegeMethod.NONE),
            clock=CLOCK,
            script_loader=lambda name, *of: load_script(name, *of).replace("/var/lib/dpkg/", f"{place}/database/"),
        )

    def tool(self, name: str, text: str) -> None:
        """Put a stand-in there."""
        (self.place / name).write_text(text)
        (self.place / name).chmod(0o755)

    def reads(self, failures: int = 0, code: int = 0) -> None:
        """Let so many readings of dpkg's database fail before they succeed, with this exit code."""
        self.tool("dpkg-query", DPKG_QUERY.format(place=self.place, failures=failures, code=code))

    def assess(self) -> ScriptResult:
        """Run the script of an assessment."""
        return self.transport.run_script(ASSESS_SCRIPT, deadline=Deadline.after(CLOCK, 60))

    def installed(self) -> dict[str, str]:
        """Ask for what is installed."""
        return dict(AptManager().read_installed_versions(self.transport, UPDATES, deadline=Deadline.after(CLOCK, 60)))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_packages_that_nobody_changes_are_told_so(machine: Machine) -> None:
    assert [record["changed"] for record in machine.assess().find_records("state")] == [False]


@pytest.mark.parametrize("late", ["needrestart", "pro"])
def test_a_transaction_that_ends_after_packages_were_read_and_before_locks_are_is_told(
    machine: Machine, late: str
) -> None:
    database = machine.place / "database"
    machine.tool(late, f"#!/bin/sh\necho after >{database}/new; mv {database}/new {database}/status\n")
    result = machine.assess()
    assert result.records[-1]["kind"] == "state", "what ends after locks were read must be seen as well"
    assert result.records[-1]["changed"] is True


def test_a_database_that_can_not_be_read_for_a_moment_is_read_again(machine: Machine) -> None:
    machine.reads(failures=3)
    assert machine.installed() == {"a": "1"}


def test_an_assessment_reads_such_a_database_again(machine: Machine) -> None:
    machine.reads(failures=3)
    assert machine.assess().exit_code == 0


def test_the_time_at_which_a_kernel_was_installed_is_told(machine: Machine) -> None:
    info = machine.place / "database/info"
    info.mkdir()
    for name, seconds in (("linux-image-6.1.0-41-amd64", 1_700_000_000), ("linux-image-6.1.0-42-amd64", 1_710_000_000)):
        (info / f"{name}.list").write_text("/boot\n")
        os.utime(info / f"{name}.list", (seconds, seconds))
    (record,) = machine.assess().find_records("reboot")
    assert len(str(record["kernel_times"]).splitlines()) == len(list(info.iterdir()))
    images = "6.1.0-40-amd64 6.1.0-41-amd64 6.1.0-42-amd64"
    need = find_apt_reboot_need({**record, "container": False, "kernel": "6.1.0-40-amd64", "images": images}, None)
    assert need.since == datetime.fromtimestamp(1_700_000_000, UTC)


def test_a_machine_without_kernels_is_assessed(machine: Machine) -> None:
    (record,) = machine.assess().find_records("reboot")
    assert record["kernel_times"] == ""


def test_a_package_that_is_not_known_is_no_failure(machine: Machine) -> None:
    machine.reads(code=1)
    assert machine.installed() == {"a": "1"}
    assert (machine.place / "asked").read_text() == "\n"


def test_a_database_that_can_not_be_read_is_not_called_empty(machine: Machine) -> None:
    machine.reads(failures=99)
    with pytest.raises(ScriptFailed) as caught:
        machine.installed()
    assert "apt_installed ended with 2: unable to open updates/0001" in caught.value.message
    assert machine.assess().exit_code == 66
