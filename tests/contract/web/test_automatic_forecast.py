"""What pages and the API say of machines that automatic patching patches, or does not."""

from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest

from fleetpatch.access.roles import Role
from tasks.domain.states import Classification
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.rules.automatic.model import Phase, Rollout
from tests.contract.web.test_updates import MANAGED, NOW, assess, cells, row_of, write_fleet
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_people import admit_people, person
from tests.support.web_site import serve_site

OFF, ELSEWHERE = "automatic patching is not on", "automatic patching does not select this machine"


@pytest.mark.parametrize(
    ("automatic", "classification", "why", "mode"),
    [
        (None, Classification.SECURITY, OFF, "when a person starts a run"),
        ({"enabled": False}, Classification.SECURITY, OFF, "when a person starts a run"),
        ({"scope": "env=prod"}, Classification.SECURITY, ELSEWHERE, "when a person starts a run"),
        (
            {},
            Classification.OTHER,
            "automatic patching will not install it: classification Other is not selected "
            "(selected: Critical, Security, Security-ESM)",
            "automatically",
        ),
        (
            {"exclude": ["cur*"]},
            Classification.SECURITY,
            'automatic patching will not install it: excluded by mask "cur*"',
            "automatically",
        ),
        ({}, Classification.SECURITY, "waits for its night", "automatically"),
    ],
)
def test_all_pages_and_the_api_say_alike_what_automatic_patching_does_with_an_update(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    automatic: dict[str, object] | None,
    classification: Classification,
    why: str,
    mode: str,
) -> None:
    admit_people(monkeypatch)
    write_fleet(tmp_path, automatic)
    is_coming = why == "waits for its night"
    with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
        assess(served, MANAGED, make.make_update(id="curl", name="curl", classification=classification))
        page = unescape(served.get(f"/machines/{MANAGED}").text)
        row = cells(row_of(unescape(served.get("/updates/curl").text), MANAGED))
        listed = cells(row_of(served.get("/machines").text, MANAGED))
        told = served.get(f"/api/v1/machines/{MANAGED}", headers=person("vera", Role.VIEW)).json()

    phase = "automatic patching, in its next rollout"
    expected = f"{why}, {phase}" if is_coming else why
    assert cells(row_of(page, "curl"))["Why"] == expected
    assert told["patches"][0]["reason"] == expected
    assert row["Why"].endswith(why)
    assert row["Next window"] == (phase if is_coming else "none will install it")
    assert listed["Patch mode"] == told["patchMode"] == mode
    assert f"It is patched <b>{mode}</b>" in page
    assert ("Automatic patching takes care of it" in page) == (mode == "automatically")


def test_a_machine_that_is_paused_is_promised_nothing(tmp_path: Path) -> None:
    write_fleet(tmp_path, {})
    with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
        SqlOptOuts(served.records.database).add(OptOut("*", "ada", "audit", NOW, NOW + timedelta(days=1)))
        assess(served, MANAGED, make.make_update())
        page = unescape(served.get(f"/machines/{MANAGED}").text)
        row = cells(row_of(served.get("/updates/openssl").text, MANAGED))

    paused = "paused by ada, until 2026-11-24 12:00 UTC: audit"
    assert cells(row_of(page, "openssl"))["Why"] == f"automatic patching is {paused}"
    assert f"Automatic patching of it is {paused}." in page
    assert row["Next window"] == "none will install it"


def test_the_phase_of_a_rollout_is_said_of_its_own_updates_only(tmp_path: Path) -> None:
    write_fleet(tmp_path, {})
    phases = (Phase(1, ("",), NOW - timedelta(hours=1)), Phase(2, ("fra",)))
    with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
        rollout = Rollout("r-1", NOW - timedelta(hours=2), frozenset({("openssl", "3.0.16-1~deb12u1")}), phases)
        SqlRollouts(served.records.database).save(rollout)
        newer = make.make_update(id="curl", name="curl", classification=Classification.SECURITY)
        assess(served, MANAGED, make.make_update(), newer)
        said = {
            name: cells(row_of(served.get(f"/updates/{name}").text, MANAGED))["Next window"]
            for name in ("openssl", "curl")
        }

    assert said == {
        "openssl": "automatic patching, phase 1 of 2",
        "curl": "automatic patching, in its next rollout",
    }
