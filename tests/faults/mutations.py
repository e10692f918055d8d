"""Each law broken on purpose: a harness that does not notice would prove nothing.

A mutant is the engine with one line of reason taken out. Schedules are played against it until one complains.
"""

import secrets
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from flows.engine import failure_counter
from flows.engine.failure_counter import FailureCounter
from flows.engine.fleet_run import FleetRun
from flows.engine.retrying_records import RetryingRecords
from flows.engine.run_lifecycle import RunLifecycle
from flows.engine.wave_sequence import WaveSequence
from tasks.domain.errors import FleetpatchError, RecordsUnavailable, ScriptFailed
from tasks.domain.model import Finding, RebootResult
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import JobKind as Kind
from tasks.domain.protocols.package_manager import Transaction
from tasks.domain.protocols.transport import Script
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import FindingLevel, RebootState, Step, UpdateState
from tasks.rules.timing.maintenance_window import TimeFit
from tasks.steps import install, outcome, pipeline, precheck, reboot, service_restarts, start_checks, validate
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_control import StopToken
from tasks.steps.jobs import install_result, package_job, watch
from tasks.steps.machine import lock_removal, machine_lock
from tasks.steps.machine.machine_lock import LockResult
from tasks.steps.machine.package_state import read_package_state_with_retry
from tests.faults.breaks import Break, apply_all, replace_attribute, wrap_attribute
from tests.faults.controller import Controller, Keeper, RecordsLine, current_hub
from tests.faults.late_jobs import LateJobs
from tests.faults.machine import FaultyMachine
from tests.faults.reboot_mutants import REBOOT_MUTANTS
from tests.faults.recovery_mutations import RECOVERY_MUTANTS
from tests.faults.site_mutations import SITE_MUTANTS
from tests.faults.way_back_mutants import WAY_BACK_MUTANTS
from tests.support.fake_jobs import JobRun


def _id_of_this_attempt(inner: Any) -> Any:
    def job_id(*words: Any) -> str:
        task = current_hub().current
        owner = task.owner if task else None
        return f"{inner(*words)}-{owner.number if isinstance(owner, Controller) else 0}"

    return job_id


def _kill_on_stop(work: MachineContext, job_id: str) -> None:
    script = Script("probe", {"command": f"kill -9 $(cat jobs/{job_id}/pid)", "timeout": "5"})
    work.transport.run_script(script, deadline=Deadline.after(work.clock, 60))


def _by_exit_code(inner: Any) -> Any:
    def settle(chosen: Any, before: Any, versions: Any, transactions: Any, not_attempted: Any) -> Any:
        good = {name for t in transactions if t.exit_code == 0 for name in t.updates}
        results = inner(chosen, before, versions, transactions, not_attempted)
        return tuple(
            replace(r, state=UpdateState.INSTALLED, version_after=r.update.available) if r.update.id in good else r
            for r in results
        )

    return settle


def _read_as_idle(work: MachineContext) -> Any:
    return replace(read_package_state_with_retry(work), at_work="")


def _unrecorded(inner: Any) -> Any:
    def append(self: Any, entry: Any) -> None:
        try:
            self._inner.append_entry(entry)
        except RecordsUnavailable:
            return

    return append


_UNBOUND = (RecordsLine, "with_lease", lambda self, *_: self)
"""The records write without a look at the lease."""


def _without_its_lease(inner: Any) -> Any:
    def enter(self: Any) -> Any:
        try:
            return inner(self)
        except LeaseHeld:
            self._thread.start()
            return self

    return enter


def _said_to_be_back(work: MachineContext, result: RebootResult, ordered_at: Any) -> tuple[RebootResult, None]:
    return replace(result, state=RebootState.COMPLETED, boot_id_after=result.boot_id_before), None


def _deaf_at_a_lock(inner: Any) -> Any:
    def got_the_lock(run: JobRun, number: str) -> bool:
        stop_at, run.stop_at = run.stop_at, None
        try:
            return bool(inner(run, number))
        finally:
            run.stop_at = stop_at

    return got_the_lock


def _repaired_again(inner: Any) -> Any:
    def repair(work: MachineContext, tally: Any) -> None:
        inner(work, tally)
        part = Transaction(0, (), install._find_latest_start(work, 60), 60)
        watching = install._build_watch_deadline(work)
        tally.add_job_result(package_job.run_job(work, Kind.REPAIR, 1, (part,), watching, submitted_jobs=tally.jobs))

    return repair


def _fewer(inner: Any) -> Any:
    return lambda self, works: inner(self, works)[: max(1, len(works) - 1)]


def _locked(work: MachineContext) -> LockResult:
    return LockResult(Finding("machine lock", FindingLevel.GOOD, "not asked"))


def _unheeded(stack: ExitStack) -> None:
    steps: Any = pipeline.STEP_FUNCTIONS
    inner = steps[Step.PRECHECK]
    stack.enter_context(patch.dict(steps, {Step.PRECHECK: lambda work: replace(inner(work), halted="")}))


