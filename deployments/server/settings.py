"""What a Prefect server and its workers are told, so that they lose no records. Units and compose obey this table."""

from flows.server_settings import BATCHING, Part, Setting

TABLE = (
    *BATCHING,
    # Retention: about 15 KB for each task run. What became of machines is in fleetpatch's own records, which it never
    # touches. Prefect's default removes events alone, and its database grows until schedules stop.
    Setting(
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED",
        "events,flow_runs",
        "Old runs are removed as well as old events; else the database grows until the scheduler stalls.",
    ),
    Setting(
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD",
        "7776000",
        "Runs stay for 90 days in Prefect (seconds). fleetpatch's own records are kept apart, and longer.",
    ),
    Setting(
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD",
        "P7D",
        "Events stay for 7 days: they are most of the database.",
    ),
    # Nobody is told anything.
    Setting("PREFECT_SERVER_ANALYTICS_ENABLED", "false", "Nothing is sent to Prefect's makers.", Part.BOTH),
    Setting("PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY", "false", "Nor by flows.", Part.BOTH),
    Setting("DO_NOT_TRACK", "1", "Nor by whatever else honours this.", Part.BOTH),
    Setting("PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT", "false", "The UI shows your fleet, and no banners."),
    # Workers, and everything else that carries runs out.
    Setting(
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY",
        "30",
        "A run says every 30 s (the least that there is) that it lives; by default only every three minutes.",
        Part.WORKER,
    ),
    Setting(
        "PREFECT_TASKS_DEFAULT_NO_CACHE",
        "true",
        "A machine that is asked twice answers twice; a cached answer would be yesterday's.",
        Part.WORKER,
    ),
)

# What `fleetpatch server` itself works out from its options.
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
DATABASE_OLD = "PREFECT_API_DATABASE_CONNECTION_URL"
DATABASE_DRIVER = "PREFECT_SERVER_DATABASE_DRIVER"
HOME = "PREFECT_HOME"
AUTH = "PREFECT_SERVER_API_AUTH_STRING"
ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
UI_API = "PREFECT_UI_API_URL"
UI = "PREFECT_UI_URL"
# Prefect unpacks the UI into its own installation. Where that can't be written (a unit, a container) it says so in its
# log alone and there is no UI; and two servers of one installation take each other's away.
UI_FILES = "PREFECT_UI_STATIC_DIRECTORY"
REDIS_URL = "PREFECT_REDIS_MESSAGING_URL"
DOCKET_URL = "PREFECT_SERVER_DOCKET_URL"
REDIS = {
    "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
    "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
}
SECRET = frozenset({DATABASE, DATABASE_OLD, AUTH, REDIS_URL, DOCKET_URL, "PREFECT_API_AUTH_STRING"})


def settings_of(part: Part) -> dict[str, str]:
    """Return what a part is told, as an environment."""
    return {each.name: each.value for each in TABLE if each.part in {part, Part.BOTH}}
