"""Services that run replaced files on a fake machine, and the job that restarts them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.transport import Job, JobPhase, ScriptRecord, ScriptResult
from tests.support.fake_transport import FakeTransport, SimulatedJob

SECONDS = 4.0
"""How long a restart takes."""


@dataclass
class FakeServices:
    """What updates have left running on replaced files, and how it restarts.

    Attributes:
        outdated: units that run replaced files now.
        skew_of: how far the machine's clock is off, as a job knows it.
        fails: units that do not come back from a restart.
        hangs: seconds that a unit's restart takes, where it is another figure.
        starts: when a service begins a run, and how often the system has started it by then; each boot begins one, too.
        restarted: (moment, unit, job id) of each restart that was begun.
    """

    clock: Clock
    skew_of: Callable[[Job], float]
    outdated: list[str] = field(default_factory=list)
    fails: tuple[str, ...] = ()
    hangs: dict[str, float] = field(default_factory=dict)
    starts: list[tuple[datetime, int]] = field(default_factory=list)
    restarted: list[tuple[datetime, str, str]] = field(default_factory=list)
    _coming: list[tuple[datetime, datetime, str, str]] = field(default_factory=list)

    @property
    def failed(self) -> tuple[str, ...]:
        """Units that are failed now: they did not come back from a restart."""
        self.catch_up()
        return tuple(dict.fromkeys(unit for _, unit, _ in self.restarted if unit in self.fails))

    def list_runs(self, boot_id: str) -> list[ScriptRecord]:
        """Return the run of the one service that the machine has."""
        now = self.clock.now()
        one: ScriptRecord = {"kind": "run", "name": "sim.service", "again": True}
        over = [(at, restarts) for at, restarts in self.starts if at <= now]
        if not over:
            return [{**one, "run": boot_id, "restarts": 0, "age": 3600.0}]
        at, restarts = over[-1]
        run = f"{boot_id}-{len(over)}"
        return [{**one, "run": run, "restarts": restarts, "age": (now - at).total_seconds()}]

    def move_in(self, machine: FakeTransport) -> None:
        """Let a fake machine have such a job."""
        machine.job("restart_services", self.start)

    def start(self, job: Job) -> SimulatedJob:
        """Plan a job."""
        return self._planned(job, self.clock.now(), None)

    def stop(self, machine: FakeTransport, job_id: str) -> ScriptResult:
        """Ask a job to stop: what has not begun by now is left."""
        before, result = job_id in machine.stopped, machine._stop(job_id)
        started = machine._jobs[job_id]
        if not before and job_id in machine.stopped and started.lost_at is None:
            self.catch_up()
            started.plan = self._planned(started.job, started.at, self.clock.now())
        return result

    def catch_up(self) -> None:
        """Let what jobs have done by now have happened."""
        now = self.clock.now()
        for entry in [entry for entry in self._coming if entry[0] <= now]:
            begins, ends, unit, job_id = entry
            if (begins, unit, job_id) not in self.restarted:
                self.restarted.append((begins, unit, job_id))
            if ends <= now:
                self._coming.remove(entry)
                self.outdated = [name for name in self.outdated if name != unit or unit in self.fails]

    def renew(self, replaced: list[str]) -> None:
        """Have services run replaced files, when an update has just replaced them."""
        self.catch_up()
        self.outdated += [unit for unit in dict.fromkeys(replaced) if unit not in self.outdated]
        replaced.clear()

    def end(self) -> None:
        """Have all processes end at once, as a reboot or a power cut does."""
        self.catch_up()
        self._coming.clear()
        self.outdated.clear()

    def cut_short(self) -> None:
        """Have the job end at once; the service manager ends what it was asked for."""
        self.catch_up()
        self._coming = [entry for entry in self._coming if entry[0] <= self.clock.now()]

    def _planned(self, job: Job, began: datetime, stop_at: datetime | None) -> SimulatedJob:
        self._coming = [entry for entry in self._coming if entry[0] <= (stop_at or began)]
        params, steps, past = job.script.params, list[tuple[float, ScriptRecord]](), 0.0
        for unit in params["units"]:
            now = began + timedelta(seconds=past)
            at = now.timestamp() + self.skew_of(job)
            why = "window" if at > float(str(params["latest"])) else ""
            why = "stop" if stop_at is not None and stop_at < now else why  # as JobRun
            if why:
                steps.append((past, {"kind": "restart_left", "unit": unit, "at": at, "why": why, "detail": ""}))
                continue
            steps.append((past, {"kind": "restart_started", "unit": unit, "at": at}))
            seconds = self.hangs.get(unit, SECONDS)
            past += seconds
            if stop_at is None or now > stop_at:
                self._coming.append((now, now + timedelta(seconds=seconds), unit, job.id))
            active, code = ("failed", 1) if unit in self.fails else ("active", 0)
            end = {"unit": unit, "at": at + seconds, "exit_code": code, "active": active, "error": ""}
            steps.append((past, {"kind": "restart_ended", **end}))
        return SimulatedJob(steps=(*steps, (past, {"kind": "finished", "at": 0})), seconds=past)


def is_running(machine: FakeTransport) -> bool:
    """Whether a job that restarts services runs."""
    jobs = [started for started in machine._jobs.values() if started.job.script.name == "restart_services"]
    return any(machine._phase(started) is JobPhase.RUNNING for started in jobs)
