"""A machine made of handlers and simulated jobs, that keeps to the Transport's contract and breaks when it is told to.

machine = FakeTransport(FakeClock())
machine.answer("facts", {"kind": "os", "id": "debian"})                    # records, or a callable of the Script
machine.job("apt_job", SimulatedJob(steps=((0, {"kind": "begun"}), (30, {"kind": "finished"})), seconds=31))
machine.fail(ConnectionLost("cut"), call=3)                                 # the third call from now is cut
machine.fail(ConnectionLost("cut"), on="start", after_the_act=True)         # the job is started, its reply is lost
machine.crash()                                                            # a power cut: running jobs are lost
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tasks.domain.errors import DeadlineExceeded, FleetpatchError, ManagerBusy, RequestError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, ScriptRecord, ScriptResult
from tasks.machines.transport.script_host import MAX_LOG_BYTES, require_valid_job_id

Answer = ScriptResult | ScriptRecord | Iterable[ScriptRecord]
Handler = Callable[[Script], Answer]


@dataclass(frozen=True, slots=True)
class SimulatedJob:
    """What a job does once it was started.

    Attributes:
        steps: (seconds after the start, record), in order.
        seconds: how long it runs; None for as long as the machine does.
        exit_code: that it leaves then.
        log: its raw output, there from the start.
        effect: called once, at the moment the job's end is first seen; changes the fake world.
    """

    steps: tuple[tuple[float, ScriptRecord], ...] = ()
    seconds: float | None = 0.0
    exit_code: int = 0
    log: str = ""
    effect: Callable[[], None] | None = None


@dataclass(slots=True)
class _Started:
    """A job that was started. ``lingers_until``: what it had begun went on for so long after its shell was killed."""

    job: Job
    plan: SimulatedJob
    at: datetime
    lost_at: datetime | None = None
    lingers_until: datetime | None = None
    settled: bool = False


@dataclass(slots=True)
class _Fault:
    error: FleetpatchError
    countdown: int
    on: str
    after_the_act: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One call that reached the fake: "run", "start" or "look", and what it was for."""

    verb: str
    name: str
    script: Script | None = None


