"""The event that a hook gets: a Python object, and JSON with the names of Azure's maintenance events.

Azure's ``Microsoft.Maintenance.PreMaintenanceEvent`` and ``PostMaintenanceEvent`` are Event Grid events: ``id``,
``eventType``, ``eventTime``, ``subject``, ``dataVersion`` and ``data`` with ``correlationId``,
``maintenanceConfigurationId``, ``startDateTime``, ``endDateTime``, ``cancellationCutOffDateTime`` (before only) and
``status`` (after only). Values with the same meaning have the same name here.
"""

from datetime import datetime

from inventory.data_class import dataclass
from tasks.domain.model import Hook, RunReport, Wave, Window
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import HookPoint, OperationState
from tasks.rules.runs.hooks import BEFORE_PLACES
from tasks.rules.runs.outcome import determine_run_state
from tasks.steps.hooks import build_hook_key

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class HookEvent:
    """The event that a hook gets."""

    id: str  # the same for every call of a hook with the same place and subject in a run
    hook: str
    place: HookPoint  # where the hook runs, before or after what
    subject: str  # the machine's name, "wave 2" or "run"
    machines: tuple[str, ...]
    run_id: str
    configuration: str  # the configuration of the run, or ""
    window: Window | None
    at: datetime
    cancel_until: datetime | None  # until when a cancellation prevents the start; only before something
    state: OperationState | None  # the state so far; only after something
    report: RunReport  # the run so far; before and after a machine only the machine's part

    def as_json(self) -> JsonObject:
        """Return the event as JSON data. Times are ISO 8601 in UTC."""
        data: JsonObject = {
            "correlationId": self.run_id,
            "maintenanceConfigurationId": self.configuration,
            "hook": self.hook,
            "place": self.place.value,
            "machines": list(self.machines),
        }
        if self.window is not None:
            data |= {"startDateTime": self.window.start.isoformat(), "endDateTime": self.window.end.isoformat()}
        if self.cancel_until is not None:
            data["cancellationCutOffDateTime"] = self.cancel_until.isoformat()
        if self.state is not None:
            data["status"] = self.state.value
        return {
            "id": self.id,
            "eventType": f"fleetpatch.{'Pre' if self.place in BEFORE_PLACES else 'Post'}MaintenanceEvent",
            "eventTime": self.at.isoformat(),
            "subject": self.subject,
            "dataVersion": "1",
            "data": data,
        }


def build_hook_event(hook: Hook, report: RunReport, subject: str, deadline: Deadline, now: datetime) -> HookEvent:
    """Return the event of a hook. Pure."""
    run, before = report.run, hook.place in BEFORE_PLACES
    machine_names = _find_affected_machines(hook.place, report.waves, subject)
    outcomes = [outcome for outcome in report.outcomes if outcome.machine in machine_names]
    cancel_until = run.window.start if run.window is not None and run.window.start > now else deadline.expires_at
    return HookEvent(
        id=f"{run.id}/{build_hook_key(hook, subject)}",
        hook=hook.name,
        place=hook.place,
        subject=subject,
        machines=machine_names,
        run_id=run.id,
        configuration=str(run.request.get("configuration", "")),
        window=run.window,
        at=now,
        cancel_until=cancel_until if before else None,
        state=determine_run_state(outcomes) if outcomes and not before else None,
        report=report,
    )


def _find_affected_machines(place: HookPoint, waves: tuple[Wave, ...], subject: str) -> tuple[str, ...]:
    if place in {HookPoint.BEFORE_MACHINE, HookPoint.AFTER_MACHINE}:
        return (subject,)
    is_run = place in {HookPoint.BEFORE_RUN, HookPoint.AFTER_RUN}
    return tuple(name for wave in waves if is_run or f"wave {wave.number}" == subject for name in wave.machines)
