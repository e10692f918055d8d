"""Metrics: their figures, their format, and a real Prometheus with every question of the dashboard and the alerts."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from deployments.preview import upcoming_windows
from fleetpatch.machines import fleet_reader
from tasks.domain.assessment import RebootNeed
from tasks.domain.states import OperationState, YesNoUnknown
from tasks.records.automatic.sightings import save_missing_fixes
from tasks.records.maintenance import GroupRecord, PackageUpdate, SqlMaintenance
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.maintenance.model import GroupState, HeldPackage
from tests.ci import tree
from tests.support.builders import (
    make_assessment,
    make_failed_assessment,
    make_other_update,
    make_package_state,
    make_run,
)
from tests.support.prometheus import needs_prometheus, run_prometheus
from tests.support.web_login import add_token
from tests.support.web_site import Site, serve_site

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

NOW = datetime.now(UTC).replace(microsecond=0)
MISSING_SINCE = NOW - timedelta(days=20)
GRAFANA = tree.TOP / "deployments/grafana"
FLEET = """
machines:
  - {name: web-1, address: 192.0.2.1, environment: prod}
  - {name: web-2, address: 192.0.2.2, environment: prod}
  - {name: 'db-1', address: 192.0.2.3, environment: 'te"st\\'}
  - {name: new-1, address: 192.0.2.4, environment: prod}
