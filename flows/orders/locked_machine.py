"""One change of a machine outside of a run, under the machine lock: no run changes the machine at the same time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from flows.engine.run_info import build_run_id
from tasks.domain.errors import ConnectionLost, DeadlineExceeded, FleetpatchError, LockLost, ManagerBusy, ScriptFailed
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, JobPhase, Script, ScriptRecord
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.jobs.package_job import submit_job
from tasks.steps.jobs.watch import watch_job

LOCK_DURATION = timedelta(minutes=45)
"""How long the lock lasts if nobody releases it: longer than a change is watched."""
CHANGE_SECONDS = 1_800.0
_SCRIPT_SECONDS = 60.0
_ATTEMPT = "1"


class LockedMachine:
    """Orders to one machine under its lock.

    Args:
        context: of the machine, which was assessed.
        by: who asks, for other runs' messages.
    """

    def __init__(self, context: MachineContext, by: str) -> None:
        self._context = context
        self._by = by
        self.order_id = build_run_id(context.clock.now())
        self._may_still_run = False

    @contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Hold the machine lock in the block. It is kept, and expires, if a job may still run.

        Raises:
            ManagerBusy: a run has the lock.
            ScriptFailed: the machine can't be locked.
        """
        answer = self._order_lock({"until": self._until(), "by": self._by, "kind": "", "preempts": ""})
        if answer.get("kind") == "taken":
            holder = f"run {answer.get('run') or 'unknown'}"
            raise ManagerBusy(
                f"{holder} ({answer.get('by') or 'unknown'}) has locked the machine",
                machine=self._context.name,
                hint=f"Try again after it, or look at it: fleetpatch unlock {self._context.name}",
            )
        if answer.get("kind") != "locked":
            reason = answer.get("why") or "the machine gave no answer"
            raise ScriptFailed(f"the machine can't be locked: {reason}", exit_code=0, machine=self._context.name)
        try:
            yield
        finally:
            if not self._may_still_run:
                try:
                    self._order_lock({"release": "yes"})
                except FleetpatchError as error:
                    message = f"{self._context.name}: its lock could not be released, so it expires: {error.message}"
                    self._context.listener.on_message(message)

    def run_script(self, script: Script) -> Sequence[ScriptRecord]:
        """Run a script that compares the lock, and return its records. Raise LockLost if the machine refused it."""
        deadline = Deadline.after(self._context.clock, _SCRIPT_SECONDS)
        records = self._context.transport.run_script(self._with_token(script), deadline=deadline).records
        refused = next((record for record in records if record.get("kind") == "refused"), None)
        if refused is not None:
            message = f"the machine refused the order: {refused.get('why')}"
            raise LockLost(message, exit_code=0, machine=self._context.name)
        return records

    def run_job(self, script: Script, name: str) -> Sequence[ScriptRecord]:
        """Run a script detached, wait for its end, and return its records. The job is never ended from here.

        ``name`` is the end of the job's id.

        Raises:
            JobLost: it ended without a result.
            ConnectionLost, DeadlineExceeded: it may still run; the lock stays.
        """
        job_id = f"{self.order_id}-{name}"
        deadline = Deadline.after(self._context.clock, CHANGE_SECONDS)
        try:
            started = submit_job(self._context, Job(job_id, self._with_token(script)))
            ended = watch_job(self._context, started, self._report, deadline)
        except (ConnectionLost, DeadlineExceeded):
            self._may_still_run = True
            raise
        if ended.phase is not JobPhase.FINISHED:
            message = "the job ended without a result: the machine lost its power, or somebody ended it"
            raise ScriptFailed(message, exit_code=0, machine=self._context.name)
        return ended.events

    def _report(self, record: ScriptRecord) -> None:
        if record.get("kind") == "enrolment_step":
            self._context.listener.on_message(f"{self._context.name}: {record.get('command')}")

    def _with_token(self, script: Script) -> Script:
        token = {"lock_run": self.order_id, "lock_attempt": _ATTEMPT, "lock_until": self._until()}
        return replace(script, params={**script.params, **token})

    def _until(self) -> str:
        now = self._context.clock.now()
        return f"{(now + LOCK_DURATION).timestamp() + self._context.facts.clock_skew_seconds:.0f}"

    def _order_lock(self, params: dict[str, str]) -> ScriptRecord:
        script = Script("machine_lock", {"run": self.order_id, "attempt": _ATTEMPT, **params})
        deadline = Deadline.after(self._context.clock, _SCRIPT_SECONDS)
        records = self._context.transport.run_script(script, deadline=deadline).records
        return records[-1] if records else {}
