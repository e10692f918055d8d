"""Settings that every Prefect server of fleetpatch gets: who can use it, and the batches in which it reads and writes.

The measured numbers come from runs of this project against Prefect 3.8.8: 1000 to 3000 task runs mapped over 50
threads, on two cores, SQLite and PostgreSQL 15.
"""

from dataclasses import dataclass
from enum import StrEnum

HEALTHY_RESPONSE = b"true"
"""The response of a Prefect server to ``/health``. A proxy's page differs."""


class SettingTarget(StrEnum):
    """The process that needs a setting."""

    SERVER = "server"
    WORKER = "worker"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class PrefectSetting:
    """An environment variable, and why it is set.

    Attributes:
        name: the name that Prefect reads; of several, the first: it wins over the others.
        value: the value, unless the environment already has one.
        reason: why, in one sentence.
        target: the process that needs it.
    """

    name: str
    value: str
    reason: str
    target: SettingTarget = SettingTarget.SERVER


GUARD_SETTINGS = (
    PrefectSetting(
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED",
        "true",
        "A web page can't send requests through your browser: each needs a token that only the UI and clients read.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_EPHEMERAL_ENABLED",
        "false",
        "Without the URL of a server, Prefect would start one without a password, for every user and web page.",
        SettingTarget.BOTH,
    ),
)
"""Settings that keep other users and web pages away from a server. Each server of ours has them, whatever is set."""
EPHEMERAL_MODE_OFF = {GUARD_SETTINGS[1].name: GUARD_SETTINGS[1].value}
ALLOWED_ORIGINS_VARIABLE = "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"
UI_ENABLED_VARIABLE = "PREFECT_SERVER_UI_ENABLED"
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""For each process that starts Prefect's: `python -m` searches modules in the current folder first, where anybody may
have put one (Python's documentation of PYTHONSAFEPATH). Prefect starts a run so."""

BATCH_SETTINGS = (
    # Task runs reach the database through a queue in memory. A full queue (10 000 events) drops new events. With the
    # default of one row for each transaction the recorder writes 10 to 40 a second: 5891 of 9300 task runs ever
    # appeared. In batches it writes more than 350 a second: 5100 of 5100. With this whole table, on SQLite: 3000 of
    # 3000.
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE",
        "200",
        "Task runs are written 200 at a time: one at a time, a large run loses a third of them.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE",
        "200",
        "They are read from the queue as quickly; it drops what comes when it is full.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL",
        "1",
        "An incomplete batch waits for one second, not five: states are seen when they are true.",
    ),
    # Each consumer has its own queue of this kind. Automations that miss events don't see runs that died. The persister
    # is the slowest: 18 s after those 3000 task runs it had stored twice as many events as with its default of one at a
    # time.
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE",
        "200",
        "Automations keep up with a large run's events; else they miss runs that died.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE",
        "200",
        "Events are written 200 at a time: there are three for each task run.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE",
        "200",
        "They are read from their queue as quickly.",
    ),
)
"""Without these settings a server loses a third of a large run's task runs, and uses more than twice the CPU time."""


def names_all_origins(origins: str) -> bool:
    """Return whether a list of origins, with commas between them, lets each web page read the server."""
    return any(origin.strip() == "*" for origin in origins.split(","))
