"""Settings with which a server loses records or lets windows pass, as its own API tells them. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from deployments.server.view import ServerView
from tasks.model import Finding
from tasks.states import FindingLevel

LEAST_BATCH: Final = 20  # by default 1; fleetpatch sets 200


@dataclass(frozen=True, slots=True)
class Wrong:
    """A setting that may be wrong.

    Attributes:
        path: in what ``/admin/settings`` answers.
        when: whether a value is wrong.
        words: what comes of it.
    """

    path: str
    when: Callable[[object], bool]
    level: FindingLevel
    words: str
    remedy: str


def judge_settings(view: ServerView) -> Sequence[Finding]:
    """Does the server keep what it is told, and does it do what windows need?"""
    if view.settings is None:
        remedy = "Is a proxy keeping /api/admin from you?"
        return [Finding("settings", FindingLevel.WARN, "the server doesn't tell its settings", remedy)]
    found = [
        Finding("settings", each.level, each.words, each.remedy)
        for each in WRONG
        if (value := view.setting(each.path)) is not None and each.when(value)
    ]
    return found or [Finding("settings", FindingLevel.GOOD, "none that loses records")]


def _one_by_one(value: object) -> bool:
    return isinstance(value, int) and value < LEAST_BATCH


def _off(value: object) -> bool:
    return value is False


_RESTART = "Start it with `fleetpatch server`, whose settings keep all (docs/server.md)."
_SERVICE = "PREFECT_SERVER_SERVICES"
WRONG = (
    Wrong(
        "server.services.scheduler.enabled",
        _off,
        FindingLevel.BLOCK,
        "the scheduler is off: no window will ever begin",
        f"Unset {_SERVICE}_SCHEDULER_ENABLED there, or run `prefect server services start` beside it.",
    ),
    Wrong(
        "server.services.task_run_recorder.enabled",
        _off,
        FindingLevel.BLOCK,
        "the recorder is off: no task run is kept",
        f"Unset {_SERVICE}_TASK_RUN_RECORDER_ENABLED there.",
    ),
    Wrong(
        "server.services.task_run_recorder.batch_size",
        _one_by_one,
        FindingLevel.WARN,
        "task runs are written one by one: a large run loses a third of them",
        _RESTART,
    ),
    Wrong(
        "server.services.triggers.read_batch_size",
        _one_by_one,
        FindingLevel.WARN,
        "automations read events one by one: during a large run they miss some",
        _RESTART,
    ),
    Wrong(
        "server.services.triggers.enabled",
        _off,
        FindingLevel.WARN,
        "automations are off: runs that died stay Running, and nobody is told",
        f"Unset {_SERVICE}_TRIGGERS_ENABLED there.",
    ),
    Wrong(
        "server.services.late_runs.enabled",
        _off,
        FindingLevel.WARN,
        "late runs are not marked: what does not start is not seen",
        f"Unset {_SERVICE}_LATE_RUNS_ENABLED there.",
    ),
    Wrong(
        "server.services.event_persister.enabled",
        _off,
        FindingLevel.WARN,
        "events are not kept: what a run went through is not seen",
        f"Unset {_SERVICE}_EVENT_PERSISTER_ENABLED there.",
    ),
    Wrong(
        "server.services.db_vacuum.enabled",
        lambda value: isinstance(value, list) and "flow_runs" not in value,
        FindingLevel.WARN,
        "old runs are never removed: the database grows until the scheduler stalls",
        _RESTART,
    ),
    Wrong(
        "server.analytics_enabled",
        lambda value: value is True,
        FindingLevel.WARN,
        "it tells Prefect's makers how it is used",
        _RESTART,
    ),
)
