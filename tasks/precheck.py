"""The Prefect task of the precheck step."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from tasks.states import Step
from tasks.steps.context import MachineRun, Work
from tasks.steps.order import perform
from tasks.verdict import Handed, as_state, worth_retrying


@task(
    name="precheck",
    task_run_name="precheck {work.name}",
    retries=2,
    retry_delay_seconds=[5, 15],
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def precheck_machine(work: Work) -> MachineRun | State[Handed]:
    """Look whether a machine may be patched now.

    Read-only, so it is tried again after transient errors.
    """
    return as_state(perform(work, Step.PRECHECK), Step.PRECHECK)
