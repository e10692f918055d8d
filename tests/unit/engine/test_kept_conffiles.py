"""A configuration file that was edited by hand and kept is a warning, and stands in every form of the report."""

import csv
import io
import json

from tasks.domain.states import FindingLevel, OperationState
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import render_json_lines
from tasks.reports.export.tabular_formats import build_frames
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of


def test_a_kept_configuration_file_is_told_everywhere(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a", conffile="/etc/lab.conf")])

    report = fleet.patch()

    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    (told,) = [finding for finding in outcome.findings if finding.check == "configuration-files"]
    assert told.level is FindingLevel.WARN
    assert "/etc/lab.conf (the update's version: /etc/lab.conf.dpkg-dist)" in told.message
    assert outcome.install is not None
    assert outcome.install.kept_configuration_files == ("/etc/lab.conf",)
    (machine,) = json.loads("".join(render_json_lines(build_tables(report))))["machines"]
    assert machine["keptConfigurationFiles"] == ["/etc/lab.conf"]
    (row,) = csv.DictReader(io.StringIO(build_frames(report).machines.to_csv(index=False)))
    assert row["kept_conffiles"] == "/etc/lab.conf"


def test_nothing_kept_is_no_word(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a")])
    report = fleet.patch()
    assert not [f for f in outcome_of(report, "web").findings if f.check == "configuration-files"]
    assert json.loads("".join(render_json_lines(build_tables(report))))["machines"][0]["keptConfigurationFiles"] == []
