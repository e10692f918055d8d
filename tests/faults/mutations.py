"""Each law broken on purpose: a harness that does not notice would prove nothing.

A mutant is the engine with one line of reason taken out. Schedules are played against it until one complains.
"""
# ruff: noqa: T201 - a program that prints

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import flows.failure_count
import tasks.steps.claim
import tasks.steps.follow
import tasks.steps.handed
import tasks.steps.install
import tasks.steps.jobs
import tasks.steps.journal
import tasks.steps.order
import tasks.steps.precheck
import tasks.steps.reboot
import tasks.steps.report
import tasks.steps.restarts
import tasks.steps.settling
import tasks.steps.validate
from flows.campaign import Campaign
from flows.ceremony import Ceremony
from flows.failure_count import FailureCount
from flows.steady import SteadyRecords
from flows.wave_sequence import WaveSequence
from tasks.errors import FleetpatchError, LeaseHeld, RecordsUnavailable, ScriptFailed
from tasks.model import Finding, RebootResult
from tasks.rules.window import Fit
from tasks.seams.clock import Deadline
from tasks.seams.manager import Transaction
from tasks.seams.manager import Work as Kind
from tasks.seams.transport import Script
from tasks.states import FindingLevel, RebootState, Step, UpdateState
from tasks.steps.claim import ClaimResult
from tasks.steps.context import Control, Work
from tests.faults.controller import Controller, Keeper, RecordsLine, current_hub
from tests.faults.late_jobs import LateJobs
from tests.faults.machine import FaultyMachine
from tests.faults.reboot_mutants import REBOOT_MUTANTS
from tests.faults.recovery_mutations import RECOVERY_MUTANTS
from tests.faults.simulated import soak
from tests.support.fake_jobs import JobRun

SLICE = 25  # cases that are played before it is asked whether one has complained

Break = Callable[[ExitStack], None]


def _put(where: Any, name: str, what: Any) -> Break:
    return lambda stack: stack.enter_context(patch.object(where, name, what)) and None


def _around(where: Any, name: str, wrap: Callable[[Any], Any]) -> Break:
    return lambda stack: stack.enter_context(patch.object(where, name, wrap(getattr(where, name)))) and None


def _all(*breaks: Break) -> Break:
    def do(stack: ExitStack) -> None:
        for each in breaks:
            each(stack)

    return do


def _id_of_this_attempt(inner: Any) -> Any:
    def job_id(*words: Any) -> str:
        task = current_hub().current
        owner = task.owner if task else None
        return f"{inner(*words)}-{owner.number if isinstance(owner, Controller) else 0}"

    return job_id


def _kill_on_stop(work: Work, job_id: str) -> None:
    script = Script("probe", {"command": f"kill -9 $(cat jobs/{job_id}/pid)", "timeout": "5"})
    work.transport.run(script, deadline=Deadline.after(work.context.clock, 60))


def _by_exit_code(inner: Any) -> Any:
    def settle(chosen: Any, before: Any, versions: Any, transactions: Any, not_attempted: Any) -> Any:
        good = {name for t in transactions if t.exit_code == 0 for name in t.updates}
        results = inner(chosen, before, versions, transactions, not_attempted)
        return tuple(
            replace(r, state=UpdateState.INSTALLED, version_after=r.update.available) if r.update.id in good else r
            for r in results
        )

    return settle


def _unrecorded(inner: Any) -> Any:
    def append(self: Any, entry: Any) -> None:
        try:
            self._inner.append(entry)
        except RecordsUnavailable:
            return

    return append


_UNBOUND = (RecordsLine, "held", lambda self, *_: self)
"""The records write without a look at the lease."""


def _without_its_lease(inner: Any) -> Any:
    def enter(self: Any) -> Any:
        try:
            return inner(self)
        except LeaseHeld:
            self._thread.start()
            return self

    return enter


def _said_to_be_back(work: Work, result: RebootResult, ordered_at: Any) -> tuple[RebootResult, None]:
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
    def repair(work: Work, tally: Any) -> None:
        inner(work, tally)
        part = Transaction(0, (), tasks.steps.install._latest(work, 60), 60)
        watching = tasks.steps.install._watching(work)
        tally.add(tasks.steps.jobs.carry_out(work, Kind.REPAIR, 1, (part,), watching, underway=tally.jobs))

    return repair


def _fewer(inner: Any) -> Any:
    return lambda self, works: inner(self, works)[: max(1, len(works) - 1)]


def _claimed(work: Work) -> ClaimResult:
    return ClaimResult(Finding("claim", FindingLevel.GOOD, "not asked"))


def _unheeded(stack: ExitStack) -> None:
    steps: Any = tasks.steps.order.FUNCTIONS
    inner = steps[Step.PRECHECK]
    stack.enter_context(patch.dict(steps, {Step.PRECHECK: lambda work: replace(inner(work), halted="")}))


def _deaf(stack: ExitStack) -> None:
    stack.enter_context(patch.object(Control, "stopping", property(lambda self: False)))


