"""reboot.ps1: whose order it carries out, once in a boot, and not while others change the machine."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, Script, ScriptRecord
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.contract.windows.windows_scripts import load_test_script
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.state import change_state

LATER, PAST = "9999999999", "1000000000"
ME = {"lock_run": "run", "lock_attempt": "2"}
SERVICING = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Interface"
PENDING = 600  # a shutdown that does not come while a test runs


@dataclass
class Place:
    """A folder of fleetpatch on a machine."""

    warm: WarmMachine
    folder: Path
    boot: str = ""
    logon: str = "network"
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def shutdown(self) -> dict[str, object] | None:
        """The shutdown that is scheduled, if there is one."""
        found = self.warm.windows.read_state()["shutdown"]
        return None if found is None else dict(found)

    def run(self, name: str, **params: str) -> tuple[ScriptRecord, ...]:
        host = self.warm.open_host(self.folder, load_test_script)
        return host.run_script(Script(name, params), deadline=Deadline.after(CLOCK, 60)).records

    def locked(self, run: str = "run", until: str = LATER, attempt: str = "2") -> None:
        """Let a run have the machine."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "machine-lock").write_text(f"{run}\n{until}\nanne\n{attempt}\n\n")

    def order(self, boot: str = "", **params: str) -> ScriptRecord:
        given = {"delay": str(PENDING), **ME, **params}
        (record,) = self.run("reboot", expected_boot_id=boot or self.boot, **given)
        return record

    def refused(self, about: str, **params: str) -> str:
        """Return why an order is refused; nothing was scheduled then."""
        before = self.shutdown
        answer = self.order(**params)
        assert (answer["kind"], answer["about"], answer["boot_id"]) == ("refused", about, self.boot), answer
        assert self.shutdown == before
        return str(answer["why"])

    def obstacles(self) -> list[tuple[object, object]]:
        """Return the kinds and the words of what prevents a reboot."""
        boot, *others = self.run("reboot_obstacles")
        assert boot == {"kind": "boot", "boot_id": self.boot}
        return [(record["kind"], f"{record['about']}: {record['why']}") for record in others]

    def by_a_person(self, arguments: str) -> None:
        """Have an administrator call shutdown.exe."""
        done = self.warm.windows.powershell.run_script(f"shutdown.exe {arguments}; exit $LASTEXITCODE", logon="system")
        assert done.exit_code == 0, done


@pytest.fixture
def place(warm: WarmMachine) -> Iterator[Place]:
    here = Place(warm, warm.make_place(), warm.read_boot_id())
    here.locked()
    yield here
    with change_state(warm.windows.folder) as state:
        state["shutdown"] = None
        state["events"] = []
        state["processes"] = [
            each for each in state["processes"] if each["name"] not in ("TiWorker", "TrustedInstaller")
        ]
        state["registry"].pop(SERVICING, None)


def test_an_order_is_carried_out_with_a_planned_reason(place: Place) -> None:
    assert place.order() == {"kind": "ordered", "boot_id": place.boot, "again": False}
    shutdown = place.shutdown
    assert shutdown is not None
    assert shutdown["reason"] == "p:2:17"
    assert shutdown["restart"] is True
    assert str(shutdown["comment"]) == f"fleetpatch, run run: a reboot after updates (boot {place.boot})"
    assert PENDING - 60 < float(str(shutdown["at"])) - time.time() <= PENDING
    assert place.obstacles() == []


def test_a_repeated_order_is_carried_out_once(place: Place) -> None:
    place.order()
    first = place.shutdown
    with change_state(place.warm.windows.folder) as state:
        state["events"] = []  # its own note is enough
    assert place.order() == {"kind": "ordered", "boot_id": place.boot, "again": True}
    assert place.shutdown == first


def test_an_order_whose_answer_was_lost_is_recognized(place: Place) -> None:
    place.order()
    (place.folder / "reboot").unlink()  # it was cut off between the order and its note
    assert place.order()["again"] is True
    assert place.order()["again"] is True


def test_the_answer_comes_before_the_machine_goes_down(place: Place) -> None:
    place.order(delay="0")
    shutdown = place.shutdown
    assert shutdown is not None
    assert float(str(shutdown["at"])) - time.time() > 0
    place.by_a_person("/a")


def test_a_later_attempt_takes_the_lock_over(place: Place) -> None:
    place.locked(attempt="1")
    assert place.order()["kind"] == "ordered"
    assert (place.folder / "machine-lock").read_text() == f"run\n{LATER}\nanne\n2\n\n"


def test_an_order_prolongs_the_lock(place: Place) -> None:
    place.locked(until="5000000000")
    place.order(lock_until="6000000000")
    assert (place.folder / "machine-lock").read_text() == "run\n6000000000\nanne\n2\n\n"


def test_a_lock_whose_time_is_over_still_counts(place: Place) -> None:
    place.locked(until=PAST)
    assert place.order()["kind"] == "ordered"


@pytest.mark.parametrize("jobs", [False, True], ids=["no jobs yet", "jobs"])
def test_an_order_of_an_earlier_attempt_is_refused(place: Place, jobs: bool) -> None:
    if jobs:
        place.run("machine_lock", run="run", attempt="3", by="anne", until=LATER)
    place.locked(attempt="3")
    assert (
        place.refused("machine_lock")
        == "run run was resumed: its attempt 3 has the lock, and this order is of attempt 2"
    )


def test_an_order_is_refused_while_another_run_has_the_lock(place: Place) -> None:
    place.locked("other", attempt="1")
    assert place.refused("machine_lock") == "run run no longer has the lock of this machine: run other (anne) has it"


