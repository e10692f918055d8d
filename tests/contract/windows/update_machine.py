"""A Windows machine with updates to install, seen through its package manager. For tests of the scripts."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, SimulationResult, Transaction
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, ScriptRecord
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager
from tests.contract.windows.job_places import read_events, wait_for_exit_code
from tests.contract.windows.warm_machine import WarmMachine
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.scenario import Update as Offered

CLOCK = SystemClock()


def guid(number: int) -> str:
    """Return the id of an update."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def offer(number: int, title: str = "2026-11 Update for Windows Server 2022", **changes: Any) -> Offered:
    """Return an update that a machine is offered."""
    return Offered(guid(number), f"{title} (KB50{number:05})", kbs=(f"50{number:05}",), **changes)


def soon(seconds: float = 120) -> Deadline:
    """Time enough for one question."""
    return Deadline.after(CLOCK, seconds)


class UpdateMachine:
    """A machine, its manager, and what became of it."""

    def __init__(self, warm: WarmMachine, manager: WindowsUpdateManager) -> None:
        self.warm = warm
        self.manager = manager
        self.place = warm.make_place()
        self.host = warm.open_host(self.place)

    @classmethod
    @contextmanager
    def opened(cls, *updates: Offered, **scenario: Any) -> Iterator["UpdateMachine"]:
        """Switch a machine on that is offered these updates."""
        with WarmMachine.opened(Scenario(updates=updates, **scenario)) as warm:
            yield cls(warm, WindowsUpdateManager())
            assert warm.windows.stand_in_errors() == [], "a script asked for what Windows does not have"

    def assess(self, *, refresh: bool = True) -> PackageState:
        """Return its package state."""
        return self.manager.assess(self.host, refresh=refresh, deadline=soon())

    def pending(self) -> dict[str, Update]:
        """Return its pending updates by name, in their order."""
        return {update.name: update for update in self.assess().updates}

    def simulate(self, *updates: Update) -> SimulationResult:
        """Return what their installation would do."""
        return self.manager.simulate(self.host, updates, deadline=soon())

    def installed(self, *updates: Update) -> dict[str, str]:
        """Return the versions of those that are installed, by name."""
        found = self.manager.read_installed_versions(self.host, updates, deadline=soon())
        return {update.name: found[update.id] for update in updates if update.id in found}

    def start(
        self,
        *transactions: Transaction,
        kind: JobKind = JobKind.INSTALL,
        job_id: str = "job-1",
        quick: Mapping[str, str] | None = None,
    ) -> str:
        """Start a job, and return its id. ``quick`` replaces parameters of the script."""
        script = self.manager.build_job_script(kind, transactions)
        params = {**script.params, "pause_seconds": "1", "lock_wait_seconds": "20", **(quick or {})}
        script = Script(script.name, params, read_only=False, package=script.package)
        self.host.start_job(Job(job_id, script), deadline=soon())
        return job_id

    def follow(self, job_id: str, seconds: float = 180) -> JobStatus:
        """Wait for a job's end; it has all its records."""
        end = time.monotonic() + seconds
        wait_for_exit_code(self.place / "jobs" / job_id)
        while (status := self.look(job_id)).phase is JobPhase.RUNNING:
            assert time.monotonic() < end, f"{job_id} does not end: {status}"
            wait_for_exit_code(self.place / "jobs" / job_id)
        return status

    def look(self, job_id: str) -> JobStatus:
        """Return what a job has done so far."""
        return self.host.poll_job(job_id, deadline=soon())

    def wait_for(self, job_id: str, kind: str, seconds: float = 60) -> None:
        """Wait until a job has written a record of that kind."""
        end = time.monotonic() + seconds
        while f'"kind":"{kind}"' not in read_events(self.place / "jobs" / job_id):
            assert time.monotonic() < end, f"no {kind}: {self.look(job_id)}"
            time.sleep(0.02)

    def stop(self, job_id: str) -> None:
        """Ask a job to stop."""
        self.host.run_script(Script("job_stop", {"id": job_id}, read_only=False), deadline=soon())

    def install(self, *updates: Update, seconds: float = 600, **options: Any) -> JobStatus:
        """Install each update in a transaction of its own."""
        parts = [one(number, update, seconds=seconds) for number, update in enumerate(updates)]
        status = self.follow(self.start(*parts, **options))
        assert status.phase is JobPhase.FINISHED
        assert status.exit_code == 0, status.log
        return status

    def done(self, what: str) -> list[str]:
        """Return the ids of updates that were downloaded or installed, in that order."""
        return [str(each["id"]) for each in self.warm.windows.read_state()["journal"] if each["what"] == what]


def one(number: int, *updates: Update, seconds: float = 600, stop_in: float | None = None) -> Transaction:
    """Return a transaction that may begin for so long."""
    now = CLOCK.now().timestamp()
    return Transaction(number, updates, now + seconds, 10.0, None if stop_in is None else now + stop_in)


def of_kind(status: JobStatus, *kinds: str) -> list[ScriptRecord]:
    """Return the records of these kinds."""
    return [event for event in status.events if event["kind"] in kinds]


def story(status: JobStatus, *kinds: str) -> Sequence[tuple[object, ...]]:
    """Return the kinds and numbers of the records that tell how it went."""
    kinds = kinds or ("download_started", "transaction_started", "transaction_ended", "not_attempted", "finished")
    return [(event["kind"], event.get("number")) for event in of_kind(status, *kinds)]