@dataclass
class FakeTransport:
    """A whole machine behind the Transport seam. What it remembers survives ``close``, as a real machine does.

    Attributes:
        clock: tells how far jobs are.
        calls: every call, in order.
        stopped: ids of jobs that were asked to stop (by the script job_stop).
        opened: how often the connection was opened.
        can_wait: whether a look at a job can wait for its end.
    """

    clock: Clock
    name: str = "fake"
    can_wait: bool = False
    calls: list[Call] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)
    opened: int = 0
    _handlers: dict[str, tuple[Handler, float]] = field(default_factory=dict)
    _plans: dict[str, Callable[[Job], SimulatedJob]] = field(default_factory=dict)
    _jobs: dict[str, _Started] = field(default_factory=dict)
    _faults: list[_Fault] = field(default_factory=list)
    _is_open: bool = False

    def answer(self, script: str, answer: Answer | Handler, *, seconds: float = 0.0) -> None:
        """Say what a script gives back (records, a result, or a callable), and how long it takes."""
        handler = answer if callable(answer) else lambda _: answer
        self._handlers[script] = (handler, seconds)

    def job(self, script: str, plan: SimulatedJob | Callable[[Job], SimulatedJob]) -> None:
        """Say what a job with this script does."""
        self._plans[script] = plan if callable(plan) else lambda _: plan

    def fail(self, error: FleetpatchError, *, call: int = 1, on: str = "", after_the_act: bool = False) -> None:
        """Let the n-th call from now fail, counting only those of a verb or script name when ``on`` is given."""
        self._faults.append(_Fault(error, call, on, after_the_act))

    def crash(self) -> None:
        """Cut the machine's power, and give it back at once."""
        for started in self._jobs.values():
            if self._phase(started) is JobPhase.RUNNING:
                started.lost_at, started.lingers_until = self.clock.now(), None
        self._is_open = False

    def started(self, job_id: str) -> Job:
        """Return a job that was started; KeyError when none was."""
        return self._jobs[job_id].job

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """See Transport."""
        lost = self._begin(Call("run", script.name, script), deadline)
        if script.name == "job_stop" and script.name not in self._handlers:
            result = self._stop(str(script.params["id"]))
        elif script.name in self._handlers:
            handler, seconds = self._handlers[script.name]
            self._pass(seconds, deadline)
            result = _result(handler(script), seconds)
        else:
            raise RequestError(f"there is no script named '{script.name}' for this fake", machine=self.name)
        self._end(lost)
        return result

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """See Transport."""
        require_valid_job_id(job.id)
        lost = self._begin(Call("start", job.id, job.script), deadline)
        attached = job.id in self._jobs
        if not attached:
            self._refuse_second(job.id)
            if job.script.name not in self._plans:
                raise RequestError(f"there is no job script named '{job.script.name}' for this fake", machine=self.name)
            self._jobs[job.id] = _Started(job, self._plans[job.script.name](job), self.clock.now())
        self._end(lost)
        started = self._jobs[job.id]
        phase = self._settle(started)
        code = started.plan.exit_code if phase is JobPhase.FINISHED else None
        return JobStatus(job.id, phase, code, attached=attached, can_wait=self.can_wait)

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        """See Transport."""
        require_valid_job_id(job_id)
        lost = self._begin(Call("look", job_id), deadline)
        self._end(lost)
        if job_id not in self._jobs:
            return JobStatus(job_id, JobPhase.ABSENT, events_offset=events_from, log_offset=log_from)
        started = self._jobs[job_id]
        if self.can_wait and wait_seconds and self._phase(started) is JobPhase.RUNNING:
            ends_in = wait_seconds if started.plan.seconds is None else started.plan.seconds - self._ran(started)
            self._pass(max(0.0, min(wait_seconds, ends_in)), deadline)
        phase = self._settle(started)
        until = (started.lost_at or self.clock.now()) - started.at
        lines = b"".join(_line(record) for after, record in started.plan.steps if after <= until.total_seconds())
        log = started.plan.log.encode()[log_from : log_from + MAX_LOG_BYTES]
        events = tuple(json.loads(line) for line in lines[events_from:].splitlines())
        return JobStatus(
            job_id=job_id,
            phase=phase,
            exit_code=started.plan.exit_code if phase is JobPhase.FINISHED else None,
            events=events,
            events_offset=max(events_from, len(lines)),
            log=log.decode("utf-8", "replace"),
            log_offset=log_from + len(log),
            can_wait=self.can_wait,
            is_read=self.can_wait and phase is not JobPhase.RUNNING and len(log) < MAX_LOG_BYTES,
        )

    @property
    def is_open(self) -> bool:
        """Whether the connection is up; a Session asks (see tasks/machines/transport/session.py)."""
        return self._is_open

    def connect(self) -> "FakeTransport":
        """Open the connection by hand, as an opener for a Session does."""
        self._is_open = True
        self.opened += 1
        return self

    def close(self) -> None:
        """See Transport."""
        self._is_open = False

    def _begin(self, call: Call, deadline: Deadline) -> FleetpatchError | None:
        """Count the call; raise a fault that comes before the act, return one that comes after it."""
        self.calls.append(call)
        if not self._is_open:
            self._is_open = True
            self.opened += 1
        self._pass(0.0, deadline)
        for fault in list(self._faults):
            if fault.on not in {"", call.verb, call.name}:
                continue
            fault.countdown -= 1
            if fault.countdown > 0:
                continue
            self._faults.remove(fault)
            if fault.after_the_act:
                return fault.error
            self._end(fault.error)
        return None

    def _end(self, error: FleetpatchError | None) -> None:
        if error is not None:
            self._is_open = False
            error.machine = error.machine or self.name
            raise error

    def _pass(self, seconds: float, deadline: Deadline) -> None:
        left = deadline.remaining_seconds(self.clock)
        if left <= seconds:
            if left > 0:
                self.clock.sleep(left)
            raise DeadlineExceeded("the machine did not answer in the time it was given", machine=self.name)
        if seconds:
            self.clock.sleep(seconds)

    def _stop(self, job_id: str) -> ScriptResult:
        require_valid_job_id(job_id)
        started = self._jobs.get(job_id)
        phase = self._phase(started) if started else JobPhase.ABSENT
        if phase is JobPhase.RUNNING:
            self.stopped.add(job_id)
        return ScriptResult(
            ({"kind": "job", "id": job_id, "phase": phase.value, "asked": phase is JobPhase.RUNNING},), 0
        )

    def _refuse_second(self, job_id: str) -> None:
        for other, started in self._jobs.items():
            if self._phase(started) is JobPhase.RUNNING:
                raise ManagerBusy(
                    f"another job of fleetpatch still runs on the machine: {other} ({started.job.script.name})",
                    machine=self.name,
                    hint=f"Wait for its end before {job_id} is started, or attach to the run that started it.",
                )

    def _phase(self, started: _Started) -> JobPhase:
        if started.lost_at is not None:
            lingers = started.lingers_until is not None and self.clock.now() < started.lingers_until
            return JobPhase.RUNNING if lingers else JobPhase.LOST
        over = started.plan.seconds is not None and self._ran(started) >= started.plan.seconds
        return JobPhase.FINISHED if over else JobPhase.RUNNING

    def _ran(self, started: _Started) -> float:
        return (self.clock.now() - started.at).total_seconds()

    def _settle(self, started: _Started) -> JobPhase:
        phase = self._phase(started)
        if phase is JobPhase.FINISHED and not started.settled:
            started.settled = True
            if started.plan.effect is not None:
                started.plan.effect()
        return phase


def _line(record: ScriptRecord) -> bytes:
    return json.dumps(dict(record), ensure_ascii=False).encode() + b"\n"


def _result(answer: Answer, seconds: float) -> ScriptResult:
    if isinstance(answer, ScriptResult):
        return answer
    records = (answer,) if isinstance(answer, Mapping) else tuple(answer)
    return ScriptResult(records, 0, seconds=seconds)
