"""One run at two sites: a line is cut without a word, a worker and the whole run are killed, the center restarts.

All is real: hosts, network namespaces, links, workers, Prefect's server, PostgreSQL, Redis (linked_sites).
"""

from pathlib import Path

import pytest

from inventory.machine import DEFAULT_SITE
from tasks.domain.states import OperationState, UpdateState
from tests.lab.fleet import BootHosts
from tests.lab.killing import configured, hold, is_held, let_go, wait_for
from tests.lab.linked_sites import HAMBURG, can_connect, linked_sites

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

NEW = {"lab-plain": "2.0", "lab-slow": "2.0"}
ONCE = {f"{name} {version}": 1 for name, version in NEW.items()}
START_SECONDS = 600.0  # of patience: five processes are loaded one after the other, on cores that others use
SESSION_SECONDS = 60.0  # the database notices after 30 that a site is away


def test_a_run_outlives_a_cut_line_killed_processes_and_restarts_of_its_center(
    hosts: BootHosts, tmp_path: Path
) -> None:
    with linked_sites(hosts, tmp_path, 1) as sites:
        (here,), (there,) = sites.hosts[DEFAULT_SITE], sites.hosts[HAMBURG]
        home, line = sites.links[DEFAULT_SITE], sites.links[HAMBURG]
        assert can_connect(home.network, here.address, 22) == ""
        assert "Network is unreachable" in can_connect(home.network, there.address, 22)
        hold(sites.all_hosts)
        flow_run = sites.start("patch-fleet/on-demand")
        wait_for(lambda: is_held(here) and is_held(there), "both installations", START_SECONDS)
        runs = sites.find_runs(flow_run)
        whole = runs[""].id
        assert sites.postgres.count_sessions(line.address) > 0

        line.cut()
        for restart in (sites.restart_redis, sites.restart_postgres, sites.restart_server):
            restart()
        let_go([there])
        wait_for(lambda: configured(there) == ONCE, "the end of the installation at the site that is cut off")
        sites.kill_worker(DEFAULT_SITE)  # with the process of the whole run, and of its part here
        sites.end_leases(run.id for run in runs.values())
        sites.start_worker(DEFAULT_SITE)
        sites.reconcile(DEFAULT_SITE)
        resumes = sites.find_resumes()
        assert resumes.keys() == {whole, runs[DEFAULT_SITE].id, runs[HAMBURG].id}
        wait_for(
            lambda: any("silent since" in message for message in sites.read_messages(resumes[whole])),
            "that the whole run tells of the site that is cut off",
        )
        assert sites.read_report(whole).outcomes == ()
        wait_for(lambda: sites.postgres.count_sessions(line.address) == 0, "the end of its sessions", SESSION_SECONDS)

        line.mend()
        wait_for(lambda: len(sites.read_report(whole).outcomes) == 1, "the outcome from the site that was cut off")
        let_go([here])
        ends = {run_id: sites.wait_end(flow_run_id) for run_id, flow_run_id in resumes.items()}

        report = sites.read_report(whole)
        assert report.run.state is OperationState.SUCCEEDED, report.run.message
        assert {outcome.machine: outcome.state for outcome in report.outcomes} == {
            host.name: OperationState.SUCCEEDED for host in sites.all_hosts
        }
        for outcome in report.outcomes:
            installed = [row.update.name for row in outcome.updates if row.state is UpdateState.INSTALLED]
            assert sorted(installed) == sorted(NEW)
            assert outcome.ended_at is not None
            assert report.run.window is not None
            assert outcome.ended_at < report.run.window.end
        for host in sites.all_hosts:
            assert host.package_versions(*NEW) == NEW
            assert configured(host) == ONCE  # nothing was installed twice
            assert host.half_done_packages() == ""
        # the site that was cut off ended its part itself: the flow run that was to resume it found it over, or held
        assert ends[whole].state_name == ends[runs[DEFAULT_SITE].id].state_name == "Completed"
        assert sites.wait_end(flow_run).state_name == "Completed"
