"""The subflow that shows one wave in Prefect. It does no work: it waits in a separate thread until the wave ends."""

import contextvars
import threading
import time
from contextvars import Context, ContextVar
from typing import Any, cast
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow_sync
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.tasks import Task

from flows.prefect_api.api_client import NO_ANSWER_ERRORS
from flows.prefect_runtime.api_health import ApiMonitor
from flows.prefect_runtime.flow_run_states import read_wave_flow_runs
from tasks.domain.model import Wave


class WaveSubflow:
    """A wave's subflow. It exists in a separate thread while the wave's work runs."""

    def __init__(self, wave: Wave, api_monitor: ApiMonitor, name: str) -> None:
        self._wave = wave
        self._name = name
        self._api_monitor = api_monitor
        self._created_at = time.monotonic()
        self._started_at: float | None = None
        self._started = threading.Event()  # or failed to start
        self._finished = threading.Event()
        self._subflow_context: Context | None = None
        self.id: UUID | None = None
        self._state: State[None] = Completed()

    def run_subflow(self) -> None:
        """Run the subflow, from Prefect's first answer until ``finish``. Correct its end later if necessary."""
        CURRENT_SUBFLOW.set(self)
        try:
            state = self._start_subflow()
            if self.id is not None and (state is None or state.type is not self._state.type):
                # Prefect was unavailable for longer than its client retries. The client may have reported then that the
                # subflow failed.
                self._require_api()
                with get_client(sync_client=True) as client:
                    client.set_flow_run_state(self.id, self._state, force=True)
        finally:
            self._set_started()

    def _set_started(self) -> None:
        self._started_at = self._started_at or time.monotonic()
        self._started.set()

    def is_late(self, seconds: float) -> bool | None:
        """Return whether the subflow needed more than this time to begin; None while that is not known."""
        if self._started_at is not None:
            return self._started_at - self._created_at > seconds
        return True if time.monotonic() - self._created_at > seconds else None

    def _start_subflow(self) -> State[Any] | None:
        """Return the end state of the subflow; None if Prefect was unavailable then."""
        wave, again = self._wave, False
        for last in (False, False, True):
            self._require_api()
            try:
                parameters = {
                    "number": wave.number,
                    "machines": list(wave.machines),
                    "canary": wave.canary,
                    "name": self._name,
                }
                made = self._find_existing_flow_run() if again else None
                if made is not None:
                    # run the subflow whose flow run already exists
                    return cast("State[Any] | None", run_flow_sync(patch_wave, made, parameters, return_type="state"))
                force_new_flow_run()
                return patch_wave(**parameters, return_state=True)
            except NO_ANSWER_ERRORS:
                again = True
                if self.id is None and last:
                    raise
            if self.id is not None:
                break
        return None

    def _find_existing_flow_run(self) -> FlowRun | None:
        """Return an earlier flow run of this wave whose body did not begin, because Prefect became unavailable."""
        with get_client(sync_client=True) as client:
            found = read_wave_flow_runs(client, UUID(flow_run.get_id()))
        for each in found:
            if each.parameters.get("number") == self._wave.number and not (each.state and each.state.is_final()):
                return each
        return None

    def _require_api(self) -> None:
        if not self._api_monitor.wait_until_reachable():
            raise TimeoutError("Prefect was given up")

    def wait_in_body(self) -> State[None]:
        """Wait in the subflow's body until ``finish``, and return its state."""
        self.id = UUID(flow_run.get_id())
        self._subflow_context = contextvars.copy_context()
        self._set_started()
        self._finished.wait()
        return self._state

    def wait_for_context(self, seconds: float) -> Context:
        """Return the context of the subflow once it has begun. After the timeout, return the caller's context."""
        self._started.wait(seconds)
        return self._subflow_context or contextvars.copy_context()

    def finish(self, state: State[None]) -> None:
        """End the subflow with this state."""
        self._state = state
        self._finished.set()


CURRENT_SUBFLOW: ContextVar[WaveSubflow] = ContextVar("fleetpatch_wave")


@flow(name="patch-wave", flow_run_name="{name}", persist_result=False, validate_parameters=False)
def patch_wave(number: int, machines: list[str], canary: bool = False, name: str = "") -> State[None]:  # noqa: ARG001
    """Patch one wave of machines. Only patch_fleet and resume_fleet start this flow, as a subflow.

    Args:
        number: the number of the wave, from 1.
        machines: the names of its machines.
        canary: whether it is a canary wave.
        name: the name of its flow run.
    """
    return CURRENT_SUBFLOW.get().wait_in_body()


_WAVE_TASK_KEY = Task(patch_wave.fn, name=patch_wave.name).task_key


def force_new_flow_run() -> None:
    """Force Prefect to create a new flow run for the next wave.

    Prefect counts the waves of this process. After Resume or Retry it would show the next wave as the first one of an
    earlier process (Prefect 3.8, ``load_subflow_run``).
    """
    context = FlowRunContext.get()
    if context is not None:
        context.task_run_dynamic_keys[_WAVE_TASK_KEY] = time.time_ns()
