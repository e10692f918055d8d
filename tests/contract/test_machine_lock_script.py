"""Who may change a machine, by the machine's own scripts: locks, the attempts at a run, and orders that come too late.

The scripts of POSIX systems and those of Windows give the same answers. The simulated machine of tests/faults is held
to them too, so that what is proven there holds here.
"""

import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory.machine import PrivilegeMethod
from tasks.domain.errors import ManagerBusy, ScriptFailed
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Job, JobPhase, Script, ScriptParameter, ScriptRecord
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.machines.transport.script_host import ScriptHost
from tests.contract.transport_subjects import scripts
from tests.contract.windows.warm_machine import WarmMachine
from tests.contract.windows.windows_scripts import load_test_script
from tests.faults.hub import Hub, HubClock
from tests.faults.machine import FaultyMachine
from tests.support.boot import read_boot

CLOCK = SystemClock()
CHECKS, _, _ = scripts("reboot").partition("locks=$(fp_param locks)")  # all that comes before the order itself
EXTRA = {"quick": "fp_emit ran", "would_reboot": f"{scripts('job_common')}\n{CHECKS}"}
LATER, PAST = "9999999999", "1000000000"
JOBS = ("one", "two")


def script_text(name: str, package: str = SHARED_SCRIPTS) -> str:
    return EXTRA[name] if name in EXTRA else scripts(name, package)


class Machine:
    """This machine's lock and its jobs, in a folder of their own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        way = PrivilegeEscalator(PrivilegeMethod.NONE)
        root = str(place / "jobs")
        self.shell: ScriptHost[Any] = PosixShell(
            LocalShellChannel(CLOCK),
            machine="here",
            privilege=way,
            clock=CLOCK,
            job_root=root,
            script_loader=script_text,
        )

    def take_lock(self, run: str = "run", attempt: int = 1, until: str = LATER, **more: str) -> ScriptRecord:
        params = {"run": run, "attempt": str(attempt), "by": "somebody", "until": until, **more}
        return self.shell.run_script(Script("machine_lock", params), deadline=soon()).records[-1]

    def release(self, run: str = "run", attempt: int = 1) -> ScriptRecord:
        return self.take_lock(run, attempt, release="yes")

    def start(
        self,
        job_id: str = "one",
        run: str = "run",
        attempt: int = 1,
        what: str = "endless",
        until: str = "",
        more: Mapping[str, ScriptParameter] = MappingProxyType({}),
    ) -> bool:
        """Start a job in the name of an attempt at a run; return whether it was there already."""
        script = Script(what, {"lock_run": run, "lock_attempt": str(attempt), "lock_until": until, **more})
        return self.shell.start_job(Job(job_id, script), deadline=soon()).attached

    def would_reboot(self, order: Script) -> bool:
        """Whether the lock lets an order be carried out; it isn't, for the script's last part is left out."""
        checks = Script(
            "would_reboot", {**order.params, "root": str(self.place / "jobs"), "expected_boot_id": boot_id()}
        )
        return self._is_let_in(checks)

    def open_to_all(self, *, is_open: bool) -> None:
        """Let everybody write into the folder of the jobs, or only its owner."""
        (self.place / "jobs").chmod(0o777 if is_open else 0o700)

    def _is_let_in(self, checks: Script) -> bool:
        records = self.shell.run_script(checks, deadline=soon()).records
        return not any(record["kind"] == "refused" and record["about"] == "machine_lock" for record in records)

    def stop(self) -> None:
        """Let all jobs end."""
        for job_id in JOBS:
            self.shell.run_script(Script("job_stop", {"id": job_id}), deadline=soon())
            while self.shell.poll_job(job_id, deadline=soon()).phase is JobPhase.RUNNING:
                CLOCK.sleep(0.02)


class WindowsMachine(Machine):
    """A Windows machine's lock and its jobs, in a folder of their own."""

    def __init__(self, warm: WarmMachine) -> None:
        self.warm = warm
        self.place = warm.make_place()
        self.place.mkdir()
        self.shell = warm.open_host(self.place, load_test_script)

    def would_reboot(self, order: Script) -> bool:
        """Whether the lock lets an order be carried out; it isn't, for nothing shuts the machine down."""
        checks = Script("would_reboot", {**order.params, "expected_boot_id": self.warm.read_boot_id()})
        return self._is_let_in(checks)

    def open_to_all(self, *, is_open: bool) -> None:
        """Let everybody write into the folder of the jobs, or only administrators."""
        self.warm.grant(self.place / "jobs", "*S-1-1-0:(OI)(CI)M" if is_open else "")

    def stop(self) -> None:
        """Let all jobs end, and their tasks be gone: other tests use the same names."""
        for job_id in JOBS:
            if (self.place / "jobs" / job_id).exists():
                self.shell.run_script(Script("job_stop", {"id": job_id}), deadline=soon())
        self.warm.wait_for_no_task()


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmMachine]:
    with WarmMachine.opened() as machine:
        yield machine


