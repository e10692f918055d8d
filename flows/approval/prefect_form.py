"""Approval in Prefect's UI: a separate flow run that is paused on a form, inside the run that waits.

The patch run itself is not paused. Prefect takes a deployment's concurrency slot from a run that leaves Running and
never returns it. Then the engine of that run can't renew its concurrency lease, and kills it within minutes (prefect
3.8.8: ReleaseFlowConcurrencySlots, maintain_concurrency_lease). So the parent stays Running, and its subflow
``approve-plan`` waits, is resumed with the form, and shows the result.

A separate thread calls Prefect. While Prefect is unavailable, the run still reads the records, and sees a stop request
at once.
"""

import contextvars
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import PrefectException, PrefectHTTPStatusError
from prefect.input import RunInput, keyset_from_paused_state
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed, Paused, Running
from pydantic import Field

from flows.approval.answers import (
    MAX_NAME_LENGTH,
    MAX_REMARK_LENGTH,
    AnswerSource,
    ApprovalAnswer,
    NoAnswerSource,
    PendingApproval,
    describe_approval,
    format_moment,
)
from flows.approval.plan_rendering import build_machine_table, describe_plan, render_plan_markdown
from flows.ports.web_links import build_approval_url, read_web_url
from flows.prefect_api.api_client import open_fail_fast_client, read_all_pages, set_own_state
from tasks.records.approvals import Approval, ApprovalDecision
from tasks.reports.export.markdown import limit_table
from tasks.reports.sanitizing import escape_markdown
from tasks.steps.context.run_control import StopToken

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
STOP_TIMEOUT_SECONDS = 5.0
WAITING_STATE_NAME = "AwaitingApproval"
"""The name of the state of a run that waits."""
_PREFECT_ERRORS = (httpx.HTTPError, PrefectException, OSError, RuntimeError)

WaitForDecision = Callable[[AnswerSource], Approval | None]


class ApprovalForm(RunInput):
    """The form in Prefect's UI."""

    decision: Literal["approve", "reject"] = Field(description="Let the run continue as planned, or end it.")
    name: str = Field(
        min_length=1, max_length=MAX_NAME_LENGTH, description="Your name, for the records and the report."
    )
    remark: str = Field(
        default="", max_length=MAX_REMARK_LENGTH, description="A remark for the records and the report."
    )


class _ApprovalSession:
    """The input and the result of an approval's flow run. It is not one of the flow's parameters."""

    def __init__(self, pending: PendingApproval, stop_token: StopToken, wait: WaitForDecision) -> None:
        self.pending = pending
        self.stop_token = stop_token
        self.wait = wait
        self.parent_flow_run_id = UUID(str(flow_run.get_id()))
        self.decision: Future[Approval | None] = Future()

    def wait_for_decision(self, source: AnswerSource) -> None:
        """Wait for the decision, once."""
        try:
            self.decision.set_result(self.wait(source))
        except BaseException as error:  # noqa: BLE001 - raised again where the gate was called
            self.decision.set_exception(error)


_CURRENT_SESSION: ContextVar[_ApprovalSession] = ContextVar("fleetpatch_approval")


def present_in_prefect(pending: PendingApproval, stop_token: StopToken, wait: WaitForDecision) -> Approval | None:
    """Wait for a decision in a separate flow run, or without one if Prefect is unavailable.

    Raises:
        RecordsError: as ``wait`` does.
    """
    session = _ApprovalSession(pending, stop_token, wait)
    token = _CURRENT_SESSION.set(session)
    try:
        approve_plan(pending.planned.run.id, pending.digest[:12], describe_plan(pending.planned), return_state=True)
    except _PREFECT_ERRORS as error:
        logger.warning("the approval of run %s has no form in Prefect: %s", pending.planned.run.id, error)
    finally:
        _CURRENT_SESSION.reset(token)
    if not session.decision.done():
        session.wait_for_decision(NoAnswerSource())
    return session.decision.result()


@flow(name="approve-plan", flow_run_name="approval of {run_id}", persist_result=False, validate_parameters=False)
def approve_plan(run_id: str, plan: str, what: str) -> State[None]:  # noqa: ARG001 - shown in the UI
    """Wait for a person's decision on a plan. Only patch_fleet and resume_fleet start this flow, as a subflow.

    Args:
        run_id: the id of the run that waits.
        plan: a prefix of the plan's digest.
        what: the plan in one sentence.
    """
    session = _CURRENT_SESSION.get()
    form = PrefectForm(session.pending, session.parent_flow_run_id, UUID(str(flow_run.get_id())), session.stop_token)
    with form:
        session.wait_for_decision(form)
    error, run = session.decision.exception(), session.pending.planned.run
    approval = session.decision.result() if error is None else None
    if approval is None:
        return Cancelled(message=f"no longer waiting: {session.stop_token.reason or error or 'the window is over'}")
    message = describe_approval(approval, run.window.zone if run.window else "UTC")
    match approval.decision:
        case ApprovalDecision.APPROVED:
            return Completed(name="Approved", message=message)
        case ApprovalDecision.REJECTED:
            return Cancelled(name="Rejected", message=message)
        case _:
            return Failed(name="Expired", message=message)


