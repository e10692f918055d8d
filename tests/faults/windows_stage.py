"""One case on a Windows machine of the tests: WinRM and PowerShell are real; Windows Update and power are stand-ins."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flows.execution import execute_run
from flows.local_run import LocalRunner
from tasks.domain.model import Outcome, RunReport
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import OperationState, RebootState, UpdateState
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.steps.context.run_control import StopToken
from tests.faults.controllers import LAST, RUN, Broken, Controllers, NotReached
from tests.lab.windows.fault_schedule import ALWAYS, Fault, What
from tests.lab.windows.patching import QUICK, Strike, WindowsFleet, count, cumulative, guid, judge, kb, offer
from tests.lab.windows.running import run as run_on
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.served_machine import ServedMachine
from tests.lab.windows.state import change_state
from tests.support.forked import ForkedProcess

SLOW, PLAIN, BOOTS = 1, 2, 3
"""Numbers of the updates that every machine is offered: one that waits for ``let_go``, another, one with a reboot."""
GATE = "slow"


_rates, _users, _lock = ExitStack(), [0], threading.Lock()


@contextmanager
def quick_rates() -> Iterator[None]:
    """Let windows be seconds long for all Windows machines, until the last of the cases that run side by side ends."""
    with _lock:
        if _users[0] == 0:
            _rates.enter_context(patch.object(WindowsUpdateManager, "default_rates", QUICK))
        _users[0] += 1
    try:
        yield
    finally:
        with _lock:
            _users[0] -= 1
            if _users[0] == 0:
                _rates.close()


def scenario(name: str, **changes: Any) -> Scenario:
    """Return a machine; its folder is named for it."""
    updates = (offer(SLOW, install_gate=GATE), offer(PLAIN), cumulative(BOOTS))
    return Scenario(name=name, **{"updates": updates, "configuring_seconds": 0.5, **changes})


@dataclass
class WindowsHost:
    """What cases do to a machine."""

    served: ServedMachine
    reboots_of_others: int = 0

    @property
    def root(self) -> Path:
        """fleetpatch's own folder on it."""
        return self.served.machine.folder / "C/Windows/FleetPatch"

    def boot_id(self) -> int:
        """Return the number of its boot."""
        return self.served.machine.boot_number

    def crash(self) -> None:
        """Cut its power for a moment."""
        self.served.machine.power_cut()

    def reboot_by_person(self) -> None:
        """Restart it, as a person who is logged in does."""
        self.reboots_of_others += 1
        run_on(self.served.machine, "& (Join-Path $env:SystemRoot 'System32/shutdown.exe') /r /t 0 /f", "system")

    def wait_reboot(self, before: int) -> None:
        """Wait until it is up after another boot."""
        self.served.machine.wait_for_boot(before + 1)

    def wait_login(self) -> None:
        """Wait until it is up."""
        self.served.machine.wait_for_boot(1)

    def cut(self) -> None:
        """Let nobody reach it. It works on, and its shells stay."""
        self.served.host.add_faults([Fault("connect", What.RESET, times=ALWAYS)])
        self.served.host.drop_connections()

    def mend(self) -> None:
        """Let it be reached again."""
        self.served.host.schedule.clear()

    def hold(self) -> None:
        """Let SLOW take until ``let_go``."""
        (self.served.machine.folder / "gates" / GATE).unlink(missing_ok=True)

    def let_go(self) -> None:
        """Let SLOW come to its end."""
        self.served.machine.open_gate(GATE)

    def other_updater(self, seconds: float) -> None:
        """Let another program use the Windows Update Agent, from now on for so long; 0: it has ended."""
        with change_state(self.served.machine.folder) as state:
            state["busy_until"] = state["servicing_until"] = time.time() + seconds

    def set_clock(self, ahead: int) -> None:
        """Let its clock be ahead of the true time by so many seconds."""
        with change_state(self.served.machine.folder) as state:
            state["clock_ahead"] = ahead

    def kill_job(self) -> None:
        """End the process of its job."""
        newest = max((self.root / "jobs").glob("*/meta.json"), key=lambda meta: meta.stat().st_mtime)
        # a stand-in's process that is killed executes its finally blocks; a true one would write no exit code
        (newest.parent / "rc.new").unlink()
        (newest.parent / "rc.new").mkdir()
        run_on(self.served.machine, f"Stop-Process -Id {json.loads(newest.read_text())['pid']} -Force", "system")

    def delete_jobs(self) -> None:
        """Delete the folders of its jobs, as far as Windows lets anybody: see ``PowerShellProcess.kept_files``."""
        kept = self.served.machine.powershell.kept_files()
        for path in (self.root / "jobs").rglob("*"):
            if path.is_file() and path not in kept:
                path.unlink()

    def installed(self) -> dict[str, bool]:
        """Return which updates are installed, or will be with the next boot."""
        updates = self.served.machine.read_state()["updates"]
        return {kb(n): bool(it["installed"] or it["pending"]) for n in (SLOW, PLAIN, BOOTS) if (it := updates[guid(n)])}

    def times(self, number: int) -> int:
        """Return how often an update was installed."""
        return int(self.served.machine.read_state()["updates"][guid(number)]["installs"])

    def is_installing(self) -> bool:
        """Whether an installation is at work."""
        return self.served.machine.read_state()["activity"] is not None


