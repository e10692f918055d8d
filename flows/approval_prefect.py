"""Approval in Prefect's UI: a flow run of its own that is paused on a form, inside the run that waits.

Not the patch run itself is paused. Prefect takes a deployment's concurrency slot from a run that leaves Running and
never gives it back; the engine of that run can't renew its lease then, and kills it within minutes (prefect 3.8.8:
ReleaseFlowConcurrencySlots, maintain_concurrency_lease). So the parent stays Running, and its part ``approve-plan`` is
what waits, is resumed with the form, and says how it ended.

Prefect is talked to in a thread of its own: when it is away, the records are looked at all the same, and a run that is
to stop hears it at once.
"""

import contextvars
import json
import logging
import secrets
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal
from uuid import UUID

import httpx
import orjson
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import PrefectException, PrefectHTTPStatusError
from prefect.input import RunInput, keyset_from_paused_state
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed, Paused
from pydantic import Field, ValidationError

from flows.approval import NAME_LENGTH, REMARK_LENGTH, moment_said, said
from flows.approval_gate import Desk, NoDesk, Question, Word
from flows.approval_view import headline, machine_table, plan_markdown
from tasks.records.approvals import Answer, Approval
from tasks.reporting.markdown import escape
from tasks.steps.context import Control

logger = logging.getLogger(__name__)

ASK_SECONDS = 2.0
LEAVE_SECONDS = 5.0
_TROUBLE = (httpx.HTTPError, PrefectException, OSError, RuntimeError)

Wait = Callable[[Desk], Approval | None]


class ApprovalForm(RunInput):
    """The form in Prefect's UI."""

    decision: Literal["approve", "reject"] = Field(description="Let the run go on as planned, or end it.")
    name: str = Field(min_length=1, max_length=NAME_LENGTH, description="Your name, for the records and the report.")
    remark: str = Field(default="", max_length=REMARK_LENGTH, description="Anything that should be remembered with it.")


class _Talk:
    """What a question's flow run needs, and what came of it. Handed over beside the flow's parameters."""

    def __init__(self, question: Question, control: Control, wait: Wait) -> None:
        self.question = question
        self.control = control
        self.wait = wait
        self.parent = UUID(str(flow_run.get_id()))
        self.waited = False
        self.approval: Approval | None = None
        self.error: BaseException | None = None

    def have_it(self, desk: Desk) -> None:
        """Wait, once."""
        self.waited = True
        try:
            self.approval = self.wait(desk)
        except BaseException as error:  # noqa: BLE001 - raised again where the gate was called
            self.error = error


_TALK: ContextVar[_Talk] = ContextVar("fleetpatch_approval")


def in_prefect(question: Question, control: Control, wait: Wait) -> Approval | None:
    """Have a question waited for in a flow run of its own, or without one where Prefect can't be asked for it.

    Raises:
        RecordsError: as ``wait`` does.
    """
    talk = _Talk(question, control, wait)
    token = _TALK.set(talk)
    try:
        approve_plan(question.planned.run.id, question.digest[:12], headline(question.planned), return_state=True)
    except _TROUBLE as error:
        logger.warning("the approval of run %s has no form in Prefect: %s", question.planned.run.id, error)
    finally:
        _TALK.reset(token)
    if not talk.waited:
        talk.have_it(NoDesk())
    if talk.error is not None:
        raise talk.error
    return talk.approval


@flow(name="approve-plan", flow_run_name="approval of {run_id}", persist_result=False, validate_parameters=False)
def approve_plan(run_id: str, plan: str, what: str) -> State[None]:  # noqa: ARG001 - shown in the UI
    """Wait for a person's word about a plan. Only ever run as a part of patch_fleet or resume_fleet.

    Args:
        run_id: of the run that waits.
        plan: the beginning of the plan's digest.
        what: the plan in a sentence.
    """
    talk = _TALK.get()
    desk = FormDesk(talk.question, talk.parent, UUID(str(flow_run.get_id())), talk.control)
    with desk:
        talk.have_it(desk)
    return _ended(talk)


def _ended(talk: _Talk) -> State[None]:
    """Return the state that tells the truth about a question."""
    approval, run = talk.approval, talk.question.planned.run
    if approval is None:
        return Cancelled(
            message=f"not waited for any more: {talk.control.reason or talk.error or 'the window is over'}"
        )
    message = said(approval, run.window.zone if run.window else "UTC")
    match approval.answer:
        case Answer.APPROVED:
            return Completed(name="Approved", message=message)
        case Answer.REJECTED:
            return Cancelled(name="Rejected", message=message)
        case _:
            return Failed(name="Expired", message=message)