def _later(inner: Any) -> Any:
    return lambda work: inner(work) + timedelta(hours=3)


def _unskewed(inner: Any) -> Any:
    return lambda *words, **named: inner(*words, **{**named, "skew_seconds": 0.0})


def _refused(self: LateJobs) -> FleetpatchError:
    self.refused.update(self.held_up)
    return ScriptFailed("the machine could not start the job: it is locked", exit_code=0)


def _freed(inner: Any) -> Any:
    def hand_over(work: Work, job: Any) -> None:
        tasks.steps.claim._ask(work, {"release": "yes"})
        inner(work, job)

    return hand_over


MUTANTS: dict[str, tuple[str, Break]] = {
    **RECOVERY_MUTANTS,
    "the journal is skipped": ("3", _put(tasks.steps.journal, "about_to", lambda *_: None)),
    "a job's id is made of chance": (
        "3",
        _put(tasks.steps.journal, "job_id", lambda *_: f"job-{secrets.token_hex(8)}"),
    ),
    "an installation is retried under a new id": ("3", _around(tasks.steps.journal, "job_id", _id_of_this_attempt)),
    "the end of the window is ignored": ("2", _around(tasks.steps.install, "over_at", _later)),
    "the machine's own clock is ignored": ("2", _around(tasks.steps.install, "divide", _unskewed)),
    "a transaction begins whenever its download ends": (
        "2",
        _all(
            _put(JobRun, "download_end", lambda self, number: self._at() + 1e5),
            _put(JobRun, "downloaded_in_time", lambda *_: True),
        ),
    ),
    "a download goes on when nothing can be installed any more": (
        "2",
        _put(JobRun, "download_end", lambda self, number: self._at() + 1e5),
    ),
    "downloading ahead goes on when the window is over": (
        "2",
        _around(tasks.steps.install, "_stop_staging_at", lambda inner: lambda *words: inner(*words) + 3600),
    ),
    "a reboot is ordered whether or not it fits, and its order says no last moment": (
        "2",
        _all(  # and the order does not say how long it is good for: the machine would refuse it
            _put(tasks.steps.reboot, "fit", lambda *_, **__: Fit(fits=True, arithmetic="")),
            _put(tasks.steps.reboot, "_latest", lambda work: "9999999999"),
        ),
    ),
    "a reboot that was ordered is forgotten": ("3", _put(tasks.steps.reboot, "reboot_ordered", lambda *_, **__: "")),
    "a reboot is believed without another boot id": ("5", _put(tasks.steps.reboot, "_watch", _said_to_be_back)),
    "a stop kills the job": ("1", _put(tasks.steps.follow, "ask_to_stop", _kill_on_stop)),
    "a stop is not heard": ("1", _deaf),
    "a freeze that was declared later is not looked for": ("2", _put(Ceremony, "_frozen", lambda self: "")),
    "the exit code is trusted": ("5", _around(tasks.steps.settling, "settle", _by_exit_code)),
    "an outcome is dropped": ("one outcome a machine", _around(WaveSequence, "_wave", _fewer)),
    "it goes on while the records are away": ("3", _around(SteadyRecords, "append", _unrecorded)),
    "a lease that somebody has is ignored, and the records let it": (
        "one carrier",
        _all(_around(Keeper, "__enter__", _without_its_lease), _put(*_UNBOUND)),
    ),
    "a lost lease is not noticed, and the records let it": (
        "one carrier",
        _all(_put(Keeper, "ours", lambda self: True), _put(*_UNBOUND)),
    ),
    "writing is not bound to the lease": ("one carrier", _put(*_UNBOUND)),
    "a run that was taken over gives its claims back, and the machine lets it": (
        "one run a machine",
        _all(
            _put(Control, "lose", lambda self: self.stop("somebody else has taken this run over")),
            _put(tasks.steps.claim, "_attempt", lambda work: 1),
            _put(FaultyMachine, "minds", lambda self: ""),
        ),
    ),
    "an order does not say of which attempt it is": (
        "one carrier",
        _put(tasks.steps.jobs, "in_the_name_of", lambda work, script: script),
    ),
    "the machine does not compare an order with its claim": (
        "one carrier",
        _put(FaultyMachine, "refusal", lambda *_, **__: ""),
    ),
    "a reboot's order does not say of which attempt it is": (
        "one carrier",
        _put(tasks.steps.reboot, "in_the_name_of", lambda work, script: script),
    ),
    "the machine does not compare a reboot's order with its claim": (
        "one carrier",
        _put(FaultyMachine, "reboot_refusal", lambda *_: ""),
    ),
    "all attempts have one number": ("one carrier", _put(tasks.steps.claim, "_attempt", lambda work: 1)),
    "no claim is asked for": ("one run a machine", _put(tasks.steps.precheck, "claim", _claimed)),
    "the claim is given back too early": ("one run a machine", _around(tasks.steps.jobs, "hand_over", _freed)),
    "the claim is never given back": ("one run a machine", _put(tasks.steps.order, "release", lambda work: None)),
    "a job that was refused is not withdrawn": ("3", _put(LateJobs, "withdraw", lambda self, job: None)),
    "a lock that an earlier order has counts as a refusal": ("3", _put(LateJobs, "locked_out", _refused)),
    "an attempt of which the machine has not heard counts as heard": (
        "3",
        _put(tasks.steps.handed, "outrank", lambda work: tasks.steps.claim._claim(work) and None),
    ),
    "an order does not say what the machine's clock was": (
        "2",
        _put(tasks.steps.claim, "_clock_of", lambda facts: {}),
    ),
    "the machine believes a clock that was set back": (
        "2",
        _put(FaultyMachine, "lasting_skew", lambda self, script: float("-inf")),
    ),
    "a stop is not heard in the wait for a lock": ("1", _around(JobRun, "_got_the_lock", _deaf_at_a_lock)),
    "a repair is done twice": ("3", _around(tasks.steps.install, "_repair", _repaired_again)),
    "a wave is begun with the budget spent": (
        "7",
        _put(flows.failure_count, "too_many_failed", lambda *_, **__: ""),
    ),
    "a machine is begun after its wave has spent the budget": ("7", _put(FailureCount, "add", lambda *_: None)),
    "unreachable machines are not counted": ("7", _put(flows.failure_count, "too_many_unreachable", lambda *_: "")),
    "a plan that is made in a wave is not stored": ("3", _put(Campaign, "_keep_plan", lambda *_: None)),
    "a failed pre-check is not heeded": ("7", _unheeded),
    "services that run replaced files are not told": (
        "what is reported is true",
        _all(
            _put(tasks.steps.validate, "outdated_findings", lambda *_: ()),
            _put(tasks.steps.report, "outdated_findings", lambda *_: ()),
        ),
    ),
    "packages that could not be judged are taken for good": (
        "what is reported is true",
        _all(
            _put(tasks.steps.validate, "unjudged_findings", lambda *_: ()),
            _put(tasks.steps.report, "unjudged_findings", lambda *_: ()),
        ),
    ),
    "somebody's half done packages are taken for results": (
        "what is reported is true",
        _put(
            tasks.steps.settling, "wait_for_packages", lambda work, step, until, read: replace(read(work), at_work="")
        ),
    ),
    "services are restarted whether or not the window holds it": (
        "2",
        _all(
            _put(tasks.steps.restarts, "fit", lambda *_, **__: Fit(fits=True, arithmetic="")),
            _put(tasks.steps.restarts, "_latest", lambda work: "9999999999"),
        ),
    ),
    "services that hold logins are restarted": (
        "what a run leaves alone",
        _put(tasks.steps.restarts, "restartable", lambda packages, exclude: packages.services_to_restart),
    ),
    "services are restarted under a new id": (
        "3",
        _around(
            tasks.steps.journal,
            "job_id",
            lambda inner: lambda *w: _id_of_this_attempt(inner)(*w) if "restart" in w else inner(*w),
        ),
    ),
    "services are restarted though nobody asked for it": (
        "7",
        _put(tasks.steps.restarts, "is_wanted", lambda work: True),
    ),
    "a root that has become read-only is not seen": (
        "what is reported is true",
        _all(
            _put(tasks.steps.validate, "mount_findings", lambda *_: ()),
            _put(tasks.steps.reboot, "mount_findings", lambda *_: ()),
        ),
    ),
    **REBOOT_MUTANTS,
}
"""By name: the law that it breaks, and how."""


