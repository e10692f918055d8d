"""A package manager that the product does not know goes through the steps, in a real shell on this machine."""

import fcntl
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from inventory.machine import Inventory, Machine, PrivilegeMethod, TransportKind
from tasks.model import Window
from tasks.protocols.clock import Deadline, SystemClock
from tasks.protocols.package_manager import JobKind, PackageManager, Transaction
from tasks.protocols.transport import Job, JobPhase, JobStatus, Script, Transport
from tasks.states import UpdateState
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.context.patch_options import PatchOptions
from tasks.steps.context.run_context import RunContext
from tasks.steps.install import install
from tasks.steps.pipeline import assess_and_plan
from tasks.steps.precheck import precheck
from tasks.transport.session_factory import build_session
from tests.support.builders import make_run
from tests.support.fake_records import FakeRecords
from tests.support.parcel import ParcelHome, ParcelManager

CLOCK = SystemClock()
MACHINE = Machine("here", "", transport=TransportKind.LOCAL, privilege=PrivilegeMethod.NONE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParcelHome:
    tools, folder = tmp_path / "tools", tmp_path / "parcels"
    tools.mkdir()
    folder.mkdir()
    home = ParcelHome(folder)
    home.set_up(tools)
    home.add("@acme/Web", 3, 4)
    home.add("@acme/Mail", 7, 7)
    home.add("@Other/Db", 1, 12)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return home


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[Transport]:
    root = tmp_path / "fleetpatch/jobs"
    with build_session(MACHINE, Inventory((MACHINE,)), clock=CLOCK, job_root=str(root)) as session:
        yield session


def soon() -> Deadline:
    return Deadline.after(CLOCK, 60)


def build_context(home: ParcelHome, transport: Transport) -> MachineContext:
    now = CLOCK.now()
    run = make_run(window=Window(now - timedelta(minutes=1), now + timedelta(hours=3)))
    run_context = RunContext(
        run, PatchOptions(), CLOCK, FakeRecords(), lambda _: transport, lambda _: ParcelManager(home)
    )
    context = MachineContext(run_context, transport, MachineState(MACHINE))
    context.state = assess_and_plan(context)
    context.state = precheck(context)
    return context


def test_it_goes_through_the_whole_installation(home: ParcelHome, transport: Transport) -> None:
    context = build_context(home, transport)
    assert [update.id for update in context.plan.chosen] == ["@Other/Db", "@acme/Web"]
    result = install(context).install
    assert result is not None
    assert {each.update.id: (each.state, each.version_after) for each in result.results} == {
        "@acme/Web": (UpdateState.INSTALLED, "4"),
        "@Other/Db": (UpdateState.INSTALLED, "12"),
    }
    assert [home.read_version(name) for name in ("@acme/Web", "@acme/Mail", "@Other/Db")] == [4, 7, 12]


def test_what_fails_is_told_with_its_words(home: ParcelHome, transport: Transport) -> None:
    home.add("@acme/Bad", 1, 2, broken=True)
    result = install(build_context(home, transport)).install
    assert result is not None
    by_id = {each.update.id: each for each in result.results}
    assert by_id["@acme/Bad"].state is UpdateState.FAILED
    assert "@acme/Bad is damaged" in by_id["@acme/Bad"].reason
    assert by_id["@acme/Web"].state is UpdateState.INSTALLED


def run_job(home: ParcelHome, transport: Transport, seconds: float) -> JobStatus:
    manager: PackageManager = ParcelManager(home)
    updates = manager.assess(transport, refresh=False, deadline=soon()).updates
    latest = CLOCK.now().timestamp() + seconds
    script = manager.build_job_script(JobKind.INSTALL, [Transaction(0, updates, latest, 1.0)])
    transport.start_job(Job("one", script), deadline=soon())
    while (view := transport.poll_job("one", deadline=soon())).phase is JobPhase.RUNNING:
        CLOCK.sleep(0.05)
    return view


def test_its_transaction_does_not_begin_when_it_is_too_late(home: ParcelHome, transport: Transport) -> None:
    view = run_job(home, transport, -60)
    assert [event["kind"] for event in view.events] == ["not_attempted", "finished"]
    assert view.events[0]["why"] == "window"
    assert home.read_version("@acme/Web") == 3


def test_its_job_tells_what_every_job_tells(home: ParcelHome, transport: Transport) -> None:
    view = run_job(home, transport, 600)
    kinds = [event["kind"] for event in view.events if event["kind"] != "progress"]
    assert kinds == ["transaction_started", "transaction_ended", "finished"]
    assert "putting @acme/Web#4" in view.log


def test_who_holds_its_lock_keeps_the_machine_from_being_rebooted(home: ParcelHome, transport: Transport) -> None:
    locks = ParcelManager(home).lock_files
    with Path(home.lock_file).open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        result = transport.run_script(Script("reboot_obstacles", {"locks": locks}), deadline=soon())
    assert [record["about"] for record in result.find_records("obstacle")] == ["lock"]
    assert home.lock_file in str(result.find_records("obstacle")[0]["why"])