"""
CONFIGURATION = "name: web\nscope: env=prod\nwindow: {start: 2030-01-01 22:00, length: 2h, zone: UTC}\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations/web.yaml").write_text(CONFIGURATION)
    with serve_site(tmp_path) as found:
        found.context.certificate_ends_at = NOW + timedelta(days=90)  # as if it served TLS
        records = found.records
        records.save(make_assessment(machine="web-1", at=NOW))
        clean = make_package_state(updates=(make_other_update(),), reboot=RebootNeed(YesNoUnknown.YES))
        records.save(make_assessment(machine="db-1", at=NOW, packages=clean))
        records.save(make_failed_assessment(machine="web-2", at=NOW))
        start = NOW - timedelta(hours=3)
        run = make_run(id="run-1", started_at=start, ended_at=NOW, state=OperationState.FAILED)
        records.save(run)
        records.save(make_run(id="run-2", started_at=NOW, ended_at=None, state=OperationState.IN_PROGRESS))
        SqlWindowClaims(records.database).claim_window("web", start, run.id, "flow-run", start)
        missing = {("web-1", "openssl"): MISSING_SINCE}
        save_missing_fixes(records.database, missing)
        yield found


def _read(site: Site, path: str = "/metrics", accept: str = "text/plain") -> Samples:
    answer = site.get(path, headers={"accept": accept})
    assert answer.status_code == 200
    parse = parse_openmetrics if "openmetrics" in answer.headers["content-type"] else parse_text
    samples = [sample for family in parse(answer.text) for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def _get(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"fleetpatch_{name}", frozenset(labels.items())]


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_the_figures_are_those_of_the_fleet(site: Site, accept: str) -> None:
    found = _read(site, accept=accept)
    assert _get(found, "machines", compliance="NonCompliant", environment="prod", os="linux") == 1
    assert _get(found, "machines", compliance="NotAssessed", environment="prod", os="linux") == 2
    assert _get(found, "machines", compliance="Compliant", environment='te"st\\', os="linux") == 1
    assert _get(found, "pending_updates", classification="security", environment="prod") == 2
    assert _get(found, "machines_reboot_required", environment='te"st\\') == 1
    assert _get(found, "machines_reboot_required", environment="prod") == 0
    assert _get(found, "machines_assessment_failed", environment="prod", error="Unreachable") == 1
    assert _get(found, "runs_in_progress", kind="patch") == 1
    assert _get(found, "last_run_state", configuration="web", state="Failed") == 1
    assert _get(found, "last_run_state", configuration="web", state="Succeeded") == 0
    assert _get(found, "last_window", configuration="web", what="run") == 1
    start = datetime(2030, 1, 1, 22, tzinfo=UTC).timestamp()
    assert _get(found, "next_window_start_timestamp_seconds", configuration="web") == start
    age = datetime.now(UTC) - NOW  # its first sight there: MISSING_SINCE may be what a machine says of a publication
    assert _get(found, "oldest_missing_fix_age_seconds") == pytest.approx(age.total_seconds(), abs=60)
    assert _get(found, "problems") == 0
    assert _get(found, "approvals_waiting") == 0


def test_metrics_that_are_read_each_minute_compute_no_schedule_of_prefect(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    _read(site)  # the windows of pages are known now, for a minute

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it takes 10 ms for each configuration")

    monkeypatch.setattr(upcoming_windows, "build_prefect_schedule", refuse)
    start = datetime(2030, 1, 1, 22, tzinfo=UTC).timestamp()
    assert _get(_read(site), "next_window_start_timestamp_seconds", configuration="web") == start


def test_what_is_held_has_its_last_day(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_reader, "LOOK_SECONDS", -1.0)  # each request looks
    state = GroupState("web", 1, HeldPackage(1, NOW), NOW)
    update = PackageUpdate("openssl", "3", "Security", 1, NOW)
    SqlMaintenance(site.records.database).save_look(GroupRecord(state, "web", 86_400.0, ("web-1",), 0, (update,)))
    not_held = _read(site)  # no configuration holds anything any more
    assert not [name for name, _ in not_held if name.startswith("fleetpatch_held_")]
    held = "maintenance: {hold: 10 days}\n"
    (site.context.settings.configurations or Path()).joinpath("web.yaml").write_text(CONFIGURATION + held)
    site.context.fleet.read(10)
    found = _read(site)
    assert _get(found, "held_updates", group="web") == 1
    assert _get(found, "held_last_look_timestamp_seconds", group="web") == NOW.timestamp()
    last_day = (NOW + timedelta(days=10)).timestamp()
    assert _get(found, "held_last_day_timestamp_seconds", group="web") == last_day


def test_machines_have_metrics_only_on_request(site: Site) -> None:
    assert not [name for name, _ in _read(site) if name.startswith("fleetpatch_machine_")]
    found = _read(site, "/metrics?machines=1")
    assert _get(found, "machine_compliant", machine="web-1", environment="prod") == 0
    assert _get(found, "machine_pending_updates", machine="web-1", environment="prod", classification="other") == 1
    assert not [labels for name, labels in found if ("machine", "new-1") in labels]


def test_what_is_not_known_is_absent(tmp_path: Path) -> None:
    with serve_site(tmp_path) as empty:
        names = {name for name, _ in _read(empty)}
    assert "fleetpatch_oldest_missing_fix_age_seconds" not in names
    assert "fleetpatch_build_info" in names


@needs_prometheus
def test_prometheus_finds_no_fault_in_the_format(site: Site) -> None:
    text = site.get("/metrics?machines=1").content
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
    rules = subprocess.run(["promtool", "check", "rules", GRAFANA / "alerts.yml"], capture_output=True, check=False)
    assert rules.returncode == 0, rules.stderr


def list_dashboard_queries() -> list[str]:
    """The queries of all panels, for all environments."""
    panels = json.loads((GRAFANA / "fleetpatch.json").read_text())["panels"]
    return [target["expr"].replace("$environment", ".*") for panel in panels for target in panel["targets"]]


def list_alert_queries() -> list[str]:
    """The left sides of the alerts: they have a value whether or not the alert fires."""
    groups = yaml.safe_load((GRAFANA / "alerts.yml").read_text())["groups"]
    return [re.split(" [=><]+ ", rule["expr"])[0] for group in groups for rule in group["rules"]]


@needs_prometheus
def test_a_real_prometheus_answers_every_question(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "prometheus"
    place.mkdir()
    queries = [*list_dashboard_queries(), *list_alert_queries()]
    assert len(queries) > 25
    with run_prometheus(place, site.url) as prometheus:
        assert prometheus.read_value('sum(fleetpatch_machines{environment="prod"})') == 3
        assert prometheus.read_value('fleetpatch_pending_updates{classification="security",environment="prod"}') == 2
        assert prometheus.read_value("fleetpatch_machines{compliance='Compliant'}") == 1
        (state,) = prometheus.query("fleetpatch_last_run_state == 1")
        assert state["metric"]["state"] == "Failed"
        assert [query for query in queries if not prometheus.query(query)] == []


@needs_prometheus
def test_a_real_prometheus_logs_in_with_a_token(tmp_path: Path) -> None:
    place = tmp_path / "prometheus"
    place.mkdir()
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with serve_site(tmp_path, requires_login=True) as closed:
        assert closed.get("/metrics").status_code == 401
        with run_prometheus(place, closed.url, token=add_token(closed, "prometheus")) as prometheus:
            assert prometheus.read_value("sum(fleetpatch_machines)") == 4


def test_the_metrics_exist_that_the_dashboard_names(site: Site) -> None:
    names = {name for name, _ in _read(site, "/metrics?machines=1")}
    used = set(re.findall(r"fleetpatch_\w+", " ".join([*list_dashboard_queries(), *list_alert_queries()])))
    assert used <= names
