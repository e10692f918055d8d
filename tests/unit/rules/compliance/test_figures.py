"""Figures of compliance keep their promises for any data."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import RequestError
from tasks.reports.formatting import format_share
from tasks.rules.compliance.figures import (
    build_document,
    compute_days,
    compute_machines,
    compute_percentile,
    compute_sla,
    compute_weeks,
    find_evaluation_end,
    find_fixes,
)
from tasks.rules.compliance.model import (
    ComplianceData,
    ComplianceDocument,
    Fix,
    MachineDay,
    Month,
    PendingFix,
    ScopeMachine,
    Sight,
)
from tests.unit.managers.windows_records import guid

MONTH = Month(2026, 11)
STATES = ("Compliant", "NonCompliant", "NotAssessed")
MACHINES = tuple(ScopeMachine(f"m{n}") for n in range(4))

moments = st.integers(0, 30 * 24 * 60).map(lambda minutes: MONTH.start + timedelta(minutes=minutes))
days = st.dictionaries(
    st.tuples(st.integers(0, 29), st.sampled_from([each.name for each in MACHINES])), st.sampled_from(STATES)
).map(
    lambda found: tuple(
        MachineDay(date(2026, 11, 1) + timedelta(days=n), name, state, 1, 2, "no")
        for (n, name), state in sorted(found.items())
    )
)


@st.composite
def fixes(draw: st.DrawFn) -> Fix:
    known = draw(moments)
    wait = draw(st.none() | st.integers(0, 90 * 24 * 60))
    ended = None if wait is None else known + timedelta(minutes=wait)
    machine, name, kind = (
        draw(st.sampled_from("ab")),
        draw(st.sampled_from("xyz")),
        draw(st.sampled_from(("critical", "security"))),
    )
    return Fix(
        machine, name, "1", kind, known, known_at_least=False, ended_at=ended, installed_by_run=True, withheld=""
    )


@given(st.lists(fixes()), st.floats(0.1, 60), st.integers(0, 120))
def test_every_fix_is_counted_once(found: list[Fix], within: float, later: int) -> None:
    until = MONTH.end + timedelta(days=later)
    for kind in ("critical", "security"):
        figure = compute_sla(found, kind, within, until)
        assert figure.known == sum(fix.kind == kind for fix in found)
        assert figure.known == figure.in_time + figure.late + figure.overdue + figure.not_due
        assert figure.share is None or 0 <= figure.share <= 1
        decided = figure.in_time + figure.late + figure.overdue
        assert (figure.share is None) == (decided == 0)
        if figure.share is not None:
            assert Fraction(figure.in_time, decided) == pytest.approx(figure.share)
        if figure.median_days is not None and figure.p95_days is not None:
            assert figure.median_days <= figure.p95_days


@given(st.lists(fixes()), st.floats(0.1, 30), st.floats(0, 30))
def test_more_days_never_make_it_worse(found: list[Fix], within: float, more: float) -> None:
    until = MONTH.end + timedelta(days=200)
    strict, loose = (compute_sla(found, "security", each, until) for each in (within, within + more))
    assert loose.in_time >= strict.in_time
    assert loose.overdue <= strict.overdue


@given(st.lists(fixes()), st.integers(0, 60), st.integers(0, 60))
def test_what_was_in_time_stays_so(found: list[Fix], sooner: int, more: int) -> None:
    early, late = (
        compute_sla(found, "security", 7, MONTH.end + timedelta(days=each)) for each in (sooner, sooner + more)
    )
    assert early.in_time <= late.in_time
    assert early.late <= late.late
    assert early.not_due >= late.not_due


def test_a_revision_on_windows_is_known_since_the_first_one() -> None:
    moments = [MONTH.start + timedelta(days=days) for days in (1, 2)]
    revised = PendingFix("KB1", f"rev 201 {guid(1)}", "security", "")
    sights = [Sight("m1", moments[1], (revised,))]
    (fix,) = find_fixes(sights, (), {("KB1", guid(1)): moments[0]}, MONTH.start)
    assert (fix.version, fix.known_at, fix.known_at_least) == ("rev 201", moments[0], False)


@given(st.lists(st.floats(0, 1000), min_size=1), st.integers(1, 100))
def test_a_percentile_is_one_of_the_values(values: list[float], percent: int) -> None:
    ordered = sorted(values)
    found = compute_percentile(ordered, percent)
    assert found in ordered
    assert sum(each <= found for each in ordered) * 100 >= percent * len(ordered)


def test_percentiles_of_nothing_and_of_known_values() -> None:
    assert compute_percentile([], 50) is None
    assert compute_percentile([1, 2, 3, 4], 50) == 2
    assert compute_percentile(list(range(1, 101)), 95) == 95


@given(days)
def test_days_and_weeks_count_each_machine_once(found: tuple[MachineDay, ...]) -> None:
    daily = compute_days(found, MONTH.start, MONTH.end)
    assert len(daily) == 30
    assert sum(each.assessed for each in daily) == len(found)
    answered = [each for each in daily if each.assessed]
    for each in answered:
        assert each.assessed == sum(count or 0 for count in (each.compliant, each.non_compliant, each.unclear))
    assert all(each.compliant is each.critical is None for each in daily if not each.assessed)
    weeks = compute_weeks(found, MACHINES, MONTH.start, MONTH.end)
    assert weeks[-1].ends_at == MONTH.end
    assert all(each.machines == each.compliant + each.non_compliant + each.not_assessed == 4 for each in weeks)
    machines = compute_machines(found, MACHINES, (), MONTH.end)
    assert sum(each.compliance == "Compliant" for each in machines) == weeks[-1].compliant
    assert sum(each.assessed_days for each in machines) == len(found)


def test_weeks_end_on_sundays_and_with_the_month() -> None:
    weeks = compute_weeks((), MACHINES, MONTH.start, MONTH.end)
    assert [f"{each.ends_at:%a %d}" for each in weeks] == ["Mon 02", "Mon 09", "Mon 16", "Mon 23", "Mon 30", "Tue 01"]


@given(st.integers(2000, 9000), st.integers(1, 12))
def test_months_follow_each_other(year: int, number: int) -> None:
    month = Month(year, number)
    assert month.following.previous == month
    assert month.end == month.following.start
    assert Month.of(month.end - timedelta(seconds=1)) == month
    assert Month.parse(str(month)) == month


@pytest.mark.parametrize("text", ["", "2026", "2026-13", "2026-00", "26-11", "2026-11-01", "0001-01", "٢٠٢٦-11"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        Month.parse(text)


def test_less_than_all_is_never_shown_as_all() -> None:
    assert format_share(0.99999) == "99.9 %"
    assert format_share(1.0) == "100.0 %"
    assert format_share(0.00001) == "0.1 %"
    assert format_share(0.0) == "0.0 %"
    assert format_share(None) == "–"  # noqa: RUF001 - the sign for no figure


def _document(now: datetime, **changes: object) -> ComplianceDocument:
    values: dict[str, object] = {
        "sights": (),
        "installations": (),
        "first_seen": {},
        "days": (),
        "runs": (),
        "exceptions": (),
        "recorded_since": None,
        "assessments_kept_days": 90,
    }
    data = ComplianceData(**{**values, **changes})  # type: ignore[arg-type]
    return build_document(MONTH, "*", MACHINES, data, {"critical": 7, "security": 30}, "the default", now)


def test_without_data_it_says_what_is_not_known() -> None:
    document = _document(MONTH.end + timedelta(days=40))
    assert "no assessment" in document.gaps[0]
    assert document.weeks[-1].not_assessed == 4
    assert [each.share for each in document.sla] == [None] * len(document.sla)
    assert [each.share for each in document.weeks] == [None] * len(document.weeks)
    assert [each.missing for each in document.machines] == [None] * 4


def test_records_that_begin_later_are_named() -> None:
    document = _document(MONTH.end, recorded_since=datetime(2026, 11, 10, tzinfo=UTC))
    assert "begin on 2026-11-10" in document.gaps[0]
    assert "90 days" in document.gaps[0]


def test_a_month_that_is_not_over_ends_now() -> None:
    now = datetime(2026, 11, 10, 12, tzinfo=UTC)
    document = _document(now)
    assert document.ends_at == now
    assert document.ends_at < document.month.end
    assert len(document.days) == 10
    assert "not over" in document.gaps[0]


def test_fixes_of_the_last_day_have_all_their_days() -> None:
    sla = {"critical": 7.0, "security": 30.0}
    assert find_evaluation_end(MONTH, sla, MONTH.end + timedelta(days=100)) == MONTH.end + timedelta(days=30)
    assert find_evaluation_end(MONTH, sla, MONTH.end) == MONTH.end


def test_only_fixes_of_the_month_are_judged_but_all_open_ones_are_shown() -> None:
    old, new = PendingFix("old", "1", "security"), PendingFix("new", "1", "security")
    sights = (
        Sight("m0", MONTH.start - timedelta(days=9), (old,)),
        Sight("m0", MONTH.start + timedelta(days=3), (old, new)),
    )
    document = _document(MONTH.end, sights=sights, recorded_since=sights[0].at)
    assert [(each.kind, each.known) for each in document.sla] == [("critical", 0), ("security", 1)]
    assert [each.name for each in document.open_fixes] == ["old", "new"]
    assert document.machines[0].missing == 2
    assert document.machines[0].oldest_days == 39
    assert any("not known when: 1" in gap for gap in document.gaps)