def _deaf(stack: ExitStack) -> None:
    stack.enter_context(patch.object(StopToken, "is_stopping", property(lambda self: False)))


def _later(inner: Any) -> Any:
    return lambda work: inner(work) + timedelta(hours=3)


def _unskewed(inner: Any) -> Any:
    return lambda *words, **named: inner(*words, **{**named, "skew_seconds": 0.0})


def _refused(self: LateJobs) -> FleetpatchError:
    self.refused.update(self.held_up)
    return ScriptFailed("the machine could not start the job: it is locked", exit_code=0)


def _freed(inner: Any) -> Any:
    def hand_over(work: MachineContext, job: Any) -> None:
        machine_lock._run_lock_script(work, {"release": "yes"})
        inner(work, job)

    return hand_over


def _always_preemptible(inner: Any) -> Any:
    return lambda work, parameters: inner(work, {**parameters, "kind": "stage"} if "kind" in parameters else parameters)


MUTANTS: dict[str, tuple[str, Break]] = {
    **RECOVERY_MUTANTS,
    "the journal is not written": ("3", replace_attribute(journal, "record_start", lambda *_: None)),
    "a job's id is random": (
        "3",
        replace_attribute(journal, "build_job_id", lambda *_: f"job-{secrets.token_hex(8)}"),
    ),
    "an installation is retried under a new id": (
        "3",
        wrap_attribute(journal, "build_job_id", _id_of_this_attempt),
    ),
    "the end of the window is ignored": (
        "2",
        apply_all(
            wrap_attribute(install, "find_machine_cut_off", _later),
            wrap_attribute(start_checks, "find_machine_cut_off", _later),
        ),
    ),
    "the machine's own clock is ignored": ("2", wrap_attribute(start_checks, "plan_transactions", _unskewed)),
    "a transaction begins however late its download ends": (
        "2",
        apply_all(
            replace_attribute(JobRun, "download_end", lambda self, number: self._at() + 1e5),
            replace_attribute(JobRun, "downloaded_in_time", lambda *_: True),
        ),
    ),
    "a download continues when nothing can be installed any more": (
        "2",
        replace_attribute(JobRun, "download_end", lambda self, number: self._at() + 1e5),
    ),
    "an early download continues after the window": (
        "2",
        wrap_attribute(install, "_find_staging_end", lambda inner: lambda *words: inner(*words) + 3600),
    ),
    "a reboot that does not fit is ordered, and its order has no latest start": (
        "2",
        apply_all(  # and the order does not say how long it is good for: the machine would refuse it
            replace_attribute(reboot, "check_window_fit", lambda *_, **__: TimeFit(fits=True, explanation="")),
            replace_attribute(reboot, "_format_latest_start", lambda work: "9999999999"),
        ),
    ),
    "an ordered reboot is forgotten": (
        "3",
        replace_attribute(reboot, "find_ordered_reboot", lambda *_, **__: ""),
    ),
    "a reboot counts as done without a new boot id": ("5", replace_attribute(reboot, "watch_reboot", _said_to_be_back)),
    "a stop kills the job": ("1", replace_attribute(watch, "request_job_stop", _kill_on_stop)),
    "a stop request is ignored": ("1", _deaf),
    "a freeze that was declared later is ignored": (
        "2",
        replace_attribute(RunLifecycle, "_stop_if_frozen", lambda self: ""),
    ),
    "the exit code is trusted": ("5", wrap_attribute(install_result, "build_update_results", _by_exit_code)),
    "an outcome is dropped": ("one outcome per machine", wrap_attribute(WaveSequence, "_run_machines", _fewer)),
    "a run continues while the records are unavailable": (
        "3",
        wrap_attribute(RetryingRecords, "append_entry", _unrecorded),
    ),
    "the lease of another process is ignored, and the records accept that": (
        "one process per run",
        apply_all(wrap_attribute(Keeper, "__enter__", _without_its_lease), replace_attribute(*_UNBOUND)),
    ),
    "a lost lease is not noticed, and the records accept that": (
        "one process per run",
        apply_all(replace_attribute(Keeper, "still_holds_lease", lambda self: True), replace_attribute(*_UNBOUND)),
    ),
    "the records accept writes without the lease": ("one process per run", replace_attribute(*_UNBOUND)),
    "an earlier attempt releases its machine locks, and the machine accepts that": (
        "one run per machine",
        apply_all(
            replace_attribute(
                StopToken, "mark_lease_lost", lambda self: self.request_stop("another process executes this run now")
            ),
            replace_attribute(machine_lock, "_find_attempt_number", lambda work: 1),
            replace_attribute(FaultyMachine, "minds", lambda self: ""),
        ),
    ),
    "an order does not name its attempt": (
        "one process per run",
        replace_attribute(package_job, "with_lock_token", lambda work, script: script),
    ),
    "the machine does not compare an order with its lock": (
        "one process per run",
        replace_attribute(FaultyMachine, "refusal", lambda *_, **__: ""),
    ),
    "a reboot order does not name its attempt": (
        "one process per run",
        replace_attribute(reboot, "with_lock_token", lambda work, script: script),
    ),
    "the machine does not compare a reboot order with its lock": (
        "one process per run",
        replace_attribute(FaultyMachine, "reboot_refusal", lambda *_: ""),
    ),
    "all attempts have the same number": (
        "one process per run",
        replace_attribute(machine_lock, "_find_attempt_number", lambda work: 1),
    ),
    "no machine lock is acquired": (
        "one run per machine",
        apply_all(
            replace_attribute(precheck, "acquire_lock", _locked),
            replace_attribute(lock_removal, "acquire_lock", _locked),
        ),
    ),
    "the machine lock is released too early": (
        "one run per machine",
        wrap_attribute(package_job, "submit_job", _freed),
    ),
    "the machine lock is never released": (
        "one run per machine",
        replace_attribute(pipeline, "release_lock", lambda work: None),
    ),
    "a download does not give its machine to an installation": (
        "one run per machine",
        replace_attribute(machine_lock, "_DOWNLOADING_KIND", ""),
    ),
    "an installation gives its machine up as a download does": (
        "one run per machine",
        wrap_attribute(machine_lock, "_run_lock_script", _always_preemptible),
    ),
    "a refused job is not withdrawn": ("3", replace_attribute(LateJobs, "withdraw", lambda self, job: None)),
    "a lock of an earlier order counts as a refusal": ("3", replace_attribute(LateJobs, "locked_out", _refused)),
    "an attempt that the machine did not record counts as recorded": (
        "3",
        replace_attribute(
            package_job,
            "announce_attempt",
            lambda work: machine_lock._request_lock(work) and None,
        ),
    ),
    "an order does not contain the machine's clock": (
        "2",
        replace_attribute(machine_lock, "_build_clock_params", lambda facts: {}),
    ),
    "the machine trusts a clock that was set back": (
        "2",
        replace_attribute(FaultyMachine, "lasting_skew", lambda self, script: float("-inf")),
    ),
    "a stop request is ignored during the wait for a lock": (
        "1",
        wrap_attribute(JobRun, "_got_the_lock", _deaf_at_a_lock),
    ),
    "a repair is done twice": ("3", wrap_attribute(install, "_repair_packages", _repaired_again)),
    "a wave begins although the failure budget is exceeded": (
        "7",
        replace_attribute(failure_counter, "check_failures", lambda *_, **__: ""),
    ),
    "a machine begins after its wave exceeded the failure budget": (
        "7",
        replace_attribute(FailureCounter, "add_outcome", lambda *_: None),
    ),
    "unreachable machines are not counted": (
        "7",
        replace_attribute(failure_counter, "check_unreachable", lambda *_: ""),
    ),
    "a plan that is made in a wave is not stored": (
        "3",
        replace_attribute(FleetRun, "_save_late_plan", lambda *_: None),
    ),
    "a failed pre-check is ignored": ("7", _unheeded),
    "services that run replaced files are not reported": (
        "the report is correct",
        apply_all(
            replace_attribute(validate, "check_outdated_services", lambda *_, **__: ()),
            replace_attribute(outcome, "check_outdated_services", lambda *_, **__: ()),
        ),
    ),
    "packages that could not be checked count as good": (
        "the report is correct",
        apply_all(
            replace_attribute(validate, "check_concurrent_changes", lambda *_: ()),
            replace_attribute(outcome, "check_concurrent_changes", lambda *_: ()),
        ),
    ),
    "packages that another process is changing count as results": (
        "the report is correct",
        apply_all(  # the second read would else be repeated without an end
            replace_attribute(install_result, "wait_for_idle_packages", lambda work, *_: _read_as_idle(work)),
            replace_attribute(install_result, "read_package_state_with_retry", _read_as_idle),
        ),
    ),
    "services are restarted although the window is too short": (
        "2",
        apply_all(
            replace_attribute(
                service_restarts, "check_window_fit", lambda *_, **__: TimeFit(fits=True, explanation="")
            ),
            replace_attribute(service_restarts, "_format_latest_start", lambda work: "9999999999"),
        ),
    ),
    "services with logins are restarted": (
        "what a run does not touch",
        replace_attribute(
            service_restarts,
            "find_restartable_services",
            lambda packages, exclude: packages.services_to_restart,
        ),
    ),
    "services are restarted under a new id": (
        "3",
        wrap_attribute(
            journal,
            "build_job_id",
            lambda inner: lambda *w: _id_of_this_attempt(inner)(*w) if "restart" in w else inner(*w),
        ),
    ),
    "services are restarted without a request": (
        "7",
        replace_attribute(service_restarts, "is_restart_wanted", lambda work: True),
    ),
    "a root that became read-only is not noticed": (
        "the report is correct",
        apply_all(
            replace_attribute(validate, "check_mounts_writable", lambda *_: ()),
            replace_attribute(reboot, "check_mounts_writable", lambda *_: ()),
        ),
    ),
    **REBOOT_MUTANTS,
    **SITE_MUTANTS,
    **WAY_BACK_MUTANTS,
}
"""By name: the law that it breaks, and how."""
