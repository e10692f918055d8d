"""Rules of snapshots: ids that providers accept, what the journal restores, and which machines are put back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import (
    FleetpatchError,
    InternalError,
    JobLost,
    LockLost,
    LoginBroken,
    ManagerError,
    RecordsError,
    ScriptFailed,
    Unreachable,
)
from tasks.domain.model import ErrorInfo, Outcome, UpdateResult
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import Consistency, Snapshot, SnapshotResult
from tasks.domain.states import OperationState, Step, UpdateState
from tasks.rules.runs.snapshots import (
    REVERT_ACT,
    SNAPSHOT_ACT,
    SnapshotPolicy,
    build_end_detail,
    build_snapshot_id,
    complete_result,
    find_revert_reason,
    list_version_differences,
    mark_reverted,
    restore_snapshot,
)
from tests.support.builders import make_update

AT = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)
times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given a zone


def make_entry(act: str, mark: JournalMark, detail: dict[str, object] | None = None, key: str = "s") -> JournalEntry:
    return JournalEntry("r", "m", Step.INSTALL, mark, act, key, AT, detail or {})


def make_result(state: UpdateState, name: str = "a") -> UpdateResult:
    return UpdateResult(make_update(name=name, id=name, installed="1", available="2"), state, "", "2")


@given(st.text(min_size=1), st.text(min_size=1))
def test_an_id_fits_every_provider_and_is_always_the_same(run_id: str, machine: str) -> None:
    snapshot_id = build_snapshot_id(run_id, machine)
    assert snapshot_id == build_snapshot_id(run_id, machine)
    assert len(snapshot_id) <= 40
    assert snapshot_id.isascii()
    assert snapshot_id.replace("-", "").isalnum()


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), unique=True, max_size=20))
def test_each_machine_of_each_run_has_an_id_of_its_own(places: list[tuple[str, str]]) -> None:
    places = [(run_id.replace("/", ""), machine.replace("/", "")) for run_id, machine in places]
    assert len({build_snapshot_id(*place) for place in places}) == len(set(places))


@given(
    taken=times,
    took=st.integers(0, 5000),
    used=st.none() | st.integers(0, 2**40),
    consistency=st.sampled_from(Consistency),
    days=st.floats(0.1, 365),
)
def test_the_journal_restores_what_was_recorded(
    taken: datetime, took: int, used: int | None, consistency: Consistency, days: float
) -> None:
    snapshot = Snapshot("s", taken, ("vda",), consistency, used)
    ordered = SnapshotResult("s", taken - timedelta(seconds=took))
    result = complete_result(ordered, snapshot, SnapshotPolicy(keep_days=days), taken)
    entries = [
        replace(make_entry(SNAPSHOT_ACT, JournalMark.BEFORE), at=ordered.ordered_at),
        make_entry(SNAPSHOT_ACT, JournalMark.AFTER, build_end_detail(result)),
    ]
    assert restore_snapshot(entries) == result
    boots: dict[str, object] = {"reason": "bad", "boots_before": ["x"]}
    begun = restore_snapshot([*entries, make_entry(REVERT_ACT, JournalMark.BEFORE, boots)])
    assert begun == replace(result, revert_reason="bad", boots_before=("x",))


def test_an_order_without_an_end_proves_no_snapshot() -> None:
    result = restore_snapshot([make_entry(SNAPSHOT_ACT, JournalMark.BEFORE)])
    assert result is not None
    assert result.taken_at is None


def test_a_journal_without_an_order_has_no_snapshot() -> None:
    assert restore_snapshot([make_entry("install", JournalMark.BEFORE)]) is None


FAILED = Outcome("r", "m", OperationState.FAILED, "it failed")


@pytest.mark.parametrize(
    ("error", "acts", "is_reverted"),
    [
        (None, ["install"], True),
        (None, ["stage"], False),  # nothing was changed
        (None, [], False),
        (ManagerError("broken"), ["install"], True),
        (JobLost("gone"), ["install"], True),
        (Unreachable("no answer"), ["install"], False),  # it may be good
        (Unreachable("no answer"), ["install", "reboot"], True),
        (RecordsError("away"), ["install"], False),
        (InternalError("a bug"), ["install"], False),
        (LockLost("another run", exit_code=1), ["install"], False),
        (ScriptFailed("no space", exit_code=1), ["install"], True),
        (LoginBroken("the login is refused since"), ["install"], True),
    ],
)
def test_only_faults_of_a_changed_machine_put_it_back(
    error: FleetpatchError | None, acts: list[str], is_reverted: bool
) -> None:
    outcome = replace(FAILED, error=ErrorInfo.from_error(error) if error is not None else None)
    entries = [make_entry(act, JournalMark.BEFORE) for act in acts]
    assert bool(find_revert_reason(outcome, entries)) is is_reverted


@given(st.sampled_from([state for state in OperationState if state is not OperationState.FAILED]))
def test_a_machine_that_has_not_failed_is_never_put_back(state: OperationState) -> None:
    outcome = replace(FAILED, state=state)
    assert not find_revert_reason(outcome, [make_entry("install", JournalMark.BEFORE)])


@given(st.lists(st.sampled_from(UpdateState), max_size=6))
def test_no_update_of_a_machine_that_was_put_back_counts_as_installed(states: list[UpdateState]) -> None:
    results = [make_result(state, f"p{number}") for number, state in enumerate(states)]
    marked = mark_reverted(results, {}, "put back")
    assert not {UpdateState.INSTALLED, UpdateState.SETUP_FAILED} & {result.state for result in marked}
    assert [result.update for result in marked] == [result.update for result in results]


def test_a_version_that_is_not_the_one_of_before_is_told() -> None:
    results = [make_result(UpdateState.INSTALLED), make_result(UpdateState.INSTALLED, "b")]
    assert list_version_differences(results, {"a": "1", "b": "2"}) == ("b is 2, and was 1",)
    assert list_version_differences(results, {"a": "1"}) == ("b is not installed, and was 1",)