@pytest.mark.parametrize("there", [None, "", "run", "\n\n\n\n", "run\n0\n\n2\n\n"])
def test_an_order_is_refused_when_the_lock_is_gone(place: Place, there: str | None) -> None:
    (place.folder / "machine-lock").unlink()
    if there is not None:
        (place.folder / "machine-lock").write_text(there)
    assert place.refused("machine_lock") == "run run no longer has the lock of this machine: no run has it"


def test_what_was_rebooted_already_says_so_whoever_has_the_lock(place: Place) -> None:
    place.locked("other")
    answer = place.order(boot="another")
    assert (answer["kind"], answer["about"]) == ("refused", "")
    assert "rebooted already" in str(answer["why"])


def test_an_order_that_comes_too_late_for_the_window_is_refused(place: Place) -> None:
    assert "after the last moment at which a reboot fits" in place.refused("window", latest=PAST)
    assert place.order(latest=LATER)["kind"] == "ordered"


def test_it_is_refused_while_a_job_runs(place: Place) -> None:
    host = place.warm.open_host(place.folder, load_test_script)
    host.start_job(Job("one", Script("endless", {})), deadline=Deadline.after(CLOCK, 60))
    assert place.refused("") == "the job one is still running"
    place.run("job_stop", id="one")
    place.warm.wait_for_no_task()
    assert place.order()["kind"] == "ordered"


def test_it_is_refused_while_windows_changes_its_components(place: Place) -> None:
    with change_state(place.warm.windows.folder) as state:
        values = {"ServicingInProgress": {"kind": "DWord", "data": 2}}
        state["registry"][SERVICING] = {"volatile": False, "values": values}
    why = place.refused("lock")
    assert "component servicing" in why
    assert place.obstacles() == [("obstacle", f"lock: {why}")]
    with change_state(place.warm.windows.folder) as state:
        state["registry"][SERVICING]["values"]["ServicingInProgress"]["data"] = 1  # it waits for the reboot
    assert place.obstacles() == []
    assert place.order()["kind"] == "ordered"


@pytest.mark.parametrize(("name", "work"), [("TiWorker", ""), ("TiWorker", "turns"), ("TrustedInstaller", "disk")])
def test_it_is_refused_while_the_worker_of_updates_works(place: Place, name: str, work: str) -> None:
    with change_state(place.warm.windows.folder) as state:
        state["processes"].append({"pid": 8888, "name": name, "start": time.time(), "work": work})
    assert place.refused("lock") == "TiWorker.exe is installing or removing updates"


def test_a_worker_that_has_nothing_to_do_prevents_no_reboot(place: Place) -> None:
    with change_state(place.warm.windows.folder) as state:
        state["processes"].append({"pid": 8888, "name": "TiWorker", "start": time.time(), "work": "nothing"})
    assert place.obstacles() == []
    assert place.order()["kind"] == "ordered"


def test_a_shutdown_that_a_person_has_scheduled_is_left_alone(place: Place) -> None:
    place.by_a_person("/r /t 900 /c 'maintenance by anne'")
    theirs = place.shutdown
    why = place.refused("inhibitor")
    assert why.startswith("a shutdown is scheduled already: ")
    assert "maintenance by anne" in why
    assert place.shutdown == theirs
    assert place.obstacles() == [("obstacle", f"inhibitor: {why}")]
    time.sleep(1.1)  # events and notes know whole seconds
    place.by_a_person("/a")
    assert place.obstacles() == []
    assert place.order()["again"] is False


def test_who_aborts_the_reboot_of_a_run_does_not_get_it_again_from_that_run(place: Place) -> None:
    place.order()
    time.sleep(1.1)
    place.by_a_person("/a")
    with change_state(place.warm.windows.folder) as state:
        for event in state["events"]:
            event["message"] = None  # Windows lacks the texts, or those of the login's language
    given_up, obstacle = place.obstacles()
    assert given_up == ("given_up", r"inhibitor: somebody has aborted the reboot: WINHOST, WINHOST\anne")
    assert obstacle == ("obstacle", given_up[1])
    assert "aborted" in place.refused("inhibitor")
    place.locked("next")
    assert place.obstacles() == [given_up]
    assert place.order(lock_run="next")["again"] is False


def test_it_is_refused_where_it_could_not_say_what_became_of_it(place: Place) -> None:
    (place.folder / "reboot.new").mkdir()
    assert place.refused("room") == f"cannot write {place.folder / 'reboot'}"


def test_a_shutdown_that_fails_says_why() -> None:
    with WarmMachine.opened(Scenario(shutdown_exit_code=5)) as warm:
        place = Place(warm, warm.make_place(), warm.read_boot_id())
        place.locked()
        assert place.refused("failed") == "shutdown.exe failed (5): The system could not be shut down.(5)"


def test_only_an_administrator_may_order_it() -> None:
    with WarmMachine.opened(Scenario(privilege="none")) as warm:
        place = Place(warm, warm.make_place(), warm.read_boot_id())
        place.locked()
        assert place.refused("") == "the login is no administrator"


def test_the_next_boot_has_another_id_and_no_order() -> None:
    with WarmMachine.opened() as warm:
        place = Place(warm, warm.make_place(), warm.read_boot_id())
        place.locked()
        place.order(delay="2")
        warm.windows.wait_for_boot(2)
        before, place.boot = place.boot, warm.read_boot_id()
        assert place.boot != before
        assert place.obstacles() == []
        assert "rebooted already" in str(place.order(boot=before)["why"])
        assert place.shutdown is None
