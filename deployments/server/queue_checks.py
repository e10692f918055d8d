"""Checks of the queues of work pools: a run in a queue that is missing or paused never starts."""

from collections.abc import Sequence

from deployments.configuration.prefect_names import ASSESSMENT_QUEUE
from deployments.server.snapshot import DeploymentInfo, ServerSnapshot, WorkQueueInfo
from inventory.name_lists import join_first_names
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel


def check_queues(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check the queues of each pool that fleetpatch uses. A pool that is missing is another check's."""
    managed = [
        deployment
        for deployment in snapshot.deployments
        if deployment.is_managed and deployment.work_pool_name in snapshot.queues
    ]
    pools = sorted({each.work_pool_name for each in managed if each.work_pool_name})
    return [
        _check_pool_queues(snapshot, pool, [each for each in managed if each.work_pool_name == pool]) for pool in pools
    ]


def _check_pool_queues(snapshot: ServerSnapshot, pool: str, deployments: Sequence[DeploymentInfo]) -> Finding:
    check, queues = f"queues {pool}", {work_queue.name: work_queue for work_queue in snapshot.queues[pool]}
    lost = [
        snapshot.get_deployment_name(deployment)
        for deployment in deployments
        if deployment.work_queue_name not in queues
    ]
    if lost:
        message = f"their queue does not exist, so no run of them starts: {join_first_names(lost)}"
        return Finding(check, FindingLevel.BLOCK, message, "`fleetpatch deploy` makes it again.")
    used = [queues[name] for name in sorted({str(deployment.work_queue_name) for deployment in deployments})]
    for queue in used:
        if queue.is_paused:
            remedy = f"fleetpatch prefect work-queue resume {queue.name} --pool {pool}"
            return Finding(check, FindingLevel.BLOCK, f"{queue.name} is paused: no run in it starts", remedy)
        if queue.concurrency_limit == 0:
            remedy = f"fleetpatch prefect work-queue clear-concurrency-limit {queue.name} --pool {pool}"
            return Finding(check, FindingLevel.BLOCK, f"{queue.name} has a limit of 0: no run in it starts", remedy)
    second = queues.get(ASSESSMENT_QUEUE)
    if second is None:
        message = "assessments wait in the queue of the windows, which may start late behind them"
        return Finding(check, FindingLevel.WARN, message, f"`fleetpatch deploy` makes the queue {ASSESSMENT_QUEUE}.")
    if late := [
        work_queue.name for work_queue in used if work_queue is not second and work_queue.priority >= second.priority
    ]:
        message = f"workers take the runs of {second.name} before those of {', '.join(late)}, which has the windows"
        return Finding(check, FindingLevel.WARN, message, "`fleetpatch deploy` puts them in order.")
    return Finding(check, FindingLevel.GOOD, f"in order: {', '.join(_list_in_order(used))}")


def _list_in_order(queues: Sequence[WorkQueueInfo]) -> list[str]:
    return [work_queue.name for work_queue in sorted(queues, key=lambda queue: queue.priority)]
