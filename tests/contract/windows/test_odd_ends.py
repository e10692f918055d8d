"""What may happen to a machine while its job installs: a shutdown is ordered, the disk is full, files are deleted."""

from pathlib import Path

import pytest

from tasks.domain.errors import ManagerBusy
from tasks.domain.protocols.transport import JobPhase
from tests.contract.windows.job_places import Place, wait
from tests.contract.windows.update_machine import UpdateMachine, of_kind, offer, one, story
from tests.contract.windows.warm_machine import WarmMachine
from tests.lab.windows.running import run
from tests.lab.windows.state import change_state

SLOW = offer(1, install_gate="slow")
FIRST_ONLY = [
    ("download_started", 0),
    ("transaction_started", 0),
    ("transaction_ended", 0),
    ("not_attempted", 1),
    ("finished", None),
]


def test_no_update_is_begun_once_a_shutdown_is_ordered() -> None:
    with UpdateMachine.opened(SLOW, offer(2)) as machine:
        first, second = machine.pending().values()
        job = machine.start(one(0, first), one(1, second))
        machine.wait_for(job, "transaction_started")
        run(machine.warm.windows, "shutdown.exe /r /t 600 /c 'maintenance'", "system")
        with change_state(machine.warm.windows.folder) as state:
            for event in state["events"]:
                event["message"] = None  # Windows lacks the texts, or those of the login's language
        machine.warm.windows.open_gate("slow")
        status = machine.follow(job)
        assert story(status) == FIRST_ONLY
        (left,) = of_kind(status, "not_attempted")
        assert left["why"] == "a shutdown of Windows was ordered"
        program = r"C:\Windows\system32\shutdown.exe (WINHOST)"
        assert left["detail"] == rf"WINHOST\anne has ordered it (restart) with {program}: maintenance"
        run(machine.warm.windows, "shutdown.exe /a", "system")
        machine.install(second, job_id="job-2")
        assert len(machine.done("install")) == 2


def test_the_end_of_an_update_is_recorded_on_a_full_disk_and_nothing_more_is_begun() -> None:
    with UpdateMachine.opened(SLOW, offer(2)) as machine:
        first, second = machine.pending().values()
        job = machine.start(one(0, first), one(1, second))
        machine.wait_for(job, "transaction_started")
        (events,) = machine.warm.system_root.glob(f"*/jobs/{job}/events")
        kept = events.rename(events.with_name("kept"))
        events.symlink_to("/dev/full")
        machine.warm.windows.open_gate("slow")
        wait(lambda: not (events.parent / "reserve").exists())  # the job gives that room to its records
        kept.replace(events)
        status = machine.follow(job)
        assert status.exit_code == 0
        assert story(status) == FIRST_ONLY
        assert of_kind(status, "not_attempted")[0]["why"] == "the disk is full"


def test_a_job_whose_files_are_deleted_is_known_to_run_and_tells_everything(warm: WarmMachine, tmp_path: Path) -> None:
    place = Place(warm)
    place.start(what="waiting", gate=str(tmp_path / "gate"))
    place.begun()
    kept = warm.windows.powershell.kept_files()
    for path in place.job().iterdir():
        if path not in kept:
            path.unlink()
    assert not (place.job() / "run.ps1").exists()
    assert place.phase() is JobPhase.RUNNING
    with pytest.raises(ManagerBusy):
        place.start("two")
    (tmp_path / "gate").touch()
    view = place.ended()
    assert (view.exit_code, [event["kind"] for event in view.events]) == (0, ["begun", "ended"])
    warm.wait_for_no_task()
