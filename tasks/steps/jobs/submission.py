"""Starts a job on a machine. It retries after transient errors; the machine starts a job only once."""

from tasks.errors import (
    ConnectionLost,
    RecordsError,
    TransportError,
)
from tasks.protocols.clock import Deadline
from tasks.protocols.transport import Job, JobStatus
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.retry import retry_transient

SUBMIT_TIMEOUT_SECONDS = 120.0  # one attempt to submit a job, including a reconnection


def submit_job(context: MachineContext, job: Job) -> None:
    """Start a job, or attach to it. If the connection breaks, retry; the machine starts the job only once.

    Raises:
        ConnectionLost: the machine stayed unreachable; the job may be running.
        FleetpatchError: the machine refused to start it.
    """
    clock = context.run_context.clock
    until = Deadline.after(clock, context.run_context.options.max_unreachable_seconds)
    try:
        retry_transient(context, lambda: _start_job(context, job), until)
    except TransportError as error:
        raise ConnectionLost(
            f"connection lost while job {job.id} was submitted: {error.message}",
            machine=context.name,
            hint="The job may be running. Assess the machine when it can be reached: "
            "its package database shows the result.",
        ) from error


def _start_job(context: MachineContext, job: Job) -> JobStatus:
    # this process may have been suspended since the last check
    if not context.run_context.stop_token.still_holds_lease():
        raise RecordsError(
            "another process executes this run now, so this process begins nothing more",
            machine=context.name,
            hint="Look at the run: the other process continues it.",
        )
    return context.transport.start_job(job, deadline=Deadline.after(context.run_context.clock, SUBMIT_TIMEOUT_SECONDS))
