"""The page of compliance: the document in the frame, its month and scope, and its files."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.support.compliance_month import FLEET, HOSTILE, NOW, fill
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as found:
        fill(found.records)
        yield found


def test_the_last_month_is_shown(site: Site) -> None:
    answer = site.get("/compliance")
    assert answer.status_code == 200
    assert "<h1>Compliance 2026-11</h1>" in answer.text
    assert "60.0 %" in answer.text
    assert 'href="/compliance?month=2026-10&amp;scope="' in answer.text
    assert len(answer.content) < 1_000_000


def test_a_new_fleet_begins_with_the_present_month(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with serve_site(tmp_path, clock=FakeClock(NOW)) as new:
        assert "<h1>Compliance 2026-12</h1>" in new.get("/compliance").text


def test_text_of_people_and_machines_is_escaped(site: Site) -> None:
    text = site.get("/compliance").text
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text


def test_month_and_scope_are_parameters(site: Site) -> None:
    text = site.get("/compliance", params={"month": "2026-11", "scope": "env=test"}).text
    assert "2 machines" in text
    assert 'value="env=test"' in text
    assert "scope=env%3Dtest&amp;form=csv" in text


@pytest.mark.parametrize(
    "words",
    [
        {"month": "2026-13"},
        {"month": "2027-01"},
        {"scope": "env=nowhere"},
        {"scope": "=="},
        {"scope": '"><script>alert(1)</script>'},
    ],
)
def test_what_is_wrong_is_said_in_the_form(site: Site, words: dict[str, str]) -> None:
    answer = site.get("/compliance", params=words)
    assert answer.status_code == 400
    assert 'class="problem"' in answer.text
    assert "<script>alert" not in answer.text


def test_too_long_words_are_refused(site: Site) -> None:
    assert site.get("/compliance", params={"month": "2026-111"}).status_code == 400
    assert site.get("/compliance", params={"scope": "x" * 3000}).status_code == 400


def test_the_document_is_a_download(site: Site) -> None:
    answer = site.get("/compliance/files", params={"month": "2026-11"})
    assert answer.headers["content-disposition"] == 'attachment; filename="compliance-2026-11.html"'
    assert answer.text.startswith("<!doctype html>")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_tables_are_a_download(site: Site, form: str) -> None:
    answer = site.get("/compliance/files", params={"month": "2026-11", "form": form})
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert len(archive.namelist()) == 7
    body = io.BytesIO(archive.read(f"sla.{form}"))
    frame = pd.read_csv(body) if form == "csv" else pd.read_parquet(body)
    assert frame["known"].tolist() == [1, 2]


@pytest.mark.parametrize("words", [{"form": "exe"}, {"month": "x"}, {"scope": "env=nowhere"}])
def test_wrong_downloads_are_refused(site: Site, words: dict[str, str]) -> None:
    assert site.get("/compliance/files", params=words).status_code in {400, 409}


def test_a_document_is_computed_once_in_some_minutes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import fleetpatch.pages.compliance as page

    made: list[str] = []
    make = page._make_document

    def count(context, month, scope, now):
        made.append(str(month))
        return make(context, month, scope, now)

    monkeypatch.setattr(page, "_make_document", count)
    for _ in range(3):
        site.get("/compliance?month=2026-11")
    assert made == ["2026-11"]


def test_what_can_not_be_read_is_said_because_the_policy_sets_the_days(site: Site, tmp_path: Path) -> None:
    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations/automatic.yaml").write_text("automatic: {due_days: 5, scop: env=prod}\n")
    with serve_site(tmp_path, clock=FakeClock(NOW)) as other:
        assert "automatic.scop: unknown key" in other.get("/compliance").text