class PrefectForm:
    """A form on a paused flow run. A thread serves it inside a ``with`` block.

    Args:
        parent_flow_run_id: the flow run that waits; if it is cancelled, the run stops.
    """

    def __init__(
        self, pending: PendingApproval, parent_flow_run_id: UUID, form_flow_run_id: UUID, stop_token: StopToken
    ) -> None:
        self._pending = pending
        self._parent_flow_run_id = parent_flow_run_id
        self._form_flow_run_id = form_flow_run_id
        self._stop_token = stop_token
        self._stop_event = threading.Event()
        self._answers: list[ApprovalAnswer] = []
        self._rejection_reason = ""
        self._is_form_needed = True  # whether a form must be shown now
        self._response_key = ""  # key of the answer to the shown form
        self._is_plan_published = False
        self._is_waiting_shown = False  # on the run itself
        self._is_prefect_unreachable = False
        self._is_closed = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run_form_thread,), name="approval", daemon=True)

    def __enter__(self) -> "PrefectForm":
        """Start the thread that shows the form."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread. If Prefect is unavailable, it goes on alone until the run no longer looks as if it waits."""
        self._stop_event.set()
        self._is_closed.wait(STOP_TIMEOUT_SECONDS)

    def read_answer(self) -> ApprovalAnswer | None:
        """Return an answer, once."""
        return self._answers.pop(0) if self._answers else None

    def reject_answer(self, why: str) -> None:
        """Show the form again, with the reason."""
        self._rejection_reason, self._is_form_needed = why, True

    def _run_form_thread(self) -> None:
        try:
            self._serve_form_until_stopped()
            self._stop_event.wait()  # a form that failed leaves the run waiting for the command
            self._show_no_longer_waiting()
        finally:
            self._is_closed.set()

    def _serve_form_until_stopped(self) -> None:
        """Show the form and read the answers. Reconnect if Prefect was unavailable."""
        run_id = self._pending.planned.run.id
        while not self._stop_event.is_set():
            try:
                with get_client(sync_client=True) as client:
                    self._serve_form(client)
            except _PREFECT_ERRORS as error:
                if not self._is_prefect_unreachable:
                    logger.warning(
                        "Prefect can't show the approval form now: %s; fleetpatch approve still works", error
                    )
                self._is_prefect_unreachable = True
            except Exception:
                logger.exception("the approval form of run %s failed; fleetpatch approve still works", run_id)
                return
            self._stop_event.wait(POLL_SECONDS)

    def _serve_form(self, client: SyncPrefectClient) -> None:
        while not self._stop_event.is_set():
            if not self._is_plan_published:
                self._publish_plan(client)
                self._close_earlier_forms(client)
                self._is_plan_published = True
            if not self._is_waiting_shown:
                self._show_on_parent(client, is_waiting=True)
                self._is_waiting_shown = True
            self._poll_flow_runs(client)
            if self._is_prefect_unreachable:
                logger.info("Prefect answers again: the approval form of run %s works", self._pending.planned.run.id)
                self._is_prefect_unreachable = False
            self._stop_event.wait(POLL_SECONDS)

    def _show_no_longer_waiting(self) -> None:
        """Show on the run itself that it no longer waits, as soon as Prefect answers. The run goes on meanwhile."""
        window = self._pending.planned.run.window
        until = time.monotonic() + ((window.end - window.start).total_seconds() if window is not None else 0.0)
        while self._is_waiting_shown:
            try:
                with open_fail_fast_client() as client:
                    self._show_on_parent(client, is_waiting=False)
                self._is_waiting_shown = False
            except (*_PREFECT_ERRORS, ValueError) as error:
                self._is_closed.set()
                if time.monotonic() > until:
                    logger.warning("Prefect still shows that the run waits for approval: %s", error)
                    return
                time.sleep(POLL_SECONDS)

    def _show_on_parent(self, client: SyncPrefectClient, *, is_waiting: bool) -> None:
        """Show on the run itself that it waits, or no longer does. Its type stays Running: see the top of this file.

        Another state that a person's button gave it, Cancelling or Suspended, stays.
        """
        if not self._stop_token.still_holds_lease():
            return
        present = client.read_flow_run(self._parent_flow_run_id).state
        if present is None or not present.is_running() or (present.name == WAITING_STATE_NAME) is is_waiting:
            return
        link = build_approval_url(self._pending.planned.run.id, read_web_url())
        message = f"approve or reject: {link or self._pending.planned.run.id}"
        waiting: State[Any] = State(type=StateType.RUNNING, name=WAITING_STATE_NAME, message=message)
        running: State[Any] = Running()
        set_own_state(client, self._parent_flow_run_id, waiting if is_waiting else running)

    def _poll_flow_runs(self, client: SyncPrefectClient) -> None:
        """Read both flow runs once, and act on their states."""
        parent, own = (
            client.read_flow_run(self._parent_flow_run_id).state,
            client.read_flow_run(self._form_flow_run_id).state,
        )
        for state in (parent, own):
            if state is not None and state.type in {StateType.CANCELLING, StateType.CANCELLED}:
                self._stop_token.request_stop("cancelled in Prefect")
                return
        if own is None or own.is_final() or own.is_paused():
            return
        if self._response_key:  # the flow run was resumed
            answer = _read_form_answer(client, self._form_flow_run_id, self._response_key)
            self._response_key, self._is_form_needed = "", answer is None
            if answer is not None:
                self._answers.append(answer)
        if self._is_form_needed:
            self._pause_on_form(client)

    def _pause_on_form(self, client: SyncPrefectClient) -> None:
        """Pause the flow run on the form. Prefect gets no time limit: the records decide when the approval expires."""
        state: State[Any] = Paused(pause_key=f"{self._pending.digest[:12]}-{secrets.token_hex(4)}", reschedule=False)
        keys = keyset_from_paused_state(state)
        state.state_details.run_input_keyset = {str(name): key for name, key in keys.items()}
        state.message = describe_plan(self._pending.planned)
        planned = self._pending.planned
        zone = planned.run.window.zone if planned.run.window else "UTC"
        again = f"**Not accepted: {escape_markdown(self._rejection_reason)}.**\n\n" if self._rejection_reason else ""
        until = escape_markdown(format_moment(self._pending.expires_at, zone))
        artifacts = "The plan is among the artifacts of this flow run."
        link = build_approval_url(planned.run.id, read_web_url())
        page = f" [Open its page]({link})." if link else ""
        form = ApprovalForm.with_initial_data(
            description=f"{again}{describe_plan(planned)}.\n\nUntil {until}. {artifacts}{page}"
        )
        # Saved before the pause, so that the paused form always has its fields.
        form.save(keys, flow_run_id=self._form_flow_run_id)
        accepted = client.set_flow_run_state(self._form_flow_run_id, state)
        if accepted.state is not None and accepted.state.is_paused():
            self._response_key, self._is_form_needed = keys["response"], False

    def _publish_plan(self, client: SyncPrefectClient) -> None:
        """Add the plan to the artifacts of the form's flow run."""
        planned = self._pending.planned
        zone = planned.run.window.zone if planned.run.window else "UTC"
        text = render_plan_markdown(planned, self._pending.digest, format_moment(self._pending.expires_at, zone))
        about = f"What run {planned.run.id} would do"
        rows, rows_are = limit_table(build_machine_table(planned), f"{about}: machines")
        shown = (("plan", "markdown", text, f"{about}: plan"), ("machines", "table", json.dumps(rows), rows_are))
        for name, kind, data, description in shown:
            key, of = f"fleetpatch-approval-{name}", self._form_flow_run_id
            client.create_artifact(
                ArtifactCreate(key=key, type=kind, data=data, description=description, flow_run_id=of)
            )

    def _close_earlier_forms(self, client: SyncPrefectClient) -> None:
        """Collect answers that no process has read yet, and close forms that are no longer needed."""
        same = FlowRunFilter(name=FlowRunFilterName(any_=[f"approval of {self._pending.planned.run.id}"]))
        forms = read_all_pages(
            lambda limit, offset: client.read_flow_runs(flow_run_filter=same, limit=limit, offset=offset)
        )
        prefix = f"paused-{self._pending.digest[:12]}-"
        for form in forms:
            run_inputs = client.filter_flow_run_input(form.id, key_prefix=prefix, limit=100, exclude_keys=set())
            for run_input in run_inputs:
                if run_input.key.endswith("-response") and not self._answers:
                    answer = _read_form_answer(client, form.id, run_input.key)
                    if answer is not None:
                        self._answers.append(answer)
                        self._is_form_needed = False
            if form.id != self._form_flow_run_id and (form.state is None or not form.state.is_final()):
                client.set_flow_run_state(form.id, Cancelled(message="asked again in another flow run"), force=True)


def _read_form_answer(client: SyncPrefectClient, of: UUID, key: str) -> ApprovalAnswer | None:
    """Return the answer in the form; None if the flow run was resumed without the form."""
    try:
        value = json.loads(client.read_flow_run_input(flow_run_id=of, key=key))
        form = ApprovalForm.model_validate(value)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return None
    except (ValueError, RecursionError) as error:  # no JSON, or not the form
        logger.warning("an answer in Prefect can't be read: %s", error)
        return None
    return ApprovalAnswer(form.decision == "approve", form.name, form.remark)
