"""The compliance document of a month: from records to files that all say the same, on paper and in a message."""

import base64
import io
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import delete

from flows.compliance.document import (
    build_compliance_message,
    find_sla_days,
    make_compliance_document,
    parse_sla_days,
    send_compliance_document,
)
from flows.notify.notifier import send_with_apprise
from inventory.credentials import Credential, CredentialKind, Secret
from inventory.loader import load_inventory
from tasks.domain.errors import RequestError
from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.maintenance import GroupRecord, SqlMaintenance
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.reports.compliance.files import (
    TABLE_TYPES,
    build_file_name,
    render_compliance_files,
    render_compliance_html,
    write_compliance_files,
)
from tasks.reports.compliance.sections import build_sections, build_tiles
from tasks.rules.compliance.model import ComplianceDocument, Month, SlaDays
from tasks.rules.maintenance.model import GroupState, HeldPackage
from tests.contract.records_subjects import BOTH, opened
from tests.support.browser import CHROMIUM
from tests.support.builders import (
    make_outcome,
    make_plan,
    make_report,
    make_run,
    make_update_result,
    make_window,
)
from tests.support.compliance_month import FLEET, HOSTILE, NOW, SSL, at, fill

MONTH = Month(2026, 11)
SLA: tuple[SlaDays, str] = ({"critical": 7.0, "security": 30.0}, "the default")


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with opened(request.param, tmp_path) as found:
        fill(found)
        with found.database.begin_write("forget a first sight, as the records' retention may") as connection:
            connection.execute(delete(schema.update_sightings).where(schema.update_sightings.c.name == "old"))
        yield found


@pytest.fixture
def document(records: SqlRecords, tmp_path: Path) -> ComplianceDocument:
    return _make(records, tmp_path)


def _make(records: SqlRecords, place: Path, scope: str = "*") -> ComplianceDocument:
    return make_compliance_document(records, load_inventory(place / "fleet.yaml"), scope, MONTH, SLA, NOW)


def test_a_window_whose_run_came_to_no_machine_is_in_the_document(records: SqlRecords, tmp_path: Path) -> None:
    before = {each.run for each in _make(records, tmp_path).runs}
    start, end = at(3), at(3) + timedelta(hours=2)
    for run_id, ended_at, planned in (
        ("failed-early", end, ()),
        ("killed", None, ("web-1",)),
        ("elsewhere", end, ("not-in-scope",)),
    ):
        state = OperationState.FAILED if ended_at else OperationState.IN_PROGRESS
        run = make_run(
            id=run_id, started_at=start, ended_at=ended_at, state=state, window=make_window(start=start, end=end)
        )
        plans = tuple(make_plan(machine=name) for name in planned)
        records.save(make_report(run=run, outcomes=(), assessments=(), plans=plans))
    SqlWindowClaims(records.database).claim_window("nightly", start, "killed", "flow-run", start)
    document = _make(records, tmp_path)
    added = {each.run: (each.window, each.state, each.machines) for each in document.runs if each.run not in before}
    assert added == {"failed-early": ("unscheduled", "Failed", 0), "killed": ("unfinished", "InProgress", 0)}
    (section,) = [each for each in build_sections(document) if each.file == "runs"]
    assert "Windows of schedules: 1 kept, 1 exceeded, 1 missed, 0 frozen, 0 cancelled, 1 unfinished." in section.text
    assert "Runs outside of schedules: 1." in section.text


def test_the_upgrade_of_a_component_is_told_among_the_runs(records: SqlRecords, tmp_path: Path) -> None:
    run = make_run(id="upgrade", started_at=at(3), ended_at=at(4), request={"component": "exporter"}, message="")
    records.save(make_report(run=run, outcomes=(), assessments=(), plans=()))
    (figure,) = [each for each in _make(records, tmp_path).runs if each.run == "upgrade"]
    assert figure.reason == "upgrade of exporter"


def test_what_is_not_known_is_not_shown_as_zero(records: SqlRecords, tmp_path: Path) -> None:
    nothing = make_compliance_document(records, load_inventory(tmp_path / "fleet.yaml"), "*", Month(2026, 8), SLA, NOW)
    assert {(each.value, each.level) for each in build_tiles(nothing)[:-1]} == {("not known", "")}
    sections = {each.file: each for each in build_sections(nothing)}
    assert {row[-1] for row in sections["weeks"].rows} == {"not known"}
    assert {cell for row in sections["sla"].rows for cell in row[2:]} == {"\N{EN DASH}", "not known"}
    assert sections["fixes"].empty == "Not known."
    run = make_run(id="killed", started_at=at(3), ended_at=None, state=OperationState.IN_PROGRESS)
    records.save(make_report(run=run, outcomes=(), assessments=(), plans=()))
    runs = next(each for each in build_sections(_make(records, tmp_path)) if each.file == "runs")
    assert [row[5:9] for row in runs.rows if row[2] == "killed"] == [("\N{EN DASH}",) * 4]


