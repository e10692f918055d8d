"""What records say of pending updates, missing fixes and rollouts' results. On SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.automatic.fleet_view import AssessedFleet, read_snapshot
from inventory.machine import Inventory, Machine, PatchOwner
from tasks.domain.model import Assessment, ErrorInfo, Update, UpdateResult
from tasks.domain.states import Classification, OperationState, Severity, UpdateState
from tasks.records.automatic.rollouts import build_try, read_rollout_results
from tasks.records.automatic.sightings import read_first_seen, read_missing_fixes, save_missing_fixes
from tasks.records.queries.newest_assessments import read_newest_assessments
from tasks.records.queries.pending_since import read_pending_since
from tasks.records.sql_records import SqlRecords
from tasks.rules.automatic.model import AutomaticPolicy, Rollout
from tests.support.builders import (
    make_assessment,
    make_facts,
    make_outcome,
    make_package_state,
    make_run,
    make_update,
    make_update_result,
)
from tests.unit.managers.windows_records import guid

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def assessed(machine: str, at: datetime, *updates: Update, run_id: str = "a") -> Assessment:
    return make_assessment(machine=machine, at=at, run_id=run_id, packages=make_package_state(updates=updates))


def silent(machine: str, at: datetime) -> Assessment:
    error = ErrorInfo("Unreachable", "no answer")
    return Assessment(machine, at, 1.0, error=error, run_id="silent")


def bash(version: str, published: datetime | None = None) -> Update:
    return make_update(name="bash", available=version, published=published, cves=None)


def snapshot(records: SqlRecords, *names: str, **policy: Any) -> AssessedFleet:
    machines = tuple(Machine(name=name, address="192.0.2.1", owner=PatchOwner.MANAGED) for name in names)
    return read_snapshot(records, Inventory(machines), AutomaticPolicy(**policy), NOW + 90 * DAY)


def since(records: SqlRecords, machine: str = "web-1") -> dict[tuple[str, str], datetime]:
    missing = snapshot(records, machine).missing
    save_missing_fixes(records.database, missing.unsaved, missing.fixed)
    return read_missing_fixes(records.database, [machine])


def test_the_newest_assessments_with_and_without_an_answer(records: SqlRecords) -> None:
    for each in (assessed("web-1", NOW), silent("web-1", NOW + DAY), silent("web-2", NOW), assessed("other", NOW)):
        records.save(each)
    records.save(assessed("web-3", NOW - DAY, bash("1")))
    records.save(assessed("web-3", NOW, bash("2")))
    found = read_newest_assessments(records.database, ["web-1", "web-2", "web-3", "web-4"])
    assert {name: (each.asked_at, each.assessed_at, each.error_kind) for name, each in found.items()} == {
        "web-1": (NOW + DAY, NOW, "Unreachable"),
        "web-2": (NOW, None, "Unreachable"),
        "web-3": (NOW, NOW, ""),
    }
    assert found["web-2"].answered is None
    assert found["web-1"].answered == assessed("web-1", NOW)
    assert found["web-3"].answered == assessed("web-3", NOW, bash("2"))


def test_pending_updates_are_those_that_a_run_of_the_policy_would_install(records: SqlRecords) -> None:
    openssl = make_update(severity="Important", held=True, arch="amd64")
    twin = replace(openssl, id="openssl:i386", arch="i386", held=False)
    fix = make_update(name="curl", available="9", security_version="8", cves=("CVE-1",))
    licensed = make_update(name="font", available="1", needs_licence=True)
    other = make_update(name="tzdata", available="2", classification=Classification.OTHER, cves=None)
    records.save(assessed("web-1", NOW, openssl, twin, fix, licensed, other))
    found = {row.name: row for row in snapshot(records, "web-1", "web-2").rows["web-1"]}
    assert {name: (row.version, row.held) for name, row in found.items()} == {
        "openssl": (openssl.available, ""),
        "curl": ("8", ""),
        "font": ("1", found["font"].held),
        "tzdata": ("2", ""),
    }
    assert "licence" in found["font"].held
    row = found["openssl"]
    assert (row.classification, row.severity, row.cves) == (Classification.SECURITY, Severity.IMPORTANT, openssl.cves)
    assert (row.published, row.seen_at, row.installed) == (openssl.published, NOW, openssl.installed)
    assert snapshot(records, "web-1").cves >= {"CVE-1", *(openssl.cves or ())}
    everything = snapshot(records, "web-1", classifications=frozenset(Classification)).rows["web-1"]
    assert [row.version for row in everything if row.name == "curl"] == ["9"]


def test_an_older_version_that_is_still_offered_is_pending_too(records: SqlRecords) -> None:
    """A rollout may have frozen it: its later phases install it although there is a newer one."""
    records.save(assessed("web-1", NOW, make_update(name="curl", available="3", older_versions=("2",))))
    assert {row.key for row in snapshot(records, "web-1").rows["web-1"]} == {("curl", "3"), ("curl", "2")}


def test_a_newer_version_does_not_postpone_the_deadline(records: SqlRecords) -> None:
    records.save(assessed("web-1", NOW, bash("1")))
    assert since(records) == {("web-1", "bash"): NOW}
    records.save(assessed("web-1", NOW + DAY, bash("2", NOW + DAY)))
    assert since(records) == {("web-1", "bash"): NOW}
    records.save(assessed("web-1", NOW + 2 * DAY))
    assert since(records) == {}
    records.save(assessed("web-1", NOW + 3 * DAY, bash("3", NOW + 2 * DAY)))
    assert since(records) == {("web-1", "bash"): NOW + 2 * DAY}


def test_a_fix_that_was_installed_ends_what_an_earlier_version_began(records: SqlRecords) -> None:
    records.save(assessed("web-1", NOW, bash("1", NOW)))
    assert since(records) == {("web-1", "bash"): NOW}
    new = replace(bash("2", NOW + DAY), installed="1")
    records.save(assessed("web-1", NOW + 2 * DAY, new))
    assert since(records) == {("web-1", "bash"): NOW + DAY}
    records.save(assessed("web-1", NOW + 3 * DAY, replace(bash("3", NOW + 3 * DAY), installed="1")))
    assert since(records) == {("web-1", "bash"): NOW + DAY}


def test_a_machine_that_does_not_answer_keeps_what_it_lacked(records: SqlRecords) -> None:
    records.save(assessed("web-1", NOW, bash("1")))
    assert since(records)
    records.save(silent("web-1", NOW + DAY))
    assert since(records) == {("web-1", "bash"): NOW}


def test_the_first_sight_on_any_machine_counts_until_the_publication_is_known(records: SqlRecords) -> None:
    records.save(assessed("web-1", NOW, bash("1")))
    since(records)
    records.save(assessed("web-2", NOW + DAY, bash("1")))
    assert since(records, "web-2") == {("web-2", "bash"): NOW}
    records.save(assessed("web-2", NOW + 2 * DAY, bash("1", NOW - DAY)))
    assert since(records, "web-2") == {("web-2", "bash"): NOW - DAY}
    assert read_first_seen(records.database) == {("bash", "1"): NOW}


def kb890830(number: int, revision: int = 200, published: datetime | None = None) -> Update:
    """The tool that Microsoft publishes each month with the same number, in the same revision."""
    name, version = "KB890830", f"rev {revision}"
    return make_update(
        id=guid(number), name=name, arch="", kb=name, installed=None, available=version, published=published
    )


def test_an_update_of_windows_with_the_number_of_an_earlier_one_is_another_one(records: SqlRecords) -> None:
    records.save(assessed("web-1", NOW, kb890830(1)))
    assert since(records) == {("web-1", "KB890830"): NOW}
    records.save(assessed("web-1", NOW + 30 * DAY, kb890830(2)))
    assert since(records) == {("web-1", "KB890830"): NOW + 30 * DAY}
    assert read_pending_since(records.database, ["web-1"]) == {("web-1", "KB890830"): NOW + 30 * DAY}
    (row,) = snapshot(records, "web-1").rows["web-1"]
    rollout = Rollout("r1", NOW, frozenset({row.key}), ())
    tested = (make_update_result(update=kb890830(number)) for number in (1, 2))
    outcome = make_outcome(updates=tuple(tested))
    assert build_try(rollout, make_run(), outcome).installed == (row.key,)


def test_a_revision_of_an_update_of_windows_keeps_its_age(records: SqlRecords) -> None:
    """Also where each revision is dated anew: a server that only changed its description does not postpone it."""
    records.save(assessed("web-1", NOW, kb890830(1)))
    records.save(assessed("web-1", NOW + DAY, kb890830(1, 201, NOW + DAY)))
    assert since(records) == {("web-1", "KB890830"): NOW}
    assert read_first_seen(records.database) == {("KB890830", guid(1)): NOW}


def test_a_sight_by_a_wrong_clock_is_none(records: SqlRecords) -> None:
    """Of a controller whose clock is a year behind: the first sight would stay."""
    facts = make_facts(clock_skew_seconds=365 * 86_400.0)
    records.save(replace(assessed("web-1", NOW - 365 * DAY, bash("1")), facts=facts))
    assert read_first_seen(records.database) == {}
    records.save(assessed("web-1", NOW, bash("1")))
    assert read_first_seen(records.database) == {("bash", "1"): NOW}


def test_what_is_stored_once_is_not_stored_again(records: SqlRecords) -> None:
    records.save(assessed("web-1", NOW, bash("1"), make_update()))
    assert snapshot(records, "web-1").missing.unsaved
    since(records)
    missing = snapshot(records, "web-1").missing
    assert (missing.unsaved, missing.fixed) == ({}, [])


def test_tries_are_the_outcomes_of_runs_of_the_rollout_that_have_ended(records: SqlRecords) -> None:
    new = bash("2")
    rollout = Rollout("r_1", NOW, frozenset({("bash", "2"), ("curl", "8")}), ())
    request = {"updates": {"as_in_run": "rollout:r_1"}}
    mine = make_run(id="mine", started_at=NOW, request=request, kind="patch", state=OperationState.FAILED)
    others = [
        replace(mine, id="unfinished", state=OperationState.IN_PROGRESS),
        replace(mine, id="another", request={"updates": {"as_in_run": "rollout:rx1"}}),
        replace(mine, id="plan", kind="plan"),
        replace(mine, id="named", request={"scope": "rollout:r_1", "updates": {"as_in_run": ""}}),
    ]
    for run in (mine, *others):
        records.save(run)
        records.save(make_outcome(run_id=run.id, machine="web-1", updates=(), state=OperationState.SUCCEEDED))
    outcome = make_outcome(
        run_id="mine",
        machine="web-1",
        state=OperationState.FAILED,
        reason="curl failed",
        updates=(
            UpdateResult(new, UpdateState.INSTALLED, version_after="2"),
            UpdateResult(make_update(), UpdateState.INSTALLED),
            UpdateResult(make_update(name="curl", available="8"), UpdateState.FAILED, "postinst"),
        ),
    )
    off = make_outcome(
        run_id="mine",
        machine="web-2",
        state=OperationState.FAILED,
        install=None,
        error=ErrorInfo("Unreachable", "no answer"),
        updates=(),
    )
    for each in (outcome, off, replace(off, machine="web-3", state=OperationState.NOT_STARTED, error=None)):
        records.save(each)
    results = read_rollout_results(records.database, [rollout])
    first, second, third = results.tries
    assert (first.machine, first.run_id, first.state, first.began) == ("web-1", "mine", OperationState.FAILED, True)
    assert (first.installed, first.failed_updates) == ((("bash", "2"),), (("curl", "8", "postinst"),))
    assert (first.reason, first.ended_at) == ("curl failed", outcome.ended_at)
    assert [(each.machine, each.began) for each in (second, third)] == [("web-2", False), ("web-3", False)]
    assert list(results.last_outcomes) == ["web-1"]
    assert read_rollout_results(records.database, []).tries == ()


def test_an_update_whose_installation_broke_off_counts_as_failed(records: SqlRecords) -> None:
    """A machine that dies while it installs can't say what it has installed. Its update must not go on elsewhere."""
    rollout = Rollout("rollout-0001", NOW, frozenset({("bash", "5"), ("bash", "6")}), ())
    request = {"updates": {"as_in_run": "rollout:rollout-0001"}}
    records.save(make_run(id="lost", started_at=NOW, request=request, state=OperationState.FAILED))
    lost = UpdateResult(bash("5"), UpdateState.PENDING, "its installation was begun and its end was not seen")
    error = ErrorInfo("Unreachable", "no answer")
    begun = make_outcome(run_id="lost", machine="web-1", updates=(lost,), state=OperationState.FAILED, error=error)
    records.save(begun)
    records.save(replace(begun, machine="web-2", install=None))
    first, second = read_rollout_results(records.database, [rollout]).tries
    assert (first.began, [each[:2] for each in first.failed_updates]) == (True, [("bash", "5")])
    assert (second.began, second.failed_updates) == (False, ())
