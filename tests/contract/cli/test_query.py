"""Questions in SQL and the compliance document, as commands."""

import csv
import io
import json
import os
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest

from tasks.records.setup import open_records
from tests.support.command import run_command
from tests.support.compliance_month import FLEET, fill


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("query")
    (found / "fleet.yaml").write_text(FLEET)
    (found / "configurations").mkdir()
    text = "name: web\nscope: env=prod\nwindow: {start: 2030-01-01 22:00, length: 2h, zone: UTC}\n"
    (found / "configurations/web.yaml").write_text(text)
    with open_records(f"sqlite:///{found / 'records.db'}") as records:
        fill(records)
    return found


def run(folder: Path, *words: str) -> CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "COLUMNS": "200"}
    environment["FLEETPATCH_RECORDS_URL"] = f"sqlite:///{folder / 'records.db'}"
    return run_command(words, environment, folder)


SQL = "SELECT name, environment, compliance, tags FROM machines WHERE name LIKE 'web-%' ORDER BY name"


def test_a_table_for_people(folder: Path) -> None:
    done = run(folder, "query", SQL)
    assert done.returncode == 0, done.stderr
    assert "web-2  prod         NonCompliant" in done.stdout
    assert "2 rows" in done.stderr


def test_json_has_columns_and_rows(folder: Path) -> None:
    document = json.loads(run(folder, "query", SQL, "--json").stdout)
    assert document["columns"] == ["name", "environment", "compliance", "tags"]
    assert document["rows"][1] == {"name": "web-2", "environment": "prod", "compliance": "NonCompliant", "tags": {}}


def test_csv_has_no_formulas(folder: Path) -> None:
    sql = "SELECT '=1+1' AS a, 2 AS b, NULL AS c, TIMESTAMPTZ '2026-11-01 00:00:00Z' AS d"
    rows = list(csv.reader(io.StringIO(run(folder, "query", sql, "--csv").stdout)))
    assert rows == [["a", "b", "c", "d"], ["'=1+1", "2", "", "2026-11-01 00:00:00Z"]]


def test_parquet_has_types(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    assert run(folder, "query", "SELECT name, critical FROM machines", "--parquet", str(path)).returncode == 0
    assert str(pd.read_parquet(path)["critical"].dtype) == "float64"  # a machine without an answer has none
    assert run(folder, "query", "SELECT 1", "--parquet", str(tmp_path / "no/such/folder")).returncode != 0


def test_json_has_numbers_and_no_infinity(folder: Path) -> None:
    done = run(folder, "query", "SELECT sum(1) AS s, 1.5::DECIMAL(5, 2) AS d, 1 / 0 AS i, 2 AS s", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == [{"s": 1, "d": 1.5, "i": None, "s_1": 2}]


def test_an_interval_is_written_to_parquet(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    done = run(folder, "query", "SELECT INTERVAL 90 MINUTE AS took", "--parquet", str(path))
    assert done.returncode == 0, done.stderr
    assert pd.read_parquet(path)["took"].tolist() == ["01:30:00"]
    nested = run(folder, "query", "SELECT [INTERVAL 90 MINUTE] AS took", "--parquet", str(path))
    assert nested.returncode != 0
    assert "::VARCHAR" in nested.stderr


def test_assignments_come_from_configurations(folder: Path) -> None:
    done = run(folder, "query", "SELECT machine FROM assignments WHERE configuration = 'web' ORDER BY 1", "--json")
    assert [row["machine"] for row in json.loads(done.stdout)["rows"]] == ["web-1", "web-2"]


def test_days_limit_runs(folder: Path) -> None:
    assert json.loads(run(folder, "query", "FROM runs", "--json", "--days", "1").stdout)["rows"] == []
    assert len(json.loads(run(folder, "query", "FROM runs", "--json", "--days", "36000").stdout)["rows"]) == 2


@pytest.mark.parametrize("words", [("DROP VIEW machines",), ("FROM machins",), ("SELECT 1", "--json", "--csv")])
def test_what_is_wrong_ends_with_bad_input(folder: Path, words: tuple[str, ...]) -> None:
    done = run(folder, "query", *words)
    assert done.returncode == 2
    assert "hint:" in done.stderr or "exclude each other" in done.stderr


def test_text_of_machines_can_not_move_the_cursor(folder: Path) -> None:
    assert "\x1b" not in run(folder, "query", "SELECT chr(27) || '[2J' AS a").stdout


def test_the_compliance_document_is_written(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "compliance-report", "2026-11", "--to", str(tmp_path), "--scope", "env=prod", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [each["kind"] for each in document["sla"]] == ["critical", "security"]
    assert all(Path(path).exists() for path in document["files"].values())
    assert len(document["files"]) == 15


@pytest.mark.parametrize(
    "words",
    [("2026-13",), ("2999-01",), ("2026-11", "--scope", "env=none"), ("2026-11", "--sla-days", "x"), ("-f", "json")],
)
def test_wrong_words_for_it_are_refused(folder: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(folder, "compliance-report", *words, "--to", str(tmp_path))
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_document_that_was_not_sent_is_said(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "compliance-report", "2026-11", "--to", str(tmp_path), "--send", "env:NOT_THERE")
    assert done.returncode != 0
    assert "not sent to everybody" in done.stderr
    assert list(tmp_path.iterdir())


def test_other_days_than_those_of_the_policy_are_not_taken_because_its_file_has_a_fault(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "configurations.yaml").write_text("automatic: {due_days: 5, scop: env=prod}\n")
    words = ("compliance-report", "2026-11", "--records", f"sqlite:///{folder / 'records.db'}", "--to", "out")
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert "configurations.yaml:1: automatic.scop: unknown key 'scop'" in done.stderr
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, *words, "--sla-days", "critical=7").returncode == 0  # needs no policy
