"""The end of an undo: what the run that is taken back has installed anew is removed, in one detached job."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from inventory.name_lists import join_first_names
from tasks.domain.errors import FleetpatchError, RecordsError, TransportError
from tasks.domain.model import InstallResult, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import JobKind, PackageNeeds, Transaction
from tasks.domain.states import UpdateState
from tasks.rules.undo import explain_staying, find_removals, mark_removals
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.hooks import run_before_hooks
from tasks.steps.jobs.package_job import SubmittedJob, find_submitted_update_ids, run_job
from tasks.steps.machine.retry import build_retry_deadline, retry_transient
from tasks.steps.start_checks import check_window_fit, explain_stop_request
from tasks.steps.validate import validate

T = TypeVar("T")
_NOT_DONE = frozenset({UpdateState.FAILED, UpdateState.NOT_ATTEMPTED, UpdateState.PENDING})


def validate_undo(context: MachineContext) -> MachineState:
    """Remove what the run that is taken back has installed anew, and validate the machine.

    Raises:
        FleetpatchError: the removal may have begun, and its end was not seen, or the machine was lost.
    """
    install = context.state.install
    removals = find_removals(install.results if install is not None else ())
    if install is not None and removals:
        _remove(context, install, removals)
        context.state = replace(context.state, packages_after=None)  # read before that
    return validate(context)


def _remove(context: MachineContext, install: InstallResult, removals: tuple[Update, ...]) -> None:
    """Remove packages in one detached job, or watch it if this run has begun it, and note what is gone."""
    begun = {name for names in find_submitted_update_ids(context, JobKind.REMOVE) for name in names}
    staying = explain_staying(removals, _read_needs(context, removals))
    going = tuple(update for update in removals if (update.id in begun if begun else update.id not in staying))
    reason = "" if begun or not going else _explain_no_removal(context, install, going)
    now: Mapping[str, str] = {update.id: update.available for update in removals}
    if going and not reason:
        reason = _run_removal(context, install, going)
        now = _ask(context, context.manager.read_installed_versions, removals)
    done, going_ids = context.state.install or install, {update.id for update in going}
    reasons = {
        update.id: (reason if update.id in going_ids else staying.get(update.id)) or "no reason was reported"
        for update in removals
    }
    context.state = replace(context.state, install=replace(done, results=mark_removals(done.results, now, reasons)))


def _read_needs(context: MachineContext, removals: tuple[Update, ...]) -> PackageNeeds:
    """Return which packages are needed. Without an answer, nothing may be removed."""
    try:
        return _ask(context, context.manager.read_needs, removals)
    except (RecordsError, TransportError):
        raise
    except FleetpatchError as error:
        return PackageNeeds(obstacle=error.message)


def _ask(context: MachineContext, question: Callable[..., T], updates: tuple[Update, ...]) -> T:
    """Return the machine's answer about these packages. It is asked again if the connection breaks."""
    deadline = build_retry_deadline(context)
    return retry_transient(
        context, lambda: question(context.transport, updates, deadline=context.build_package_deadline()), deadline
    )


def _explain_no_removal(context: MachineContext, install: InstallResult, removals: tuple[Update, ...]) -> str:
    """Return why nothing may be removed, or "". The hooks before the machine have run then."""
    if late := [r.update.name for r in install.results if r.update in context.plan.chosen and r.state in _NOT_DONE]:
        return f"packages that may need it are not back: {join_first_names(late)}"
    seconds = context.rates.predict_install_seconds(len(removals))
    check = check_window_fit(context, seconds, "removing new packages")
    reason = explain_stop_request(context) or ("" if check.fits else check.explanation)
    if not reason and not run_before_hooks(context):
        return context.state.halted
    return reason


def _run_removal(context: MachineContext, install: InstallResult, removals: tuple[Update, ...]) -> str:
    """Run the job. Return why packages may be there still, or ""."""
    seconds = context.rates.predict_install_seconds(len(removals))
    latest = context.window.end.timestamp() - seconds + context.facts.clock_skew_seconds
    number = max((part.number for part in install.transactions), default=-1) + 1
    until = max(context.window.end, context.clock.now()) + timedelta(seconds=context.options.max_unreachable_seconds)
    submitted: dict[str, SubmittedJob] = {}
    part = Transaction(number, removals, latest, seconds)
    try:
        result = run_job(context, JobKind.REMOVE, 0, (part,), Deadline(until), submitted_jobs=submitted)
    except (RecordsError, TransportError):
        raise
    except FleetpatchError as error:
        if submitted:  # it may have begun, and its end was not seen
            raise
        return error.message
    transactions = (*install.transactions, *result.transactions)
    done = replace(install, transactions=transactions, job_ids=(*install.job_ids, result.job_id))
    context.state = replace(context.state, install=done)
    errors = (*(transaction.detail for transaction in result.transactions), *result.refusals, result.error)
    return "; ".join(dict.fromkeys(filter(None, errors)))
