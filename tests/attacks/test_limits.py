"""Attacks by a machine of the fleet that reports too much, or what can't be: on the records, the pages, the figures."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from flows.automatic.pending_updates import PendingRow, compute_missing_fixes
from tasks.domain.errors import ReportTooLarge
from tasks.domain.model import PackageState
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import Classification, Compliance, OperationState, Severity
from tasks.machines.managers.apt import assessment as apt
from tasks.machines.managers.rpm.manager import DNF, DNF5, RpmManager
from tasks.machines.managers.rpm.zypper import assessment as zypper
from tasks.machines.managers.windows_update import assessment as windows
from tasks.records import schema
from tasks.rules.machine_checks.report_limits import (
    MAX_ALL_CHARACTERS,
    MAX_ALL_ITEMS,
    MAX_ITEMS,
    MAX_NAME_LENGTH,
    MAX_UPDATES,
    drop_impossible_dates,
    require_within_limits,
)
from tasks.steps.jobs import watch
from tests.contract.cli.conftest import security
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.fake_transport import FakeTransport, SimulatedJob
from tests.support.fleet import SimFleet, outcome_of
from tests.support.web_site import Site, serve_site
from tests.unit.managers.recordings import recorded
from tests.unit.managers.windows_records import assessment as windows_answer
from tests.unit.managers.windows_records import update_record

MANY = 100_000
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def extend(result: ScriptResult, **texts: str) -> ScriptResult:
    """Return an answer with more text at the end of some sections."""
    records = tuple(
        {**record, "text": record["text"] + texts[record["name"]]} if record.get("name") in texts else record
        for record in map(dict[str, Any], result.records)
    )
    return replace(result, records=records)


def substitute(result: ScriptResult, name: str, old: str, new: str) -> ScriptResult:
    """Return an answer in which a part of a section's text is another."""
    records = map(dict[str, Any], result.records)
    changed = (
        {**each, "text": each["text"].replace(old, new)} if each.get("name") == name else each for each in records
    )
    return replace(result, records=tuple(changed))


def lie_as_apt() -> PackageState:
    block = "  Installed: 1\n  Candidate: 2\n  Version table:\n     2 500\n        500 http://x Packages\n *** 1 100\n"
    blocks = "".join(f"made-up-{number}:\n{block}" for number in range(MANY))
    return apt.parse_apt_assessment(extend(recorded("debian-12.apt_assess"), policy=blocks))


def lie_as_dnf() -> PackageState:
    lines = "".join(f"made-up-{n}|0|2.0|1|noarch|lab|1|made-up|Lab\n" for n in range(20_000))
    installed = "".join(f"made-up-{n}\t0\t1.0\t1\tnoarch\t1795355941\tLab\n" for n in range(20_000))
    return DNF.parse_assessment(
        extend(recorded("dnf-4.14.rpm_assess", family="dnf"), upgrades=lines, installed=installed)
    )


def lie_as_dnf_of_installed_packages() -> PackageState:
    installed = "".join(f"made-up-{n}\t0\t1.0\t1\tnoarch\t1795355941\tLab\n" for n in range(MANY))
    return DNF.parse_assessment(extend(recorded("dnf-4.14.rpm_assess", family="dnf"), installed=installed))


def lie_as_dnf_of_locks() -> PackageState:
    locks = "".join(f"/etc/versionlock.list:a*{n}\n" for n in range(MANY))
    return DNF.parse_assessment(extend(recorded("dnf-4.14.rpm_assess", family="dnf"), holds=locks))


def lie_as_dnf_of_cves() -> PackageState:
    """Some hundred kilobytes name millions of CVEs: each package of an advisory has all of its CVEs."""
    names = [f"made-up-{number}" for number in range(2_000)]
    cves = "".join(f"           : CVE-2026-{number}\n" for number in range(10_000, 12_000))
    files = "".join(f"           : {name}-2.0-1.noarch.rpm\n" for name in names)
    heading = "  Update ID: LIE-1\n       Type: security\n       CVEs: CVE-2026-9999\n"
    advisory = f"{heading}{cves}      Files: a-2-1.noarch.rpm\n{files}"
    return DNF.parse_assessment(
        extend(
            recorded("dnf-4.14.rpm_assess", family="dnf"),
            upgrades="".join(f"{name}|0|2.0|1|noarch|lab|1|x|Lab\n" for name in names),
            installed="".join(f"{name}\t0\t1.0\t1\tnoarch\t1795355941\tLab\n" for name in names),
            advisories=advisory,
        )
    )


