"""Turns what wua_assess.ps1 reports into the package state. Pure."""

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Final

from inventory.name_lists import join_first_names
from tasks.domain.errors import ManagerBusy, ManagerError, RepositoryError
from tasks.domain.model import PackageState, RebootNeed, RepositoryProblem, Update, WaitingFixes
from tasks.domain.protocols.package_manager import FailureCause
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import Classification, YesNoUnknown
from tasks.machines.managers.windows_update.hotpatch import (
    HotpatchMonth,
    HotpatchRecord,
    find_hotpatch_enrolment,
    find_hotpatch_month,
    find_hotpatching,
)
from tasks.machines.managers.windows_update.hresults import RetryClass, explain_code
from tasks.machines.managers.windows_update.offered_updates import (
    UPGRADE_REASON,
    OfferedUpdate,
    drop_superseded,
    find_superseded,
    order_updates,
)
from tasks.machines.managers.windows_update.other_managers import (
    UPDATER_SERVICES,
    AgentsRecord,
    ServiceRecord,
    find_other_managers,
)
from tasks.machines.managers.windows_update.reboot_need import RebootRecord, find_windows_reboot_need, predict_reboot
from tasks.machines.managers.windows_update.records import (
    BusyRecord,
    CallRecord,
    ErrorRecord,
    SearchRecord,
    SystemRecord,
    parse_first,
    parse_records,
    parse_values,
)
from tasks.machines.managers.windows_update.self_restarts import find_self_restarts
from tasks.machines.managers.windows_update.unseen_fixes import (
    WINDOWS_UPDATE,
    PolicyRecord,
    ProductsRecord,
    SourceSurvey,
    TimeRecord,
    describe_update_source,
    find_source_remarks,
    find_unseen_fixes,
)
from tasks.machines.managers.windows_update.update_history import (
    HistoryEntry,
    RemovalRecord,
    add_removals,
    explain_failing_updates,
    find_blameless_failures,
    find_repeated_updates,
)
from tasks.rules.runs.reboot_decision import find_uptime

MANAGER_NAME: Final = "windows-update"
SUCCEEDED_WITH_ERRORS: Final = 3
ACCESS_DENIED: Final = 0x80070005

_CBS_AT_WORK: Final = 2
_MAX_WARNINGS: Final = 20
CUMULATIVE_CLASSES: Final = (Classification.SECURITY, Classification.UPDATE_ROLLUP, Classification.UPDATES)
"""The classifications of cumulative updates. They need the servicing stack, or are not even offered without it."""
_INPUT_REASON: Final = "it may ask a person something while it is installed"


