"""Checks of the sites: whether the runs of each start, and which versions execute them. No I/O, no clock."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from deployments.server.schedule_checks import format_age
from deployments.server.settings import find_open_variables
from deployments.server.snapshot import DeploymentInfo, ServerSnapshot, WorkerInfo
from flows.prefect_api.tags import find_tagged_sites
from inventory.machine import DEFAULT_SITE
from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel

MAX_WORKER_SILENCE = timedelta(seconds=90)  # three heartbeats of 30 s, as on the server
MAX_SERVE_SILENCE = timedelta(seconds=90)  # a serving process polls every 10 s
MAX_RUN_AGE = timedelta(days=1)  # each site is assessed every three hours


def check_workers(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check that a worker or a serving process executes the runs of each site."""
    managed = [deployment for deployment in snapshot.deployments if deployment.is_managed]
    if not managed:
        remedy = "`fleetpatch deploy` makes them: the forms, and the deployments of configurations."
        return [Finding("deployments", FindingLevel.WARN, "the server has no deployment of fleetpatch", remedy)]
    pools = sorted({deployment.work_pool_name for deployment in managed if deployment.work_pool_name})
    findings = [
        Finding("deployments", FindingLevel.GOOD, f"{format_count(len(managed), 'deployment')} of fleetpatch"),
        *(_name_site(_check_pool(snapshot, name), name, managed) for name in pools),
    ]
    served = [deployment for deployment in managed if not deployment.work_pool_name]
    silent = [
        deployment
        for deployment in served
        if deployment.last_polled is None or snapshot.now - deployment.last_polled > MAX_SERVE_SILENCE
    ]
    if silent:
        names = join_first_names([snapshot.get_deployment_name(deployment) for deployment in silent])
        remedy = "Start the program that served them, or remove them: fleetpatch prefect deployment delete."
        findings.append(
            Finding("served", FindingLevel.BLOCK, f"no process serves {names}: their runs do not start", remedy)
        )
    elif served:
        message = f"a live process serves {format_count(len(served), 'deployment')}"
        findings.append(Finding("served", FindingLevel.GOOD, message))
    return findings


def check_undeployed_sites(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check that each site of the inventory has deployments. Without them, nothing patches or assesses its machines."""
    return [
        Finding(
            f"site {site}",
            FindingLevel.BLOCK,
            "the inventory has machines of it, and the server has nothing for it: no run of them starts",
            "`fleetpatch deploy` makes its pool, its forms and its assessment.",
        )
        for site in sorted(snapshot.inventory_sites - snapshot.site_runs.keys() if snapshot.site_runs else ())
    ]


def check_site_versions(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check which versions execute the runs of each site: Prefect does not know those of a worker.

    In a fleet of one site, which has no run yet, there is nothing to say.
    """
    if set(snapshot.site_runs) <= {DEFAULT_SITE} and not any(snapshot.site_runs.values()):
        return []
    return [_check_versions(snapshot, site) for site in sorted(snapshot.site_runs)]


def find_online_workers(snapshot: ServerSnapshot, pool: str) -> list[WorkerInfo]:
    """Return the workers of a pool that are alive."""
    return [
        worker
        for worker in snapshot.workers.get(pool, ())
        if worker.last_heartbeat_time is not None and snapshot.now - worker.last_heartbeat_time <= MAX_WORKER_SILENCE
    ]


def _check_versions(snapshot: ServerSnapshot, site: str) -> Finding:
    check, run = f"site {site}", snapshot.site_runs[site]
    if run is None or not run.version:
        lacks = "no worker has executed a recorded run for seven days"
        lacks = f"run {run.id} does not say it" if run is not None else lacks
        remedy = (
            "Each site is assessed every three hours. If the state of its flow runs of assess-fleet in Prefect is "
            "Failed, their logs say why. `fleetpatch version` there says its version."
        )
        return Finding(check, FindingLevel.WARN, f"its version is unknown: {lacks}", remedy)
    age = snapshot.now - run.started_at
    versions = f"fleetpatch {run.version} and Prefect {run.prefect_version or 'of an unknown version'}"
    executed = f"its last run ({run.id}, {format_age(age)} ago) was executed by {versions}"
    if (run.version, run.prefect_version) != (snapshot.own_version, snapshot.client_version):
        here = f"here are fleetpatch {snapshot.own_version} and Prefect {snapshot.client_version}"
        remedy = "Install one release of fleetpatch everywhere: pip install --require-hashes -r requirements.lock"
        return Finding(check, FindingLevel.WARN, f"{executed}; {here}", remedy)
    if age > MAX_RUN_AGE:
        remedy = "It should be assessed every three hours. The logs of its flow runs of assess-fleet say why it is not."
        return Finding(check, FindingLevel.WARN, f"{executed}: what is there now is unknown", remedy)
    return Finding(check, FindingLevel.GOOD, executed)


def _name_site(finding: Finding, pool: str, managed: Sequence[DeploymentInfo]) -> Finding:
    """Return the finding about a pool, with the site whose runs its workers execute, if the fleet has several."""
    own = [deployment for deployment in managed if deployment.work_pool_name == pool]
    sites = find_tagged_sites([tag for deployment in own for tag in deployment.tags])
    if set(sites) <= {DEFAULT_SITE}:
        return finding
    return replace(finding, message=f"site {', '.join(sites)}: {finding.message}")


def _check_pool(snapshot: ServerSnapshot, name: str) -> Finding:
    check = f"pool {name}"
    pool = next((pool for pool in snapshot.pools if pool.name == name), None)
    if pool is None:
        return Finding(
            check, FindingLevel.BLOCK, "deployments name it, and it does not exist", "`fleetpatch deploy` creates it."
        )
    if pool.is_paused:
        return Finding(check, FindingLevel.BLOCK, "it is paused", f"fleetpatch prefect work-pool resume {name}")
    if pool.concurrency_limit == 0:
        remedy = f"fleetpatch prefect work-pool clear-concurrency-limit {name}"
        return Finding(check, FindingLevel.BLOCK, "its limit is 0: no run starts", remedy)
    if names := find_open_variables(pool.base_job_template):
        message = f"a run may choose its {', '.join(names)}, and so run any command as the worker"
        return Finding(check, FindingLevel.BLOCK, message, "`fleetpatch deploy` closes the pool's job template.")
    if online := find_online_workers(snapshot, name):
        return Finding(check, FindingLevel.GOOD, f"online: {join_first_names([worker.name for worker in online])}")
    beats = [
        (worker.last_heartbeat_time, worker.name)
        for worker in snapshot.workers.get(name, ())
        if worker.last_heartbeat_time is not None
    ]
    last = "there was never one"
    if beats:
        seen_at, worker_name = max(beats)
        last = f"{worker_name} was seen last, {format_age(snapshot.now - seen_at)} ago ({seen_at:%Y-%m-%d %H:%M} UTC)"
    remedy = (
        f"Start it as it was started before: `fleetpatch deploy --serve` in a terminal, or "
        f"`systemctl start fleetpatch-worker@{name}`, or `docker compose … up -d worker`."
    )
    return Finding(check, FindingLevel.BLOCK, f"no worker is online; {last}", remedy)
