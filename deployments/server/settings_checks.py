"""Checks for server settings that let others in, lose records or miss windows. No I/O."""

from collections.abc import Callable, Sequence
from typing import Final

from deployments.server.snapshot import ServerSnapshot
from flows.prefect_api.server_settings import names_all_origins
from inventory.data_class import dataclass
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel

MIN_BATCH_SIZE: Final = 20  # Prefect's default is 1; fleetpatch sets 200


_RESTART_HINT: Final = "Start it with `fleetpatch server` (docs/how-to/server.md)."


@dataclass(frozen=True, slots=True)
class SettingRule:
    """A rule for one setting."""

    path: str  # dotted path in the answer of ``/admin/settings``
    is_wrong: Callable[[object], bool]  # returns whether a value is wrong
    message: str  # the effect of a wrong value
    remedy: str = _RESTART_HINT
    level: FindingLevel = FindingLevel.WARN


def check_settings(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Return a finding for each setting that lets others in, loses records or misses windows."""
    if snapshot.settings is None:
        remedy = "Check whether a proxy blocks /api/admin."
        return [Finding("settings", FindingLevel.WARN, "the server does not show its settings", remedy)]
    findings = [
        Finding("settings", rule.level, rule.message, rule.remedy)
        for rule in SETTING_RULES
        if (value := snapshot.get_setting(rule.path)) is not None and rule.is_wrong(value)
    ]
    return findings or [Finding("settings", FindingLevel.GOOD, "no setting lets others in or loses records")]


def _is_batch_too_small(value: object) -> bool:
    return isinstance(value, int) and value < MIN_BATCH_SIZE


def _is_off(value: object) -> bool:
    return value is False


_SERVICE_PREFIX = "PREFECT_SERVER_SERVICES"
SETTING_RULES = (
    SettingRule(
        "server.api.csrf_protection_enabled",
        _is_off,
        "the protection against forged requests is off: a web page can start runs through your browser",
        level=FindingLevel.BLOCK,
    ),
    SettingRule(
        "server.api.cors_allowed_origins",
        lambda value: isinstance(value, str) and names_all_origins(value),
        "every web page may read the server through your browser",
        level=FindingLevel.BLOCK,
    ),
    SettingRule(
        "server.services.scheduler.enabled",
        _is_off,
        "the scheduler is off: no window opens",
        f"Unset {_SERVICE_PREFIX}_SCHEDULER_ENABLED there, or run `prefect server services start` beside it.",
        level=FindingLevel.BLOCK,
    ),
    SettingRule(
        "server.services.task_run_recorder.enabled",
        _is_off,
        "the recorder is off: the server keeps no task run",
        f"Unset {_SERVICE_PREFIX}_TASK_RUN_RECORDER_ENABLED there.",
        level=FindingLevel.BLOCK,
    ),
    SettingRule(
        "server.services.task_run_recorder.batch_size",
        _is_batch_too_small,
        "task runs are written one by one: a large run loses a third of them",
    ),
    SettingRule(
        "server.services.triggers.read_batch_size",
        _is_batch_too_small,
        "automations read events one by one: during a large run they miss some",
    ),
    SettingRule(
        "server.services.triggers.enabled",
        _is_off,
        "automations are off: dead runs stay Running",
        f"Unset {_SERVICE_PREFIX}_TRIGGERS_ENABLED there.",
    ),
    SettingRule(
        "server.services.late_runs.enabled",
        _is_off,
        "late runs are not marked: you do not see runs that do not start",
        f"Unset {_SERVICE_PREFIX}_LATE_RUNS_ENABLED there.",
    ),
    SettingRule(
        "server.services.event_persister.enabled",
        _is_off,
        "events are not kept: the history of runs is lost",
        f"Unset {_SERVICE_PREFIX}_EVENT_PERSISTER_ENABLED there.",
    ),
    SettingRule(
        "server.services.db_vacuum.enabled",
        lambda value: isinstance(value, list) and "flow_runs" not in value,
        "old runs are never removed: the database grows until the scheduler stalls",
    ),
    SettingRule(
        "server.analytics_enabled", lambda value: value is True, "the server sends usage data to Prefect's makers"
    ),
)
