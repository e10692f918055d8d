"""The report of a large run: written by a process of its own, from the records."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.report_process import write_report_apart
from tasks.domain.errors import ReportError
from tasks.domain.model import RunReport
from tasks.records.setup import open_records
from tasks.reports.writer import FORMATS, write_report
from tests.unit.reporting import samples


def save(report: RunReport, folder: Path) -> str:
    url = f"sqlite:///{folder / 'records.db'}"
    with open_records(url) as records:
        records.save(report)
    return url


def test_a_report_that_was_saved_is_written_alike_by_another_process(tmp_path: Path) -> None:
    saved = samples.forty()[0]
    report = replace(saved, run=replace(saved.run, message="what Prefect did not receive"))  # is saved later

    apart = write_report_apart(report, tmp_path / "apart", FORMATS, report.run.started_at, save(saved, tmp_path))

    here = write_report(report, tmp_path / "here")
    assert apart.keys() == here.keys()
    for key, path in here.items():
        if key != "directory":
            assert apart[key].read_bytes() == path.read_bytes(), key
    assert "what Prefect did not receive" in apart["html"].read_text(encoding="utf-8")


def test_a_report_of_which_the_records_lack_a_part_is_not_written_apart(tmp_path: Path) -> None:
    report = samples.forty()[0]
    url = save(replace(report, outcomes=report.outcomes[1:]), tmp_path)
    with pytest.raises(ReportError, match="the records lack 1 of 40 outcomes"):
        write_report_apart(report, tmp_path / "apart", FORMATS, report.run.started_at, url)
    assert not (tmp_path / "apart").exists()


def test_a_process_that_can_not_read_the_records_says_why(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"the report was not written: .*there is no run"):
        write_report_apart(
            samples.forty()[0], tmp_path, FORMATS, datetime.now(UTC), f"sqlite:///{tmp_path / 'other.db'}"
        )
