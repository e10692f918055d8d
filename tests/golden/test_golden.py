"""Outputs of sample fleets are those in tests/data/golden; `python -m tests.golden take --accept` accepts others."""

from pathlib import Path

import pytest

from tests.golden.outputs import Outputs
from tests.golden.worlds import month_world, sample_world, take_commands

pytestmark = pytest.mark.usefixtures("built_command")
LINES = (
    *("machines", "updates", "updates --by machine --urgent", "runs", "approvals", "audit list", "calendar"),
    *("automatic", "compliance", "hotpatch status", "show {failed}", "why web-07", "why web-15", "why web-11"),
)


def test_what_people_see_of_the_sample_fleet_is_golden(tmp_path: Path) -> None:
    with sample_world(tmp_path) as world:
        outputs = Outputs("sample", tmp_path)
        for line in LINES:
            outputs.add(line, world.run(*line.format(**world.runs).split()))
        outputs.finish()


def test_the_documents_and_json_of_a_month_are_golden(tmp_path: Path) -> None:
    with month_world(tmp_path) as world:
        outputs = Outputs("month", tmp_path)
        take_commands(world, outputs, ("machines", "updates", "compliance --all", "runs", "show run-1", "why web-2"))
        for table in ("machines", "updates", "runs", "update_results", "windows", "machine_days"):
            outputs.add(
                f"query.{table}.csv", world.run("query", f"SELECT * FROM {table} ORDER BY ALL LIMIT 10", "--csv")
            )
        outputs.add("compliance-report", world.run("compliance-report", "2026-11", "--to", str(tmp_path / "month")))
        for file in sorted((tmp_path / "month").rglob("*.*")):
            outputs.add_file(f"document.{file.name}", file.read_bytes())
        outputs.finish()
