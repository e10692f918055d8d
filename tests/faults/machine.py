"""A simulated machine for the harness: more ways to be in trouble, and an eye on what it is asked to do.

What it sees that must never be is told to ``complain`` at the very moment: a job that no journal entry announced, a
transaction begun too late, a lock given back under a running job. The others are asked afterwards (checks.py).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import inf
from typing import Any

from tasks.domain.errors import AuthenticationFailed, FleetpatchError, HostKeyMismatch, LockLost, ScriptFailed
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, ScriptRecord
from tasks.steps.machine.machine_lock import split_lock_holder
from tests.faults.hub import START, HubClock
from tests.faults.late_jobs import LOCK_WAIT, LateJobs
from tests.faults.orders import KNOWN_SCRIPTS, Handed, Orders
from tests.support.fake_packages import FakePackage
from tests.support.fake_transport import Call, _Started
from tests.support.sim_machine import SimMachine


class FaultyMachine(SimMachine):
    """A SimMachine that more can happen to.

    Attributes:
        orders: what it was asked for.
        downs: moments at which it went down, by whatever cause.
        caller: id of the run whose controller speaks with it now, and ``caller_since`` when that took the run's lease.
        heard_of: by run, the latest attempt at it that has locked the machine or ordered anything: when it began.
        attempt: number of the attempt that has the lock.
        lock_kind: kind of the run that has it ("stage": it only downloads).
        must_rest: whether its updaters must rest while anything is installed.
        booted_read_only: its root was writable until a reboot.
        released_by: ids of runs whose controllers tried to give the lock back.
        over_for: ids of runs whose outcome of it is stored and leaves nothing open.
        late_jobs: what holds up the start of its jobs.
    """

    def __init__(
        self,
        clock: HubClock,
        name: str,
        packages: Sequence[FakePackage],
        complain: Callable[[str], None],
        announced: Callable[[str, str, str], bool],
    ) -> None:
        self.orders = Orders()
        self.downs: list[datetime] = []
        self.caller = ""
        self.caller_since = START
        self.heard_of: dict[str, datetime] = {}
        self.attempt = 0
        self.lock_kind = ""
        self.released_by: set[str] = set()
        self.over_for: set[str] = set()
        self.must_rest = False
        self.stranger = False
        self.refuses_login = False
        self.read_only = self.booted_read_only = False
        self.asks_after_boot = ""
        self.after_boot: list[Callable[[], None]] = []
        self._forgotten: set[str] = set()
        self.has_forgotten = False
        self._complain = complain
        self._announced = announced
        super().__init__(clock, name, packages)
        self.late_jobs = LateJobs(self, complain)
        self.answer("probe", self._probe)

    # ---- what can happen to it

    def restart_sshd(self) -> None:
        """Cut the line, and refuse new ones for a moment."""
        self.cut(1.0)

    def power_cut(self) -> None:
        """What runs is lost half-way; it is gone for half a minute and boots anew."""
        super().power_cut()
        self.guard.has_locks, self.guard.given_up = False, None
        self.downs.append(self.fake_clock.now())
        self.world.rebooted()
        self.cut(30)

    def kill_job(self, *, whole: bool) -> None:
        """Kill the running job's shell, or all of its processes."""
        for job_id, started in self._jobs.items():
            if self._phase(started) is JobPhase.RUNNING:
                self.world.kill_job(self, job_id, whole=whole)

    def forget_jobs(self) -> None:
        """Remove the directories of jobs; what they had begun goes on, and they begin nothing more."""
        for job_id, started in self._jobs.items():
            if self._phase(started) is JobPhase.RUNNING:
                self.world.stop(self, job_id)
                self.stopped.discard(job_id)  # who is handed the same job again was not asked to stop
                if started.plan.seconds is not None and started.job.script.name != "restart_services":
                    self.lock(started.plan.seconds - (self.fake_clock.now() - started.at).total_seconds())
        self._forgotten |= set(self._jobs)
        self.has_forgotten = self.has_forgotten or bool(self._forgotten)

    def lock(self, seconds: float) -> None:
        """Let somebody else hold the package manager's lock, unless the machine itself has it as it goes down."""
        now = self.fake_clock.now()
        if self.guard.has_locks:
            return
        self.world.locks = (*self.world.locks, (now, now + timedelta(seconds=seconds)))

    def fill_disk(self) -> None:
        """Let every transaction that is planned from now on fail half-way."""
        for package in self.world.packages:
            package.fails = package.fails or "space: No space left on device"

    def lift_lock(self) -> None:
        """Let a person lift the lock of the run that has it, as lock.sh does: not while a job runs."""
        if self.locked_by is not None and not self.busy and not self.late_jobs.locked:
            self.locked_by = (self.locked_by[0], "lifted by a person", 0.0)

    def come_back_read_only(self) -> None:
        """Have a root from now on, as it boots, that nothing can be written to."""
        self.read_only = self.booted_read_only = True

    def mend(self) -> None:
        """Let somebody mend all that is wrong with it, but not its packages."""
        self._away_until, self.is_off = None, False
        self.stranger = self.refuses_login = self.read_only = self.booted_read_only = False
        self.asks_after_boot = ""
        self.after_boot.clear()
        self.late_jobs.mend()
        self.boots.down_after, self.boots.up_after, self.boots.same_id, self.boots.refuses = 2.0, 20.0, False, ""
        self.boots.can = True
        self.free_kib = 20_000_000
        self.world.assess_error = None
        self.world.others_end()
        self.guard.inhibitor, self.guard.has_locks = "", False
        self.world.bytes_per_second = inf
        self.world.services.fails = ()
        for package in self.world.packages:
            package.fails, package.ignored = "", False
        self.trouble.clear()
        self._plans_by_work.clear()
        self._faults.clear()

    @property
    def reachable(self) -> bool:
        """Whether a login would work now."""
        return self.on_line and not (self.stranger or self.refuses_login)

    @property
    def on_line(self) -> bool:
        """Whether it is up, and its network too."""
        away = self._away_until is not None and self.fake_clock.now() < self._away_until
        return not (away or self.is_off)

    @property
    def busy(self) -> str:
        """Id of the job that runs now, or ""."""
        running = [i for i, started in self._jobs.items() if self._phase(started) is JobPhase.RUNNING]
        return running[0] if running else ""

    # ---- what it is asked

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """See Transport; a directory that was removed makes a job unknown, and it is begun again."""
        if job.id in self._forgotten and not self.busy:
            self._forgotten.discard(job.id)
            del self._jobs[job.id]
        if self.late_jobs.locked:
            self._begin(Call("start", job.id, job.script), deadline)
            with self._heard():
                self.late_jobs.wait_for_lock(deadline)
        known = job.id in self._jobs
        if not known and self.read_only:
            self._begin(Call("start", job.id, job.script), deadline)
            raise ScriptFailed("cannot write its jobs' folder: read-only file system", exit_code=1, machine=self.name)
        why = self.refusal(job, known=known)
        if why:
            self._begin(Call("start", job.id, job.script), deadline)
            lost = LockLost(f"the machine could not start the job: {why}", exit_code=0, machine=self.name)
            run = split_lock_holder(job.script.params.get("lock_run", ""))[0]
            lost.holder = self.locked_by[0] if self.locked_by and self.locked_by[2] else ""
            lost.holder = "" if lost.holder == run else lost.holder
            raise lost
        if not known and not self.busy:
            with self._heard():
                self.late_jobs.hold_up(job, deadline, self.caller, self.caller_since)
        before = len(self._jobs)
        try:
            return super().start_job(job, deadline=deadline)
        finally:
            if not known and len(self._jobs) > before:
                self._took_on(job)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Whoever is heard meanwhile, go on with the one who speaks now."""
        caller, since = self.caller, self.caller_since
        try:
            yield
        finally:
            self.caller, self.caller_since = caller, since

    def _locked_out(self) -> ScriptRecord | None:
        with self._heard():
            return self.late_jobs.refusal(Deadline.after(self.fake_clock, LOCK_WAIT + 5))

    def begin_by_itself(self, job: Job, run_id: str, since: datetime) -> None:
        """Begin a job whose order was held up, whether or not anybody is there."""
        if job.id not in self._jobs:
            self.caller, self.caller_since = run_id, since
            self._jobs[job.id] = _Started(job, self._plans[job.script.name](job), self.fake_clock.now())
            self._took_on(job)

    def refusal(self, job: Job, *, known: bool) -> str:
        """Return why a job may not be begun in that name, or ""; a later attempt has the lock from now on."""
        run, _ = split_lock_holder(job.script.params.get("lock_run"))
        attempt = int(str(job.script.params.get("lock_attempt", 0)))
        holder = self.locked_by
        if not run:
            return ""
        if holder is None or holder[0] != run or not holder[2]:
            whose = f"run {holder[0]} ({holder[1]})" if holder and holder[2] else "no run"
            return "" if known else f"run {run} no longer has the lock of this machine: {whose} has it"
        if attempt < self.attempt:
            return "" if known else f"run {run} was resumed"
        self.attempt = attempt
        until = max(holder[2], float(str(job.script.params.get("lock_until", 0))))
        self.locked_by = (run, holder[1], until)
        return ""

    def reboot_refusal(self, script: Script) -> str:
        """Return why a reboot may not be ordered in that name, or "": as for a job."""
        return self.refusal(Job("reboot", script), known=False)

    def poll_job(self, job_id: str, *, deadline: Deadline, **named: Any) -> JobStatus:
        """See Transport."""
        if job_id not in self._forgotten:
            return super().poll_job(job_id, deadline=deadline, **named)
        self._end(self._begin(Call("look", job_id), deadline))
        return JobStatus(job_id, JobPhase.ABSENT, events_offset=named.get("events_from", 0))

    def _begin(self, call: Call, deadline: Deadline) -> FleetpatchError | None:
        fault = super()._begin(call, deadline)
        if call.verb == "run" and call.name not in KNOWN_SCRIPTS:
            self._complain(f"{self.name} was sent the script {call.name}, which is unknown")
        if self.stranger:
            self._end(HostKeyMismatch("another key than the pinned one", machine=self.name))
        if self.refuses_login:
            self._end(AuthenticationFailed("the login was refused", machine=self.name))
        return fault

    def _took_on(self, job: Job) -> None:
        work = str(job.script.params["work"])
        skew = max(self.world.skew_seconds, self.lasting_skew(job.script))
        self.orders.jobs.append(Handed(self.fake_clock.now(), job, skew, self.caller))
        if not self._announced(self.name, work, job.id):
            self._complain(f"{self.name} received job {job.id}, and no journal entry precedes it")
        if (
            self.must_rest
            and work not in {"stage", "restart"}
            and not self.downs
            and not self.rests_for
            and self._may_begin(job)
        ):
            self._complain(f"{self.name} received job {job.id} while its own updaters could still run")
        if self.caller in self.over_for:
            self._complain(f"{self.name} began job {job.id} of run {self.caller}, whose outcome of it was stored")
        self._obeyed(f"received job {job.id}")

    def _may_begin(self, job: Job) -> bool:
        """Whether a job has anything left that it may begin: handed over again after its window it only tells that."""
        now, params = self.fake_clock.now().timestamp() + self.world.skew_seconds, job.script.params
        return any(
            float(str(params.get(f"tx_{number}_latest_start", "inf"))) >= now for number in params.get("numbers", ())
        )

    def _obeyed(self, what: str) -> None:
        """Complain of an act in the name of somebody who has not the machine."""
        holder = self.locked_by
        if holder is None or holder[0] != self.caller or not holder[2]:
            whose = holder[0] if holder and holder[2] else "no run"
            self._complain(f"{self.name} {what} of run {self.caller} while {whose} has the lock")
        if self.caller_since < self.heard_of.get(self.caller, START):
            self._complain(f"{self.name} {what} by a controller whose run another process had resumed")
        self.heard_of[self.caller] = self.caller_since

    def _take_lock(self, script: Script) -> ScriptRecord:
        """As machine_lock.sh: kept under a running job; then no other run takes it, and no earlier attempt."""
        if self.read_only:
            return {"kind": "refused", "why": "cannot write its jobs' folder"}
        if locked := self._locked_out():
            return locked
        run, attempt = split_lock_holder(script.params["run"])[0], int(str(script.params["attempt"]))
        now = self.fake_clock.now().timestamp() + self.world.skew_seconds
        holder, until = (self.locked_by[0], self.locked_by[2]) if self.locked_by else ("", 0.0)
        ours, release, busy = holder == run, bool(script.params.get("release")), self.minds()
        gives_way = not ours and self._preempt(script, busy)
        until = 0.0 if gives_way else until
        if attempt < self.attempt if ours else until > now or (busy and not release):
            return {"kind": "taken", "run": holder, "by": "sim", "until": until, "job": busy, "ending": gives_way}
        if release and ours and busy:
            return {"kind": "kept", "run": run, "job": busy}
        if ours and release:
            self.locked_by, self.attempt, self.lock_kind = (run, "", 0.0), attempt, ""
        if self.busy and (release or self._run_of(self.busy) != run):
            self._complain(f"{self.name}: run {run} released or acquired the lock while job {self.busy} was running")
        if release:
            return {"kind": "released", "run": run}
        until = max(until if ours else 0.0, float(str(script.params["until"])))
        self.locked_by, self.lock_kind = (run, str(script.params["by"]), until), str(script.params.get("kind", ""))
        self.attempt, self.heard_of[run] = attempt, max(self.caller_since, self.heard_of.get(run, START))
        return {"kind": "locked", "run": run}

    def _show_lock(self, script: Script) -> list[ScriptRecord]:
        """As lock.sh, for the undo of a run that is over: the lock is not removed while a job runs."""
        told = super()._show_lock(Script(script.name, {}))
        told[0] = {**told[0], "job": self.minds(), "attempt": self.attempt}
        if not script.params.get("lift"):
            return told
        if self._locked_out() or self.read_only or self.minds():
            return [*told, {"kind": "refused", "why": "a job runs, or it can't be written"}]
        told, holder = super()._show_lock(script), told[0]["run"]
        if told[-1]["kind"] == "lifted":
            if holder not in self.over_for:
                self._complain(f"{self.name}: run {self.caller} removed the lock of run {holder}, which is not over")
            self.locked_by = (str(holder), "lifted", 0.0)
        return told

    def _preempt(self, script: Script, busy: str) -> bool:
        """As preempt in machine_lock.sh: whether the lock of another run gives way. Its job is asked to stop."""
        gives_way = bool(self.lock_kind) and self.lock_kind == script.params.get("preempts")
        holder = self.locked_by[0] if self.locked_by else ""
        works = {str(handed.job.script.params["work"]) for handed in self.orders.jobs if handed.run_id == holder}
        if gives_way and works - {"stage"}:
            self._complain(f"{self.name} gave the lock of run {holder} to another run, but that run does {works}")
        if gives_way and busy:
            self.world.stop(self, busy, by=f"{split_lock_holder(script.params['run'])[0]} ({script.params['by']})")
        return gives_way

    def _order_updaters(self, script: Script) -> list[ScriptRecord]:
        """As updaters.sh: for the run and the attempt that have the lock; to undo it, nobody else must have it."""
        if locked := self._locked_out():
            return [locked]
        run, restore = split_lock_holder(script.params["lock_run"])[0], script.params["work"] == "restore"
        ours = self.locked_by is not None and self.locked_by[0] == run and bool(self.locked_by[2])
        why = "cannot write" if self.read_only else ""
        why = why or ("" if restore and not ours else self.refusal(Job("updaters", script), known=False))
        if why:
            return [{"kind": "refused", "why": why}]
        if not restore and not self._announced(self.name, "pause_updaters", "updaters"):
            self._complain(f"{self.name} was told to pause its updaters, and no journal entry precedes it")
        return super()._order_updaters(script)

    def minds(self) -> str:
        """Return the id of the job that keeps the lock where it is, or ""."""
        return self.busy

    def _run_of(self, job_id: str) -> str:
        return next((handed.run_id for handed in self.orders.jobs if handed.job.id == job_id), "")

    def _probe(self, script: Script) -> ScriptRecord:
        if "kill" in str(script.params.get("command")):
            self.orders.killed.append(self.busy)
            self.kill_job(whole=True)
        return {"kind": "probe", "exit_code": 0, "text": ""}

    def _reboot(self, script: Script) -> ScriptRecord:
        if locked := self._locked_out():
            return {**locked, "boot_id": self.boot_id}
        expected = str(script.params["expected_boot_id"])
        why = self.reboot_refusal(script) if expected == self.boot_id else ""
        if why:
            return {"kind": "refused", "why": why, "boot_id": self.boot_id, "about": "machine_lock"}
        if self.busy and expected == self.boot_id and not self.boots.refuses:
            self.boots.orders.append(expected)
            self.boots.ordered_at.append(self.fake_clock.now())
            return {"kind": "refused", "why": f"the job {self.busy} is still running", "boot_id": self.boot_id}
        answer = super()._reboot(script)
        if answer["kind"] == "ordered":
            self.orders.reboots.append((self.fake_clock.now(), self.caller, expected))
            self._obeyed("was ordered to reboot")
            if not self._announced(self.name, "reboot", expected):
                self._complain(f"{self.name} was ordered to reboot, and no journal entry precedes it")
        return answer

    def _go_down(self) -> None:
        busy, others, before = self.busy, self.guard.others_at_work, self.boots.count
        super()._go_down()
        if self.boots.count == before:
            return
        if busy:
            self._complain(f"{self.name} was rebooted by fleetpatch while job {busy} was running")
        if others:
            self._complain(f"{self.name} was rebooted by fleetpatch during a transaction of others")
        self.downs.append(self.fake_clock.now())
        if self.asks_after_boot:
            self.world.shelf.reboot_reasons.append(self.asks_after_boot)
        for then in self.after_boot:
            then()

    def _facts(self) -> list[ScriptRecord]:
        return [{**r, "read_only": True} if self.read_only and r["kind"] == "disk" else r for r in super()._facts()]