@dataclass(frozen=True, slots=True)
class Hunted:
    """What became of a mutant: the case that caught it (None: it got away), and what that case complained of."""

    name: str
    law: str
    case: int | None
    complaint: str
    seconds: float


@contextmanager
def mutant(name: str) -> Iterator[None]:
    """Break one law."""
    with ExitStack() as stack:
        MUTANTS[name][1](stack)
        yield


def hunted(name: str, seed: str, cases: int) -> Hunted:
    """Play schedules against a mutant until one complains."""
    began = time.monotonic()
    with mutant(name):
        for first in range(0, cases, SLICE):
            found = soak(seed, range(first, min(cases, first + SLICE))).violations
            if found:
                case = min(found)
                return Hunted(name, MUTANTS[name][0], case, found[case][0], time.monotonic() - began)
    return Hunted(name, MUTANTS[name][0], None, "", time.monotonic() - began)


def hunt(seed: str, cases: int) -> int:
    """Hunt them all; print what became of each, and return the exit code."""
    away = 0
    for name in MUTANTS:
        one = hunted(name, seed, cases)
        away += one.case is None
        verdict = f"caught by case {one.case}: {one.complaint}" if one.case is not None else "GOT AWAY"
        print(f"{one.seconds:5.0f} s  {name}: {verdict[:220]}", flush=True)
    print(f"{len(MUTANTS) - away} of {len(MUTANTS)} mutants caught")
    return 1 if away else 0