@pytest.fixture(params=["posix", "windows"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    here = Machine(tmp_path) if request.param == "posix" else WindowsMachine(request.getfixturevalue("warm"))
    yield here
    here.stop()


def boot_id() -> str:
    return read_boot()


def soon() -> Deadline:
    return Deadline.after(CLOCK, 30)


def test_an_order_of_a_run_that_was_taken_over_is_refused(machine: Machine) -> None:
    machine.take_lock(attempt=1)
    assert machine.take_lock(attempt=2)["kind"] == "locked"

    with pytest.raises(ScriptFailed, match=r"run run was resumed: its attempt 2 .* this order is of attempt 1"):
        machine.start(attempt=1)

    assert machine.shell.poll_job("one", deadline=soon()).phase is JobPhase.ABSENT


def test_an_order_of_the_attempt_that_has_the_lock_is_begun(machine: Machine) -> None:
    machine.take_lock(attempt=2)
    assert machine.start(attempt=2) is False


def test_an_order_of_a_later_attempt_takes_the_lock_over(machine: Machine) -> None:
    machine.take_lock(attempt=1)
    machine.start(attempt=2)
    machine.stop()

    with pytest.raises(ScriptFailed, match="was resumed"):
        machine.start("two", attempt=1)
    assert machine.take_lock(attempt=1)["kind"] == "taken"
    assert machine.release(attempt=1)["kind"] == "taken"


def test_to_attach_makes_earlier_attempts_void_too(machine: Machine) -> None:
    machine.take_lock(attempt=1)
    machine.start(attempt=1)
    assert machine.start(attempt=2) is True
    machine.stop()
    assert machine.take_lock(attempt=1)["kind"] == "taken"


def test_who_only_attaches_is_let_in_whoever_has_the_lock(machine: Machine) -> None:
    machine.take_lock(attempt=1)
    machine.start(attempt=1, what="quick")
    machine.stop()
    machine.release()
    assert machine.start(attempt=1) is True
    machine.take_lock("other")
    assert machine.start(attempt=1) is True


@pytest.mark.parametrize("before", ["never locked", "given back", "file gone"])
def test_an_order_whose_lock_is_gone_is_refused(machine: Machine, before: str) -> None:
    if before != "never locked":
        machine.take_lock()
    if before == "given back":
        machine.release()
    if before == "file gone":
        (machine.place / "machine-lock").unlink()

    with pytest.raises(ScriptFailed, match="run run no longer has the lock of this machine: no run has it"):
        machine.start()


def test_the_hint_fits_why_an_order_was_refused(machine: Machine) -> None:
    with pytest.raises(ScriptFailed) as nobody:
        machine.start()
    assert "has the machine lock" in nobody.value.hint
    assert "disk" not in nobody.value.hint

    machine.take_lock()
    (machine.place / "jobs/two").write_text("a file where a directory is due")
    with pytest.raises(ScriptFailed, match="cannot write") as room:
        machine.start("two")
    (machine.place / "jobs/two").unlink()
    assert "disk" in room.value.hint

    machine.open_to_all(is_open=True)
    with pytest.raises(ScriptFailed, match="others may write") as open_to_all:
        machine.start("two")
    machine.open_to_all(is_open=False)
    assert open_to_all.value.hint == "Repair that on the machine."


def test_an_order_is_refused_while_another_run_has_the_lock(machine: Machine) -> None:
    machine.take_lock("other")
    with pytest.raises(ScriptFailed, match=r"run run no longer has the lock .*: run other \(somebody\) has it"):
        machine.start()


def test_a_lock_whose_time_is_over_still_counts_until_somebody_takes_it(machine: Machine) -> None:
    machine.take_lock(until=PAST)
    assert machine.start(what="quick") is False
    machine.stop()
    machine.take_lock("other")
    with pytest.raises(ScriptFailed, match="no longer has the lock"):
        machine.start("two")


def test_no_lock_is_given_back_while_a_job_runs(machine: Machine) -> None:
    machine.take_lock()
    machine.start()
    assert machine.release() == {"kind": "kept", "run": "run", "job": "one"}
    assert machine.take_lock("other")["kind"] == "taken"
    machine.stop()
    assert machine.release()["kind"] == "released"
    assert machine.take_lock("other")["kind"] == "locked"


def test_another_run_gets_no_machine_on_which_a_job_runs_even_when_the_lock_is_over(machine: Machine) -> None:
    machine.take_lock(until=PAST)
    machine.start()
    answer = machine.take_lock("other")
    assert (answer["kind"], answer["run"], answer["job"]) == ("taken", "run", "one")
    with pytest.raises(ManagerBusy):
        machine.start("two")
    machine.stop()
    assert machine.take_lock("other")["kind"] == "locked"


def test_the_run_itself_locks_again_while_its_job_runs(machine: Machine) -> None:
    machine.take_lock()
    machine.start()
    assert machine.take_lock(attempt=2)["kind"] == "locked"


def test_a_late_lock_of_an_earlier_attempt_is_refused_even_after_the_lock_was_given_back(machine: Machine) -> None:
    machine.take_lock(attempt=2)
    machine.release(attempt=2)
    assert machine.take_lock(attempt=1)["kind"] == "taken"
    assert machine.take_lock("other")["kind"] == "locked"


def test_a_lock_of_an_older_version_is_one_of_no_attempt(machine: Machine) -> None:
    (machine.place / "machine-lock").write_text(f"run\n{LATER}\nsomebody\n")
    assert machine.take_lock("other")["kind"] == "taken"
    assert machine.take_lock(attempt=1)["kind"] == "locked"


@pytest.mark.parametrize("there", ["", "run", "run\nsoon\nsomebody\nfirst\n", "\n\n\n\n", "\0\xff"])
def test_a_lock_that_makes_no_sense_stops_nobody(machine: Machine, there: str) -> None:
    (machine.place / "machine-lock").write_text(there)
    assert machine.take_lock("other")["kind"] == "locked"


def test_numbers_that_are_none_count_as_the_lowest(machine: Machine) -> None:
    assert machine.shell.run_script(
        Script("machine_lock", {"run": "run", "attempt": "1; reboot", "until": "soon"}), deadline=soon()
    )
    assert (machine.place / "machine-lock").read_text() == "run\n0\n\n0\n\n"


def test_an_order_prolongs_its_lock_and_never_shortens_it(machine: Machine) -> None:
    machine.take_lock(until="5000000000")
    machine.start("one", what="quick", until="6000000000")
    assert (machine.place / "machine-lock").read_text() == "run\n6000000000\nsomebody\n1\n\n"
    machine.stop()
    machine.start("two", what="quick", until="5500000000", attempt=2)
    assert (machine.place / "machine-lock").read_text() == "run\n6000000000\nsomebody\n2\n\n"
    machine.stop()


def test_to_lock_again_never_shortens_what_an_order_has_prolonged(machine: Machine) -> None:
    machine.take_lock(until="6000000000")
    assert machine.take_lock(until="5000000000", attempt=2)["until"] == 6000000000
    machine.release(attempt=2)
    assert machine.take_lock(until="5000000000", attempt=2)["until"] == 5000000000


def test_a_job_that_names_no_lock_needs_none(machine: Machine) -> None:
    machine.shell.start_job(Job("one", Script("quick")), deadline=soon())
    machine.stop()


class Model(FaultyMachine):
    """The simulated machine, without its packages: ``running`` is what runs."""

    running = ""

    @property
    def busy(self) -> str:
        return self.running


def model() -> Model:
    hub = HubClock(Hub(random.Random(0)))
    return Model(hub, "model", [], complain=lambda what: None, announced=lambda *_: True)


def both(machine: Machine, twin: Model, act: str, run: str, attempt: int, until: str) -> tuple[object, object]:
    """Do one thing on both; return what each has answered."""
    if act == "stop":
        machine.stop()
        twin.running = ""
        return None, None
    if act == "reboot":
        order = Script("reboot", {"lock_run": run, "lock_attempt": str(attempt)})
        return machine.would_reboot(order), not twin.reboot_refusal(order)
    if act == "start":
        refused = twin.refusal(
            Job("one", Script("endless", {"lock_run": run, "lock_attempt": str(attempt)})), known=False
        )
        twin.running = twin.running or ("" if refused else "one")
        try:
            machine.start("one", run, attempt)
        except ScriptFailed:
            return "refused", "refused" if refused else "begun"
        return "begun", "refused" if refused else "begun"
    params = {"run": run, "attempt": str(attempt), "by": "x", "until": until}
    params |= {"release": {"release": "yes"}, "stage": {"kind": "stage"}, "preempt": {"preempts": "stage"}}.get(act, {})
    mine = machine.shell.run_script(Script("machine_lock", params), deadline=soon()).records[-1]
    simulated = twin._take_lock(Script("machine_lock", params))
    if mine.get("ending") is True:  # its end may be seen at once or later
        machine.stop()
        twin.running = ""
    return (mine["kind"], mine.get("ending")), (simulated["kind"], simulated.get("ending"))


ACTS = st.tuples(
    st.sampled_from(["lock", "lock", "stage", "preempt", "release", "start", "reboot", "stop"]),
    st.sampled_from(["run", "run", "other"]),
    st.integers(1, 3),
    st.sampled_from([LATER, LATER, PAST]),
)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACTS, min_size=3, max_size=8))
def test_the_simulated_machine_answers_as_a_real_one(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, str, int, str]]
) -> None:
    compare_with_model(Machine(tmp_path_factory.mktemp("machine")), acts)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACTS, min_size=3, max_size=8))
def test_the_simulated_machine_answers_as_a_windows_one(
    warm: WarmMachine, acts: list[tuple[str, str, int, str]]
) -> None:
    compare_with_model(WindowsMachine(warm), acts)


def compare_with_model(machine: Machine, acts: list[tuple[str, str, int, str]]) -> None:
    """Do the same things on a machine and on the simulated one."""
    twin = model()
    try:
        for act in acts:
            if act[0] == "start" and twin.running:  # a second start of what runs attaches, and begins nothing
                continue
            if act[0] == "start" and (machine.place / "jobs/one").exists():
                shutil.rmtree(machine.place / "jobs/one")
            real, simulated = both(machine, twin, *act)
            assert real == simulated, (act, acts)
    finally:
        machine.stop()
