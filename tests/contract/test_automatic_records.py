"""Records of automatic patching: rollouts, runs, opt-outs, held updates, announcements. On SQLite and PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.automatic.announcements import SqlAnnouncements
from tasks.records.automatic.automatic_runs import AutomaticRun, SqlAutomaticRuns
from tasks.records.automatic.held_updates import SqlHeldUpdates
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.automatic.sightings import read_first_seen, save_missing_fixes
from tasks.records.retention import prune_history
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.automatic.model import HeldUpdate, Phase, Rollout, RolloutState, RunPlan
from tests.contract.records_subjects import BOTH, new_database
from tests.support.builders import make_assessment, make_package_state, make_run, make_update
from tests.unit.managers.windows_records import guid

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROLLOUT = Rollout(
    "r1", NOW, frozenset({("curl", "8"), ("bash", "5\x00\ud800")}), (Phase(1, ("ber",), NOW), Phase(2, ("muc", "vie")))
)
PLAN = RunPlan("r1/1/ber/a", "r1", 1, "ber", "a", "Europe/Berlin", ("web-1", "web-2"), NOW, 235)


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def records(url: str) -> Iterator[SqlRecords]:
    with open_records(url) as made:
        yield made


def automatic_run(**changes: object) -> AutomaticRun:
    base = AutomaticRun(PLAN.key, PLAN.machines, NOW, NOW + 4 * HOUR, NOW, PLAN)
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_rollout_comes_back_as_it_was_and_changes_until_it_is_over(records: SqlRecords) -> None:
    rollouts = SqlRollouts(records.database)
    assert rollouts.find("r1") is None
    assert rollouts.save(ROLLOUT)
    assert rollouts.save(ROLLOUT)
    assert rollouts.find("r1") == ROLLOUT
    cancelled = replace(ROLLOUT, state=RolloutState.CANCELLED, ended_at=NOW, message="by anne")
    assert rollouts.save(cancelled)
    assert not rollouts.save(replace(ROLLOUT, phases=()))
    assert rollouts.find("r1") == cancelled


def test_the_newest_rollouts_come_with_the_newest_last(records: SqlRecords) -> None:
    rollouts = SqlRollouts(records.database)
    for number in range(4):
        rollouts.save(replace(ROLLOUT, id=f"r{number}", created_at=NOW + number * HOUR))
    assert [each.id for each in rollouts.read_newest(2)] == ["r2", "r3"]


def test_a_run_is_added_once_and_gets_its_flow_run(records: SqlRecords) -> None:
    runs = SqlAutomaticRuns(records.database)
    assert runs.add(automatic_run())
    assert not runs.add(automatic_run(machines=("other",)))
    runs.set_flow_run(PLAN.key, "flow-1")
    (found,) = runs.read_open(NOW)
    assert (found.run, found.run_id, found.state) == (automatic_run(flow_run_id="flow-1"), "", None)


def test_of_many_ticks_one_adds_it(url: str) -> None:
    def add(_: int) -> bool:
        with open_records(url) as records:
            return SqlAutomaticRuns(records.database).add(automatic_run())

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, range(8))) == [False] * 7 + [True]


def test_a_run_that_never_began_is_open_until_its_window_is_over(records: SqlRecords) -> None:
    runs = SqlAutomaticRuns(records.database)
    runs.add(automatic_run(flow_run_id="flow-1"))
    assert len(runs.read_open(NOW + 3 * HOUR)) == 1
    assert runs.read_open(NOW + 4 * HOUR) == ()
    runs.set_never_began(PLAN.key, "its flow run was cancelled")
    assert runs.read_open(NOW) == ()
    (told,) = runs.read_of_rollouts(["r1"])
    assert told.run.never_began == "its flow run was cancelled"


@pytest.mark.parametrize(("state", "is_open"), [(OperationState.IN_PROGRESS, True), (OperationState.FAILED, False)])
def test_a_run_that_began_is_open_while_it_is_unfinished(
    records: SqlRecords, state: OperationState, is_open: bool
) -> None:
    runs = SqlAutomaticRuns(records.database)
    runs.add(automatic_run(flow_run_id="flow-1"))
    runs.add(automatic_run(key="waits for a worker"))
    records.save(make_run(id="run-0", flow_run_id="", state=OperationState.IN_PROGRESS))
    records.save(make_run(id="run-1", flow_run_id="flow-1", state=state))
    late = NOW + 9 * HOUR
    assert [each.run_id for each in runs.read_open(late)] == ["run-1"] * is_open
    assert [each.run_id for each in runs.read_since(NOW)] == ["run-1", ""]
    assert len(runs.read_open(NOW)) == 1 + is_open


def test_an_opt_out_holds_until_it_ends_or_is_removed(records: SqlRecords) -> None:
    opt_outs = SqlOptOuts(records.database)
    for_ever = OptOut("env=prod", "anne", "audit", NOW)
    opt_outs.add(OptOut(" env=prod ", "bert", "", NOW - HOUR))
    opt_outs.add(for_ever)
    short = OptOut("web-1", "anne", "", NOW + HOUR, NOW + 2 * HOUR)
    opt_outs.add(short)
    assert opt_outs.read_active(NOW) == (for_ever, short)
    assert opt_outs.read_active(NOW + 2 * HOUR) == (for_ever,)
    assert opt_outs.remove("env=prod ")
    assert not opt_outs.remove("env=prod")
    assert opt_outs.read_active(NOW) == (short,)


def test_a_released_update_is_held_again_only_by_another_rollout(records: SqlRecords) -> None:
    held = SqlHeldUpdates(records.database)
    curl = HeldUpdate("curl", "8", "postinst failed", NOW, "r1")
    assert held.add(curl)
    assert not held.add(replace(curl, rollout_id="r2"))
    held.add(replace(curl, version="9"))
    assert held.read_held() == (curl, replace(curl, version="9"))
    assert held.release("curl", "8", "anne", NOW + HOUR) == (curl,)
    assert held.release("curl", "8", "anne", NOW + HOUR) == ()
    assert not held.add(curl)
    assert held.add(replace(curl, rollout_id="r2", at=NOW + 2 * HOUR))
    assert len(held.release("curl", "", "anne", NOW)) == 2
    assert held.read_held() == ()


def test_a_held_update_of_windows_is_released_by_what_people_see(records: SqlRecords) -> None:
    held = SqlHeldUpdates(records.database)
    august, november = (HeldUpdate("KB890830", f"rev 200 {guid(n)}", "it failed", NOW, "r1") for n in (1, 2))
    assert held.add(august)
    assert held.add(november)
    assert held.release("KB890830", "rev 20", "anne", NOW) == ()
    assert held.release("KB890830", f"rev 200 {guid(2)}", "anne", NOW) == (november,)
    assert held.release("KB890830", "rev 200", "anne", NOW) == (august,)


def test_people_are_told_once(records: SqlRecords) -> None:
    told = SqlAnnouncements(records.database)
    assert told.add("r1/faulted", "it stopped", NOW)
    assert not told.add("r1/faulted", "it stopped again", NOW + HOUR)
    assert told.add("r2/faulted", "so did this", NOW + HOUR)
    assert told.read_keys() == {"r1/faulted", "r2/faulted"}
    assert [each.message for each in told.read_newest(1)] == ["so did this"]


def test_old_history_of_automatic_patching_is_pruned_and_what_counts_is_kept(records: SqlRecords) -> None:
    old, database = NOW - 900 * 24 * HOUR, records.database
    for number in range(22):
        ended = replace(ROLLOUT, id=f"r{number:02}", created_at=old + number * HOUR, ended_at=old + number * HOUR)
        SqlRollouts(database).save(replace(ended, state=RolloutState.COMPLETED))
    SqlRollouts(database).save(replace(ROLLOUT, id="r22", created_at=old))
    for key, at in (("old", old), ("new", NOW)):
        SqlAnnouncements(database).add(key, "", at)
        SqlAutomaticRuns(database).add(automatic_run(key=key, at=at))
        SqlOptOuts(database).add(OptOut(key, "anne", "", at, at + HOUR))
    SqlOptOuts(database).add(OptOut("for ever", "anne", "", old))
    seen = [("curl", "8", old), ("bash", "5", old), ("zlib", "1", NOW), ("tzdata", "2", old)]
    for number in (1, 2):  # the second has taken the place of the first, with its number
        update = make_update(id=guid(number), name="KB890830", kb="KB890830", available="rev 200")
        at = old + number * HOUR
        records.save(make_assessment(machine="w", at=at, packages=make_package_state(updates=(update,))))
    for name, version, at in seen:
        update = make_update(name=name, available=version)
        records.save(make_assessment(machine=name, at=at, packages=make_package_state(updates=(update,))))
    for gone in ("curl", "bash"):
        records.save(make_assessment(machine=gone, at=NOW, packages=make_package_state(updates=())))
    save_missing_fixes(database, {("web-1", "bash"): old})
    prune_history(records, NOW - HOUR)
    assert SqlAnnouncements(database).read_keys() == {"new"}
    assert [each.run.key for each in SqlAutomaticRuns(database).read_since(old)] == ["new"]
    kept = {("bash", "5"): old, ("zlib", "1"): NOW, ("tzdata", "2"): old, ("KB890830", guid(2)): old + 2 * HOUR}
    assert read_first_seen(database) == kept
    with database.begin_read("read the pauses") as connection:
        assert set(connection.execute(select(schema.opt_outs.c.scope)).scalars()) == {"for ever", "new"}
    left = {each.id for each in SqlRollouts(database).read_newest(100)}
    assert left == {"r22", *(f"r{number:02}" for number in range(2, 22))}
