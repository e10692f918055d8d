"""Settings of Prefect servers and workers that keep all records. Units and compose files use the same values."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from flows.prefect_api.server_settings import (
    ALLOWED_ORIGINS_VARIABLE,
    BATCH_SETTINGS,
    GUARD_SETTINGS,
    PrefectSetting,
    SettingTarget,
)

CLOSED_JOB_TEMPLATE: Final[Mapping[str, Any]] = {
    "job_configuration": {"stream_output": True},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}
"""The job template of work pools: a flow run may choose nothing of the process that executes it.

Prefect's own template lets each flow run and each deployment choose the command, the environment, and the folder. Then
everybody who may start a run can run any command as the worker, with the worker's environment. With this one, the
server refuses flow runs with job variables (422), and the worker ignores any that it still gets.

It has no ``env``: Prefect's worker (3.8.8, ``from_template_and_values``) merges job variables into an ``env`` of the
template even if no placeholder names them. The environment of the worker is that of its service.
"""


def find_open_variables(template: Mapping[str, Any]) -> Sequence[str]:
    """Return what flow runs may choose of their process: names of job variables, sorted. Pure.

    Prefect replaces an empty base job template by its own.
    """
    configuration, variables = template.get("job_configuration"), template.get("variables")
    if not isinstance(configuration, Mapping) or not isinstance(variables, Mapping):
        return ("command", "env", "working_dir")
    names = set(variables.get("properties") or {})
    if isinstance(configuration.get("env"), Mapping):
        names.add("env")
    if variables.get("additionalProperties") is not False:
        names |= {name for name, value in configuration.items() if "{{" in str(value)}
    return sorted(names)


PREFECT_SETTINGS = (
    *GUARD_SETTINGS,
    *BATCH_SETTINGS,
    # Retention: each task run needs about 15 KB. fleetpatch's own records keep the outcomes; Prefect's retention never
    # deletes from them. By default, Prefect removes only events, and its database grows until schedules stop.
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED",
        "events,flow_runs",
        "Removes old runs as well as old events; otherwise the database grows until the scheduler stalls.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD",
        "7776000",
        "Prefect keeps runs for 90 days (in seconds). fleetpatch keeps its own records longer.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD",
        "P7D",
        "Prefect keeps events for 7 days: they are most of the database.",
    ),
    # No telemetry and no banners.
    PrefectSetting(
        "PREFECT_SERVER_ANALYTICS_ENABLED", "false", "The server sends nothing to Prefect's makers.", SettingTarget.BOTH
    ),
    PrefectSetting(
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY", "false", "Flows send nothing either.", SettingTarget.BOTH
    ),
    PrefectSetting(
        "DO_NOT_TRACK", "1", "Other programs that know this variable send nothing either.", SettingTarget.BOTH
    ),
    PrefectSetting("PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT", "false", "The UI shows no banners."),
    # Workers, and other processes that execute runs.
    PrefectSetting(
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY",
        "30",
        "A run sends a heartbeat every 30 s (the minimum); the default is three minutes.",
        SettingTarget.WORKER,
    ),
    PrefectSetting(
        "PREFECT_TASKS_DEFAULT_NO_CACHE",
        "true",
        "Every task asks its machine; a cached answer would be old.",
        SettingTarget.WORKER,
    ),
)

# `fleetpatch server` computes these from its options.
DATABASE_URL_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
LEGACY_DATABASE_URL_VARIABLE = "PREFECT_API_DATABASE_CONNECTION_URL"
DATABASE_DRIVER_VARIABLE = "PREFECT_SERVER_DATABASE_DRIVER"
HOME_VARIABLE = "PREFECT_HOME"
AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
UI_API_URL_VARIABLE = "PREFECT_SERVER_UI_API_URL"
UI_URL_VARIABLE = "PREFECT_UI_URL"
# Prefect unpacks the UI into its own installation. If that is read-only (a unit, a container), there is no UI, and only
# the log says so. Two servers of one installation overwrite each other's UI.
UI_DIRECTORY_VARIABLE = "PREFECT_SERVER_UI_STATIC_DIRECTORY"
REDIS_URL_VARIABLE = "PREFECT_REDIS_MESSAGING_URL"
DOCKET_URL_VARIABLE = "PREFECT_SERVER_DOCKET_URL"
REDIS_SETTINGS = {
    "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
    "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
}
SECOND_NAMES = {
    "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "PREFECT_SERVER_CSRF_PROTECTION_ENABLED",
    ALLOWED_ORIGINS_VARIABLE: "PREFECT_SERVER_CORS_ALLOWED_ORIGINS",
    UI_API_URL_VARIABLE: "PREFECT_UI_API_URL",
    UI_DIRECTORY_VARIABLE: "PREFECT_UI_STATIC_DIRECTORY",
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "PREFECT_EVENTS_RETENTION_PERIOD",
    "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "PREFECT_MESSAGING_BROKER",
    "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "PREFECT_MESSAGING_CACHE",
}
"""Settings that Prefect knows by two names: the first wins. The environment may have the second one."""
SECRET_VARIABLES = frozenset(
    {
        DATABASE_URL_VARIABLE,
        LEGACY_DATABASE_URL_VARIABLE,
        AUTH_VARIABLE,
        "PREFECT_SERVER_ENCRYPTION_KEY",
        REDIS_URL_VARIABLE,
        DOCKET_URL_VARIABLE,
        "PREFECT_API_AUTH_STRING",
    }
)


def build_environment(part: SettingTarget) -> dict[str, str]:
    """Return the environment variables of servers or of workers."""
    return {setting.name: setting.value for setting in PREFECT_SETTINGS if setting.target in {part, SettingTarget.BOTH}}
