"""The compliance document as a flow: of the last month, written, and sent or said to be unsent."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from flows.compliance.flow import report_compliance
from tasks.domain.errors import ReportError, RequestError
from tasks.records.setup import open_records
from tasks.rules.compliance.model import Month
from tests.support import builders as make

pytestmark = pytest.mark.usefixtures("prefect_server")
FLEET = "machines:\n  - {name: web-1, address: 192.0.2.1}\n"


def test_the_last_month_is_written(url: str, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    last = Month.of(datetime.now(UTC)).previous
    with open_records(url) as records:
        records.save(make.make_assessment(at=last.start + timedelta(days=3)))

    written = report_compliance(inventory=tmp_path / "fleet.yaml", directory=tmp_path / "out", policy_days=14)

    folder = tmp_path / "out" / f"compliance-{last}"
    assert {Path(each).parent for each in written} == {folder}
    sla = pd.read_parquet(folder / "sla.parquet")
    assert sla["days"].tolist() == [14, 14]
    assert sla["known"].tolist() == [0, 2]


def test_wrong_words_and_unsent_documents_fail_the_flow_run(url: str, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with pytest.raises(RequestError):
        report_compliance(month="2026-13", inventory=tmp_path / "fleet.yaml")
    with open_records(url) as records:
        records.save(make.make_assessment())
    with pytest.raises(ReportError, match="env:NOT_THERE"):
        report_compliance(inventory=tmp_path / "fleet.yaml", directory=tmp_path / "out", send=["env:NOT_THERE"])
    assert list((tmp_path / "out").iterdir())
