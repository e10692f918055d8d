"""Records of November 2026 for compliance documents: what became known, what was installed, and by whom."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tasks.domain.states import Classification, OperationState, RebootState, WindowStatus
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.timing.admission import WindowClaim
from tests.support.builders import (
    make_assessment,
    make_failed_assessment,
    make_outcome,
    make_package_state,
    make_run,
    make_update,
    make_update_result,
    make_window,
)

START = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 12, 31, 12, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>"

FLEET = """
machines:
  - {name: web-1, address: 192.0.2.1, environment: prod}
  - {name: web-2, address: 192.0.2.2, environment: prod}
  - {name: db-1, address: 192.0.2.3, environment: test}
  - {name: new-1, address: 192.0.2.4, environment: test}
"""

SSL = make_update(name="openssl", available="3.0.16", published=None)
KERNEL = make_update(name="linux-image", available="6.1.9", classification=Classification.CRITICAL, published=None)
OLD = make_update(name="old", available="1", held=True, published=None)
OTHER = make_update(name="tzdata", available="1", classification=Classification.OTHER)


def at(day: float) -> datetime:
    """A time of the month: 0 is its beginning."""
    return START + timedelta(days=day)


def fill(records: SqlRecords) -> None:
    """Store the month.

    web-1 lacks openssl from day 2 and gets it in a run on day 5 (in time), the kernel from day 10 to day 20 (late).
    web-2 lacks openssl from day 3 and still does. Its fix ``old`` is held, and older than the month.
    db-1 is compliant, and not in the records after day 12. new-1 never answered. gone-1 is in no inventory.
    """
    _assess(records, "web-1", {-1: (), 2: (SSL,), 2.2: (SSL,), 6: (), 10: (KERNEL,), 21: (OTHER,)})
    _assess(records, "web-2", {-2: (OLD,), 3: (OLD, SSL), 20: (OLD, SSL), 45: (OLD, SSL)})
    _assess(records, "db-1", {1: (), 12: ()})
    _assess(records, "gone-1", {1: ()})
    records.save(make_failed_assessment(machine="new-1", at=at(4)))
    _run(records, "run-1", at(5), (SSL,))
    _run(records, "run-2", at(20), (KERNEL,), exceeded=90.0)
    claims = SqlWindowClaims(records.database)
    claims.claim_window("web", at(5), "run-1", "flow-run", at(5))
    claims.claim_window("web", at(20), "run-2", "flow-run", at(20))
    claims.record_window_without_run(WindowClaim("web", at(12), WindowStatus.MISSED, "", HOSTILE, at(12)))
    SqlOptOuts(records.database).add(OptOut("env=test", "mara", f"freeze {HOSTILE}", at(3), at(9)))


def _assess(records: SqlRecords, machine: str, found: dict[float, tuple[object, ...]]) -> None:
    for day, updates in found.items():
        packages = make_package_state(updates=updates)
        records.save(make_assessment(machine=machine, at=at(day), packages=packages, run_id=f"a-{day}"))


def _run(records: SqlRecords, run_id: str, start: datetime, updates: tuple[object, ...], exceeded: float = 0.0) -> None:
    end = start + timedelta(minutes=30)
    window = make_window(start=start, end=start + timedelta(hours=2))
    records.save(make_run(id=run_id, started_at=start, ended_at=end, window=window, request={"configuration": "web"}))
    results = tuple(make_update_result(update=update) for update in updates)
    outcome = make_outcome(
        run_id=run_id, machine="web-1", updates=results, started_at=start, ended_at=end, install=None
    )
    records.save(replace(outcome, window_exceeded_seconds=exceeded, reboot=RebootState.COMPLETED))
    failed = make_outcome(
        run_id=run_id, machine="db-1", state=OperationState.FAILED, reason="disk", updates=(), install=None
    )
    records.save(replace(failed, started_at=start, ended_at=end, reboot=RebootState.UNKNOWN))
