"""A change outside of a run, by the machine's own scripts in a real shell: its lock, and its detached job."""

from pathlib import Path

import pytest

from flows.orders.locked_machine import LockedMachine
from inventory.machine import Machine, PrivilegeMethod
from tasks.domain.errors import LockLost, ManagerBusy
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Script
from tasks.domain.states import OperationState
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.machines.transport.script_library import load_script
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions, RunContext
from tests.support.builders import make_assessment, make_facts
from tests.support.fake_manager import FakeManager
from tests.support.fake_records import FakeRecords

CLOCK = SystemClock()
LATER = "9999999999"


class Here:
    """This machine, with a stand-in for Ubuntu Pro's client that writes down what it is told."""

    def __init__(self, place: Path, manager: str) -> None:
        self.place = place
        self.package = f"tasks.machines.managers.{manager}"
        self.shell = PosixShell(
            LocalShellChannel(CLOCK),
            machine="here",
            privilege=PrivilegeEscalator(PrivilegeMethod.NONE),
            clock=CLOCK,
            job_root=str(place / "jobs"),
            script_loader=self._load,
        )
        run = RunInfo(id="", kind="hotpatch", started_at=CLOCK.now(), state=OperationState.IN_PROGRESS)
        self.context = MachineContext(
            RunContext(
                run=run,
                options=PatchOptions(),
                clock=CLOCK,
                records=FakeRecords(),
                connect=lambda _: self.shell,
                find_manager=lambda _: FakeManager(),
            ),
            self.shell,
            MachineState(
                Machine("here", "192.0.2.1"),
                assessment=make_assessment(machine="here", facts=make_facts(clock_skew_seconds=0)),
            ),
        )

    def _load(self, name: str, package: str = SHARED_SCRIPTS) -> str:
        text = load_script(name, package)
        tool = f'pro() {{ echo "$*" >>{self.place}/told; echo "from pro"; return ${{FAILS:-0}}; }}'
        return f"{tool}\n{text}" if name == "enrol_live_patches" else text

    def take_lock(self, run: str) -> None:
        params = {"run": run, "attempt": "1", "by": "anne", "until": LATER}
        self.shell.run_script(Script("machine_lock", params), deadline=Deadline.after(CLOCK, 60))

    def holder(self) -> str:
        (record,) = self.shell.run_script(Script("lock"), deadline=Deadline.after(CLOCK, 60)).records
        return str(record["run"])

    def enrol(self, order: LockedMachine, action: str = "enroll") -> list[object]:
        params = {"provider": "livepatch", "action": action, "product": ""}
        script = Script("enrol_live_patches", params, read_only=False, package=self.package)
        return [record for record in order.run_job(script, "enrol") if record["kind"] == "enrolment_ended"]


@pytest.mark.parametrize("manager", ["apt", "rpm.dnf", "rpm.zypper"])
def test_a_job_changes_the_machine_under_its_lock_and_gives_it_back(tmp_path: Path, manager: str) -> None:
    here = Here(tmp_path, manager)
    order = LockedMachine(here.context, "anne")
    with order.hold_lock():
        assert here.holder()
        (ended,) = here.enrol(order)
    assert ended["exit_code"] == 0  # type: ignore[index]
    assert (tmp_path / "told").read_text() == "enable livepatch --assume-yes\n"
    assert here.holder() == ""


def test_a_machine_that_a_run_holds_is_left(tmp_path: Path) -> None:
    here = Here(tmp_path, "apt")
    here.take_lock("20260310-010000-aaaaaa")
    with (
        pytest.raises(ManagerBusy, match="20260310-010000-aaaaaa \\(anne\\)"),
        LockedMachine(here.context, "bob").hold_lock(),
    ):
        pytest.fail("it has the lock")
    assert here.holder() == "20260310-010000-aaaaaa"


def test_without_its_lock_no_job_begins(tmp_path: Path) -> None:
    here = Here(tmp_path, "apt")
    here.take_lock("20260310-010000-aaaaaa")
    with pytest.raises(LockLost):
        here.enrol(LockedMachine(here.context, "bob"))
    assert not (tmp_path / "told").exists()


def test_a_job_that_the_machine_refuses_leaves_no_lock(tmp_path: Path) -> None:
    here = Here(tmp_path, "apt")
    order = LockedMachine(here.context, "anne")
    with order.hold_lock():
        mine = here.holder()
        here.shell.run_script(
            Script("machine_lock", {"run": mine, "attempt": "2", "by": "later", "until": LATER}),
            deadline=Deadline.after(CLOCK, 60),
        )
        with pytest.raises(LockLost):
            here.enrol(order)
    assert not (tmp_path / "told").exists()