def test_fixes_are_judged_by_their_days(document: ComplianceDocument) -> None:
    critical, security = document.sla
    assert (critical.known, critical.in_time, critical.late, critical.overdue) == (1, 0, 1, 0)
    assert critical.median_days == pytest.approx(10, abs=0.1)
    assert (security.known, security.in_time, security.late, security.overdue) == (2, 1, 0, 1)
    assert security.fixes == 1
    assert security.share == 0.5


def test_what_is_missing_at_the_end_is_listed(document: ComplianceDocument) -> None:
    held, ssl = document.open_fixes
    assert (held.machine, held.name, held.known_at_least, held.withheld) == (
        "web-2",
        "old",
        True,
        "held on the machine",
    )
    assert (ssl.machine, ssl.name, ssl.known_at, ssl.ended_at) == ("web-2", "openssl", at(2), None)


def test_an_installation_that_later_assessments_contradict_does_not_count(records: SqlRecords, tmp_path: Path) -> None:
    start = at(15)
    records.save(make_run(id="run-3", started_at=start, ended_at=start))
    result = make_update_result(update=SSL)
    outcome = make_outcome(run_id="run-3", machine="web-2", updates=(result,), install=None)
    records.save(replace(outcome, started_at=start, ended_at=start))
    assert [each.name for each in _make(records, tmp_path).open_fixes] == ["old", "openssl"]


def test_machines_have_their_state_at_the_end(document: ComplianceDocument) -> None:
    states = {each.machine: each.compliance for each in document.machines}
    assert states == {
        "web-1": "Compliant",
        "web-2": "NonCompliant",
        "db-1": "Compliant",
        "new-1": "NotAssessed",
        "gone-1": "Compliant",
    }
    assert [each.machine for each in document.machines if not each.in_inventory] == ["gone-1"]
    assert document.weeks[-1].share == 0.6


def test_runs_windows_and_exceptions_are_listed(document: ComplianceDocument) -> None:
    assert [(each.run, each.window, each.failed, each.reboots) for each in document.runs] == [
        ("run-1", "kept", 1, 1),
        ("", "missed", 0, 0),
        ("run-2", "exceeded", 1, 1),
    ]
    assert {(each.what, each.subject) for each in document.exceptions} == {("held", "old"), ("paused", "env=test")}


def test_a_scope_limits_everything(records: SqlRecords, tmp_path: Path) -> None:
    test = _make(records, tmp_path, "env=test")
    assert [each.machine for each in test.machines] == ["db-1", "new-1"]
    assert [each.known for each in test.sla] == [0, 0]
    assert test.open_fixes == ()
    assert [each.machines for each in test.runs] == [1, 0, 1]
    assert sum(each.assessed for each in test.days) == 2


def test_what_is_not_known_is_said(document: ComplianceDocument) -> None:
    text = " ".join(document.gaps)
    assert "Days without an assessment: 22" in text
    assert "not in the present inventory" in text
    assert "it is not known when: 1" in text


def test_all_formats_have_the_same_rows(document: ComplianceDocument) -> None:
    files = render_compliance_files(document)
    assert len(files) == 1 + 2 * len(TABLE_TYPES)
    for name, row_type in TABLE_TYPES.items():
        rows = getattr(document, name)
        parquet = pd.read_parquet(io.BytesIO(files[f"{name}.parquet"]))
        csv = pd.read_csv(io.BytesIO(files[f"{name}.csv"]), keep_default_na=False)
        assert list(parquet.columns) == list(csv.columns) == [field.name for field in fields(row_type)]
        assert len(parquet) == len(csv) == len(rows)
        for number, row in enumerate(rows):
            for field in fields(row):
                value = getattr(row, field.name)
                if isinstance(value, (int, float)):
                    assert parquet.loc[number, field.name] == value
                    assert float(str(csv.loc[number, field.name]).replace("True", "1").replace("False", "0")) == value


def test_the_page_shows_these_figures(document: ComplianceDocument) -> None:
    html = render_compliance_html(document)
    for tile in build_tiles(document):
        assert f"{tile.value}</span>" in html
    for section in build_sections(document):
        body = re.search(rf'<section id="{section.file}">.*?</section>', html, re.DOTALL)
        assert body is not None
        assert len(re.findall("<tr>", body[0])) == (len(section.rows) + 1 if section.rows else 0)
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html


def test_long_tables_say_what_they_leave_out(document: ComplianceDocument) -> None:
    sections = {each.file: each for each in build_sections(document, limit=1)}
    assert (len(sections["days"].rows), sections["days"].left_out) == (1, 29)


def test_files_are_replaced_whole(document: ComplianceDocument, tmp_path: Path) -> None:
    first = write_compliance_files(document, tmp_path / "out")
    again = write_compliance_files(document, tmp_path / "out")
    assert first == again
    assert sorted(path.name for path in (tmp_path / "out/compliance-2026-11").iterdir()) == sorted(first)


