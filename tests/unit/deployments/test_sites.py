"""What Prefect gets for a fleet of several sites, and what the doctor says of their pools."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from deployments.configuration.loader import load_configurations
from deployments.configuration.model import Configurations
from deployments.refresh_schedules import refresh_schedules
from deployments.server import probe
from deployments.server.probe import _read_site_runs
from deployments.server.settings import CLOSED_JOB_TEMPLATE
from deployments.server.site_checks import check_site_versions, check_undeployed_sites
from deployments.server.snapshot import WorkerInfo, WorkPoolInfo
from deployments.sync.actual_state import find_foreign_sites
from deployments.sync.builtin_deployments import SPREAD_SECONDS, build_builtin_deployments
from deployments.sync.desired_state import build_desired_state
from deployments.sync.model import INTERVAL_ANCHOR, DeploymentSet
from deployments.sync.plan import require_pools_of_one_site
from fleetpatch.cli.commands.doctor import _check_server
from fleetpatch.web.prefect_watcher import _describe_reconcile, _describe_waiting_runs
from flows import reconcile
from flows.installation_checks import _check_site
from flows.recovery.unfinished_runs import AbandonedRun
from inventory.errors import InventoryError
from inventory.loader import INVENTORY_VARIABLE
from inventory.machine import Inventory
from inventory.sites import SITE_VARIABLE, use_site
from tasks.domain.errors import RequestError
from tasks.domain.model import Finding, RunInfo
from tasks.domain.states import FindingLevel, OperationState
from tasks.records.setup import open_records
from tests.unit.deployments import test_server_doctor as doctor
from tests.unit.deployments.test_server_doctor import BLOCK, GOOD, WARN, deployed, found
from tests.unit.deployments.test_wanted import EVENING, FLEET, NOW, PLACE, read


def aim_at(inventory: Inventory, configurations: Configurations) -> DeploymentSet:
    names = {each.name: inventory for each in configurations.all_configurations}
    return build_desired_state(
        configurations,
        names,
        NOW,
        inventory_paths=dict.fromkeys(names, PLACE),
        fleet="default",
        pool="p",
        inventory=PLACE,
        sites=inventory.sites,
        current_schedules={},
        refresh_flow=refresh_schedules,
    )


def test_each_site_has_a_pool_and_the_deployments_that_contact_machines(tmp_path: Path) -> None:
    there = replace(FLEET.machines[0], name="shop-1", environment="shop", site="hamburg")
    (tmp_path / "shop.yaml").write_text(f"name: shop\nscope: env=shop\nwindow: {{{EVENING}}}\n")
    read(tmp_path, EVENING)

    desired = aim_at(Inventory((*FLEET.machines, there)), load_configurations(tmp_path, NOW.date()))

    assert [pool.name for pool in desired.pools] == ["p", "p-hamburg"]
    pools = {deployment.full_name: deployment.pool for deployment in desired.deployments}
    assert pools["patch-fleet/web"] == "p"
    assert pools["patch-fleet/shop"] == "p-hamburg"
    assert {name for name, pool in pools.items() if pool == "p-hamburg"} == {
        "patch-fleet/shop",
        "assess-fleet/scheduled-hamburg",
        "reconcile-fleet/scheduled-hamburg",
        *(f"{flow}/on-demand-hamburg" for flow in ("assess-fleet", "plan-fleet", "patch-fleet", "resume-fleet")),
        "stage-fleet/on-demand-hamburg",
        "change-machines/on-demand-hamburg",
    }
    scopes = {
        deployment.name: deployment.parameters["request"]["scope"]  # type: ignore[index]
        for deployment in desired.deployments
        if deployment.full_name.startswith("assess-fleet/scheduled")
    }
    assert scopes == {"scheduled": "site=default", "scheduled-hamburg": "site=hamburg"}
    for deployment in desired.deployments:
        site = "hamburg" if deployment.pool == "p-hamburg" else "default"
        assert f"fleetpatch:site={site}" in deployment.tags


def test_the_schedules_of_sites_do_not_begin_together_and_stay_where_they_are() -> None:
    def read_offsets() -> list[float]:
        deployments = build_builtin_deployments("default", "p", PLACE, ("default", "berlin", "hamburg"))
        anchors = [schedule.anchor for deployment in deployments for schedule in deployment.schedules]
        assert None not in anchors
        return [(anchor - INTERVAL_ANCHOR).total_seconds() for anchor in anchors if anchor is not None]

    offsets = read_offsets()
    assert len(offsets) == len(set(offsets)) == 6
    assert all(0 <= offset < SPREAD_SECONDS for offset in offsets)
    assert read_offsets() == offsets


def test_a_fleet_of_one_site_has_one_pool_and_assesses_all(tmp_path: Path) -> None:
    desired = aim_at(FLEET, read(tmp_path, EVENING))

    assert [pool.name for pool in desired.pools] == ["p"]
    (assessment,) = (each for each in desired.deployments if each.full_name == "assess-fleet/scheduled")
    assert assessment.parameters["request"] == {"scope": "*", "inventory": str(PLACE)}


def test_each_site_is_named_with_its_pool() -> None:
    pools = tuple(
        WorkPoolInfo.model_validate({"name": name, "type": "process", "base_job_template": CLOSED_JOB_TEMPLATE})
        for name in ("dc1", "dc1-hamburg")
    )
    deployments = (
        deployed(tags=["fleetpatch", "fleetpatch:site=default"]),
        deployed(id="d2", tags=["fleetpatch", "fleetpatch:site=hamburg"], work_pool_name="dc1-hamburg"),
    )
    workers = {"dc1": (WorkerInfo(name="w", last_heartbeat_time=doctor.NOW),)}

    here, there = (found(f"pool {pool.name}", pools=pools, workers=workers, deployments=deployments) for pool in pools)

    assert (here.level, here.message) == (GOOD, "online: w")
    assert there.level is BLOCK
    assert there.message == "site hamburg: no worker is online; there was never one"
    assert "systemctl start fleetpatch-worker@dc1-hamburg" in there.remedy

    ended = tuple(
        WorkerInfo(name=name, last_heartbeat_time=doctor.ago(days=days)) for name, days in (("old", 9), ("h-1", 3))
    )
    silent = found("pool dc1-hamburg", pools=pools, workers={"dc1-hamburg": ended}, deployments=deployments)
    assert silent.message == "site hamburg: no worker is online; h-1 was seen last, 3 days ago (2026-11-17 12:00 UTC)"


def executed(**facts: Any) -> RunInfo:
    """A run of an hour ago, by the versions of this controller."""
    run = RunInfo("run-1", "assess", doctor.ago(hours=1), OperationState.SUCCEEDED, version="0.1.0")
    return replace(run, **{"prefect_version": "3.8.8", **facts})


@pytest.mark.parametrize(
    ("run", "level", "message"),
    [
        (executed(), GOOD, "its last run (run-1, 60 minutes ago) was executed by fleetpatch 0.1.0 and Prefect 3.8.8"),
        (
            executed(version="0.0.9"),
            WARN,
            "its last run (run-1, 60 minutes ago) was executed by fleetpatch 0.0.9 and Prefect 3.8.8; "
            "here are fleetpatch 0.1.0 and Prefect 3.8.8",
        ),
        (
            executed(prefect_version="3.8.7"),
            WARN,
            "its last run (run-1, 60 minutes ago) was executed by fleetpatch 0.1.0 and Prefect 3.8.7; "
            "here are fleetpatch 0.1.0 and Prefect 3.8.8",
        ),
        (
            executed(started_at=doctor.ago(days=5)),
            WARN,
            "its last run (run-1, 5 days ago) was executed by fleetpatch 0.1.0 and Prefect 3.8.8: "
            "what is there now is unknown",
        ),
        (executed(version=""), WARN, "its version is unknown: run run-1 does not say it"),
        (None, WARN, "its version is unknown: no worker has executed a recorded run for seven days"),
    ],
)
def test_the_versions_of_a_site_are_those_of_its_newest_run(
    run: RunInfo | None, level: FindingLevel, message: str
) -> None:
    runs = {"default": executed(), "hamburg": run}

    finding = found("site hamburg", own_version="0.1.0", client_version="3.8.8", site_runs=runs)

    assert (finding.level, finding.message) == (level, message)
    assert bool(finding.remedy) is (level is WARN)
    assert found("site default", own_version="0.1.0", client_version="3.8.8", site_runs=runs).level is GOOD


def test_a_new_fleet_of_one_site_needs_no_run_yet() -> None:
    assert check_site_versions(doctor.view(site_runs={"default": None})) == []
    (finding,) = check_site_versions(doctor.view(site_runs={"default": executed(version="0.0.9")}))
    assert finding.level is WARN


def test_a_site_of_the_inventory_without_anything_on_the_server_blocks() -> None:
    sites = frozenset({"default", "hamburg"})

    finding = found("site hamburg", site_runs={"default": executed()}, inventory_sites=sites)

    assert finding.level is BLOCK
    assert "no run of them starts" in finding.message
    both = doctor.view(site_runs={"default": None, "hamburg": None}, inventory_sites=sites)
    assert check_undeployed_sites(both) == []


def test_only_a_run_of_the_site_that_tells_its_version_is_its_newest_run(tmp_path: Path) -> None:
    """Prefect knows the flow runs of the site's workers; the records know their runs."""
    url = f"sqlite:///{tmp_path / 'records.db'}"
    runs = (
        executed(id="refused", flow_run_id="f3", site="hamburg", state=OperationState.NOT_STARTED, version=""),
        executed(id="newest", flow_run_id="f2", site="hamburg"),
        executed(id="of-another-site", flow_run_id="f1"),
    )
    with open_records(url) as records:
        for run in runs:
            records.save(run)
    asked: list[Any] = []
    flow_runs = [
        {"id": key, "name": key, "flow_id": "f1", "state": {"timestamp": doctor.NOW.isoformat()}}
        for key in ("not-recorded", "f3", "f2", "f1")
    ]

    def answer(_method: str, _path: str, json: Any) -> Any:
        asked.append(json)
        return SimpleNamespace(json=lambda: flow_runs)

    client: Any = SimpleNamespace(request=answer)
    deployments = (
        deployed(tags=["fleetpatch", "fleetpatch:fleet=default", "fleetpatch:site=hamburg"]),
        deployed(id="d2", tags=["fleetpatch", "fleetpatch:fleet=other", "fleetpatch:site=berlin"]),
    )

    newest = _read_site_runs(client, deployments, {"f1": "patch-fleet"}, doctor.NOW, url)

    assert newest == {"hamburg": runs[1]}
    assert [body["deployments"] for body in asked] == [{"id": {"any_": ["d1"]}}]