def lie_as_dnf5() -> PackageState:
    machine = FakeTransport(clock := FakeClock(NOW))
    lines = "".join(f"made-up-{n}|0|2.0|1|noarch|lab|1|made-up|Lab\n" for n in range(20_000))
    installed = "".join(f"made-up-{n}\t0\t1.0\t1\tnoarch\t1795355941\tLab\n" for n in range(20_000))
    answer = extend(recorded("dnf5-5.4.rpm_assess", family="dnf"), upgrades=lines, installed=installed)
    machine.answer("rpm_assess", answer)
    return RpmManager(DNF5).assess(machine, refresh=False, deadline=Deadline.after(clock, 60))


def lie_as_zypper() -> PackageState:
    updates = "".join(
        f'<solvable type="package" name="made-up-{n}" edition="2-1" arch="noarch"></solvable>' for n in range(MANY)
    )
    answer = recorded("leap-15.6.rpm_assess", family="zypper")
    return zypper.parse_zypper_assessment(substitute(answer, "upgrade", "<to-upgrade>", f"<to-upgrade>{updates}"))


def lie_as_zypper_of_patches() -> PackageState:
    patches = "".join(f'<update kind="patch" name="lie-{n}" edition="1" status="needed"></update>' for n in range(MANY))
    answer = recorded("leap-15.6.rpm_assess", family="zypper")
    return zypper.parse_zypper_assessment(substitute(answer, "patches", "<update-list>", f"<update-list>{patches}"))


def lie_as_windows() -> PackageState:
    return windows.parse_windows_assessment(windows_answer(*(update_record(number) for number in range(1, MANY + 1))))


def lie_as_windows_of_a_title() -> PackageState:
    return windows.parse_windows_assessment(windows_answer(update_record(1, title="x" * MANY)))


LIES: Mapping[str, Callable[[], PackageState]] = {
    each.__name__.removeprefix("lie_as_"): each
    for each in (
        lie_as_apt,
        lie_as_dnf,
        lie_as_dnf_of_installed_packages,
        lie_as_dnf_of_locks,
        lie_as_dnf_of_cves,
        lie_as_dnf5,
        lie_as_zypper,
        lie_as_zypper_of_patches,
        lie_as_windows,
        lie_as_windows_of_a_title,
    )
}


@pytest.mark.parametrize("family", LIES)
def test_no_family_takes_more_than_a_real_machine_reports(family: str) -> None:
    """A machine makes up tens of thousands of updates, packages, locks, patches or CVEs in its answer.

    All of its answer is refused: no part of it is taken for what the machine lacks.
    """
    with pytest.raises(ReportTooLarge, match="the machine reports") as refusal:
        LIES[family]()
    assert "not assessed" in refusal.value.hint
    assert len(refusal.value.message) < 200


