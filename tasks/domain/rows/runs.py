"""A run as lists show it, its machines, what they do now, and the results of updates."""

from datetime import datetime
from typing import Annotated

from tasks.domain.model import RunInfo
from tasks.domain.rows.columns import Column, row
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState


@row
class RunWindow:
    """The window of a run."""

    start: Annotated[datetime, Column("When it opens.", json_name="startDateTime")]
    end: Annotated[datetime, Column("When it closes.", json_name="endDateTime")]
    zone: Annotated[str, Column("Its time zone.", json_name="timeZone")]


@row
class RunRow:
    """A run."""

    run_id: Annotated[str, Column("The run.", heading="run", json_name="maintenanceRunId")]
    kind: Annotated[str, Column("What it does: patch, stage, plan or assess.")]
    state: Annotated[OperationState, Column("Its state.", json_name="status")]
    scope: Annotated[str, Column("The machines that it was to select.")]
    configuration: Annotated[str | None, Column("The configuration that it is of; null: it is of none.")]
    site: Annotated[str, Column("The site whose machines it may reach.")]
    started_by: Annotated[str, Column("Who started it.", heading="by")]
    started_at: Annotated[datetime, Column("When it began.", heading="started (UTC)", json_name="startDateTime")]
    ended_at: Annotated[datetime | None, Column("When it ended; null: it has not.", json_name="endDateTime")]
    window: Annotated[RunWindow | None, Column("Its window; null: it has none.", json_name="maintenanceWindow")]
    flow_run_id: Annotated[str, Column('Its flow run in Prefect; "": it has none.')]
    version: Annotated[str, Column('The version of fleetpatch that executed it last; "": unknown.')]
    prefect_version: Annotated[str, Column('The version of Prefect there; "": unknown.')]
    message: Annotated[str, Column("What became of it, in words.", is_prose=True)]

    @property
    def seconds(self) -> float | None:
        """How long it lasted, with all waiting; None if it has not ended."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at is not None else None

    @property
    def zone(self) -> str:
        """The time zone of its window; "" without one."""
        return self.window.zone if self.window is not None else ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended. Then its figures do not change any more."""
        return self.state not in UNFINISHED_RUN_STATES


def build_run_row(run: RunInfo) -> RunRow:
    """Return the row of a run."""
    window = run.window
    return RunRow(
        run_id=run.id,
        kind=run.kind,
        state=run.state,
        scope=run.scope,
        configuration=str(run.request.get("configuration") or "") or None,
        site=run.site,
        started_by=run.started_by,
        started_at=run.started_at,
        ended_at=run.ended_at,
        window=RunWindow(start=window.start, end=window.end, zone=window.zone) if window is not None else None,
        flow_run_id=run.flow_run_id,
        version=run.version,
        prefect_version=run.prefect_version,
        message=run.message,
    )


@row
class ShardRow:
    """A part of a run of several sites, or of very many machines, which another run carries out at their site."""

    run_id: Annotated[str, Column("The run that carries it out.", heading="part", json_name="maintenanceRunId")]
    site: Annotated[str, Column("The site of its machines.")]
    kind: Annotated[str, Column("What it does: patch, stage, plan or assess.")]
    wave: Annotated[int | None, Column("The number of its wave; null: it only plans or assesses.")]
    machines: Annotated[int, Column("How many machines it has.", unit="count", json_name="machineCount")]
    state: Annotated[OperationState, Column("Its state.", json_name="status")]
    started_at: Annotated[
        datetime | None, Column("When it began; null: it has not.", heading="began (UTC)", json_name="startDateTime")
    ]
    ended_at: Annotated[
        datetime | None, Column("When it ended; null: it has not.", heading="ended (UTC)", json_name="endDateTime")
    ]
    silent_since: Annotated[
        datetime | None,
        Column(
            "Since when nothing is heard of it, while it is not over; null: it is heard.",
            heading="silent since (UTC)",
            json_name="silentSinceDateTime",
        ),
    ]
    message: Annotated[str, Column("What became of it, in words.", is_prose=True)]


