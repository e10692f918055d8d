"""Hooks that are Prefect deployments: start one flow run, wait until it ends, cancel it if it takes too long."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Cancelling

from flows.hooks.event import HookEvent
from flows.hooks.hook_deadline import HookDeadline, HookWaitAborted, run_in_thread
from tasks.domain.model import Hook

logger = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS = 1.0
CANCEL_TIMEOUT_SECONDS = 10.0  # time for the cancellation of a flow run that took too long
HOOK_FLOW_RUN_TAG = "fleetpatch-hook"


def run_deployment_hook(hook: Hook, event: HookEvent, hook_deadline: HookDeadline) -> tuple[bool, str]:
    """Run a deployment. Return whether its flow run ended Completed, and how it ended.

    The event's id is the flow run's idempotency key: a repeated request returns the flow run that already exists. So
    the call is repeated while the server is unavailable. A flow run that takes too long is cancelled and counts as
    failed: otherwise it could later undo what comes after the hook. A flow with a parameter ``event`` gets the event.

    Raises:
        HookWaitAborted: it took too long.
    """
    hook_flow_run = _HookFlowRun(hook.target, event)
    try:
        return run_in_thread(hook_flow_run.run, hook_deadline)
    except HookWaitAborted as abort:
        hook_flow_run.stop_waiting.set()
        if hook_deadline.stop_token is not None and hook_deadline.stop_token.is_lease_lost:
            raise  # the process that resumes the run waits for the same flow run
        hook_flow_run.must_cancel.set()
        hook_flow_run.finished.wait(CANCEL_TIMEOUT_SECONDS)
        raise HookWaitAborted(
            f"{abort.message}; {hook_flow_run.cancel_result}" if hook_flow_run.cancel_result else abort.message
        ) from abort
    finally:
        hook_flow_run.stop_waiting.set()


class _HookFlowRun:
    """One flow run of a deployment.

    Attributes:
        stop_waiting: set if nothing waits for its end any more.
        must_cancel: set if it must be cancelled.
        finished: set if its thread has ended.
    """

    def __init__(self, deployment_name: str, event: HookEvent) -> None:
        self._deployment_name = deployment_name
        self._event = event
        self._label = ""
        self._is_cancelled = False
        self.stop_waiting, self.must_cancel, self.finished = threading.Event(), threading.Event(), threading.Event()

    @property
    def cancel_result(self) -> str:
        """The result of the cancellation, or "" if there is no flow run."""
        if not self._label:
            return ""
        return (
            f"flow run {self._label} {'was cancelled' if self._is_cancelled else 'could not be cancelled: look at it'}"
        )

    def run(self) -> tuple[bool, str]:
        try:
            with get_client(sync_client=True) as client:
                return self._run_with_client(client)
        finally:
            self.finished.set()

    def _run_with_client(self, client: SyncPrefectClient) -> tuple[bool, str]:
        try:
            flow_run = self._retry_until_answered(lambda: self._start_flow_run(client))
        except ObjectNotFound:
            return False, f"there is no deployment {self._deployment_name!r}"
        self._label = f"{flow_run.name} ({flow_run.id})"
        try:
            while not (flow_run.state and flow_run.state.is_final()) and not self.stop_waiting.wait(POLL_SECONDS):
                flow_run = self._retry_until_answered(partial(client.read_flow_run, flow_run.id))
        except ObjectNotFound:
            return False, f"flow run {self._label} was deleted"
        except Exception:
            self._cancel_flow_run(client, flow_run)
            logger.warning("hook %s: flow run %s is not watched any more", self._event.hook, self._label)
            raise
        if self.stop_waiting.is_set() and self.must_cancel.wait(POLL_SECONDS):
            self._cancel_flow_run(client, flow_run)
        state = flow_run.state
        final_state = (
            f"{state.name}: {state.message}" if state and state.message else state.name if state else "no state"
        )
        return bool(state and state.is_completed()), f"flow run {self._label} ended {final_state}"

    def _start_flow_run(self, client: SyncPrefectClient) -> FlowRun:
        deployment = client.read_deployment_by_name(self._deployment_name)
        parameter_names = (deployment.parameter_openapi_schema or {}).get("properties") or {}
        return client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"event": self._event.as_json()} if "event" in parameter_names else {},
            idempotency_key=f"fleetpatch/{self._event.id}",
            tags=[HOOK_FLOW_RUN_TAG],
        )

    def _retry_until_answered(self, ask: Callable[[], T]) -> T:
        """Call Prefect, and repeat the call while Prefect is unavailable. Every call here may safely be repeated."""
        while True:
            try:
                return ask()
            except httpx.HTTPStatusError as error:
                if error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR or self.stop_waiting.wait(
                    POLL_SECONDS
                ):
                    raise
            except (httpx.HTTPError, OSError):
                if self.stop_waiting.wait(POLL_SECONDS):
                    raise
            logger.info("hook %s: asking Prefect again", self._event.hook)

    def _cancel_flow_run(self, client: SyncPrefectClient, flow_run: FlowRun) -> None:
        try:
            client.set_flow_run_state(flow_run.id, Cancelling(message=f"hook {self._event.hook} was given up"))
        except (httpx.HTTPError, OSError, PrefectException) as error:
            logger.warning("hook %s: flow run %s could not be cancelled: %s", self._event.hook, self._label, error)
        else:
            self._is_cancelled = True
