"""The enrolment of the fleet's machines for hotpatches, as its page and the API show it. Pure."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from fleetpatch.machines.snapshot import FleetSnapshot
from tasks.domain.model import HotpatchEnrolment
from tasks.domain.rows.hotpatch import HotpatchMachineRow
from tasks.domain.rows.machines import MachineRow
from tasks.domain.states import YesNoUnknown
from tasks.records.encoding import codec
from tasks.records.machine_rows import RecordedState
from tasks.rules.hotpatch import WINDOWS_PROVIDER, BaselineCalendar, EnrolmentRequest, find_reboot_expectation


def build_hotpatch_machine_row(
    machine: MachineRow,
    state: RecordedState | None,
    request: EnrolmentRequest | None,
    calendar: BaselineCalendar,
    today: date,
) -> HotpatchMachineRow:
    """Return the row of a machine. Pure.

    Args:
        machine: its row in other lists.
        state: by its newest assessment; None: it was never assessed.
        request: what people last asked for.
        calendar: the baselines.
        today: the present day.
    """
    document = state.details.get("hotpatch", "") if state is not None and state.answered_at is not None else ""
    enrolment = codec.decode(HotpatchEnrolment, document) if document else None
    return HotpatchMachineRow(
        name=machine.name,
        owner=machine.owner,
        system=machine.system,
        machine_kind=machine.machine_kind,
        is_container_host=_to_answer(machine.container_engines),
        is_arc=_to_answer(machine.is_arc),
        hotpatch_status=machine.hotpatch_status,
        provider=enrolment.provider if enrolment is not None else None,
        means=(enrolment.means or None) if enrolment is not None else None,
        next_baseline_on=machine.next_baseline_on,
        reboot_expected=find_reboot_expectation(enrolment, machine.hotpatch_status, calendar, today),
        lacks=_list_lacks(enrolment),
        last_action=request.action.value if request is not None else None,
        last_by=request.by if request is not None else None,
        last_at=request.at if request is not None else None,
        last_failure=(request.failure or None) if request is not None else None,
        **_find_releases(enrolment, calendar, today),
    )


def _to_answer(value: object) -> YesNoUnknown:
    if value is None:
        return YesNoUnknown.UNKNOWN
    return YesNoUnknown.YES if value else YesNoUnknown.NO


def _list_lacks(enrolment: HotpatchEnrolment | None) -> tuple[str, ...]:
    prerequisites = enrolment.prerequisites if enrolment is not None else ()
    return tuple(
        f"{finding.message}. {finding.remedy}" if finding.remedy else finding.message
        for finding in prerequisites
        if finding.level.is_problem
    )


def _find_releases(enrolment: HotpatchEnrolment | None, calendar: BaselineCalendar, today: date) -> dict[str, Any]:
    if enrolment is None or enrolment.provider != WINDOWS_PROVIDER:
        return {"is_baseline_month": None, "next_release_on": None, "next_release_is_baseline": None}
    newest_baseline = calendar.find_newest_release(today, enrolment.product)[1]
    day, next_baseline = calendar.find_next_release(today, enrolment.product)
    return {
        "is_baseline_month": newest_baseline is not None,
        "next_release_on": day.isoformat(),
        "next_release_is_baseline": next_baseline is not None,
    }


def list_hotpatch_machines(
    snapshot: FleetSnapshot, machines: Iterable[MachineRow], today: date
) -> list[HotpatchMachineRow]:
    """Return the rows of machines of a snapshot, in their order."""
    rows, calendar = snapshot.rows, snapshot.baselines or BaselineCalendar()
    return [
        build_hotpatch_machine_row(
            machine, rows[machine.name].state, rows[machine.name].enrolment_request, calendar, today
        )
        for machine in machines
    ]
