"""Records that a run applies a package, before it begins: one run for each package at a time."""

from datetime import datetime

from flows.holding.window_check import judge_request
from flows.request import RunRequest
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import RequestError
from tasks.domain.model import Window
from tasks.records.maintenance import SqlMaintenance
from tasks.records.storage.database import Database
from tasks.rules.maintenance.model import Application, ApplyCause


def applies_package(request: RunRequest) -> bool:
    """Return whether a run with this request applies what is held. Pure.

    A shard is a part of a run that was recorded already.
    """
    if not isinstance(request, PatchRequest) or request.maintenance is None:
        return False
    return not (request.maintenance.only_not_held or request.dry_run or request.download_only or request.shard)


def register_application(
    database: Database,
    request: PatchRequest,
    run_id: str,
    who: str,
    window: Window,
    now: datetime,
    *,
    is_scheduled: bool,
    flow_run_id: str = "",
) -> None:
    """Record that a run applies the package of its group, if anything is held for it.

    A run that installs what nobody has looked at yet applies nothing that is known: the next look finds it installed.

    Args:
        database: the database of the records.
        request: see ``applies_package``.
        run_id: the run.
        who: who starts it.
        window: that of the run.
        now: the present time, aware.
        is_scheduled: whether the schedule of its configuration started it.
        flow_run_id: Prefect's id of the run; "": it has none.

    Raises:
        RecordsError: the records can't be read or written.
        RequestError: another run applies the package, or the run was to apply one that is over. Or maintenance control
            has not started it or has given it up, or another flow run is it.
    """
    hold, maintenance = request.maintenance, SqlMaintenance(database, require_seals=True)
    assert hold is not None  # noqa: S101 - for the type checker
    if hold.application:
        stored = maintenance.find_application(hold.application)  # maintenance control has started the run
        is_own = stored is not None and stored.group == hold.group and stored.flow_run_id in {"", flow_run_id}
        if stored is None or not is_own or not stored.application.is_active:
            unknown = "maintenance control has not started it"
            reason = stored.application.refusal if stored is not None and is_own else unknown
            raise RequestError(
                f"this run may not apply what is held for {hold.group}: {reason}",
                hint="Apply it with `fleetpatch maintenance apply`.",
            )
        maintenance.set_run(hold.application, run_id)
        return
    state = maintenance.read_state(hold.group)
    if state is None or state.package is None:
        return
    cause = ApplyCause.PERSON
    if is_scheduled:
        verdict = judge_request(database, request, window.start, now)
        cause = (verdict.cause if verdict is not None else None) or ApplyCause.SCHEDULE
    number = state.package.number
    application = Application(f"{hold.group}/{number}/{run_id}", number, cause, who, now, run_id)
    maintenance.begin_application(hold.group, application, window.end, flow_run_id)
