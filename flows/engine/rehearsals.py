"""The rehearsals of a run, between its plan and its approval: on which copies, what they mean for its machines."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from functools import cache
from typing import Final

from pydantic import TypeAdapter, ValidationError

from flows.engine.machine_work import is_under_way
from flows.engine.resume_state import ResumeState
from flows.ports.ports import Ports
from flows.request.patch_request import PatchRequest
from inventory.addresses import canonicalize_address
from inventory.machine import TransportKind
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import OperationState, Step
from tasks.records.measures import compute_measures
from tasks.rules.copy_network import describe_reach, explain_unreached
from tasks.rules.rehearsal import (
    OVERLAY_ACT,
    Rehearsal,
    RehearsalGroup,
    RehearsalVerdict,
    apply_to_plan,
    choose_groups,
    describe_rehearsal,
    explain_no_start,
    judge_copy,
    list_rehearsed,
    measure_phases,
    select_copy_checks,
)
from tasks.steps.context.journal import build_unreadable_error
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.rehearsal import delete_copy, patch_copy, require_no_copy, start_copy

REHEARSE_ACT: Final = "rehearse"
"""The act of entries with the result of a rehearsal; their key is the machine that was copied."""
_MAX_AT_ONCE: Final = 4

logger = logging.getLogger(__name__)


def rehearse_machines(
    ports: Ports,
    request: PatchRequest,
    resume_state: ResumeState | None,
    contexts: Sequence[MachineContext],
    stop_on_records_error: Callable[[RecordsError], None],
) -> tuple[str, ...]:
    """Rehearse for the machines of a run, halt those that may not begin, and return the notes for its report.

    Plans that were rehearsed get the minutes that were measured. The results of an earlier process of the run count,
    and copies that it has left are deleted first.
    """
    rehearsals = _RunRehearsals(ports, request, sorted(contexts, key=lambda context: context.state.wave or 0))
    try:
        rehearsals.restore(resume_state.journal.get("", ()) if resume_state is not None else ())
        rehearsals.execute()
    except RecordsError as error:
        stop_on_records_error(error)
    try:
        rehearsals.apply()
    except RecordsError as error:
        stop_on_records_error(error)
    return rehearsals.describe()


class _RunRehearsals:
    """The rehearsals of one run.

    Args:
        contexts: the machines that the run has still to finish, in the order of its waves.
    """

    def __init__(self, ports: Ports, request: PatchRequest, contexts: Sequence[MachineContext]) -> None:
        self._ports, self._request = ports, request
        self._contexts = {context.name: context for context in contexts}
        self._results: dict[str, Rehearsal] = {}  # by the machine that was copied
        self._copies: dict[str, str] = {}  # the machine of each copy that may exist, by the id of the copy
        self._copy_count = 0
        self._problems: list[str] = []

    def restore(self, entries: Sequence[JournalEntry]) -> None:
        """Take the results over that an earlier process of the run left, and delete its copies.

        Raises:
            RecordsError: an entry can't be understood, or none can be stored.
        """
        for entry in entries:
            if entry.act == REHEARSE_ACT:
                try:
                    self._results[entry.key] = _get_adapter().validate_python(entry.detail, strict=False)
                except ValidationError as error:
                    raise build_unreadable_error(entry, "a rehearsal", error) from error
            elif entry.act == OVERLAY_ACT and entry.mark is JournalMark.BEFORE:
                self._copies[entry.key] = str(entry.detail.get("machine", ""))
                self._copy_count += 1
            elif entry.act == OVERLAY_ACT:
                self._copies.pop(entry.key, None)
        for overlay_id, name in list(self._copies.items()):
            context = self._contexts.get(name)
            if context is None:
                self._problems.append(f"the copy {overlay_id} of {name} may still be there: this run has ended for it")
                continue
            self._delete(context, overlay_id)
            end = "may still be there" if overlay_id in self._copies else "is deleted"
            message = f"the copy {overlay_id} of an earlier process {end}"
            self._ports.listener.on_step_finished(name, Step.ASSESS, OperationState.SUCCEEDED.value, message)

    def execute(self) -> None:
        """Rehearse on a copy of a machine of each group that has no result yet.

        Raises:
            RecordsError: nothing can be stored.
        """
        known = {name for result in self._results.values() for name in result.group.stands_for}
        waiting = {
            name: context.plan
            for name, context in self._contexts.items()
            if name not in known and _may_begin(context) and context.state.plan is not None
        }
        with_provider = {name for name in waiting if self._contexts[name].state.machine.provider}
        groups = choose_groups(waiting, self._ports.inventory.sets, with_provider)
        left = max(0, self._request.rehearse.at_most - len(self._results))
        for group in groups[left:]:
            reason = f"the run rehearses on at most {self._request.rehearse.at_most} machines"
            self._results[group.machine] = Rehearsal(group, RehearsalVerdict.NOT_POSSIBLE, reason)
        if not groups[:left]:
            return
        workers = min(_MAX_AT_ONCE, self._request.waves.at_once, left)
        with ThreadPoolExecutor(workers, thread_name_prefix="rehearsal") as pool:
            futures = [pool.submit(copy_context().run, self._rehearse, group) for group in groups[:left]]
            for future in futures:
                future.result()

    def apply(self) -> None:
        """Give the plans the minutes of their rehearsals, and halt the machines that may not begin.

        Raises:
            RecordsError: what was learned of a machine can't be read.
        """
        results = {name: result for result in self._results.values() for name in result.group.stands_for}
        for name, context in self._contexts.items():
            result, plan = results.get(name), context.state.plan
            if plan is None or not plan.chosen or not _may_begin(context):
                continue
            if result is None:  # stopped before its rehearsal: nothing begins without it
                reason = "its rehearsal was not made: the run was asked to stop"
            else:
                context.state = replace(context.state, plan=apply_to_plan(result, plan))
                reason = explain_no_start(result, plan, is_required=self._request.rehearse.strict)
            if reason:
                context.state = replace(context.state, halted=reason, halted_as=OperationState.NOT_STARTED)
            elif result is not None:
                context.adopt_rehearsed(result.measures, is_own=name == result.group.machine)

    def describe(self) -> tuple[str, ...]:
        """Return the notes for the report."""
        return (*map(describe_rehearsal, self._results.values()), *self._problems)

    def _rehearse(self, group: RehearsalGroup) -> None:
        """Rehearse for a group, and store the result. A rehearsal that a request to stop has cut short has none."""
        context, stop_token = self._contexts[group.machine], self._ports.stop_token
        if stop_token.is_stopping:
            return
        self._ports.listener.on_message(f"rehearsal on a copy of {group.machine} begins")
        try:
            result = self._rehearse_on_copy(group, context)
        except RecordsError:
            raise
        except FleetpatchError as error:
            hint = f" ({error.hint})" if error.hint else ""
            result = Rehearsal(group, RehearsalVerdict.NOT_POSSIBLE, f"{error.message}{hint}")
        except Exception as error:
            logger.exception("%s: its rehearsal failed unexpectedly", group.machine)
            result = Rehearsal(group, RehearsalVerdict.NOT_POSSIBLE, f"{type(error).__name__}: {error}")
        if not stop_token.is_stopping:
            self._record(
                JournalMark.AFTER, REHEARSE_ACT, group.machine, _get_adapter().dump_python(result, mode="json")
            )
            self._results[group.machine] = result
            has_failed = result.verdict is RehearsalVerdict.FAILED
            state = OperationState.FAILED if has_failed else OperationState.SUCCEEDED
            self._ports.listener.on_step_finished(group.machine, Step.ASSESS, state.value, describe_rehearsal(result))

    def _rehearse_on_copy(self, group: RehearsalGroup, context: MachineContext) -> Rehearsal:
        require_no_copy(context)
        self._copy_count += 1
        overlay_id = f"rehearsal-{context.run.id}-{self._copy_count}"
        detail = {"machine": group.machine, "provider": context.state.machine.provider}
        self._record(JournalMark.BEFORE, OVERLAY_ACT, overlay_id, detail)
        self._copies[overlay_id] = group.machine
        machines = self._ports.inventory.machines
        hosts = {machine.name: machine.transport for machine in machines}
        try:
            overlay = start_copy(context, overlay_id)
            if hosts.get(overlay.through) is TransportKind.LOCAL:  # this machine needs no jump
                overlay = replace(overlay, through="")
            outcome = patch_copy(context, overlay)
        finally:
            self._delete(context, overlay_id)
        verdict, reason = judge_copy(outcome, context.plan)
        _, skipped = select_copy_checks((*context.state.machine.pre_checks, *context.state.machine.probes))
        names = {canonicalize_address(machine.address): machine.name for machine in machines}
        notes = (
            f"{overlay.consistency} copy",
            describe_reach(overlay.reaches, names),
            f"checks from the controller were left out: {', '.join(skipped)}" if skipped else "",
        )
        has_passed = verdict is RehearsalVerdict.PASSED
        return Rehearsal(
            group,
            verdict,
            "; ".join(filter(None, (reason, explain_unreached(str(outcome), overlay.reaches)))),
            updates=list_rehearsed(outcome),
            prediction=measure_phases(outcome) if has_passed else None,
            measures=compute_measures(outcome) if has_passed else {},
            reboots=outcome.reboot_result.count if outcome.reboot_result is not None else 0,
            notes=tuple(filter(None, notes)),
        )

    def _delete(self, context: MachineContext, overlay_id: str) -> None:
        """Delete a copy, and record that it is gone. What keeps it is told in the report."""
        try:
            delete_copy(context, overlay_id)
        except RecordsError:
            raise
        except FleetpatchError as error:
            self._problems.append(f"the copy {overlay_id} of {context.name} may still be there: {error.message}")
            return
        self._record(JournalMark.AFTER, OVERLAY_ACT, overlay_id, {"machine": context.name})
        self._copies.pop(overlay_id, None)

    def _record(self, mark: JournalMark, act: str, key: str, detail: Mapping[str, object]) -> None:
        context = next(iter(self._contexts.values()))
        entry = JournalEntry(context.run.id, "", Step.ASSESS, mark, act, key, context.clock.now(), dict(detail))
        context.records.append_entry(entry)


def _may_begin(context: MachineContext) -> bool:
    """Return whether a machine has nothing behind it and no reason to stay as it is."""
    state = context.state
    return state.error is None and not state.halted and not is_under_way(context)


@cache
def _get_adapter() -> TypeAdapter[Rehearsal]:
    return TypeAdapter(Rehearsal)
