"""The overview and the list of machines show what the records hold: compared with counts made apart from them."""

import csv
import io
import random
import re
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from fleetpatch.machines import fleet_reader
from fleetpatch.machines.machine_list import FACETS, MachineFilters, count_facets, filter_machines
from fleetpatch.machines.snapshot import count_fleet
from tasks.domain.model import Assessment
from tasks.domain.states import Classification, Compliance, OperationState, YesNoUnknown
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet_runs import save_live_run
from tests.support.web_site import Site, serve_site

NOW = make.START + timedelta(days=100)
DAY = timedelta(days=1)
ENVIRONMENTS = ("prod", "dev", "")
KINDS = (Classification.CRITICAL, Classification.SECURITY, Classification.SECURITY_ESM, Classification.OTHER)


@dataclass
class Known:
    """What was saved of a machine, for the counts of the test."""

    newest: Assessment | None = None
    answered: Assessment | None = None


def write_inventory(place: Path, machines: int) -> list[str]:
    """Write an inventory, and return the names in it."""
    names = [f"m-{number:02}" for number in range(machines)]
    lines = [
        f'  - {{name: {name}, address: 10.0.0.{number + 1}, environment: "{ENVIRONMENTS[number % 3]}", '
        f"owner: {('fleetpatch', 'os', 'managed')[number % 3]}}}"
        for number, name in enumerate(names)
    ]
    (place / "fleet.yaml").write_text("\n".join(["machines:", *lines, ""]))
    return names


def save_random_fleet(site: Site, names: list[str], dice: random.Random) -> dict[str, Known]:
    """Save assessments in any order of time, with and without answers, of all ages."""
    known = {name: Known() for name in names}
    for number in range(4 * len(names)):
        name, at = dice.choice(names[:-1]), NOW - dice.random() * 12 * DAY
        if dice.random() < 0.3:
            made = make.make_failed_assessment(machine=name, at=at, run_id=f"run-{number}")
        else:
            updates = tuple(
                make.make_update(id=f"p{each}", name=f"p{each}", classification=dice.choice(KINDS), cves=("CVE-1",))
                for each in range(dice.choice([0, 0, 1, 5]))
            )
            state = make.make_package_state(
                updates=updates,
                reboot=replace(make.make_package_state().reboot, answer=dice.choice(list(YesNoUnknown))),
                services_to_restart=("ssh",) if dice.random() < 0.3 else (),
            )
            made = make.make_assessment(machine=name, at=at, run_id=f"run-{number}", packages=state)
        site.records.save(made)
        mine = known[name]
        if mine.newest is None or mine.newest.at <= at:
            mine.newest = made
        if made.packages is not None and (mine.answered is None or mine.answered.at <= at):
            mine.answered = made
    return known


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_of_the_overview_are_those_of_the_answers(tmp_path: Path, seed: int) -> None:
    names = write_inventory(tmp_path, 12)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        known = save_random_fleet(site, names, random.Random(seed))
        fresh = [one.answered for one in known.values() if one.answered and NOW - one.answered.at <= 7 * DAY]
        found = count_fleet(site.context.fleet.read())
        updates = [update for one in fresh if one.packages for update in one.packages.updates]
        assert found.machines == len(names)
        sure = [one.answered for one in known.values() if one.answered in fresh and one.answered is one.newest]
        assert found.compliant == sum(one.compliance is Compliance.COMPLIANT for one in sure)
        assert found.non_compliant == sum(one.compliance is Compliance.NON_COMPLIANT for one in fresh)
        assert found.not_assessed == len(names) - found.compliant - found.non_compliant
        assert found.critical == sum(each.classification is Classification.CRITICAL for each in updates)
        assert found.critical + found.security == sum(one.urgent_count for one in fresh)
        assert found.other == sum(one.other_count for one in fresh)
        assert found.reboot == sum(bool(one.packages and one.packages.reboot.answer == "yes") for one in fresh)
        assert found.services == sum(bool(one.packages and one.packages.services_to_restart) for one in fresh)
        assert found.unreachable == sum(bool(one.newest and one.newest.error) for one in known.values())
        page = site.get("/").text
        for link, number in (
            ("/machines?compliance=Compliant", found.compliant),
            ("/machines?compliance=NotAssessed", found.not_assessed),
            ("/machines?reboot=yes", found.reboot),
            ("/machines?show=unreachable", found.unreachable),
            ("/machines?show=services", found.services),
        ):
            shown = re.search(re.escape(f'href="{link}"') + r">(?:<b[^>]*>)?(\d+)", page)
            assert shown is not None, link
            assert int(shown[1]) == number, link
            assert count_rows(site, link) == number, link


