"""Hooks that are Prefect deployments: one run of each, waited for until it ends, cancelled when it takes too long."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from flows.hooks.event import HookEvent
from flows.hooks.patience import GivenUp, Patience, in_a_thread
from tasks.model import Hook

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

logger = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS = 1.0
CANCEL_SECONDS = 10.0  # how long a flow run that is given up may take to be cancelled
TAG = "fleetpatch-hook"


def run_deployment(hook: Hook, event: HookEvent, patience: Patience) -> tuple[bool, str]:
    """Run a deployment; return whether its flow run ended Completed, and how it ended.

    Prefect knows the flow run by the event's id: asked twice, it gives back the one that was begun. So a server that is
    away for a moment is asked again. A flow run that takes too long is cancelled, and counts as failed: what it would
    do later could undo what comes after the hook. A flow with a parameter ``event`` is given the event.

    Raises:
        GivenUp: it took too long.
    """
    turn = _Turn(hook.target, event)
    try:
        return in_a_thread(turn.to_its_end, patience)
    except GivenUp as given:
        turn.gone.set()
        if patience.control is not None and patience.control.taken_over:
            raise  # whoever took the run over waits for the same flow run
        turn.cancelling.set()
        turn.over.wait(CANCEL_SECONDS)
        raise GivenUp(f"{given.message}; {turn.left_behind}" if turn.left_behind else given.message) from given
    finally:
        turn.gone.set()


class _Turn:
    """One flow run of a deployment.

    Attributes:
        gone: nobody waits for its end any more.
        cancelling: it has to be cancelled.
        over: nothing more is done about it.
    """

    def __init__(self, name: str, event: HookEvent) -> None:
        self._name = name
        self._event = event
        self._begun = ""
        self._cancelled = False
        self.gone, self.cancelling, self.over = threading.Event(), threading.Event(), threading.Event()

    @property
    def left_behind(self) -> str:
        """What became of a flow run that was given up, or ""."""
        if not self._begun:
            return ""
        return f"flow run {self._begun} {'was cancelled' if self._cancelled else 'could not be cancelled: look at it'}"

    def to_its_end(self) -> tuple[bool, str]:
        from prefect.client.orchestration import get_client  # noqa: PLC0415 - loading Prefect takes a second

        try:
            with get_client(sync_client=True) as client:
                return self._through(client)
        finally:
            self.over.set()

    def _through(self, client: "SyncPrefectClient") -> tuple[bool, str]:
        from prefect.exceptions import ObjectNotFound  # noqa: PLC0415 - loading Prefect takes a second

        try:
            flow_run = self._patiently(lambda: self._begin(client))
        except ObjectNotFound:
            return False, f"there is no deployment {self._name!r}"
        self._begun = f"{flow_run.name} ({flow_run.id})"
        try:
            while not (flow_run.state and flow_run.state.is_final()) and not self.gone.wait(POLL_SECONDS):
                flow_run = self._patiently(partial(client.read_flow_run, flow_run.id))
        except ObjectNotFound:
            return False, f"flow run {self._begun} was deleted"
        except Exception:
            self._cancel(client, flow_run)
            logger.warning("hook %s: flow run %s is not watched any more", self._event.hook, self._begun)
            raise
        if self.gone.is_set() and self.cancelling.wait(POLL_SECONDS):
            self._cancel(client, flow_run)
        state = flow_run.state
        told = f"{state.name}: {state.message}" if state and state.message else state.name if state else "no state"
        return bool(state and state.is_completed()), f"flow run {self._begun} ended {told}"

    def _begin(self, client: "SyncPrefectClient") -> "FlowRun":
        deployment = client.read_deployment_by_name(self._name)
        takes = (deployment.parameter_openapi_schema or {}).get("properties") or {}
        return client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"event": self._event.as_json()} if "event" in takes else {},
            idempotency_key=f"fleetpatch/{self._event.id}",
            tags=[TAG],
        )

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask again while Prefect is away and somebody waits. All that is asked here may be asked twice."""
        import httpx  # noqa: PLC0415 - as Prefect

        while True:
            try:
                return ask()
            except httpx.HTTPStatusError as error:
                if error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR or self.gone.wait(POLL_SECONDS):
                    raise
            except (httpx.HTTPError, OSError):
                if self.gone.wait(POLL_SECONDS):
                    raise
            logger.info("hook %s: asking Prefect again", self._event.hook)

    def _cancel(self, client: "SyncPrefectClient", flow_run: "FlowRun") -> None:
        import httpx  # noqa: PLC0415 - as Prefect
        from prefect.exceptions import PrefectException  # noqa: PLC0415
        from prefect.states import Cancelling  # noqa: PLC0415

        try:
            client.set_flow_run_state(flow_run.id, Cancelling(message=f"hook {self._event.hook} was given up"))
        except (httpx.HTTPError, OSError, PrefectException) as error:
            logger.warning("hook %s: flow run %s could not be cancelled: %s", self._event.hook, self._begun, error)
        else:
            self._cancelled = True
