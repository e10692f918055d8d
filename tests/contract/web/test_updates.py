"""The pages of updates and CVEs, over real records."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tasks.domain.model import Outcome, RunReport
from tasks.domain.states import Classification, UpdateState
from tasks.records.automatic.held_updates import SqlHeldUpdates
from tasks.rules.automatic.model import HeldUpdate
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\x1b[31m"
WEB, DB, MANAGED, MANUAL, WINDOWS = "web-1", "db-1", "auto-1", "hand-1", "win-1"


def write_fleet(place: Path, automatic: dict[str, object] | None = None) -> None:
    machines = [
        {"name": WEB, "address": "192.0.2.1", "environment": "prod"},
        {"name": DB, "address": "192.0.2.2", "environment": "test"},
        {"name": MANAGED, "address": "192.0.2.3", "owner": "managed"},
        {"name": MANUAL, "address": "192.0.2.4", "owner": "manual"},
    ]
    window = {"start": "2026-11-24 22:00", "length": "2h", "zone": "Europe/Berlin", "recurrence": "Week Tuesday"}
    configurations = [{"name": "weekly", "scope": "env=prod|test", "window": window}]
    (place / "fleet.yaml").write_text(yaml.safe_dump({"machines": machines}))
    (place / "configurations").mkdir()
    policy = {} if automatic is None else {"automatic": automatic}
    (place / "configurations" / "all.yaml").write_text(yaml.safe_dump({"configurations": configurations, **policy}))


def assess(site: Site, machine: str, *updates: object, days: float = 0, os_id: str = "debian") -> None:
    moment = NOW - timedelta(days=days)
    packages = make.make_package_state(updates=updates)
    site.records.save(
        make.make_assessment(
            machine=machine,
            at=moment,
            run_id=f"a-{moment:%d%H%M}",
            facts=make.make_facts(os_id=os_id),
            packages=packages,
        )
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    write_fleet(tmp_path, {})
    with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
        yield served


def later(site: Site) -> None:
    """Let what the pages keep in memory become old."""
    site.context.clock.advance(10)  # type: ignore[attr-defined]


def row_of(text: str, name: str) -> str:
    """The row of a table in which a link has this text."""
    rows: list[str] = re.findall(r"<tr>.*?</tr>", text, re.DOTALL)
    (found,) = [row for row in rows if f">{name}</a>" in row]
    return found


def cells(row: str) -> dict[str, str]:
    """The values of a row by their label, without tags."""
    found = re.findall(r'<td data-label="([^"]+)"[^>]*>(.*?)</td>', row, re.DOTALL)
    return {label: " ".join(re.sub(r"<[^>]+>", " ", value).split()) for label, value in found}


class TestTheList:
    def test_it_counts_who_lacks_each_update_and_since_when(self, site: Site) -> None:
        assess(site, WEB, make.make_update(available="1"), days=9)
        assess(site, WEB, make.make_update(available="2"), make.make_other_update(), days=1)
        assess(site, DB, make.make_update(available="2", held=True))
        row = cells(row_of(site.get("/updates").text, "openssl"))
        assert row["Machines"] == "2"
        assert row["Missing since"] == "2026-11-14"  # the newer version has not changed it
        assert row["Withheld"] == "1"
        assert row["CVEs"] == "1"
        assert row["Newest version"] == "2"
        assert cells(row_of(site.get("/updates").text, "tzdata"))["CVEs"] == "\N{EN DASH}"

    def test_an_update_that_was_installed_is_gone_and_missing_anew_when_it_comes_back(self, site: Site) -> None:
        assess(site, WEB, make.make_update(), days=9)
        assess(site, WEB, days=5)
        assert "openssl" not in site.get("/updates").text
        later(site)
        assess(site, WEB, make.make_update(), days=2)
        assert cells(row_of(site.get("/updates").text, "openssl"))["Missing since"] == "2026-11-21"

    def test_only_machines_of_the_inventory_count(self, site: Site) -> None:
        assess(site, "gone-1", make.make_update())
        assert "openssl" not in site.get("/updates").text
        page = site.get("/updates/openssl").text
        assert "1 machine in the records that the inventory does not have any more" in page

    def test_it_follows_new_assessments(self, site: Site) -> None:
        assess(site, WEB, make.make_update(), days=1)
        assert cells(row_of(site.get("/updates").text, "openssl"))["Machines"] == "1"
        assess(site, DB, make.make_update())
        later(site)
        assert cells(row_of(site.get("/updates").text, "openssl"))["Machines"] == "2"
        assess(site, WEB)
        later(site)
        assert cells(row_of(site.get("/updates").text, "openssl"))["Machines"] == "1"

    def test_another_update_in_the_place_of_the_only_one_is_seen(self, site: Site) -> None:
        assess(site, WEB, make.make_update(name="first"), days=1)
        assert row_of(site.get("/updates").text, "first")
        assess(site, WEB, make.make_update(name="second"))
        later(site)
        page = site.get("/updates").text
        assert row_of(page, "second")
        assert "/updates/first" not in page

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("", {"openssl", "tzdata", "KB-update"}),
            ("q=OPENS", {"openssl"}),
            ("q=cumulative", {"KB-update"}),
            ("q=KB5049983", {"KB-update"}),
            ("q=cve-2024-131", {"openssl"}),
            ("q=nothing", set()),
            ("classification=Other", {"tzdata"}),
            ("severity=Important", {"openssl"}),
            ("os=windows", {"KB-update"}),
            ("scope=env%3Dtest", {"tzdata"}),
            ("scope=env%3Dprod&classification=Other", set()),
        ],
    )
    def test_its_filters(self, site: Site, query: str, names: set[str]) -> None:
        title = "2026-11 Cumulative Update"
        windows = make.make_update(name="KB-update", kb="5049983", title=title, severity="Critical", cves=())
        assess(site, WEB, make.make_update())
        assess(site, DB, make.make_other_update())
        assess(site, MANUAL, windows, os_id="windows")
        page = site.get(f"/updates?{query}")
        assert page.status_code == 200
        assert set(re.findall(r'<th scope="row"><a href="/updates/([^"]+)"', page.text)) == names

    def test_a_scope_that_is_not_valid_is_explained(self, site: Site) -> None:
        assess(site, WEB, make.make_update())
        page = site.get("/updates?scope=env%3D")
        assert page.status_code == 400
        assert 'aria-invalid="true" aria-describedby="scope-error"' in page.text
        assert "&#39;env=&#39; lacks a value. Write one, or key=*" in page.text
        assert "No machine lacks" not in page.text
        assert "0 updates" not in page.text

    def test_sorting_and_parts_stay_in_the_urls(self, site: Site) -> None:
        assess(site, WEB, *(make.make_update(name=f"package-{number:03}") for number in range(250)))
        page = site.get("/updates?sort=name&severity=Important").text
        assert "package-199" in page
        assert "package-200" not in page
        following = re.search(r'rel="next" href="([^"]+)"', page)
        assert following
        rest = site.get(following.group(1).replace("&amp;", "&")).text
        assert "package-200" in rest
        assert "package-199" not in rest

    def test_by_cve(self, site: Site) -> None:
        assess(site, WEB, make.make_update(), make.make_kernel_update(severity="Critical"))
        assess(site, DB, make.make_kernel_update(severity="Critical"))
        page = site.get("/updates?by=cve").text
        row = cells(row_of(page, "CVE-2024-53166"))
        assert (row["Machines"], row["Severity"], row["Fixed by"]) == ("2", "Critical", "linux-image-amd64")
        assert cells(row_of(page, "CVE-2024-13176"))["Machines"] == "1"

    @pytest.mark.parametrize("text", ["CVE-2026-1234", "cve-2026-1234", " CVE-2026-1234 "])
    def test_the_number_of_a_cve_goes_to_its_page(self, site: Site, text: str) -> None:
        answer = site.get("/updates", params={"q": text})
        assert (answer.status_code, answer.headers["location"]) == (303, "/cves/CVE-2026-1234")


class TestOneUpdate:
    def test_why_each_machine_lacks_it_and_when_it_will_go(self, site: Site) -> None:
        site.records.save(_failed_run())
        assess(site, WEB, make.make_update())
        assess(site, DB, make.make_update(held=True))
        assess(site, MANAGED, make.make_update(available="3.0.17"))
        assess(site, MANUAL, make.make_update())
        held = HeldUpdate("openssl", "3.0.17", "two of three canaries failed", NOW, "rollout-1")
        SqlHeldUpdates(site.records.database).add(held)
        page = site.get("/updates/openssl").text
        web, db = cells(row_of(page, WEB)), cells(row_of(page, DB))
        assert web["Next window"] == "Tue 24 Nov 2026 22:00 CET weekly"
        assert web["Why"].startswith("Failed: broke its service")
        assert f"/runs/{make.RUN_ID}" in row_of(page, WEB)
        assert db["Why"].endswith("an administrator holds it on the machine")
        assert db["Next window"] == "none will install it"
        assert "held by automatic patching: two of three canaries failed" in cells(row_of(page, MANAGED))["Why"]
        assert "people patch it" in cells(row_of(page, MANUAL))["Why"]
        assert "Automatic patching holds version 3.0.17" in page

    def test_a_window_whose_request_does_not_select_it_is_not_promised(self, site: Site) -> None:
        assess(site, WEB, make.make_other_update())
        row = cells(row_of(site.get("/updates/tzdata").text, WEB))
        assert row["Why"].startswith("weekly will not install it: classification Other is not selected")
        assert row["Next window"] == "none will install it"

    def test_its_cves_advisories_and_where_runs_installed_it(self, site: Site) -> None:
        site.records.save(make.make_run())
        site.records.save(make.make_outcome(machine=DB))
        assess(site, WEB, make.make_update(advisories=("DSA-5990-1",)))
        page = site.get("/updates/openssl").text
        assert '<a href="/cves/CVE-2024-13176">' in page
        assert "DSA-5990-1" in page
        assert f"/runs/{make.RUN_ID}" in row_of(page, DB)

    def test_one_that_nobody_knows(self, site: Site) -> None:
        answer = site.get("/updates/nothing")
        assert answer.status_code == 404
        assert "No machine lacks an update of this name" in answer.text

    @pytest.mark.parametrize("name", [HOSTILE, "a/b", "a?b#c", "ä ö%2F", "x" * 400])
    def test_names_are_only_text(self, site: Site, name: str) -> None:
        assess(site, WEB, make.make_update(name=name, title=HOSTILE, blocked=HOSTILE, available=HOSTILE))
        listed = site.get("/updates").text
        (path,) = re.findall(r'<th scope="row"><a href="(/updates/[^"]+)"', listed)
        page = site.get(path.replace("&amp;", "&"))
        assert page.status_code == 200
        assert WEB in page.text
        for text in (listed, page.text):
            assert "<script>alert" not in text
            assert "\x1b" not in text


class TestOneCve:
    def test_who_lacks_a_fix_by_which_update_and_in_which_window(self, site: Site) -> None:
        assess(site, WEB, make.make_update(), days=3)
        assess(site, DB)
        page = site.get("/cves/CVE-2024-13176")
        assert page.status_code == 200
        row = cells(row_of(page.text, WEB))
        assert row["Update"] == "openssl"
        assert row["Missing since"] == "2026-11-20"
        assert row["Next window"] == "Tue 24 Nov 2026 22:00 CET weekly"
        assert f">{DB}</a>" not in page.text

    def test_another_version_of_the_update_is_not_a_fix(self, site: Site) -> None:
        assess(site, WEB, make.make_update(), days=3)
        assess(site, WEB, make.make_update(available="4", cves=()))
        page = site.get("/cves/CVE-2024-13176").text
        assert "No machine of the inventory lacks one of these updates" in page

    def test_an_unknown_one_proves_nothing(self, site: Site) -> None:
        assess(site, WEB, make.make_update())
        assess(site, MANUAL, make.make_other_update(), os_id="windows")
        answer = site.get("/cves/CVE-1999-0001")
        assert answer.status_code == 404
        assert "No recorded update names CVE-1999-0001" in answer.text
        assert "does not prove" in answer.text
        assert "from machines with debian." in answer.text

    def test_the_number_is_written_in_one_way(self, site: Site) -> None:
        answer = site.get("/cves/cve-2024-13176")
        assert (answer.status_code, answer.headers["location"]) == (303, "/cves/CVE-2024-13176")


def _failed_run() -> RunReport:
    result = make.make_update_result(state=UpdateState.FAILED, reason="broke its service", version_after=None)
    outcome: Outcome = make.make_outcome(machine=WEB, updates=(result,))
    return RunReport(make.make_run(), (outcome,))


def test_classifications_are_those_of_the_filter(site: Site) -> None:
    page = site.get("/updates").text
    assert all(f"<option>{each.value}</option>" in page for each in Classification)


def test_the_figures_of_a_cve_count_machines_and_not_their_updates(site: Site) -> None:
    fixes = [
        make.make_update(id=name, name=name, classification=Classification.SECURITY, cves=("CVE-2026-1",))
        for name in ("libssl3", "openssl")
    ]
    assess(site, WEB, *fixes)
    assess(site, DB, fixes[0])
    assess(site, MANUAL, *fixes)  # no window installs anything there
    later(site)

    page = site.get("/cves/CVE-2026-1").text
    tiles = dict(re.findall(r"<h3>([^<]+)</h3>\s*<span class=\"value[^>]*>([^<]+)</span>", page))
    assert (tiles["Machines that lack a fix"], tiles["In a coming window"]) == ("3", "2")
    assert "of 3" in page


@pytest.mark.parametrize(
    ("machine", "classification", "why"),
    [
        (WEB, Classification.SECURITY, "waits for its window, weekly"),
        (
            WEB,
            Classification.OTHER,
            "weekly will not install it: classification Other is not selected (selected: Critical, Security)",
        ),
        (MANUAL, Classification.SECURITY, "people patch it, not fleetpatch"),
        (MANAGED, Classification.SECURITY, "automatic patching is not on"),
        ("alone-1", Classification.SECURITY, "no configuration with a window selects this machine"),
    ],
)
def test_the_page_of_a_machine_says_what_comes_next_of_an_update(
    tmp_path: Path, machine: str, classification: Classification, why: str
) -> None:
    write_fleet(tmp_path)
    fleet = yaml.safe_load((tmp_path / "fleet.yaml").read_text())
    fleet["machines"].append({"name": "alone-1", "address": "192.0.2.9", "environment": "dev"})
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
        assess(served, machine, make.make_update(id="curl", name="curl", classification=classification))
        later(served)
        row = row_of(served.get(f"/machines/{machine}").text, "curl")

    assert cells(row)["Why"] == why


def test_who_lacks_an_update_comes_before_its_details_and_the_newest_installation_is_on_top(site: Site) -> None:
    assess(site, WEB, make.make_update(name="openssl"))
    for run_id, days in (("new-run", 1), ("old-run", 5)):  # saved in the wrong order
        started = NOW - timedelta(days=days)
        run = make.make_run(id=run_id, started_at=started, ended_at=started)
        result = make.make_update_result(update=make.make_update(name="openssl"), state=UpdateState.INSTALLED)
        outcome = make.make_outcome(run_id=run_id, machine=DB, updates=(result,))
        site.records.save(make.make_report(run=run, outcomes=(outcome,), assessments=(), plans=()))
    text = site.get("/updates/openssl").text
    order = [text.index(mark) for mark in ('id="lacking"', 'id="version-1"', 'id="installed"', "new-run", "old-run")]
    assert order == sorted(order)
    assert list(cells(row_of(text, WEB)))[:2] == ["Missing since", "Next window"]