@dataclass
class WindowsStage(Controllers):
    """What a case plays on."""

    host: WindowsHost
    fleet: WindowsFleet
    place: Path
    records_url: str
    control: StopToken = field(default_factory=StopToken)
    begun: list[ForkedProcess] = field(default_factory=list)
    may_keep_lock: bool = False
    """Whether something struck so late that the machine may not have answered when its lock was to be released."""

    @classmethod
    @contextmanager
    def opened(cls, place: Path, machine: Scenario) -> Iterator["WindowsStage"]:
        """Switch a machine on."""
        with quick_rates(), WindowsFleet.opened(place, machine) as fleet:
            fleet.describe("http")  # with NTLM and sealing
            stage = cls(WindowsHost(fleet.one), fleet, place, fleet.records_url)
            stage.host.let_go()
            try:
                yield stage
            finally:
                stage.end()

    def describe_request(self, *masks: str, **fields: Any) -> None:
        """Write the request where controllers look for it."""
        (self.place / "request.json").write_text(self.fleet.request(*masks, **fields).model_dump_json())

    def patch(
        self, *masks: str, at: str = "", then: Callable[[], object] = lambda: None, run: str = RUN, **fields: Any
    ) -> RunReport:
        """Patch the machine in this process, and let the fault strike at a step."""
        watch = self.fleet.watch = Strike({"stage": "downloading"}.get(at, at), then)
        self.fleet.control = self.control
        request = self.fleet.request(*masks, **fields)
        report = execute_run(request, self.fleet.caller(run), lambda request, ports: LocalRunner())
        if at and not watch.struck.is_set():
            raise NotReached(f"the run did not reach {at}, so no fault was injected: {watch.messages}")
        return report

    # ---- what is asked afterwards

    def outcome(self, run: str = RUN) -> Outcome:
        """Return the machine's outcome by the records."""
        return self.fleet.outcome(run)

    def judge(self, run: str = RUN) -> None:
        """Ask the machine what became of it, and compare that with what was reported."""
        with open_records(self.records_url) as records:
            history = History(records)
            report, journal = history.read_report(run), history.read_journal(run)
        if report.run.state in (OperationState.IN_PROGRESS, OperationState.UNKNOWN):
            raise Broken(f"run {run} is still {report.run.state}")
        if len(report.outcomes) != 1:
            raise Broken(f"the machine has {len(report.outcomes)} outcomes")
        outcome = self.outcome(run)
        if outcome.error is not None and outcome.error.kind == "InternalError":  # of the fault that strikes, as well
            raise Broken(f"a defect: {outcome.error.message}")
        judge(self.host.served, outcome)
        if self.host.served.host.settings.in_the_clear:
            raise Broken("messages were sent in the clear")
        announced = [each for each in journal if each.mark is JournalMark.BEFORE]
        ordered = {each.key for each in announced if each.act == "reboot"}
        if len(ordered) > 1:
            raise Broken(f"rebooted {len(ordered)} times")
        boots = count(self.host.served, "boot", clean=True) - self.host.reboots_of_others
        if run == RUN and boots > len(ordered):
            raise Broken(f"{boots} reboots, and {len(ordered)} were announced")
        strange = {job.name for job in self.jobs() if run in job.name} - {each.key for each in announced}
        if strange:
            raise Broken(f"jobs that no journal entry announced: {strange}")
        self._judge_lock(outcome, run)

    def jobs(self) -> list[Path]:
        """Return the folders of the jobs that have begun."""
        return [meta.parent for meta in (self.host.root / "jobs").glob("*/meta.json")]

    def _judge_lock(self, outcome: Outcome, run: str) -> None:
        doubt = self.may_keep_lock or outcome.reboot is RebootState.FAILED or outcome.error is not None
        doubt = doubt or any(result.state is UpdateState.PENDING for result in outcome.updates)
        lock = self.host.root / "machine-lock"
        held = lock.read_text() if lock.exists() else ""
        if run in held and self.lock_until(held) != 0 and not doubt:
            raise Broken(f"the machine lock is left behind: {held}")

    @staticmethod
    def lock_until(lock: str) -> int:
        """Return until when a machine lock is held."""
        return int(lock.splitlines()[1])

    def last_run_heals(self) -> None:
        """Patch once more, undisturbed: everything is installed, once. Where all is, the machine's word is enough."""
        if self._is_whole():
            return
        self.host.let_go()
        self.host.mend()
        self.host.other_updater(0)
        self.host.set_clock(0)
        self.control = StopToken()
        (self.host.root / "machine-lock").unlink(missing_ok=True)  # of a run in doubt; it would end by itself
        self.patch(run=LAST, repair=True)
        self.judge(LAST)
        wrong = [name for name, is_there in self.host.installed().items() if not is_there]
        if wrong:
            raise Broken(f"the next run did not install {wrong}: {self.outcome(LAST).reason}")

    def _is_whole(self) -> bool:
        """Whether nothing is left for a next run, and none would be kept out."""
        good = (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS)
        if self.outcome().state not in good or not all(self.host.installed().values()):
            return False
        lock = self.host.root / "machine-lock"
        state = self.host.served.machine.read_state()
        is_free = not lock.exists() or self.lock_until(lock.read_text()) == 0
        return is_free and not state["reboot_required"] and all((job / "rc").exists() for job in self.jobs())
