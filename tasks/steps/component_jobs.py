"""Runs the job of one component to its end, and asks the machine for the version that is there then."""

import logging
from datetime import timedelta

from tasks.domain.errors import FleetpatchError, RecordsError, TransportError
from tasks.domain.model import Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.jobs.job_result import JobResult
from tasks.steps.jobs.package_job import run_job
from tasks.steps.machine.retry import build_retry_deadline, retry_transient

logger = logging.getLogger(__name__)


def run_to_its_end(
    context: MachineContext,
    kind: JobKind,
    number: int,
    update: Update,
    transaction: int,
    seconds: float | None = None,
) -> JobResult:
    """Run a job that neither a request to stop nor the window's end keeps away: without it a machine stays unhealthy.

    A job that an earlier process of this run has begun is awaited.

    Args:
        context: of the machine.
        kind: what is done.
        number: of the job among those of its kind in this run.
        update: the version that comes.
        transaction: the number of its transaction in the report.
        seconds: how long it may take; None: as usual.

    Raises:
        FleetpatchError: the machine refused it, or was lost; then its end was not seen.
    """
    seconds = context.rates.predict_install_seconds(1) if seconds is None else seconds
    patience = timedelta(seconds=context.options.max_unreachable_seconds)
    latest_start = max(context.window.end, context.clock.now()) + patience
    latest = latest_start.timestamp() + context.facts.clock_skew_seconds
    part = Transaction(transaction, (update,), latest, seconds)
    deadline = Deadline(latest_start + timedelta(seconds=seconds))
    return run_job(context, kind, number, (part,), deadline, submitted_jobs={}, may_be_stopped=False)


def read_component_version(context: MachineContext, update: Update) -> str | None:
    """Return the version that is there now; None: none, or it can't be read. A lost machine raises."""
    try:
        versions = retry_transient(
            context,
            lambda: context.manager.read_installed_versions(
                context.transport, [update], deadline=context.build_package_deadline()
            ),
            build_retry_deadline(context),
        )
    except (RecordsError, TransportError):
        raise
    except FleetpatchError as error:
        logger.info("%s: the version of %s is not known: %s", context.name, update.name, error.message)
        return None
    return versions.get(update.id)