def test_a_run_under_way_that_changes_nothing_makes_no_new_state_of_the_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_reader, "LOOK_SECONDS", 0.0)
    (name, *_) = write_inventory(tmp_path, 3)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        save_live_run(site.records, NOW)
        read = site.context.fleet.read
        first = read()
        assert [read(wait_seconds=60) for _ in range(3)] == [first] * 3
        run = make.make_run(id="under-way", state=OperationState.IN_PROGRESS, ended_at=None, started_at=NOW)
        going = make.make_outcome(run_id="under-way", machine=name, state=OperationState.IN_PROGRESS, ended_at=None)
        site.records.save(make.make_report(run=run, outcomes=(going,), assessments=(), plans=(), waves=()))
        assert (after := read(wait_seconds=60)) != first
        assert after.rows[name].last_run is not None
        ended = replace(going, state=OperationState.FAILED, ended_at=NOW)
        site.records.save(make.make_report(run=run, outcomes=(ended,), assessments=(), plans=(), waves=()))
        last_run = read(wait_seconds=60).rows[name].last_run
        assert last_run is not None
        assert last_run.state == OperationState.FAILED


def count_rows(site: Site, path: str) -> int:
    """Return how many machines the list shows."""
    return site.get(path).text.count('<th scope="row">')


@pytest.mark.parametrize("seed", range(3))
def test_each_facet_counts_what_its_filter_shows(tmp_path: Path, seed: int) -> None:
    names, dice = write_inventory(tmp_path, 15), random.Random(seed)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        save_random_fleet(site, names, dice)
        snapshot = site.context.fleet.read()
        for _ in range(20):
            one = dice.choice(list(snapshot.machines.values()))
            chosen = dice.sample(sorted(FACETS), dice.randrange(3))
            filters = MachineFilters(**{name: FACETS[name](one) for name in chosen}, q=dice.choice(["", "m-0", "M-1"]))
            for name, values in count_facets(snapshot, filters).items():
                for value, number in values:
                    assert len(filter_machines(snapshot, replace(filters, **{name: value}))) == number, (name, value)
            rows = list(csv.DictReader(io.StringIO(site.get("/machines.csv", params=filters.given).text)))
            expected = filter_machines(snapshot, filters)
            assert [row["name"] for row in rows] == sorted(each.name for each in expected)
            assert count_rows(site, f"/machines?{urlencode(filters.given)}") == len(expected)


def test_an_unknown_filter_shows_nothing_and_a_bad_scope_says_why_at_its_field(tmp_path: Path) -> None:
    write_inventory(tmp_path, 3)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        assert "No machine matches" in site.get("/machines?show=nonsense").text
        assert count_rows(site, "/machines?scope=env%3Dprod") == 1
        answer = site.get("/machines?scope=env%3D")
        assert answer.status_code == 400
        assert 'aria-invalid="true" aria-describedby="scope-error"' in answer.text
        assert "lacks a value. Write one, or key=*" in answer.text
        assert "no machine is in the scope" in site.get("/machines?scope=env%3Dnothing").text


def test_each_column_sorts_both_ways(tmp_path: Path) -> None:
    names = write_inventory(tmp_path, 9)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        save_random_fleet(site, names, random.Random(1))
        for key in ("name", "compliance", "environment", "os", "urgent", "other", "readiness", "mode", "run", "window"):
            assert 'aria-sort="ascending"' in site.get(f"/machines?sort={key}").text
            down = site.get(f"/machines?sort=-{key}").text
            assert 'aria-sort="descending"' in down
        listed = re.findall(r'<th scope="row"><a href="/machines/([^"]+)"', site.get("/machines?sort=-name").text)
        assert listed == sorted(names, reverse=True)


def test_the_last_run_is_the_newest_that_may_have_changed_the_machine(tmp_path: Path) -> None:
    write_inventory(tmp_path, 2)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        for kind, run_id, hours in (("patch", "older", 30), ("patch", "newer", 20), ("assess", "looked", 10)):
            at = NOW - timedelta(hours=hours)
            run = make.make_run(id=run_id, kind=kind, started_at=at)
            outcome = make.make_outcome(machine="m-00", run_id=run_id, started_at=at, state=OperationState.FAILED)
            site.records.save(make.make_report(run=run, outcomes=(outcome,), assessments=(), plans=()))
        old = make.make_outcome(machine="m-00", run_id="older", started_at=NOW - timedelta(hours=30))
        site.records.save(old)  # an older run that is saved again changes nothing
        last = site.context.fleet.read().rows["m-00"].last_run
        assert last is not None
        assert (last.id, last.state) == ("newer", "Failed")
        assert 'href="/runs/newer"' in site.get("/machines").text


