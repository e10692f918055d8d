"""Times in the records of a job, whose machine's clock may be set while it works."""

from datetime import UTC, datetime, timedelta

from tasks.domain.protocols.package_manager import Transaction
from tasks.domain.protocols.transport import JobPhase
from tasks.steps.jobs.job_result import EndedJob, build_job_result

BEGAN = datetime(2026, 3, 10, 1, tzinfo=UTC)


def test_a_clock_that_is_set_ahead_makes_no_transaction_end_in_the_future() -> None:
    skew, ahead = 5.0, 3 * 3600
    at = BEGAN.timestamp() + skew
    events = (
        {"kind": "transaction_started", "number": 0, "at": at},
        {"kind": "transaction_ended", "number": 0, "at": at + 8 + ahead, "exit_code": 0},
    )
    now = BEGAN + timedelta(seconds=10)
    job = EndedJob(JobPhase.FINISHED, 0, events, "")
    (transaction,) = build_job_result("one", job, [Transaction(0, (), 0, 0)], skew, now).transactions
    assert (transaction.started_at, transaction.ended_at) == (BEGAN, now)