def parse_windows_assessment(result: ScriptResult) -> PackageState:
    """Return the package state.

    Raises:
        ManagerBusy: another installation keeps the agent from searching.
        RepositoryError: the update server can't be used.
        ManagerError: the agent can't be used.
        ProtocolViolation: a record is malformed.
    """
    policy = parse_values(result, "policy")
    system = parse_first(SystemRecord, result, "system") or SystemRecord(at=1)
    source = describe_update_source(policy, system)
    searches = require_search(result, source)
    records = parse_records(OfferedUpdate, result.find_records("update"))
    missing = drop_superseded(record for record in records if not record.installed)
    offered = order_updates(offered_update for offered_update in missing if not offered_update.reboot_required)
    waiting = tuple(record for record in records if record.reboot_required)
    history = parse_records(HistoryEntry, result.find_records("history"))
    hotpatch = parse_first(HotpatchRecord, result, "hotpatch")
    month = find_hotpatch_month(hotpatch, system)
    removals = parse_records(RemovalRecord, result.find_records("removal"))
    tries = add_removals(history, [removal for removal in removals if (removal.at or 0) <= system.at], offered)
    failed = explain_failing_updates(offered, tries)
    ids = frozenset(offered_update.id for offered_update in offered)
    updates = tuple(
        replace(_build_update(offered_update, source, ids, month), given_up=failed.get(offered_update.id, ""))
        for offered_update in offered
    )
    managers = find_other_managers(
        policy,
        parse_first(AgentsRecord, result, "agents"),
        parse_records(ServiceRecord, result.find_records("service")),
        system,
    )
    policies = parse_first(PolicyRecord, result, "policy")
    survey = SourceSurvey(
        policy=policy,
        unread=None if policies is None else policies.unread,
        is_refreshed=all(search.online for search in searches),
        searched=parse_first(TimeRecord, result, "searched"),
        system=system,
        running=parse_first(TimeRecord, result, "running_update"),
        products=parse_first(ProductsRecord, result, "products"),
        offered=(*offered, *waiting, *(record for record in records if record.installed)),
        history=history,
    )
    busy = parse_first(BusyRecord, result, "busy") or BusyRecord()
    is_servicing, installer = busy.servicing == _CBS_AT_WORK, "Windows Installer" if busy.installer else ""
    uptime = find_uptime(system.uptime, system.boot_time, system.at)
    marks = parse_first(RebootRecord, result, "reboot")
    reboot = find_windows_reboot_need(marks, waiting, uptime=uptime)
    return PackageState(
        manager=MANAGER_NAME,
        updates=updates,
        reboot=reboot,
        held=tuple(update.name for update in updates if update.held),
        lock_holder="Windows servicing (TiWorker.exe)" if is_servicing or busy.worker else installer,
        at_work="Windows servicing" if is_servicing else "",
        auto_updaters=managers.updaters,
        unpausable_updaters=managers.unpausable,
        updater_units=UPDATER_SERVICES,
        warnings=(
            *managers.warnings,
            *_find_waiting_upgrades(waiting),
            *(
                f"the history of Windows Update can't be read ({call.entry}: {explain_code(call.hresult).text}): what "
                "failed again and again, and what a boot undid, is not known"
                for call in parse_records(CallRecord, result.find_records("history_error"))
            ),
            *find_repeated_updates(offered, tries),
        ),
        remarks=(*managers.remarks, *find_source_remarks(survey), *find_blameless_failures(offered, tries)),
        waiting=_find_waiting_fixes(records, marks, reboot),
        live_patching=find_hotpatching(hotpatch, system, history),
        hotpatch=find_hotpatch_enrolment(hotpatch, system, history),
        repository_problems=(*_find_search_problems(result, searches, source), *find_unseen_fixes(survey)),
        self_restarts=find_self_restarts(policy, survey.unread, managers.updaters, marks, waiting, offered),
    )


def find_denied_call(result: ScriptResult) -> str:
    """Return which call of the agent Windows has refused to the script, in words; "" if none.

    Raises:
        ProtocolViolation: a record is malformed.
    """
    calls = parse_records(CallRecord, (*result.find_records("search"), *result.find_records("history_error")))
    entry = next((call.entry or "the search" for call in calls if call.denied), "")
    errors = parse_records(ErrorRecord, result.find_records("error"))
    calls_denied = [error.place.partition(",")[0] for error in errors if error.hresult == ACCESS_DENIED]
    entry = entry or next((f"a call {call_name}" for call_name in calls_denied), "")
    return f"Windows refuses {entry} ({explain_code(ACCESS_DENIED).text})" if entry else ""


def require_search(result: ScriptResult, source: str) -> tuple[SearchRecord, ...]:
    """Return the searches. Require that there is one, and that none has failed.

    Raises:
        ManagerBusy: another installation keeps the agent from searching.
        RepositoryError: the update server can't be used.
        ManagerError: the agent can't be used, or did not search.
    """
    searches = parse_records(SearchRecord, result.find_records("search"))
    if not searches:
        raise ManagerError("the Windows Update Agent did not report a search")
    failed = next((search for search in searches if search.result_code not in {2, SUCCEEDED_WITH_ERRORS}), None)
    if failed is None:
        return searches
    code = explain_code(failed.hresult)
    message = f"the Windows Update Agent can't search for updates ({source}): {code.text}"
    if code.cause is FailureCause.LOCK:
        raise ManagerBusy(message)
    if code.cause is FailureCause.FETCH or code.retry is RetryClass.TRANSIENT:
        raise RepositoryError(message, hint=code.remedy)
    raise ManagerError(message, hint=code.remedy)


