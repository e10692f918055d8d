"""Automatic Updates of Windows rests while a run works, and comes back: by the scripts, on a stand-in for Windows."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Script, ScriptParameter, ScriptRecord
from tasks.machines.managers.windows_update.manager import PACKAGE
from tasks.machines.transport.script_library import load_windows_script
from tasks.rules.machine_checks.packages import AUTO_UPDATER_CHECK
from tasks.steps.machine.facts import read_facts
from tests.contract.windows.test_failing_starts import CONSTRAINED, NOT_RUN, SCANNED
from tests.contract.windows.warm_machine import WarmMachine
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.state import change_state

CLOCK = SystemClock()
POLICY = r"SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate"
KEY = rf"{POLICY}\AU"
LOCAL = r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update"
RESTORED = {"kind": "back", "unit": "Automatic Updates", "how": "it is as it was"}


@contextmanager
def stopped_tasks(warm: WarmMachine) -> Iterator[None]:
    """End the processes of tasks before they run anything."""
    for code in (1, 0):
        with change_state(warm.windows.folder) as state:
            state["task_stopped"] = code
        if code:
            yield


class Machine:
    """A machine whose lock a run has."""

    def __init__(self, warm: WarmMachine) -> None:
        self.warm = warm
        self.place = warm.make_place()
        self.before = ""  # a text before the script of updaters: see job_places.Place
        self.host = warm.open_host(self.place, self.load)
        self.set_policy(None, local=4)
        with change_state(warm.windows.folder) as state:  # the name of its task is the same in all places
            state["tasks"].clear()
        self.take_lock("run")

    def load(self, name: str, package: str = SHARED_SCRIPTS) -> str:
        return f"{self.before if name == 'updaters' else ''}\n{load_windows_script(name, package)}"

    def run_task(self, text: str | None = None) -> int | None:
        """Let the time of its task come; returns the exit code. ``text`` is what it runs in place of its own."""
        (name,) = self.tasks
        arguments = str(self.warm.windows.read_state()["tasks"][name]["arguments"])
        options, _, command = arguments.partition(" -Command ")
        file = self.place / "pause/run.ps1"
        file.write_text(text or re.sub(r"UtcNow\.Ticks -lt \d+", "UtcNow.Ticks -lt 0", file.read_text()))
        words = [*options.split(), "-Command", command.strip('"')]
        return self.warm.windows.powershell.run(words, b"", logon="system").exit_code

    def find_overdue(self) -> list[str]:
        """What the facts warn of."""
        facts = read_facts(self.host, CLOCK, Deadline.after(CLOCK, 60))
        return [finding.message for finding in facts.findings if finding.check == AUTO_UPDATER_CHECK]

    def take_lock(self, run: str, seconds: int = 3_600, **more: str) -> None:
        params = {"run": run, "attempt": "1", "by": "somebody", "until": str(int(time.time()) + seconds), **more}
        self.ask(Script("machine_lock", params, read_only=False))

    def ask(self, script: Script) -> list[ScriptRecord]:
        answer = self.host.run_script(script, deadline=Deadline.after(CLOCK, 60))
        assert answer.exit_code == 0, answer
        return list(answer.records)

    def updaters(self, work: str, run: str = "run", attempt: str = "1") -> list[ScriptRecord]:
        params = {"work": work, "lock_run": run, "lock_attempt": attempt, "lock_until": "0"}
        return self.ask(Script("updaters", params, read_only=False, package=PACKAGE))

    def set_policy(self, values: dict[str, int] | None, *, local: int | None = None) -> None:
        with change_state(self.warm.windows.folder) as state:
            keys = state["registry"]
            own = keys[LOCAL]["values"]
            own.pop("AUOptions", None)
            if local is not None:
                own["AUOptions"] = {"kind": "DWord", "data": local}
            for name in [name for name in keys if name.startswith(POLICY)]:
                del keys[name]
            if values is not None:
                found = {name: {"kind": "DWord", "data": value} for name, value in values.items()}
                keys[POLICY] = {"volatile": False, "values": {}}
                keys[KEY] = {"volatile": False, "values": found}

    @property
    def policy(self) -> dict[str, Any] | None:
        key = self.warm.windows.read_state()["registry"].get(KEY)
        return None if key is None else {name: value["data"] for name, value in key["values"].items()}

    @property
    def tasks(self) -> list[str]:
        return [name for name in self.warm.windows.read_state()["tasks"] if "updaters" in name]


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmMachine]:
    with WarmMachine.opened(Scenario()) as machine:
        yield machine


@pytest.fixture
def machine(warm: WarmMachine) -> Machine:
    return Machine(warm)


@pytest.mark.parametrize("before", [None, {}, {"AUOptions": 4}, {"NoAutoUpdate": 0, "AUOptions": 4}])
def test_it_rests_and_all_is_as_before(machine: Machine, before: dict[str, int] | None) -> None:
    machine.set_policy(before, local=4)
    assert machine.updaters("pause") == [{"kind": "paused", "unit": "Automatic Updates"}]
    assert machine.policy == {**(before or {}), "NoAutoUpdate": 1}
    assert len(machine.tasks) == 1
    assert machine.updaters("restore") == [RESTORED]
    assert machine.policy == before
    assert machine.tasks == []


def test_to_pause_twice_forgets_nothing(machine: Machine) -> None:
    machine.set_policy({"NoAutoUpdate": 0, "AUOptions": 4})
    machine.updaters("pause")
    machine.updaters("pause")
    machine.updaters("restore")
    assert machine.policy == {"NoAutoUpdate": 0, "AUOptions": 4}
    assert [record["kind"] for record in machine.updaters("restore")] == ["nothing"]


def test_what_a_lost_run_has_paused_the_next_run_restores(machine: Machine) -> None:
    machine.set_policy({"AUOptions": 4})
    machine.updaters("pause")
    machine.take_lock("run", release="yes")
    machine.take_lock("other")
    assert machine.updaters("pause", "other") == [{"kind": "paused", "unit": "Automatic Updates"}]
    assert [record["kind"] for record in machine.updaters("restore")] == ["nothing"]
    assert machine.updaters("restore", "other") == [RESTORED]
    assert machine.policy == {"AUOptions": 4}


@pytest.mark.parametrize(("policy", "local"), [(None, None), ({"AUOptions": 3}, 4), ({"AUOptions": 7}, None)])
def test_one_that_installs_nothing_by_itself_is_left_alone(
    machine: Machine, policy: dict[str, int] | None, local: int | None
) -> None:
    machine.set_policy(policy, local=local)
    (record,) = machine.updaters("pause")
    assert (record["kind"], record["why"]) == ("nothing", "Automatic Updates installs nothing by itself")
    assert machine.policy == policy


def test_what_its_owner_has_switched_off_stays_off(machine: Machine) -> None:
    machine.set_policy({"NoAutoUpdate": 1}, local=4)
    assert [record["kind"] for record in machine.updaters("pause")] == ["nothing"]
    assert [record["kind"] for record in machine.updaters("restore")] == ["nothing"]
    assert machine.policy == {"NoAutoUpdate": 1}


def test_what_its_owner_has_changed_meanwhile_is_left(machine: Machine) -> None:
    machine.set_policy({"AUOptions": 4})
    machine.updaters("pause")
    machine.set_policy({"AUOptions": 4, "NoAutoUpdate": 0})
    assert [record["kind"] for record in machine.updaters("restore")] == ["left"]
    assert machine.policy == {"AUOptions": 4, "NoAutoUpdate": 0}


@pytest.mark.parametrize(("run", "attempt"), [("another", "1"), ("run", "0")])
def test_an_order_without_the_lock_is_refused(machine: Machine, run: str, attempt: str) -> None:
    machine.set_policy({"AUOptions": 4})
    (refused,) = machine.updaters("pause", run, attempt)
    assert refused["kind"] == "refused"
    assert machine.policy == {"AUOptions": 4}


def test_the_machine_itself_restores_it_when_the_lock_expires(machine: Machine) -> None:
    machine.set_policy({"AUOptions": 4})
    machine.updaters("pause")
    assert machine.run_task() == 0
    assert machine.policy == {"AUOptions": 4}
    assert machine.tasks == []
    assert [record["kind"] for record in machine.updaters("restore")] == ["nothing"]


@pytest.mark.parametrize(
    ("before", "paused", "why"),
    [
        (CONSTRAINED, False, "; its text was not run: .*ConstrainedLanguage.*; what stopped it is in the event logs"),
        (SCANNED, True, "; its text was not run: .*ScriptContainedMaliciousContent"),
        (NOT_RUN, False, "the task scheduler did not run it"),
        ("", True, "its process ended before it ran fleetpatch's text .*last result 0x1"),
    ],
)
def test_what_the_machine_would_not_restore_is_not_paused(
    machine: Machine, before: str, why: str, *, paused: bool
) -> None:
    """A virus scanner or AppLocker stops the task: nobody would restore it if the run is lost."""
    machine.set_policy({"AUOptions": 4})
    if paused:  # by a run that was lost
        machine.updaters("pause")
    machine.before = before
    with stopped_tasks(machine.warm) if not before else nullcontext():
        (failed,) = machine.updaters("pause")
    assert (failed["kind"], failed["unit"]) == ("failed", "Automatic Updates")
    assert re.match(f"the machine would not restore it by itself: .*{why}", str(failed["why"]))
    assert (machine.policy, machine.tasks) == ({"AUOptions": 4}, [])
    assert not list(machine.place.glob("pause*"))
    assert [record["kind"] for record in machine.updaters("restore")] == ["nothing"]
    machine.before = ""
    assert [record["kind"] for record in machine.updaters("pause")] == ["paused"]
    machine.updaters("restore")


def test_a_pause_that_is_not_restored_is_tried_again_and_told(machine: Machine) -> None:
    machine.set_policy({"AUOptions": 4})
    machine.updaters("pause")
    assert machine.find_overdue() == []
    assert machine.run_task("Write-Error -ErrorId AccessDenied -Message 'It was stopped.'") == 1
    machine.take_lock("run", release="yes")
    (told,) = machine.find_overdue()
    assert told.startswith(
        "run run has paused Automatic Updates, and its task has not restored that when its lock ended"
    )
    assert "its text was not run: It was stopped. (AccessDenied" in told
    (name,) = machine.tasks
    assert machine.warm.windows.read_state()["tasks"][name]["repeat"] == 3600
    machine.take_lock("other")
    machine.updaters("pause", "other")
    assert machine.find_overdue() == []
    machine.take_lock("other", release="yes")
    assert len(machine.find_overdue()) == 1
    assert machine.run_task() == 0
    assert (machine.find_overdue(), machine.policy) == ([], {"AUOptions": 4})


def switch(machine: Machine, *values: str, run: str = "run") -> list[ScriptRecord]:
    lock = {"lock_run": run, "lock_attempt": "1", "lock_until": "0"}
    params: dict[str, ScriptParameter] = {"work": "switch", "values": values, **lock}
    return machine.ask(Script("switch_updaters", params, read_only=False, package=PACKAGE))


@pytest.mark.parametrize("before", [None, {"AUOptions": 4}])
def test_it_is_switched_off_for_good_and_on_again(machine: Machine, before: dict[str, int] | None) -> None:
    machine.set_policy(before, local=4)
    assert [record["kind"] for record in switch(machine, "NoAutoUpdate=1")] == ["switched"]
    assert machine.policy == {**(before or {}), "NoAutoUpdate": 1}
    assert machine.tasks == []
    values = ("NoAutoUpdate=0", "AUOptions=4", "ScheduledInstallDay=0", "ScheduledInstallTime=3")
    assert len(switch(machine, *values)) == 4
    assert machine.policy == {"NoAutoUpdate": 0, "AUOptions": 4, "ScheduledInstallDay": 0, "ScheduledInstallTime": 3}


def test_without_the_lock_it_is_not_switched_and_other_values_are_not_written(machine: Machine) -> None:
    machine.set_policy({"AUOptions": 4})
    (refused,) = switch(machine, "NoAutoUpdate=1", run="other")
    assert refused["kind"] == "refused"
    assert switch(machine, "UseWUServer=0") == []
    (failed,) = switch(machine, "NoAutoUpdate=one")
    assert (failed["kind"], failed["step"]) == ("failed", "set NoAutoUpdate = one")
    assert machine.policy == {"AUOptions": 4}
