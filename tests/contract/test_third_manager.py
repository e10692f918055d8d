"""A package manager that the product does not know goes through the steps, in a real shell on this machine."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from inventory.machine import Check, CheckKind, Inventory, Machine, PrivilegeMethod, TransportKind
from tasks.domain.model import Window
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, PackageManager, Transaction
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, Transport
from tasks.domain.states import FindingLevel, UpdateState, YesNoUnknown
from tasks.machines.transport.session_factory import build_session
from tasks.records.measures import compute_measures
from tasks.rules.machine_checks.services import build_protected_unit_masks, find_restartable_services
from tasks.steps.assess import assess_and_plan
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions, RunContext
from tasks.steps.install import install
from tasks.steps.machine.custom_checks import run_check
from tasks.steps.machine.reboot_obstacles import read_reboot_readiness
from tasks.steps.precheck import precheck
from tests.support.builders import make_outcome, make_run, make_transaction
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
    home.add("@acme/Bad", 1, 2, "broken")
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


def test_it_says_which_parcels_change_what_is_booted(home: ParcelHome, transport: Transport) -> None:
    home.add("@Core/Boot", 1, 2)
    context = build_context(home, transport)
    assert context.plan.reboot_expected is YesNoUnknown.YES
    result = install(context).install
    assert result is not None
    assert result.transactions[-1].updates[-1] == "@Core/Boot"


def test_its_default_rates_are_used_and_bettered_by_what_is_measured(home: ParcelHome, transport: Transport) -> None:
    context = build_context(home, transport)
    assert context.rates == ParcelManager.default_rates
    assert context.plan.prediction.install == 21.0
    result = install(context).install
    assert result is not None
    assert result.overhead_updates == 0.1
    slow = replace(result, transactions=(make_transaction(),))
    measured = compute_measures(make_outcome(install=slow))
    assert measured["transaction_seconds"] == pytest.approx(measured["install_seconds_per_update"] / 10)


def test_its_own_updaters_are_not_restarted(home: ParcelHome, transport: Transport) -> None:
    packages = build_context(home, transport).packages
    assert find_restartable_services(packages) == ("web.service",)
    assert "parcel-evening*" in build_protected_unit_masks(packages.updater_units)


def test_its_half_changed_parcels_keep_the_machine_from_being_rebooted(home: ParcelHome, transport: Transport) -> None:
    context = build_context(home, transport)
    assert read_reboot_readiness(context).obstacle_kind != "packages"
    home.add("@acme/Torn", 1, 1, "half")
    readiness = read_reboot_readiness(context)
    assert (readiness.obstacle_kind, readiness.obstacle) == ("packages", "@acme/Torn is half put")


def test_commands_of_the_owner_have_its_environment(home: ParcelHome, transport: Transport) -> None:
    check = Check("asks nobody", CheckKind.COMMAND, '[ "$PARCEL_ASKS" = nobody ]')
    assert run_check(build_context(home, transport), check).level is FindingLevel.GOOD


def test_it_says_which_configuration_files_it_kept(home: ParcelHome, transport: Transport) -> None:
    home.add("@acme/Web", 3, 4, "edited")
    context = install(build_context(home, transport))
    path = str(home.folder / "edited/@acme/Web")
    assert context.install is not None
    assert context.install.kept_configuration_files == (path,)
    assert any(f"{path} (the update's version: {path}.new)" in finding.message for finding in context.findings)