def _build_update(offered: OfferedUpdate, source: str, candidates: Set[str], month: HotpatchMonth) -> Update:
    """Return an update of the model.

    Of what it replaces, only ``candidates`` are named: the ids of all offered updates.
    """
    reboot = predict_reboot(offered, month)
    name, is_stack = offered.name, offered.is_servicing_stack
    return Update(
        id=offered.id,
        name=name,
        arch="",
        installed=None,
        available=offered.version,
        classification=offered.classification,
        severity=offered.severity,
        origins=(source,),
        cves=tuple(offered.cves) or None,
        size_bytes=offered.download_bytes,
        held=offered.hidden,
        blocked=UPGRADE_REASON if offered.is_upgrade else _INPUT_REASON if offered.user_input else "",
        requires_reboot=reboot.required,
        kb=name if offered.kbs else "",
        # a WSUS server says when it was approved for the machine's group
        published=offered.published_at if source == WINDOWS_UPDATE else None,
        replaces=tuple(
            update_id
            for update_id in map(str.lower, offered.superseded)
            if update_id in candidates and update_id != offered.id
        ),
        changes_boot=reboot.changes_boot,
        advisories=tuple(offered.bulletins),
        updates_manager=is_stack,
        needed_by_classes=CUMULATIVE_CLASSES if is_stack else (),
        title="" if offered.title == name else offered.title,
        optional=offered.optional,
        needs_licence=not offered.eula_accepted,
        reboot_reason=reboot.reason,
        server_deadline=offered.deadline_at,
    )


def _find_waiting_fixes(
    records: Sequence[OfferedUpdate], marks: RebootRecord | None, reboot: RebootNeed
) -> WaitingFixes | None:
    """Return the critical and security updates that wait for their reboot: the agent tells them.

    What supersedes one that is missing has its fixes: the preview of a month, for example. If Windows servicing asks
    for a reboot, and only definitions or drivers wait, or the agent asks for one and tells no update, one of them may
    wait. So it may if the registry could not be read.
    """
    waiting = [record for record in records if record.reboot_required]
    urgent = {record.id for record in records if record.classification.is_urgent and not record.installed}
    older = find_superseded(records)
    names = {
        record.name for record in waiting if record.classification.is_urgent or not urgent.isdisjoint(older[record.id])
    }
    if names:
        return WaitingFixes(tuple(sorted(names)), needs_reboot=True)
    if marks is None or not marks.known:
        return WaitingFixes(needs_reboot=True, is_certain=False)
    is_servicing = marks.servicing or marks.servicing_continues
    is_explained = any(
        not record.is_driver and record.classification is not Classification.DEFINITION for record in waiting
    )
    if reboot.answer is YesNoUnknown.YES and (
        (is_servicing and not is_explained) or (marks.update_agent and not waiting)
    ):
        return WaitingFixes(needs_reboot=True, is_certain=False)
    return None


def _find_waiting_upgrades(waiting: Sequence[OfferedUpdate]) -> tuple[str, ...]:
    """Return a warning about upgrades that others have prepared: a reboot by fleetpatch does not complete them."""
    names = [update.name for update in waiting if update.is_upgrade]
    if not names:
        return ()
    return (
        f"{join_first_names(names)} waits for a reboot as an upgrade to another version of Windows: only a reboot from "
        "Settings, Windows Update, or by what has installed it completes it; any other reboot may undo it",
    )


def _find_search_problems(
    result: ScriptResult, searches: Sequence[SearchRecord], source: str
) -> tuple[RepositoryProblem, ...]:
    """Return what a search that succeeded in part could not read."""
    problems: list[RepositoryProblem] = []
    for warning in parse_records(CallRecord, result.find_records("search_warning"))[:_MAX_WARNINGS]:
        code = explain_code(warning.hresult)
        message = f": {warning.message}" if warning.message else ""
        problems.append(RepositoryProblem(source, f"part of the search failed: {code.text}{message}", code.remedy))
    if not problems and any(search.result_code == SUCCEEDED_WITH_ERRORS for search in searches):
        message = "part of the search failed, and the agent does not say which"
        problems.append(RepositoryProblem(source, message, "Look at Get-WindowsUpdateLog on the machine."))
    return tuple(dict.fromkeys(problems))