TOO_MUCH: Mapping[str, Mapping[str, Any]] = {
    "updates": {"updates": tuple(make.make_update(id=str(number)) for number in range(MAX_UPDATES + 1))},
    "a name": {"updates": (make.make_update(name="x" * (MAX_NAME_LENGTH + 1)),)},
    "a title": {"updates": (make.make_update(title="x" * (MAX_NAME_LENGTH + 1)),)},
    "CVEs": {"updates": (make.make_update(cves=tuple(map(str, range(MAX_ITEMS + 1)))),)},
    "advisories": {"updates": (make.make_update(advisories=tuple(map(str, range(MAX_ITEMS + 1)))),)},
    "all CVEs": {
        "updates": tuple(
            make.make_update(id=str(number), cves=tuple(map(str, range(MAX_ITEMS))))
            for number in range(MAX_ALL_ITEMS // MAX_ITEMS + 1)
        )
    },
    "all characters": {
        "updates": tuple(
            make.make_update(id=str(n), blocked="x" * 9_999) for n in range(MAX_ALL_CHARACTERS // 9_999 + 1)
        )
    },
    "warnings": {"warnings": tuple(map(str, range(MAX_ITEMS + 1)))},
    "a warning": {"warnings": ("x" * 10_001,)},
    "services": {"services_to_restart": tuple(map(str, range(MAX_ITEMS + 1)))},
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_no_part_of_a_report_is_larger_than_a_real_machine_s(what: str) -> None:
    """A package manager of any family, also of a later version, passes on too much: every part of it has a limit."""
    state = make.make_package_state(**TOO_MUCH[what])
    with pytest.raises(ReportTooLarge):
        require_within_limits(state)
    require_within_limits(make.make_package_state())


def lie_to_the_engine(run: str) -> tuple[SimFleet, Any]:
    fleet = SimFleet()
    fleet.add("good", [security("openssl")])
    fleet.add("bad", [security(f"made-up-{number}") for number in range(MAX_UPDATES + 1)])
    report = fleet.patch(waves={"failure_budget_count": 5}) if run == "patch" else fleet.assess()
    return fleet, report


def test_a_run_changes_nothing_on_a_machine_that_reports_too_much() -> None:
    """A hostile machine reports more than the limit to a patch run. It fails alone, before anything begins on it."""
    fleet, report = lie_to_the_engine("patch")
    bad = outcome_of(report, "bad")
    assert bad.state is OperationState.FAILED
    assert bad.error is not None
    assert bad.error.kind == "ReportTooLarge"
    assert "10,001 updates" in bad.reason
    assert (bad.updates, bad.install) == ((), None)
    assert not [call for call in fleet.machines["bad"].calls if call.verb == "start"]
    assert outcome_of(report, "good").state is OperationState.SUCCEEDED


def test_a_job_that_writes_without_end_is_not_read_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile machine writes records of its installation for ever, to fill the memory of the controller."""
    monkeypatch.setattr(watch, "MAX_EVENTS", 100)
    fleet = SimFleet()
    bad = fleet.add("bad", [security("openssl")])
    endless = tuple((0.1, {"kind": "progress", "number": 0, "percent": 1}) for _ in range(500))
    bad.job("fake_job", SimulatedJob(endless, seconds=None))
    outcome = outcome_of(fleet.patch(), "bad")
    assert outcome.state is OperationState.FAILED
    assert "records of a job" in outcome.reason


@pytest.fixture
def site(tmp_path: Path) -> Any:
    machines = [{"name": name, "address": f"{name}.example"} for name in ("good", "bad", "other")]
    (tmp_path / "fleet.yaml").write_text(json.dumps({"machines": machines}))
    with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
        yield served


def assess(site: Site, machine: str, packages: PackageState, at: datetime) -> None:
    site.records.save(make.make_assessment(machine=machine, at=at, run_id=f"{at:%d%H%M%S}", packages=packages))


def measure_records(site: Site) -> tuple[int, int]:
    """Return the rows of pending updates, and the bytes of all assessments."""
    table, pending = schema.assessments, schema.assessment_updates
    size = func.sum(func.length(table.c.document) + func.coalesce(func.length(table.c.updates), 0))
    with site.records.database.begin_read("measure") as connection:
        return (
            connection.execute(select(func.count()).select_from(pending)).scalar_one(),
            connection.execute(select(size)).scalar_one() or 0,
        )


def test_a_refused_report_costs_the_records_nothing_and_is_never_health(site: Site) -> None:
    """A machine that was compliant yesterday reports 10,001 updates, ten times: records and pages hardly notice.

    It counts as not assessed at once, although its last good answer is new, and every door says why.
    """
    for name in ("good", "bad"):
        assess(site, name, make.make_package_state(updates=()), NOW - DAY)
    before = measure_records(site)
    _, report = lie_to_the_engine("assess")
    (refused,) = [each for each in report.assessments if each.machine == "bad"]
    assert refused.compliance is Compliance.NOT_ASSESSED
    for number in range(10):
        site.records.save(replace(refused, at=NOW - DAY / 2 + timedelta(minutes=number)))
    rows, size = measure_records(site)
    assert rows == before[0]
    assert size - before[1] < 20_000
    page = site.get("/").text
    assert 'href="/machines?compliance=Compliant"><b class="good">1</b>' in page
    assert "made-up" not in page
    assert "10,001 updates" in site.get("/machines/bad").text
    assert (
        'fleetpatch_machines_assessment_failed{environment="",error="ReportTooLarge"} 1.0' in site.get("/metrics").text
    )


def test_the_largest_report_twice_is_stored_once(site: Site) -> None:
    """A hostile machine stays just below the limits, and reports the same again and again.

    The rows that pages read do not grow, and each assessment adds its compressed answer only.
    """
    updates = tuple(make.make_update(id=f"u-{n}", name=f"made-up-{n}", published=None) for n in range(MAX_UPDATES))
    for number in range(3):
        assess(site, "bad", make.make_package_state(updates=updates), NOW - DAY + timedelta(minutes=number))
        rows, size = measure_records(site)
        assert rows == MAX_UPDATES
        assert size < (number + 1) * 1_000_000
    assert site.get("/updates").text.count('<th scope="row">') <= 200  # a page, not all of them


def test_a_machine_s_dates_and_names_never_head_the_figures_of_the_fleet(site: Site) -> None:
    """A hostile machine names an update as it likes, and says that it was published in 1999."""
    lie = make.make_update(id="x", name="aaa-your-fleet-is-mine", published=datetime(1999, 1, 1, tzinfo=UTC))
    honest = make.make_update(published=NOW - 300 * DAY)
    assess(site, "bad", make.make_package_state(updates=(lie,)), NOW - 2 * DAY)
    assess(site, "good", make.make_package_state(updates=(honest,)), NOW - 2 * DAY)
    assess(site, "other", make.make_package_state(updates=(honest,)), NOW - DAY)
    page, metrics = site.get("/").text, site.get("/metrics").text
    assert lie.name not in page
    assert lie.name not in metrics
    assert ">2 days<" in page
    assert f"fleetpatch_oldest_missing_fix_age_seconds {2 * 86400.0}" in metrics
    assert f">{lie.name}</a>" in site.get("/machines/bad").text  # it is what that machine says of itself


def test_one_machine_adds_one_to_the_headline(site: Site) -> None:
    """A hostile machine reports thousands of critical updates, so that nobody sees those of the others."""
    made_up = tuple(make.make_update(id=f"u-{n}", name=f"made-up-{n}") for n in range(5_000))
    assess(site, "bad", make.make_package_state(updates=made_up), NOW - DAY)
    assess(site, "good", make.make_package_state(updates=(make.make_update(),)), NOW - DAY)
    page = site.get("/").text
    tile = page[page.index("Security pending") :][:300]
    assert '">2</a>' in tile
    assert "machines, with 5\u202f001 updates" in tile


def test_a_date_that_can_not_be_is_not_taken() -> None:
    """A machine dates its updates before every system, or into the future: such an update has no date."""
    dates = (datetime(1970, 1, 2, tzinfo=UTC), NOW + 2 * DAY, NOW - 30 * DAY, None)
    updates = tuple(make.make_update(id=str(n), published=date) for n, date in enumerate(dates))
    state = drop_impossible_dates(make.make_package_state(updates=updates), NOW)
    assert [each.published for each in state.updates] == [None, None, NOW - 30 * DAY, None]


def test_the_date_of_one_machine_moves_no_other_machine_s_deadline() -> None:
    """A hostile machine says that an update which all lack was published long ago, so that all are patched at once."""
    row = PendingRow("openssl", "2", Classification.SECURITY, Severity.UNSPECIFIED, (), "", "1", None, NOW - DAY)
    lie = replace(row, published=NOW - 400 * DAY)
    key = ("openssl", "2")
    for seen in ({}, {key: NOW - 3 * DAY}):
        found = compute_missing_fixes({"bad": (lie,), "good": (row,)}, seen, {}, ("bad", "good"), NOW)
        assert found.since["good", "openssl"] == seen.get(key, NOW - DAY)
        assert found.since["bad", "openssl"] == NOW - 400 * DAY
