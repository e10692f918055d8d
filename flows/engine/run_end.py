"""Publishes the end of a run, in this one place: its report files, what Prefect shows, its messages.

The records come first: what is published is what they have, and only the process with the lease of the run publishes.
A process that was stopped, and whose run another one has ended meanwhile, publishes nothing. Where a lease can't guard
a write to its last moment, the write is compared with the records afterwards: files have the time at which their writer
took the run, and Prefect is corrected.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from flows.engine.interruption import describe_undone
from flows.ports.ports import Ports, Runner
from tasks.domain.errors import RecordsError
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import PUBLISH_ACT, JournalEntry, JournalMark, build_lease_lost_error
from tasks.domain.run_errors import EndUnknown
from tasks.domain.states import NotificationOccasion, OperationState, Step

logger = logging.getLogger(__name__)

Notify = Callable[[NotificationOccasion, RunReport], None]


def publish_end(
    report: RunReport,
    runner: Runner,
    ports: Ports,
    notify: Notify,
    *,
    is_recorded: bool = True,
    is_broken_off: bool = False,
) -> None:
    """Publish a run that has ended, or that is suspended. A failure is reported, and does not fail the run.

    The journal gets that it was done, so that another process does it if this one dies before.

    Args:
        report: what the records have of the run.
        runner: shows the end.
        ports: of the run.
        notify: tells people.
        is_recorded: whether the records have the end.
        is_broken_off: whether the records failed during the run: people get the message that it failed.

    Raises:
        EndUnknown: the records have not answered for as long as the lease is valid, and they don't have the end, so
            another process may have the run. The report files and the message say that the end is not known here.
        LeaseLost: another process executes the run, or has ended it. Nothing was published.
    """
    run, token = report.run, ports.stop_token
    is_over, was_stopped = run.state is not OperationState.IN_PROGRESS, token.is_stopping and not token.is_suspended
    token.is_end_recorded = is_over and is_recorded
    if not token.may_tell():
        if token.lease_taken_at is None or token.is_lease_lost:
            raise build_lease_lost_error()
        message = f"the records do not answer: what became of run {run.id} is not known here"
        report = replace(report, run=replace(run, state=OperationState.UNKNOWN, message=message))
        ports.write_report_files(report, runner.report_directory, runner.report_formats)
        if run.kind == "patch" and is_over:
            notify(NotificationOccasion.FAILED, report)
            ports.wait_for_messages()
        raise EndUnknown(report)
    occasion = NotificationOccasion.FAILED if is_broken_off else find_end_occasion(report, was_stopped=was_stopped)
    files = ports.write_report_files(report, runner.report_directory, runner.report_formats)
    undelivered = runner.show_end(report, files)
    if undelivered:
        ports.listener.on_message(undelivered)
        message = f"{run.message}; {undelivered}" if run.message else undelivered
        report = replace(report, run=replace(run, message=message))
        ports.write_report_files(report, runner.report_directory, runner.report_formats)
    is_told = run.kind == "patch" and is_over
    if is_told:
        notify(occasion, report)
        ports.wait_for_messages()
    try:  # after people were told: an unavailable database may be waited for until the end of the window
        if undelivered:
            ports.records.save(report)
        if is_told and is_recorded:
            entry = JournalEntry(
                run.id, "", Step.REPORT, JournalMark.AFTER, PUBLISH_ACT, run.state.value, ports.clock.now()
            )
            ports.records.append_entry(entry)
    except RecordsError as error:
        logger.error("how the end of run %s was published is not in the records: %s", run.id, error)  # noqa: TRY400 - no fault of ours


def find_end_occasion(report: RunReport, *, was_stopped: bool) -> NotificationOccasion:
    """Return the notification of the end of a run. If a stop left nothing undone, it is not mentioned. Pure."""
    if report.run.state is OperationState.FAILED:
        return NotificationOccasion.FAILED
    was_cut_short = was_stopped and describe_undone(report.outcomes)
    is_cancelled = report.run.state is OperationState.CANCELLED or was_cut_short
    return NotificationOccasion.CANCELLED if is_cancelled else NotificationOccasion.FINISHED
