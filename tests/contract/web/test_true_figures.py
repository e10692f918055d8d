"""Figures that pages show are true, and the same on each page."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.domain.model import Outcome, Update
from tasks.domain.states import OperationState, UpdateState
from tasks.records.automatic.sightings import save_missing_fixes
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WEB, DB, MANUAL = "web-1", "db-1", "hand-1"
MACHINES: list[dict[str, Any]] = [
    {"name": WEB, "address": "192.0.2.1", "environment": "prod"},
    {"name": DB, "address": "192.0.2.2", "environment": "test"},
    {"name": MANUAL, "address": "192.0.2.3", "environment": "prod", "owner": "manual"},
]
WINDOW = {"start": "2026-11-24 00:30", "length": "2h", "zone": "Europe/Berlin", "recurrence": "Week Tuesday"}
FIRST = {
    "name": "first",
    "scope": "env=prod|test",
    "window": WINDOW,
    "updates": {"classifications": ["Critical", "Security"]},
}


def write_fleet(place: Path, *configurations: dict[str, Any]) -> None:
    (place / "fleet.yaml").write_text(yaml.safe_dump({"machines": MACHINES}))
    (place / "configurations").mkdir(exist_ok=True)
    (place / "configurations" / "all.yaml").write_text(yaml.safe_dump({"configurations": list(configurations)}))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    write_fleet(tmp_path, FIRST)
    with serve_site(tmp_path, clock=FakeClock(NOW), zone="Europe/Berlin") as served:
        yield served


def assess(site: Site, machine: str, *updates: Update, at: datetime = NOW - DAY, **facts: Any) -> None:
    packages = make.make_package_state(updates=updates)
    made = make.make_assessment(machine=machine, at=at, run_id=f"a-{at:%d%H%M%S}", packages=packages)
    site.records.save(replace(made, facts=make.make_facts(**facts)))


def read_tiles(page: str) -> dict[str, tuple[str, str]]:
    """Return value and note of each tile, by its title."""
    found = re.findall(r'<div class="tile[^"]*">(.*?)</div>', page, re.DOTALL)
    tiles = {}
    for each in found:
        title, value, note = (
            re.search(pattern, each, re.DOTALL)
            for pattern in ("<h3>(.*?)</h3>", 'class="value[^>]*>(.*?)</', 'class="note">(.*?)</')
        )
        assert title is not None
        assert value is not None
        tiles[title[1]] = (value[1], note[1] if note is not None else "")
    return tiles


def read_row(page: str, name: str) -> dict[str, str]:
    """Return the cells of a row by their label."""
    (row,) = [each for each in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if f">{name}</a>" in each]
    cells = re.findall(r'<td data-label="([^"]+)"[^>]*>(.*?)</td>', row, re.DOTALL)
    return {label: " ".join(re.sub(r"<[^>]+>", " ", value).split()) for label, value in cells}


def test_an_update_for_two_architectures_is_missing_on_one_machine(site: Site) -> None:
    assess(site, WEB, *(make.make_update(id=f"libc6:{arch}", name="libc6", arch=arch) for arch in ("amd64", "i386")))
    assert read_row(site.get("/updates").text, "libc6")["Machines"] == "1"
    tiles = read_tiles(site.get("/updates/libc6").text)
    assert tiles["Machines that lack it"][0] == "1"
    assert tiles["In a coming window"] == ("1", "of 1")


def test_a_window_that_does_not_select_an_update_does_not_hide_a_later_one_that_does(tmp_path: Path) -> None:
    window = {"start": "2026-11-28 22:00", "length": "2h", "zone": "UTC", "recurrence": "Once"}
    everything = {"name": "everything", "scope": "*", "window": window, "updates": {"classifications": ["Other"]}}
    write_fleet(tmp_path, FIRST, everything)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        assess(site, WEB, make.make_other_update())
        row = read_row(site.get("/updates/tzdata").text, WEB)
        assert row["Next window"] == "Sat 28 Nov 2026 22:00 UTC everything"
        assert "everything" in read_row(site.get(f"/machines/{WEB}").text, "tzdata")["Why"]
        assert read_tiles(site.get("/updates/tzdata").text)["In a coming window"] == ("1", "of 1")


def test_a_machine_that_no_window_may_patch_has_no_next_window(site: Site) -> None:
    assess(site, MANUAL, make.make_update())
    assert read_row(site.get("/machines").text, MANUAL)["Next window"] == "\N{EN DASH}"
    assert read_row(site.get("/machines").text, WEB)["Next window"] != "\N{EN DASH}"
    assert f">{MANUAL}</a>" in site.get("/machines?show=windowless").text
    tiles = read_tiles(site.get(f"/machines/{MANUAL}").text)
    assert tiles["Next window"][0] == "\N{EN DASH}"


def test_a_file_system_is_listed_once_and_the_day_of_a_window_is_that_of_its_zone(site: Site) -> None:
    assess(site, WEB, disks=tuple(make.make_disk(role=role) for role in ("system", "packages", "boot")))
    page = site.get(f"/machines/{WEB}").text
    assert page.count("<dt>/</dt>") == 1
    assert "Tue 24 Nov 2026 00:30 CET" in page
    assert read_tiles(page)["Next window"] == ("24 Nov", "first")


def test_a_window_that_is_open_is_the_next_one_on_each_page(tmp_path: Path) -> None:
    write_fleet(tmp_path, {**FIRST, "window": {**WINDOW, "start": "2026-11-23 12:30", "recurrence": "1Day"}})
    with serve_site(tmp_path, clock=FakeClock(NOW), zone="Europe/Berlin") as site:
        assess(site, WEB)
        assert read_row(site.get("/machines").text, WEB)["Next window"].startswith("23 Nov 12:30")
        assert "Mon 23 Nov 2026 12:30 CET" in site.get(f"/machines/{WEB}").text


def test_less_than_all_is_never_shown_as_all(tmp_path: Path) -> None:
    machines = [{"name": f"m-{number}", "address": f"10.0.{number // 250}.{number % 250}"} for number in range(2001)]
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"machines": machines}))
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        lacking = make.make_package_state(updates=(make.make_update(),))
        clean = make.make_package_state(updates=())
        made = [
            make.make_assessment(machine=f"m-{n}", at=at, run_id=f"{at:%d}", packages=clean if n else lacking)
            for n in range(2001)
            for at in (NOW - DAY, NOW)
        ]
        site.records.save(make.make_report(assessments=tuple(made), outcomes=(), plans=()))
        page = site.get("/").text
    assert "<b>99.9 %</b> of the assessed ones are compliant" in page
    assert "100.0 %" not in page


def test_the_reason_of_an_older_run_does_not_return_after_an_installation(site: Site) -> None:
    for days, version, state, reason in (
        (9, "1", UpdateState.FAILED, "old trouble"),
        (5, "1", UpdateState.INSTALLED, ""),
    ):
        at = NOW - days * DAY
        run_id = f"run-{days}"
        result = make.make_update_result(
            update=make.make_update(available=version), state=state, reason=reason, version_after=None
        )
        outcome: Outcome = make.make_outcome(machine=WEB, run_id=run_id, started_at=at, ended_at=at, updates=(result,))
        run = make.make_run(id=run_id, started_at=at, ended_at=at, state=OperationState.SUCCEEDED)
        site.records.save(make.make_report(run=run, outcomes=(outcome,), assessments=(), plans=()))
    assess(site, WEB, make.make_update(available="2"))
    assert "old trouble" not in site.get("/updates/openssl").text
    assert "old trouble" not in site.get(f"/machines/{WEB}").text


def test_the_oldest_missing_fix_is_one_that_a_machine_of_the_inventory_lacks(site: Site) -> None:
    def read_age() -> str:
        found = re.search(r"^fleetpatch_oldest_missing_fix_age_seconds (.*)$", site.get("/metrics").text, re.MULTILINE)
        return found[1] if found is not None else ""

    assess(site, "gone-1", make.make_update())
    assess(site, WEB)
    missing = {("gone-1", "openssl"): NOW - 400 * DAY, (WEB, "openssl"): NOW - 300 * DAY}
    save_missing_fixes(site.records.database, missing)
    assert read_age() == ""
    assess(site, DB, make.make_update(), at=NOW - 3 * DAY)
    save_missing_fixes(site.records.database, {(DB, "openssl"): NOW - 2 * DAY})
    deadline = time.monotonic() + 10
    while not read_age() and time.monotonic() < deadline:  # a costly figure is not computed for each request
        time.sleep(0.1)
    assert float(read_age()) == 2 * 86400


def test_metrics_count_answers_as_pages_do(site: Site) -> None:
    assess(site, WEB, at=NOW - 8 * DAY)
    assess(site, DB, make.make_update(), at=NOW - 7 * DAY)
    text = site.get("/metrics?machines=1").text
    assert 'fleetpatch_machines{compliance="NotAssessed",environment="prod",os="linux"} 2.0' in text
    assert 'fleetpatch_machines{compliance="NonCompliant",environment="test",os="linux"} 1.0' in text
    assert 'Compliant",environment="prod' not in text.replace("NotAssessed", "")
    assert f'fleetpatch_machine_compliant{{environment="test",machine="{DB}"}} 0.0' in text
    assert f'machine_compliant{{environment="prod",machine="{WEB}"' not in text
    assert f'last_answer_timestamp_seconds{{environment="prod",machine="{WEB}"' in text


def test_each_system_counts_what_its_link_shows(site: Site) -> None:
    assess(site, WEB, os_id="debian", os_version="")
    assess(site, DB, os_id="debian", os_version="13")
    options = re.findall(r'<option value="(debian[^"]*)"[^>]*>[^<]*\((\d+)\)', site.get("/machines").text)
    assert len(options) == 2
    for value, number in options:
        page = site.get("/machines", params={"os": value}).text
        assert page.count('<th scope="row">') == int(number), value


def test_pending_updates_say_on_how_many_machines(site: Site) -> None:
    assess(site, WEB, make.make_update(), make.make_update(id="curl", name="curl"))
    value, note = read_tiles(site.get("/").text)["Security pending"]
    assert (value, note) == ("1", "machine, with 2 updates")
    assert site.get("/machines?show=security").text.count('<th scope="row">') == 1


def test_what_the_request_of_a_window_would_not_select_is_promised_on_no_page(tmp_path: Path) -> None:
    write_fleet(
        tmp_path,
        {**FIRST, "updates": {"classifications": ["Security"], "exclude_requiring_reboot": True}},
    )
    updates = {
        "kernel": make.make_update(requires_reboot=True),
        "licensed": make.make_update(needs_licence=True),
        "preview": make.make_update(optional="a preview"),
        "failing": make.make_update(given_up="its last 3 tries failed"),
        "newer": make.make_update(replaces=("older",)),
        "older": make.make_update(),
    }
    named = [replace(each, id=name, name=name) for name, each in updates.items()]
    with serve_site(tmp_path, clock=FakeClock(NOW)) as site:
        for machine in (WEB, DB):
            assess(site, machine, *named)
        machine_page = site.get(f"/machines/{WEB}").text
        for name, reason in (
            ("kernel", "it needs a reboot, and the request excludes such updates"),
            ("licensed", "its licence terms are not accepted"),
            ("preview", "it is a preview, which only an include mask selects"),
            ("failing", "its last 3 tries failed"),
            ("older", "superseded by newer, which includes it"),
        ):
            why = f"first will not install it: {reason}"
            assert read_row(machine_page, name)["Why"].startswith(why), name
            on_update_page = read_row(site.get(f"/updates/{name}").text, DB)
            assert on_update_page["Why"].startswith(why), name
            assert on_update_page["Next window"] == "none will install it"
        assert read_row(machine_page, "newer")["Why"] == "waits for its window, first"
        for name in ("kernel", "licensed", "preview"):  # one machine's answer says it for all
            assert read_row(site.get(f"/updates/{name}").text, WEB)["Next window"] == "none will install it"