@row
class MachineStepRow:
    """What a machine of an unfinished run does now."""

    machine: Annotated[str, Column('The machine; "" is the run itself.', json_name="machineName")]
    step: Annotated[str, Column("The step that it is at.")]
    state: Annotated[str, Column("The state of that step.", json_name="status")]
    fraction: Annotated[float | None, Column("How much of it is done, from 0 to 1; null: not known.", unit="share")]
    message: Annotated[str, Column("What it does, in words.", is_prose=True)]
    since: Annotated[datetime, Column("When the step began.", json_name="sinceDateTime")]
    at: Annotated[datetime, Column("When the run wrote this.", json_name="dateTime")]


@row
class MachineResultRow:
    """The result of a machine in a run."""

    run_id: Annotated[str, Column("The run.", json_name="maintenanceRunId")]
    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    state: Annotated[str, Column("Its state.", json_name="status")]
    reason: Annotated[str, Column("Why it has this state.", is_prose=True)]
    reboot: Annotated[str, Column("What became of its reboot.", json_name="rebootStatus")]
    wave: Annotated[int | None, Column("The number of its wave; null: it was in none.")]
    started_at: Annotated[datetime | None, Column("When its first step began.", json_name="startDateTime")]
    ended_at: Annotated[datetime | None, Column("When its last step ended.", json_name="endDateTime")]
    window_exceeded_seconds: Annotated[
        float,
        Column("How long it worked after the window.", unit="seconds", json_name="maintenanceWindowExceededSeconds"),
    ]
    updates_installed: Annotated[int, Column("Updates installed.", unit="count", json_name="installedPatchCount")]
    updates_failed: Annotated[int, Column("Updates that failed.", unit="count", json_name="failedPatchCount")]

    @property
    def seconds(self) -> float | None:
        """From its first step to its end, with all waiting between its steps; None if the run did not work on it."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


@row
class OutcomeRow(MachineResultRow):
    """The result of a machine in a run with all counts, as the table ``outcomes`` of queries has it."""

    updates_pending: Annotated[
        int, Column("Updates pending or not attempted.", unit="count", json_name="pendingPatchCount")
    ]
    updates_setup_failed: Annotated[
        int, Column("Updates whose packages are not set up.", unit="count", json_name="setupFailedPatchCount")
    ]
    updates_blocked: Annotated[
        int, Column("Updates that it can't install.", unit="count", json_name="blockedPatchCount")
    ]
    updates_excluded: Annotated[
        int, Column("Updates that the request excludes.", unit="count", json_name="excludedPatchCount")
    ]
    updates_not_selected: Annotated[
        int, Column("Updates that the request does not select.", unit="count", json_name="notSelectedPatchCount")
    ]
    error_kind: Annotated[str, Column('The kind of its error; "": it has none.')]


@row
class UpdateResultRow:
    """The result of an update on a machine, as the table ``update_results`` of queries has it."""

    run_id: Annotated[str, Column("The run.", json_name="maintenanceRunId")]
    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    update_id: Annotated[str, Column("Its id on the machine.", json_name="patchId")]
    name: Annotated[str, Column("Its name.", json_name="patchName")]
    arch: Annotated[str, Column('Its architecture; "": it has none.', json_name="architecture")]
    classification: Annotated[str, Column("Its classification.", json_name="classifications", is_list_in_json=True)]
    state: Annotated[str, Column("Its state.", json_name="installationState")]
    reason: Annotated[str, Column("Why it has this state.", is_prose=True)]
    installed: Annotated[str | None, Column("The version before; null: none was.", json_name="versionBefore")]
    available: Annotated[str, Column("The version that was available.", json_name="version")]
    version_after: Annotated[str | None, Column("The version afterwards; null: not known.")]
    kb: Annotated[str, Column('Its KB number; "": it has none.', json_name="kbId")]
