"""Renders a report as one JSON document with the names of Azure Resource Graph.

The names come from ``patchinstallationresults`` and ``softwarepatches``: status, rebootStatus, installationState,
patchName, classifications, the counts, maintenanceWindowExceeded. Things that Azure does not have (waves, findings,
reasons, predictions) have names in the same style.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from tasks.reports.data.groups import group_rows
from tasks.reports.data.rows import (
    FindingRow,
    HookRow,
    MachineReportRow,
    RunReportRow,
    StepRow,
    Tables,
    TransactionRow,
    UpdateReportRow,
    WaveRow,
)
from tasks.reports.formatting import format_iso_utc

SCHEMA_VERSION: Final = 1
"""The version increases if a key is removed or changes its meaning. New keys do not increase it."""

JsonObject = dict[str, Any]

_REBOOT_BEHAVIORS: Final = {True: "AlwaysRequiresReboot", False: "NeverReboots", None: "CanRequestReboot"}


def build_document(tables: Tables) -> JsonObject:
    """Return the report as JSON data. Datetimes are ISO 8601 in UTC. Text from machines is unchanged."""
    return _build_head(tables) | {"machines": list(_build_machine_objects(tables))}


def render_json_lines(tables: Tables) -> Iterator[str]:
    """Yield the document as text, one line for each machine, for search and diff tools.

    The text is pure ASCII, so it contains no terminal sequences. One machine's part is built at a time.
    """
    yield f'{json.dumps(_build_head(tables), allow_nan=False)[:-1]},\n"machines": [\n'
    before = ""
    for machine in _build_machine_objects(tables):
        yield before + json.dumps(machine, allow_nan=False)
        before = ",\n"
    yield "\n]}\n"


def _build_head(tables: Tables) -> JsonObject:
    return {
        "schema_version": SCHEMA_VERSION,
        "run": _build_run_object(tables.runs[0]),
        "waves": [_build_wave_object(row) for row in tables.waves],
        "hooks": [_build_hook_object(row) for row in tables.hooks],
    }


def _build_machine_objects(tables: Tables) -> Iterator[JsonObject]:
    patches, steps = group_rows(tables.updates), group_rows(tables.timeline)
    transactions, findings = group_rows(tables.transactions), group_rows(tables.findings)
    for row in tables.machines:
        yield _build_machine_object(row) | {
            "patches": [_build_patch_object(update_row) for update_row in patches.get(row.machine, ())],
            "steps": [_build_step_object(update_row) for update_row in steps.get(row.machine, ())],
            "transactions": [_build_transaction_object(update_row) for update_row in transactions.get(row.machine, ())],
            "findings": [_build_finding_object(update_row) for update_row in findings.get(row.machine, ())],
            "keptConfigurationFiles": row.kept_conffiles.split("\n") if row.kept_conffiles else [],
        }


def _build_run_object(row: RunReportRow) -> JsonObject:
    return {
        "maintenanceRunId": row.run_id,
        "kind": row.kind,
        "status": row.state,
        "message": row.message,
        "scope": row.scope,
        "startedBy": row.started_by,
        "flowRunId": row.flow_run_id,
        "startDateTime": format_iso_utc(row.started_at),
        "endDateTime": format_iso_utc(row.ended_at),
        "durationSeconds": row.seconds,
        "maintenanceWindow": _build_window_object(row),
        "request": json.loads(row.request),
        "notes": row.notes.split("\n") if row.notes else [],
        "machineCounts": {
            "total": row.machines,
            "succeeded": row.machines_succeeded,
            "completedWithWarnings": row.machines_warnings,
            "failed": row.machines_failed,
            "inProgress": row.machines_in_progress,
            "notStarted": row.machines_not_started,
            "unknown": row.machines_unknown,
        },
        "rebootCounts": {
            "completed": row.reboots_completed,
            "failed": row.reboots_failed,
            "required": row.reboots_required,
        },
        **_build_update_counts(row),
    }


def _build_window_object(row: RunReportRow) -> JsonObject | None:
    if row.window_start is None:
        return None
    return {
        "startDateTime": format_iso_utc(row.window_start),
        "endDateTime": format_iso_utc(row.window_end),
        "timeZone": row.window_zone,
    }


def _build_update_counts(row: RunReportRow | MachineReportRow) -> JsonObject:
    return {
        "installedPatchCount": row.installed,
        "repairedPackageCount": row.repaired,
        "failedPatchCount": row.failed,
        "setupFailedPatchCount": row.setup_failed,
        "pendingPatchCount": row.pending,
        "blockedPatchCount": row.blocked,
        "excludedPatchCount": row.excluded,
        "notSelectedPatchCount": row.not_selected,
        "notAttemptedPatchCount": row.not_attempted,
        "criticalAndSecurityPatchCount": row.urgent_pending,
    }


def _build_hook_object(row: HookRow) -> JsonObject:
    return {
        "hook": row.hook,
        "place": row.place,
        "subject": row.subject,
        "kind": row.kind,
        "mode": row.mode,
        "succeeded": row.succeeded,
        "message": row.message,
        "startDateTime": format_iso_utc(row.started_at),
        "endDateTime": format_iso_utc(row.ended_at),
        "durationSeconds": row.seconds,
        "target": row.target,
    }


def _build_wave_object(row: WaveRow) -> JsonObject:
    return {
        "number": row.wave,
        "canary": row.canary,
        "machineCount": row.machines,
        "succeededCount": row.succeeded,
        "completedWithWarningsCount": row.warnings,
        "failedCount": row.failed,
        "notStartedCount": row.not_started,
        "startDateTime": format_iso_utc(row.started_at),
        "endDateTime": format_iso_utc(row.ended_at),
        "predictedSeconds": row.predicted_seconds,
    }


def _build_machine_object(row: MachineReportRow) -> JsonObject:
    error = {"code": row.error_kind, "message": row.error_message, "hint": row.error_hint}
    return {
        "machineName": row.machine,
        "wave": row.wave,
        "status": row.state,
        "reason": row.reason,
        "complianceState": row.compliance,
        "startDateTime": format_iso_utc(row.started_at),
        "lastModifiedDateTime": format_iso_utc(row.ended_at),
        "durationSeconds": row.seconds,
        "workedSeconds": row.worked_seconds,
        **_build_update_counts(row),
        "plannedPatchCount": row.planned,
        "rebootStatus": row.reboot,
        "rebootReason": row.reboot_reason,
        "rebootSeconds": row.reboot_seconds,
        "rebootExpected": row.reboot_expected or None,
        "rebootExpectedReason": row.reboot_expected_reason or None,
        "rebootMitigatedBy": row.reboot_mitigated_by or None,
        "livePatches": row.live_patches or None,
        "servicesToRestart": row.services_to_restart.split(", ") if row.services_to_restart else [],
        "maintenanceWindowExceeded": row.window_exceeded,
        "maintenanceWindowExceededSeconds": row.window_exceeded_seconds,
        "predictedSeconds": row.predicted_seconds,
        "predictedLeastSeconds": row.predicted_least_seconds,
        "predictionBasis": row.prediction_basis,
        "osName": row.os_name,
        "osVersion": row.os_version,
        "kernel": row.kernel,
        "kernelBefore": row.kernel_before or None,
        "architecture": row.arch,
        "patchServiceUsed": row.package_manager,
        "errorDetails": {**error, "transient": row.error_transient} if row.error_kind else None,
    }


def _build_patch_object(row: UpdateReportRow) -> JsonObject:
    return {
        "patchId": row.update_id,
        "patchName": row.name,
        "patchTitle": row.title or None,
        "architecture": row.arch,
        "kbId": row.kb or None,
        "versionBefore": row.version_before,
        "version": row.version_available,
        "versionAfter": row.version_after,
        "classifications": [row.classification],
        "severity": row.severity,
        "installationState": row.state,
        "reason": row.reason,
        "planned": row.planned,
        "cves": None if row.cves is None else row.cves.split(),
        "origins": row.origins.split("; ") if row.origins else [],
        "sizeBytes": row.size_bytes,
        "group": row.group,
        "held": row.held,
        "blocked": row.blocked,
        "rebootRequired": row.requires_reboot,
        "rebootBehavior": _REBOOT_BEHAVIORS[row.requires_reboot],
        "publishedDateTime": format_iso_utc(row.published),
        "advisories": row.advisories.split(),
    }


def _build_step_object(row: StepRow) -> JsonObject:
    return {
        "step": row.step,
        "status": row.state,
        "startDateTime": format_iso_utc(row.started_at),
        "endDateTime": format_iso_utc(row.ended_at),
        "durationSeconds": row.seconds,
        "message": row.message,
    }


def _build_transaction_object(row: TransactionRow) -> JsonObject:
    return {
        "number": row.number,
        "patchIds": row.updates.split(),
        "startDateTime": format_iso_utc(row.started_at),
        "endDateTime": format_iso_utc(row.ended_at),
        "durationSeconds": row.seconds,
        "exitCode": row.exit_code,
        "message": row.detail,
        "undo": row.undo,
    }


def _build_finding_object(row: FindingRow) -> JsonObject:
    return {"check": row.check, "level": row.level, "message": row.message, "remedy": row.remedy}
