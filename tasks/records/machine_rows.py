"""Builds the row of a machine: what its newest answer says is kept in columns, and joined here with everything else.

A new column is a field of ``MachineRow``, and a line here: in ``summarize_answer`` if an answer says it, and in
``build_machine_row`` if not.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from inventory.data_class import dataclass
from inventory.machine import Machine, PatchOwner
from tasks.domain import errors
from tasks.domain.assessment import ErrorInfo
from tasks.domain.compliance import is_answer_current, judge_present_compliance
from tasks.domain.components import InstalledComponent
from tasks.domain.model import Assessment, Facts, HotpatchEnrolment
from tasks.domain.rows.machines import LastRun, MachineRow, NextWindow
from tasks.domain.states import Compliance, FindingLevel, HotpatchStatus, MachineKind, YesNoUnknown
from tasks.records.encoding import codec
from tasks.rules.hotpatch import BaselineCalendar, EnrolmentRequest, find_hotpatch_status, find_machine_baseline
from tasks.rules.machine_checks.findings import explain_level, find_worst_level, judge_readiness
from tasks.rules.machine_checks.packages import describe_live_patching
from tasks.rules.machine_checks.precheck import check_assessment
from tasks.rules.own_updaters import UpdaterRequest, describe_drift, find_installing_updaters
from tasks.rules.updates.effect import judge_effect

_SHOWN_UPDATERS: Final = 20
_KINDS: Final = {kind.value: kind for kind in MachineKind}
_SHOWN_CHARACTERS: Final = 1000
"""Of a sentence that a machine's text is part of."""


@dataclass(frozen=True, slots=True)
class RecordedState:
    """The state of one machine by its newest assessment (see ``machine_states`` in tasks/records/page_schema.py)."""

    machine: str
    run_id: str
    at: datetime
    error_kind: str
    error_message: str
    answered_at: datetime | None
    compliance: str
    critical: int
    security: int
    other: int
    withheld: int
    reboot: str
    reboot_since: datetime | None
    services_to_restart: int
    problems: int
    findings: int
    os_id: str
    os_version: str
    os_name: str
    manager: str
    details: Mapping[str, Any]  # what else the newest answer says, see ``summarize_answer``


@dataclass(frozen=True, slots=True)
class Plans:
    """What configurations plan with a machine."""

    # Of each configuration that may patch it, the next one that no freeze cancels; the first one first.
    windows: Sequence[NextWindow] = ()
    configurations: tuple[str, ...] = ()  # names of the configurations that select it
    is_automatic: bool = False  # whether automatic patching patches it: that is on, and selects it


def summarize_answer(assessment: Assessment) -> dict[str, Any]:
    """Return what an answer says of its machine beside the columns of ``machine_states``, as JSON data.

    A key is the name of a column of ``MachineRow``, unless ``build_machine_row`` takes it for more.
    """
    packages, findings = assessment.packages, check_assessment(assessment)
    if packages is None:
        return {}
    answer, waits_for = judge_effect(packages)
    return {
        **_summarize_facts(assessment.facts),
        "service_names": list(packages.services_to_restart),
        "in_effect": answer.value,
        "waits_for": waits_for[:_SHOWN_CHARACTERS] or None,
        "reboot_mitigated_by": packages.reboot.mitigated_by[:_SHOWN_CHARACTERS] or None,
        "live_patches": describe_live_patching(packages.live_patching)[:_SHOWN_CHARACTERS] or None,
        "own_updaters": list(find_installing_updaters(packages))[:_SHOWN_UPDATERS],
        "hotpatch": codec.encode(packages.hotpatch) if packages.hotpatch is not None else "",
        **({"components": [codec.encode(one) for one in packages.components]} if packages.components else {}),
        "level": find_worst_level(findings).value,
        "reason": explain_level(findings)[:_SHOWN_CHARACTERS],
    }


def _summarize_facts(facts: Facts | None) -> dict[str, Any]:
    if facts is None:
        return {}
    engines = facts.container_engines
    return {
        "kernel": facts.kernel,
        "machine_kind": facts.kind.value,
        "container_engines": list(engines) if engines is not None else None,
        "is_arc": facts.is_arc,
    }