@pytest.mark.parametrize(("site", "resumed"), [("default", ["here", "there"]), ("hamburg", ["there"])])
def test_each_site_looks_after_its_own_runs_and_the_default_site_after_all(
    site: str, resumed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of the default site may be away, and so may that of another one."""
    abandoned = tuple(
        AbandonedRun(executed(id=name, site=of), None, doctor.NOW, "")
        for name, of in (("here", "default"), ("there", "hamburg"))
    )
    started: list[str] = []
    orphans_of: list[str] = []
    windows: list[str] = []
    monkeypatch.setattr(reconcile, "find_abandoned_runs", lambda _url: abandoned)
    monkeypatch.setattr(reconcile, "record_missed_windows", lambda _caller: windows.append(site))

    def end_orphans(*given: Any) -> tuple[()]:
        orphans_of.append(given[-1])
        return ()

    def start(runs: tuple[AbandonedRun, ...], *_: Any) -> list[str]:
        started.extend(run.run.id for run in runs)
        return []

    monkeypatch.setattr(reconcile, "end_orphaned_flow_runs", end_orphans)
    monkeypatch.setattr(reconcile, "_start_resume_flow_runs", start)
    monkeypatch.setattr(reconcile, "get_client", lambda **_: nullcontext())
    monkeypatch.setattr(reconcile, "log_to_flow_run", lambda caller: caller)
    monkeypatch.setattr(reconcile, "deployment", SimpleNamespace(get_id=lambda: "d1"))
    monkeypatch.setattr(reconcile, "find_resume_deployment", lambda _client, of: f"resume of {of}")

    with use_site(site):
        assert reconcile.reconcile_fleet.fn() == resumed

    assert started == resumed
    assert windows == (["default"] if site == "default" else [])
    assert orphans_of == ["" if site == "default" else site]


def test_the_overview_names_the_pool_that_a_window_waits_in_and_the_site_without_recovery() -> None:
    due = doctor.ago(minutes=9)
    state = SimpleNamespace(is_pending=lambda: False, message="")
    run: Any = SimpleNamespace(
        name="r", deployment_id=1, expected_start_time=due, state=state, work_pool_name="p-hamburg"
    )
    (sentence,) = _describe_waiting_runs([run], {1: "shop"}, doctor.NOW)  # type: ignore[dict-item]
    assert "The run of shop, due 20 Nov 11:51 UTC, waits in the pool p-hamburg: no worker has taken it" in sentence

    deployments: list[Any] = [
        SimpleNamespace(id=uuid4(), created=doctor.OLD, tags=["fleetpatch", f"fleetpatch:site={site}"])
        for site in ("default", "hamburg")
    ]
    client: Any = SimpleNamespace(read_flow_runs=lambda **_: [])
    here, there = _describe_reconcile(client, deployments, doctor.NOW)
    assert here.startswith("reconcile-fleet at the site default has not completed yet: nobody resumes interrupted runs")
    assert "at the site hamburg" in there
    (only,) = _describe_reconcile(client, deployments[:1], doctor.NOW)
    assert only.startswith(
        "reconcile-fleet has not completed yet: nobody resumes interrupted runs. Is a worker online?"
    )


def test_a_work_pool_that_has_the_runs_of_another_site_is_refused() -> None:
    """The pool of the site `web` of one fleet may be the only pool of another fleet."""
    rows = [
        {"work_pool_name": "p-web", "tags": ["fleetpatch", "fleetpatch:fleet=shops", "fleetpatch:site=default"]},
        {"work_pool_name": "p", "tags": ["fleetpatch", "fleetpatch:fleet=old"]},  # before there were sites
        {"work_pool_name": "p-web", "tags": ["fleetpatch", "fleetpatch:fleet=default", "fleetpatch:site=hamburg"]},
    ]
    client: Any = SimpleNamespace(request=lambda *_, **__: SimpleNamespace(json=lambda: rows))

    foreign = find_foreign_sites(client, ["p", "p-web"], "default")

    assert foreign == {"p-web": ["default"], "p": ["default"]}
    require_pools_of_one_site({"p": "default"}, foreign)
    with pytest.raises(RequestError, match="p-web would have the runs of the site web of this fleet, and it has those"):
        require_pools_of_one_site({"p": "default", "p-web": "web"}, foreign)


@pytest.mark.parametrize(
    ("site", "level", "message"),
    [
        ("", None, ""),
        ("hamburg", None, ""),
        ("default", None, ""),
        ("Hamburg", BLOCK, "FLEETPATCH_SITE='Hamburg' is no usable name for a site"),
        ("hamborg", WARN, "this machine is of the site hamborg (FLEETPATCH_SITE), and no machine of the inventory is"),
    ],
)
def test_a_machine_whose_own_site_is_written_wrong_says_so(
    site: str, level: FindingLevel | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = tmp_path / "fleet.yaml"
    inventory.write_text("machines: [{name: shop-1, site: hamburg}]\n")
    monkeypatch.setenv(INVENTORY_VARIABLE, str(inventory))
    monkeypatch.setenv(SITE_VARIABLE, site)

    findings = [(finding.level, finding.message) for finding in _check_site()]

    assert findings == ([(level, message)] if level is not None else [])


@pytest.mark.parametrize(
    ("text", "sites", "messages"),
    [
        ("machines: [{name: a}, {name: b, site: hamburg}]\n", ("default", "hamburg"), []),
        ("machines: [{name: a, site: Hamburg}]\n", (), ["the sites are unknown: "]),
        (None, (), []),
    ],
)
def test_the_doctor_of_the_server_reads_the_sites_of_the_inventory_and_needs_none(
    text: str | None, sites: tuple[str, ...], messages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def check(_records: str | None, *, sites: tuple[str, ...] = ()) -> tuple[Finding, ...]:
        asked.append(sites)
        return ()

    monkeypatch.setattr(probe, "check_server", check)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(INVENTORY_VARIABLE, "")
    if text is not None:
        (tmp_path / "fleet.yaml").write_text(text)

    findings = _check_server(None, None)

    assert asked == [sites]
    assert [finding.message[: len(message)] for finding, message in zip(findings, messages, strict=True)] == messages
    with pytest.raises(InventoryError):
        _check_server(None, tmp_path / "missing.yaml")
