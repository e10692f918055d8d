"""Two sites that depend on one another: a failure, a set, and a line that stays cut until the window is over.

All is real, as in test_sites_cut. Times are the product's own, but for the half hour after the window.
"""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from inventory.machine import DEFAULT_SITE
from tasks.domain.model import RunReport
from tasks.domain.states import OperationState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.lab.conftest import boot_hosts
from tests.lab.fleet import PATIENCE, Lab
from tests.lab.killing import configured, hold, is_held, let_go, set_slow, wait_for
from tests.lab.linked_sites import HAMBURG, REQUEST, LinkedSites, linked_sites

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

ALL_BUT_ONE = {"name": "shop", "scope": "*", "max_unavailable": 3}
"""The members at the other site count as out of service: so each site has one turn at a time."""
GRACE_SECONDS = 20
WINDOW_MINUTES = 4
ONCE = {"lab-plain 2.0": 1, "lab-slow 2.0": 1}
FLOW = f"""
import sys
from datetime import timedelta
from pathlib import Path
from flows.engine import shard_work
from flows.patch import patch_fleet
from flows.request.patch_request import PatchRequest
shard_work.REPORT_GRACE = timedelta(seconds={GRACE_SECONDS})
patch_fleet(PatchRequest.model_validate_json(Path(sys.argv[1]).read_text()))
"""


def states(report: RunReport) -> dict[str, OperationState]:
    """The state of each machine."""
    return {outcome.machine: outcome.state for outcome in report.outcomes}


def start_process(sites: LinkedSites, **changes: Any) -> "subprocess.Popen[bytes]":
    """Start a whole run in a process of its own at the default site, as a person does."""
    request = sites.place / "request.json"
    request.write_text(json.dumps({**REQUEST, "inventory": str(sites.inventory), **changes}))
    return sites.server.run(
        *("-c", FLOW, str(request)),
        log=sites.place / "whole.log",
        network=sites.links[DEFAULT_SITE].network,
        **sites.surroundings(DEFAULT_SITE),
    )


@pytest.fixture(scope="module")
def sites(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkedSites]:
    with boot_hosts(lab) as hosts, linked_sites(hosts, tmp_path_factory.mktemp("sites")) as made:
        made.describe([ALL_BUT_ONE])
        yield made


def test_a_failure_at_one_site_stops_the_other_and_a_set_has_one_turn_at_each(sites: LinkedSites) -> None:
    here, there = sites.hosts[DEFAULT_SITE], sites.hosts[HAMBURG]
    hold(here)
    set_slow(there, 0)
    for host in here:
        host.sh("touch /etc/lab-failing-fixed", root=True)
    flow_run = sites.start(
        "patch-fleet/on-demand",
        updates={"classifications": [], "include": ["lab-slow", "lab-failing"]},
        waves={"percent": 100, "at_once": 4, "failure_budget_count": 0},
    )
    wait_for(lambda: any(is_held(host) for host in here), "an installation at the default site")
    whole = sites.find_runs(flow_run)[""].id
    wait_for(lambda: len(states(sites.read_report(whole))) == 2, "the outcomes of the site of the failure")
    (failed,) = [name for name, state in states(sites.read_report(whole)).items() if state is OperationState.FAILED]
    at_home = sites.find_runs(flow_run)[DEFAULT_SITE].id
    wait_for(lambda: (lease := sites.find_lease(at_home)) is not None and lease.stop is not None, "the stop")
    assert sum(is_held(host) for host in here) == 1  # the set lets one begin
    let_go(here)
    sites.wait_end(flow_run)

    report = sites.read_report(whole)
    assert report.run.state is OperationState.FAILED
    assert failed in {host.name for host in there}
    assert sorted(states(report).values()) == ["Failed", "NotStarted", "NotStarted", "Succeeded"]
    for host in sites.all_hosts:
        is_new = "lab-slow 2.0" in configured(host)
        assert is_new == (states(report)[host.name] in {OperationState.SUCCEEDED, OperationState.FAILED}), host.name


def test_the_machines_of_a_site_that_stays_away_are_unknown(sites: LinkedSites) -> None:
    here, there = (next(host for host in at if "lab-slow 2.0" not in configured(host)) for at in sites.hosts.values())
    line = sites.links[HAMBURG]
    sites.describe()
    set_slow([here], 0)
    hold([there])
    process = start_process(sites, scope=f"name={here.name}|{there.name}", window={"minutes": WINDOW_MINUTES})
    wait_for(lambda: is_held(there), "the installation at the site that is cut off then")
    line.cut()
    let_go([there])
    wait_for(lambda: configured(there) == ONCE, "the end of the installation")
    code = process.wait(60 * WINDOW_MINUTES + GRACE_SECONDS + PATIENCE)
    with open_records(sites.own_url) as records:
        history = History(records)
        whole = history.read_report(history.read_runs(1)[0].id)
    assert code != 0
    assert states(whole) == {here.name: OperationState.SUCCEEDED, there.name: OperationState.UNKNOWN}
    assert whole.run.window is not None
    assert whole.run.ended_at is not None
    assert whole.run.ended_at > whole.run.window.end
    (unknown,) = [outcome for outcome in whole.outcomes if outcome.machine == there.name]
    assert "silent since" in unknown.reason
    assert configured(there) == configured(here) == ONCE