def test_a_machine_page_shows_names_of_any_kind_and_suggests_near_ones(tmp_path: Path) -> None:
    write_inventory(tmp_path, 2)
    odd = "a/b <i>?&#%41 ü"
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        site.records.save(make.make_assessment(machine=odd, at=NOW - DAY))
        answer = site.get("/machines/a%2Fb%20%3Ci%3E%3F%26%23%2541%20%C3%BC")
        assert answer.status_code == 200
        assert "not in the inventory any more" in answer.text
        assert "a/b &lt;i&gt;?&amp;#%41 ü" in answer.text
        missing = site.get("/machines/m-0")
        assert missing.status_code == 404
        assert re.search(r"Did you mean &#39;m-0[01]&#39;\?", missing.text)


def test_a_machine_page_says_what_is_missing_and_why(tmp_path: Path) -> None:
    write_inventory(tmp_path, 2)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        site.records.save(make.make_report())
        page = site.get(f"/machines/{make.MACHINE}").text
        for part in ("What is missing", "History", f"/runs/{make.RUN_ID}", "Reboot needed", "GiB free"):
            assert part in page
        assert site.get(f"/machines/{make.MACHINE}?page=99&updates=99").status_code == 200


def test_a_broken_inventory_keeps_the_last_good_one_and_shows_the_problem(tmp_path: Path) -> None:
    write_inventory(tmp_path, 3)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        assert count_rows(site, "/machines") == 3
        (tmp_path / "fleet.yaml").write_text("machines: [{name: x, adress: 10.0.0.1}]\n")
        page = wait_for(site, "adress")
        assert page.count('<th scope="row">') == 3
        write_inventory(tmp_path, 5)
        assert wait_for(site, "m-04").count('<th scope="row">') == 5


def wait_for(site: Site, text: str) -> str:
    """Return the list of machines once it has a text."""
    until = time.monotonic() + 120
    while text not in (page := site.get("/machines").text):
        assert time.monotonic() < until, page
        time.sleep(0.05)
    return page


def test_the_list_and_the_machine_link_to_the_forms_for_just_these_machines(tmp_path: Path) -> None:
    write_inventory(tmp_path, 6)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        for path, scope, forms in (
            ("/machines", "*", ("assess", "patch")),
            ("/machines?environment=prod", "env=prod", ("assess", "patch")),
            ("/machines?q=m-01", "name=m-01", ("assess",)),  # its own updater patches it
            ("/machines/m-02", "name=m-02", ("assess", "patch")),
            ("/machines/m-04", "name=m-04", ("assess",)),
            ("/machines?q=nobody", "", ()),
        ):
            links = re.findall(r'<a href="(/(assess|patch)\?[^"]+)">', site.get(path).text)
            assert [form for _, form in links] == list(forms), path
            for link, _ in links:
                assert parse_qs(urlsplit(link).query) == {"scope": [scope]}, path
                assert site.get(link).status_code == 200


def test_the_file_of_machines_has_no_formula_and_no_figure_of_a_machine_that_never_answered(tmp_path: Path) -> None:
    fleet = (
        "machines:\n  - {name: m-1, address: 192.0.2.1, user: u, environment: '\N{FULLWIDTH EQUALS SIGN}1+1', "
        "location: '=1+1'}\n"
    )
    (tmp_path / "fleet.yaml").write_text(fleet, encoding="utf-8")
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        hostile = make.make_error(message="\x1b[31mred\ud800")
        site.records.save(make.make_failed_assessment(machine="m-1", at=NOW - timedelta(hours=1), error=hostile))
        (row,) = csv.DictReader(io.StringIO(site.get("/machines.csv").text))
    assert (row["environment"], row["location"]) == ("'\N{FULLWIDTH EQUALS SIGN}1+1", "'=1+1")
    assert "\x1b" not in row["readiness_reason"]
    assert [row[name] for name in ("critical", "security", "other", "answered_at")] == ["", "", "", ""]
