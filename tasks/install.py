"""The Prefect task of the install step."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from tasks.states import Step
from tasks.steps.context import MachineRun, Work
from tasks.steps.order import perform
from tasks.verdict import Handed, as_state


@task(
    name="install",
    task_run_name="install {work.name}",
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def install_updates(work: Work) -> MachineRun | State[Handed]:
    """Install what was chosen, as a detached job on the machine.

    It changes the machine, so Prefect never tries it again: asked twice must be done once.
    """
    return as_state(perform(work, Step.INSTALL), Step.INSTALL)
