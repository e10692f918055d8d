"""Builds table rows from model objects: columns for searches, and the document with all data. Pure."""

import hashlib
from typing import Any

from tasks.model import Assessment, JobOutput, MachinePlan, Outcome, RunInfo, Update
from tasks.protocols.records import JournalEntry
from tasks.records.encoding.codec import encode
from tasks.records.encoding.compressed_documents import (
    build_assessment_columns,
    build_outcome_columns,
    build_plan_columns,
    compress_text,
)
from tasks.rules.updates.counts import count_results
from tasks.states import UpdateState

RowValues = dict[str, Any]

MAX_OUTPUT_CHARACTERS = 64 * 1024 * 1024
"""Maximum length of one job's output. Of a longer output, the beginning and the end are kept."""


def build_run_row(run: RunInfo) -> RowValues:
    """Return the row of a run."""
    return {
        "id": run.id,
        "kind": run.kind,
        "state": run.state.value,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "scope": run.scope,
        "started_by": run.started_by,
        "flow_run_id": run.flow_run_id,
        "message": run.message,
        "document": encode(run),
    }


def build_assessment_row(assessment: Assessment) -> RowValues:
    """Return the row of an assessment."""
    facts, packages, error = assessment.facts, assessment.packages, assessment.error
    return {
        "run_id": assessment.run_id,
        "machine": assessment.machine,
        "at": assessment.at,
        "known": packages is not None,
        "compliance": assessment.compliance.value,
        "urgent": assessment.urgent_count,
        "other": assessment.other_count,
        "reboot": packages.reboot.answer.value if packages else "unknown",
        "os_id": facts.os_id if facts else "",
        "os_version": facts.os_version if facts else "",
        "error_kind": error.kind if error else "",
        "error_message": error.message if error else "",
        **build_assessment_columns(assessment),
    }


def build_pending_update_rows(assessment: Assessment, number: int) -> list[RowValues]:
    """Return a row for each pending update of an assessment. ``number`` is the assessment's row number."""
    return [
        _build_update_columns(update)
        | {
            "assessment": number,
            "machine": assessment.machine,
            "severity": update.severity,
            "held": update.held,
            "blocked": update.blocked,
            "published": update.published,
        }
        for update in (assessment.packages.updates if assessment.packages else ())
    ]


def build_outcome_row(outcome: Outcome) -> RowValues:
    """Return the row of an outcome."""
    return {
        "run_id": outcome.run_id,
        "machine": outcome.machine,
        "state": outcome.state.value,
        "reason": outcome.reason,
        "reboot": outcome.reboot.value,
        "wave": outcome.wave,
        "started_at": outcome.started_at,
        "ended_at": outcome.ended_at,
        "window_exceeded_seconds": outcome.window_exceeded_seconds,
        "updates_installed": outcome.count_updates(UpdateState.INSTALLED),
        "updates_failed": outcome.count_updates(UpdateState.FAILED),
        "error_kind": outcome.error.kind if outcome.error else "",
        "counts": encode(count_results(outcome.updates)),
        **build_outcome_columns(outcome),
    }


def build_update_result_rows(outcome: Outcome, number: int) -> list[RowValues]:
    """Return a row for each update of an outcome that is not Pending. ``number`` is the outcome's row number.

    Pending updates are in ``assessment_updates``. Without this rule, runs that only assess would fill this table.
    """
    return [
        _build_update_columns(result.update)
        | {
            "outcome": number,
            "run_id": outcome.run_id,
            "machine": outcome.machine,
            "state": result.state.value,
            "reason": result.reason,
            "version_after": result.version_after,
        }
        for result in outcome.updates
        if result.state is not UpdateState.PENDING
    ]


def build_plan_row(run_id: str, plan: MachinePlan) -> RowValues:
    """Return the row of a machine's plan."""
    return {"run_id": run_id, "machine": plan.machine, **build_plan_columns(plan)}


def build_journal_row(entry: JournalEntry) -> RowValues:
    """Return the row of a journal entry."""
    document = encode(entry)
    return {
        "run_id": entry.run_id,
        "machine": entry.machine,
        "step": entry.step.value,
        "mark": entry.mark.value,
        "act": entry.act,
        "key": entry.key,
        "at": entry.at,
        "document": document,
        "digest": hashlib.sha256(document.encode("ascii")).hexdigest(),
    }


def build_job_output_row(output: JobOutput) -> RowValues:
    """Return the row of a job's output."""
    text = shorten_middle(output.text)
    return {
        "run_id": output.run_id,
        "machine": output.machine,
        "job_id": output.job_id,
        "characters": len(output.text),
        "body": compress_text(text),
    }


def shorten_middle(text: str, limit: int = MAX_OUTPUT_CHARACTERS) -> str:
    """Return text cut to about ``limit`` characters. A line in the middle says how many characters are left out."""
    left_out = len(text) - limit
    if left_out <= 0:
        return text
    half = limit // 2
    return f"{text[:half]}\n[fleetpatch left out {left_out} characters]\n{text[len(text) - (limit - half) :]}"


def _build_update_columns(update: Update) -> RowValues:
    return {
        "update_id": update.id,
        "name": update.name,
        "arch": update.arch,
        "classification": update.classification.value,
        "installed": update.installed,
        "available": update.available,
        "kb": update.kb,
    }