def test_names_of_files_are_safe_and_differ(records: SqlRecords, tmp_path: Path) -> None:
    one, other = (_make(records, tmp_path, scope) for scope in ("env=prod", "env = prod"))
    assert re.fullmatch(r"compliance-2026-11-env-prod-[0-9a-f]{6}", build_file_name(one))
    assert build_file_name(one) != build_file_name(other)


def test_it_prints_on_a4(document: ComplianceDocument, tmp_path: Path) -> None:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: deployments/bootstrap/packages.sh browser installs it")
    page = next(path for path in write_compliance_files(document, tmp_path, ["html"]).values())
    pdf = tmp_path / "out.pdf"
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    printing = [str(CHROMIUM), *words, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri()]
    subprocess.run(printing, check=True, capture_output=True, timeout=120)
    body = pdf.read_bytes()
    assert body.startswith(b"%PDF-")
    sizes = {tuple(map(float, size.split())) for size in re.findall(rb"/MediaBox \[([^\]]*)\]", body)}
    assert sizes
    assert all(abs(width - 595) < 2 and abs(height - 842) < 2 for _, _, width, height in sizes)


def test_the_message_has_the_figures_and_the_document(document: ComplianceDocument, tmp_path: Path) -> None:
    html = tmp_path / "compliance.html"
    message = build_compliance_message(document, html, "https://fleet.example.org/compliance?month=2026-11")
    assert "Security fixes in time: 50.0 %" in message.body
    assert "More: https://fleet.example.org/compliance?month=2026-11" in message.body
    assert message.attachments == (html,)


def test_it_is_sent_with_its_file(
    document: ComplianceDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = next(path for path in write_compliance_files(document, tmp_path, ["html"]).values())
    sent: list[tuple[object, ...]] = []

    class Service:
        def __init__(self, asset: object) -> None:
            pass

        def add(self, url: str) -> bool:
            return url.startswith("mailto")

        def notify(self, body: str, title: str, **options: object) -> bool:
            sent.append((title, options["attach"]))
            return True

    monkeypatch.setattr("apprise.Apprise", Service)
    read = {"env:MAIL": "mailto://example.org", "env:WRONG": "no-url"}
    unsent = send_compliance_document(
        document,
        html,
        ["env:MAIL", "env:WRONG"],
        "",
        lambda reference: Credential(CredentialKind.PASSWORD, secret=Secret(read[reference])),
        lambda _text: None,
    )
    assert sent == [("fleetpatch: compliance 2026-11: all machines", [str(html)])]
    assert len(unsent) == 1
    assert "env:WRONG" in unsent[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Apprise imports imghdr
def test_a_real_service_gets_the_attachment(document: ComplianceDocument, tmp_path: Path) -> None:
    html = next(path for path in write_compliance_files(document, tmp_path, ["html"]).values())
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        message = build_compliance_message(document, html, "")
        assert send_with_apprise(f"json://127.0.0.1:{server.server_port}/", message)
        server.shutdown()
    (attachment,) = received[0]["attachments"]
    assert attachment["filename"] == html.name
    assert base64.b64decode(attachment["base64"]) == html.read_bytes()


def test_days_are_read_and_refused() -> None:
    assert parse_sla_days("critical=2") == ({"critical": 2.0, "security": 30.0}, "as asked for")
    assert find_sla_days("", 14.0) == ({"critical": 14.0, "security": 14.0}, "the policy of automatic patching")
    assert find_sla_days("", None)[1] == "the default"
    for wrong in ("critical", "critical=x", "low=3", "critical=0", "critical=nan", "security=-1", "security=1e9"):
        with pytest.raises(RequestError):
            parse_sla_days(wrong)


def test_a_month_that_has_not_begun_is_refused(records: SqlRecords) -> None:
    with pytest.raises(RequestError):
        make_compliance_document(records, None, "*", Month(2027, 1), SLA, NOW)
    with pytest.raises(RequestError):
        make_compliance_document(records, None, "env=prod", MONTH, SLA, NOW)


def test_what_maintenance_control_held_in_the_month_is_an_exception(records: SqlRecords, tmp_path: Path) -> None:
    state = GroupState("web", 2, HeldPackage(2, at(3)), at(4))
    SqlMaintenance(records.database).save_look(GroupRecord(state, "web", 10 * 86_400.0, ("web-1", "other"), 0))
    gone = GroupState("elsewhere", 1, HeldPackage(1, at(3)), at(4))
    SqlMaintenance(records.database).save_look(GroupRecord(gone, "elsewhere", 10 * 86_400.0, ("other",), 0))
    held = [each for each in _make(records, tmp_path).exceptions if each.what == "maintenance"]
    assert [(each.subject, each.machines, each.since, each.until) for each in held] == [
        ("web, package 2", 1, at(3), at(13))
    ]