class FormDesk:
    """A form on a paused flow run, looked after by a thread within a ``with`` block.

    Args:
        question: what is asked.
        parent: the flow run that waits; when it is cancelled, the run is stopped.
        own: the flow run that is paused.
        control: of the run.
    """

    def __init__(self, question: Question, parent: UUID, own: UUID, control: Control) -> None:
        self._question = question
        self._parent = parent
        self._own = own
        self._control = control
        self._over = threading.Event()
        self._words: list[Word] = []
        self._refused = ""
        self._wanted = True  # whether a form is to be shown now
        self._response = ""  # key of the answer to the form that is shown
        self._shown = False
        self._away = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._look_after,), name="approval", daemon=True)

    def __enter__(self) -> "FormDesk":
        """Begin to show the form."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking after it."""
        self._over.set()
        self._thread.join(LEAVE_SECONDS)

    def look(self) -> Word | None:
        """Return an answer, once."""
        return self._words.pop(0) if self._words else None

    def refuse(self, why: str) -> None:
        """Ask again."""
        self._refused, self._wanted = why, True

    def _look_after(self) -> None:
        """Show the form and hear what is said, again and again as long as Prefect comes and goes."""
        run_id = self._question.planned.run.id
        while not self._over.is_set():
            try:
                with get_client(sync_client=True) as client:
                    self._stay(client)
            except _TROUBLE as error:
                if not self._away:
                    logger.warning("Prefect can't be asked for an approval now: %s; the records still can", error)
                self._away = True
            except Exception:
                logger.exception("the form of run %s is given up; the records still can be asked", run_id)
                return
            self._over.wait(ASK_SECONDS)

    def _stay(self, client: SyncPrefectClient) -> None:
        while not self._over.is_set():
            if not self._shown:
                self._show_plan(client)
                self._close_earlier(client)
                self._shown = True
            self._turn(client)
            if self._away:
                logger.info("Prefect is back: the form of run %s is looked at again", self._question.planned.run.id)
                self._away = False
            self._over.wait(ASK_SECONDS)

    def _turn(self, client: SyncPrefectClient) -> None:
        """Look once at the flow runs, and do what they ask for."""
        parent, own = client.read_flow_run(self._parent).state, client.read_flow_run(self._own).state
        for state in (parent, own):
            if state is not None and state.type in {StateType.CANCELLING, StateType.CANCELLED}:
                self._control.stop("cancelled in Prefect")
                return
        if own is None or own.is_final() or own.is_paused():
            return
        if self._response:  # it was resumed
            word = _answer(client, self._own, self._response)
            self._response, self._wanted = "", word is None
            if word is not None:
                self._words.append(word)
        if self._wanted:
            self._pause(client)

    def _pause(self, client: SyncPrefectClient) -> None:
        """Put the flow run on the form. Without a time limit of Prefect's: the records say when it is too late."""
        state: State[Any] = Paused(pause_key=f"{self._question.digest[:12]}-{secrets.token_hex(4)}", reschedule=False)
        keys = keyset_from_paused_state(state)
        state.state_details.run_input_keyset = {str(name): key for name, key in keys.items()}
        state.message = headline(self._question.planned)
        form = ApprovalForm.with_initial_data(description=self._description())
        form.save(keys, flow_run_id=self._own)  # before it is paused: nobody finds a form without fields
        accepted = client.set_flow_run_state(self._own, state)
        if accepted.state is not None and accepted.state.is_paused():
            self._response, self._wanted = keys["response"], False

    def _description(self) -> str:
        planned = self._question.planned
        zone = planned.run.window.zone if planned.run.window else "UTC"
        again = f"**Not taken: {escape(self._refused)}.**\n\n" if self._refused else ""
        until = escape(moment_said(self._question.until, zone))
        return f"{again}{headline(planned)}.\n\nUntil {until}. The whole plan is among the artifacts of this flow run."

    def _show_plan(self, client: SyncPrefectClient) -> None:
        """Put the plan among the artifacts of the flow run with the form."""
        planned = self._question.planned
        zone = planned.run.window.zone if planned.run.window else "UTC"
        text = plan_markdown(planned, self._question.digest, moment_said(self._question.until, zone))
        rows = json.dumps(machine_table(planned))
        for what, kind, data in (("plan", "markdown", text), ("machines", "table", rows)):
            client.create_artifact(
                ArtifactCreate(
                    key=f"fleetpatch-approval-{what}",
                    type=kind,
                    data=data,
                    description=f"What run {planned.run.id} would do: {what}",
                    flow_run_id=self._own,
                )
            )

    def _close_earlier(self, client: SyncPrefectClient) -> None:
        """Take answers that came while nobody was there to hear them, and close forms that nobody looks at any more."""
        run_id = self._question.planned.run.id
        same = FlowRunFilter(name=FlowRunFilterName(any_=[f"approval of {run_id}"]))
        for each in client.read_flow_runs(flow_run_filter=same):
            self._take_earlier(client, each.id)
            if each.id != self._own and (each.state is None or not each.state.is_final()):
                client.set_flow_run_state(each.id, Cancelled(message="asked anew in another flow run"), force=True)

    def _take_earlier(self, client: SyncPrefectClient, earlier: UUID) -> None:
        prefix = f"paused-{self._question.digest[:12]}-"
        found = client.filter_flow_run_input(earlier, key_prefix=prefix, limit=100, exclude_keys=set())
        for each in found:
            if each.key.endswith("-response") and not self._words:
                word = _answer(client, earlier, each.key)
                if word is not None:
                    self._words.append(word)
                    self._wanted = False


def _answer(client: SyncPrefectClient, of: UUID, key: str) -> Word | None:
    """Return what somebody put into the form; None when it was resumed without it."""
    try:
        value = orjson.loads(client.read_flow_run_input(flow_run_id=of, key=key))
        form = ApprovalForm.model_validate(value)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return None
    except (ValidationError, orjson.JSONDecodeError) as error:
        logger.warning("an answer in Prefect can't be read: %s", error)
        return None
    return Word(form.decision == "approve", form.name, form.remark)