def build_machine_row(
    name: str,
    machine: Machine | None,
    state: RecordedState | None,
    now: datetime,
    *,
    plans: Plans | None,
    last_run: LastRun | None = None,
    enrolment_request: EnrolmentRequest | None = None,
    updater_request: UpdaterRequest | None = None,
    baselines: BaselineCalendar | None = None,
    has_inventory: bool = True,
) -> MachineRow:
    """Return the row of a machine.

    Args:
        name: its name.
        machine: of the inventory; None: it is not there.
        state: by its newest assessment; None: it was never assessed.
        now: the present time.
        plans: what configurations plan with it; None: they were not read.
        last_run: the newest run that may have changed it.
        enrolment_request: what people last asked for with hotpatches.
        updater_request: what people last switched of its own updaters.
        baselines: the days that need a reboot of machines with hotpatches.
        has_inventory: whether there is an inventory.
    """
    answered_at = state.answered_at if state is not None else None
    error_kind, error_message = (state.error_kind, state.error_message) if state is not None else ("", "")
    last_known = Compliance(state.compliance) if state is not None and answered_at is not None else None
    is_current = is_answer_current(answered_at, now, error_kind)
    answer = state if answered_at is not None else None  # of any age
    details = answer.details if answer is not None else {}
    owner = machine.owner if machine is not None else None
    unknown = "never assessed" if answer is None else "assessed by an earlier version"
    level, reason = details.get("level"), details.get("reason", unknown)
    readiness, readiness_reason = judge_readiness(
        FindingLevel(level) if level else None,
        reason,
        error_message=error_message or error_kind,
        patched_by=_OTHERS.get(owner, "") if owner is not None else "",
        doubt="" if machine is not None else "it is not in the inventory" if has_inventory else "there is no inventory",
    )
    own_updaters = tuple(updaters) if (updaters := details.get("own_updaters")) is not None else None
    drift = describe_drift(owner, own_updaters, updater_request)
    if drift and owner in _OTHERS:  # no run tells it, because no run is on the machine
        readiness_reason = f"{readiness_reason}; {drift}"
    hotpatch_status, baseline = _find_hotpatch(details.get("hotpatch", ""), enrolment_request, baselines, now)
    return MachineRow(
        name=name,
        in_inventory=machine is not None if has_inventory else None,
        address=machine.address if machine is not None else None,
        environment=machine.environment if machine is not None else None,
        site=machine.site if machine is not None else None,
        location=machine.location if machine is not None else None,
        availability_zone=machine.availability_zone if machine is not None else None,
        groups=tuple(machine.groups) if machine is not None else None,
        tags=machine.tags if machine is not None else None,
        zone=machine.zone if machine is not None else None,
        owner=owner,
        os_family=machine.os.value if machine is not None else None,
        compliance=judge_present_compliance(last_known or Compliance.NOT_ASSESSED, answered_at, now, error_kind),
        last_known_compliance=last_known,
        is_current=is_current,
        system=(f"{answer.os_id} {answer.os_version}".strip() or None) if answer is not None else None,
        os_id=answer.os_id if answer is not None else None,
        os_version=answer.os_version if answer is not None else None,
        os_name=answer.os_name if answer is not None else None,
        machine_kind=_KINDS.get(details.get("machine_kind", ""), MachineKind.UNKNOWN),
        container_engines=tuple(engines) if (engines := details.get("container_engines")) is not None else None,
        is_arc=details.get("is_arc"),
        manager=answer.manager if answer is not None else None,
        urgent=answer.critical + answer.security if answer is not None else None,
        critical=answer.critical if answer is not None else None,
        security=answer.security if answer is not None else None,
        other=answer.other if answer is not None else None,
        withheld=answer.withheld if answer is not None else None,
        reboot=YesNoUnknown(answer.reboot) if answer is not None and is_current else YesNoUnknown.UNKNOWN,
        reboot_since=answer.reboot_since if answer is not None else None,
        services_to_restart=answer.services_to_restart if answer is not None else None,
        service_names=tuple(names) if (names := details.get("service_names")) is not None else None,
        in_effect=YesNoUnknown(details.get("in_effect", "unknown")) if is_current else YesNoUnknown.UNKNOWN,
        **{column: details.get(column) for column in ("waits_for", "kernel", "reboot_mitigated_by", "live_patches")},
        hotpatch_status=hotpatch_status,
        next_baseline_on=baseline,
        own_updaters=own_updaters,
        updater_drift=drift,
        components=_describe_components(details.get("components", ())) if answer is not None else None,
        problems=answer.problems if answer is not None else None,
        findings=answer.findings if answer is not None else None,
        readiness=readiness,
        readiness_reason=readiness_reason,
        patch_mode=_describe_patch_mode(owner, plans),
        is_automatic=plans.is_automatic if plans is not None else None,
        configurations=plans.configurations if plans is not None else None,
        run_id=state.run_id if state is not None else None,
        answered_at=answered_at,
        tried_at=state.at if state is not None else None,
        error_kind=error_kind or None,
        error_message=error_message or None,
        is_unreachable=bool(error_kind) and ErrorInfo(error_kind, "").is_a(errors.TransportError),
        last_run=last_run,
        next_window=plans.windows[0] if plans is not None and plans.windows else None,
    )


_OTHERS: Final = {PatchOwner.OS: "by its own updater", PatchOwner.MANUAL: "by people"}
"""Who else than fleetpatch patches a machine."""


def _describe_patch_mode(owner: PatchOwner | None, plans: Plans | None) -> str | None:
    """Return who patches a machine, and when, in a few words that follow on "patched"."""
    if owner in _OTHERS:
        return _OTHERS[owner]
    if owner is None or plans is None:
        return None
    if owner is PatchOwner.MANAGED:
        return "automatically" if plans.is_automatic else "when a person starts a run"
    return "in its windows" if plans.configurations else "when a person starts a run"


def _describe_components(documents: Sequence[str]) -> tuple[str, ...]:
    told = (codec.decode(InstalledComponent, document) for document in documents)
    return tuple(
        f"{one.name} {'unknown' if one.problem else 'not installed' if one.version is None else one.version}"
        for one in told
    )


def _find_hotpatch(
    document: str, request: EnrolmentRequest | None, baselines: BaselineCalendar | None, now: datetime
) -> tuple[HotpatchStatus | None, str | None]:
    if not document:
        return None, None
    enrolment = codec.decode(HotpatchEnrolment, document)
    status = find_hotpatch_status(enrolment, request, now.date())
    baseline = find_machine_baseline(enrolment, status, baselines, now.date()) if baselines is not None else None
    return status, baseline.day.isoformat() if baseline is not None else None
